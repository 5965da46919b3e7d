//! `tokmark jobs cancel`: cancels jobs through Slurm, and local runs and suites by a signal.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::commands::printer::Printer;
use crate::document::InputError;
use crate::executor::SlurmError;
use crate::executor::slurm::{Slurm, poll_interval};
use crate::experiment::manifest::hostname;
use crate::history::{self, Entry, Job, LeftBehind, Named, Progress, Statuses, Suite, process};
use crate::slurm::{JobId, JobState};

/// Cancels everything named, after finding all of it.
pub(super) async fn run(
    printer: Printer,
    folder: &Path,
    names: &[String],
    slurm: &Slurm,
) -> anyhow::Result<()> {
    let mut jobs = Vec::new();
    for name in names {
        match history::find(folder, name)? {
            Named::Experiment(entry) => jobs.push(Job::of(&entry)),
            Named::Suite(suite) if stop_suite(printer, &suite)? => {}
            Named::Suite(suite) => jobs.extend(suite.jobs()),
        }
    }
    let mut asked = Vec::new();
    for job in jobs {
        asked.extend(cancel(printer, &job, slurm).await?);
    }
    end(printer, &asked, slurm).await
}

/// How long jobs may take to stop their servers and remove their containers.
const CLEAN_UP: Duration = Duration::from_secs(60);

/// Waits until the jobs that were asked to end have done so, then cancels what is left of them.
async fn end(printer: Printer, asked: &[JobId], slurm: &Slurm) -> anyhow::Result<()> {
    let ends = async {
        for id in asked {
            printer.note(format!("job {id} stops its servers and removes its containers"));
            slurm.wait(id, poll_interval().min(Duration::from_secs(1)), |_| {}).await?;
        }
        Ok::<(), SlurmError>(())
    };
    // Whether they ended in time or cannot be watched: Slurm ignores the cancellation of a job that has ended.
    let _ = tokio::time::timeout(CLEAN_UP, ends).await;
    for id in asked {
        slurm.cancel(id).await?;
        printer.line(format!("cancelled job {id}"))?;
    }
    Ok(())
}

/// Stops the process that runs a suite; `false` if its experiments are separate jobs, or all have ended.
fn stop_suite(printer: Printer, suite: &Suite) -> anyhow::Result<bool> {
    let is_open = |job: &Job| job.look(&Statuses::new()).1.is_open();
    match suite.receipt.pid.filter(|_| suite.jobs().iter().any(is_open)) {
        Some(pid) => stop(printer, &suite.id(), &suite.receipt.host, pid).map(|()| true),
        None => Ok(false),
    }
}

/// Cancels what runs a job. A Slurm job with containers on its nodes is only asked to end, and its id returned: once Slurm ends a
/// job, it starts no step that could remove them.
async fn cancel(printer: Printer, job: &Job, slurm: &Slurm) -> anyhow::Result<Option<JobId>> {
    let ids: Vec<JobId> = job.open_id().cloned().into_iter().collect();
    let statuses = history::statuses(slurm, &ids).await?;
    let (entry, standing) = job.look(&statuses);
    let runs = |id: &JobId| statuses.get(id).is_some_and(|status| status.state == JobState::Running);
    let has_containers = || entry.as_ref().is_some_and(keeps_containers);
    let left = entry.as_ref().map(LeftBehind::of).unwrap_or_default();
    let progress = entry.as_ref().map(Entry::progress);
    let name = job.id.as_ref().map_or_else(|| job.dir.display().to_string(), ToString::to_string);
    match (&job.id, progress) {
        (_, Some(Progress::Ended(_))) if standing.has_ended() => {
            printer.line(format!("{name} has ended already ({})", standing.state))?;
        }
        (Some(id), _) if runs(id) && has_containers() => {
            slurm.warn(id).await?;
            return Ok(Some(id.clone()));
        }
        (Some(id), _) => {
            slurm.cancel(id).await?;
            printer.line(format!("cancelled job {id}"))?;
        }
        (None, Some(Progress::Running { host, pid, .. })) if standing.is_open() => {
            stop(printer, &name, &host, pid)?;
        }
        (None, Some(_)) if left.is_empty() => printer.line(format!("{name} does not run"))?,
        (None, Some(_)) => end_left_behind(printer, &name, &left)?,
        (None, None) => {}
    }
    Ok(None)
}

/// Whether the job of an experiment unpacks containers on its nodes.
fn keeps_containers(entry: &Entry) -> bool {
    let container = entry.experiment().plan().ok().and_then(|plan| plan.container);
    container.is_some_and(|container| container.is_unpacked())
}

fn end_left_behind(printer: Printer, name: &str, left: &[LeftBehind]) -> anyhow::Result<()> {
    for process in left {
        if !process.end() {
            bail!("{name}: {process} does not end");
        }
        printer.line(format!("{name} does not run; ended {process}, which it left behind"))?;
    }
    Ok(())
}

/// Signals the process of a local run or suite to wrap up.
fn stop(printer: Printer, name: &str, host: &str, pid: u32) -> anyhow::Result<()> {
    if host != hostname() {
        return Err(InputError::new(name, format!("runs on {host}, not here"))
            .next(format!("cancel it on {host}"))
            .into());
    }
    process::stop(pid).with_context(|| format!("cannot signal process {pid}"))?;
    Ok(printer.line(format!("asked {name} to stop"))?)
}
