//! tokmark: a Slurm-integrated LLM inference benchmark recipe runner.
//!
//! ```text
//! recipe.toml ─layers─▶ Recipe ─expand─▶ Plan ─render─▶ job.sbatch ─sbatch─▶ JobId        login node
//! Plan (in the script) ─▶ Deployment ─spawn─▶ processes ─ready─▶ endpoint             inside the allocation
//!                         LoadPoint ─drive─▶ RequestRecord ─fold─▶ Summary ─▶ Report   anywhere, any time later
//! ```
//! CONTRIBUTING.md has the map of the modules.

pub mod analyze;
pub mod cli;
pub mod commands;
pub mod deploy;
pub mod doctor;
pub mod document;
pub mod error;
pub mod executor;
pub mod experiment;
pub mod flags;
pub mod history;
pub mod launcher;
pub mod load;
pub mod metrics;
pub mod node;
pub mod observe;
pub mod plan;
pub mod planner;
pub mod prompts;
pub mod recipe;
pub mod render;
pub mod report;
pub mod run;
pub mod sim;
pub mod site;
pub mod slurm;
pub mod survey;
pub mod template;
pub mod weights;
pub mod workload;
