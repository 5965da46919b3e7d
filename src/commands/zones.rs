//! `tokmark zones [EXPERIMENT…]`: how much load a deployment takes, from an experiment or from any tool's table.

use std::path::PathBuf;

use clap::Args;
use itertools::Itertools;
use serde_json::json;

use super::flags::HistoryFlags;
use super::printer::Printer;
use crate::analyze::pareto::{self, ParetoPoint};
use crate::analyze::zones::{Objective, Series, Thresholds, Zones, judge, objective, table};
use crate::document::{InputError, no_such_file};
use crate::history::{self, Named};
use crate::plan::{Plan, Price};
use crate::report::table::wrapped;
use crate::report::{self, PointResult, zones};

#[derive(Debug, Args)]
#[command(after_help = "\
Columns of a table: concurrency or request_rate, output_tokens_per_s or
requests_per_s; also latency_avg_ms, latency_p99_ms, ttft_avg_ms, ttft_p50_ms,
ttft_p95_ms, ttft_p99_ms, error_rate, waiting, kv_cache, gpus, tok/s/user.
Figures of --slo: ttft, itl, icl, e2e or e2e_per_token with avg, p50, p90,
p95 or p99, as in ttft.p99; errors, goodput, output_tokens_per_s,
requests_per_s, tokens_per_s_per_user.
Thresholds: noise, plateau, fall, latency, ttft, queue, kv_cache, errors,
failed, efficiency, sweet_spot; docs/zones.md says what they mean.")]
pub struct ZonesArgs {
    /// Job ids, experiment names, `last`, or directories of an experiment or a `bench`
    #[arg(value_name = "EXPERIMENT", default_value = "last", conflicts_with = "tables")]
    named: Vec<String>,
    /// CSV with a row per load, or a result file of AIPerf, genai-perf or vllm bench (repeatable)
    #[arg(long = "table", value_name = "FILE")]
    tables: Vec<PathBuf>,
    /// Objective for the highest sustainable load, e.g. --slo 'ttft.p99 < 500ms' (repeatable) [default: of a recipe with load.slo
    /// goodput >= 99%]
    #[arg(long, value_name = "BOUND")]
    slo: Vec<String>,
    /// Price of a GPU-hour for the cost of a million tokens, e.g. '2.49 USD' [default: that of the site file when it was planned]
    #[arg(long, value_name = "PRICE")]
    price: Option<Price>,
    /// Print the Pareto front alone: of all load levels, those of which none is better in tok/s/GPU and in tok/s/user
    #[arg(long)]
    pareto: bool,
    /// Set a threshold of the rules, e.g. --threshold latency=3 (repeatable)
    #[arg(long = "threshold", value_name = "NAME=VALUE")]
    thresholds: Vec<String>,
    /// Print JSON; a list for several series
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: HistoryFlags,
}

pub fn run(printer: Printer, args: &ZonesArgs) -> anyhow::Result<()> {
    let printer = printer.with_json(args.json);
    let thresholds = thresholds(&args.thresholds)?;
    let objectives: Vec<Objective> = args.slo.iter().map(|text| objective(text)).collect::<Result<_, _>>()?;
    let Measured { series, levels } =
        if args.tables.is_empty() { measured(args)? } else { read(printer, &args.tables)? };
    let mut series = series;
    if let Some(price) = &args.price {
        series.iter_mut().for_each(|series| series.price = Some(price.clone()));
    }
    let points = pareto::points(&levels, thresholds.failed);
    if args.pareto {
        return front(printer, args, &points);
    }
    let judged: Vec<_> =
        series.iter().map(|series| (series, judge(series, thresholds, &objectives))).collect();
    let (width, is_alone) = (printer.width(), series.len() == 1);
    let page = |(series, judged): &(&Series, Zones)| {
        let name = if is_alone { String::new() } else { format!("{}\n", series.name) };
        let table = zones::table(judged, false);
        let last = table.head.len() - 1;
        let lines = zones::sentences(judged).join("\n");
        format!(
            "{name}{}latencies in ms\n\n{}\n",
            table.within(&[0, last], last, width, &[]),
            wrapped(&lines, width)
        )
    };
    let as_json = |(series, judged): &(&Series, Zones)| {
        let mut value = judged.json();
        if !is_alone {
            value["series"] = json!(series.name);
        }
        let own = |point: &&ParetoPoint| {
            (&point.workload, &point.configuration, point.axis)
                == (&series.workload, &series.configuration, series.axis)
        };
        value["pareto"] = points.iter().filter(own).map(ParetoPoint::json).collect();
        value
    };
    printer.json_list(&judged.iter().map(as_json).collect::<Vec<_>>(), false)?;
    printer.text(&judged.iter().map(page).collect::<Vec<_>>().join("\n"))?;
    printer.text(
        &front_text(&points, width).map(|text| format!("\nPareto front\n{text}")).unwrap_or_default(),
    )?;
    Ok(())
}

/// The Pareto front within so many columns; `None` if there is none.
fn front_text(points: &[ParetoPoint], width: usize) -> Option<String> {
    let table = report::pareto::table(points)?;
    let left: Vec<usize> = (0..table.head.len().saturating_sub(5)).collect();
    let last = table.head.len() - 1;
    let left = [&left[..], &[last]].concat();
    Some(format!("{}\n{}\n", table.fitted(&left, width), wrapped(report::pareto::ABOUT, width)))
}

/// `--pareto`: every point as JSON, those on a front as text.
fn front(printer: Printer, args: &ZonesArgs, points: &[ParetoPoint]) -> anyhow::Result<()> {
    let text = front_text(points, printer.width());
    if text.is_none() && !args.json {
        let named = if args.tables.is_empty() { args.named.join(" ") } else { "--table".to_owned() };
        let problem = format!("{} load levels whose tok/s/GPU and tok/s/user are known", points.len());
        return Err(InputError::new(named, problem)
            .expected(
                "two or more; the number of GPUs comes from the recipe, or from a column `gpus` of a table",
            )
            .next("name several experiments, or measure several loads or deployments")
            .into());
    }
    printer.json(&points.iter().map(ParetoPoint::json).collect::<Vec<_>>())?;
    Ok(printer.text(&text.unwrap_or_default())?)
}

/// What was measured or read.
struct Measured {
    /// Series of levels that differ in load alone.
    series: Vec<Series>,
    /// All load levels, also those of a single load.
    levels: Vec<Series>,
}

/// The default thresholds with those that the user set.
fn thresholds(set: &[String]) -> anyhow::Result<Thresholds> {
    let mut all = toml::Table::try_from(Thresholds::default())?;
    for word in set {
        let wrong = |problem: String| InputError::new(format!("--threshold {word}"), problem);
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let known: Vec<&str> = all.keys().map(String::as_str).collect();
        if !known.contains(&name) {
            let error =
                wrong(format!("no threshold {name:?}")).expected(format!("one of {}", known.join(", ")));
            return Err(error.suggest(name, &known).into());
        }
        let number = value.parse::<f64>().ok().filter(|number| *number >= 0.0 && number.is_finite());
        let number = number.ok_or_else(|| {
            wrong(format!("found {value:?}")).expected("a number from 0 on, e.g. 0.05 for 5 %")
        })?;
        all.insert(name.to_owned(), number.into());
    }
    Ok(all.try_into()?)
}

/// The series of tables and result files.
fn read(printer: Printer, files: &[PathBuf]) -> anyhow::Result<Measured> {
    let mut series = Vec::new();
    for file in files {
        let bytes = std::fs::read(file).map_err(|error| {
            let error = match error.kind() {
                std::io::ErrorKind::NotFound => no_such_file(file),
                kind => InputError::new(file.display().to_string(), format!("cannot be read: {kind}")),
            };
            error
                .expected("a table (CSV, Markdown) or a result file of another tool")
                .or_next("correct the path")
        })?;
        let read = table::parse(file, &bytes)?;
        if !read.unread.is_empty() {
            printer.note(format!("{}: no rule reads {}", file.display(), read.unread.join(", ")));
        }
        series.extend(read.series);
    }
    let series = table::join(series);
    Ok(Measured { levels: series.clone(), series })
}

/// The series of measured points. Those of several experiments of one recipe are joined.
fn measured(args: &ZonesArgs) -> anyhow::Result<Measured> {
    let mut rows: Vec<PointResult> = Vec::new();
    for name in &args.named {
        rows.extend(finished(args, name)?);
    }
    if !rows.iter().map(|row| &row.configuration).all_equal() {
        rows.iter_mut().for_each(|row| row.series = format!("{} {}", row.configuration, row.series));
    }
    let series = zones::series(&rows);
    if series.is_empty() && !args.pareto {
        let points = rows.len();
        return Err(InputError::new(
            args.named.join(" "),
            format!("{points} finished load points, none of which differ in load alone"),
        )
        .expected("a sweep over concurrency or request rate, or a ramp with stages that last longer than two answers")
        .next("measure several loads, e.g. --set load.concurrency=[8,16,32], or let the load rise more slowly")
        .into());
    }
    Ok(Measured { series, levels: zones::of_loads(&rows) })
}

/// What tells an experiment from others: its recipe, GPU type, and what a user set besides the load.
fn configuration(plan: &Plan) -> String {
    let gpu = Some(&plan.gpu.kind).filter(|kind| *kind != "none");
    let set = plan.overridden().into_iter().filter(|(key, ..)| !key.starts_with("load."));
    let set = set.map(|(key, value, _)| format!("{key}={value}"));
    let words = [Some(plan.name.clone()), gpu.cloned()].into_iter().flatten().chain(set);
    words.collect::<Vec<_>>().join(" ")
}

/// The finished points of an experiment, of a suite's experiments, or of a directory that `bench` made.
fn finished(args: &ZonesArgs, name: &str) -> anyhow::Result<Vec<PointResult>> {
    let of_recipe = |entry: &history::Entry| {
        let configuration = entry.experiment().plan().map(|plan| configuration(&plan)).unwrap_or_default();
        let mut rows = report::finished(&entry.experiment());
        for row in &mut rows {
            row.configuration.clone_from(&configuration);
        }
        rows
    };
    Ok(match history::find(&args.flags.folder()?, name)? {
        Named::Experiment(entry) => of_recipe(&entry),
        Named::Suite(suite) => suite.entries().iter().flat_map(of_recipe).collect(),
    })
}
