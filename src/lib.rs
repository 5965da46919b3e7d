//! tokmark: a Slurm-integrated LLM inference benchmark recipe runner.
pub mod document;
pub mod launcher;
pub mod metrics;
pub mod plan;
pub mod recipe;
pub mod render;
pub mod site;
