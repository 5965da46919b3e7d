//! `tokmark verify [EXPERIMENT…]`: compares measured figures with those that the recipe publishes and with the cluster's own
//! references.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::flags::HistoryFlags;
use super::printer::Printer;
use crate::analyze::published::Figures;
use crate::analyze::references::{self, References};
use crate::analyze::verify::{Reproduction, Verification, verify};
use crate::document::{Document, InputError};
use crate::error::ExitError;
use crate::experiment::files;
use crate::history::{self, Entry, Named};
use crate::metrics::Summary;
use crate::plan::Plan;
use crate::recipe::find;
use crate::report::table::{number, wrapped};
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
    /// Keep the throughput and median latencies of valid load points as references for later runs
    #[arg(long)]
    accept: bool,
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
    /// The same with the cluster's own references; absent without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    references: Option<Verification>,
}

impl Verified {
    /// `1 of 3 published figures`, of those that were not reproduced.
    fn missed(all: &[&Verification]) -> Option<String> {
        let missed = |one: &&Verification| one.counts.get(&Reproduction::NotReproduced).copied();
        let missed: usize = all.iter().filter_map(missed).sum();
        let figures: usize = all.iter().map(|one| one.figures.len()).sum();
        let words = all.first().map_or("figure", |one| one.words);
        (missed > 0).then(|| format!("{missed} of {figures} {words}s"))
    }
}

/// Finds and reads every experiment before printing anything.
pub fn run(printer: Printer, args: &VerifyArgs) -> anyhow::Result<()> {
    let printer = printer.with_json(args.json);
    let folder = args.flags.folder()?;
    let (mut entries, mut missing) = (Vec::new(), Vec::new());
    for name in &args.named {
        entries.extend(find_experiments(&folder, name, &mut missing)?);
    }
    let file = args.flags.references()?;
    if args.accept {
        return accept(printer, &entries, &file);
    }
    let references =
        if file.exists() { References::parse(&Document::read(&file)?)? } else { References::default() };
    let of = |entry: &Entry| of_experiment(entry, args.recipe.as_deref(), &references, &file);
    let verified: Vec<Verified> = entries.iter().map(of).collect::<anyhow::Result<_>>()?;
    missing.iter().for_each(|line| printer.warn(format!("not verified: {line}")));
    printer.json_list(&verified, false)?;
    let width = printer.width();
    let page = |one: &Verified| {
        let pages = std::iter::once(&one.verification).chain(&one.references);
        let text =
            pages.map(|of| verification::page(&one.experiment, of, width)).collect::<Vec<_>>().join("\n");
        wrapped(&text, width)
    };
    let pages: Vec<String> = verified.iter().map(page).collect();
    printer.text(&pages.join("\n"))?;
    let published: Vec<&Verification> = verified.iter().map(|one| &one.verification).collect();
    let own: Vec<&Verification> = verified.iter().filter_map(|one| one.references.as_ref()).collect();
    let missed: Vec<String> = [published, own].iter().filter_map(|all| Verified::missed(all)).collect();
    if !missed.is_empty() {
        return Err(ExitError::gate(format!("{} not reproduced", missed.join(" and "))).into());
    }
    Ok(())
}

/// `--accept`: writes the values of the experiments to the references, and says which.
fn accept(printer: Printer, entries: &[Entry], file: &Path) -> anyhow::Result<()> {
    let mut references =
        if file.exists() { References::parse(&Document::read(file)?)? } else { References::default() };
    let (mut values, mut left_out) = (Vec::new(), Vec::new());
    for entry in entries {
        let plan = plan_of(entry)?;
        let name = entry.dir.file_name().unwrap_or_default().to_string_lossy();
        let day = jiff::Timestamp::now().strftime("%Y-%m-%d");
        let proposal = references::propose(&plan, &summaries(entry), &format!("{name}, accepted {day}"))?;
        values.extend(proposal.references);
        left_out.extend(proposal.left_out);
    }
    left_out.iter().for_each(|line| printer.warn(format!("not accepted: {line}")));
    if values.is_empty() {
        return Err(ExitError::gate("no value can be a reference: nothing was written".to_owned()).into());
    }
    printer.json(&values)?;
    let lines = values.iter().map(|one| {
        let unit = one.unit.as_deref().unwrap_or_default();
        format!("{} {}: {} {unit} ±{}\n", one.point, one.metric, number(one.value), one.tolerance)
    });
    let lines: String = lines.collect();
    let count = values.len();
    references.accept(values);
    let text = format!("{HEAD}{}", toml::to_string(&references)?);
    files::replace(file, text.as_bytes()).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(printer.text(&format!("{lines}{count} references in {}\n", file.display()))?)
}

/// The first lines of the references.
const HEAD: &str = "# Values that this cluster gave before, written by `tokmark verify --accept`. `tokmark verify` compares later runs with
# them. Values, tolerances and notes may be edited; comments are lost when the next one is accepted.
";

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

fn plan_of(entry: &Entry) -> anyhow::Result<Plan> {
    entry.experiment().plan().context("the plan of the experiment cannot be read")
}

/// The summaries of its load points by name; of repeats their means.
fn summaries(entry: &Entry) -> BTreeMap<String, Summary> {
    let rows = report::repeats::means(&report::finished(&entry.experiment())).into_iter();
    rows.map(|row| (row.point, row.summary)).collect()
}

fn of_experiment(
    entry: &Entry,
    recipe: Option<&str>,
    references: &References,
    file: &Path,
) -> anyhow::Result<Verified> {
    let (plan, summaries) = (plan_of(entry)?, summaries(entry));
    let figures = match recipe {
        Some(recipe) => Figures::of(&find::named(recipe)?, &plan)?,
        None => Figures::in_plan(&plan)?,
    };
    let own = references.of(&plan, &file.display().to_string())?;
    Ok(Verified {
        experiment: entry.dir.clone(),
        verification: verify(&figures, &plan, &summaries),
        references: own.map(|own| verify(&own, &plan, &summaries)),
    })
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
