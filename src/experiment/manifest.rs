//! `manifest.json`: identity and provenance of an experiment, written once.
//!
//! `events.jsonl` holds what changes later (states, results).

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::files;
use crate::plan::Plan;

/// Identity and provenance of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the format: 1.
    pub schema: u32,
    /// Version of tokmark that created the directory.
    pub tokmark: String,
    /// Commit that this tokmark was built from.
    pub commit: String,
    /// Recipe name.
    pub recipe: String,
    /// GPU type.
    pub gpu: String,
    /// Model name.
    pub model: String,
    /// Launcher name.
    pub launcher: String,
    /// Results are simulated.
    pub simulated: bool,
    /// On the simulated engine in place of the recipe's, or with a share of its load.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rehearsal: bool,
    /// Hash of the plan; only the same plan is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Id of the Slurm job it ran in; absent for a local run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// `submit`, `exec` or `run`; a `run` with a job ran inside an existing allocation.
    pub created_by: String,
    /// Time of creation.
    pub created_at: jiff::Timestamp,
    /// Host that created it.
    pub host: String,
    /// Environment variables that set a value (knobs and sbatch's own) and the `--env` options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub knobs: BTreeMap<String, Knob>,
    /// Command line that created it.
    pub command: Vec<String>,
    /// `SLURM_*` variables of the job, without tokens.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slurm: BTreeMap<String, String>,
}

/// A value from outside the recipe and the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knob {
    pub value: String,
    /// `$STREAMING`, `$STREAMING (job)`, `--env STREAMING`.
    pub from: String,
}

/// The knobs of a plan. A secret is always a reference, because a plan cannot contain a written-out one.
fn knobs(plan: &Plan) -> BTreeMap<String, Knob> {
    let choices = &plan.input.choices;
    let variables = choices.variables.iter().map(|(name, variable)| {
        (name.clone(), Knob { value: variable.value.clone(), from: variable.origin(name).to_string() })
    });
    let env = choices
        .env
        .iter()
        .map(|(name, value)| (name.clone(), Knob { value: value.clone(), from: format!("--env {name}") }));
    variables.chain(env).collect()
}

/// The plan's FNV-1a hash, as 16 hexadecimal digits. Source of the constants: draft-eastlake-fnv, 64 bits.
fn hash(plan: &Plan) -> Option<String> {
    let text = serde_json::to_vec(plan).ok()?;
    let add = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    Some(format!("{:016x}", text.iter().fold(0xcbf2_9ce4_8422_2325, add)))
}

impl Manifest {
    /// The job that runs only this experiment. A run inside somebody's allocation has none, so that it is never
    /// judged or ended by that job.
    pub fn own_job(&self) -> Option<&str> {
        self.job.as_deref().filter(|_| self.created_by != "run")
    }

    /// A manifest with the current time.
    pub fn now(plan: &Plan, job: Option<&str>, created_by: &str) -> Self {
        let slurm = std::env::vars().filter(|(name, _)| {
            name.starts_with("SLURM_")
                && !["JWT", "TOKEN", "KEY", "CRED"].iter().any(|word| name.contains(word))
        });
        Self {
            schema: 1,
            tokmark: plan.input.version.clone(),
            commit: env!("TOKMARK_COMMIT").into(),
            recipe: plan.name.clone(),
            gpu: plan.gpu.kind.clone(),
            model: plan.model.name.clone(),
            launcher: plan.launcher().name.clone(),
            simulated: plan.simulated,
            rehearsal: plan.is_rehearsal(),
            plan: hash(plan),
            job: job.map(str::to_owned),
            created_by: created_by.into(),
            created_at: jiff::Timestamp::now(),
            host: hostname(),
            knobs: knobs(plan),
            command: std::env::args().collect(),
            slurm: slurm.collect(),
        }
    }

    /// Writes the manifest, unless it exists.
    pub fn create(&self, dir: &Path) -> std::io::Result<bool> {
        let text = serde_json::to_string_pretty(self).map_err(std::io::Error::other)?;
        files::create_once(&dir.join("manifest.json"), format!("{text}\n").as_bytes())
    }

    /// Reads the manifest.
    pub fn read(dir: &Path) -> std::io::Result<Self> {
        let text = fs_err::read_to_string(dir.join("manifest.json"))?;
        serde_json::from_str(&text).map_err(std::io::Error::other)
    }
}

/// Name of this machine.
pub fn hostname() -> String {
    nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_else(|_| "unknown".into())
}
