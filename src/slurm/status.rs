//! The status of a job and of its steps.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{JobId, JobState, StepId, Unparsable, present};

/// How a job's batch script ended: Slurm's `code:signal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitCode {
    pub code: i32,
    /// Number of the signal that ended it, or 0. Slurm also uses 53 (no output file) and 125 (out of memory).
    pub signal: i32,
}

impl ExitCode {
    /// Reads `3:0`; anything else is absent.
    pub fn parse(text: &str) -> Option<Self> {
        let (code, signal) = text.trim().split_once(':')?;
        Some(Self { code: code.parse().ok()?, signal: signal.parse().ok()? })
    }
}

impl fmt::Display for ExitCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.code, self.signal)
    }
}

/// The status of a job at one poll. Times are unix seconds, durations seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    pub id: JobId,
    pub state: JobState,
    /// Why it waits or failed, in Slurm's words (`Resources`, `JobLaunchFailure`).
    pub reason: Option<String>,
    /// How it ended; only for ended jobs, and not from squeue.
    pub exit_code: Option<ExitCode>,
    /// Its nodes as a host list (`node[1-2]`); see `scontrol show hostnames`.
    pub nodes: Option<String>,
    pub name: String,
    pub submit: Option<i64>,
    /// When it started; for a waiting job, the expected start.
    pub start: Option<i64>,
    /// When it ended; only for ended jobs.
    pub end: Option<i64>,
    pub elapsed_s: Option<u64>,
    /// How long it may run; absent when unlimited.
    pub time_limit_s: Option<u64>,
}

impl JobStatus {
    /// A status with only id and state.
    pub fn new(id: JobId, state: JobState) -> Self {
        Self {
            id,
            state,
            reason: None,
            exit_code: None,
            nodes: None,
            name: String::new(),
            submit: None,
            start: None,
            end: None,
            elapsed_s: None,
            time_limit_s: None,
        }
    }

    /// Removes forecasts, which tools print for running jobs: the time limit as end, `0:0` as exit code.
    pub(super) fn without_forecast(mut self) -> Self {
        if !self.state.is_terminal() {
            self.end = None;
            self.exit_code = None;
        }
        self
    }
}

/// The rows of `tool`'s stdout: a job id, the separator, and `N` fields, of which the last may contain the separator. Skips lines that
/// do not begin with a job id and the separator.
pub(super) fn rows<'a, const N: usize>(
    stdout: &'a str,
    tool: &'static str,
    wanted: &'static str,
) -> Result<Vec<(JobId, [&'a str; N])>, Unparsable> {
    let row = |line: &'a str| {
        let (id, rest) = line.trim_start().split_once('|')?;
        let id = id.parse().ok()?;
        let fields = <[&str; N]>::try_from(rest.splitn(N, '|').collect::<Vec<_>>());
        Some(fields.map(|fields| (id, fields)).map_err(|_| Unparsable {
            tool,
            wanted,
            found: line.to_owned(),
        }))
    };
    stdout.lines().filter_map(row).collect()
}

/// A present value.
pub(super) fn text(value: &str) -> Option<String> {
    present(value).map(str::to_owned)
}

/// A step of a running job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepInfo {
    pub id: StepId,
    /// Its name from `srun --job-name`; `batch` and `extern` are Slurm's.
    pub name: String,
    /// Process id of its srun, on the machine where that was called.
    pub srun: Option<u32>,
}
