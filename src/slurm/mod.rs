//! Slurm's command line as data: argv builders and parsers of tool output. No I/O.
//!
//! Parsers accept text with banners, warnings and blank lines. They skip lines that do not look like an answer; a line that does
//! but cannot be read is an [`Unparsable`].

mod id;
mod status;
mod time;

pub mod features;
pub mod oom;
pub mod options;
pub mod sacct;
pub mod sacctmgr;
pub mod sbatch;
pub mod scancel;
pub mod scontrol;
pub mod sinfo;
pub mod squeue;
pub mod srun;
pub mod state;

pub use id::{JobId, StepId};
pub use state::JobState;
pub use status::{ExitCode, JobStatus, StepInfo};
pub use time::{duration_s, unix_s};

/// Tool output that looks like an answer but cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read what {tool} printed: expected {wanted}, found {found:?}")]
pub struct Unparsable {
    /// The tool's name, e.g. `sbatch`.
    pub tool: &'static str,
    pub wanted: &'static str,
    /// The offending line or, without one, the whole text.
    pub found: String,
}

/// A present value. Slurm writes absence as `N/A`, `Unknown`, `None`, `(null)`, `None assigned` or nothing.
fn present(value: &str) -> Option<&str> {
    let value = value.trim();
    let absent =
        matches!(value, "" | "N/A" | "n/a" | "Unknown" | "None" | "(null)" | "None assigned" | "(None)");
    (!absent).then_some(value)
}

/// Whether squeue or scontrol failed only because slurmctld does not, or no longer, know any of the ids.
pub fn knows_none(stderr: &str) -> bool {
    stderr.contains("Invalid job id specified")
}

/// `id1,id2,…`, the form that `squeue -j` and `sacct -j` take.
fn joined(ids: &[JobId]) -> String {
    ids.iter().map(JobId::as_str).collect::<Vec<_>>().join(",")
}
