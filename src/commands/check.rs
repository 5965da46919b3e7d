//! `tokmark check`: checks everything that can be known before a job runs, with sample addresses.

use std::collections::BTreeSet;
use std::path::Path;

use clap::Args;
use serde_json::json;

use super::planning;
use super::printer::Printer;
use crate::document::InputErrors;
use crate::flags::{Global, PlanFlags};
use crate::plan::Plan;
use crate::plan::choices::{Choices, Scale};
use crate::planner::scale::is_size;
use crate::recipe::find::{self, RecipeFile};
use crate::site::SiteFile;
use crate::{prompts, render, weights};

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Recipes: file, name or alias
    #[arg(value_name = "RECIPE", required_unless_present = "all")]
    recipes: Vec<String>,
    /// Check every recipe
    #[arg(long, conflicts_with = "recipes")]
    all: bool,
    /// Skip weights and container images given by path
    #[arg(long)]
    no_weights_check: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Shared with other verbs
    #[command(flatten)]
    pub flags: PlanFlags,
}

/// Runs the verb. Reports all errors of the first class that has any: files that do not parse, impossible plans, templates that
/// do not render, prompts, missing weights and images.
pub fn run(global: &Global, args: &CheckArgs) -> anyhow::Result<()> {
    let printer = Printer::new(global, args.json);
    let site = SiteFile::load(global.site.as_deref())?;
    let files = read(args)?;
    let plans = plan(global, &site, files)?;
    collect(plans.iter().map(render::check))?;
    let (complete, wanting): (Vec<&Plan>, Vec<&Plan>) =
        plans.iter().partition(|plan| missing_file(plan).is_none());
    collect(complete.into_iter().map(prompts::check::check))?;
    let missing: BTreeSet<_> =
        wanting.into_iter().filter_map(|plan| Some((&plan.name, missing_file(plan)?))).collect();
    for (recipe, file) in missing {
        printer.note(format!(
            "note: {recipe} wants {file}, which is not here and is not shipped; see its notes"
        ));
    }
    if !args.no_weights_check {
        let weights = plans.iter().map(weights::check::folder);
        collect(weights.chain(plans.iter().map(weights::check::container_image)))?;
    }
    let points: usize = plans.iter().map(|plan| plan.points().count()).sum();
    let as_json = |plan: &Plan| json!({"recipe": plan.name, "gpu": plan.gpu.kind, "points": plan.points().count(), "nodes": plan.job.nodes});
    printer.json(&plans.iter().map(as_json).collect::<Vec<_>>())?;
    for plan in &plans {
        printer.line(format!(
            "ok  {}{}: {}, {}, {} s at most",
            plan.name,
            if plan.gpu.kind == "none" { String::new() } else { format!(" on {}", plan.gpu.kind) },
            counted(plan.points().count(), "load point"),
            counted(plan.job.nodes as usize, "node"),
            plan.job.time_s
        ))?;
    }
    if !printer.is_json() {
        let (plans, points) = (counted(plans.len(), "plan"), counted(points, "load point"));
        printer.note(format!("{plans}, {points}: all sound"));
    }
    Ok(())
}

/// The prompt file that a shipped recipe needs and this machine lacks. The user has to fetch it, so the recipe is not at fault.
fn missing_file(plan: &Plan) -> Option<&str> {
    let shipped = plan.input.recipe.file.starts_with(find::BUILT_IN);
    let mut files = plan.points().filter_map(|(_, point)| point.prompts.source.file());
    files.find(|file| shipped && !Path::new(file).exists())
}

/// `1 node`, `2 nodes`.
fn counted(number: usize, of: &str) -> String {
    if number == 1 { format!("1 {of}") } else { format!("{number} {of}s") }
}

fn read(args: &CheckArgs) -> Result<Vec<RecipeFile>, InputErrors> {
    if args.all {
        let (files, errors) = find::all();
        InputErrors::check(errors)?;
        return Ok(files);
    }
    collect(args.recipes.iter().map(|recipe| find::named(recipe)))
}

/// Plans each recipe for the chosen GPU type, or for each type it is written for.
fn plan(global: &Global, site: &SiteFile, files: Vec<RecipeFile>) -> Result<Vec<Plan>, InputErrors> {
    let mut results = Vec::new();
    for file in files {
        let written_for: Vec<String> = file.recipe.gpu.keys().cloned().collect();
        let gpus: Vec<Option<String>> = match &global.gpu {
            Some(gpu) => vec![Some(gpu.clone())],
            None if written_for.is_empty() => vec![None],
            None => written_for.into_iter().map(Some).collect(),
        };
        for gpu in gpus {
            let chosen = Choices { gpu, ..planning::choices(global) };
            let own = planning::plan_file(global, site, &file, chosen.clone());
            // Other scales are only checked, because the notes concern the recipe's own scale and explicit sizes apply to it
            // alone.
            if let Ok(plan) = &own
                && !sizes_given(plan)
            {
                for scale in file.recipe.scale.keys().filter_map(|key| find::scale_of(key)).map(Scale::of) {
                    let chosen = Choices { scale: Some(scale), ..chosen.clone() };
                    results.extend(planning::plan_file(global, site, &file, chosen).err().map(Err));
                }
            }
            results.push(own);
        }
    }
    collect(results.into_iter())
}

/// Whether explicit sizes override the recipe's servers.
fn sizes_given(plan: &Plan) -> bool {
    plan.origins.iter().any(|(key, origin)| (is_size(key) || key.ends_with(".ep")) && origin.is_given())
}

/// All values, or all errors.
fn collect<T>(results: impl Iterator<Item = Result<T, InputErrors>>) -> Result<Vec<T>, InputErrors> {
    let mut values = Vec::new();
    let mut errors = Vec::new();
    for result in results {
        match result {
            Ok(value) => values.push(value),
            // Drop mistakes that repeat for every GPU type.
            Err(InputErrors(problems)) => {
                problems.into_iter().for_each(|problem| {
                    if !errors.contains(&problem) {
                        errors.push(problem);
                    }
                });
            }
        }
    }
    InputErrors::check(errors)?;
    Ok(values)
}
