//! Submits, polls and cancels jobs through Slurm's command line. Nothing here prints.

mod cluster;
pub mod error;
pub mod slurm;

pub use cluster::Answer;
pub use error::SlurmError;
pub use slurm::Slurm;
