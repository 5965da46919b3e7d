//! `tokmark node`: prints facts about this machine. Jobs and `doctor` call it on compute nodes; the help hides it.

use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::printer::Printer;
use crate::gpu;
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
    /// Sample GPUs until stdin ends: {"gpus":["0"],"interval_s":1,"dcgm_url":"http://127.0.0.1:9400/metrics"}
    #[arg(long, value_name = "ASK")]
    gpus: Option<String>,
}

/// Runs the verb: prints one line of JSON.
pub fn run(printer: Printer, args: &NodeArgs) -> anyhow::Result<()> {
    if let Some(watched) = &args.watch {
        return watch(printer, serde_json::from_str(watched)?);
    }
    if let Some(ask) = &args.gpus {
        return sample(printer, ask);
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

/// Prints a line of JSON for each sample.
fn sample(printer: Printer, ask: &str) -> anyhow::Result<()> {
    let ask: gpu::Ask = serde_json::from_str(ask).context("--gpus is no ask of this version")?;
    let stdin = std::io::BufReader::new(std::io::stdin());
    gpu::sample(&ask, stdin, &mut |line| {
        serde_json::to_string(line).is_ok_and(|line| printer.line(line).is_ok())
    });
    Ok(())
}

fn check_folders(queries: &[WeightsQuery]) -> Vec<WeightsReport> {
    let tokenizers = TokenizerCache::default();
    queries.iter().map(|query| weights::examine(query, &tokenizers).into()).collect()
}
