//! tokmark: a Slurm-integrated LLM inference benchmark recipe runner.
//!
//! ```text
//! recipe.toml ─layers─▶ Recipe ─expand─▶ Plan ─render─▶ job.sbatch ─sbatch─▶ JobId        login node
//! Plan (in the script) ─▶ Deployment ─spawn─▶ processes ─ready─▶ endpoint             inside the allocation
//!                         LoadPoint ─drive─▶ RequestRecord ─fold─▶ Summary ─▶ Report   anywhere, any time later
//! ```
//! Modules in the order of that path; `tests/architecture.rs` holds the arrows between them.

pub mod document;
pub mod recipe;
pub mod site;
pub mod launcher;
pub mod plan;
pub mod render;
pub mod slurm;
pub mod executor;
pub mod load;
pub mod metrics;
pub mod experiment;
pub mod report;
pub mod deploy;
pub mod run;
pub mod sim;
pub mod commands;
