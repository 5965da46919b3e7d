//! The container of a plan: the recipe's image in the site's runtime.

use super::parsed::{Parsed, absolute};
use crate::document::InputErrors;
use crate::plan::Container;
use crate::plan::container::is_image_file;
use crate::site::{ContainerRuntime, SiteContainer};

/// The recipe's image, or the one that the site has in its place. A relative path starts at the folder of the file that names it.
pub(super) fn container(parsed: &Parsed<'_>) -> Result<Option<Container>, InputErrors> {
    let (input, site, gpu) = (parsed.input, &parsed.site, &parsed.gpu.kind);
    let SiteContainer { runtime, mounts, mount_home, env, options, images, reuse } =
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
    Ok(Some(Container { runtime, image, mounts, mount_home, env, options, images, reuse }))
}
