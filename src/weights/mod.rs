//! Checks before any server starts that a model folder is complete (every shard present and as long as its header says, the sum as
//! large as the recipe says, configuration and tokenizer readable), and that an image file is.
//!
//! `shard` reads one file's header, `index` the list of expected files, `folder` checks a folder, `image` images. Only headers are read, never the data, so 163 files take a moment. Nothing here prints or knows Slurm.

pub mod check;
mod folder;
pub mod image;
pub mod image_failure;
mod index;
#[cfg(test)]
#[path = "../../tests/it/support/weights.rs"]
mod sample;
pub mod shard;
#[cfg(test)]
mod tests;

use itertools::Itertools;

use crate::document::InputError;
use crate::node::{WeightsQuery, WeightsReport};
use crate::plan::Plan;
use crate::plan::container::{host_path, is_mounted};

pub use folder::examine;

/// Bytes of a GiB.
const GIB: f64 = (1_u64 << 30) as f64;

/// The folder from which a plan's servers read weights; `None` if they resolve a name, generate weights, or need none.
pub fn of_plan(plan: &Plan) -> Option<WeightsQuery> {
    plan.reads_weights().then(|| WeightsQuery {
        folder: host_path(plan.container.as_ref(), &plan.model.path),
        model: plan.model.name.clone(),
        weights_gib: plan.model.weights_gib,
        is_draft: false,
    })
}

/// The folders from which its servers read draft models, each once.
pub fn drafts_of_plan(plan: &Plan) -> Vec<WeightsQuery> {
    let reads = plan.launcher().roles.iter().any(|role| role.gpus);
    let drafts =
        plan.deployments.iter().filter(|_| reads).filter_map(|of| of.speculation.as_ref()?.draft_folder());
    let query = |folder: &str| WeightsQuery {
        folder: host_path(plan.container.as_ref(), folder),
        model: folder.to_owned(),
        weights_gib: None,
        is_draft: true,
    };
    drafts.unique().map(query).collect()
}

/// Whether the folder is under no mount of the container, so that it may be inside the image.
pub fn may_be_inside(plan: &Plan, folder: &WeightsQuery) -> bool {
    let container = plan.container.as_ref();
    let path = if folder.is_draft { &folder.model } else { &plan.model.path };
    container.is_some() && !is_mounted(container, path)
}

/// The result of a check.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WeightsFound {
    /// Complete files with weights.
    pub shards: usize,
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
