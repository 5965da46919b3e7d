//! What the servers say of a load point: differences of their counters and histograms over the measured window, and their gauges
//! during it.

mod exchange;
mod histogram;
mod imbalance;
mod layer;
mod page;
pub mod prometheus;
mod roles;
mod speculation;
mod view;
mod watched;

pub use exchange::InFlight;
pub use histogram::Latency;
pub use imbalance::{Imbalance, LoadMeasure};
pub use layer::LayerView;
pub use page::{Figures, Layer, Page};
#[cfg(test)]
pub use speculation::Speculation;
pub use view::ServerView;
pub use watched::{Watched, WatchedPage};
