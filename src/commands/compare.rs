//! `tokmark compare A B…`: experiments against a baseline.

use clap::Args;

use super::flags::HistoryFlags;
use super::printer::Printer;
use crate::analyze::compare::{self, Gate, Rules};
use crate::document::InputError;
use crate::error::ExitError;
use crate::history::{self, Named};
use crate::metrics::Summary;
use crate::plan::Plan;
use crate::report::comparison::{self, Comparison};
use crate::report::{self, PointResult};

#[derive(Debug, Args)]
#[command(after_help = "\
A figure is better or worse when the 95 % interval of the difference excludes 0;
docs/compare.md says how. Other models, lengths, and simulated results against
measured ones are not compared. Exit code 5: a --fail-if; 2: nothing can be
compared.")]
pub struct CompareArgs {
    /// The baseline A: job id, experiment name, `last`, a suite of repeats, or a directory of an experiment or a `bench`
    #[arg(value_name = "A")]
    baseline: String,
    /// What is held against it
    #[arg(value_name = "B", required = true)]
    others: Vec<String>,
    /// Compare this figure too, by its path in summary.json, e.g. ttft_ms.p95 (repeatable)
    #[arg(long = "figure", value_name = "PATH")]
    figures: Vec<String>,
    /// End with exit code 5 if a figure differs by more, e.g. --fail-if 'output_tokens_per_s < -5%' (repeatable)
    #[arg(long = "fail-if", value_name = "BOUND")]
    gates: Vec<String>,
    /// Compare other models and lengths, and simulated results with measured ones
    #[arg(long)]
    anyway: bool,
    /// Print Markdown, for a pull request
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// Print JSON; a list for several B
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: HistoryFlags,
}

/// What the user named, with all of its load points.
struct Side {
    name: String,
    plan: Plan,
    rows: Vec<PointResult>,
}

impl Side {
    fn summary(&self) -> Option<&Summary> {
        self.rows.first().map(|row| &row.summary)
    }
}

pub fn run(printer: Printer, args: &CompareArgs) -> anyhow::Result<()> {
    let printer = printer.with_json(args.json);
    let gates: Vec<Gate> = args.gates.iter().map(|text| Gate::parse(text)).collect::<Result<_, _>>()?;
    let figures = figures(&args.figures, &gates)?;
    let a = side(args, &args.baseline)?;
    let others: Vec<Side> = args.others.iter().map(|name| side(args, name)).collect::<anyhow::Result<_>>()?;
    let rules = Rules { anyway: args.anyway };
    let of = |b: &Side| {
        let points =
            compare::points(&comparison::measured(&a.rows), &comparison::measured(&b.rows), &figures, rules);
        Comparison {
            a: a.name.clone(),
            b: b.name.clone(),
            changes: compare::changes((&a.plan, a.summary()), (&b.plan, b.summary())),
            failed: gates.iter().flat_map(|gate| gate.failed(&points)).collect(),
            points,
        }
    };
    let all: Vec<Comparison> = others.iter().map(of).collect();
    printer.json_list(&all.iter().map(Comparison::json).collect::<Vec<_>>(), false)?;
    let page = |one: &Comparison| if args.markdown { one.markdown() } else { one.text(printer.width()) };
    printer.text(&all.iter().map(page).collect::<Vec<_>>().join("\n"))?;
    ended(&all)
}

fn ended(all: &[Comparison]) -> anyhow::Result<()> {
    if let Some(one) = all.iter().find(|one| !one.compared()) {
        let problem = format!("no load point of {} can be compared with it", one.b);
        let error = InputError::new(one.a.clone(), problem)
            .expected("the same model, lengths and load on both sides");
        return Err(error.next("--anyway compares other models and lengths").into());
    }
    let failed: usize = all.iter().map(|one| one.failed.len()).sum();
    if failed > 0 {
        return Err(ExitError::gate(format!(
            "{failed} {} failed --fail-if",
            if failed == 1 { "figure" } else { "figures" }
        ))
        .into());
    }
    Ok(())
}

/// The figures of every comparison, those that the user named, and those of the gates.
fn figures(named: &[String], gates: &[Gate]) -> anyhow::Result<Vec<String>> {
    let mut figures: Vec<String> = compare::FIGURES.iter().map(|figure| (*figure).to_owned()).collect();
    for name in named {
        figures.push(Gate::figure("--figure", name)?);
    }
    figures.extend(gates.iter().map(|gate| gate.figure.clone()));
    let mut seen = std::collections::BTreeSet::new();
    figures.retain(|figure| seen.insert(figure.clone()));
    Ok(figures)
}

/// Reads an experiment, or the jobs of a suite as one.
fn side(args: &CompareArgs, name: &str) -> anyhow::Result<Side> {
    let entries = match history::find(&args.flags.folder()?, name)? {
        Named::Experiment(entry) => vec![*entry],
        Named::Suite(suite) => suite.entries(),
    };
    let rows: Vec<PointResult> =
        entries.iter().flat_map(|entry| report::finished(&entry.experiment())).collect();
    let plan = entries.first().map(|entry| entry.experiment().plan());
    match plan {
        Some(plan) if !rows.is_empty() => Ok(Side { name: name.to_owned(), plan: plan?, rows }),
        _ => Err(InputError::new(name, "no load point has figures")
            .expected("an experiment with at least one load point that was measured")
            .next("`tokmark jobs list` shows how far each experiment got")
            .into()),
    }
}
