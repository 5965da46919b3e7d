//! Derives the state of a job or a local run, in one pure function.

use std::path::{Path, PathBuf};

use super::{Entry, Progress};
use crate::error::{self, ExitError};
use crate::slurm::{JobState, JobStatus};

/// What is in the directory of a job or a local run.
#[derive(Debug, Clone, Copy)]
pub enum Found<'a> {
    /// Its experiment.
    Experiment(&'a Entry),
    /// Nothing: lost, or not created yet.
    Nothing {
        /// Where the experiment should be.
        dir: &'a Path,
        /// Whether it has a Slurm job of its own.
        has_job: bool,
    },
    /// The job never reached the queue.
    NotSubmitted,
}

/// The state of a job or a local run. While it may continue, `exit` and `failure` are `None`; if its end is unknown,
/// only `failure` is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// For people: Slurm's state, `RUNNING: starting servers`, `COMPLETED`, `INVALID`, `LOST` …
    pub state: String,
    /// Why it failed.
    pub failure: Option<String>,
    /// The exit code it ended with.
    pub exit: Option<u8>,
    /// Output file of its job, if nothing else explains the failure.
    pub output: Option<PathBuf>,
}

impl Standing {
    fn open(state: impl Into<String>) -> Self {
        Self { state: state.into(), failure: None, exit: None, output: None }
    }

    fn ended(state: impl Into<String>, exit: u8, failure: impl Into<String>) -> Self {
        let failure = (exit != error::OK).then(|| failure.into());
        Self { state: state.into(), failure, exit: Some(exit), output: None }
    }

    fn unknown(state: impl Into<String>, failure: impl Into<String>) -> Self {
        Self { state: state.into(), failure: Some(failure.into()), exit: None, output: None }
    }

    /// The same, with what else is known about its failure.
    pub fn because(self, cause: &str) -> Self {
        let failure = self.failure.map(|failure| format!("{failure}: {cause}"));
        Self { failure, ..self }
    }

    /// Whether it continues or may continue.
    pub fn is_open(&self) -> bool {
        self.exit.is_none() && self.failure.is_none()
    }

    /// Whether its end is known.
    pub fn has_ended(&self) -> bool {
        self.exit.is_some()
    }

    /// Its result; `Ok` while it continues.
    pub fn result(&self) -> Result<(), ExitError> {
        match &self.failure {
            None => Ok(()),
            Some(message) => {
                Err(ExitError { code: self.exit.unwrap_or(error::INFRASTRUCTURE), message: message.clone() })
            }
        }
    }
}

/// Derives the state from the directory, Slurm's status of its own job, and whether the process that runs it, or
/// will, lives. Its own events take precedence, except for an interruption: the job may have been requeued, and Slurm
/// knows why it was interrupted.
pub fn standing(found: Found<'_>, status: Option<&JobStatus>, is_alive: bool) -> Standing {
    match found {
        Found::Experiment(entry) => of_experiment(entry, status, is_alive),
        Found::Nothing { dir, has_job } => of_nothing(dir, has_job, status, is_alive),
        Found::NotSubmitted => {
            Standing::ended("NOT SUBMITTED", error::INFRASTRUCTURE, "it was not submitted")
        }
    }
}

fn of_experiment(entry: &Entry, status: Option<&JobStatus>, is_alive: bool) -> Standing {
    let failure =
        |code| entry.failure().map_or_else(|| format!("ended with exit code {code}"), str::to_owned);
    let has_job = entry.manifest.own_job().is_some();
    match (entry.progress(), status) {
        (Progress::Ended(error::INTERRUPTED), Some(status)) if !status.state.is_terminal() => {
            Standing::open(status.state.as_str())
        }
        (Progress::Ended(error::INTERRUPTED), Some(status)) if status.state != JobState::Failed => {
            Standing::ended(status.state.as_str(), error::INTERRUPTED, failure(error::INTERRUPTED))
        }
        (Progress::Ended(code), _) => Standing::ended(word(code), code, failure(code)),
        (Progress::Running { doing, .. }, Some(status)) if status.state == JobState::Running => {
            Standing::open(format!("{}: {doing}", status.state))
        }
        (_, Some(status)) if !status.state.is_terminal() => Standing::open(status.state.as_str()),
        (_, Some(status)) => cut_off(entry, status),
        (_, None) if has_job => {
            Standing::unknown("UNKNOWN", "it has not written its end, and Slurm does not know it")
        }
        (Progress::Running { doing, .. }, None) if is_alive => Standing::open(format!("RUNNING: {doing}")),
        (Progress::NotStarted, None) if is_alive => Standing::open("NOT STARTED"),
        (progress, None) => {
            let state = if progress == Progress::NotStarted { "NOT STARTED" } else { "LOST" };
            Standing::ended(state, error::INFRASTRUCTURE, "the run is gone without having written its end")
        }
    }
}

/// A job that ended before tokmark recorded an end.
fn cut_off(entry: &Entry, status: &JobStatus) -> Standing {
    let reason = status.reason.as_deref().map(|reason| format!(", {reason}")).unwrap_or_default();
    let failure = format!("the job ended {}{reason} before tokmark wrote its own end", status.state);
    let code = if status.state == JobState::Cancelled { error::INTERRUPTED } else { error::INFRASTRUCTURE };
    let output = Some(entry.dir.join("slurm.out"));
    Standing { output, ..Standing::ended(status.state.as_str(), code, failure) }
}

fn of_nothing(dir: &Path, has_job: bool, status: Option<&JobStatus>, is_alive: bool) -> Standing {
    let failure = format!("it left no experiment in {}", dir.display());
    match status {
        Some(status) if status.state.is_terminal() => {
            Standing::ended(status.state.as_str(), error::INFRASTRUCTURE, failure)
        }
        Some(status) => Standing::open(status.state.as_str()),
        None if has_job => Standing::unknown("LOST", failure),
        None if is_alive => Standing::open("LOST"),
        None => Standing::ended("LOST", error::INFRASTRUCTURE, failure),
    }
}

/// One word for an exit code that a run recorded.
fn word(code: u8) -> &'static str {
    match code {
        error::OK => "COMPLETED",
        error::GATE => "INVALID",
        error::INTERRUPTED => "INTERRUPTED",
        _ => "FAILED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::event::{Event, Stamped};
    use crate::experiment::{Experiment, Manifest};

    fn started() -> Event {
        Event::Started {
            job: None,
            pid: 1,
            host: "node".into(),
            nodes: Vec::new(),
            restarts: 0,
            cluster: None,
            submitted: None,
        }
    }

    fn deploying() -> Event {
        Event::Deploying { deployment: String::new(), number: 1, of: 1 }
    }

    fn failed() -> Event {
        Event::Failed { message: "server-0 died".into() }
    }

    fn finished(exit_code: u8) -> Event {
        Event::Finished { exit_code }
    }

    fn entry(job: Option<&str>, events: &[Event]) -> Entry {
        let at: jiff::Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let manifest = serde_json::json!({
            "schema": 1, "tokmark": "", "commit": "", "recipe": "r", "gpu": "h100", "model": "m", "launcher": "sim",
            "simulated": false, "job": job, "created_by": "submit", "created_at": at, "host": "node", "command": [],
        });
        let manifest: Manifest = serde_json::from_value(manifest).unwrap();
        let events = events.iter().map(|event| Stamped { at, event: event.clone() }).collect();
        Entry { dir: "/e/r_7".into(), manifest, events }
    }

    fn status(state: &str) -> Option<JobStatus> {
        (!state.is_empty()).then(|| JobStatus::new("7".parse().unwrap(), JobState::parse(state)))
    }

    /// State, exit code, start of the failure.
    type Expected = (&'static str, Option<u8>, &'static str);

    /// A name, the events of the experiment, and the expected result for each Slurm state; empty: unknown to Slurm.
    type Case<'a> = (&'a str, Vec<Event>, &'a [(&'a str, Expected)]);

    #[track_caller]
    fn check(case: &str, found: Found<'_>, state: &str, is_alive: bool, expected: Expected) {
        let standing = standing(found, status(state).as_ref(), is_alive);
        let failure = standing.failure.as_deref().unwrap_or_default();
        assert_eq!((standing.state.as_str(), standing.exit), (expected.0, expected.1), "{case}, {state:?}");
        assert!(failure.starts_with(expected.2), "{case}, {state:?}: {failure}");
        assert_eq!(failure.is_empty(), expected.2.is_empty(), "{case}, {state:?}: {failure}");
    }

    #[test]
    fn a_job_stands_by_its_experiment_and_slurm() {
        const UNWRITTEN: &str = "it has not written its end, and Slurm does not know it";
        let table: [Case<'_>; 6] = [
            (
                "not started",
                Vec::new(),
                &[
                    ("", ("UNKNOWN", None, UNWRITTEN)),
                    ("PENDING", ("PENDING", None, "")),
                    ("RUNNING", ("RUNNING", None, "")),
                    ("NEW_STATE", ("NEW_STATE", None, "")),
                    ("CANCELLED", ("CANCELLED", Some(130), "the job ended CANCELLED before")),
                    ("FAILED", ("FAILED", Some(3), "the job ended FAILED before")),
                ],
            ),
            (
                "running",
                vec![started(), deploying()],
                &[
                    ("", ("UNKNOWN", None, UNWRITTEN)),
                    ("RUNNING", ("RUNNING: starting servers", None, "")),
                    ("COMPLETING", ("COMPLETING", None, "")),
                    ("TIMEOUT", ("TIMEOUT", Some(3), "the job ended TIMEOUT before")),
                ],
            ),
            (
                "completed",
                vec![started(), finished(0)],
                &[
                    ("", ("COMPLETED", Some(0), "")),
                    ("RUNNING", ("COMPLETED", Some(0), "")),
                    ("NODE_FAIL", ("COMPLETED", Some(0), "")),
                ],
            ),
            (
                "failed",
                vec![started(), failed(), finished(4)],
                &[
                    ("", ("FAILED", Some(4), "server-0 died")),
                    ("FAILED", ("FAILED", Some(4), "server-0 died")),
                ],
            ),
            (
                "interrupted",
                vec![started(), finished(130)],
                &[
                    ("", ("INTERRUPTED", Some(130), "ended with exit code 130")),
                    ("PENDING", ("PENDING", None, "")),
                    ("CANCELLED", ("CANCELLED", Some(130), "ended with exit code 130")),
                    ("TIMEOUT", ("TIMEOUT", Some(130), "ended with exit code 130")),
                    ("FAILED", ("INTERRUPTED", Some(130), "ended with exit code 130")),
                ],
            ),
            (
                "restarted after an interruption",
                vec![started(), failed(), finished(130), started(), finished(5)],
                &[("", ("INVALID", Some(5), "ended with exit code 5"))],
            ),
        ];
        for (case, events, expected) in table {
            let entry = entry(Some("7"), &events);
            for (state, expected) in expected {
                check(case, Found::Experiment(&entry), state, false, *expected);
            }
        }
    }

    #[test]
    fn a_local_run_stands_by_its_experiment_and_its_process() {
        const GONE: &str = "the run is gone without having written its end";
        let table: [(&str, Vec<Event>, Expected, Expected); 4] = [
            ("not started", Vec::new(), ("NOT STARTED", None, ""), ("NOT STARTED", Some(3), GONE)),
            ("running", vec![started()], ("RUNNING: starting", None, ""), ("LOST", Some(3), GONE)),
            ("completed", vec![finished(0)], ("COMPLETED", Some(0), ""), ("COMPLETED", Some(0), "")),
            (
                "interrupted",
                vec![finished(130)],
                ("INTERRUPTED", Some(130), "ended with"),
                ("INTERRUPTED", Some(130), "ended with"),
            ),
        ];
        for (case, events, alive, dead) in table {
            let entry = entry(None, &events);
            check(case, Found::Experiment(&entry), "", true, alive);
            check(case, Found::Experiment(&entry), "", false, dead);
        }
    }

    #[test]
    fn without_an_experiment_slurm_and_the_suites_process_decide() {
        const MISSING: &str = "it left no experiment in /e/r_7";
        let table: [(bool, &str, bool, Expected); 6] = [
            (true, "", false, ("LOST", None, MISSING)),
            (true, "PENDING", false, ("PENDING", None, "")),
            (true, "CANCELLED", false, ("CANCELLED", Some(3), MISSING)),
            (true, "COMPLETED", false, ("COMPLETED", Some(3), MISSING)),
            (false, "", true, ("LOST", None, "")),
            (false, "", false, ("LOST", Some(3), MISSING)),
        ];
        let experiment = Experiment::at("/e/r_7");
        for (has_job, state, is_alive, expected) in table {
            check("nothing", Found::Nothing { dir: experiment.dir(), has_job }, state, is_alive, expected);
        }
        let expected = ("NOT SUBMITTED", Some(3), "it was not submitted");
        check("not submitted", Found::NotSubmitted, "", false, expected);
    }

    #[test]
    fn open_is_neither_ended_nor_failed_and_unknown_is_failed() {
        let entry = entry(Some("7"), &[started()]);
        let open = standing(Found::Experiment(&entry), status("RUNNING").as_ref(), false);
        assert!(open.is_open() && !open.has_ended() && open.result().is_ok());
        let unknown = standing(Found::Experiment(&entry), None, false);
        assert!(!unknown.is_open() && !unknown.has_ended());
        assert_eq!(unknown.result().unwrap_err().code, error::INFRASTRUCTURE);
        let cut_off = standing(Found::Experiment(&entry), status("NODE_FAIL").as_ref(), false);
        assert_eq!(cut_off.output.as_deref(), Some(Path::new("/e/r_7/slurm.out")));
    }
}
