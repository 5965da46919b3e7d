//! `tokmark keep -- PROGRAM …`: starts a program that does not outlive its tokmark. Runs call it; the help hides it.

use clap::Args;

use super::planning::this_binary;
use crate::deploy::keeper;
use crate::error::ExitError;

#[derive(Debug, Args)]
pub struct KeepArgs {
    /// Become the program, as the child of this keeper
    #[arg(long, value_name = "PID")]
    of: Option<u32>,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    argv: Vec<String>,
}

/// What a shell exits with if a program cannot be started.
const CANNOT_START: u8 = 127;

pub fn run(args: &KeepArgs) -> anyhow::Result<()> {
    let code = match args.of {
        Some(keeper) => keeper::become_program(keeper, &args.argv).map(|()| CANNOT_START),
        None => keeper::keep(&this_binary()?, &args.argv),
    };
    match code {
        Ok(0) => Ok(()),
        Ok(code) => Err(ExitError { code, message: String::new() }.into()),
        Err(error) => Err(ExitError { code: CANNOT_START, message: error.to_string() }.into()),
    }
}
