//! One short file or folder per verb. Only this room prints, always through one printer.

mod arrival_args;
pub mod bench;
pub mod check;
pub mod doctor;
pub mod exec;
pub mod export;
mod flag_layer;
pub mod init;
pub mod jobs;
pub mod list;
pub mod node;
mod planning;
mod printer;
mod progress;
mod prompt_args;
pub mod prompts;
pub mod render;
mod results;
pub mod run;
pub mod schema;
pub mod show;
pub mod sim;
pub mod submit;
mod target_args;
pub mod verify;
