//! `tokmark show RECIPE`: shows the recipe as it would run, and the origin of every value.

use clap::Args;
use serde_json::json;

use super::flags::PlanFlags;
use super::printer::Printer;
use crate::document::{InputErrors, join};
use crate::plan::{Plan, Stop};
use crate::planner::knobs;
use crate::planner::scale::offered;
use crate::recipe::{Origin, Published, Recipe};
use crate::report::table::{Table, wrapped};

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Recipe: file, name or alias
    recipe: String,
    /// Total number of GPUs: one of the recipe's scales [default: its own]
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
        let mut page = json!({
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
        });
        if let Some(search) = &plan.search {
            page["search"] = json!(search);
        }
        page
    };
    printer.with_json(args.json).result(as_json, || page(&plan, printer.width()))
}

/// The recipe as text of `width` columns.
fn page(plan: &Plan, width: usize) -> String {
    let says = if plan.summary.is_empty() { String::new() } else { format!(": {}", plan.summary) };
    let mut text = format!("{}{says}\n", plan.name);
    let recipe = &plan.recipe;
    for (name, value) in [("source", &recipe.source), ("notes", &recipe.notes)] {
        if let Some(value) = value {
            text.push_str(&format!("{name}: {}\n", joined(value)));
        }
    }
    let site = plan.input.site.iter().map(|site| ("site", site));
    for (name, document) in std::iter::once(("recipe", &plan.input.recipe)).chain(site) {
        text.push_str(&format!("{name}: {}\n", document.file));
    }
    if plan.simulated {
        text.push_str("results of this recipe are SIMULATED\n");
    }
    for deployment in &plan.deployments {
        let name = if deployment.id.is_empty() { String::new() } else { format!(" of {}", deployment.id) };
        let said = deployment.speculation.as_ref().map(|known| known.words());
        text.extend(said.map(|said| format!("speculation{name}: {said}\n")));
    }
    text.push_str(&format!("\n{}", values(plan).within(&[0, 1, 2], 1, width, &[])));
    if !recipe.knobs.is_empty() {
        text.push_str(&format!("\n{}", knob_table(plan).within(&[0, 1, 2], 1, width, &[])));
    }
    if !plan.job.from_variables.is_empty() {
        let mut table = Table::new(["DIRECTIVE", "FROM"]);
        for (directive, from) in &plan.job.from_variables {
            table.push(vec![directive.clone(), from.to_string()]);
        }
        text.push_str(&format!("\n{}", table.within(&[0, 1], 0, width, &[])));
    }
    text.push_str(&points(plan, width));
    text.extend(plan.search_words().map(|words| format!("search: {words}\n")));
    text.push_str(&published(&recipe.published));
    wrapped(&text, width)
}

/// Text whose author broke its lines, as paragraphs: an empty line or an indented one begins another.
fn joined(text: &str) -> String {
    let mut whole = String::new();
    for line in text.trim_end().lines() {
        let begins = line.is_empty()
            || [" ", "- ", "* "].iter().any(|start| line.starts_with(start))
            || whole.ends_with('\n');
        let between = if whole.is_empty() {
            ""
        } else if begins {
            "\n"
        } else {
            " "
        };
        whole.push_str(&format!("{between}{line}"));
    }
    whole
}

fn values(plan: &Plan) -> Table {
    let mut values = Table::new(["KEY", "VALUE", "FROM"]);
    let mut flat = Vec::new();
    flatten(&serde_json::to_value(&plan.recipe).unwrap_or_default(), "", &mut flat);
    let described = ["schema", "name", "summary", "source", "notes", "aliases", "published", "knobs"];
    for (key, value) in flat {
        let section = key.split(['.', '[']).next().unwrap_or_default();
        let whole = key.split('[').next().unwrap_or_default();
        let origin = plan.origins.get(whole).map(|origin| from(plan, origin));
        // A section without keys has no origin, unless it is a choice by itself, such as `arrival.poisson`.
        if !described.contains(&section) && (origin.is_some() || value != "{}") {
            values.push(vec![key, value, origin.unwrap_or_default()]);
        }
    }
    values
}

/// An origin, with `recipe` and `site` for the files that are named above the table.
fn from(plan: &Plan, origin: &Origin) -> String {
    let Origin::File { file, line } = origin else { return origin.to_string() };
    let is_site = plan.input.site.as_ref().is_some_and(|site| site.file == *file);
    let name = match file {
        file if *file == plan.input.recipe.file => "recipe",
        _ if is_site => "site",
        file => file,
    };
    line.map_or_else(|| name.to_owned(), |line| format!("{name}:{line}"))
}

fn knob_table(plan: &Plan) -> Table {
    let mut table = Table::new(["KNOB", "SETS", "NOW"]);
    for (name, key) in &plan.recipe.knobs {
        let now =
            plan.input.choices.variables.get(name).map(|variable| match knobs::overruled_by(plan, name) {
                Some(option) => format!("{} (no effect: {option} was given)", variable.value),
                None => variable.value.clone(),
            });
        table.push(vec![format!("${name}"), key.clone(), now.unwrap_or_default()]);
    }
    table
}

/// A table of the load points for each deployment, which is named above if there are several.
fn points(plan: &Plan, width: usize) -> String {
    let open = plan.points().any(|(_, point)| point.request_rate().is_some());
    let load = if open { "ARRIVALS" } else { "CONCURRENCY" };
    let mut text = String::new();
    for deployment in &plan.deployments {
        if !deployment.id.is_empty() {
            text.push_str(&format!("\ndeployment {}", deployment.id));
        }
        let mut points = Table::new(["LOAD POINT", "GPUS", "STOP", load]);
        for point in &deployment.points {
            let stop = match point.stop {
                Stop::Requests(requests) => format!("{requests} requests"),
                Stop::DurationS(seconds) => format!("{seconds} s"),
                Stop::TraceEnd => "end of the trace".to_owned(),
            };
            points.push(vec![point.id.clone(), deployment.gpus.to_string(), stop, point.load_words()]);
        }
        text.push_str(&format!("\n{}", points.within(&[0, 2, 3], 3, width, &[])));
    }
    text
}

/// The published figures: those with the same conditions, note and source in one table.
fn published(figures: &[Published]) -> String {
    let mut groups: Vec<(String, Table)> = Vec::new();
    for figure in figures {
        let about = conditions(figure);
        if groups.last().is_none_or(|(known, _)| *known != about) {
            groups.push((about, Table::new(["METRIC", "VALUE"])));
        }
        let value = match figure.value {
            0.0 => "no figure yet".to_owned(),
            value => format!("{value} ± {}", figure.tolerance),
        };
        if let Some((_, table)) = groups.last_mut() {
            table.push(vec![figure.metric.clone(), value]);
        }
    }
    groups.iter().map(|(about, table)| format!("\n{about}{}", table.text(&[0, 1]))).collect()
}

/// What a published figure was measured with, the note about it, and its source, a line each.
fn conditions(published: &Published) -> String {
    let point = published.point.as_ref().map(|point| format!(" {point}")).unwrap_or_default();
    let offline = if published.offline { ", offline" } else { "" };
    let on_off = published.streaming.map(|on| format!("streaming {}", if on { "on" } else { "off" }));
    let conditions = [
        published.isl.map(|tokens| format!("ISL {tokens}")),
        published.osl.map(|tokens| format!("OSL {tokens}")),
        published.concurrency.map(|load| format!("concurrency {load}")),
        on_off,
        published.gpus.map(|gpus| format!("{gpus} GPU{}", if gpus == 1 { "" } else { "s" })),
        published.software.clone(),
    ];
    let conditions: Vec<String> = conditions.into_iter().flatten().collect();
    let with = (!conditions.is_empty()).then(|| format!("measured with {}", conditions.join(", ")));
    let below = [with, published.note.clone(), Some(format!("source: {}", published.source))];
    let below: String = below.into_iter().flatten().map(|line| format!("  {}\n", joined(&line))).collect();
    format!("published for {}{point}{offline}:\n{below}", published.gpu)
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
                out.push((format!("{prefix}[{number}]"), spaced(item)));
            }
        }
        serde_json::Value::String(text) => out.push((prefix.to_owned(), text.clone())),
        other => out.push((prefix.to_owned(), spaced(other))),
    }
}

/// JSON with blanks between its parts, where a long line can be wrapped.
fn spaced(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Array(list) => {
            format!("[{}]", list.iter().map(spaced).collect::<Vec<_>>().join(", "))
        }
        serde_json::Value::Object(map) if !map.is_empty() => {
            let pairs: Vec<String> =
                map.iter().map(|(key, value)| format!("{key:?}: {}", spaced(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}
