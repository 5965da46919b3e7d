//! From a resolved recipe to a [`Plan`], with every mistake found on the way reported at once.

use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use super::container::container;
use super::experiment_name::experiment_name;
use super::job::{Needs, job};
use super::load_points::points;
use super::matrix::{Combination, combination_id, overlay, product};
use super::resolve::Resolved;
use super::{connection, rehearsal, servers};
use crate::document::{InputError, InputErrors, explain_message};
use crate::launcher::Launcher;
use crate::plan::choices::Rehearsal;
use crate::plan::container::host_path;
use crate::plan::{Deployment, Gpu, LoadPoint, Model, Plan, Pool, RecipeText, SCHEMA};
use crate::recipe::find::RecipeFile;
use crate::recipe::{DeploySection, Origin};
use crate::site::SiteFile;

/// What a plan is made from.
pub struct Input<'a> {
    /// The recipe file.
    pub file: &'a RecipeFile,
    /// Its merged form.
    pub resolved: &'a Resolved,
    /// The site.
    pub site: &'a SiteFile,
    /// The engine.
    pub launcher: Launcher,
    /// Folder of the experiments, absolute.
    pub experiments: String,
    /// Version of this tokmark.
    pub version: String,
    /// The engine that stands in for it.
    pub rehearsal: Option<(Launcher, Rehearsal)>,
    /// Share of the load that is driven.
    pub scale_load: Option<f64>,
}

/// Builds the plan.
pub fn build(input: Input<'_>) -> Result<Plan, InputErrors> {
    let recipe = &input.resolved.recipe;
    let mut blame = Blame { input: &input, model_folder: None };
    let gpu = gpu(&input, &blame)?;
    let model = model(&input, &gpu, &blame)?;
    let container = container(&input, &gpu, &blame)?;
    blame.model_folder = model.is_path().then(|| host_path(container.as_ref(), &model.path));
    let mut deployments = deployments(&input, &gpu, &blame)?;
    let (launcher, container) = match &input.rehearsal {
        None => (input.launcher.clone(), container),
        Some((stand_in, rehearsal)) => {
            deployments = rehearsed(&input, (&gpu, &model), &deployments, stand_in, rehearsal)?;
            (stand_in.clone(), None)
        }
    };
    if let Some(share) = input.scale_load.filter(|share| *share < 1.0) {
        deployments
            .iter_mut()
            .flat_map(|deployment| &mut deployment.points)
            .for_each(|point| point.scale(share));
    }
    let nodes = deployments.iter().map(|deployment| deployment.nodes).max().unwrap_or(1);
    let uses_gpus = launcher.roles.iter().any(|role| role.gpus);
    let most_gpus = deployments.iter().flat_map(|d| &d.processes).filter_map(|p| p.gpus.iter().max()).max();
    let needs = Needs {
        name: input.file.name(),
        nodes,
        gpu: &gpu.kind,
        gpus_per_node: if uses_gpus { most_gpus.map_or(gpu.per_node, |last| last + 1) } else { 0 },
    };
    let job = job(&input.site.site, &recipe.slurm, &needs);
    let stem = experiment_name(launcher.options.batch_size.as_deref(), &model, &deployments);
    Ok(Plan {
        schema: SCHEMA,
        tokmark: input.version.clone(),
        name: input.file.name().to_owned(),
        summary: recipe.summary.clone().unwrap_or_default(),
        recipe: RecipeText { file: input.file.document.file.clone(), text: input.file.document.text.clone() },
        resolved: serde_json::to_value(&input.resolved.table).unwrap_or_default(),
        origins: input.resolved.origins.clone(),
        simulated: launcher.simulated,
        container,
        network: input.site.site.network.interface.clone(),
        gpu,
        model,
        experiments: input.experiments.clone(),
        stem,
        job,
        launcher,
        deployments,
        sources: None,
    })
}

/// Names the place a value came from when it is wrong.
pub(super) struct Blame<'a> {
    input: &'a Input<'a>,
    model_folder: Option<String>,
}

impl Blame<'_> {
    pub(super) fn launcher(&self) -> &Launcher {
        &self.input.launcher
    }

    /// Folder of the recipe.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.input.file.folder.as_deref()
    }

    /// Folder of the weights as this host sees it, when they are given by one.
    pub(super) fn model_folder(&self) -> Option<String> {
        self.model_folder.clone()
    }

    pub(super) fn at(&self, key: &str, problem: impl Into<String>) -> InputError {
        self.input.resolved.at(key, problem)
    }

    pub(super) fn locate(&self, error: InputError) -> InputError {
        self.input.resolved.locate(error)
    }
}

fn gpu(input: &Input<'_>, blame: &Blame<'_>) -> Result<Gpu, InputErrors> {
    let uses_gpus = input.launcher.roles.iter().any(|role| role.gpus);
    let Some(kind) = input.resolved.gpu.clone() else {
        if uses_gpus {
            return Err(blame
                .at("gpu", format!("no GPU type chosen, and launcher {:?} needs GPUs", input.launcher.name))
                .expected(format!("one of {}", input.site.site.gpu_types().join(", ")))
                .next("give --gpu TYPE, or set `gpu` in the site file")
                .into());
        }
        return Ok(Gpu { kind: "none".into(), per_node: 0 });
    };
    let Some(per_node) = input.site.site.gpus_per_node(&kind) else {
        return Err(InputError::new(input.site.name(), format!("GPUs of a {kind} node are not known"))
            .key(format!("gpus.{kind}.per_node"))
            .next(format!("add [gpus.{kind}] with per_node = N to the site file"))
            .into());
    };
    Ok(Gpu { kind, per_node })
}

fn model(input: &Input<'_>, gpu: &Gpu, blame: &Blame<'_>) -> Result<Model, InputErrors> {
    let section = &input.resolved.recipe.model;
    let Some(name) = section.name.clone() else {
        return Err(blame.at("model.name", "missing").expected("the model's name").into());
    };
    let site_path = input.site.site.model_path(&gpu.kind, &name).map(str::to_owned);
    let path = section.path.clone().or(site_path).unwrap_or_else(|| name.clone());
    Ok(Model {
        served_name: section.served_name.clone().unwrap_or_else(|| name.clone()),
        name,
        path,
        size: section.size.clone(),
        precision: section.precision.clone(),
        weights_gib: section.weights_gib,
    })
}

impl Model {
    /// Whether its weights are given by a folder, not by a name that the engine looks up.
    pub fn is_path(&self) -> bool {
        ["/", "./", "../", "~"].iter().any(|start| self.path.starts_with(start))
    }
}

pub(super) fn section(input: &Input<'_>, name: &str) -> Table {
    input.resolved.table.get(name).and_then(Value::as_table).cloned().unwrap_or_default()
}

/// Deserialises a section laid over by a combination of axis values.
pub(super) fn typed<T: for<'de> Deserialize<'de>>(
    base: &Table,
    combination: &Combination,
    sweep: &str,
    blame: &Blame<'_>,
) -> Result<T, InputError> {
    let with = |values: &Combination| overlay(base, values, sweep).map_err(|error| blame.locate(error));
    T::deserialize(with(combination)?).map_err(|error| {
        let alone = |value: &&(String, Value)| {
            with(&vec![(*value).clone()]).is_ok_and(|table| T::deserialize(table).is_err())
        };
        let guilty = combination.iter().find(alone).map_or("", |(key, _)| key);
        blame.locate(explain_message(error.message()).key(format!("{sweep}.{guilty}")))
    })
}

fn deployments(input: &Input<'_>, gpu: &Gpu, blame: &Blame<'_>) -> Result<Vec<Deployment>, InputErrors> {
    let recipe = &input.resolved.recipe;
    let base = section(input, "deploy");
    let axes = product(&recipe.sweep.server, "sweep.server").map_err(|error| blame.locate(error))?;
    let points = points(input, recipe, blame)?;
    let mut deployments = Vec::new();
    let mut errors = Vec::new();
    for combination in axes {
        let section: DeploySection = typed(&base, &combination, "sweep.server", blame)?;
        match deployment(input, gpu, blame, &section, combination_id(&combination), points.clone()) {
            Ok(deployment) => deployments.push(deployment),
            Err(mut problems) => errors.append(&mut problems),
        }
    }
    errors.dedup();
    InputErrors::check(errors)?;
    Ok(deployments)
}

fn deployment(
    input: &Input<'_>,
    gpu: &Gpu,
    blame: &Blame<'_>,
    section: &DeploySection,
    id: String,
    points: Vec<LoadPoint>,
) -> Result<Deployment, Vec<InputError>> {
    let mut errors = Vec::new();
    let mut urls = connection::urls(&input.launcher, section, blame, &mut errors).into_iter();
    let connection = connection::connection(&section.connection, blame, &mut errors);
    errors.extend(servers::written_secrets(section, blame));
    errors.extend(secrets_of_site(input));
    let servers = match servers::servers(section, &input.site.site.env, gpu, blame) {
        Ok(servers) if errors.is_empty() => servers,
        Ok(_) => return Err(errors),
        Err(more) => return Err(errors.into_iter().chain(more).collect()),
    };
    let mut env = input.site.site.env.clone();
    env.extend(section.env.clone());
    let seconds =
        |span: Option<crate::recipe::units::Span>, default| span.map_or(default, |span| span.seconds());
    Ok(Deployment {
        id,
        gpus: if knows_gpus(input) {
            servers.pools.iter().map(Pool::gpus).fold(0, u32::saturating_add)
        } else {
            0
        },
        parallel: servers.parallel,
        engine: json_map(&section.engine),
        env,
        pools: servers.pools,
        settings: servers.settings,
        prefix: section.prefix.clone().unwrap_or_default(),
        port: section.port,
        url: urls.next(),
        more_urls: urls.collect(),
        connection,
        startup_timeout_s: seconds(section.startup_timeout, 1800.0),
        progress_timeout_s: seconds(section.progress_timeout, 600.0),
        stop_grace_s: seconds(section.stop_grace, 20.0),
        nodes: servers.layout.nodes,
        server_nodes: servers.layout.server_nodes,
        processes: servers.layout.processes,
        points,
    })
}

/// The same deployments on an engine that stands in for theirs.
fn rehearsed(
    input: &Input<'_>,
    (gpu, model): (&Gpu, &Model),
    real: &[Deployment],
    stand_in: &Launcher,
    rehearsal: &Rehearsal,
) -> Result<Vec<Deployment>, InputErrors> {
    let input = Input {
        launcher: stand_in.clone(),
        experiments: input.experiments.clone(),
        version: input.version.clone(),
        rehearsal: None,
        ..*input
    };
    let blame = Blame { input: &input, model_folder: None };
    let Some(how) = &stand_in.stand_in else {
        return Err(blame
            .at("deploy.launcher", format!("launcher {:?} stands in for none", stand_in.name))
            .into());
    };
    let one = |real: &Deployment| {
        let section = rehearsal::section(real, (&gpu.kind, &model.name), how, rehearsal)
            .map_err(|error| vec![error])?;
        deployment(&input, gpu, &blame, &section, real.id.clone(), rehearsal::points(real))
    };
    real.iter().map(one).collect::<Result<_, _>>().map_err(InputErrors)
}

/// Whether anybody says how large the deployment is. Of an endpoint that runs elsewhere only the user can.
fn knows_gpus(input: &Input<'_>) -> bool {
    let said = |key: &&str| {
        let origin = input.resolved.origins.get(&format!("deploy.{key}"));
        origin.is_some_and(|origin| *origin != Origin::Default)
            || input.resolved.recipe.sweep.server.contains_key(*key)
    };
    input.launcher.endpoint.url.is_none() || ["tp", "pp", "dp", "replicas"].iter().any(said)
}

/// Secrets written out in the site file.
fn secrets_of_site(input: &Input<'_>) -> Vec<InputError> {
    let written = input.site.site.env.iter().filter(|(name, value)| servers::is_written(name, value));
    written
        .map(|(name, _)| {
            InputError::new(input.site.name(), servers::WRITTEN)
                .key(format!("env.{name}"))
                .expected(servers::by_reference(name))
        })
        .collect()
}

pub(super) fn json_map(table: &Table) -> serde_json::Map<String, serde_json::Value> {
    match serde_json::to_value(table) {
        Ok(serde_json::Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    }
}
