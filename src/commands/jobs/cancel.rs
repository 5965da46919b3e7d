//! `tokmark jobs cancel`: cancels jobs through Slurm, and local runs and suites by a signal.

use std::path::Path;

use anyhow::{Context, bail};

use crate::commands::printer::Printer;
use crate::document::InputError;
use crate::executor::slurm::Slurm;
use crate::experiment::manifest::hostname;
use crate::history::{self, Job, LeftBehind, Named, Progress, Statuses, Suite, process};
use crate::slurm::JobId;

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
    for job in jobs {
        cancel(printer, &job, slurm).await?;
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

async fn cancel(printer: Printer, job: &Job, slurm: &Slurm) -> anyhow::Result<()> {
    let ids: Vec<JobId> = job.open_id().cloned().into_iter().collect();
    let (entry, standing) = job.look(&history::statuses(slurm, &ids).await?);
    let left = entry.as_ref().map(LeftBehind::of).unwrap_or_default();
    let progress = entry.map(|entry| entry.progress());
    let name = job.id.as_ref().map_or_else(|| job.dir.display().to_string(), ToString::to_string);
    match (&job.id, progress) {
        (_, Some(Progress::Ended(_))) if standing.has_ended() => {
            printer.line(format!("{name} has ended already ({})", standing.state))?;
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
    Ok(())
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
