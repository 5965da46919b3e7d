//! A suite as a whole: its table, its files, its worst exit code. Shared by `jobs`, `submit` and `run --file`.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::sweep;
use super::wait::explained;
use crate::commands::VERSION;
use crate::commands::printer::Printer;
use crate::error;
use crate::executor::slurm::Slurm;
use crate::experiment::files;
use crate::experiment::manifest::hostname;
use crate::history::suite::{Member, Receipt, SCHEMA};
use crate::history::{Entry, Job, Standing, Statuses, Suite};
use crate::report::suite::{self as page, JobResult};
use crate::report::{self, PointResult};
use crate::workload::{self, file::SuiteFile};

/// Creates the directory of a suite. Each job has an id if it is queued, and a directory, empty if it will have none.
/// `created_by` is `submit` or `run`.
pub(crate) fn create(
    file: &SuiteFile,
    jobs: &[&workload::Job],
    places: &[(Option<String>, PathBuf)],
    created_by: &str,
    parallel: Option<u32>,
) -> std::io::Result<Suite> {
    let members = jobs.iter().zip(places).zip(workload::differences(jobs));
    let members = members.map(|((job, (id, dir)), differs)| Member {
        job: id.clone(),
        experiment: dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        recipe: job.plan.name.clone(),
        gpu: job.plan.gpu.kind.clone(),
        model: job.plan.model.name.clone(),
        differs,
    });
    let receipt = Receipt {
        schema: SCHEMA,
        name: file.name.clone(),
        summary: file.summary.clone(),
        tokmark: VERSION.to_owned(),
        created_by: created_by.to_owned(),
        created_at: jiff::Timestamp::now(),
        host: hostname(),
        parallel,
        pid: (created_by == "run").then(std::process::id),
        jobs: members.collect(),
    };
    let folder = jobs.first().map(|job| PathBuf::from(&job.plan.input.experiments)).unwrap_or_default();
    Suite::create(&folder, receipt, &file.text)
}

/// A member of a suite and its standing.
pub(super) struct MemberStanding<'a> {
    member: &'a Member,
    job: Job,
    entry: Option<Entry>,
    standing: Standing,
    rows: Vec<PointResult>,
}

/// The standing of every member of a suite.
pub(super) fn standings<'a>(suite: &'a Suite, statuses: &Statuses) -> Vec<MemberStanding<'a>> {
    let look = |member: &'a Member| {
        let job = suite.job(member);
        let (entry, standing) = job.look(statuses);
        let rows = entry.as_ref().map(|entry| report::finished(&entry.experiment())).unwrap_or_default();
        MemberStanding { member, job, entry, standing: explained(standing), rows }
    };
    suite.receipt.jobs.iter().map(look).collect()
}

impl MemberStanding<'_> {
    fn shown(&self) -> JobResult {
        JobResult {
            recipe: self.member.recipe.clone(),
            gpu: self.member.gpu.clone(),
            differs: self.member.differs.clone(),
            job: self.member.job.clone(),
            experiment: self.member.experiment.clone(),
            state: self.standing.state.clone(),
            failure: self.standing.failure.clone(),
            rows: self.rows.clone(),
        }
    }

    /// The JSON of `jobs list --json`, plus what distinguishes the member and the summaries of its points.
    fn as_json(&self) -> Value {
        let member = self.member;
        let mut value = match &self.entry {
            Some(entry) => entry.as_json(&self.standing),
            None => json!({
                "job": member.job, "state": self.standing.state, "recipe": member.recipe, "gpu": member.gpu,
                "model": member.model, "experiment": self.job.is_submitted.then_some(&self.job.dir),
            }),
        };
        value["failure"] = json!(self.standing.failure);
        value["differs"] = json!(member.differs);
        value["results"] = self.rows.iter().map(|row| json!(row.summary)).collect();
        value
    }

    fn name(&self) -> String {
        match &self.job.id {
            Some(id) => format!("job {id}"),
            None if !self.job.is_submitted => self.shown().name(),
            None => self.member.experiment.clone(),
        }
    }
}

/// Shows the standing of a suite.
pub(super) async fn show(printer: Printer, suite: &Suite, slurm: &Slurm) -> anyhow::Result<()> {
    let jobs = suite.jobs();
    let open = jobs.iter().filter_map(Job::open_id).cloned();
    let standings = standings(suite, &super::statuses(printer, slurm, open).await);
    let shown: Vec<JobResult> = standings.iter().map(MemberStanding::shown).collect();
    let ended = standings.iter().filter(|one| one.standing.has_ended()).count();
    if ended == standings.len() {
        write(suite, &shown)?;
    }
    let as_json = || standings.iter().map(MemberStanding::as_json).collect::<Vec<_>>();
    printer.result(as_json, || {
        let Receipt { name, summary, created_at, tokmark, created_by, host, .. } = &suite.receipt;
        let summary: String = summary.iter().map(|summary| format!("summary    {summary}\n")).collect();
        format!(
            "suite {name}, {ended} of {} ended\n{summary}created    {created_at} by tokmark {tokmark} ({created_by}) on \
             {host}\nsuite      {}\n\n{}",
            standings.len(),
            suite.dir().display(),
            page::text(&shown, printer.width())
        )
    })
}

/// Ends a suite that this process ran. `ends` holds how it saw each experiment end, because the directory may be gone or the disk
/// full.
pub(crate) fn conclude_here(
    printer: Printer,
    suite: &Suite,
    ends: &[anyhow::Result<()>],
) -> anyhow::Result<()> {
    let mut standings = standings(suite, &Statuses::new());
    for (one, end) in standings.iter_mut().zip(ends) {
        one.standing = one.job.finished(one.entry.as_ref());
        if let Err(failure) = end {
            one.standing.exit = Some(error::exit_code(failure));
            one.standing.failure = Some(format!("{failure:#}"));
        }
    }
    conclude(printer, suite, standings)
}

/// Ends a suite: prints its table, writes its files, and returns its worst exit code.
pub(super) fn conclude(
    printer: Printer,
    suite: &Suite,
    standings: Vec<MemberStanding<'_>>,
) -> anyhow::Result<()> {
    let shown: Vec<JobResult> = standings.iter().map(MemberStanding::shown).collect();
    printer.json(&standings.iter().map(MemberStanding::as_json).collect::<Vec<_>>())?;
    printer.text(&page::text(&shown, printer.width()))?;
    printer.line(format!("\nsuite: {}", suite.dir().display()))?;
    write(suite, &shown)?;
    let failures = standings.iter().filter_map(|one| Some((one.name(), one.standing.result().err()?.into())));
    Ok(error::worst(&failures.collect::<Vec<_>>(), standings.len())?)
}

/// Writes the files of an ended suite.
fn write(suite: &Suite, jobs: &[JobResult]) -> std::io::Result<()> {
    if suite.receipt.parallel.is_some() && sweep::write(suite)? {
        return Ok(());
    }
    let receipt = &suite.receipt;
    let text = page::markdown(&receipt.name, receipt.summary.as_deref(), jobs);
    files::replace(&suite.dir().join("summary.md"), text.as_bytes())?;
    files::replace(&suite.dir().join("summary.csv"), page::csv(jobs).as_bytes())
}
