//! From a resolved recipe to a [`Plan`], with every mistake found on the way reported at once.
//!
//! Arrow: `resolve`, `matrix`, `topology`, `job` → here → `commands`.

use serde::Deserialize;
use toml::{Table, Value};

use super::job::{Job, Needs};
use super::matrix::{combination_id, file_safe, overlay, product};
use super::resolve::Resolved;
use super::{
    Arrival, Container, Deployment, Endpoint, Gpu, Length, LoadPoint, Model, Parallel, Plan, RecipeText,
    SCHEMA, Slo, Stop, point_id, topology,
};
use crate::document::{InputError, InputErrors, explain_message, nearest};
use crate::launcher::Launcher;
use crate::recipe::find::RecipeFile;
use crate::recipe::units::OneOrMany;
use crate::recipe::{DeploySection, LoadSection, Recipe, secret};
use crate::site::{ContainerRuntime, SiteFile};

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
}

/// Builds the plan.
pub fn build(input: Input<'_>) -> Result<Plan, InputErrors> {
    let recipe = &input.resolved.recipe;
    let blame = Blame { input: &input };
    let gpu = gpu(&input, &blame)?;
    let model = model(&input, &gpu, &blame)?;
    let deployments = deployments(&input, &gpu, &blame)?;
    let nodes = deployments.iter().map(|deployment| deployment.nodes).max().unwrap_or(1);
    let uses_gpus = input.launcher.roles.iter().any(|role| role.gpus);
    let most_gpus = deployments.iter().flat_map(|d| &d.processes).filter_map(|p| p.gpus.iter().max()).max();
    let needs = Needs {
        name: input.file.name(),
        nodes,
        gpu: &gpu.kind,
        gpus_per_node: if uses_gpus { most_gpus.map_or(gpu.per_node, |last| last + 1) } else { 0 },
    };
    let job = Job::new(&input.site.site, &recipe.slurm, &needs);
    let stem = stem(&input, &model, &deployments);
    Ok(Plan {
        schema: SCHEMA,
        tokmark: input.version.clone(),
        name: input.file.name().to_owned(),
        summary: recipe.summary.clone().unwrap_or_default(),
        recipe: RecipeText { file: input.file.document.file.clone(), text: input.file.document.text.clone() },
        resolved: serde_json::to_value(&input.resolved.table).unwrap_or_default(),
        origins: input.resolved.origins.clone(),
        simulated: input.launcher.simulated,
        container: container(&input, &gpu, &blame)?,
        gpu,
        model,
        experiments: input.experiments.clone(),
        stem,
        job,
        launcher: input.launcher,
        deployments,
    })
}

/// Names the place a value came from when it is wrong.
struct Blame<'a> {
    input: &'a Input<'a>,
}

impl Blame<'_> {
    fn at(&self, key: &str, problem: impl Into<String>) -> InputError {
        let origin = self.input.resolved.origins.get(key);
        let origin = origin.map_or(self.input.file.document.file.as_str(), String::as_str);
        InputError::new(origin, problem).key(key)
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

fn container(input: &Input<'_>, gpu: &Gpu, blame: &Blame<'_>) -> Result<Option<Container>, InputErrors> {
    let site = &input.site.site;
    if site.container.runtime == ContainerRuntime::None || input.launcher.roles.iter().all(|role| role.bare) {
        return Ok(None);
    }
    let Some(image) = input.resolved.recipe.container.image.clone() else {
        return Err(blame
            .at(
                "container.image",
                format!(
                    "the site runs servers in {:?} containers, and no image is named",
                    site.container.runtime
                ),
            )
            .next(format!(
                "add image to [gpu.{}.container] of the recipe, or set container.runtime = \"none\" in {}",
                gpu.kind,
                input.site.name()
            ))
            .into());
    };
    let image = site.gpus.get(&gpu.kind).and_then(|known| known.images.get(&image)).cloned().unwrap_or(image);
    Ok(Some(Container { runtime: site.container.runtime, image, mounts: site.container.mounts.clone() }))
}

fn section(input: &Input<'_>, name: &str) -> Table {
    input.resolved.table.get(name).and_then(Value::as_table).cloned().unwrap_or_default()
}

/// Deserialises a section laid over by a combination of axis values.
fn typed<T: for<'de> Deserialize<'de>>(
    table: Table,
    sweep: &str,
    input: &Input<'_>,
) -> Result<T, InputError> {
    T::deserialize(table).map_err(|error| {
        let mut explained = explain_message(error.message()).key(sweep);
        explained.origin.clone_from(&input.file.document.file);
        explained
    })
}

fn deployments(input: &Input<'_>, gpu: &Gpu, blame: &Blame<'_>) -> Result<Vec<Deployment>, InputErrors> {
    let recipe = &input.resolved.recipe;
    let origin = &input.file.document.file;
    let points = points(input, recipe, blame)?;
    let mut deployments = Vec::new();
    let mut errors = Vec::new();
    for combination in product(&recipe.sweep.server, "sweep.server", origin)? {
        let table = overlay(&section(input, "deploy"), &combination, "sweep.server", origin)?;
        let section: DeploySection = typed(table, "sweep.server", input)?;
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
    let launcher = &input.launcher;
    let mut errors = Vec::new();
    let mut size = |key: &str, value: Option<u32>| {
        let value = value.unwrap_or(1);
        if value == 0 {
            errors.push(blame.at(&format!("deploy.{key}"), "found 0").expected("1 or more"));
        }
        value.max(1)
    };
    let parallel = Parallel {
        tp: size("tp", section.tp),
        pp: size("pp", section.pp),
        dp: size("dp", section.dp),
        ep: size("ep", section.ep),
        attention_dp: section.attention_dp.unwrap_or(false),
        replicas: size("replicas", section.replicas),
    };
    if parallel.replicas > launcher.max_replicas {
        errors.push(blame.at("deploy.replicas", format!("found {}", parallel.replicas)).expected(format!(
            "at most {}: launcher {:?} has no router",
            launcher.max_replicas, launcher.name
        )));
    }
    errors.extend(unknown_options(launcher, section, blame));
    if launcher.endpoint.url.is_some() && section.url.is_none() {
        errors.push(
            blame
                .at("deploy.url", "missing")
                .expected("the URL of the endpoint, e.g. http://127.0.0.1:8000")
                .next("add it to the recipe, or give --set deploy.url=URL"),
        );
    }
    if let Some(url) = &section.url
        && reqwest::Url::parse(url).is_err()
    {
        errors.push(
            blame.at("deploy.url", format!("found {url:?}")).expected("a URL such as http://host:8000"),
        );
    }
    let mut env = input.site.site.env.clone();
    env.extend(section.env.clone());
    for (name, value) in &env {
        if secret::is_secret_name(name) && !secret::is_reference(value) {
            let key = format!("deploy.env.{name}");
            let written = "a secret written out; it would end up in scripts and results";
            let error = if section.env.contains_key(name) {
                blame.at(&key, written)
            } else {
                InputError::new(input.site.name(), written).key(format!("env.{name}"))
            };
            errors.push(error.expected(format!("a reference such as \"env:{name}\" or \"file:/path\"")));
        }
    }
    let layout = topology::lay_out(launcher, &parallel, gpu);
    let (nodes, processes) = match layout {
        Ok(layout) => layout,
        Err(problem) => {
            errors.push(
                blame
                    .at("deploy.tp", problem)
                    .next("lower tp, pp or dp, or choose a launcher that spans nodes"),
            );
            (1, Vec::new())
        }
    };
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Deployment {
        id,
        gpus: parallel.gpus_per_replica().saturating_mul(parallel.replicas),
        parallel,
        engine: json_map(&section.engine),
        env,
        port: section.port,
        url: section.url.clone(),
        startup_timeout_s: section.startup_timeout.map_or(1800.0, |span| span.seconds()),
        stop_grace_s: section.stop_grace.map_or(20.0, |span| span.seconds()),
        nodes,
        processes,
        points,
    })
}

/// Engine options a launcher's templates would silently ignore.
fn unknown_options(launcher: &Launcher, section: &DeploySection, blame: &Blame<'_>) -> Vec<InputError> {
    let takes_flags = launcher
        .roles
        .iter()
        .flat_map(|role| &role.argv)
        .any(|arg| matches!(arg, crate::launcher::Arg::Options { .. }));
    if takes_flags {
        return Vec::new();
    }
    let known = &launcher.options.known;
    let unknown = section.engine.keys().filter(|key| !known.contains(key));
    unknown
        .map(|key| {
            let error = blame.at(
                &format!("deploy.engine.{key}"),
                format!("launcher {:?} has no such option", launcher.name),
            );
            let error = if known.is_empty() {
                error.expected("no engine options")
            } else {
                error.expected(format!("one of {}", known.join(", ")))
            };
            match nearest(key, known.iter().map(String::as_str)) {
                Some(near) => error.next(format!("did you mean `{near}`?")),
                None => error,
            }
        })
        .collect()
}

fn json_map(table: &Table) -> serde_json::Map<String, serde_json::Value> {
    match serde_json::to_value(table) {
        Ok(serde_json::Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    }
}

/// Load points: every list of lengths and concurrencies, and every axis of `[sweep.load]`.
fn points(input: &Input<'_>, recipe: &Recipe, blame: &Blame<'_>) -> Result<Vec<LoadPoint>, InputErrors> {
    let origin = &input.file.document.file;
    let mut axes = Table::new();
    let mut list = |key: &str, value: &Option<OneOrMany>| {
        let values =
            value.iter().flat_map(|many| many.0.iter().map(|n| Value::Integer(i64::from(*n)))).collect();
        if value.is_some() {
            axes.insert(key.into(), Value::Array(values));
        }
    };
    list("isl", &recipe.load.isl);
    list("osl", &recipe.load.osl);
    let mut extra = recipe.sweep.load.clone();
    list("concurrency", &recipe.load.concurrency);
    for key in ["isl", "osl", "concurrency"] {
        if let Some(values) = extra.remove(key) {
            axes.insert(key.into(), values);
        }
    }
    let concurrency = axes.remove("concurrency");
    axes.extend(extra.clone());
    if let Some(values) = concurrency {
        axes.insert("concurrency".into(), values);
    }
    let mut points: Vec<LoadPoint> = Vec::new();
    for combination in product(&axes, "sweep.load", origin)? {
        let table = overlay(&section(input, "load"), &combination, "sweep.load", origin)?;
        let load: LoadSection = typed(table, "sweep.load", input)?;
        let others = combination.into_iter().filter(|(key, _)| extra.contains_key(key)).collect();
        let suffix = combination_id(&others);
        let mut point = point(&load, blame)?;
        if !suffix.is_empty() {
            point.id = format!("{}_{suffix}", point.id);
        }
        if points.iter().any(|known| known.id == point.id) {
            return Err(InputError::new(origin, format!("the load point {} occurs twice", point.id))
                .key("load")
                .next("remove the repeated value from its list")
                .into());
        }
        points.push(point);
    }
    Ok(points)
}

fn point(load: &LoadSection, blame: &Blame<'_>) -> Result<LoadPoint, InputErrors> {
    let mut errors = Vec::new();
    let mut number = |key: &str, value: &Option<OneOrMany>| match value.as_ref().map(|many| many.0.as_slice())
    {
        Some([one]) => *one,
        _ => {
            errors.push(
                blame.at(&format!("load.{key}"), "missing").expected("a number of tokens, or a list of them"),
            );
            1
        }
    };
    let (isl, osl) = (number("isl", &load.isl), number("osl", &load.osl));
    let concurrency = number("concurrency", &load.concurrency);
    let stop = match (load.requests, load.requests_per_concurrency, load.duration) {
        (Some(requests), ..) => Stop::Requests(requests),
        (None, _, Some(span)) => Stop::DurationS(span.seconds()),
        (None, per, None) => Stop::Requests(u64::from(per.unwrap_or(8)) * u64::from(concurrency)),
    };
    let empty = match stop {
        Stop::Requests(requests) => requests == 0,
        Stop::DurationS(seconds) => seconds <= 0.0,
    };
    if empty {
        errors
            .push(blame.at("load.requests", "the load point sends nothing").expected("at least one request"));
    }
    let warmup_requests = load
        .warmup_per_concurrency
        .map_or(load.warmup_requests.unwrap_or(0), |per| u64::from(per) * u64::from(concurrency));
    InputErrors::check(errors)?;
    let isl = Length { mean: isl, stddev: load.isl_stddev.unwrap_or(0) };
    let osl = Length { mean: osl, stddev: load.osl_stddev.unwrap_or(0) };
    Ok(LoadPoint {
        id: point_id(isl, osl, concurrency),
        isl,
        osl,
        arrival: Arrival::Closed { concurrency },
        stop,
        warmup_requests,
        endpoint: load.endpoint.unwrap_or(Endpoint::Chat),
        streaming: load.streaming.unwrap_or(true),
        ignore_eos: load.ignore_eos.unwrap_or(true),
        seed: load.seed.unwrap_or(0),
        slo: Slo {
            ttft_ms: load.slo.ttft.map(|span| span.millis()),
            itl_ms: load.slo.itl.map(|span| span.millis()),
            e2e_ms: load.slo.e2e.map(|span| span.millis()),
        },
        request_timeout_s: load.request_timeout.map_or(600.0, |span| span.seconds()),
        stall_timeout_s: load.stall_timeout.map_or(120.0, |span| span.seconds()),
        extra_body: json_map(&load.extra_body),
    })
}

/// `<model>_<isl>_<osl>_<max_batch_size>_<concurrency>`; an axis is written `1-2048`.
fn stem(input: &Input<'_>, model: &Model, deployments: &[Deployment]) -> String {
    let points = || deployments.iter().flat_map(|deployment| &deployment.points);
    let batch = input.launcher.options.batch_size.as_deref().map_or_else(
        || "auto".to_owned(),
        |option| {
            let sizes = deployments.iter().map(|deployment| {
                let dashed = option.replace('_', "-");
                deployment
                    .engine
                    .get(option)
                    .or_else(|| deployment.engine.get(&dashed))
                    .and_then(serde_json::Value::as_u64)
            });
            let sizes: Option<Vec<u64>> = sizes.collect();
            sizes.map_or_else(|| "auto".to_owned(), |sizes| range(sizes.into_iter()))
        },
    );
    format!(
        "{}_{}_{}_{batch}_{}",
        file_safe(model.name.rsplit('/').next().unwrap_or(&model.name)),
        range(points().map(|point| u64::from(point.isl.mean))),
        range(points().map(|point| u64::from(point.osl.mean))),
        range(points().map(|point| u64::from(point.concurrency()))),
    )
}

fn range(values: impl Iterator<Item = u64> + Clone) -> String {
    match (values.clone().min(), values.max()) {
        (Some(low), Some(high)) if low == high => low.to_string(),
        (Some(low), Some(high)) => format!("{low}-{high}"),
        _ => "none".into(),
    }
}
