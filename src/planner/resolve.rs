//! Which layers apply, in which order: defaults < site < recipe < GPU section < scale section < sbatch's variables <
//! knobs < `--env` < a verb's own options < `--set`.
//!
//! Environment variables were read before, into [`Choices`].

use toml::Table;

use super::sbatch_env;
use crate::document::{Document, InputError, InputErrors, nearest};
use crate::plan::choices::{Choices, Flag, Scale};
use crate::recipe::find::RecipeFile;
use crate::recipe::layers::{Layers, assignment, lay, layer_of};
use crate::recipe::{Origin, Origins, Recipe};
use crate::site::SiteFile;

/// A recipe with all layers merged.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The merged recipe.
    pub recipe: Recipe,
    /// The same as plain tables.
    pub table: Table,
    /// Source of each value, by dotted key.
    pub origins: Origins,
    /// The chosen GPU type.
    pub gpu: Option<String>,
    /// The recipe file, whose lines name the items of a list.
    pub document: Document,
}

impl Resolved {
    /// Name of the launcher.
    pub fn launcher(&self) -> &str {
        self.recipe.deploy.launcher.as_deref().unwrap_or_default()
    }

    /// An error about the value of a key, with the place that the value comes from.
    pub fn at(&self, key: &str, problem: impl Into<String>) -> InputError {
        self.locate(InputError::new("", problem).key(key))
    }

    /// Adds to an error the place that the value of its key comes from. An axis of the load may be a list in `[load]` itself.
    pub fn locate(&self, mut error: InputError) -> InputError {
        let mut key = error.key.take().unwrap_or_default();
        let in_load = key.strip_prefix("sweep.").filter(|plain| self.origins.contains_key(*plain));
        if let (false, Some(plain)) = (self.origins.contains_key(&key), in_load) {
            key = plain.to_owned();
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
        let within = |known: &str| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
        // A value inside is not the key itself: its file is right, its line is not.
        self.origins.iter().find(|(known, _)| within(known)).map(|(_, origin)| match origin {
            Origin::File { file, .. } => Origin::File { file: file.clone(), line: None },
            other => other.clone(),
        })
    }
}

/// Sections that are laid over the recipe when they are chosen.
const CHOSEN: [&str; 2] = ["gpu", "scale"];

/// Merges the layers of `file` for `site` and what was chosen.
pub fn resolve(file: &RecipeFile, site: &SiteFile, chosen: &Choices) -> Result<Resolved, InputErrors> {
    let gpu = choose_gpu(file, site, chosen.gpu.as_deref())?;
    let mut layers = Layers::defaults()?;
    if let Some(document) = &site.document {
        let lines = document.lines();
        let table = document.table()?;
        let mut lay = |layer: &Table, prefix: &str| {
            layers.push(layer, &|path| Origin::in_file(&document.file, &lines, &format!("{prefix}{path}")));
        };
        lay(&resources(&table), "");
        if let Some(defaults) = table.get("defaults").and_then(toml::Value::as_table) {
            lay(defaults, "defaults.");
        }
        let of_gpu = gpu.as_ref().and_then(|gpu| table.get("gpus")?.get(gpu)?.get("mem"));
        if let (Some(mem), Some(gpu)) = (of_gpu, &gpu) {
            let layer = Table::from_iter([("mem".to_owned(), mem.clone())]);
            let layer = Table::from_iter([("slurm".to_owned(), toml::Value::Table(layer))]);
            layers.push(&layer, &|_| Origin::in_file(&document.file, &lines, &format!("gpus.{gpu}.mem")));
        }
    }
    let lines = file.document.lines();
    let table = file.document.table()?;
    let common: Table = table
        .iter()
        .filter(|(key, _)| !CHOSEN.contains(&key.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    layers.push(&common, &|path| Origin::in_file(&file.document.file, &lines, path));
    let mut lay_over = |kind: &str, name: &str| {
        let section = table.get(kind).and_then(|sections| sections.get(name)).and_then(toml::Value::as_table);
        if let Some(section) = section {
            layers.push(section, &|path| {
                Origin::in_file(&file.document.file, &lines, &format!("{kind}.{name}.{path}"))
            });
        }
    };
    if let Some(gpu) = &gpu {
        lay_over("gpu", gpu);
    }
    if let Some(scale) = chosen.scale {
        lay_over("scale", &scale.gpus.to_string());
        push_replicas(&mut layers, scale)?;
    }
    let (of_sbatch, mut errors) = sbatch_env::layers(chosen);
    for (layer, origin) in of_sbatch {
        layers.push(&layer, &|_| origin.clone());
    }
    push_knobs(&mut layers, file, chosen, &mut errors);
    push_env(&mut layers, file, chosen, &mut errors);
    push_flags(&mut layers, &chosen.flags, &mut errors);
    push_sets(&mut layers, chosen.recipe_sets(), &mut errors);
    InputErrors::check(errors)?;
    let (recipe, table, origins) = layers.finish()?;
    Ok(Resolved { recipe, table, origins, gpu, document: file.document.clone() })
}

/// A multiple of an offered scale has as many times its replicas.
fn push_replicas(layers: &mut Layers, scale: Scale) -> Result<(), InputErrors> {
    if scale.times > 1 {
        let each = layers.integer(&["deploy", "replicas"]).unwrap_or(1);
        let replicas = each.saturating_mul(i64::from(scale.times)).to_string();
        layers.push(&assignment("deploy.replicas", &replicas, "--max-scale")?, &|_| {
            Origin::Flag("--max-scale".into())
        });
    }
    Ok(())
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
        // A recipe for another type alone does not make these nodes of that type.
        (None, Some(gpu), _) => (gpu.clone(), site.name()),
        (None, None, [only]) => ((*only).to_owned(), file.document.file.clone()),
        (None, None, []) => return Ok(None),
        (None, None, known) => {
            return Err(InputError::new(file.document.at("gpu"), "written for several GPU types")
                .key("gpu")
                .expected(format!("one of {}", known.join(", ")))
                .next(format!("choose one: --gpu {}", known[0]))
                .into());
        }
    };
    if !in_recipe.is_empty() && !in_recipe.contains(&gpu.as_str()) {
        let source = if asked.is_some() { String::new() } else { format!(" ({origin})") };
        return Err(InputError::new(
            file.document.at("gpu"),
            format!("nothing for GPU type {gpu:?}{source}"),
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

fn push_knobs(layers: &mut Layers, file: &RecipeFile, chosen: &Choices, errors: &mut Vec<InputError>) {
    for (name, key) in &file.recipe.knobs {
        let Some(seen) = chosen.variables.get(name) else { continue };
        let origin = seen.origin(name);
        match layers.assignment(key, &seen.value, &origin.to_string()) {
            Ok(layer) => layers.push(&layer, &|_| origin.clone()),
            Err(error) => errors.push(error),
        }
    }
}

/// `--env`: a knob as that knob, anything else as environment of the servers.
fn push_env(layers: &mut Layers, file: &RecipeFile, chosen: &Choices, errors: &mut Vec<InputError>) {
    for (at, (name, value)) in chosen.env.iter().enumerate() {
        let origin = Origin::Env(name.clone());
        let words = origin.to_string();
        if chosen.env[..at].iter().any(|(known, _)| known == name) {
            errors.push(InputError::new(words, "given twice").expected("each variable once"));
            continue;
        }
        let layer = match file.recipe.knobs.get(name) {
            Some(key) => layers.assignment(key, value, &words),
            None => variable(name, value, &words),
        };
        match layer {
            Ok(layer) => layers.push(&layer, &|_| origin.clone()),
            Err(error) => errors.push(error),
        }
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
    let env = Table::from_iter([(name.to_owned(), toml::Value::String(value.to_owned()))]);
    let deploy = Table::from_iter([("env".to_owned(), toml::Value::Table(env))]);
    Ok(Table::from_iter([("deploy".to_owned(), toml::Value::Table(deploy))]))
}

/// The options of a verb that drives the load of an endpoint, as one layer.
fn push_flags(layers: &mut Layers, flags: &[Flag], errors: &mut Vec<InputError>) {
    let mut all = Table::new();
    for Flag { flag, key, value } in flags {
        match layer_of(key, value.clone(), flag) {
            Ok(layer) => lay(&mut all, &layer),
            Err(error) => errors.push(error),
        }
    }
    let below = |key: &str, path: &str| {
        path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    layers.push(&all, &|path| {
        let given = flags.iter().rev().find(|given| below(&given.key, path));
        given.map_or(Origin::Default, |given| Origin::Flag(given.flag.clone()))
    });
}

fn push_sets<'a>(layers: &mut Layers, sets: impl Iterator<Item = &'a String>, errors: &mut Vec<InputError>) {
    for set in sets {
        let origin = format!("--set {set}");
        let Some((key, value)) = set.split_once('=') else {
            errors.push(InputError::new(origin, "no `=`").expected("--set key=value"));
            continue;
        };
        match assignment(key.trim(), value, &origin) {
            Ok(layer) => layers.push(&layer, &|_| Origin::Set),
            Err(error) => errors.push(error),
        }
    }
}
