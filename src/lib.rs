//! tokmark: a Slurm-integrated LLM inference benchmark recipe runner.
pub mod load;
pub mod metrics;
pub mod plan;
