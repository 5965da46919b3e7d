//! `tokmark jobs`: history from the experiment directories, reconciled with Slurm.

mod cancel;
pub(super) mod suite;
pub(super) mod wait;

use std::path::Path;

use clap::{Args, Subcommand};

use super::planning;
use super::printer::Printer;
use crate::document::InputError;
use crate::executor::slurm::Slurm;
use crate::flags::{Global, HistoryFlags};
use crate::history::{self, Entry, Job, Named, Statuses, Suite};
use crate::report::table::Table;
use crate::report::{self, closing};
use crate::site::SiteFile;
use crate::slurm::JobId;

/// Arguments of `jobs`.
#[derive(Debug, Args)]
pub struct JobsArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// Shared with other verbs
    #[command(flatten)]
    pub flags: HistoryFlags,
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

/// Runs the verb.
pub fn run(global: &Global, args: &JobsArgs) -> anyhow::Result<()> {
    let folder = planning::experiments(global, &SiteFile::load(global.site.as_deref())?)?;
    let (printer, text) = (Printer::new(global, args.json), Printer::new(global, false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let slurm = Slurm::default();
    runtime.block_on(async {
        match args.action.as_ref().unwrap_or(&Action::List) {
            Action::List => list(printer, &folder, &slurm).await,
            Action::Show { job } => match history::find(&folder, job)? {
                Named::Experiment(entry) => show(printer, &entry, &slurm).await,
                Named::Suite(suite) => suite::show(printer, &suite, &slurm).await,
            },
            Action::Log { job, log } => match history::find(&folder, job)? {
                Named::Experiment(entry) => print_log(text, &entry, log.as_deref().unwrap_or("bench")),
                Named::Suite(suite) => Err(no_log(&suite).into()),
            },
            Action::Wait { job } => match history::find(&folder, job)? {
                Named::Experiment(entry) => wait::one(printer, &Job::of(&entry), &slurm).await,
                Named::Suite(suite) => wait::suite(printer, &suite, &slurm).await,
            },
            Action::Cancel { jobs } => cancel::run(text, &folder, jobs, &slurm).await,
        }
    })
}

/// Queries Slurm for the status of jobs; warns if it does not answer.
async fn statuses(printer: Printer, slurm: &Slurm, ids: &[JobId]) -> Statuses {
    history::statuses(slurm, ids).await.unwrap_or_else(|error| {
        printer.error(format!("warning: {error}"));
        Statuses::new()
    })
}

async fn list(printer: Printer, folder: &Path, slurm: &Slurm) -> anyhow::Result<()> {
    let entries = history::all(folder);
    let ids: Vec<JobId> = entries.iter().filter_map(Entry::open_job).collect();
    let statuses = statuses(printer, slurm, &ids).await;
    let standing = |entry: &Entry| Job::of(entry).standing(Some(entry), &statuses);
    if printer.is_json() {
        let all: Vec<_> = entries.iter().map(|entry| entry.as_json(&standing(entry))).collect();
        return printer.json(&all);
    }
    if entries.is_empty() {
        printer.error(format!("no experiments in {}", folder.display()));
        return Ok(());
    }
    let mut table = Table::new(["JOB", "STATE", "RECIPE", "GPU", "POINTS", "CREATED (UTC)", "EXPERIMENT"]);
    for entry in &entries {
        let (done, all) = entry.points();
        table.push(vec![
            entry.manifest.job.clone().unwrap_or_else(|| "local".into()),
            standing(entry).state,
            entry.manifest.recipe.clone(),
            entry.manifest.gpu.clone(),
            format!("{done}/{all}"),
            entry.manifest.created_at.strftime("%F %T").to_string(),
            entry.name(),
        ]);
    }
    Ok(printer.table(&table, &[0, 1, 2, 3, 5, 6])?)
}

async fn show(printer: Printer, entry: &Entry, slurm: &Slurm) -> anyhow::Result<()> {
    let ids: Vec<JobId> = entry.open_job().into_iter().collect();
    let statuses = statuses(printer, slurm, &ids).await;
    let standing = Job::of(entry).standing(Some(entry), &statuses);
    printer.json(&entry.as_json(&standing))?;
    let manifest = &entry.manifest;
    let which = manifest.job.as_deref().map_or_else(|| "local run".to_owned(), |job| format!("job {job}"));
    printer.line(format!("{which} {}", standing.state))?;
    printer.line(format!("recipe     {} ({} on {})", manifest.recipe, manifest.model, manifest.gpu))?;
    printer.line(format!(
        "created    {} by tokmark {} ({}) on {}",
        manifest.created_at, manifest.tokmark, manifest.created_by, manifest.host
    ))?;
    printer.line(format!("experiment {}", entry.dir.display()))?;
    if let Some(reason) = statuses.values().find_map(|status| status.reason.clone()) {
        printer.line(format!("reason     {reason}"))?;
    }
    if let Some(failure) = entry.failure() {
        printer.line(format!("failure    {failure}"))?;
    }
    let rows = report::finished(&entry.experiment());
    if !rows.is_empty() {
        printer.text(&format!("\n{}", closing::table(&rows)))?;
    }
    Ok(())
}

fn print_log(printer: Printer, entry: &Entry, name: &str) -> anyhow::Result<()> {
    let logs = entry.dir.join("server_logs");
    let slurm = entry.dir.join("slurm.out");
    let candidates =
        [if name == "slurm" { slurm.clone() } else { logs.join(format!("{name}.log")) }, logs.join(name)];
    if let Some(path) = candidates.iter().find(|path| path.is_file()) {
        return Ok(printer.text(&String::from_utf8_lossy(&fs_err::read(path)?))?);
    }
    let files = std::fs::read_dir(&logs).into_iter().flatten().filter_map(Result::ok);
    let mut known: Vec<String> =
        files.map(|file| file.file_name().to_string_lossy().trim_end_matches(".log").to_owned()).collect();
    known.sort();
    known.extend(slurm.is_file().then(|| "slurm".to_owned()));
    let expected =
        if known.is_empty() { "no log exists yet".into() } else { format!("one of {}", known.join(", ")) };
    Err(InputError::new(entry.dir.display().to_string(), format!("no log {name:?}"))
        .expected(expected)
        .into())
}

fn no_log(suite: &Suite) -> InputError {
    let submitted = suite.receipt.jobs.iter().filter(|member| !suite.is_unsubmitted(member));
    let names: Vec<String> =
        submitted.map(|member| member.job.clone().unwrap_or(member.experiment.clone())).collect();
    InputError::new(suite.dir().display().to_string(), "is a suite, which has no log of its own")
        .expected(format!("one of its jobs: {}", names.join(", ")))
}
