//! `tokmark node`: what this machine says of itself. Jobs and `doctor` call it on compute nodes; hidden from the help.
//!
//! Arrow: `node` → here.

use clap::Args;

use super::output;
use crate::node::{Ask, report};

/// Arguments of `node`.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// What to look at, as JSON: {"names":[],"ports":[{"base":8000,"count":1,"stride":1,"want":1}],"paths":[],"interface":null}
    #[arg(default_value = "{}")]
    ask: String,
}

/// Runs the verb: one line of JSON.
pub fn run(args: &NodeArgs) -> anyhow::Result<()> {
    let ask = Ask::parse(&args.ask)?;
    Ok(output::line(&serde_json::to_string(&report(&ask))?)?)
}
