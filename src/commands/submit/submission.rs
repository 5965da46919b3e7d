//! Submits the jobs one after the other; with `--wait`, waits for their end.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;

use super::{Ready, SubmitArgs, parallel};
use crate::commands::jobs::{suite, wait};
use crate::commands::printer::Printer;
use crate::error::{self, ExitError};
use crate::executor::slurm::Slurm;
use crate::experiment::{Experiment, JobIdentity, files};
use crate::history::{self, Suite};
use crate::run::Signals;
use crate::slurm::JobId;
use crate::workload::Job;
use crate::workload::file::SuiteFile;

/// The jobs to submit, and the options.
pub(super) struct Submission<'a> {
    pub(super) printer: Printer,
    pub(super) args: &'a SubmitArgs,
    pub(super) ready: &'a [Ready],
    pub(super) suite: Option<&'a SuiteFile>,
    /// Options for sbatch.
    pub(super) options: &'a [String],
}

impl Submission<'_> {
    /// Submits the jobs one after the other, and waits for them with `--wait`.
    pub(super) async fn submit(&self) -> anyhow::Result<()> {
        let (printer, args, slurm) = (self.printer, self.args, Slurm::default());
        let (mut jobs, mut values) = (Vec::new(), Vec::new());
        for (number, ready) in self.ready.iter().enumerate() {
            let before = parallel::before(number, args.parallel).and_then(|before| jobs.get(before));
            let before = before.and_then(|job: &history::Job| job.id.as_ref());
            let options: Vec<String> = self
                .options
                .iter()
                .cloned()
                .chain(before.map(|id| parallel::dependency(id.as_str())))
                .collect();
            let (id, experiment) = match self.submit_one(&slurm, ready, &options).await {
                Ok(submitted) => submitted,
                Err(error) if jobs.is_empty() => return Err(error),
                Err(error) => {
                    printer.json(&values)?;
                    return Err(error.context(self.submitted_so_far(&jobs)));
                }
            };
            if printer.is_json() && args.wait {
                printer.error(format!("submitted job {id}"));
            }
            printer.line(announcement(ready, &id, self.ready.len()))?;
            let value = json!({"job": id, "experiment": experiment.dir()});
            values.push(ready.job.as_json(value));
            jobs.push(history::Job::submitted(id, experiment.dir().to_path_buf()));
        }
        let suite = self.keep_suite(&jobs);
        if let Some(suite) = suite.as_ref().filter(|_| printer.is_json()) {
            printer.note(format!("suite: {}", suite.dir().display()));
        }
        self.announce_results(&jobs, suite.as_ref())?;
        if args.wait {
            return self.wait(&slurm, &jobs, suite.as_ref()).await;
        }
        printer.json_list(&values, args.is_list())
    }

    fn submitted_so_far(&self, jobs: &[history::Job]) -> String {
        let kept = self.keep_suite(jobs);
        let suite = kept.map(|kept| format!(" (suite {})", kept.dir().display())).unwrap_or_default();
        format!("{} of {} jobs are submitted: {}{suite}", jobs.len(), self.ready.len(), ids(jobs).join(", "))
    }

    /// Records which experiments the jobs of a suite became. A failure only warns, because the jobs are queued. Jobs that sbatch
    /// rejected are recorded too; without them the suite would seem complete.
    fn keep_suite(&self, jobs: &[history::Job]) -> Option<Suite> {
        let ordered: Vec<&Job> = self.ready.iter().map(|ready| &ready.job).collect();
        let place = |job: &history::Job| (job.id.as_ref().map(ToString::to_string), job.dir.clone());
        let nowhere = std::iter::repeat_with(|| (None, PathBuf::new()));
        let places: Vec<_> = jobs.iter().map(place).chain(nowhere).take(ordered.len()).collect();
        match suite::create(self.suite?, &ordered, &places, "submit", self.args.parallel) {
            Ok(suite) => Some(suite),
            Err(error) => {
                self.printer
                    .warn(format!("the jobs are submitted, the suite's directory cannot be made: {error}"));
                None
            }
        }
    }

    async fn wait(&self, slurm: &Slurm, jobs: &[history::Job], suite: Option<&Suite>) -> anyhow::Result<()> {
        let printer = self.printer;
        let end = async {
            match (suite, jobs) {
                (Some(suite), _) => wait::suite(printer, suite, slurm).await,
                (None, [job]) if !self.args.is_list() => wait::one(printer, job, slurm).await,
                (None, jobs) => wait::several(printer, jobs, slurm).await,
            }
        };
        let signals = Signals::listen()?;
        tokio::select! {
            biased;
            _ = signals.first() => {
                printer.error(still_running(jobs));
                Err(ExitError { code: error::INTERRUPTED, message: String::new() }.into())
            }
            end = end => end,
        }
    }

    /// Passes the script to sbatch and creates the experiment's skeleton, which the job may already have created.
    async fn submit_one(
        &self,
        slurm: &Slurm,
        ready: &Ready,
        options: &[String],
    ) -> anyhow::Result<(JobId, Experiment)> {
        let (plan, script) = (&ready.job.plan, ready.script.as_str());
        let folder = Path::new(&plan.input.experiments);
        let path: PathBuf = folder.join(format!(".submit-{}.sbatch", std::process::id()));
        let is_new = !folder.exists();
        fs_err::create_dir_all(folder).context("cannot make the folder of the experiments")?;
        files::replace(&path, script.as_bytes())?;
        let submitted = slurm.submit(&path, options).await;
        fs_err::remove_file(&path)?;
        if submitted.is_err() && is_new {
            // Fails if another process already uses it.
            let _ = std::fs::remove_dir(folder);
        }
        let job = submitted?;
        let mut identity = JobIdentity { id: job.to_string(), ..JobIdentity::default() };
        let first = folder.join(format!("{}_{job}", plan.experiment));
        if first.exists() {
            // The job has started already, or its number comes again.
            let statuses = slurm.poll(std::slice::from_ref(&job)).await.unwrap_or_default();
            identity.submitted = statuses.get(&job).and_then(|status| status.submit);
        }
        // The job is queued: from here on no error may suggest otherwise.
        let experiment = identity.experiment(plan, "submit", Some(script)).unwrap_or_else(|error| {
            self.printer.warn(format!(
                "job {job} is submitted, its directory will be made by the job itself: {error}"
            ));
            Experiment::at(first)
        });
        Ok((job, experiment))
    }

    /// Where the results will be, and what to do next.
    fn announce_results(&self, jobs: &[history::Job], suite: Option<&Suite>) -> std::io::Result<()> {
        let (results, next) = match (suite, jobs) {
            (Some(suite), _) => {
                let name = suite.id();
                let next = format!("next: tokmark jobs wait {name}\n      tokmark jobs show {name}");
                (format!("suite: {}", suite.dir().display()), next)
            }
            (None, [job]) => {
                let id = ids(jobs).concat();
                let next = format!("next: tokmark jobs wait {id} | tokmark jobs log {id}");
                (format!("results: {}", job.dir.display()), next)
            }
            (None, jobs) => {
                let folder = jobs.first().and_then(|job| job.dir.parent()).unwrap_or(Path::new(""));
                (
                    format!("results: {}", folder.display()),
                    "next: tokmark jobs | tokmark jobs wait ID".to_owned(),
                )
            }
        };
        self.printer.hint(results)?;
        if self.args.wait { Ok(()) } else { self.printer.hint(next) }
    }
}

fn ids(jobs: &[history::Job]) -> Vec<&str> {
    jobs.iter().filter_map(|job| job.id.as_ref()).map(JobId::as_str).collect()
}

/// Advice about jobs that this process no longer waits for.
fn still_running(jobs: &[history::Job]) -> String {
    match ids(jobs).as_slice() {
        [job] => format!("job {job} goes on: tokmark jobs wait {job} | tokmark jobs cancel {job}"),
        ids => format!("jobs {} go on: tokmark jobs wait ID | tokmark jobs cancel ID", ids.join(", ")),
    }
}

/// `submitted job 3`, with a description if there are several.
fn announcement(ready: &Ready, id: &JobId, all: usize) -> String {
    if all == 1 {
        format!("submitted job {id}")
    } else {
        format!("submitted job {id}: {}", ready.job.describe())
    }
}
