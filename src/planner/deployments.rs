//! The deployments of a plan: every combination of server axes, on the recipe's engine or on the one that stands in for it.

use toml::Table;

use super::load_points::load_points;
use super::matrix::{combination_id, product};
use super::parsed::Parsed;
use super::sections::Deploy;
use super::{connection, rehearsal, servers};
use crate::document::{InputError, InputErrors};
use crate::plan::{Connection, Deployment, LoadPoint, Model, Pool};
use crate::recipe::Origin;

pub(super) fn deployments(
    parsed: &Parsed<'_>,
    model: &Model,
    model_folder: Option<String>,
) -> Result<Vec<Deployment>, InputErrors> {
    let base = parsed.section("deploy");
    let axes = &parsed.resolved.recipe.sweep.server;
    let combinations = product(axes, "sweep.server").map_err(|error| parsed.resolved.locate(error))?;
    let points = load_points(parsed, model_folder)?;
    let mut deployments = Vec::new();
    let mut errors = Vec::new();
    for combination in combinations {
        let section: Deploy = parsed.typed(&base, &combination, "sweep.server")?;
        match deployment(parsed, model, section, combination_id(&combination), points.clone()) {
            Ok(deployment) => deployments.push(deployment),
            Err(mut problems) => errors.append(&mut problems),
        }
    }
    errors.dedup();
    InputErrors::check(errors)?;
    Ok(deployments)
}

fn deployment(
    parsed: &Parsed<'_>,
    model: &Model,
    mut section: Deploy,
    id: String,
    mut points: Vec<LoadPoint>,
) -> Result<Deployment, Vec<InputError>> {
    let mut errors = Vec::new();
    let mut urls = connection::urls(&section, parsed, &mut errors);
    let mut connection = connection::connection(&section.connection, parsed, &mut errors);
    errors.extend(servers::written_secrets(&section, parsed));
    errors.extend(secrets_of_site(parsed));
    let mut servers = match servers::servers(&section, parsed.launcher(), parsed) {
        Ok(servers) if errors.is_empty() => servers,
        Ok(_) => return Err(errors),
        Err(more) => return Err(errors.into_iter().chain(more).collect()),
    };
    if let Some(stand_in) = &parsed.input.stand_in {
        section = rehearsal::section(&servers.pools, &points, parsed, model, &stand_in.launcher)
            .map_err(|error| vec![error])?;
        servers = servers::servers(&section, &stand_in.launcher, parsed)?;
        (urls, connection) = (Vec::new(), Connection::default());
        points.iter_mut().for_each(rehearsal::count_words);
    }
    if let Some(share) = parsed.input.choices.scale_load.filter(|share| *share < 1.0) {
        points.iter_mut().for_each(|point| point.scale(share));
    }
    let mut env = parsed.site.site.env.clone();
    env.extend(section.env);
    let mut urls = urls.into_iter();
    let gpus = servers.pools.iter().map(Pool::gpus).fold(0, u32::saturating_add);
    Ok(Deployment {
        id,
        gpus: if knows_gpus(parsed) { gpus } else { 0 },
        parallel: servers.parallel,
        engine: json_map(&section.engine),
        env,
        pools: servers.pools,
        settings: servers.settings,
        prefix: section.prefix,
        port: section.port,
        url: urls.next(),
        more_urls: urls.collect(),
        connection,
        startup_timeout_s: section.startup_timeout.seconds(),
        progress_timeout_s: section.progress_timeout.seconds(),
        stop_grace_s: section.stop_grace.seconds(),
        nodes: servers.layout.nodes,
        server_nodes: servers.layout.server_nodes,
        processes: servers.layout.processes,
        points,
    })
}

/// Whether the size of the deployment is known. For an endpoint that runs elsewhere only the user can tell it.
fn knows_gpus(parsed: &Parsed<'_>) -> bool {
    let is_given = |key: &&str| {
        let origin = parsed.resolved.origins.get(&format!("deploy.{key}"));
        origin.is_some_and(|origin| *origin != Origin::Default)
            || parsed.resolved.recipe.sweep.server.contains_key(*key)
    };
    parsed.input.engine().launcher.endpoint.url.is_none()
        || ["tp", "pp", "dp", "replicas"].iter().any(is_given)
}

/// Secrets written out in the site file.
fn secrets_of_site(parsed: &Parsed<'_>) -> Vec<InputError> {
    let written = parsed.site.site.env.iter().filter(|(name, value)| servers::is_written(name, value));
    written
        .map(|(name, _)| {
            InputError::new(parsed.site.name(), servers::WRITTEN)
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
