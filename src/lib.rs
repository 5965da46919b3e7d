//! tokmark: a Slurm-integrated LLM inference benchmark recipe runner.
pub mod metrics;
pub mod plan;
