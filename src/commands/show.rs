//! `tokmark show RECIPE`: shows the recipe as it would run, and the origin of every value.

use clap::Args;
use serde_json::json;

use super::flags::PlanFlags;
use super::printer::Printer;
use crate::document::{InputErrors, join};
use crate::plan::Plan;
use crate::planner::knobs;
use crate::planner::scale::offered;
use crate::recipe::{Published, Recipe};
use crate::report::table::Table;

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Recipe: file, name or alias
    recipe: String,
    /// GPUs in all: one of the scales the recipe offers [default: its own]
    #[arg(long, value_name = "N")]
    scale: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: PlanFlags,
}

pub fn run(printer: Printer, args: &ShowArgs) -> anyhow::Result<()> {
    let planning = args.flags.planning(printer)?;
    let plan = planning.plan_named(&args.recipe, planning.at_scale(args.scale))?;
    let file: Recipe = plan.input.recipe.parse().map_err(InputErrors::from)?;
    let as_json = || {
        json!({
            "name": plan.name,
            "file": plan.input.recipe.file,
            "gpu": plan.gpu,
            "resolved": plan.recipe,
            "origins": plan.origins,
            "knobs": plan.recipe.knobs,
            "job": plan.job,
            "deployments": plan.deployments,
            "scales": offered(&file, plan.scale()),
            "environment": plan.input.choices.variables,
        })
    };
    printer.with_json(args.json).result(as_json, || page(&plan))
}

fn page(plan: &Plan) -> String {
    let mut text = format!("{}: {}\n", plan.name, plan.summary);
    let recipe = &plan.recipe;
    for (name, value) in [("source", &recipe.source), ("notes", &recipe.notes)] {
        if let Some(value) = value {
            text.push_str(&format!("{name}: {}\n", value.trim_end()));
        }
    }
    if plan.simulated {
        text.push_str("results of this recipe are SIMULATED\n");
    }
    let mut values = Table::new(["KEY", "VALUE", "FROM"]);
    let mut flat = Vec::new();
    flatten(&serde_json::to_value(recipe).unwrap_or_default(), "", &mut flat);
    let described = ["schema", "name", "summary", "source", "notes", "aliases", "published", "knobs"];
    for (key, value) in flat {
        let section = key.split(['.', '[']).next().unwrap_or_default();
        let whole = key.split('[').next().unwrap_or_default();
        let origin = plan.origins.get(whole).map(ToString::to_string);
        // A section without keys has no origin, unless it is a choice by itself, such as `arrival.poisson`.
        if !described.contains(&section) && (origin.is_some() || value != "{}") {
            values.push(vec![key, value, origin.unwrap_or_default()]);
        }
    }
    text.push_str(&format!("\n{}", values.text(&[0, 1, 2])));
    if !recipe.knobs.is_empty() {
        let mut table = Table::new(["KNOB", "SETS", "NOW"]);
        for (name, key) in &recipe.knobs {
            let now = plan.input.choices.variables.get(name).map(|variable| {
                match knobs::overruled_by(plan, name) {
                    Some(option) => format!("{} (no effect: {option} was given)", variable.value),
                    None => variable.value.clone(),
                }
            });
            table.push(vec![format!("${name}"), key.clone(), now.unwrap_or_default()]);
        }
        text.push_str(&format!("\n{}", table.text(&[0, 1, 2])));
    }
    if !plan.job.from_variables.is_empty() {
        let mut table = Table::new(["DIRECTIVE", "FROM"]);
        for (directive, from) in &plan.job.from_variables {
            table.push(vec![directive.clone(), from.to_string()]);
        }
        text.push_str(&format!("\n{}", table.text(&[0, 1])));
    }
    let open = plan.points().any(|(_, point)| point.request_rate().is_some());
    let load = if open { "ARRIVALS" } else { "CONCURRENCY" };
    let mut points = Table::new(["LOAD POINT", "DEPLOYMENT", "GPUS", load, "STOP"]);
    for (deployment, point) in plan.points() {
        let stop = match point.stop {
            crate::plan::Stop::Requests(requests) => format!("{requests} requests"),
            crate::plan::Stop::DurationS(seconds) => format!("{seconds} s"),
            crate::plan::Stop::TraceEnd => "end of the trace".to_owned(),
        };
        let id = if deployment.id.is_empty() { "-".to_owned() } else { deployment.id.clone() };
        points.push(vec![point.id.clone(), id, deployment.gpus.to_string(), point.load_words(), stop]);
    }
    text.push_str(&format!("\n{}", points.text(&[0, 1, 4])));
    recipe.published.iter().for_each(|published| text.push_str(&figure(published)));
    text
}

/// A published figure: its value on one line; below it the conditions and the source.
fn figure(published: &Published) -> String {
    let point = published.point.as_ref().map(|point| format!(" {point}")).unwrap_or_default();
    let value = if published.value == 0.0 {
        "no figure yet".to_owned()
    } else {
        format!("{} ± {}", published.value, published.tolerance)
    };
    let offline = if published.offline { ", offline" } else { "" };
    let on_off = published.streaming.map(|on| format!("streaming {}", if on { "on" } else { "off" }));
    let conditions = [
        published.isl.map(|tokens| format!("ISL {tokens}")),
        published.osl.map(|tokens| format!("OSL {tokens}")),
        published.concurrency.map(|load| format!("concurrency {load}")),
        on_off,
        published.gpus.map(|gpus| format!("{gpus} GPUs")),
        published.software.clone(),
    ];
    let conditions: Vec<String> = conditions.into_iter().flatten().collect();
    let with = (!conditions.is_empty()).then(|| format!("measured with {}", conditions.join(", ")));
    let below = [with, published.note.clone(), Some(format!("source: {}", published.source))];
    let below: String = below.into_iter().flatten().map(|line| format!("  {}\n", line.trim_end())).collect();
    format!("published for {}{point}{offline}: {} = {value}\n{below}", published.gpu, published.metric)
}

fn flatten(value: &serde_json::Value, prefix: &str, out: &mut Vec<(String, String)>) {
    match value {
        serde_json::Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                flatten(value, &join(prefix, key), out);
            }
        }
        // Each of several tables is a row.
        serde_json::Value::Array(list) if list.iter().any(serde_json::Value::is_object) => {
            for (number, item) in (1..).zip(list) {
                out.push((format!("{prefix}[{number}]"), item.to_string()));
            }
        }
        serde_json::Value::String(text) => out.push((prefix.to_owned(), text.clone())),
        other => out.push((prefix.to_owned(), other.to_string())),
    }
}
