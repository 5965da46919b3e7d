//! Inspects a job or a local run, and waits for its end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::task::JoinError;

use super::{Entry, Found, Progress, Standing, at, cut_off, process, standing};
use crate::executor::SlurmError;
use crate::executor::slurm::{Slurm, poll_interval};
use crate::slurm::{JobId, JobStatus};

/// Status of jobs by id.
pub type Statuses = BTreeMap<JobId, JobStatus>;

/// The statuses of these jobs, as far as Slurm knows them; empty on a machine without Slurm.
pub async fn statuses(slurm: &Slurm, ids: &[JobId]) -> Result<Statuses, SlurmError> {
    match slurm.poll(ids).await {
        Err(SlurmError::NotFound { .. }) => Ok(Statuses::new()),
        polled => polled,
    }
}

/// A job or a local run: where its experiment is or will be, and what runs it.
#[derive(Debug, Clone)]
pub struct Job {
    /// Directory of its experiment.
    pub dir: PathBuf,
    /// Its own Slurm job.
    pub id: Option<JobId>,
    /// Host and process id of the suite that will run it, if it has no job of its own.
    pub runner: Option<(String, u32)>,
    /// Whether it reached the queue.
    pub is_submitted: bool,
}

/// Longest delay of the last events on a shared file system after a job ends.
const LAG: Duration = Duration::from_secs(5);

/// Time between two checks of a directory.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

impl Job {
    /// The job of an existing experiment.
    pub fn of(entry: &Entry) -> Self {
        Self { dir: entry.dir.clone(), id: entry.own_job(), runner: None, is_submitted: true }
    }

    /// A job that was just submitted.
    pub fn submitted(id: JobId, dir: PathBuf) -> Self {
        Self { dir, id: Some(id), runner: None, is_submitted: true }
    }

    /// Its id, unless the experiment's files already record a final end.
    pub fn open_id(&self) -> Option<&JobId> {
        self.id.as_ref().filter(|_| self.entry().is_none_or(|entry| entry.may_change()))
    }

    /// Its experiment, if it exists. A job that was not submitted has none, whatever the folder contains.
    pub fn entry(&self) -> Option<Entry> {
        if self.is_submitted { at(&self.dir) } else { None }
    }

    /// Its experiment and its current state.
    pub fn look(&self, statuses: &Statuses) -> (Option<Entry>, Standing) {
        let entry = self.entry();
        let standing = self.standing(entry.as_ref(), statuses);
        (entry, standing)
    }

    /// Why the experiment is missing.
    pub fn missing(&self) -> Option<String> {
        self.finished(None).failure
    }

    fn found<'a>(&'a self, entry: Option<&'a Entry>) -> Found<'a> {
        match entry {
            _ if !self.is_submitted => Found::NotSubmitted,
            Some(entry) => Found::Experiment(entry),
            None => Found::Nothing { dir: &self.dir, has_job: self.id.is_some() },
        }
    }

    /// Its state once the process that ran it has finished.
    pub fn finished(&self, entry: Option<&Entry>) -> Standing {
        standing(self.found(entry), None, false)
    }

    /// Its state, given its experiment.
    pub fn standing(&self, entry: Option<&Entry>, statuses: &Statuses) -> Standing {
        let is_alive = match entry.map(Entry::progress) {
            Some(Progress::Running { host, pid, .. }) => process::is_alive(&host, pid),
            _ => self.runner.as_ref().is_some_and(|(host, pid)| process::is_alive(host, *pid)),
        };
        let status = self.id.as_ref().and_then(|id| statuses.get(id));
        let found = standing(self.found(entry), status, is_alive);
        let cause = |entry| cut_off::cause(entry, status.map(|status| &status.state));
        match entry.filter(|_| found.has_ended()).and_then(cause) {
            Some(cause) => found.because(&cause),
            None => found,
        }
    }

    /// Waits for its end. Calls `on_change` with each new status of its Slurm job.
    pub async fn wait(
        &self,
        slurm: &Slurm,
        on_change: impl FnMut(&JobStatus),
    ) -> Result<Statuses, SlurmError> {
        let mut statuses = Statuses::new();
        let mut deadline = Instant::now();
        if let Some(id) = self.open_id() {
            let status = slurm.wait(id, poll_interval(), on_change).await?;
            statuses.insert(id.clone(), status);
            deadline = Instant::now() + LAG;
        }
        loop {
            let (entry, standing) = self.look(&statuses);
            let is_written = entry.is_some_and(|entry| matches!(entry.progress(), Progress::Ended(_)));
            if is_written || (!standing.is_open() && Instant::now() >= deadline) {
                return Ok(statuses);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

/// Waits for the end of several jobs at once. Returns, in job order, the last statuses or why Slurm does not answer.
pub async fn wait_all<F>(
    jobs: &[Job],
    slurm: &Slurm,
    on_change: F,
) -> Result<Vec<Result<Statuses, SlurmError>>, JoinError>
where
    F: Fn(&JobStatus) + Clone + Send + 'static,
{
    let mut tasks = Vec::new();
    for job in jobs {
        let (job, slurm, on_change) = (job.clone(), slurm.clone(), on_change.clone());
        tasks.push(tokio::spawn(async move { job.wait(&slurm, on_change).await }));
    }
    let mut ends = Vec::new();
    for task in tasks {
        ends.push(task.await?);
    }
    Ok(ends)
}
