//! Whether the weights and the image of a plan are here and whole, with the file and line that names them.

use std::path::Path;

use super::{drafts_of_plan, examine, image, of_plan};
use crate::document::{InputError, InputErrors};
use crate::node::WeightsQuery;
use crate::plan::Plan;
use crate::prompts::TokenizerCache;
use crate::site::SiteFile;

/// The site of a plan.
fn site(plan: &Plan) -> SiteFile {
    plan.input.site.clone().and_then(|document| SiteFile::parse(document).ok()).unwrap_or_default()
}

/// Checks that a model and draft models given by path are there. A bare name is left to the engine.
pub fn folder(plan: &Plan) -> Result<(), InputErrors> {
    let all = of_plan(plan).into_iter().chain(drafts_of_plan(plan));
    let missing = all.filter(|weights| !Path::new(&weights.folder).exists());
    InputErrors::check(missing.map(|weights| not_here(plan, &weights)).collect())
}

fn not_here(plan: &Plan, weights: &WeightsQuery) -> InputError {
    const DRAFT: &str = "deploy.speculation.model";
    let (origin, key) = match plan.origins.get("model.path") {
        _ if weights.is_draft => (plan.place_of(DRAFT), DRAFT.to_owned()),
        Some(origin) => (origin.to_string(), "model.path".to_owned()),
        None => site(plan).place_of_model(&plan.gpu.kind, &plan.model.name),
    };
    let what = if weights.is_draft { "the draft model's folder" } else { "the weights folder" };
    InputError::new(origin, format!("{what} {:?} does not exist here", weights.folder))
        .key(key)
        .expected("a folder with the model's weights")
        .next("correct the path, or leave it out to let the engine find the model by name")
}

/// Looks through the weights of plans, each folder once: what may be wrong with them.
///
/// # Errors
/// Folders that are not there or not whole.
pub fn folders<'a>(plans: impl IntoIterator<Item = &'a Plan>) -> Result<Vec<String>, InputErrors> {
    let cache = TokenizerCache::default();
    let mut seen = Vec::new();
    let (mut remarks, mut errors) = (Vec::new(), Vec::new());
    for plan in plans {
        for weights in of_plan(plan).into_iter().chain(drafts_of_plan(plan)) {
            if seen.contains(&weights) {
                continue;
            }
            if Path::new(&weights.folder).exists() {
                let found = examine(&weights, &cache);
                errors.extend(found.problems);
                let named = |remark| format!("weights in {}: {remark}", weights.folder);
                remarks.extend(found.remarks.into_iter().map(named));
            } else {
                errors.push(not_here(plan, &weights));
            }
            seen.push(weights);
        }
    }
    InputErrors::check(errors).map(|()| remarks)
}

/// Checks that a container image given by path is there and whole.
pub fn container_image(plan: &Plan) -> Result<(), InputErrors> {
    let Some(path) = plan.container.as_ref().and_then(|container| container.image_file()) else {
        return Ok(());
    };
    let Err(problem) = image::verify(path) else { return Ok(()) };
    let named = plan.recipe.container.image.as_deref().unwrap_or_default();
    let (origin, key) = site(plan)
        .place_of_image(&plan.gpu.kind, named)
        .unwrap_or_else(|| (plan.place_of("container.image"), "container.image".to_owned()));
    let (problem, next) = match path.exists() {
        true => (format!("the image {problem}"), "copy or import it again, or correct the path"),
        false => (
            format!("the image {:?} does not exist here", path.display().to_string()),
            "correct the path; if only compute nodes see it, give --no-weights-check",
        ),
    };
    Err(InputError::new(origin, problem).key(key).expected("a whole .sqsh or .sif file").next(next).into())
}
