//! The load engine: sends the requests of one load point and records what came back.
//!
//! Knows nothing of Slurm, files or printing.
//!
//! ```text
//!        ramp, schedule → pace → redeem (open loop)   slots (closed loop)
//!                               │                        │
//! prompts → body → supply ──▶ drive (threads) ──▶ client ──▶ flight ──▶ collect ──▶ PointRun
//!                                        http1, via_reqwest     │ bytes
//!                                    sse → repeat, chunk → answer
//! ```
//! Times are stamped when bytes arrive, before they are looked at; several events of one read share a stamp.

mod answer;
pub mod body;
#[cfg(test)]
mod captured;
pub mod chunk;
mod client;
mod clock;
mod collect;
mod drive;
pub mod error_body;
mod flight;
mod health;
mod http1;
mod negotiate;
#[cfg(test)]
mod open_tests;
mod pace;
pub mod probe;
mod progress;
mod ramp;
#[cfg(test)]
mod ramp_tests;
mod redeem;
mod repeat;
mod rx_stamp;
mod schedule;
#[cfg(test)]
mod secure_tests;
mod slots;
pub mod sse;
mod supply;
mod target;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tls;
mod turns;
mod via_reqwest;

#[doc(hidden)]
pub use answer::{Understood, understand};
pub use body::request_body;
pub use drive::{LoadError, Options, drive};
#[doc(hidden)]
pub use http1::{ReadAnswer, read_answer};
pub use negotiate::{Refusal, refused_extensions};
pub use probe::ProbeError;
pub use progress::{Progress, Snapshot};
pub use target::{Target, TargetError};
pub use tls::Tls;
