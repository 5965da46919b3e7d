//! `scancel`: ending a job, and signals to a step or a batch script.
//!
//! Source: scancel(1).
//!
//! scancel of a job that is unknown or has ended is silent and succeeds; of such a step it fails, see [`is_gone`].

use super::{JobId, StepId};

/// Ends the job: every process of every step gets SIGCONT and SIGTERM, after the cluster's `KillWait` SIGKILL.
pub fn job_argv(id: &JobId) -> Vec<String> {
    vec!["scancel".into(), id.to_string()]
}

/// Sends `signal` (`TERM`) to the tasks of one step.
///
/// The soft stop of a server: srun that gets SIGTERM itself kills its tasks with SIGKILL at once.
pub fn step_argv(id: &StepId, signal: &str) -> Vec<String> {
    vec!["scancel".into(), format!("--signal={signal}"), id.to_string()]
}

/// Sends `signal` to the job's batch shell alone.
pub fn batch_argv(id: &JobId, signal: &str) -> Vec<String> {
    vec!["scancel".into(), "--batch".into(), format!("--signal={signal}"), id.to_string()]
}

/// scancel failed only because what it was to signal has ended.
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
        assert_eq!(step_argv(&"7.1".parse().unwrap(), "TERM"), ["scancel", "--signal=TERM", "7.1"]);
        assert_eq!(batch_argv(&job, "USR1"), ["scancel", "--batch", "--signal=USR1", "7"]);
    }

    #[test]
    fn what_has_ended_is_no_failure() {
        assert!(is_gone("scancel: error: Kill job error on job step id 31.7: Invalid job id specified"));
        assert!(is_gone(
            "scancel: error: Kill job error on job id 31: Job/step already completing or completed"
        ));
        assert!(!is_gone("scancel: error: Kill job error on job id 31: Access/permission denied"));
    }
}
