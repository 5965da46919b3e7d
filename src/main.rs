//! The binary: parse, dispatch, exit code.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use tokmark::cli::{Cli, dispatch, shared_flags_behind_verb};
use tokmark::error;

fn main() -> ExitCode {
    let cli = Cli::parse_from(shared_flags_behind_verb(std::env::args_os()));
    match dispatch(cli) {
        Ok(()) => ExitCode::from(error::OK),
        Err(failure) => {
            let text = format!("{failure:#}");
            if !text.is_empty() {
                // A closed stderr does not change the exit code.
                let _ = writeln!(std::io::stderr().lock(), "error: {text}");
            }
            ExitCode::from(error::exit_code(&failure))
        }
    }
}
