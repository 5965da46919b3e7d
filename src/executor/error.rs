//! Errors of calls of Slurm tools: which call, its message, and what to do next.

use std::fmt;
use std::time::Duration;

use crate::slurm::{JobId, Unparsable};

/// A failed call of a Slurm tool.
#[derive(Debug, thiserror::Error)]
pub enum SlurmError {
    #[error(
        "no Slurm on PATH: '{tool}' not found; load the site's Slurm module, or use `tokmark run` to run without Slurm"
    )]
    NotFound { tool: String },
    /// The tool could not start, or its output could not be read.
    #[error("cannot run `{call}`")]
    Io { call: Call, source: std::io::Error },
    #[error("`{call}` failed ({status}): {}{}", message(stderr), next(*advice))]
    Refused {
        call: Call,
        /// `exit status: 1`, or the signal.
        status: String,
        /// Its stderr, or if that is empty its stdout.
        stderr: String,
        advice: Option<&'static str>,
    },
    /// The tool did not answer in time. Slurm's clients hang for minutes without their daemon.
    #[error("`{call}` did not answer within {} s; try `scontrol ping`", after.as_secs_f64())]
    Timeout { call: Call, after: Duration },
    #[error("`{call}`: {source}; please report this with the output and `sinfo --version`")]
    Unparsable { call: Call, source: Unparsable },
    /// The cluster keeps no accounting, so the end of a job is known for `MinJobAge` (300 s) only.
    #[error(
        "`{call}`: Slurm accounting storage is disabled; ended jobs are known to `scontrol show job` for a few minutes only"
    )]
    AccountingDisabled { call: Call },
    /// The job stayed unknown to squeue, sacct and scontrol.
    #[error(
        "Slurm does not know job {id}: neither squeue nor sacct nor scontrol shows it; did it run on another cluster?"
    )]
    Unseen { id: JobId },
}

impl SlurmError {
    /// Whether a retry may help: a daemon may come back, a missing tool will not.
    pub fn is_transient(&self) -> bool {
        !matches!(self, Self::NotFound { .. } | Self::Io { .. })
    }
}

/// An argv, displayed so that it can be pasted into a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call(pub Vec<String>);

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, arg) in self.0.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./,:=@%+".contains(&b);
            if !arg.is_empty() && arg.bytes().all(plain) {
                write!(f, "{space}{arg}")?;
                continue;
            }
            // An argument with a NUL byte has no quoted form; such a call has failed to start anyway.
            match shlex::try_quote(arg) {
                Ok(quoted) => write!(f, "{space}{quoted}")?,
                Err(_) => write!(f, "{space}{arg:?}")?,
            }
        }
        Ok(())
    }
}

fn message(stderr: &str) -> &str {
    let message = stderr.trim();
    if message.is_empty() { "no message" } else { message }
}

fn next(advice: Option<&'static str>) -> String {
    advice.map(|advice| format!("; {advice}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_call_words_and_next_step() {
        let call = Call(vec!["sbatch".into(), "--partition=nope".into(), "/x/my job".into()]);
        let stderr = "sbatch: error: invalid partition specified: nope\n".to_owned();
        let advice = crate::slurm::sbatch::advice(&stderr);
        let error = SlurmError::Refused { call, status: "exit status: 1".into(), stderr, advice };
        assert_eq!(
            error.to_string(),
            "`sbatch --partition=nope '/x/my job'` failed (exit status: 1): sbatch: error: invalid partition \
             specified: nope; set `[slurm] partition` (or `[gpus.TYPE] partition`) in site.toml to one that \
             `sinfo -s` lists, or give --slurm-arg=--partition=NAME"
        );
    }

    #[test]
    fn no_slurm_points_at_run() {
        let error = SlurmError::NotFound { tool: "sbatch".into() };
        assert!(
            error.to_string().contains("no Slurm on PATH") && error.to_string().contains("`tokmark run`")
        );
        assert!(!error.is_transient());
    }
}
