//! Which layers apply, in which order: defaults < site < recipe < GPU section < scale section < sbatch's variables <
//! knobs < `--env` < a verb's own options < `--set`.
//!
//! Environment variables were read before, into [`Choices`].

use serde::Deserialize;
use toml::{Table, Value};

use super::sbatch_env;
use super::sections::Slurm;
use crate::document::{Document, InputError, InputErrors, join, one_of};
use crate::plan::choices::{Choices, Flag, Scale};
use crate::recipe::find::RecipeFile;
use crate::recipe::layers::{Layers, assignment, is_within, lay, layer_of};
use crate::recipe::{Origin, Origins, Recipe};
use crate::site::{Site, SiteFile};

/// A recipe with all layers merged.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub recipe: Recipe,
    /// The same as plain tables.
    pub table: Table,
    /// Source of each value, by dotted key.
    pub origins: Origins,
    pub gpu: Option<String>,
    /// The recipe file, whose lines name the items of a list.
    pub document: Document,
}

impl Resolved {
    pub fn launcher(&self) -> &str {
        self.recipe.deploy.launcher.as_deref().unwrap_or_default()
    }

    /// An error about the value of a key, with the place that the value comes from.
    pub fn at(&self, key: &str, problem: impl Into<String>) -> InputError {
        self.locate(InputError::new("", problem).key(key))
    }

    /// Adds to an error the place that the value of its key comes from. An axis of the load may be a list in `[load]` itself, and
    /// a key below `deploy` an axis.
    pub fn locate(&self, mut error: InputError) -> InputError {
        let mut key = error.key.take().unwrap_or_default();
        let in_load = key.strip_prefix("sweep.").map(str::to_owned);
        let in_sweep = || Some(format!("sweep.server.{}", join("", key.strip_prefix("deploy.")?)));
        let other = in_load.or_else(in_sweep).filter(|other| self.origins.contains_key(other));
        if let (false, Some(other)) = (self.origins.contains_key(&key), other) {
            key = other;
        }
        let origin = self.origin_of(&key);
        // A flag stands for its key.
        error.key = Some(key).filter(|_| !matches!(origin, Some(Origin::Flag(_))));
        error.origin = origin.map_or_else(|| self.document.file.clone(), |origin| origin.to_string());
        error
    }

    fn origin_of(&self, key: &str) -> Option<Origin> {
        if let Some(origin) = self.origins.get(key) {
            return Some(origin.clone());
        }
        // An item of a list has no origin of its own, but a line when the recipe wrote the list.
        if let Some(list) = key.split_once('[').and_then(|(list, _)| self.origins.get(list)) {
            let in_recipe = matches!(list, Origin::File { file, .. } if *file == self.document.file);
            return Some(if in_recipe { Origin::from(self.document.at(key)) } else { list.clone() });
        }
        // A value inside is not the key itself: its file is right, its line is not.
        self.origins.iter().find(|(known, _)| is_within(known, key)).map(|(_, origin)| match origin {
            Origin::File { file, .. } => Origin::File { file: file.clone(), line: None },
            other => other.clone(),
        })
    }
}

/// Merges the layers of `file` for `site` and what was chosen.
pub fn resolve(file: &RecipeFile, site: &SiteFile, chosen: &Choices) -> Result<Resolved, InputErrors> {
    let gpu = choose_gpu(file, site, chosen.gpu.as_deref())?;
    let mut layers = Layers::defaults();
    if let Some(document) = &site.document {
        let lines = document.lines();
        let origin = |key: &str| Origin::in_file(&document.file, &lines, key);
        push_site(&mut layers, &document.table()?, gpu.as_deref(), &origin);
    }
    let lines = file.document.lines();
    let origin = |key: &str| Origin::in_file(&file.document.file, &lines, key);
    let table = file.document.table()?;
    let (chosen_sections, common): (Table, Table) =
        table.into_iter().partition(|(key, _)| ["gpu", "scale"].contains(&key.as_str()));
    layers.push(&common, &origin);
    let mut lay_over = |kind: &str, name: &str| {
        let section = chosen_sections.get(kind).and_then(|sections| sections.get(name)?.as_table());
        if let Some(section) = section {
            layers.push(section, &|path| origin(&format!("{kind}.{name}.{path}")));
        }
    };
    if let Some(gpu) = &gpu {
        lay_over("gpu", gpu);
    }
    if let Some(scale) = chosen.scale {
        lay_over("scale", &scale.gpus.to_string());
        push_replicas(&mut layers, scale);
    }
    let of_files = layers.text("model.name");
    sbatch_env::push_values(&mut layers, chosen);
    push_knobs(&mut layers, file, chosen);
    push_env(&mut layers, file, chosen);
    push_flags(&mut layers, &chosen.flags);
    push_sets(&mut layers, chosen);
    if of_files != layers.text("model.name") {
        layers.forget_files("model", "name");
    }
    let (recipe, table, origins) = layers.finish()?;
    Ok(Resolved { recipe, table, origins, gpu, document: file.document.clone() })
}

/// Lays what a site sets in every recipe: resources in its `[slurm]`, its `[defaults]`, the memory of nodes with a GPU type.
/// `origin` takes a key of the site file.
fn push_site(layers: &mut Layers, site: &Table, gpu: Option<&str>, origin: &dyn Fn(&str) -> Origin) {
    let in_slurm = |keys: Table| Table::from_iter([("slurm".to_owned(), Value::Table(keys))]);
    let slurm = site.get("slurm").and_then(Value::as_table).cloned().unwrap_or_default();
    let is_shared = |(key, _): &(String, Value)| ["exclusive", "mem"].contains(&key.as_str());
    layers.push(&in_slurm(slurm.into_iter().filter(is_shared).collect()), origin);
    if let Some(defaults) = site.get("defaults").and_then(Value::as_table) {
        layers.push(defaults, &|path| origin(&format!("defaults.{path}")));
    }
    let Some(gpu) = gpu else { return };
    if let Some(mem) = site.get("gpus").and_then(|gpus| gpus.get(gpu)?.get("mem")) {
        let layer = in_slurm(Table::from_iter([("mem".to_owned(), mem.clone())]));
        layers.push(&layer, &|_| origin(&format!("gpus.{gpu}.mem")));
    }
}

/// `[slurm]` of a recipe that does not have it, on nodes of a site with a GPU type.
pub fn slurm_of_site(site: &Site, gpu: Option<&str>) -> Result<Slurm, InputErrors> {
    let wrong = |problem: String| InputErrors::from(InputError::new("the site file", problem));
    let table = Table::try_from(site).map_err(|error| wrong(error.to_string()))?;
    let mut layers = Layers::defaults();
    push_site(&mut layers, &table, gpu, &|_| Origin::Default);
    let (_, mut table, _) = layers.finish()?;
    let slurm = table.remove("slurm").unwrap_or_else(|| Value::Table(Table::new()));
    Slurm::deserialize(slurm).map_err(|error| wrong(error.to_string()))
}

/// A multiple of an offered scale has as many times its replicas.
fn push_replicas(layers: &mut Layers, scale: Scale) {
    if scale.times > 1 {
        let origin = Origin::Flag("--max-scale".into());
        let replicas = layers.integer(&["deploy", "replicas"]).unwrap_or(1);
        let replicas = replicas.saturating_mul(i64::from(scale.times));
        layers.push_one(layer_of("deploy.replicas", replicas.into(), &origin.to_string()), &origin);
    }
}

/// The GPU type: `--gpu`, else the site's, else the recipe's only one.
fn choose_gpu(
    file: &RecipeFile,
    site: &SiteFile,
    requested: Option<&str>,
) -> Result<Option<String>, InputErrors> {
    let in_recipe: Vec<&str> = file.recipe.gpu.keys().map(String::as_str).collect();
    let (gpu, origin) = match (requested, &site.site.gpu, in_recipe.as_slice()) {
        (Some(gpu), ..) => (gpu.to_owned(), "--gpu".to_owned()),
        // A recipe for another type alone does not make these nodes of that type.
        (None, Some(gpu), _) => (gpu.clone(), site.name()),
        (None, None, [only]) => ((*only).to_owned(), file.document.file.clone()),
        (None, None, []) => return Ok(None),
        (None, None, known) => {
            return Err(InputError::new(file.document.at("gpu"), "written for several GPU types")
                .key("gpu")
                .expected(one_of(known, ""))
                .next(format!("choose one: --gpu {}", known[0]))
                .into());
        }
    };
    let known = site.site.gpu_types();
    if let [first, ..] = in_recipe[..] {
        if in_recipe.contains(&gpu.as_str()) {
            return Ok(Some(gpu));
        }
        let source = if requested.is_some() { String::new() } else { format!(" ({origin})") };
        let problem = format!("nothing for GPU type {gpu:?}{source}");
        return Err(InputError::new(file.document.at("gpu"), problem)
            .key(format!("gpu.{gpu}"))
            .expected(one_of(&in_recipe, ""))
            .next(format!("choose --gpu {first}, or add a [gpu.{gpu}] section"))
            .into());
    } else if !known.contains(&gpu) {
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        return Err(InputError::new(&origin, format!("unknown GPU type {gpu:?}"))
            .expected(one_of(&known, ""))
            .next(format!("add [gpus.{gpu}] with per_node to the site file"))
            .suggest(&gpu, &known)
            .into());
    }
    Ok(Some(gpu))
}

fn push_knobs(layers: &mut Layers, file: &RecipeFile, chosen: &Choices) {
    for (name, key) in &file.recipe.knobs {
        let Some(variable) = chosen.variables.get(name) else { continue };
        let origin = variable.origin(name);
        layers.push_one(layers.assignment(key, &variable.value, &origin.to_string()), &origin);
    }
}

/// `--env`: a knob as that knob, anything else as environment of the servers.
fn push_env(layers: &mut Layers, file: &RecipeFile, chosen: &Choices) {
    for (at, (name, value)) in chosen.env.iter().enumerate() {
        let origin = Origin::Env(name.clone());
        let words = origin.to_string();
        let layer = match file.recipe.knobs.get(name) {
            _ if chosen.env[..at].iter().any(|(known, _)| known == name) => {
                Err(InputError::new(words, "given twice").expected("each variable once"))
            }
            Some(key) => layers.assignment(key, value, &words),
            None => variable(name, value, &words),
        };
        layers.push_one(layer, &origin);
    }
}

/// One environment variable of the servers, as a layer of its own.
fn variable(name: &str, value: &str, origin: &str) -> Result<Table, InputError> {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    if !name.starts_with(letter) || !name.chars().all(|c| letter(c) || c.is_ascii_digit()) {
        return Err(InputError::new(origin, format!("{name:?} is no name of an environment variable"))
            .expected("letters, digits and `_`, e.g. --env NCCL_DEBUG=INFO"));
    }
    if ["SBATCH_", "SLURM_"].iter().any(|start| name.starts_with(start)) {
        return Err(InputError::new(origin, "is for Slurm, and --env sets what the servers see")
            .next(format!("put it in front of the command ({name}=… tokmark …), or use --slurm-arg")));
    }
    if value.contains('\0') {
        return Err(InputError::new(origin, "a NUL byte, which no environment variable can hold"));
    }
    layer_of(&format!("deploy.env.{name}"), value.into(), origin)
}

/// The options of a verb that drives the load of an endpoint, as one layer.
fn push_flags(layers: &mut Layers, flags: &[Flag]) {
    let mut all = Table::new();
    for Flag { flag, key, value } in flags {
        match layer_of(key, value.clone(), flag) {
            Ok(layer) => lay(&mut all, &layer),
            Err(error) => layers.push_one(Err(error), &Origin::Flag(flag.clone())),
        }
    }
    layers.push(&all, &|path| {
        let given = flags.iter().rev().find(|given| is_within(path, &given.key));
        given.map_or(Origin::Default, |given| Origin::Flag(given.flag.clone()))
    });
}

fn push_sets(layers: &mut Layers, chosen: &Choices) {
    let mut before: Vec<(String, Table)> = Vec::new();
    for set in chosen.recipe_sets() {
        let origin = format!("--set {set}");
        let layer = match set.split_once('=') {
            Some((key, value)) => assignment(key.trim(), value, &origin),
            None => Err(InputError::new(origin.clone(), "no `=`").expected("--set key=value")),
        };
        layers.push_one(layer.clone(), &Origin::Set);
        if let Some((first, _)) = before.iter().find(|(_, layer)| !layers.hold(layer)) {
            let error = InputError::new(first, format!("{origin} after it would replace it"))
                .expected("one value of a key, and one of the keys that exclude each other")
                .next("leave out one of them; several load points are a list: load.concurrency=[1,2]");
            layers.push_one(Err(error), &Origin::Set);
            return;
        }
        before.extend(layer.ok().map(|layer| (origin, layer)));
    }
}
