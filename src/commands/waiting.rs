//! Waiting for jobs and local runs: until their end, and what that means for this process's exit code.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::jobs::{as_json, is_alive, may_change, rows};
use super::{output, session, verify};
use crate::deploy::log;
use crate::document::InputError;
use crate::error::{self, Ended};
use crate::executor::slurm::{Slurm, poll_interval};
use crate::experiment::Experiment;
use crate::experiment::discover::{self, Found, Progress};
use crate::flags::Global;
use crate::slurm::{JobId, JobState, JobStatus};

/// Waits for what a user named.
pub(super) async fn wait(global: &Global, found: &Found, slurm: &Slurm, json: bool) -> anyhow::Result<()> {
    match found.manifest.own_job() {
        Some(job) if may_change(found.progress()) => {
            let job = job.parse().context("the manifest's job id")?;
            wait_for(global, slurm, &job, &found.dir, json).await
        }
        _ => wait_local(&found.dir, json).await,
    }
}

/// Waits for a local run, and tells how it ended.
async fn wait_local(dir: &Path, json: bool) -> anyhow::Result<()> {
    loop {
        let found = discover::at(dir)
            .ok_or_else(|| InputError::new(dir.display().to_string(), "no experiment any more"))?;
        match found.progress() {
            Progress::Running { host, pid, .. } if is_alive(&host, pid) => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            _ => return verdict_of(&found, None, json),
        }
    }
}

/// Waits for a Slurm job, says how its state changes, and tells how it ended.
pub(super) async fn wait_for(
    global: &Global,
    slurm: &Slurm,
    job: &JobId,
    dir: &Path,
    json: bool,
) -> anyhow::Result<()> {
    let (found, status) = end_of(global, slurm, job, dir).await?;
    verdict_of(&found, Some(&status), json)
}

/// Waits for several jobs at once, tells how each ended in their order, and ends as the worst of them did.
pub(super) async fn wait_for_all(
    global: &Global,
    slurm: &Slurm,
    jobs: &[(JobId, PathBuf)],
    json: bool,
) -> anyhow::Result<()> {
    let mut watched = tokio::task::JoinSet::new();
    for (at, (job, dir)) in jobs.iter().cloned().enumerate() {
        let (global, slurm) = (global.clone(), slurm.clone());
        watched.spawn(async move { (at, end_of(&global, &slurm, &job, &dir).await) });
    }
    let mut ends = Vec::new();
    while let Some(end) = watched.join_next().await {
        ends.push(end?);
    }
    ends.sort_by_key(|(at, _)| *at);
    let (mut told, mut failures) = (Vec::new(), Vec::new());
    for ((job, _), (_, end)) in jobs.iter().zip(ends) {
        let verdict = end.and_then(|(found, status)| {
            if json {
                told.push(as_json(&found, &[(status.id.clone(), status.clone())].into()));
            } else {
                output::line(&format!("\njob {job}"))?;
                show(&found)?;
            }
            judge(&found, Some(&status))
        });
        if let Err(failure) = verdict {
            failures.push((format!("job {job}"), failure));
        }
    }
    if json {
        output::json(&told)?;
    }
    worst(failures, jobs.len())
}

/// The worst of several ends, with what each says; `of` is how many there were in all.
pub(super) fn worst(failures: Vec<(String, anyhow::Error)>, of: usize) -> anyhow::Result<()> {
    let code =
        failures.iter().map(|(_, failure)| error::exit_code(failure)).max_by_key(|code| severity(*code));
    let Some(code) = code else { return Ok(()) };
    let said = failures.iter().map(|(name, failure)| format!("{name}: {failure:#}")).collect::<Vec<_>>();
    let message = format!("{} of {of} jobs did not end well\n{}", failures.len(), said.join("\n"));
    Err(Ended { code, message }.into())
}

/// How bad an exit code is: a result that a gate refused is one, an interruption leaves none, a server that failed may fail
/// again; what comes before the servers concerns every job.
fn severity(code: u8) -> u8 {
    const FROM_BAD_TO_WORSE: [u8; 7] = [
        error::OK,
        error::GATE,
        error::INTERRUPTED,
        error::SERVER,
        error::INFRASTRUCTURE,
        error::USAGE,
        error::BUG,
    ];
    let place = FROM_BAD_TO_WORSE.iter().position(|known| *known == code).unwrap_or(FROM_BAD_TO_WORSE.len());
    u8::try_from(place).unwrap_or(u8::MAX)
}

/// The end of a Slurm job, as Slurm tells it, some seconds after at most when its experiment does not tell it too.
pub(super) async fn end_of_job(
    global: &Global,
    slurm: &Slurm,
    job: &JobId,
    dir: &Path,
) -> anyhow::Result<JobStatus> {
    let status = until_gone(global, slurm, job).await?;
    let deadline = std::time::Instant::now() + LAG;
    let has_ended = |found: Found| matches!(found.progress(), Progress::Ended(_));
    while !discover::at(dir).is_some_and(has_ended) && std::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(status)
}

/// Waits until Slurm says that a job has ended; says how its state changes.
async fn until_gone(global: &Global, slurm: &Slurm, job: &JobId) -> anyhow::Result<JobStatus> {
    let status = slurm.wait(job, poll_interval(), |status| {
        if !global.quiet {
            let reason = status.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            output::note(&format!("job {job}: {}{reason}", status.state));
        }
    });
    Ok(status.await?)
}

/// How long the last events may take over a shared file system once a job is gone.
const LAG: Duration = Duration::from_secs(5);

/// The end of a Slurm job, as its experiment and Slurm tell it.
async fn end_of(
    global: &Global,
    slurm: &Slurm,
    job: &JobId,
    dir: &Path,
) -> anyhow::Result<(Found, JobStatus)> {
    let status = until_gone(global, slurm, job).await?;
    // The last events may reach a shared file system a moment after the job is gone.
    let deadline = std::time::Instant::now() + LAG;
    loop {
        match discover::at(dir) {
            Some(found)
                if matches!(found.progress(), Progress::Ended(_)) || std::time::Instant::now() > deadline =>
            {
                return Ok((found, status));
            }
            None if std::time::Instant::now() > deadline => {
                return Err(Ended {
                    code: error::INFRASTRUCTURE,
                    message: format!(
                        "job {job} ended {} and left no experiment in {}",
                        status.state,
                        dir.display()
                    ),
                }
                .into());
            }
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// The closing table, and the exit code of the run as this one's.
fn verdict_of(found: &Found, status: Option<&JobStatus>, json: bool) -> anyhow::Result<()> {
    if json {
        let statuses = status.map(|status| (status.id.clone(), status.clone())).into_iter().collect();
        output::json(&as_json(found, &statuses))?;
    } else {
        show(found)?;
    }
    judge(found, status)
}

/// The closing table.
fn show(found: &Found) -> std::io::Result<()> {
    let rows = rows(found);
    if !rows.is_empty() {
        output::text(&session::closing(&rows))?;
    }
    output::line(&format!("results: {}", found.dir.display()))?;
    let plan = Experiment::at(&found.dir).plan().ok();
    match plan.and_then(|plan| verify::advice(&plan, &rows, &found.dir)) {
        Some(advice) => output::line(&advice),
        None => Ok(()),
    }
}

/// The exit code of the run as this one's.
pub(super) fn judge(found: &Found, status: Option<&JobStatus>) -> anyhow::Result<()> {
    let state = status.map(|status| status.state.to_string());
    match (found.progress(), status) {
        (Progress::Ended(error::OK), _) => Ok(()),
        (Progress::Ended(code), _) => {
            let message =
                found.failure().map_or_else(|| format!("ended with exit code {code}"), str::to_owned);
            Err(Ended { code, message }.into())
        }
        (_, Some(status)) => {
            let reason = status.reason.as_deref().map(|reason| format!(", {reason}")).unwrap_or_default();
            let output = found.dir.join("slurm.out");
            let excerpt: String =
                log::tail(&output, 10).lines().map(|line| format!("\n  | {line}")).collect();
            let message = format!(
                "the job ended {}{reason} before tokmark wrote its own end{excerpt}\n  log: {}",
                state.unwrap_or_default(),
                output.display()
            );
            let code =
                if status.state == JobState::Cancelled { error::INTERRUPTED } else { error::INFRASTRUCTURE };
            Err(Ended { code, message }.into())
        }
        (_, None) => Err(Ended {
            code: error::INFRASTRUCTURE,
            message: "the run is gone without having written its end".into(),
        }
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_code_is_the_one_that_concerns_most_jobs() {
        let mut codes = [130, 3, 0, 5, 1, 4, 2];
        codes.sort_by_key(|code| severity(*code));
        assert_eq!(codes, [0, 5, 130, 4, 3, 2, 1]);
        assert!(severity(77) > severity(1), "an unknown one is worst");
    }
}
