//! The container a deployment's servers run in.

use std::path::{Path, PathBuf};

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
    /// Whether the container's own files are writable.
    #[serde(default = "yes")]
    pub writable: bool,
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

    /// Whether the image is unpacked into a container of the job on each node.
    pub fn is_unpacked(&self) -> bool {
        self.runtime == ContainerRuntime::Pyxis && self.reuse
    }

    /// The file that an image of a registry is imported to; `None` if the image is a file, or the site has no folder for imports.
    pub fn imported_file(&self) -> Option<PathBuf> {
        let folder = self.images.as_ref().filter(|_| !names_file(&self.image))?;
        Some(Path::new(folder).join(file_name(&self.image, self.runtime)))
    }

    /// The site's mounts, plus the paths of `more` that they do not cover, under the same path inside. Each comes with its options
    /// (`:ro`).
    pub fn mounts_with(&self, more: &[(&str, &str)]) -> Vec<String> {
        let covers = |path: &str| {
            let mut targets = self.mounts.iter().filter_map(|mount| mount.split(':').nth(1));
            targets.any(|target| Path::new(path).starts_with(target))
        };
        let more = more.iter().filter(|(path, _)| !covers(path));
        self.mounts
            .iter()
            .cloned()
            .chain(more.map(|(path, options)| format!("{path}:{path}{options}")))
            .collect()
    }

    /// The runtime's options for home folder, writable files and entrypoint, and those of the site. An option of the site
    /// replaces ours about the same thing, because pyxis refuses both `--container-writable` and `--container-readonly`.
    pub fn flags(&self) -> Vec<String> {
        let own = match self.runtime {
            ContainerRuntime::None => Vec::new(),
            ContainerRuntime::Apptainer => vec![
                (!self.mount_home).then_some("--no-home"),
                // The image is read-only; without this engines cannot write their caches (apptainer-exec(1)).
                self.writable.then_some("--writable-tmpfs"),
            ],
            ContainerRuntime::Pyxis => vec![
                Some(if self.mount_home { "--container-mount-home" } else { "--no-container-mount-home" }),
                // The unpacked image is read-only by enroot's default.
                self.writable.then_some("--container-writable"),
                // A site may execute entrypoints, and one such as `vllm serve` never starts our command.
                Some("--no-container-entrypoint"),
            ],
        };
        let chosen: Vec<String> = self.options.iter().map(|option| subject(option)).collect();
        let own = own.into_iter().flatten().filter(|flag| !chosen.contains(&subject(flag)));
        own.map(str::to_owned).chain(self.options.iter().cloned()).collect()
    }
}

/// What an option of a runtime is about: the same for an option and its contrary.
fn subject(option: &str) -> String {
    let name = option.split('=').next().unwrap_or(option).trim_start_matches('-');
    name.trim_start_matches("no-").replace("readonly", "writable").replace("-tmpfs", "")
}

/// Whether an image is named by a file and not by a reference to a registry.
pub fn is_image_file(image: &str) -> bool {
    ["/", "./", "../"].iter().any(|start| image.starts_with(start))
        && [".sqsh", ".sif"].iter().any(|end| image.ends_with(end))
}

/// Whether an image is given by a path, not by a reference to a registry.
pub fn names_file(image: &str) -> bool {
    image.starts_with('/') || image.starts_with("./")
}

/// Name of the file an image is imported to: its reference, with characters that file names cannot hold replaced.
fn file_name(image: &str, runtime: ContainerRuntime) -> String {
    let extension = if runtime == ContainerRuntime::Apptainer { "sif" } else { "sqsh" };
    let plain = image.trim_start_matches("docker://");
    let safe: String = plain
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '+' })
        .collect();
    format!("{safe}.{extension}")
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

    fn container(runtime: &str, more: &str) -> Container {
        toml::from_str(&format!("runtime = {runtime:?}\nimage = \"i\"\nmounts = []\n{more}")).unwrap()
    }

    #[test]
    fn a_container_is_writable_without_home_and_entrypoint_unless_the_site_says_otherwise() {
        let table = [
            ("pyxis", "", "--no-container-mount-home --container-writable --no-container-entrypoint"),
            ("pyxis", "writable = false", "--no-container-mount-home --no-container-entrypoint"),
            (
                "pyxis",
                "mount_home = true",
                "--container-mount-home --container-writable --no-container-entrypoint",
            ),
            (
                "pyxis",
                "options = [\"--container-readonly\", \"--container-entrypoint\", \"--container-remap-root\"]",
                "--no-container-mount-home --container-readonly --container-entrypoint --container-remap-root",
            ),
            (
                "pyxis",
                "mount_home = true\noptions = [\"--container-mount-home\"]",
                "--container-writable --no-container-entrypoint --container-mount-home",
            ),
            ("apptainer", "", "--no-home --writable-tmpfs"),
            ("apptainer", "writable = false\nmount_home = true", ""),
            ("apptainer", "options = [\"--writable\"]", "--no-home --writable"),
        ];
        for (runtime, more, expected) in table {
            assert_eq!(container(runtime, more).flags().join(" "), expected, "{runtime} {more}");
        }
    }

    #[test]
    fn references_become_file_names() {
        let name = |image: &str, runtime| file_name(image, runtime);
        assert_eq!(name("nvcr.io#nvidia/x:1", ContainerRuntime::Pyxis), "nvcr.io+nvidia+x+1.sqsh");
        assert_eq!(name("docker://a/b@sha256:ff", ContainerRuntime::Apptainer), "a+b+sha256+ff.sif");
    }

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
