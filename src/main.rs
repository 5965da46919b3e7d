//! The binary: parse, dispatch, exit code.

use std::process::ExitCode;

use clap::Parser;
use tokmark::cli::{Cli, dispatch};
use tokmark::error;

#[expect(clippy::print_stderr, reason = "the one place where errors are shown")]
fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(()) => ExitCode::from(error::OK),
        Err(failure) if is_broken_pipe(&failure) => ExitCode::from(error::OK),
        Err(failure) => {
            let text = format!("{failure:#}");
            if !text.is_empty() {
                eprintln!("error: {text}");
            }
            ExitCode::from(error::exit_code(&failure))
        }
    }
}

/// `tokmark list | head`: the reader went away, which is no error.
fn is_broken_pipe(failure: &anyhow::Error) -> bool {
    failure
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
