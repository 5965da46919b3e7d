//! The Slurm job of a plan.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::recipe::Origin;

/// A Slurm job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub name: String,
    pub nodes: u32,
    /// Time limit, seconds.
    pub time_s: u64,
    /// `#SBATCH` directives without the `#SBATCH`, in order.
    pub directives: Vec<String>,
    /// Directives that an environment variable of sbatch made, each with its variable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from_variables: Vec<(String, Origin)>,
    /// Shell lines before tokmark takes over.
    pub setup: Vec<String>,
    /// Environment modules loaded after `setup`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<String>,
    /// Folder of a Python environment activated after the modules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub venv: Option<String>,
    /// The site's tokmark binaries, by architecture as `uname -m` says it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub binary: BTreeMap<String, String>,
    /// MPI type for roles that want one.
    pub mpi: Option<String>,
    /// Variables that nested steps must not see, beside those that are always cleared; a `*` at the end stands for
    /// any rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clear_env: Vec<String>,
    /// More options of every step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub srun: Vec<String>,
}
