//! Site files: a cluster's partitions, GPU types, container runtime and model paths, which recipes leave out.

mod sections;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::{Document, InputError, InputErrors, join};
use crate::recipe::find::config_folder;
use crate::recipe::{DeploySection, LoadSection, ModelSection, SlurmSection, TelemetrySection};
pub use sections::{
    Arch, ContainerRuntime, GresDialect, SiteBare, SiteBinary, SiteContainer, SiteGpu, SiteNetwork, SiteSlurm,
};

/// A site file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Site {
    /// Version of the format: 1.
    pub schema: Option<u32>,
    /// Name of the cluster.
    pub name: Option<String>,
    /// GPU type without `--gpu`.
    pub gpu: Option<String>,
    /// Folder of the experiments; default `./experiments`.
    pub experiments: Option<String>,
    /// How jobs are submitted.
    pub slurm: SiteSlurm,
    /// Containers of the servers.
    pub container: SiteContainer,
    /// What the job's shell loads before servers start, mainly for servers without containers.
    pub bare: SiteBare,
    /// How the processes of a deployment reach each other.
    pub network: SiteNetwork,
    /// The tokmark binary for each architecture of compute nodes.
    pub binary: SiteBinary,
    /// Environment of every server. `env:NAME` and `file:PATH` are read where the server runs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Folder of a model's weights, by model name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, String>,
    /// GPU types of this site.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub gpus: BTreeMap<String, SiteGpu>,
    /// Laid under every recipe.
    pub defaults: SiteDefaults,
}

/// `[defaults]` of a site: a layer under every recipe.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SiteDefaults {
    /// Laid under `[model]`.
    pub model: ModelSection,
    /// Laid under `[deploy]`.
    pub deploy: DeploySection,
    /// Laid under `[load]`.
    pub load: LoadSection,
    /// Laid under `[slurm]`.
    pub slurm: SlurmSection,
    /// Laid under `[telemetry]`.
    pub telemetry: TelemetrySection,
}

/// GPUs per node unless the site sets them, from NVIDIA's reference systems (HGX, GB200 NVL72 compute tray) and AWS G5.
const KNOWN_GPUS: [(&str, u32); 8] = [
    ("a10g", 1),
    ("a100", 8),
    ("h100", 8),
    ("h200", 8),
    ("gh200", 1),
    ("b200", 8),
    ("gb200", 4),
    ("gb300", 4),
];

/// The known GPU type in a name: `h100` in `nvidia_h100_80gb_hbm3`, `gb200` (not `b200`) in `GB200-NVL72`.
pub fn known_gpu(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let begins = |at: usize| !name[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
    let spoken = |known: &str| name.match_indices(known).any(|(at, _)| begins(at));
    KNOWN_GPUS.iter().map(|(known, _)| *known).filter(|known| spoken(known)).max_by_key(|known| known.len())
}

/// A site and its file.
#[derive(Debug, Clone, Default)]
pub struct SiteFile {
    /// The file; `None` if everything is default.
    pub document: Option<Document>,
    /// Its content.
    pub site: Site,
}

impl SiteFile {
    /// Loads the given file, else `$TOKMARK_SITE`, `./site.toml`, `~/.config/tokmark/site.toml`, else defaults. A faulty
    /// file is an error and never replaced by defaults.
    pub fn load(given: Option<&Path>) -> Result<Self, InputErrors> {
        let named = given.map(Path::to_path_buf).or_else(|| {
            std::env::var_os("TOKMARK_SITE").filter(|value| !value.is_empty()).map(PathBuf::from)
        });
        let of_user = || config_folder().map(|folder| folder.join("site.toml"));
        let found = || std::iter::once("site.toml".into()).chain(of_user()).find(|path| path.exists());
        let Some(path) = named.or_else(found) else { return Ok(Self::default()) };
        let document = Document::read(&path).map_err(|error| {
            error.or_next("write a site file (docs/sites.md), or leave out --site to run with defaults")
        })?;
        Self::parse(document)
    }

    /// The site that a document describes.
    ///
    /// # Errors
    /// The first syntax or type error, else a wrong schema version, else every other problem.
    pub fn parse(document: Document) -> Result<Self, InputErrors> {
        let site: Site = document.parse()?;
        if site.schema != Some(1) {
            let found = site.schema.map_or("missing".into(), |version| format!("found {version}"));
            return Err(InputError::new(document.at("schema"), found)
                .key("schema")
                .expected("schema = 1")
                .into());
        }
        InputErrors::check(problems(&document, &site))?;
        Ok(Self { document: Some(document), site })
    }

    /// Folder of the file, absolute; empty without a file.
    pub fn folder(&self) -> Result<String, InputError> {
        let Some(Document { file, .. }) = &self.document else { return Ok(String::new()) };
        let absolute = std::path::absolute(file)
            .map_err(|error| InputError::new(file, format!("its folder cannot be found: {error}")))?;
        Ok(absolute.parent().unwrap_or(&absolute).display().to_string())
    }

    /// Place and key of the image that the site uses for `image` on nodes with `gpu`, if it names one.
    pub fn place_of_image(&self, gpu: &str, image: &str) -> Option<(String, String)> {
        self.site.gpus.get(gpu)?.images.get(image)?;
        let key = join(&format!("gpus.{gpu}.images"), image);
        Some((self.document.as_ref()?.at(&key), key))
    }

    /// Place and key of a model's weights folder in the site file.
    pub fn place_of_model(&self, gpu: &str, model: &str) -> (String, String) {
        let own = self.site.gpus.get(gpu).is_some_and(|known| known.models.contains_key(model));
        let section = if own { format!("gpus.{gpu}.models") } else { "models".to_owned() };
        let key = join(&section, model);
        (self.document.as_ref().map_or_else(|| self.name(), |document| document.at(&key)), key)
    }

    /// Name for messages.
    pub fn name(&self) -> String {
        self.document.as_ref().map_or_else(|| "no site file".into(), |document| document.file.clone())
    }
}

/// Errors that types cannot catch.
fn problems(document: &Document, site: &Site) -> Vec<InputError> {
    let at = |key: String, problem: String| InputError::new(document.at(&key), problem).key(key);
    let mut errors = Vec::new();
    for (kind, gpu) in &site.gpus {
        for (key, value) in [("per_node", gpu.per_node), ("nodes_per_domain", gpu.nodes_per_domain)] {
            if value == Some(0) {
                errors.push(
                    at(format!("{}.{key}", join("gpus", kind)), "found 0".into()).expected("1 or more"),
                );
            }
        }
    }
    // A comma begins the next mount of `--container-mounts`.
    let is_pyxis = site.container.runtime == ContainerRuntime::Pyxis;
    for mount in site.container.mounts.iter().filter(|_| is_pyxis) {
        if mount.contains(',') || mount.split(':').count() > 3 {
            errors.push(
                at("container.mounts".into(), format!("found {mount:?}"))
                    .expected("SOURCE:TARGET[:OPTIONS] for each mount, paths without commas and colons, options joined by `+`"),
            );
        }
    }
    for pattern in &site.slurm.clear_env {
        let name = pattern.strip_suffix('*').unwrap_or(pattern);
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            errors.push(
                at("slurm.clear_env".into(), format!("found {pattern:?}"))
                    .expected("the name of a variable, or its beginning and a `*`: \"SBATCH_*\""),
            );
        }
    }
    errors
}

impl Site {
    /// GPUs per node of this type; `None` if unknown.
    pub fn gpus_per_node(&self, gpu: &str) -> Option<u32> {
        self.gpus
            .get(gpu)
            .and_then(|known| known.per_node)
            .or_else(|| KNOWN_GPUS.iter().find(|(name, _)| *name == gpu).map(|(_, count)| *count))
    }

    /// GPU types of the site and the known ones, sorted.
    pub fn gpu_types(&self) -> Vec<String> {
        let known = KNOWN_GPUS.iter().map(|(name, _)| (*name).to_owned());
        let types: BTreeSet<String> = self.gpus.keys().cloned().chain(known).collect();
        types.into_iter().collect()
    }

    /// Folder of the weights of `model` on nodes with `gpu`.
    pub fn model_path(&self, gpu: &str, model: &str) -> Option<&str> {
        let by_gpu = self.gpus.get(gpu).and_then(|known| known.models.get(model));
        by_gpu.or_else(|| self.models.get(model)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_known_by_what_sites_call_them() {
        let table = [
            ("h100", Some("h100")),
            ("nvidia_h100_80gb_hbm3", Some("h100")),
            ("GB200-NVL72", Some("gb200")),
            ("b200", Some("b200")),
            ("nvidia_gh200_480gb", Some("gh200")),
            ("a100-sxm4-80gb", Some("a100")),
            ("hopper", None),
            ("é", None),
        ];
        for (name, expected) in table {
            assert_eq!(known_gpu(name), expected, "{name}");
        }
    }
}
