//! `tokmark jobs`: history from the experiment directories, reconciled with Slurm.

mod cancel;
pub(super) mod suite;
mod sweep;
pub(super) mod wait;

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::json;

use super::block_on;
use super::flags::HistoryFlags;
use super::printer::Printer;
use crate::document::InputError;
use crate::executor::slurm::Slurm;
use crate::experiment::{Event, Manifest, event};
use crate::history::{self, Entry, Job, LeftBehind, Named, Standing, Statuses, Suite};
use crate::report::table::{Table, wrapped};
use crate::report::{self, PointResult, closing, unmeasured};
use crate::slurm::JobId;

#[derive(Debug, Args)]
pub struct JobsArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    flags: HistoryFlags,
}

/// What to do with jobs.
#[derive(Debug, Subcommand)]
enum Action {
    /// List every job and local run, newest first (the default)
    List,
    /// Show a job or a suite: state, points, results
    Show {
        /// Job id, experiment name, directory, `last`; a suite's name or directory, `last-suite`
        job: String,
    },
    /// Print a log of a job
    Log {
        /// Job id, experiment name, directory, or `last`
        job: String,
        /// Which log, e.g. bench, server-0, slurm [default: bench]
        log: Option<String>,
    },
    /// Wait for a job or suite to end and exit with its (worst) code
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

pub fn run(printer: Printer, args: &JobsArgs) -> anyhow::Result<()> {
    let folder = args.flags.folder()?;
    let printer = printer.with_json(args.json);
    let slurm = Slurm::default();
    block_on(async {
        match args.action.as_ref().unwrap_or(&Action::List) {
            Action::List => list(printer, &folder, &slurm).await,
            Action::Show { job } => match history::find(&folder, job)? {
                Named::Experiment(entry) => show(printer, &entry, &slurm).await,
                Named::Suite(suite) => suite::show(printer, &suite, &slurm).await,
            },
            Action::Log { job, log } => match history::find(&folder, job)? {
                Named::Experiment(entry) => {
                    let path = entry.log(log.as_deref().unwrap_or("bench"))?;
                    let bytes = fs_err::read(&path)?;
                    let text = String::from_utf8_lossy(&bytes);
                    printer.result(
                        || json!({"experiment": entry.dir, "log": path, "text": text}),
                        || text.to_string(),
                    )
                }
                Named::Suite(suite) => Err(no_log(&suite).into()),
            },
            Action::Wait { job } => match history::find(&folder, job)? {
                Named::Experiment(entry) => wait::one(printer, &Job::of(&entry), &slurm).await,
                Named::Suite(suite) => wait::suite(printer, &suite, &slurm).await,
            },
            Action::Cancel { .. } if args.json => {
                let error = InputError::new("--json", "jobs cancel reports nothing in JSON");
                Err(error.next("leave it out; `tokmark jobs show JOB --json` says how the job ended").into())
            }
            Action::Cancel { jobs } => cancel::run(printer, &folder, jobs, &slurm).await,
        }
    })
}

/// Queries Slurm for the status of jobs; warns if it does not answer.
async fn statuses(printer: Printer, slurm: &Slurm, ids: impl IntoIterator<Item = JobId>) -> Statuses {
    let ids: Vec<JobId> = ids.into_iter().collect();
    history::statuses(slurm, &ids).await.unwrap_or_else(|error| {
        printer.warn(error);
        Statuses::new()
    })
}

async fn list(printer: Printer, folder: &Path, slurm: &Slurm) -> anyhow::Result<()> {
    let entries = history::all(folder);
    let statuses = statuses(printer, slurm, entries.iter().filter_map(Entry::open_job)).await;
    let standing = |entry: &Entry| Job::of(entry).standing(Some(entry), &statuses);
    if printer.is_json() {
        let all: Vec<_> = entries.iter().map(|entry| entry.as_json(&standing(entry))).collect();
        return printer.json(&all);
    }
    if entries.is_empty() {
        printer.error(format!("no experiments in {}", folder.display()));
        return Ok(());
    }
    let rows: Vec<(&Entry, Standing)> = entries.iter().map(|entry| (entry, standing(entry))).collect();
    Ok(printer.text(&table(&rows, printer.width()))?)
}

/// A row per experiment; below it what it is doing, or why it wrote no end, and its directory's name on a line of its own.
fn table(rows: &[(&Entry, Standing)], width: usize) -> String {
    let mut table = Table::new(["JOB", "STATE", "POINTS", "CREATED (UTC)", "RECIPE"]);
    let mut below = vec!["    EXPERIMENT\n".to_owned()];
    for (entry, standing) in rows {
        let state = &standing.state;
        let (done, all) = entry.points();
        let Manifest { job, recipe, gpu, created_at, rehearsal, .. } = &entry.manifest;
        let on = Some(gpu.as_str()).filter(|gpu| *gpu != "none");
        let facts: Vec<&str> = on.into_iter().chain(rehearsal.then_some("rehearsal")).collect();
        let (word, is_doing) =
            state.split_once(':').map_or((state.as_str(), false), |(word, _)| (word, true));
        table.push(vec![
            job.clone().unwrap_or_else(|| "local".into()),
            word.to_owned(),
            format!("{done}/{all}"),
            created_at.strftime("%F %R").to_string(),
            if facts.is_empty() { recipe.clone() } else { format!("{recipe} ({})", facts.join(", ")) },
        ]);
        let doing = if is_doing { format!("    {state}\n") } else { String::new() };
        let lost = standing.failure.as_deref().filter(|_| standing.has_ended() && entry.failure().is_none());
        // The evidence in full is in `jobs show`.
        let lost = lost.and_then(|lost| lost.split("; last sample").next());
        let lost = lost.map(|lost| wrapped(&format!("    {lost}\n"), width)).unwrap_or_default();
        below.push(format!("{doing}{lost}    {}\n", entry.name()));
    }
    table.within(&[0, 1, 3, 4], 4, width, &below)
}

async fn show(printer: Printer, entry: &Entry, slurm: &Slurm) -> anyhow::Result<()> {
    let statuses = statuses(printer, slurm, entry.open_job()).await;
    let standing = Job::of(entry).standing(Some(entry), &statuses);
    let reason = statuses.values().find_map(|status| status.reason.as_deref());
    let width = printer.width();
    let page = || wrapped(&page(entry, &standing, reason, width), width);
    printer.result(|| entry.as_json(&standing), page)
}

fn page(entry: &Entry, standing: &Standing, reason: Option<&str>, width: usize) -> String {
    let Manifest { job, recipe, model, gpu, created_at, tokmark, created_by, host, rehearsal, .. } =
        &entry.manifest;
    let which = job.as_ref().map_or_else(|| "local run".to_owned(), |job| format!("job {job}"));
    let rehearsal = if *rehearsal { ", a rehearsal" } else { "" };
    let on = if gpu == "none" { "without GPUs".to_owned() } else { format!("on {gpu}") };
    let fact = |name: &str, what: &str| fact(name, what, width);
    let mut text = format!("{which} {}\n", standing.state);
    text.push_str(&fact("recipe", &format!("{recipe} ({model} {on}{rehearsal})")));
    let created = created_at.strftime("%F %T UTC");
    text.push_str(&fact("created", &format!("{created} by tokmark {tokmark} ({created_by}) on {host}")));
    text.push_str(&format!("experiment {}\n", entry.dir.display()));
    for (name, line) in [("reason", reason), ("failure", entry.failure().or(standing.failure.as_deref()))] {
        text.extend(line.map(|line| fact(name, line)));
    }
    if !standing.is_open() {
        let left: Vec<String> = LeftBehind::of(entry).iter().map(ToString::to_string).collect();
        text.extend((!left.is_empty()).then(|| format!("left behind {}\n", left.join(", "))));
    }
    let rows = report::finished(&entry.experiment());
    for what in failing(entry, &rows) {
        text.push_str(&fact("failing", &what));
    }
    if !rows.is_empty() {
        let plan = entry.experiment().plan().ok();
        let unmeasured = plan.map(|plan| unmeasured::read(&entry.dir, &plan, &rows)).unwrap_or_default();
        text.push_str(&format!("\n{}", closing::table(&rows, &unmeasured, width)));
    }
    text
}

/// `name       what`, in as many lines as it takes.
fn fact(name: &str, what: &str, width: usize) -> String {
    const NAMES: usize = 11;
    let lines = wrapped(what.trim_end(), width.saturating_sub(NAMES));
    format!("{name:NAMES$}{}\n", lines.replace('\n', &format!("\n{}", " ".repeat(NAMES))))
}

/// How requests failed at load points that have no figures, or none yet; each way once.
fn failing(entry: &Entry, rows: &[PointResult]) -> Vec<String> {
    let mut ways: Vec<String> = Vec::new();
    for stamped in event::read(&entry.dir) {
        match stamped.event {
            Event::RequestFailed { point, what, .. }
                if !ways.contains(&what) && rows.iter().all(|row| row.point != point) =>
            {
                ways.push(what);
            }
            _ => {}
        }
    }
    ways
}

fn no_log(suite: &Suite) -> InputError {
    let submitted = suite.receipt.jobs.iter().filter(|member| !suite.is_unsubmitted(member));
    let names: Vec<String> =
        submitted.map(|member| member.job.clone().unwrap_or(member.experiment.clone())).collect();
    InputError::new(suite.dir().display().to_string(), "is a suite, which has no log of its own")
        .expected(format!("one of its jobs: {}", names.join(", ")))
}
