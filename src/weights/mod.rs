//! Whether a model's folder is whole before any server starts: every shard there and as long as its own header says, all of
//! them as large as the recipe says, configuration and tokenizer readable. And whether an image file is.
//!
//! `shard` reads one file's header, `index` the list of the files there should be, `folder` goes through a folder, `beside` looks
//! at what lies beside the weights, `image` at images. Headers alone are read, never the data: a set of 163 files takes a moment.
//! Nothing here prints or knows Slurm.

mod beside;
mod folder;
pub mod image;
mod index;
#[cfg(test)]
#[path = "../../tests/it/support/weights.rs"]
mod sample;
pub mod shard;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::document::InputError;
use crate::node::{WeightsAsk, WeightsReport};
use crate::plan::Plan;
use crate::plan::container::{host_path, is_mounted};

pub use folder::examine;

/// Bytes of a GiB.
const GIB: f64 = (1_u64 << 30) as f64;

/// What is to be examined.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    /// The folder, as this machine sees it.
    pub folder: String,
    /// The model's name, for the advice to download it.
    pub model: String,
    /// GiB its weights should have.
    pub weights_gib: Option<f64>,
    /// Under no mount of the container, so that it may well lie in the image.
    pub may_be_inside: bool,
}

impl Subject {
    /// The weights a plan's servers read from a folder; `None` when they find them by name, make them up, or read none.
    pub fn of(plan: &Plan) -> Option<Self> {
        let (container, path) = (plan.container.as_ref(), plan.model.path.as_str());
        plan.reads_weights().then(|| Self {
            folder: host_path(container, path),
            model: plan.model.name.clone(),
            weights_gib: plan.model.weights_gib,
            may_be_inside: container.is_some() && !is_mounted(container, path),
        })
    }

    /// Whether the folder is there at all.
    pub fn exists(&self) -> bool {
        Path::new(&self.folder).exists()
    }

    /// What to do about pointers of git-lfs.
    fn fetch(&self) -> String {
        format!("fetch it: git lfs pull; or {}", self.download())
    }

    /// What to do about files that are missing or broken.
    fn download(&self) -> String {
        let quoted =
            |word: &str| shlex::try_quote(word).map_or_else(|_| format!("{word:?}"), |word| word.into());
        // Within the hub's own cache the files have other names.
        let place = if self.folder.contains("/snapshots/") {
            String::new()
        } else {
            format!(" --local-dir {}", quoted(&self.folder))
        };
        format!("download it again: hf download {}{place}", quoted(&self.model))
    }
}

/// What an examination found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// Files with weights that are whole.
    pub shards: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Whether there was something to examine: weights of other formats are not looked into.
    pub examined: bool,
    /// What is wrong. Servers would fail, or serve something else.
    pub problems: Vec<InputError>,
    /// What may be wrong, and what was not looked at.
    pub remarks: Vec<String>,
}

impl Found {
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

impl From<WeightsAsk> for Subject {
    fn from(ask: WeightsAsk) -> Self {
        let WeightsAsk { folder, model, weights_gib } = ask;
        Self { folder, model, weights_gib, may_be_inside: false }
    }
}

impl From<&Subject> for WeightsAsk {
    fn from(subject: &Subject) -> Self {
        let Subject { folder, model, weights_gib, .. } = subject.clone();
        Self { folder, model, weights_gib }
    }
}

impl From<Found> for WeightsReport {
    fn from(found: Found) -> Self {
        Self {
            found: found.words(),
            problems: found.problems.iter().map(told).collect(),
            next: found.problems.into_iter().next().and_then(|first| first.next),
            remarks: found.remarks,
        }
    }
}

/// A problem in a line, without what to do.
fn told(error: &InputError) -> String {
    let expected = error.expected.as_ref().map(|expected| format!(" (expected: {expected})"));
    format!("{}: {}{}", error.origin, error.problem, expected.unwrap_or_default())
}

/// `60.8 GiB`, and small ones in bytes.
fn size(bytes: u64) -> String {
    let gib = bytes as f64 / GIB;
    if gib < 0.1 { format!("{bytes} bytes") } else { format!("{gib:.1} GiB") }
}

/// `1 shard`, `2 shards`
fn counted(number: usize, of: &str) -> String {
    if number == 1 { format!("1 {of}") } else { format!("{number} {of}s") }
}

/// Names in a row, the first of many.
fn listed(names: &[&str]) -> String {
    const MOST: usize = 20;
    let shown = names.iter().take(MOST).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
