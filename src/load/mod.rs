//! The load engine: sends the requests of one load point and records what came back.
//!
//! Arrow: `plan` (load point) → here → `metrics::record`. Knows nothing of Slurm, files or printing.
pub mod body;
pub mod chunk;
pub(crate) mod clock;
pub mod error_body;
pub mod prompts;
pub mod sse;
#[cfg(test)]
mod testing;
mod words;
