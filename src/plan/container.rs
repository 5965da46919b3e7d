//! The container a deployment's servers run in: the recipe's image in the site's runtime.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Gpu;
use super::build::{Blame, Input};
use crate::document::InputErrors;
use crate::site::ContainerRuntime;

/// The container servers run in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Runtime.
    pub runtime: ContainerRuntime,
    /// Image: a reference, or the path of an image file.
    pub image: String,
    /// `SOURCE:TARGET[:OPTIONS]`
    pub mounts: Vec<String>,
    /// Whether the user's home folder is shown inside.
    #[serde(default)]
    pub mount_home: bool,
    /// More variables whose value inside is the host's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// More options of the runtime.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Folder where images of a registry are imported once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<String>,
    /// Whether an image is unpacked once for the job and shared by its steps.
    #[serde(default = "yes")]
    pub reuse: bool,
}

fn yes() -> bool {
    true
}

impl Container {
    /// Path of the image, when it is a file and not a reference to a registry.
    pub fn image_file(&self) -> Option<&Path> {
        is_image_file(&self.image).then(|| Path::new(&self.image))
    }
}

fn is_image_file(image: &str) -> bool {
    ["/", "./", "../"].iter().any(|start| image.starts_with(start))
        && [".sqsh", ".sif"].iter().any(|end| image.ends_with(end))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_files_are_told_from_references() {
        let table = [
            ("/images/vllm.sqsh", true),
            ("./vllm.sif", true),
            ("../a/vllm.sqsh", true),
            ("nvcr.io#nvidia/vllm:1", false),
            ("vllm.sqsh", false),
            ("/images/vllm", false),
            ("docker://vllm/vllm-openai:v1", false),
        ];
        for (image, expected) in table {
            assert_eq!(is_image_file(image), expected, "{image}");
        }
    }
}
