//! Checks before any server starts that a model folder is complete (every shard present and as long as its header says, the sum as
//! large as the recipe says, configuration and tokenizer readable), and that an image file is.
//!
//! `shard` reads one file's header, `index` the list of expected files, `folder` checks a folder, `metadata` configuration and
//! tokenizer, `image` images. Only headers are read, never the data, so 163 files take a moment. Nothing here prints or knows Slurm.

pub mod check;
mod folder;
pub mod image;
mod index;
mod metadata;
#[cfg(test)]
#[path = "../../tests/it/support/weights.rs"]
mod sample;
pub mod shard;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::document::InputError;
use crate::node::{WeightsQuery, WeightsReport};
use crate::plan::Plan;
use crate::plan::container::{host_path, is_mounted};

pub use folder::examine;

/// Bytes of a GiB.
const GIB: f64 = (1_u64 << 30) as f64;

/// A model folder to check.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFolder {
    /// The path on this machine.
    pub folder: String,
    /// The model's name, for download advice.
    pub model: String,
    /// Expected GiB of weights.
    pub weights_gib: Option<f64>,
    /// Under no mount of the container, so it may be inside the image.
    pub may_be_inside: bool,
}

impl ModelFolder {
    /// The folder from which a plan's servers read weights; `None` if they resolve a name, generate weights, or need none.
    pub fn of(plan: &Plan) -> Option<Self> {
        let (container, path) = (plan.container.as_ref(), plan.model.path.as_str());
        plan.reads_weights().then(|| Self {
            folder: host_path(container, path),
            model: plan.model.name.clone(),
            weights_gib: plan.model.weights_gib,
            may_be_inside: container.is_some() && !is_mounted(container, path),
        })
    }

    /// Whether the folder exists.
    pub fn exists(&self) -> bool {
        Path::new(&self.folder).exists()
    }

    /// Advice for git-lfs pointers.
    fn fetch(&self) -> String {
        format!("fetch it: git lfs pull; or {}", self.download())
    }

    /// Advice for missing or broken files.
    fn download(&self) -> String {
        let quoted =
            |word: &str| shlex::try_quote(word).map_or_else(|_| format!("{word:?}"), |word| word.into());
        // Files in the hub's cache have other names.
        let place = if self.folder.contains("/snapshots/") {
            String::new()
        } else {
            format!(" --local-dir {}", quoted(&self.folder))
        };
        format!("download it again: hf download {}{place}", quoted(&self.model))
    }
}

/// The result of a check.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WeightsFound {
    /// Complete files with weights.
    pub shards: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Whether weights were checked; other formats than safetensors are not.
    pub examined: bool,
    /// Errors: servers would fail, or serve another model.
    pub problems: Vec<InputError>,
    /// Warnings, and what was not checked.
    pub remarks: Vec<String>,
}

impl WeightsFound {
    /// `15 shards, 60.8 GiB, whole`
    pub fn words(&self) -> String {
        let figures = format!("{}, {}", counted(self.shards, "shard"), size(self.bytes));
        match (self.problems.len(), self.examined) {
            (0, false) => "not checked".into(),
            (0, true) => format!("{figures}, whole"),
            (problems, _) => format!("{figures}, and {}", counted(problems, "problem")),
        }
    }
}

impl From<WeightsQuery> for ModelFolder {
    fn from(ask: WeightsQuery) -> Self {
        let WeightsQuery { folder, model, weights_gib } = ask;
        Self { folder, model, weights_gib, may_be_inside: false }
    }
}

impl From<&ModelFolder> for WeightsQuery {
    fn from(subject: &ModelFolder) -> Self {
        let ModelFolder { folder, model, weights_gib, .. } = subject.clone();
        Self { folder, model, weights_gib }
    }
}

impl From<WeightsFound> for WeightsReport {
    fn from(found: WeightsFound) -> Self {
        Self {
            found: found.words(),
            problems: found.problems.iter().map(one_line).collect(),
            next: found.problems.into_iter().next().and_then(|first| first.next),
            remarks: found.remarks,
        }
    }
}

/// An error in one line, without advice.
fn one_line(error: &InputError) -> String {
    let expected = error.expected.as_ref().map(|expected| format!(" (expected: {expected})"));
    format!("{}: {}{}", error.origin, error.problem, expected.unwrap_or_default())
}

/// `60.8 GiB`; small sizes in bytes.
fn size(bytes: u64) -> String {
    let gib = bytes as f64 / GIB;
    if gib < 0.1 { format!("{bytes} bytes") } else { format!("{gib:.1} GiB") }
}

/// `1 shard`, `2 shards`
fn counted(number: usize, of: &str) -> String {
    if number == 1 { format!("1 {of}") } else { format!("{number} {of}s") }
}

/// The first names, and the number of others.
fn listed(names: &[&str]) -> String {
    const MOST: usize = 20;
    let shown = names.iter().take(MOST).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
