//! `tokmark verify [EXPERIMENT…]`: compares measured figures with those the recipe publishes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::flags::HistoryFlags;
use super::printer::Printer;
use crate::analyze::published::Figures;
use crate::analyze::verify::{Reproduction, Verification, verify};
use crate::document::InputError;
use crate::error::ExitError;
use crate::history::{self, Entry, Named};
use crate::metrics::Summary;
use crate::plan::Plan;
use crate::recipe::find;
use crate::report::table::wrapped;
use crate::report::{self, PointResult, verification};

#[derive(Debug, Args)]
#[command(after_help = "\
A simulated result, another GPU type, other lengths, an offline figure and an
invalid result are not comparable. That is no failure: exit code 0. A figure
that is not reproduced is exit code 5.")]
pub struct VerifyArgs {
    /// Job ids, experiment names, directories, `last`, or suites
    #[arg(value_name = "EXPERIMENT", default_value = "last")]
    named: Vec<String>,
    /// Take the published figures from this recipe (file, name or alias)
    #[arg(long, value_name = "RECIPE")]
    recipe: Option<String>,
    /// Print JSON; a list for several experiments
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: HistoryFlags,
}

/// An experiment and the comparison of its figures.
#[derive(Debug, Serialize)]
struct Verified {
    experiment: PathBuf,
    #[serde(flatten)]
    verification: Verification,
}

/// Finds and reads every experiment before printing anything.
pub fn run(printer: Printer, args: &VerifyArgs) -> anyhow::Result<()> {
    let printer = printer.with_json(args.json);
    let folder = args.flags.folder()?;
    let (mut entries, mut missing) = (Vec::new(), Vec::new());
    for name in &args.named {
        entries.extend(find_experiments(&folder, name, &mut missing)?);
    }
    let verified: Vec<Verified> = entries
        .iter()
        .map(|entry| of_experiment(entry, args.recipe.as_deref()))
        .collect::<anyhow::Result<_>>()?;
    missing.iter().for_each(|line| printer.warn(format!("not verified: {line}")));
    printer.json_list(&verified, false)?;
    let width = printer.width();
    let page =
        |one: &Verified| wrapped(&verification::page(&one.experiment, &one.verification, width), width);
    let pages: Vec<String> = verified.iter().map(page).collect();
    printer.text(&pages.join("\n"))?;
    let missed =
        |verified: &Verified| verified.verification.counts.get(&Reproduction::NotReproduced).copied();
    let missed: usize = verified.iter().filter_map(missed).sum();
    let all: usize = verified.iter().map(|verified| verified.verification.figures.len()).sum();
    if missed > 0 {
        return Err(ExitError::gate(format!("{missed} of {all} published figures not reproduced")).into());
    }
    Ok(())
}

/// Finds the experiment of that name, or those of a suite; adds missing ones of a suite to `missing`. Rejects results of `bench`,
/// which only look like an experiment.
fn find_experiments(folder: &Path, name: &str, missing: &mut Vec<String>) -> anyhow::Result<Vec<Entry>> {
    let dir = Path::new(name);
    let is_bench = dir.is_dir() && !dir.join("manifest.json").exists() && {
        let below = std::fs::read_dir(dir)?.filter_map(Result::ok).map(|entry| entry.path());
        below.chain([dir.to_path_buf()]).any(|dir| dir.join("summary.json").exists())
    };
    if is_bench {
        return Err(InputError::new(name, "results without an experiment: no manifest.json, no plan.json")
            .expected("a directory that `run` or `submit` made")
            .next("`bench` knows neither GPU nor engine; run a recipe with the launcher `attach` to measure the same endpoint")
            .into());
    }
    let suite = match history::find(folder, name)? {
        Named::Experiment(entry) => return Ok(vec![*entry]),
        Named::Suite(suite) => suite,
    };
    let lost = suite.missing();
    let entries = suite.entries();
    if entries.is_empty() {
        return Err(InputError::new(name, format!("a suite without experiments: {}", lost.join("; ")))
            .expected("a suite with at least one experiment that is still there")
            .into());
    }
    missing.extend(lost);
    Ok(entries)
}

fn of_experiment(entry: &Entry, recipe: Option<&str>) -> anyhow::Result<Verified> {
    let plan = entry.experiment().plan().context("the plan of the experiment cannot be read")?;
    let figures = match recipe {
        Some(recipe) => Figures::of(&find::named(recipe)?, &plan)?,
        None => Figures::in_plan(&plan)?,
    };
    let rows = report::repeats::means(&report::finished(&entry.experiment())).into_iter();
    let summaries: BTreeMap<String, Summary> = rows.map(|row| (row.point, row.summary)).collect();
    Ok(Verified { experiment: entry.dir.clone(), verification: verify(&figures, &plan, &summaries) })
}

/// How to compare a run with the published figures; `None` if none apply to it.
pub(super) fn advice(plan: &Plan, rows: &[PointResult], dir: &Path) -> Option<String> {
    let is_simulated = plan.simulated || rows.is_empty() || rows.iter().any(|row| row.summary.simulated);
    if is_simulated || !plan.recipe.published.iter().any(|figure| figure.gpu == plan.gpu.kind) {
        return None;
    }
    let dir = dir.display().to_string();
    let dir = shlex::try_quote(&dir).map(std::borrow::Cow::into_owned).unwrap_or(dir.clone());
    Some(format!("published figures: tokmark verify {dir}"))
}
