//! `scancel`: cancels a job, signals a step.
//!
//! Source: scancel(1).
//!
//! scancel of an unknown or ended job succeeds silently; of such a step it fails, see [`is_gone`].

use super::{JobId, StepId};

/// Cancels the job: every process of every step gets SIGCONT and SIGTERM, after the cluster's `KillWait` SIGKILL.
pub fn job_argv(id: &JobId) -> Vec<String> {
    vec!["scancel".into(), id.to_string()]
}

/// Sends SIGUSR1 to the job's script alone, as Slurm does before the time limit. The job stays RUNNING, so that Slurm still
/// starts the steps that clean up; of a job that it ends it starts none ("job has expired").
pub fn warn_argv(id: &JobId) -> Vec<String> {
    vec!["scancel".into(), "--batch".into(), "--signal=USR1".into(), id.to_string()]
}

/// Sends `signal` (`TERM`) to the tasks of one step.
///
/// The soft stop of a server, because an srun that gets SIGTERM kills its tasks with SIGKILL at once.
pub fn step_argv(id: &StepId, signal: &str) -> Vec<String> {
    vec!["scancel".into(), format!("--signal={signal}"), id.to_string()]
}

/// Whether scancel failed only because the job or step has ended.
pub fn is_gone(stderr: &str) -> bool {
    stderr.contains("Invalid job id specified") || stderr.contains("already completing or completed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argvs() {
        let job: JobId = "7".parse().unwrap();
        assert_eq!(job_argv(&job), ["scancel", "7"]);
        assert_eq!(warn_argv(&job), ["scancel", "--batch", "--signal=USR1", "7"]);
        assert_eq!(step_argv(&"7.1".parse().unwrap(), "TERM"), ["scancel", "--signal=TERM", "7.1"]);
    }

    #[test]
    fn an_ended_job_is_not_a_failure() {
        assert!(is_gone("scancel: error: Kill job error on job step id 31.7: Invalid job id specified"));
        assert!(is_gone(
            "scancel: error: Kill job error on job id 31: Job/step already completing or completed"
        ));
        assert!(!is_gone("scancel: error: Kill job error on job id 31: Access/permission denied"));
    }
}
