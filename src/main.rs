//! The binary: parse, dispatch, exit code.

use std::process::ExitCode;

use tokmark::cli::{dispatch, parse, print_error};
use tokmark::error;

fn main() -> ExitCode {
    match dispatch(parse(std::env::args_os())) {
        Ok(()) => ExitCode::from(error::OK),
        Err(failure) => {
            let text = format!("{failure:#}");
            if !text.is_empty() {
                print_error(&format!("error: {text}"));
            }
            ExitCode::from(error::exit_code(&failure))
        }
    }
}
