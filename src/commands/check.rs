//! `tokmark check`: checks everything that can be known before a job runs, with sample addresses.

use std::collections::BTreeSet;
use std::path::Path;

use clap::Args;
use serde_json::json;

use super::counted;
use super::flags::PlanFlags;
use super::planning::{Planning, warn_about, warn_about_time};
use super::printer::Printer;
use crate::document::InputErrors;
use crate::plan::Plan;
use crate::plan::choices::{Choices, Scale};
use crate::planner::scale::is_size;
use crate::recipe::find::{self, RecipeFile};
use crate::{prompts, render, weights};

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
    #[command(flatten)]
    flags: PlanFlags,
}

/// Reports all errors of the first class that has any: files that do not parse, impossible plans, templates that
/// do not render, prompts, missing weights and images.
pub fn run(printer: Printer, args: &CheckArgs) -> anyhow::Result<()> {
    let printer = printer.with_json(args.json);
    let planning = args.flags.planning(printer)?;
    let plans = plan(&planning, &read(printer, args, &planning)?)?;
    plans.iter().for_each(|plan| warn_about(printer, plan));
    plans.iter().for_each(|plan| warn_about_time(printer, plan));
    InputErrors::collect(plans.iter().map(render::check))?;
    let (complete, wanting): (Vec<&Plan>, Vec<&Plan>) =
        plans.iter().partition(|plan| missing_file(plan).is_none());
    InputErrors::collect(complete.into_iter().map(prompts::check::check))?;
    let missing: BTreeSet<_> =
        wanting.into_iter().filter_map(|plan| Some((&plan.name, missing_file(plan)?))).collect();
    for (recipe, file) in missing {
        printer.note(format!(
            "note: {recipe} wants {file}, which is not here and is not shipped; see its notes"
        ));
    }
    if !args.no_weights_check {
        let weights = plans.iter().map(weights::check::folder);
        InputErrors::collect(weights.chain(plans.iter().map(weights::check::container_image)))?;
    }
    let points: usize = plans.iter().map(|plan| plan.points().count()).sum();
    let as_json = |plan: &Plan| {
        let mut found = json!({"recipe": plan.name, "gpu": plan.gpu.kind, "points": plan.points().count(), "nodes": plan.job.nodes});
        if let Some(search) = &plan.search {
            found["search"] = json!(search);
        }
        found
    };
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
        if let Some(search) = plan.search_words() {
            printer.line(format!("    search: {search}"))?;
        }
    }
    if !printer.is_json() {
        let (plans, points) = (counted(plans.len(), "plan"), counted(points, "load point"));
        printer.note(format!("{plans}, {points}: all sound"));
    }
    Ok(())
}

/// The prompt file that a shipped recipe needs and this machine lacks. The user has to fetch it, so the recipe is not at fault.
fn missing_file(plan: &Plan) -> Option<&str> {
    let recipe = &plan.input.recipe;
    // Or read from a clone of this repository.
    let is_copy = || find::embedded().iter().any(|document| document.text == recipe.text);
    let shipped = recipe.file.starts_with(find::BUILT_IN) || is_copy();
    let mut files = plan.points().filter_map(|(_, point)| point.prompts.source.file());
    files.find(|file| shipped && !Path::new(file).exists())
}

/// The recipes; of all recipes only those that are written for the GPU type that was chosen, or is the site's.
fn read(printer: Printer, args: &CheckArgs, planning: &Planning) -> Result<Vec<RecipeFile>, InputErrors> {
    if !args.all {
        return InputErrors::collect(args.recipes.iter().map(|recipe| find::named(recipe)));
    }
    let (mut files, errors) = find::all();
    InputErrors::check(errors)?;
    if let Some(gpu) = planning.gpu() {
        let all = files.len();
        files.retain(|file| file.recipe.gpu.is_empty() || file.recipe.gpu.contains_key(gpu));
        if files.len() < all {
            let left_out = counted(all - files.len(), "recipe");
            printer.note(format!("note: {left_out} not checked: not written for GPU type {gpu}"));
        }
    }
    Ok(files)
}

/// Plans each recipe for the GPU type of the command line or the site, else for each of its own. Other scales are only checked, because the notes concern the recipe's own scale and
/// explicit sizes apply to it alone.
fn plan(planning: &Planning, files: &[RecipeFile]) -> Result<Vec<Plan>, InputErrors> {
    let mut results = Vec::new();
    for file in files {
        for (choices, own) in planning.plan_for_gpus(file, planning.gpu()) {
            if own.as_ref().is_ok_and(|plan| !sizes_given(plan)) {
                for scale in file.recipe.scale.keys().filter_map(|key| find::scale_of(key)).map(Scale::of) {
                    let choices = Choices { scale: Some(scale), ..choices.clone() };
                    results.extend(planning.plan(file, choices).err().map(Err));
                }
            }
            results.push(own);
        }
    }
    InputErrors::collect(results)
}

/// Whether explicit sizes override the recipe's servers.
fn sizes_given(plan: &Plan) -> bool {
    plan.origins.iter().any(|(key, origin)| (is_size(key) || key.ends_with(".ep")) && origin.is_given())
}
