//! `tokmark verify [EXPERIMENT…]`: measured against the figures that the recipe publishes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::jobs::Named;
use super::printer::Printer;
use super::{jobs, planning, suites};
use crate::analyze::published::Figures;
use crate::analyze::verify::{Difference, Line, Outcome, Verification, verify};
use crate::document::InputError;
use crate::error::GateFailed;
use crate::experiment::Experiment;
use crate::experiment::discover::Found;
use crate::flags::Global;
use crate::metrics::Summary;
use crate::plan::Plan;
use crate::recipe::find;
use crate::report::Row;
use crate::report::markdown::SIMULATED;
use crate::report::table::{Table, maybe, number};
use crate::site::SiteFile;

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
A simulated result, another GPU type, other lengths, an offline figure and an
invalid result are not comparable. That is no failure: exit code 0. A figure
that is not reproduced is exit code 5.")]
pub struct VerifyArgs {
    /// Job ids, experiment names, directories, `last`, or suites
    #[arg(value_name = "EXPERIMENT", default_value = "last")]
    named: Vec<String>,
    /// Take the figures from this recipe (file, name or alias), not from the one that was run
    #[arg(long, value_name = "RECIPE")]
    recipe: Option<String>,
    /// As JSON; of several experiments a list
    #[arg(long)]
    json: bool,
}

/// An experiment and what came of its figures.
#[derive(Debug, Serialize)]
struct Verified {
    experiment: PathBuf,
    #[serde(flatten)]
    verification: Verification,
}

/// Runs the verb. Every experiment is found and read before anything is said.
pub fn run(global: &Global, args: &VerifyArgs) -> anyhow::Result<()> {
    let printer = Printer::new(global, args.json);
    let site = SiteFile::load(global.site.as_deref())?;
    let folder = planning::experiments(global, &site)?;
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in &args.named {
        found.extend(find_experiments(&folder, name, &mut missing)?);
    }
    let verified: Vec<Verified> = found
        .iter()
        .map(|found| of_experiment(found, args.recipe.as_deref()))
        .collect::<anyhow::Result<_>>()?;
    missing.iter().for_each(|line| printer.error(format!("warning: not verified: {line}")));
    match verified.as_slice() {
        [only] => printer.json(only)?,
        all => printer.json(&all)?,
    }
    let pages: Vec<String> = verified.iter().map(|verified| page(verified, printer.width())).collect();
    printer.text(&pages.join("\n"))?;
    let missed: usize = verified.iter().map(|verified| verified.verification.counts.not_reproduced).sum();
    let all: usize = verified.iter().map(|verified| verified.verification.figures.len()).sum();
    if missed > 0 {
        return Err(GateFailed(format!("{missed} of {all} published figures not reproduced")).into());
    }
    Ok(())
}

/// The experiment of that name, or those of a suite; `missing` learns what a suite has no experiment of. The results of
/// `bench` look like one and are none.
fn find_experiments(folder: &Path, name: &str, missing: &mut Vec<String>) -> anyhow::Result<Vec<Found>> {
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
    let suite = match jobs::find(folder, name)? {
        Named::Experiment(found) => return Ok(vec![*found]),
        Named::Suite(suite) => suite,
    };
    let lost = suites::missing(&suite);
    let found = suites::experiments(&suite);
    if found.is_empty() {
        return Err(InputError::new(name, format!("a suite without experiments: {}", lost.join("; ")))
            .expected("a suite with at least one experiment that is still there")
            .into());
    }
    missing.extend(lost);
    Ok(found)
}

fn of_experiment(found: &Found, recipe: Option<&str>) -> anyhow::Result<Verified> {
    let plan = Experiment::at(&found.dir).plan().context("the plan of the experiment cannot be read")?;
    let figures = match recipe {
        Some(recipe) => Figures::of(&find::named(recipe)?, &plan)?,
        None => Figures::in_plan(&plan)?,
    };
    let rows = jobs::rows(found).into_iter();
    let summaries: BTreeMap<String, Summary> = rows.map(|row| (row.point, row.summary)).collect();
    Ok(Verified { experiment: found.dir.clone(), verification: verify(&figures, &plan, &summaries) })
}

/// What to call when a run has figures to be held against; nothing when there are none for it.
pub(super) fn advice(plan: &Plan, rows: &[Row], dir: &Path) -> Option<String> {
    let is_simulated = plan.simulated || rows.is_empty() || rows.iter().any(|row| row.summary.simulated);
    let figures = plan.resolved.get("published")?.as_array()?;
    let is_ours = |figure: &serde_json::Value| figure["gpu"] == plan.gpu.kind.as_str();
    if is_simulated || !figures.iter().any(is_ours) {
        return None;
    }
    let dir = dir.display().to_string();
    let dir = shlex::try_quote(&dir).map(std::borrow::Cow::into_owned).unwrap_or(dir.clone());
    Some(format!("published figures: tokmark verify {dir}"))
}

/// Columns of the table beside the load point.
const OTHER_COLUMNS: usize = 50;

/// One experiment in so many columns: a table for each metric, remarks below it, sources, the sum.
fn page(verified: &Verified, width: usize) -> String {
    let Verified { experiment, verification } = verified;
    let on = match verification.gpu.as_str() {
        "none" => String::new(),
        kind => format!(" on {kind}"),
    };
    let mut text = format!("{}{on}: {}\n", verification.recipe, experiment.display());
    if verification.figures.is_empty() {
        let source = verification.source.as_ref().map(|source| format!(" (source: {source})"));
        text.push_str(&format!("none published{}\n", source.unwrap_or_default()));
        return text;
    }
    if verification.simulated {
        text.push_str(&format!("{SIMULATED}\n"));
    }
    text.push_str(&tables(&verification.figures, width.saturating_sub(OTHER_COLUMNS)));
    text.push_str(&remarks(&verification.figures));
    for (source, lines) in grouped(&verification.figures, |line| Some(line.source.clone())) {
        text.push_str(&format!("source: {source}{}\n", times(lines.len())));
    }
    text.push_str(&format!("\n{}\n", sum(verification)));
    text
}

/// A table for each metric, with the same columns in all of them, the load point at most `widest` of them.
fn tables(lines: &[Line], widest: usize) -> String {
    const HEAD: [&str; 5] = ["LOAD POINT", "PUBLISHED", "MEASURED", "DIFFERENCE", "OUTCOME"];
    let mut text = String::new();
    for (metric, of_metric) in grouped(lines, |line| Some(line.metric.clone())) {
        let mut table = Table::new(HEAD);
        for line in of_metric {
            let difference = line.difference_percent.map_or("-".to_owned(), |off| format!("{off:+.1} %"));
            table.push(vec![
                line.point.as_deref().map_or("-".to_owned(), |point| shortened(point, widest)),
                if line.published == 0.0 { "-".to_owned() } else { number(line.published) },
                line.measured.map_or("-".to_owned(), |measured| maybe(Some(measured))),
                difference,
                line.outcome.words().to_owned(),
            ]);
        }
        text.push_str(&format!("\n{metric}\n{}", table.text(&[0, 4])));
    }
    text.push('\n');
    text
}

/// A name without its middle when it is longer than `widest`.
fn shortened(name: &str, widest: usize) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= widest {
        return name.to_owned();
    }
    let half = widest.saturating_sub(1) / 2;
    let (head, tail) = (&letters[..half], &letters[letters.len() - half..]);
    head.iter().chain(['…'].iter()).chain(tail).collect()
}

/// What was not reproduced and what differs there, one by one; everything else by its reason.
fn remarks(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines.iter().filter(|line| line.outcome == Outcome::NotReproduced) {
        let point = line.point.as_ref().map(|point| format!(" of {point}")).unwrap_or_default();
        text.push_str(&format!("! not reproduced: {}{point}\n", line.metric));
        line.reasons.iter().for_each(|reason| text.push_str(&format!("    {reason}\n")));
        for difference in &line.differences {
            text.push_str(&format!("    {}\n", told(difference)));
        }
    }
    let but = |line: &&Line| {
        let differs = line.differences.iter().filter(|difference| difference.what != "software");
        let told: String = differs.map(|difference| format!("    {}\n", told(difference))).collect();
        (line.outcome == Outcome::Reproduced && !told.is_empty()).then_some(told)
    };
    for (differs, lines) in grouped(lines, but) {
        text.push_str(&format!(
            "reproduced, and not all is as in the recipe{}:\n{differs}",
            times(lines.len())
        ));
    }
    for outcome in [Outcome::Reproduced, Outcome::NotComparable, Outcome::NotMeasured] {
        let of_outcome: Vec<&Line> = lines.iter().filter(|line| line.outcome == outcome).collect();
        let reasons = |line: &&Line| (!line.reasons.is_empty()).then(|| line.reasons.join("; "));
        for (reasons, lines) in grouped(of_outcome, reasons) {
            text.push_str(&format!("{}: {reasons}{}\n", outcome.words(), times(lines.len())));
        }
    }
    let notes = grouped(lines, |line| line.note.clone());
    notes.iter().for_each(|(note, _)| text.push_str(&format!("note: {}\n", note.trim_end())));
    text
}

/// A difference in words; a key with a dot is one of the recipe.
fn told(Difference { what, published, here }: &Difference) -> String {
    match (published, what.contains('.')) {
        (Some(own), true) => format!("{what}: {here}, in the recipe {own}"),
        (None, true) => format!("{what}: {here}, not in the recipe"),
        (Some(there), false) => format!("{what}: published {there}; here {here}"),
        (None, false) => format!("{what}: here {here}"),
    }
}

/// Items by a word of theirs, in the order of the first of each; those without one are left out.
fn grouped<T>(
    items: impl IntoIterator<Item = T>,
    word: impl Fn(&T) -> Option<String>,
) -> Vec<(String, Vec<T>)> {
    let mut groups: Vec<(String, Vec<T>)> = Vec::new();
    for item in items {
        let Some(word) = word(&item) else { continue };
        match groups.iter_mut().find(|(known, _)| *known == word) {
            Some((_, group)) => group.push(item),
            None => groups.push((word, vec![item])),
        }
    }
    groups
}

fn times(number: usize) -> String {
    if number == 1 { String::new() } else { format!(" ({number} figures)") }
}

/// `3 reproduced, 1 not reproduced, 2 not comparable`
fn sum(verification: &Verification) -> String {
    let counts = verification.counts;
    let all = [
        (counts.reproduced, Outcome::Reproduced),
        (counts.not_reproduced, Outcome::NotReproduced),
        (counts.not_comparable, Outcome::NotComparable),
        (counts.not_measured, Outcome::NotMeasured),
    ];
    let told = all.into_iter().filter(|(count, _)| *count > 0);
    told.map(|(count, outcome)| format!("{count} {}", outcome.words())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_keeps_both_ends() {
        assert_eq!(shortened("isl1024_osl1024_con1024", 30), "isl1024_osl1024_con1024");
        let short = shortened("tp2_max_num_seqs256_isl1024_osl1024_con64", 30);
        assert_eq!(short, "tp2_max_num_se…_osl1024_con64");
        assert!(short.chars().count() <= 30);
    }
}
