//! The deployments of a plan: every combination of server axes, on the recipe's engine or on the one that stands in for it.

use super::load_points::load_points;
use super::matrix::{combination_id, product};
use super::parsed::{Mistakes, Parsed};
use super::sections::Deploy;
use super::servers::servers;
use super::{connection, rehearsal, secrets};
use crate::document::{InputError, InputErrors};
use crate::plan::{Deployment, LoadPoint, Model};

pub(super) fn deployments(
    parsed: &Parsed<'_>,
    model: &Model,
    model_folder: Option<String>,
) -> Result<Vec<Deployment>, InputErrors> {
    let axes = &parsed.resolved.recipe.sweep.server;
    let combinations = product(axes, "sweep.server").map_err(|error| parsed.resolved.locate(error))?;
    let points = load_points(parsed, model_folder.as_deref())?;
    let mut deployments = Vec::new();
    let mut errors = Vec::new();
    for combination in combinations {
        let (_, section) = parsed.section("deploy", "sweep.server", &combination)?;
        match deployment(parsed, model, section, points.clone()) {
            Ok(deployment) => {
                deployments.push(Deployment { id: combination_id(&combination), ..deployment });
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
    connection::check(&section, &mut mistakes);
    secrets::check(&section, &mut mistakes);
    let mut deployment = servers(section, parsed.launcher(), mistakes)?;
    if let Some(stand_in) = &parsed.input.stand_in {
        let section = rehearsal::section(&deployment.pools, &points, parsed, model, &stand_in.launcher)
            .map_err(|error| vec![error])?;
        deployment = servers(section, &stand_in.launcher, Mistakes::of(parsed, "deploy"))?;
        points.iter_mut().for_each(rehearsal::count_words);
    }
    if let Some(share) = parsed.input.choices.scale_load.filter(|share| *share < 1.0) {
        points.iter_mut().for_each(|point| point.scale(share));
    }
    Ok(Deployment { points, ..deployment })
}
