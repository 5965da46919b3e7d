//! Which layers apply, in which order: defaults < site < recipe < GPU section < knobs < `--set`.
//!
//! Arrow: `recipe`, `site` → here → `build`. Pure: the environment comes in as a function.

use std::collections::BTreeMap;

use toml::Table;

use crate::document::{InputError, InputErrors, nearest, place};
use crate::recipe::Recipe;
use crate::recipe::find::RecipeFile;
use crate::recipe::layers::{Layers, assignment};
use crate::site::SiteFile;

/// What the user chose beside the recipe.
pub struct Choice<'a> {
    /// `--gpu`
    pub gpu: Option<&'a str>,
    /// `--set key=value`, in order.
    pub sets: &'a [String],
    /// Looks up an environment variable, for the recipe's knobs.
    pub env: &'a dyn Fn(&str) -> Option<String>,
}

/// A recipe with all layers merged.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The merged recipe.
    pub recipe: Recipe,
    /// The same as plain tables.
    pub table: Table,
    /// Source of each value, by dotted key.
    pub origins: BTreeMap<String, String>,
    /// The chosen GPU type.
    pub gpu: Option<String>,
}

/// Merges the layers of `file` for `site` and `choice`.
pub fn resolve(file: &RecipeFile, site: &SiteFile, choice: &Choice<'_>) -> Result<Resolved, InputErrors> {
    let gpu = choose_gpu(file, site, choice.gpu)?;
    let mut layers = Layers::defaults()?;
    if let Some(document) = &site.document {
        let lines = document.lines();
        let table = document.table()?;
        let mut lay = |layer: &Table, prefix: &str| {
            layers.push(layer, &|path| place(&document.file, &lines, &format!("{prefix}{path}")));
        };
        lay(&resources(&table), "");
        if let Some(defaults) = table.get("defaults").and_then(toml::Value::as_table) {
            lay(defaults, "defaults.");
        }
        let of_gpu = gpu.as_ref().and_then(|gpu| table.get("gpus")?.get(gpu)?.get("mem"));
        if let (Some(mem), Some(gpu)) = (of_gpu, &gpu) {
            let layer = Table::from_iter([("mem".to_owned(), mem.clone())]);
            let layer = Table::from_iter([("slurm".to_owned(), toml::Value::Table(layer))]);
            layers.push(&layer, &|_| place(&document.file, &lines, &format!("gpus.{gpu}.mem")));
        }
    }
    let lines = file.document.lines();
    let table = file.document.table()?;
    let common: Table =
        table.iter().filter(|(key, _)| *key != "gpu").map(|(k, v)| (k.clone(), v.clone())).collect();
    layers.push(&common, &|path| place(&file.document.file, &lines, path));
    if let Some(gpu) = &gpu {
        let section = table.get("gpu").and_then(|gpus| gpus.get(gpu)).and_then(toml::Value::as_table);
        if let Some(section) = section {
            layers.push(section, &|path| place(&file.document.file, &lines, &format!("gpu.{gpu}.{path}")));
        }
    }
    push_knobs(&mut layers, file, choice.env)?;
    push_sets(&mut layers, choice.sets)?;
    let (recipe, table, origins) = layers.finish()?;
    Ok(Resolved { recipe, table, origins, gpu })
}

/// What a site's `[slurm]` says of resources that a recipe may say as well.
fn resources(site: &Table) -> Table {
    let slurm = site.get("slurm").and_then(toml::Value::as_table).into_iter().flatten();
    let shared: Table = slurm
        .filter(|(key, _)| matches!(key.as_str(), "exclusive" | "mem"))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    Table::from_iter([("slurm".to_owned(), toml::Value::Table(shared))])
}

/// The GPU type: `--gpu`, else the site's, else the recipe's only one.
fn choose_gpu(
    file: &RecipeFile,
    site: &SiteFile,
    asked: Option<&str>,
) -> Result<Option<String>, InputErrors> {
    let in_recipe: Vec<&str> = file.recipe.gpu.keys().map(String::as_str).collect();
    let (gpu, origin) = match (asked, &site.site.gpu, in_recipe.as_slice()) {
        (Some(gpu), ..) => (gpu.to_owned(), "--gpu".to_owned()),
        (None, Some(gpu), []) => (gpu.clone(), site.name()),
        (None, Some(gpu), known) if known.contains(&gpu.as_str()) => (gpu.clone(), site.name()),
        (None, _, [only]) => ((*only).to_owned(), file.document.file.clone()),
        (None, None, []) => return Ok(None),
        (None, Some(gpu), _) => (gpu.clone(), site.name()),
        (None, None, known) => {
            return Err(InputError::new(file.document.at("gpu"), "written for several GPU types")
                .key("gpu")
                .expected(format!("one of {}", known.join(", ")))
                .next(format!("choose one: --gpu {}", known[0]))
                .into());
        }
    };
    if !in_recipe.is_empty() && !in_recipe.contains(&gpu.as_str()) {
        return Err(InputError::new(
            file.document.at("gpu"),
            format!("nothing for GPU type {gpu:?} ({origin})"),
        )
        .key(format!("gpu.{gpu}"))
        .expected(format!("one of {}", in_recipe.join(", ")))
        .next(format!("choose --gpu {}, or add a [gpu.{gpu}] section", in_recipe[0]))
        .into());
    }
    let known = site.site.gpu_types();
    if in_recipe.is_empty() && !known.contains(&gpu) {
        let mut error = InputError::new(&origin, format!("unknown GPU type {gpu:?}"))
            .expected(format!("one of {}", known.join(", ")));
        error = match nearest(&gpu, known.iter().map(String::as_str)) {
            Some(near) => error.next(format!("did you mean `{near}`?")),
            None => error.next(format!("add [gpus.{gpu}] with per_node to the site file")),
        };
        return Err(error.into());
    }
    Ok(Some(gpu))
}

fn push_knobs(
    layers: &mut Layers,
    file: &RecipeFile,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(), InputErrors> {
    let mut errors = Vec::new();
    for (name, key) in &file.recipe.knobs {
        let Some(value) = env(name) else { continue };
        let origin = format!("${name}");
        match assignment(key, &value, &origin) {
            Ok(layer) => layers.push(&layer, &|_| origin.clone()),
            Err(error) => errors.push(error),
        }
    }
    InputErrors::check(errors)
}

fn push_sets(layers: &mut Layers, sets: &[String]) -> Result<(), InputErrors> {
    let mut errors = Vec::new();
    for set in sets {
        let origin = format!("--set {set}");
        let Some((key, value)) = set.split_once('=') else {
            errors.push(InputError::new(origin, "no `=`").expected("--set key=value"));
            continue;
        };
        match assignment(key.trim(), value, &origin) {
            Ok(layer) => layers.push(&layer, &|_| "--set".into()),
            Err(error) => errors.push(error),
        }
    }
    InputErrors::check(errors)
}
