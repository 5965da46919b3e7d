//! The container of a plan: the recipe's image in the site's runtime.

use super::parsed::{Parsed, absolute};
use crate::document::{InputError, InputErrors};
use crate::plan::container::is_image_file;
use crate::plan::{Container, Model, Plan};
use crate::site::{ContainerRuntime, SiteContainer};

/// The recipe's image, or the one that the site has in its place. A relative path starts at the folder of the file that names it.
pub(super) fn container(parsed: &Parsed<'_>, model: &Model) -> Result<Option<Container>, InputErrors> {
    let (input, site, gpu) = (parsed.input, &parsed.site, &parsed.gpu.kind);
    let SiteContainer { runtime, mounts, mount_home, writable, env, options, images, reuse } =
        site.site.container.clone();
    if runtime == ContainerRuntime::None || parsed.launcher().roles.iter().all(|role| role.bare) {
        return Ok(None);
    }
    let Some(named) = parsed.resolved.recipe.container.image.clone() else {
        let problem = format!("the site runs servers in {runtime:?} containers, and no image is named");
        let next = format!(
            "add image to [gpu.{gpu}.container] of the recipe, or set container.runtime = \"none\" in {}",
            site.name()
        );
        return Err(parsed.at("container.image", problem).next(next).into());
    };
    let of_site = site.site.gpus.get(gpu).and_then(|known| known.images.get(&named)).cloned();
    let folder = if of_site.is_some() { &input.site_folder } else { &input.folder };
    let image = of_site.unwrap_or(named);
    let is_relative = is_image_file(&image) && image.starts_with('.');
    let image = if is_relative { absolute(folder, &image) } else { image };
    let container = Container { runtime, image, mounts, mount_home, writable, env, options, images, reuse };
    let weights = (model.is_path() && parsed.launcher().roles.iter().any(|role| role.gpus))
        .then_some(("the model's folder", model.path.as_str()));
    let own = [("the experiments folder", input.experiments.as_str())].into_iter().chain(weights);
    for (what, path) in own {
        let is_own = container.mounts_with(&[(path, "")]).len() > container.mounts.len();
        if is_own && let Some(sign) = path.chars().find(|c| [',', ':'].contains(c)) {
            let problem = format!("{what}, {path}, has a {sign:?} in its path, so no container can mount it");
            return Err(InputError::new(site.name(), problem)
                .expected("a path without commas and colons, which separate mounts and their parts")
                .next("use another path, or mount a folder above it under another name in container.mounts")
                .into());
        }
    }
    Ok(Some(container))
}

/// What a container of the plan may lack.
pub fn warnings(plan: &Plan) -> Vec<String> {
    let Some(container) = plan.container.as_ref().filter(|found| found.runtime == ContainerRuntime::Pyxis)
    else {
        return Vec::new();
    };
    let weights = Some(plan.model.path.as_str()).filter(|_| plan.reads_weights());
    let own = [Some(plan.input.experiments.as_str()), weights].into_iter().flatten();
    let own: Vec<(&str, &str)> = own.map(|path| (path, "")).collect();
    let blank = container.mounts_with(&own).into_iter().filter(|mount| mount.contains(' '));
    blank.map(|mount| format!("pyxis before 0.24 cannot mount a path with a blank: {mount}")).collect()
}
