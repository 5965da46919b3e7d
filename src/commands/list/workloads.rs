//! Lists what `submit -w` takes: workloads with their sizes, precisions, scales and GPU types.

use serde_json::json;

use super::filters::Filters;
use crate::commands::planning::Planning;
use crate::commands::printer::Printer;
use crate::document::{InputError, InputErrors};
use crate::plan::choices::Choices;
use crate::planner::scale::offered;
use crate::recipe::find::{self, RecipeFile};
use crate::report::table::Table;
use crate::workload::catalogue;

/// What a recipe offers on one or more GPU types.
struct Offer {
    gpus: Vec<String>,
    size: Option<String>,
    dtype: Option<String>,
    scales: Vec<u32>,
}

/// Lists every workload that passes the filters, or one.
pub(super) fn run(
    printer: Printer,
    planning: &Planning,
    name: &str,
    filters: &Filters,
) -> anyhow::Result<()> {
    let (all, mut errors) = find::all();
    let (recipes, size) = match name {
        "" => (all, None),
        name => {
            let found = catalogue::find(name, &all, "--workload")?;
            (found.recipes, found.size)
        }
    };
    let recipes: Vec<RecipeFile> = recipes.into_iter().filter(|file| filters.pass(file)).collect();
    if recipes.is_empty() && !printer.is_json() {
        printer.error(filters.explain(&find::all().0));
        return Ok(());
    }
    let mut list = Vec::new();
    // Lines below each row of the table.
    let mut below = vec![String::new()];
    let mut table = Table::new(["WORKLOAD", "SIZE", "DTYPE", "SCALES", "GPU"]);
    for file in &recipes {
        let mut offers = offers(planning, file, &mut errors);
        if let Some(size) = &size {
            offers.retain(|offer| offer.size.as_ref().is_some_and(|known| known.eq_ignore_ascii_case(size)));
        }
        for (at, offer) in offers.iter().enumerate() {
            let scales: Vec<String> = offer.scales.iter().map(ToString::to_string).collect();
            let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
            table.push(vec![
                if at == 0 { file.name().to_owned() } else { String::new() },
                or_dash(offer.size.as_deref().unwrap_or_default()),
                or_dash(offer.dtype.as_deref().unwrap_or_default()),
                or_dash(&scales.join(",")),
                offer.gpus.join(" "),
            ]);
            // Aliases are longer than names and need no columns beside them.
            let is_last = at + 1 == offers.len();
            let aliases = file.recipe.aliases.iter().filter(|_| is_last);
            below.push(aliases.map(|alias| format!("  = {alias}\n")).collect());
        }
        let by_gpu = |offer: &Offer| json!({"gpus": offer.gpus, "size": offer.size, "dtypes": offer.dtype.as_slice(), "scales": offer.scales});
        list.push(json!({
            "workload": file.name(),
            "aliases": file.recipe.aliases,
            "offers": offers.iter().map(by_gpu).collect::<Vec<_>>(),
            "knobs": file.recipe.knobs.keys().collect::<Vec<_>>(),
            "file": file.document.file,
        }));
    }
    printer.json(&list)?;
    printer.text(&table.within(&[0, 1, 2, 3, 4], 4, printer.width(), &below))?;
    warn_of(printer, &errors);
    Ok(())
}

/// Warns of each problem once, however many recipes have it.
fn warn_of(printer: Printer, errors: &[InputError]) {
    let mut warned = Vec::new();
    for error in errors {
        if !warned.contains(&&error.problem) {
            warned.push(&error.problem);
            let others = errors.iter().filter(|other| other.problem == error.problem).count() - 1;
            let others = if others > 0 { format!("\n  the same: {others} more") } else { String::new() };
            printer.warn(format!("{error}{others}"));
        }
    }
}

/// The offers of a recipe for each GPU type it is written for, or for the unnamed types if it is for any. Types with equal offers
/// are merged. What cannot be planned (the site has no such nodes, no image) is listed as an error.
fn offers(planning: &Planning, file: &RecipeFile, errors: &mut Vec<InputError>) -> Vec<Offer> {
    let mut offers: Vec<Offer> = Vec::new();
    for (Choices { gpu, .. }, planned) in planning.plan_for_gpus(file, planning.choices.gpu.as_deref()) {
        let plan = match planned {
            Ok(plan) => plan,
            Err(InputErrors(problems)) => {
                errors.extend(problems);
                continue;
            }
        };
        let known = if plan.gpu.kind == "none" || gpu.is_none() { "any" } else { &plan.gpu.kind };
        let offer = Offer {
            gpus: vec![known.to_owned()],
            size: plan.model.size.clone(),
            dtype: plan.model.precision.clone(),
            scales: offered(&file.recipe, plan.scale()),
        };
        let same = |one: &&mut Offer| {
            (&one.size, &one.dtype, &one.scales) == (&offer.size, &offer.dtype, &offer.scales)
        };
        match offers.iter_mut().find(same) {
            Some(one) => one.gpus.extend(offer.gpus),
            None => offers.push(offer),
        }
    }
    offers
}
