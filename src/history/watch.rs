//! Looking at a job or a local run, and waiting for its end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::task::JoinError;

use super::{Entry, Found, Progress, Standing, at, process, standing};
use crate::executor::SlurmError;
use crate::executor::slurm::{Slurm, poll_interval};
use crate::slurm::{JobId, JobStatus};

/// Status of jobs by id.
pub type Statuses = BTreeMap<JobId, JobStatus>;

/// Status of these jobs, as far as Slurm knows them. On a machine without Slurm, none.
pub async fn statuses(slurm: &Slurm, ids: &[JobId]) -> Result<Statuses, SlurmError> {
    match slurm.poll(ids).await {
        Err(SlurmError::NotFound { .. }) => Ok(Statuses::new()),
        polled => polled,
    }
}

/// A job or a local run: where its experiment is or will be, and who runs it.
#[derive(Debug, Clone)]
pub struct Job {
    /// Directory of its experiment.
    pub dir: PathBuf,
    /// Its own Slurm job.
    pub id: Option<JobId>,
    /// Host and process that will run it, when it has no job of its own: those of its suite.
    pub runner: Option<(String, u32)>,
    /// Whether it reached the queue.
    pub is_submitted: bool,
}

/// How long the last events may take over a shared file system once a job is gone.
const LAG: Duration = Duration::from_secs(5);

/// Time between two looks into a directory.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

impl Job {
    /// The job in whose directory an experiment lies.
    pub fn of(entry: &Entry) -> Self {
        Self { dir: entry.dir.clone(), id: entry.own_job(), runner: None, is_submitted: true }
    }

    /// A job that was just submitted.
    pub fn submitted(id: JobId, dir: PathBuf) -> Self {
        Self { dir, id: Some(id), runner: None, is_submitted: true }
    }

    /// Its id, unless its experiment says how it ended.
    pub fn open_id(&self) -> Option<&JobId> {
        self.id.as_ref().filter(|_| self.entry().is_none_or(|entry| entry.may_change()))
    }

    /// Its experiment, when it is there. A job that was not submitted has none, whatever lies in the folder.
    pub fn entry(&self) -> Option<Entry> {
        if self.is_submitted { at(&self.dir) } else { None }
    }

    /// Its experiment and how it stands now.
    pub fn look(&self, statuses: &Statuses) -> (Option<Entry>, Standing) {
        let entry = self.entry();
        let standing = self.standing(entry.as_ref(), statuses);
        (entry, standing)
    }

    /// Why it has no experiment.
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

    /// How it stands with this experiment once the process that ran it is done with it.
    pub fn finished(&self, entry: Option<&Entry>) -> Standing {
        standing(self.found(entry), None, false)
    }

    /// How it stands with this experiment.
    pub fn standing(&self, entry: Option<&Entry>, statuses: &Statuses) -> Standing {
        let is_alive = match entry.map(Entry::progress) {
            Some(Progress::Running { host, pid, .. }) => process::is_alive(&host, pid),
            _ => self.runner.as_ref().is_some_and(|(host, pid)| process::is_alive(host, *pid)),
        };
        standing(self.found(entry), self.id.as_ref().and_then(|id| statuses.get(id)), is_alive)
    }

    /// Waits for its end. `on_change` gets each status of its Slurm job that differs from the last one.
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

/// Waits for the end of several jobs at once. In their order, the last status of each, or why Slurm does not answer.
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
