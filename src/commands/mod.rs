//! One short file per verb; the only place that prints.

mod allocation;
pub mod bench;
pub mod check;
pub mod doctor;
pub mod exec;
pub mod init;
pub mod jobs;
pub mod list;
pub mod node;
mod output;
mod planning;
mod printer;
mod progress;
mod prompt_args;
pub mod prompts;
mod ramp_args;
pub mod render;
pub mod run;
pub mod schema;
mod session;
pub mod show;
pub mod sim;
pub mod submit;
mod suite_run;
mod suites;
mod target_args;
mod tasks;
pub mod verify;
mod waiting;

pub(crate) use planning::no_recipe;
