//! The container of a plan: the recipe's image in the site's runtime.

use std::path::PathBuf;

use super::parsed::Parsed;
use crate::document::InputErrors;
use crate::plan::Container;
use crate::plan::container::is_image_file;
use crate::site::ContainerRuntime;

/// The recipe's image, or the one the site has in its place. A relative path is taken from the file that names it, since a
/// job may run in any folder.
pub(super) fn container(parsed: &Parsed<'_>) -> Result<Option<Container>, InputErrors> {
    let (site, gpu) = (&parsed.site, &parsed.gpu);
    let of_site = &site.site.container;
    if of_site.runtime == ContainerRuntime::None || parsed.launcher().roles.iter().all(|role| role.bare) {
        return Ok(None);
    }
    let Some(image) = parsed.resolved.recipe.container.image.clone() else {
        return Err(parsed
            .at(
                "container.image",
                format!("the site runs servers in {:?} containers, and no image is named", of_site.runtime),
            )
            .next(format!(
                "add image to [gpu.{}.container] of the recipe, or set container.runtime = \"none\" in {}",
                gpu.kind,
                site.name()
            ))
            .into());
    };
    let replaced = site.site.gpus.get(&gpu.kind).and_then(|known| known.images.get(&image)).cloned();
    let folder = match &replaced {
        Some(_) => site.folder().unwrap_or_default(),
        None => PathBuf::from(&parsed.input.folder),
    };
    let mut image = replaced.unwrap_or(image);
    if is_image_file(&image) && image.starts_with('.') {
        let joined = folder.join(&image);
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
