//! Submit, poll, cancel: where jobs are run.
//!
//! Nothing here prints.

mod cluster;
pub mod error;
pub mod slurm;

pub use cluster::Answer;
pub use error::SlurmError;
pub use slurm::Slurm;
