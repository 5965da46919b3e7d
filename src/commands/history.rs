//! `tokmark history`: every load point of the experiments in a folder over time, and regressions.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

use super::flags::HistoryFlags;
use super::printer::Printer;
use crate::analyze::compare::Gate;
use crate::error::ExitError;
use crate::experiment::files;
use crate::history::{self, Entry};
use crate::report;
use crate::report::trend::{Dated, Trends};

/// Figures that are shown without being asked for.
const FIGURES: [&str; 2] = ["throughput.output_tokens_per_s", "ttft_ms.p99"];

#[derive(Debug, Args)]
#[command(after_help = "\
`change` is against the median of up to ten earlier runs of the same recipe,
GPU type and load point. --fail-if looks at the newest run of each point: it
fails (exit code 5) if the change is beyond the bound, and the value outside of
all earlier ones, of which there are three or more. Rehearsals are left out.")]
pub struct HistoryArgs {
    /// Show this recipe alone
    #[arg(long, value_name = "NAME")]
    recipe: Option<String>,
    /// Show this GPU type alone
    #[arg(long, value_name = "TYPE")]
    gpu: Option<String>,
    /// Show engine versions that begin so
    #[arg(long, value_name = "VERSION")]
    engine: Option<String>,
    /// Show runs from this day on (UTC)
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    since: Option<Timestamp>,
    /// Show this figure, by its path in summary.json (repeatable) [default: output_tokens_per_s, ttft_ms.p99]
    #[arg(long = "figure", value_name = "PATH")]
    figures: Vec<String>,
    /// End with exit code 5 on a regression, e.g. --fail-if 'output_tokens_per_s < -5%' (repeatable)
    #[arg(long = "fail-if", value_name = "BOUND")]
    gates: Vec<String>,
    /// Write JUnit XML to this file, a test per load point
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: HistoryFlags,
}

/// Midnight of a day.
fn day(text: &str) -> Result<Timestamp, String> {
    format!("{text}T00:00:00Z").parse().map_err(|_| "expected a day such as 2026-12-01".to_owned())
}

pub fn run(printer: Printer, args: &HistoryArgs) -> anyhow::Result<()> {
    let printer = printer.with_json(args.json);
    let gates: Vec<Gate> = args.gates.iter().map(|text| Gate::parse(text)).collect::<Result<_, _>>()?;
    let trends = Trends::of(dated(args)?, &figures(args, &gates)?);
    if let Some(file) = &args.junit {
        files::replace(file, trends.junit(&gates).as_bytes())?;
    }
    if args.csv {
        printer.text(&trends.csv())?;
    } else {
        printer.result(|| trends.json(), || trends.text(printer.width()))?;
    }
    if trends.is_empty() {
        printer.note(format!("no measured load point in {}", args.flags.folder()?.display()));
    }
    let found = trends.regressions(&gates);
    found.iter().for_each(|found| printer.error(format!("FAILED {}: {}", found.name, found.told)));
    if found.is_empty() {
        return Ok(());
    }
    Err(ExitError::gate(format!("{} of the load points regressed", found.len())).into())
}

/// Those that the user named, else the default ones, and those of the gates.
fn figures(args: &HistoryArgs, gates: &[Gate]) -> anyhow::Result<Vec<String>> {
    let mut figures: Vec<String> = Vec::new();
    for name in &args.figures {
        figures.push(Gate::figure("--figure", name)?);
    }
    if figures.is_empty() {
        figures.extend(FIGURES.map(str::to_owned));
    }
    for gate in gates {
        if !figures.contains(&gate.figure) {
            figures.push(gate.figure.clone());
        }
    }
    Ok(figures)
}

/// The load points of the experiments that the filters leave.
fn dated(args: &HistoryArgs) -> anyhow::Result<Vec<Dated>> {
    let shown = |entry: &Entry| {
        let manifest = &entry.manifest;
        let is = |asked: &Option<String>, own: &str| asked.as_deref().is_none_or(|asked| asked == own);
        !manifest.rehearsal
            && is(&args.recipe, &manifest.recipe)
            && is(&args.gpu, &manifest.gpu)
            && args.since.is_none_or(|since| manifest.created_at >= since)
    };
    let of = |entry: &Entry| {
        let rows = report::repeats::means(&report::finished(&entry.experiment()));
        let entry = entry.clone();
        rows.into_iter().map(move |row| Dated {
            at: row.summary.started_at.unwrap_or(entry.manifest.created_at),
            experiment: entry.name(),
            recipe: entry.manifest.recipe.clone(),
            gpu: entry.manifest.gpu.clone(),
            row,
        })
    };
    let asked = |dated: &Dated| {
        let version = dated.row.summary.engine_version.as_deref().unwrap_or_default();
        args.engine.as_deref().is_none_or(|asked| version.starts_with(asked))
    };
    let entries = history::all(&args.flags.folder()?);
    Ok(entries.iter().filter(|entry| shown(entry)).flat_map(of).filter(asked).collect())
}
