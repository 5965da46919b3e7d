//! The container of a plan: the recipe's image in the site's runtime.

use std::path::Path;

use super::build::{Blame, Input};
use crate::document::InputErrors;
use crate::plan::container::is_image_file;
use crate::plan::{Container, Gpu};
use crate::site::ContainerRuntime;

/// The recipe's image, or the one the site has in its place. A relative path is taken from the file that names it, since a
/// job may run in any folder.
pub(super) fn container(
    input: &Input<'_>,
    gpu: &Gpu,
    blame: &Blame<'_>,
) -> Result<Option<Container>, InputErrors> {
    let of_site = &input.site.site.container;
    if of_site.runtime == ContainerRuntime::None || input.launcher.roles.iter().all(|role| role.bare) {
        return Ok(None);
    }
    let Some(image) = input.resolved.recipe.container.image.clone() else {
        return Err(blame
            .at(
                "container.image",
                format!("the site runs servers in {:?} containers, and no image is named", of_site.runtime),
            )
            .next(format!(
                "add image to [gpu.{}.container] of the recipe, or set container.runtime = \"none\" in {}",
                gpu.kind,
                input.site.name()
            ))
            .into());
    };
    let replaced = input.site.site.gpus.get(&gpu.kind).and_then(|known| known.images.get(&image)).cloned();
    let folder = match &replaced {
        Some(_) => input.site.folder(),
        None => blame.folder().map(Path::to_path_buf),
    };
    let mut image = replaced.unwrap_or(image);
    if is_image_file(&image) && image.starts_with('.') {
        let joined = folder.unwrap_or_default().join(&image);
        image = std::path::absolute(&joined).unwrap_or(joined).display().to_string();
    }
    Ok(Some(Container {
        runtime: of_site.runtime,
        image,
        mounts: of_site.mounts.clone(),
        mount_home: of_site.mount_home,
        env: of_site.env.clone(),
        options: of_site.options.clone(),
        images: of_site.images.clone(),
        reuse: of_site.reuse,
    }))
}
