//! `tokmark node`: prints facts about this machine. Jobs and `doctor` call it on compute nodes; the help hides it.

use clap::Args;

use super::printer::Printer;
use crate::node::{Query, WeightsQuery, WeightsReport, report_with};
use crate::prompts::TokenizerCache;
use crate::weights;

#[derive(Debug, Args)]
pub struct NodeArgs {
    /// The query, as JSON: {"names":[],"ports":[{"base":8000,"count":1,"stride":1,"want":1}],"paths":[],"interface":null,"weights":[]}
    #[arg(default_value = "{}")]
    ask: String,
}

/// Runs the verb: prints one line of JSON.
pub fn run(printer: Printer, args: &NodeArgs) -> anyhow::Result<()> {
    let ask = Query::parse(&args.ask)?;
    Ok(printer.line(serde_json::to_string(&report_with(&ask, &check_folders))?)?)
}

fn check_folders(queries: &[WeightsQuery]) -> Vec<WeightsReport> {
    let tokenizers = TokenizerCache::default();
    queries.iter().map(|query| weights::examine(query, &tokenizers).into()).collect()
}
