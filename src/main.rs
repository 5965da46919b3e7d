//! The binary: parse, dispatch, exit code.

use std::io::Write;
use std::process::ExitCode;

use tokmark::cli::{dispatch, parse};
use tokmark::error;

fn main() -> ExitCode {
    match dispatch(parse(std::env::args_os())) {
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
