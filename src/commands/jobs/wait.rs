//! Waits for jobs, local runs and suites, shows the results, and exits with their code.

use super::suite;
use crate::commands::printer::Printer;
use crate::commands::results;
use crate::deploy::log;
use crate::error::{self, ExitError};
use crate::executor::slurm::Slurm;
use crate::history::{Entry, Job, Standing, Statuses, Suite, wait_all};
use crate::report;
use crate::slurm::JobStatus;

/// Waits for one job or local run.
pub(crate) async fn one(printer: Printer, job: &Job, slurm: &Slurm) -> anyhow::Result<()> {
    let statuses = job.wait(slurm, |status| note(printer, status)).await?;
    let (entry, standing) = job.look(&statuses);
    let standing = explained(standing);
    let Some(entry) = entry else {
        let message = format!("{} {}: {}", name(job), standing.state, standing.failure.unwrap_or_default());
        return Err(ExitError { code: error::INFRASTRUCTURE, message }.into());
    };
    printer.json(&entry.as_json(&standing))?;
    show(printer, &entry)?;
    Ok(standing.result()?)
}

/// Waits for several jobs, shows each in order, and exits with the worst code.
pub(crate) async fn several(printer: Printer, jobs: &[Job], slurm: &Slurm) -> anyhow::Result<()> {
    let (mut values, mut failures) = (Vec::new(), Vec::new());
    let ends = wait_all(jobs, slurm, move |status| note(printer, status)).await?;
    for (job, end) in jobs.iter().zip(ends) {
        let ended = match end {
            Ok(statuses) => {
                let (entry, standing) = job.look(&statuses);
                let standing = explained(standing);
                if let Some(entry) = entry {
                    values.push(entry.as_json(&standing));
                    printer.line(format!("\n{}", name(job)))?;
                    show(printer, &entry)?;
                }
                standing.result().map_err(anyhow::Error::from)
            }
            Err(failure) => Err(failure.into()),
        };
        failures.extend(ended.err().map(|failure| (name(job), failure)));
    }
    printer.json(&values)?;
    Ok(error::worst(&failures, jobs.len())?)
}

/// Waits for every experiment of a suite, and exits with the worst code.
pub(crate) async fn suite(printer: Printer, suite: &Suite, slurm: &Slurm) -> anyhow::Result<()> {
    let mut statuses = Statuses::new();
    for end in wait_all(&suite.jobs(), slurm, move |status| note(printer, status)).await? {
        match end {
            Ok(known) => statuses.extend(known),
            // Its row shows that its end is unknown; show the others anyway.
            Err(failure) => printer.warn(failure),
        }
    }
    suite::conclude(printer, suite, suite::standings(suite, &statuses))
}

fn note(printer: Printer, status: &JobStatus) {
    let reason = status.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    printer.note(format!("job {}: {}{reason}", status.id, status.state));
}

fn name(job: &Job) -> String {
    job.id.as_ref().map_or_else(|| job.dir.display().to_string(), |id| format!("job {id}"))
}

fn show(printer: Printer, entry: &Entry) -> std::io::Result<()> {
    let experiment = entry.experiment();
    let plan = experiment.plan().ok();
    results::show(printer, plan.as_ref(), &report::finished(&experiment), &entry.dir)
}

/// Adds the last lines of the job's output to a failure without another explanation.
pub(super) fn explained(mut standing: Standing) -> Standing {
    if let (Some(failure), Some(output)) = (&mut standing.failure, &standing.output) {
        log::tail(output, 10).lines().for_each(|line| failure.push_str(&format!("\n  | {line}")));
        failure.push_str(&format!("\n  log: {}", output.display()));
    }
    standing
}
