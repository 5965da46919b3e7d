//! tokmark: a Slurm-integrated LLM inference benchmark recipe runner.
pub mod commands;
pub mod metrics;
pub mod plan;
pub mod sim;
