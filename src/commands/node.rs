//! `tokmark node`: prints facts about this machine. Jobs and `doctor` call it on compute nodes; the help hides it.

use std::time::Duration;

use clap::Args;

use super::printer::Printer;
use crate::node::usage::{Watch, Watched};
use crate::node::{Query, WeightsQuery, WeightsReport, report_with};
use crate::prompts::TokenizerCache;
use crate::weights;

#[derive(Debug, Args)]
pub struct NodeArgs {
    /// The query, as JSON: {"names":[],"ports":[{"base":8000,"count":1,"stride":1,"want":1}],"paths":[],"interface":null,"weights":[]}
    #[arg(default_value = "{}")]
    ask: String,
    /// Print a sample of a run's processes again and again: {"run":"…","ports":[],"job":null,"every_ms":1000}
    #[arg(long, value_name = "JSON")]
    watch: Option<String>,
}

/// Runs the verb: prints one line of JSON.
pub fn run(printer: Printer, args: &NodeArgs) -> anyhow::Result<()> {
    if let Some(watched) = &args.watch {
        return watch(printer, serde_json::from_str(watched)?);
    }
    let ask = Query::parse(&args.ask)?;
    Ok(printer.line(serde_json::to_string(&report_with(&ask, &check_folders))?)?)
}

/// Prints until it is ended, or nobody reads any more.
fn watch(printer: Printer, watched: Watched) -> anyhow::Result<()> {
    let pause = Duration::from_millis(watched.every_ms.max(10));
    let mut watch = Watch::new(watched);
    loop {
        printer.line(serde_json::to_string(&watch.sample())?)?;
        std::thread::sleep(pause);
    }
}

fn check_folders(queries: &[WeightsQuery]) -> Vec<WeightsReport> {
    let tokenizers = TokenizerCache::default();
    queries.iter().map(|query| weights::examine(query, &tokenizers).into()).collect()
}
