//! Whether the weights and the image of a plan are here and whole, with the file and line that names them.

use std::path::Path;

use super::{examine, image, of_plan};
use crate::document::{InputError, InputErrors};
use crate::plan::Plan;
use crate::prompts::TokenizerCache;
use crate::site::SiteFile;

/// The site of a plan.
fn site(plan: &Plan) -> SiteFile {
    plan.input.site.clone().and_then(|document| SiteFile::parse(document).ok()).unwrap_or_default()
}

/// Checks that a model given by path is there. A bare name is left to the engine.
pub fn folder(plan: &Plan) -> Result<(), InputErrors> {
    let Some(weights) = of_plan(plan).filter(|weights| !Path::new(&weights.folder).exists()) else {
        return Ok(());
    };
    let (origin, key) = match plan.origins.get("model.path") {
        Some(origin) => (origin.to_string(), "model.path".to_owned()),
        None => site(plan).place_of_model(&plan.gpu.kind, &plan.model.name),
    };
    Err(InputError::new(origin, format!("the weights folder {:?} does not exist here", weights.folder))
        .key(key)
        .expected("a folder with the model's weights")
        .next("correct the path, or leave it out to let the engine find the model by name")
        .into())
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
        let Some(weights) = of_plan(plan).filter(|weights| !seen.contains(weights)) else { continue };
        match folder(plan) {
            Err(InputErrors(problems)) => errors.extend(problems),
            Ok(()) => {
                let found = examine(&weights, &cache);
                errors.extend(found.problems);
                let named = |remark| format!("weights in {}: {remark}", weights.folder);
                remarks.extend(found.remarks.into_iter().map(named));
            }
        }
        seen.push(weights);
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
