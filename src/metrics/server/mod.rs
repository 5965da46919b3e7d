//! What the servers say of a load point: differences of their counters and histograms over the measured window, and their gauges
//! during it.

mod histogram;
mod page;
pub mod prometheus;
mod view;

#[cfg(test)]
pub use histogram::Latency;
pub use page::Page;
pub use view::{LayerView, ServerView, Watched};
