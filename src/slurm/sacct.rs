//! `sacct`: jobs in the accounting, mainly ended ones.
//!
//! Source: sacct(1).
//!
//! The accounting lags by up to five seconds and, until slurmctld's record arrives, may show a started or ended job as `PENDING`,
//! named `allocation`, on its first node.

use super::status::{ExitCode, rows, text};
use super::{JobId, JobState, JobStatus, Unparsable, joined, unix_s};

/// The name comes last, because it may contain the separator.
const FIELDS: &str = "JobID,State,ExitCode,NodeList,Submit,Start,End,ElapsedRaw,TimelimitRaw,Reason,JobName";

/// The argv for many jobs: allocations only, no steps.
pub fn argv(ids: &[JobId]) -> Vec<String> {
    let jobs = format!("--jobs={}", joined(ids));
    let format = format!("--format={FIELDS}");
    ["sacct", "--allocations", "--noheader", "--parsable2", &jobs, &format].map(str::to_owned).to_vec()
}

/// Whether sacct reports that the cluster keeps no accounting, which is a property of the site, not a failure.
pub fn is_disabled(output: &str) -> bool {
    output.contains("Slurm accounting storage is disabled")
}

/// The jobs in sacct's stdout, in its order; of a requeued job, which sacct may list several times, the last run. Unknown jobs are
/// absent. A job's line that lacks fields is an error.
pub fn parse(stdout: &str) -> Result<Vec<JobStatus>, Unparsable> {
    let mut jobs: Vec<JobStatus> = Vec::new();
    for (id, fields) in rows(stdout, "sacct", FIELDS)? {
        let [state, exit, nodes, submit, start, end, elapsed, limit, reason, name] = fields;
        jobs.retain(|earlier| earlier.id != id);
        let status = JobStatus {
            id,
            state: JobState::parse(state),
            reason: text(reason),
            exit_code: ExitCode::parse(exit),
            nodes: text(nodes),
            name: name.to_owned(),
            submit: unix_s(submit),
            start: unix_s(start),
            end: unix_s(end),
            elapsed_s: elapsed.trim().parse().ok(),
            time_limit_s: limit.trim().parse::<u64>().ok().and_then(|minutes| minutes.checked_mul(60)),
        };
        jobs.push(status.without_forecast());
    }
    Ok(jobs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_call_for_many_jobs() {
        let argv = argv(&["7".parse().unwrap(), "8".parse().unwrap()]);
        assert_eq!(argv[..5], ["sacct", "--allocations", "--noheader", "--parsable2", "--jobs=7,8"]);
        assert_eq!(FIELDS.split(',').count(), 11);
    }

    #[test]
    fn endings_of_jobs() {
        let text = "31|CANCELLED by 0|0:0|sn[3-4]|1795322736|1795322736|1795322739|3|60|None|my|job\n\
            32|FAILED|3:0|sn1|1795322736|1795322736|1795322737|1|UNLIMITED|NonZeroExitCode|x\n";
        let jobs = parse(text).unwrap();
        assert_eq!((&jobs[0].state, jobs[0].name.as_str()), (&JobState::Cancelled, "my|job"));
        assert_eq!((jobs[0].elapsed_s, jobs[0].time_limit_s), (Some(3), Some(3600)));
        assert_eq!(jobs[1].exit_code, Some(ExitCode { code: 3, signal: 0 }));
        assert_eq!(jobs[1].reason.as_deref(), Some("NonZeroExitCode"));
        assert_eq!((jobs[1].end, jobs[1].time_limit_s), (Some(1_795_322_737), None));
    }

    #[test]
    fn the_last_run_of_a_requeued_job_counts() {
        let text = "7|NODE_FAIL|1:0|n1|1|2|3|1|60|None|x\n7|RUNNING|0:0|n2|4|5|Unknown|9|60|None|x\n";
        let jobs = parse(text).unwrap();
        assert_eq!(jobs.len(), 1);
        assert_eq!((&jobs[0].state, jobs[0].exit_code, jobs[0].end), (&JobState::Running, None, None));
    }

    #[test]
    fn a_record_that_slurmctld_has_not_confirmed_yet() {
        let text = "31|PENDING|0:0|sn3|1795322736|1795322736|Unknown|2||None|allocation\n";
        let job = &parse(text).unwrap()[0];
        assert_eq!((&job.state, job.time_limit_s, job.exit_code), (&JobState::Pending, None, None));
    }

    #[test]
    fn times_of_an_old_sacct_are_iso() {
        let text =
            "7|COMPLETED|0:0|n1|1970-01-02T00:00:00|1970-01-02T00:00:01|1970-01-02T00:00:09|8|60|None|x\n";
        let job = &parse(text).unwrap()[0];
        assert_eq!((job.submit, job.start, job.end), (Some(86_400), Some(86_401), Some(86_409)));
    }

    #[test]
    fn nothing_banners_and_too_little() {
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(parse("** lab | quota 3|4 **\n\n").unwrap(), []);
        assert!(parse("7|COMPLETED|0:0\n").is_err());
        assert!(is_disabled("Slurm accounting storage is disabled\n"));
    }

    proptest! {
        #[test]
        fn never_panics(text in "[\\PC\n|]*", row in "[0-9]{1,3}\\|[A-Z|0-9:/-]{0,60}") {
            let _ = (parse(&text), parse(&row));
        }
    }
}
