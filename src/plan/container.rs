//! The container a deployment's servers run in.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::site::ContainerRuntime;

/// The container servers run in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
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

/// Whether an image is named by a file and not by a reference to a registry.
pub fn is_image_file(image: &str) -> bool {
    ["/", "./", "../"].iter().any(|start| image.starts_with(start))
        && [".sqsh", ".sif"].iter().any(|end| image.ends_with(end))
}

/// Where a path inside the container lies outside of it, by the site's mounts.
pub fn host_path(container: Option<&Container>, path: &str) -> String {
    mounted(container, path).unwrap_or_else(|| path.to_owned())
}

/// Whether a path inside the container is a mount's, and so not the image's own.
pub fn is_mounted(container: Option<&Container>, path: &str) -> bool {
    mounted(container, path).is_some()
}

fn mounted(container: Option<&Container>, path: &str) -> Option<String> {
    let mounts = container.into_iter().flat_map(|container| &container.mounts);
    let mut mapped = mounts.rev().filter_map(|mount| {
        let mut parts = mount.split(':');
        let (source, target) = (parts.next()?, parts.next()?);
        let below = Path::new(path).strip_prefix(target).ok()?;
        Some(Path::new(source).join(below).display().to_string())
    });
    mapped.next()
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
