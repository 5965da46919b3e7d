//! `squeue`: jobs in slurmctld.
//!
//! Source: squeue(1).

use super::status::{rows, text};
use super::{JobId, JobState, JobStatus, Unparsable, duration_s, joined, unix_s};

/// The name comes last, because it may contain the separator.
const FIELDS: &str = "%i|%T|%N|%V|%S|%e|%M|%l|%r|%j";

/// The argv for many jobs.
///
/// `--states=all`, because slurmctld knows the final state of a job for `MinJobAge` seconds, earlier and more reliably than the
/// accounting. An unknown id among several is left out; alone it makes squeue fail, see [`super::knows_none`].
pub fn argv(ids: &[JobId]) -> Vec<String> {
    let jobs = format!("--jobs={}", joined(ids));
    let format = format!("--format={FIELDS}");
    ["squeue", "--noheader", "--states=all", &jobs, &format].map(str::to_owned).to_vec()
}

/// The jobs in squeue's stdout. A job's line that lacks fields is an error.
pub fn parse(stdout: &str) -> Result<Vec<JobStatus>, Unparsable> {
    let job = |(id, [state, nodes, submit, start, end, elapsed, limit, reason, name]): (_, [&str; 9])| {
        let status = JobStatus {
            id,
            state: JobState::parse(state),
            reason: text(reason),
            exit_code: None,
            nodes: text(nodes),
            name: name.to_owned(),
            submit: unix_s(submit),
            start: unix_s(start),
            end: unix_s(end),
            elapsed_s: duration_s(elapsed),
            time_limit_s: duration_s(limit),
        };
        status.without_forecast()
    };
    Ok(rows(stdout, "squeue", FIELDS)?.into_iter().map(job).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::knows_none;
    use super::*;

    fn ids(texts: &[&str]) -> Vec<JobId> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    #[test]
    fn one_call_for_many_jobs() {
        let argv = argv(&ids(&["7", "8_1"]));
        assert_eq!(argv[..4], ["squeue", "--noheader", "--states=all", "--jobs=7,8_1"]);
        assert_eq!(FIELDS.split('|').count(), 10);
    }

    #[test]
    fn a_running_job() {
        let text =
            "31|RUNNING|sn[3-4]|1795322736|1795322737|1795326336|0:02|1:00:00|None|my job=a b\n".to_owned();
        let jobs = parse(&text).unwrap();
        let [job] = &jobs[..] else { panic!("{jobs:?}") };
        assert_eq!((job.id.as_str(), &job.state), ("31", &JobState::Running));
        assert_eq!((job.nodes.as_deref(), job.name.as_str()), (Some("sn[3-4]"), "my job=a b"));
        assert_eq!((job.submit, job.start), (Some(1_795_322_736), Some(1_795_322_737)));
        assert_eq!(job.end, None, "squeue's end of a running job is its time limit");
        assert_eq!((job.elapsed_s, job.time_limit_s, &job.reason), (Some(2), Some(3600), &None));
    }

    #[test]
    fn a_waiting_job_among_banners() {
        let text = "\n*** lab | maintenance on Friday ***\n\
            9|PENDING||1795322736|N/A|N/A|0:00|UNLIMITED|ReqNodeNotAvail, UnavailableNodes:n1|a|b\n12 jobs\n";
        let jobs = parse(text).unwrap();
        assert_eq!(jobs.len(), 1);
        assert_eq!(jobs[0].reason.as_deref(), Some("ReqNodeNotAvail, UnavailableNodes:n1"));
        assert_eq!((jobs[0].name.as_str(), jobs[0].start, jobs[0].time_limit_s), ("a|b", None, None));
        assert_eq!(jobs[0].nodes, None);
    }

    #[test]
    fn an_ended_job_and_an_unknown_state() {
        let text = "9|CANCELLED|n1|1|2|5|0:03|1:00|None|x\n10|NAPPING|n1|1|2|5|0:03|1:00|None|x\n";
        let jobs = parse(text).unwrap();
        assert_eq!((&jobs[0].state, jobs[0].end), (&JobState::Cancelled, Some(5)));
        assert_eq!((&jobs[1].state, jobs[1].end), (&JobState::Unknown("NAPPING".into()), None));
    }

    #[test]
    fn nothing_and_too_little() {
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(parse("slurm is fun\n").unwrap(), []);
        assert_eq!(parse("9|RUNNING\n").unwrap_err().found, "9|RUNNING");
        assert!(knows_none("slurm_load_jobs error: Invalid job id specified\n"));
        assert!(!knows_none("slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"));
    }

    proptest! {
        #[test]
        fn never_panics(text in "[\\PC\n|]*", row in "[0-9]{1,3}\\|[A-Z|0-9:/-]{0,60}") {
            let _ = (parse(&text), parse(&row));
        }
    }
}
