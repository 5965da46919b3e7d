//! `tokmark jobs`: history from the experiment directories, reconciled with what Slurm says.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;

use super::printer::Printer;
use super::{output, planning, session, suites, waiting};
use crate::document::InputError;
use crate::error;
use crate::executor::SlurmError;
use crate::executor::slurm::Slurm;
use crate::experiment::discover::{self, Found, Progress};
use crate::experiment::manifest::hostname;
use crate::experiment::suite::{self, Suite};
use crate::flags::Global;
use crate::report::Row;
use crate::report::table::Table;
use crate::run::point;
use crate::site::SiteFile;
use crate::slurm::{JobId, JobState, JobStatus};

/// Arguments of `jobs`.
#[derive(Debug, Args)]
pub struct JobsArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// As JSON
    #[arg(long, global = true)]
    json: bool,
}

/// What to do with jobs.
#[derive(Debug, Subcommand)]
enum Action {
    /// Every job and local run, newest first (the default)
    List,
    /// One job, or one suite: state, points, results
    Show {
        /// Job id, experiment name, directory, `last`; a suite's name or directory, `last-suite`
        job: String,
    },
    /// Logs of a job
    Log {
        /// Job id, experiment name, directory, or `last`
        job: String,
        /// Which log, e.g. bench, server-0, slurm [default: bench]
        log: Option<String>,
    },
    /// Wait for a job's or a suite's end and pass on its (worst) exit code
    Wait {
        /// Job id, experiment name, directory, `last`; a suite's name or directory, `last-suite`
        job: String,
    },
    /// Cancel jobs, local runs or suites
    Cancel {
        /// Job ids, experiment names or directories; suites
        #[arg(required = true)]
        jobs: Vec<String>,
    },
}

/// Runs the verb.
pub fn run(global: &Global, args: &JobsArgs) -> anyhow::Result<()> {
    let site = SiteFile::load(global.site.as_deref())?;
    let folder = planning::experiments(global, &site)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let slurm = Slurm::default();
    runtime.block_on(async {
        match args.action.as_ref().unwrap_or(&Action::List) {
            Action::List => list(Printer::new(global, args.json), &folder, &slurm).await,
            Action::Show { job } => match find(&folder, job)? {
                Named::Experiment(found) => show(&found, &slurm, args.json).await,
                Named::Suite(suite) => suites::show(&suite, &slurm, args.json).await,
            },
            Action::Log { job, log } => match find(&folder, job)? {
                Named::Experiment(found) => log_of(&found, log.as_deref()),
                Named::Suite(suite) => Err(no_log(&suite).into()),
            },
            Action::Wait { job } => match find(&folder, job)? {
                Named::Experiment(found) => waiting::wait(global, &found, &slurm, args.json).await,
                Named::Suite(suite) => suites::wait(global, &suite, &slurm, args.json).await,
            },
            Action::Cancel { jobs } => cancel(&folder, jobs, &slurm).await,
        }
    })
}

/// What a user named.
pub(super) enum Named {
    Experiment(Box<Found>),
    Suite(Suite),
}

pub(super) fn find(folder: &Path, name: &str) -> anyhow::Result<Named> {
    let experiment = discover::named(folder, name).map(|found| Named::Experiment(Box::new(found)));
    experiment.or_else(|| suite::named(folder, name).map(Named::Suite)).ok_or_else(|| {
        InputError::new(name, format!("no such job or experiment in {}", folder.display()))
            .expected("a job id, the name or directory of an experiment or a suite, `last` or `last-suite`")
            .next("`tokmark jobs list` shows them; --experiments DIR looks elsewhere")
            .into()
    })
}

fn no_log(suite: &Suite) -> InputError {
    let begun = suite.receipt.jobs.iter().filter(|member| !suite.is_unsubmitted(member));
    let names = begun.map(|member| member.job.clone().unwrap_or(member.experiment.clone()));
    InputError::new(suite.dir().display().to_string(), "is a suite, which has no log of its own")
        .expected(format!("one of its jobs: {}", names.collect::<Vec<_>>().join(", ")))
}

/// Whether Slurm still has something to say. An interrupted job may have been requeued, or tells why it was interrupted.
pub(super) fn may_change(progress: Progress) -> bool {
    !matches!(progress, Progress::Ended(code) if code != error::INTERRUPTED)
}

/// What Slurm says of jobs that may still change. Without Slurm, nothing.
pub(super) async fn statuses(found: &[&Found], slurm: &Slurm) -> BTreeMap<JobId, JobStatus> {
    let open = found.iter().filter(|found| may_change(found.progress()));
    let ids: Vec<JobId> = open.filter_map(|found| found.manifest.own_job()?.parse().ok()).collect();
    match slurm.poll(&ids).await {
        Ok(statuses) => statuses,
        Err(SlurmError::NotFound { .. }) => BTreeMap::new(),
        Err(error) => {
            output::note(&format!("warning: {error}"));
            BTreeMap::new()
        }
    }
}

/// State of an experiment: what it wrote itself, and where that leaves it open, what Slurm says.
pub(super) fn state(found: &Found, statuses: &BTreeMap<JobId, JobStatus>) -> String {
    let progress = found.progress();
    let status =
        found.manifest.own_job().and_then(|job| job.parse().ok()).and_then(|id: JobId| statuses.get(&id));
    match (status, found.manifest.own_job(), progress) {
        (Some(status), _, Progress::Ended(error::INTERRUPTED)) if status.state != JobState::Failed => {
            status.state.to_string()
        }
        (_, _, Progress::Ended(code)) => ended(code).to_owned(),
        (Some(status), _, Progress::Running { doing, .. }) if status.state == JobState::Running => {
            format!("{}: {doing}", status.state)
        }
        (Some(status), ..) => status.state.to_string(),
        (None, None, Progress::Running { doing, host, pid }) if is_alive(&host, pid) => {
            format!("RUNNING: {doing}")
        }
        (None, None, Progress::NotStarted) => "NOT STARTED".into(),
        (None, None, _) => "LOST".into(),
        (None, Some(_), _) => "UNKNOWN".into(),
    }
}

fn ended(code: u8) -> &'static str {
    match code {
        error::OK => "COMPLETED",
        error::GATE => "INVALID",
        error::INTERRUPTED => "INTERRUPTED",
        _ => "FAILED",
    }
}

/// Whether the process of a local run still lives; on another host that cannot be told and is taken as yes.
pub(super) fn is_alive(host: &str, pid: u32) -> bool {
    host != hostname() || nix::sys::signal::kill(process(pid), None).is_ok()
}

fn process(pid: u32) -> nix::unistd::Pid {
    nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))
}

async fn list(printer: Printer, folder: &Path, slurm: &Slurm) -> anyhow::Result<()> {
    let all = discover::all(folder);
    let statuses = statuses(&all.iter().collect::<Vec<_>>(), slurm).await;
    printer.json(&all.iter().map(|found| as_json(found, &statuses)).collect::<Vec<_>>())?;
    if all.is_empty() && !printer.is_json() {
        printer.error(format!("no experiments in {}", folder.display()));
        return Ok(());
    }
    let mut table = Table::new(["JOB", "STATE", "RECIPE", "GPU", "POINTS", "CREATED (UTC)", "EXPERIMENT"]);
    for found in &all {
        let (done, of) = found.points();
        table.push(vec![
            found.manifest.job.clone().unwrap_or_else(|| "local".into()),
            state(found, &statuses),
            found.manifest.recipe.clone(),
            found.manifest.gpu.clone(),
            format!("{done}/{of}"),
            found.manifest.created_at.strftime("%F %T").to_string(),
            found.dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        ]);
    }
    Ok(printer.table(&table, &[0, 1, 2, 3, 5, 6])?)
}

pub(super) fn as_json(found: &Found, statuses: &BTreeMap<JobId, JobStatus>) -> serde_json::Value {
    let (done, of) = found.points();
    json!({
        "job": found.manifest.job,
        "state": state(found, statuses),
        "recipe": found.manifest.recipe,
        "gpu": found.manifest.gpu,
        "model": found.manifest.model,
        "simulated": found.manifest.simulated,
        "points_done": done,
        "points": of,
        "created_at": found.manifest.created_at,
        "experiment": found.dir,
        "failure": found.failure(),
        "exit_code": match found.progress() { Progress::Ended(code) => Some(code), _ => None },
    })
}

/// Rows of the points an experiment has finished.
pub(super) fn rows(found: &Found) -> Vec<Row> {
    let Ok(plan) = crate::experiment::Experiment::at(&found.dir).plan() else { return Vec::new() };
    let experiment = crate::experiment::Experiment::at(&found.dir);
    let rows = plan.points().filter_map(|(deployment, load)| {
        let folder = plan.point_folder(deployment, load);
        let summary = point::finished(&experiment.point_dir(folder.as_deref()))?;
        let name = folder.unwrap_or_else(|| load.id.clone());
        Some(Row { point: name, deployment: deployment.id.clone(), gpus: deployment.gpus, summary })
    });
    rows.collect()
}

async fn show(found: &Found, slurm: &Slurm, json: bool) -> anyhow::Result<()> {
    let statuses = statuses(&[found], slurm).await;
    if json {
        return output::json(&as_json(found, &statuses));
    }
    let manifest = &found.manifest;
    let mut lines = vec![
        format!(
            "{} {}",
            manifest.job.as_deref().map_or_else(|| "local run".to_owned(), |job| format!("job {job}")),
            state(found, &statuses)
        ),
        format!("recipe     {} ({} on {})", manifest.recipe, manifest.model, manifest.gpu),
        format!(
            "created    {} by tokmark {} ({}) on {}",
            manifest.created_at, manifest.tokmark, manifest.created_by, manifest.host
        ),
        format!("experiment {}", found.dir.display()),
    ];
    if let Some(reason) = statuses.values().find_map(|status| status.reason.clone()) {
        lines.push(format!("reason     {reason}"));
    }
    if let Some(failure) = found.failure() {
        lines.push(format!("failure    {failure}"));
    }
    output::line(&lines.join("\n"))?;
    let rows = rows(found);
    if !rows.is_empty() {
        output::text(&format!("\n{}", session::closing(&rows)))?;
    }
    Ok(())
}

fn log_of(found: &Found, name: Option<&str>) -> anyhow::Result<()> {
    let name = name.unwrap_or("bench");
    let logs = found.dir.join("server_logs");
    let candidates = [
        if name == "slurm" { found.dir.join("slurm.out") } else { logs.join(format!("{name}.log")) },
        logs.join(name),
    ];
    let Some(path) = candidates.iter().find(|path| path.is_file()) else {
        let mut known: Vec<String> = std::fs::read_dir(&logs)
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                Some(entry.ok()?.file_name().to_string_lossy().trim_end_matches(".log").to_owned())
            })
            .collect();
        known.sort();
        if found.dir.join("slurm.out").is_file() {
            known.push("slurm".into());
        }
        return Err(InputError::new(found.dir.display().to_string(), format!("no log {name:?}"))
            .expected(if known.is_empty() {
                "no log is there yet".into()
            } else {
                format!("one of {}", known.join(", "))
            })
            .into());
    };
    let bytes = fs_err::read(path)?;
    Ok(output::text(&String::from_utf8_lossy(&bytes))?)
}

/// Whether an interrupted job is in the queue again.
async fn may_run_again(found: &Found, slurm: &Slurm) -> anyhow::Result<bool> {
    let job = found.manifest.own_job().filter(|_| may_change(found.progress()));
    let Some(job) = job else { return Ok(false) };
    let id: JobId = job.parse().context("the manifest's job id")?;
    let known = slurm.poll(std::slice::from_ref(&id)).await?;
    Ok(known.get(&id).is_some_and(|status| !status.state.is_terminal()))
}

/// Sends the process of a run the signal by which it wraps up.
pub(super) fn ask_to_stop(name: &str, pid: u32) -> anyhow::Result<()> {
    nix::sys::signal::kill(process(pid), nix::sys::signal::Signal::SIGTERM)
        .map_err(std::io::Error::from)
        .with_context(|| format!("cannot signal process {pid}"))?;
    Ok(output::line(&format!("asked {name} to stop"))?)
}

async fn cancel(folder: &Path, jobs: &[String], slurm: &Slurm) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for job in jobs {
        match find(folder, job)? {
            Named::Experiment(one) => found.push(*one),
            Named::Suite(suite) if suites::stop(&suite)? => {}
            Named::Suite(suite) => {
                found.extend(suites::experiments(&suite));
                for id in suites::jobs_without_experiment(&suite) {
                    slurm.cancel(&id).await?;
                    output::line(&format!("cancelled job {id}"))?;
                }
            }
        }
    }
    for found in found {
        let own = found.manifest.own_job();
        let name = own.map_or_else(|| found.dir.display().to_string(), str::to_owned);
        match (own, found.progress()) {
            (_, Progress::Ended(code)) if !may_run_again(&found, slurm).await? => {
                output::line(&format!("{name} has ended already ({})", ended(code)))?
            }
            (Some(job), _) => {
                slurm.cancel(&job.parse().context("the manifest's job id")?).await?;
                output::line(&format!("cancelled job {job}"))?;
            }
            (None, Progress::Running { host, pid, .. }) if host == hostname() && is_alive(&host, pid) => {
                ask_to_stop(&name, pid)?;
            }
            (None, Progress::Running { host, pid, .. }) if is_alive(&host, pid) => {
                return Err(InputError::new(name, format!("runs on {host}, not here"))
                    .next(format!("cancel it on {host}"))
                    .into());
            }
            (None, _) => output::line(&format!("{name} does not run"))?,
        }
    }
    Ok(())
}
