//! One short file or folder per verb. Only this room prints, always through one printer.

pub mod bench;
pub mod check;
pub mod compare;
pub mod completions;
pub mod doctor;
pub mod exec;
pub mod export;
pub mod flags;
pub mod foreign;
pub mod history;
pub mod init;
pub mod jobs;
pub mod keep;
mod key_flags;
pub mod list;
pub mod node;
mod planning;
pub mod printer;
mod progress;
pub mod prompts;
pub mod render;
pub mod report;
mod results;
pub mod run;
pub mod schema;
mod served_model;
pub mod show;
pub mod sim;
pub mod submit;
pub mod verify;
pub mod zones;

/// Version with the commit it was built from.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("TOKMARK_COMMIT"), ")");

/// Runs a future to its end on this thread.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

/// `1 node`, `2 nodes`.
fn counted(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
