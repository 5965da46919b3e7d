//! tokmark: a Slurm-integrated LLM inference benchmark recipe runner.
pub mod executor;
pub mod metrics;
pub mod plan;
pub mod slurm;
