//! The deployments of a plan: every combination of server axes, on the recipe's engine or on the one that stands in for it.

use serde_json::{Map, Value};
use toml::Table;

use super::layout::lay_out;
use super::load_points::load_points;
use super::matrix::{Combination, combination_id, product};
use super::parsed::{Mistakes, Parsed};
use super::sections::{Deploy, PoolKeys};
use super::{connection, engine_options, rehearsal, repeats, secrets, speculation};
use crate::document::{InputError, InputErrors, one_of};
use crate::launcher::{Launcher, PoolName};
use crate::plan::{AxisValue, Deployment, LoadPoint, Model, Parallel, Pool};
use crate::recipe::Origin;
use crate::recipe::layers::is_same_option;

pub(super) fn deployments(
    parsed: &Parsed<'_>,
    model: &Model,
    model_folder: Option<String>,
) -> Result<Vec<Deployment>, InputErrors> {
    let axes = &parsed.resolved.recipe.sweep.server;
    let combinations = product(axes, "sweep.server").map_err(|error| parsed.resolved.locate(error))?;
    let points = repeats::expand(load_points(parsed, model_folder.as_deref())?, parsed)?;
    let (mut deployments, mut errors) = (Vec::new(), Vec::new());
    for (number, combination) in (0..).zip(combinations) {
        let (_, section) = parsed.section("deploy", "sweep.server", &combination)?;
        match deployment(parsed, model, section, points.clone()) {
            Ok(deployment) => {
                let id = combination_id(&combination);
                let mut deployment = Deployment { id, axes: axis_values(combination), ..deployment };
                repeats::shuffle(&mut deployment, number);
                deployments.push(deployment);
            }
            Err(more) => errors.extend(more),
        }
    }
    InputErrors::check(errors)?;
    Ok(deployments)
}

fn deployment(
    parsed: &Parsed<'_>,
    model: &Model,
    section: Deploy,
    mut points: Vec<LoadPoint>,
) -> Result<Deployment, Vec<InputError>> {
    let mut mistakes = Mistakes::of(parsed, "deploy");
    connection::check(&section, &points, &mut mistakes);
    secrets::check(&section, &mut mistakes);
    let mut deployment = servers(section, parsed.launcher(), &points, mistakes)?;
    if let Some(stand_in) = &parsed.input.stand_in {
        let section = rehearsal::section(&deployment.pools, &points, parsed, model, &stand_in.launcher)
            .map_err(|error| vec![error])?;
        deployment = servers(section, &stand_in.launcher, &points, Mistakes::of(parsed, "deploy"))
            .map_err(|errors| rehearsal::blame_sets(errors, &parsed.input.choices))?;
        points.iter_mut().for_each(rehearsal::count_words);
    }
    if let Some(share) = parsed.input.choices.scale_load.filter(|share| *share < 1.0) {
        let speed =
            parsed.input.stand_in.as_ref().and_then(|_| parsed.input.choices.set("deploy.engine.speed"));
        let speed = speed.and_then(|speed| speed.parse().ok()).filter(|speed| *speed > 0.0).unwrap_or(1.0);
        points.iter_mut().for_each(|point| point.scale(share, speed));
    }
    if parsed.input.stand_in.is_some() {
        // Its figures are no result, however much of the load it drives.
        points.iter_mut().for_each(|point| point.scaled = point.scaled.or(Some(1.0)));
    }
    Ok(Deployment { points, ..deployment })
}

fn axis_values(combination: Combination) -> Vec<AxisValue> {
    let json = |value: toml::Value| serde_json::to_value(value).unwrap_or_default();
    combination.into_iter().map(|(key, value)| AxisValue { key, value: json(value) }).collect()
}

/// The deployment of `[deploy]` on a launcher, without name and load points; or all mistakes, those found before included.
fn servers(
    mut section: Deploy,
    launcher: &Launcher,
    points: &[LoadPoint],
    mut mistakes: Mistakes<'_>,
) -> Result<Deployment, Vec<InputError>> {
    let parsed = mistakes.parsed;
    speculation::expand(&mut section, launcher, &mut mistakes);
    let mut env = parsed.site.site.env.clone();
    env.extend(section.env.clone());
    let Deploy { tp, pp, dp, ep, attention_dp, replicas, .. } = section;
    let parallel = checked("", Parallel { tp, pp, dp, ep, attention_dp, replicas }, &mut mistakes);
    let whole = Pool { name: PoolName::Aggregated, parallel, engine: json_map(&section.engine), env };
    let pools = pools(&section, launcher, &whole, &mut mistakes);
    for pool in &pools {
        let (prefix, replicas) = (pool.name.prefix(), pool.parallel.replicas);
        if replicas > launcher.max_replicas {
            let most =
                format!("at most {} replicas behind launcher {:?}", launcher.max_replicas, launcher.name);
            mistakes.add(&format!("{prefix}replicas"), format!("found {replicas}"), most);
        }
        let missing = launcher.options.needed.iter().filter(|option| !pool.engine.contains_key(*option));
        let missing = missing.map(|option| {
            let problem = format!("missing, and launcher {:?} needs it", launcher.name);
            mistakes.at(&format!("{prefix}engine.{option}"), problem)
        });
        let missing: Vec<InputError> = missing.collect();
        mistakes.found.extend(missing);
    }
    engine_options::check(&section, launcher, &mut mistakes);
    engine_options::check_context(launcher, &section, &pools, points, &mut mistakes);
    let settings = settings(launcher, &section.settings, &mut mistakes);
    if !mistakes.found.is_empty() {
        return Err(mistakes.found);
    }
    let gpus = pools.iter().map(Pool::gpus).fold(0, u32::saturating_add);
    let speculates = section.speculation.clone().unwrap_or_default();
    let mut each = pools
        .iter()
        .rev()
        .filter_map(|pool| speculation::known(launcher, &speculates, &pool.engine, &pool.env));
    let speculation = each.next();
    let mut urls = section.url.iter().flat_map(|urls| urls.0.clone());
    let mut deployment = Deployment {
        id: String::new(),
        axes: Vec::new(),
        gpus: if knows_gpus(parsed) { gpus } else { 0 },
        parallel,
        engine: whole.engine,
        speculation,
        env: whole.env,
        pools,
        settings,
        prefix: section.prefix.clone(),
        port: section.port,
        url: urls.next(),
        more_urls: urls.collect(),
        metrics_urls: section.metrics_url.iter().flat_map(|urls| urls.0.clone()).collect(),
        connection: section.connection.clone(),
        startup_timeout_s: section.startup_timeout.seconds(),
        progress_timeout_s: section.progress_timeout.seconds(),
        stop_grace_s: section.stop_grace.seconds(),
        nodes: 1,
        server_nodes: 1,
        processes: Vec::new(),
        points: Vec::new(),
        order: Vec::new(),
    };
    lay_out(&mut deployment, &section, launcher, &parsed.gpu)
        .map_err(|error| vec![parsed.resolved.locate(error)])?;
    Ok(deployment)
}

/// Whether the number of GPUs is known. That of an endpoint that runs elsewhere is known only to the user.
fn knows_gpus(parsed: &Parsed<'_>) -> bool {
    let is_given = |key: &&str| {
        let origin = parsed.resolved.origins.get(&format!("deploy.{key}"));
        origin.is_some_and(|origin| *origin != Origin::Default)
            || parsed.resolved.recipe.sweep.server.contains_key(*key)
    };
    parsed.input.engine().launcher.endpoint.url.is_none()
        || ["tp", "pp", "dp", "replicas"].iter().any(is_given)
}

/// `parallel` with sizes of at least 1: a 0 is a mistake.
fn checked(prefix: &str, mut parallel: Parallel, mistakes: &mut Mistakes<'_>) -> Parallel {
    let Parallel { tp, pp, dp, ep, replicas, .. } = &mut parallel;
    for (key, size) in [("tp", tp), ("pp", pp), ("dp", dp), ("ep", ep), ("replicas", replicas)] {
        if *size == 0 {
            mistakes.add(&format!("{prefix}{key}"), "found 0", "1 or more");
            *size = 1;
        }
    }
    parallel
}

/// One pool, the `whole` deployment, or prefill and decode.
fn pools(section: &Deploy, launcher: &Launcher, whole: &Pool, mistakes: &mut Mistakes<'_>) -> Vec<Pool> {
    let both = "both, or neither for aggregated serving";
    match (&section.prefill, &section.decode) {
        (None, None) => return vec![whole.clone()],
        (Some(_), None) => mistakes.add("prefill", "without [deploy.decode]", both),
        (None, Some(_)) => mistakes.add("decode", "without [deploy.prefill]", both),
        (Some(_), Some(_)) if launcher.disaggregates() => {}
        (Some(_), Some(_)) => {
            let problem = format!("launcher {:?} does not serve prefill and decode apart", launcher.name);
            let next = "leave out [deploy.prefill] and [deploy.decode], or choose a launcher that does";
            let error = mistakes.at("prefill", problem).next(next);
            mistakes.found.push(error);
        }
    }
    if whole.parallel.replicas > 1 {
        let found = format!("found {} beside prefill and decode", whole.parallel.replicas);
        mistakes.add("replicas", found, "deploy.prefill.replicas and deploy.decode.replicas");
    }
    let mut pool = |name: PoolName, keys: &PoolKeys| {
        let mut pool = Pool { name, ..whole.clone() };
        pool.engine.retain(|key, _| !keys.engine.keys().any(|own| is_same_option(own, key)));
        pool.engine.extend(json_map(&keys.engine));
        pool.env.extend(keys.env.clone());
        let sizes = Parallel {
            tp: keys.tp.unwrap_or(whole.parallel.tp),
            pp: keys.pp.unwrap_or(whole.parallel.pp),
            dp: keys.dp.unwrap_or(whole.parallel.dp),
            ep: keys.ep.unwrap_or(whole.parallel.ep),
            attention_dp: keys.attention_dp.unwrap_or(whole.parallel.attention_dp),
            replicas: keys.replicas,
        };
        Pool { parallel: checked(name.prefix(), sizes, mistakes), ..pool }
    };
    let given = [(PoolName::Prefill, &section.prefill), (PoolName::Decode, &section.decode)];
    given.into_iter().filter_map(|(name, keys)| Some(pool(name, keys.as_ref()?))).collect()
}

/// Every setting of the launcher with its value.
fn settings(launcher: &Launcher, chosen: &Table, mistakes: &mut Mistakes<'_>) -> Map<String, Value> {
    let names: Vec<&str> = launcher.settings.keys().map(String::as_str).collect();
    for key in chosen.keys().filter(|key| !launcher.settings.contains_key(*key)) {
        let problem = format!("launcher {:?} has no such setting", launcher.name);
        let error = mistakes.at(&format!("settings.{key}"), problem);
        mistakes.found.push(error.expected(one_of(&names, "no settings")).suggest(key, &names));
    }
    let chosen = json_map(chosen);
    let mut settings = Map::new();
    for (name, setting) in &launcher.settings {
        let value = chosen.get(name).unwrap_or(&setting.default);
        let key = format!("settings.{name}");
        if std::mem::discriminant(value) != std::mem::discriminant(&setting.default) {
            mistakes.add(&key, format!("found {value}"), format!("a value like {}", setting.default));
        }
        let text = value.as_str().unwrap_or_default();
        if !setting.values.is_empty() && !setting.values.iter().any(|known| known == text) {
            let known: Vec<&str> = setting.values.iter().map(String::as_str).collect();
            let error = mistakes.at(&key, format!("found {value}")).expected(one_of(&known, ""));
            mistakes.found.push(error.suggest(text, &known));
        }
        settings.insert(name.clone(), value.clone());
    }
    settings
}

pub(super) fn json_map(table: &Table) -> Map<String, Value> {
    serde_json::to_value(table).ok().and_then(|value| value.as_object().cloned()).unwrap_or_default()
}
