//! The load engine: sends the requests of one load point and records the answers.
//!
//! It knows nothing of Slurm, files or printing. [`drive()`] runs a load point; `client` is the HTTP client.
//!
//! ```text
//!                         ramp, schedule → pace → open_loop     closed_loop
//!                                                     └──────┬──────┘
//! prompts → body → request_queue ──▶ drive (threads) ──▶ conversation ──▶ client ──▶ in_flight ──▶ collector ──▶ PointRun
//!                                                            http1, via_reqwest        │ bytes
//!                                                                  sse → repeat, chunk (wire) → answer
//! ```
//! Beside the load: `probe` and `negotiate` ask a server before it, `health` watches this machine, `counters` feeds the
//! progress display. Times are stamped when bytes arrive, before they are parsed; several events of one read share a stamp.

mod answer;
pub mod body;
#[cfg(test)]
mod captured;
pub mod chunk;
mod client;
mod clock;
mod closed_loop;
mod collector;
mod conversation;
mod counters;
mod drive;
pub mod error_body;
mod health;
mod http1;
mod in_flight;
mod negotiate;
mod open_loop;
#[cfg(test)]
mod open_tests;
mod pace;
pub mod probe;
mod ramp;
#[cfg(test)]
mod ramp_tests;
mod repeat;
mod request_queue;
mod rx_stamp;
mod schedule;
#[cfg(test)]
mod secure_tests;
pub mod sse;
mod target;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod timers;
mod tls;
mod via_reqwest;
mod wire;
mod words;

pub use answer::{Answer, End};
pub use body::request_body;
pub use counters::{LiveCounters, Snapshot};
pub use drive::{LoadError, Options, drive};
pub use http1::{ResponseReader, Sink};
pub use negotiate::{Refusal, refused_extensions};
pub use probe::ProbeError;
pub use target::{Target, TargetError};
pub use tls::{CaFile, Tls};
