//! A suite as a whole: its receipt, how its experiments stand, waiting for all of them, the one table and its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::tasks::Job;
use super::{jobs, output, waiting};
use crate::document::InputError;
use crate::error::{self, Ended};
use crate::executor::slurm::Slurm;
use crate::experiment::discover::{self, Found, Progress};
use crate::experiment::files;
use crate::experiment::manifest::hostname;
use crate::experiment::suite::{Member, Receipt, SCHEMA, Suite};
use crate::flags::{Global, VERSION};
use crate::report::suite::{self as pages, Part};
use crate::slurm::{JobId, JobStatus};
use crate::workload::file::SuiteFile;

/// What a receipt says of jobs: each with its id, if it has one, and its directory, which is empty when it will have none.
pub(super) fn members(jobs: &[&Job], places: Vec<(Option<String>, PathBuf)>) -> Vec<Member> {
    let member = |(job, (id, dir)): (&&Job, (Option<String>, PathBuf))| Member {
        job: id,
        experiment: dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        recipe: job.plan.name.clone(),
        gpu: job.plan.gpu.kind.clone(),
        model: job.plan.model.name.clone(),
        differs: differs(job, jobs),
    };
    jobs.iter().zip(places).map(member).collect()
}

/// What tells a job from the others of the same recipe and GPU type, in whatever `[[job]]` they are.
fn differs(job: &Job, all: &[&Job]) -> Vec<String> {
    let alike = |other: &&&Job| other.plan.name == job.plan.name && other.plan.gpu == job.plan.gpu;
    let others: Vec<Vec<String>> = all.iter().filter(alike).map(|other| settings(other)).collect();
    let apart = |setting: &String| others.iter().any(|other| !other.contains(setting));
    let number = job.number.map(|(number, of)| format!("{number}/{of}"));
    settings(job).into_iter().filter(apart).chain(number).collect()
}

/// What was chosen for a job: its size, variables and keys.
fn settings(job: &Job) -> Vec<String> {
    let mut settings =
        vec![format!("{} GPU{}", job.plan.scale(), if job.plan.scale() == 1 { "" } else { "s" })];
    if let Some(sources) = &job.plan.sources {
        settings.extend(sources.chosen.env.iter().map(|(name, value)| format!("{name}={value}")));
        settings.extend(sources.chosen.sets.iter().cloned());
    }
    settings
}

/// Makes the directory of a suite. `by` is `submit` or `run`; a `run` goes on as long as this process.
pub(super) fn keep(file: &SuiteFile, folder: &Path, jobs: Vec<Member>, by: &str) -> std::io::Result<Suite> {
    let receipt = Receipt {
        schema: SCHEMA,
        name: file.name.clone(),
        summary: file.summary.clone(),
        tokmark: VERSION.to_owned(),
        created_by: by.to_owned(),
        created_at: jiff::Timestamp::now(),
        host: hostname(),
        pid: (by == "run").then(std::process::id),
        jobs,
    };
    Suite::create(folder, receipt, &file.text)
}

/// The experiment of a member, when it is there. One that was not submitted has none, whatever lies in the folder.
fn found(suite: &Suite, member: &Member) -> Option<Found> {
    if suite.is_unsubmitted(member) { None } else { discover::at(&suite.experiment(member)) }
}

/// The experiments of a suite that are there.
pub(super) fn experiments(suite: &Suite) -> Vec<Found> {
    suite.receipt.jobs.iter().filter_map(|member| found(suite, member)).collect()
}

/// Members of a suite that have no experiment: lost, not made yet, or not submitted.
fn without_experiment(suite: &Suite) -> impl Iterator<Item = &Member> {
    suite.receipt.jobs.iter().filter(|member| found(suite, member).is_none())
}

/// Jobs of a suite whose directories are lost, or not made yet.
pub(super) fn jobs_without_experiment(suite: &Suite) -> Vec<JobId> {
    without_experiment(suite).filter_map(|member| own_job(suite, member, None)?.parse().ok()).collect()
}

/// What is missing from a suite, a line each: `good load.isl=9: it left no experiment in …`.
pub(super) fn missing(suite: &Suite) -> Vec<String> {
    let line = |member: &Member| {
        let differs: String = member.differs.iter().map(|word| format!(" {word}")).collect();
        format!("{}{differs}: {}", member.recipe, why_missing(suite, member))
    };
    without_experiment(suite).map(line).collect()
}

fn why_missing(suite: &Suite, member: &Member) -> String {
    if suite.is_unsubmitted(member) {
        return "it was not submitted".to_owned();
    }
    format!("it left no experiment in {}", suite.experiment(member).display())
}

/// The job that an experiment is all of; that of an allocation in which a suite runs is not one.
fn own_job<'a>(suite: &Suite, member: &'a Member, found: Option<&'a Found>) -> Option<&'a str> {
    match found {
        Some(found) => found.manifest.own_job(),
        None => member.job.as_deref().filter(|_| suite.receipt.pid.is_none()),
    }
}

type Statuses = BTreeMap<JobId, JobStatus>;

/// One experiment as it stands.
struct Standing<'a> {
    suite: &'a Suite,
    member: &'a Member,
    dir: PathBuf,
    found: Option<Found>,
    status: Option<&'a JobStatus>,
    course: Course,
    /// How the process that ran it saw it end, which the directory may not say: it may be gone, or the disk full.
    seen: Option<(u8, String)>,
}

/// Whether more is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// It runs, or will.
    Open,
    /// It has ended, one way or another.
    Over,
    /// It has not written its end, and Slurm does not say.
    Unknown,
}

impl<'a> Standing<'a> {
    fn of(suite: &'a Suite, member: &'a Member, statuses: &'a Statuses) -> Self {
        let dir = suite.experiment(member);
        let found = found(suite, member);
        let own = own_job(suite, member, found.as_ref());
        let status = own.and_then(|job| job.parse().ok()).and_then(|id: JobId| statuses.get(&id));
        let progress = found.as_ref().map_or(Progress::NotStarted, Found::progress);
        let course = |open: bool| if open { Course::Open } else { Course::Over };
        let course = match (progress, status, own) {
            (Progress::Ended(code), ..) if code != error::INTERRUPTED => Course::Over,
            (_, Some(status), _) => course(!status.state.is_terminal()),
            (Progress::Ended(_), ..) => Course::Over,
            (Progress::Running { host, pid, .. }, _, None) => course(jobs::is_alive(&host, pid)),
            (Progress::NotStarted, _, None) => {
                course(suite.receipt.pid.is_some_and(|pid| jobs::is_alive(&suite.receipt.host, pid)))
            }
            (_, None, Some(_)) => Course::Unknown,
        };
        Self { suite, member, dir, found, status, course, seen: None }
    }

    /// The same where this process ran it: it lives, and nothing more is to come from it.
    fn ended_here(self, end: &anyhow::Result<()>) -> Self {
        let seen = end.as_ref().err().map(|failure| (error::exit_code(failure), format!("{failure:#}")));
        Self { course: Course::Over, seen, ..self }
    }

    fn state(&self, statuses: &Statuses) -> String {
        match (&self.found, self.status) {
            // Its process lives, as that of the suite, and yet it will not write its end any more.
            (Some(found), None)
                if self.course == Course::Over && matches!(found.progress(), Progress::Running { .. }) =>
            {
                "LOST".into()
            }
            (Some(found), _) => jobs::state(found, statuses),
            (None, None) if self.suite.is_unsubmitted(self.member) => "NOT SUBMITTED".into(),
            (None, Some(status)) => status.state.to_string(),
            (None, None) => "LOST".into(),
        }
    }

    /// How it ended, as an exit code and its reason; fine while it is open.
    fn judge(&self) -> anyhow::Result<()> {
        if let Some((code, message)) = self.seen.clone() {
            return Err(Ended { code, message }.into());
        }
        let message = match (&self.found, self.course) {
            (_, Course::Open) => return Ok(()),
            (Some(found), Course::Over) => return waiting::judge(found, self.status),
            (Some(_), Course::Unknown) => "it has not written its end, and Slurm does not know it".to_owned(),
            (None, _) => why_missing(self.suite, self.member),
        };
        Err(Ended { code: error::INFRASTRUCTURE, message }.into())
    }

    fn part(&self, statuses: &Statuses) -> Part {
        let failure = self.judge().err().map(|failure| format!("{failure:#}"));
        let named = format!("experiment {}: ", self.dir.display());
        let failure = failure.map(|text| text.strip_prefix(&named).map_or(text.clone(), str::to_owned));
        Part {
            recipe: self.member.recipe.clone(),
            gpu: self.member.gpu.clone(),
            differs: self.member.differs.clone(),
            job: self.member.job.clone(),
            experiment: self.member.experiment.clone(),
            state: self.state(statuses),
            failure,
            rows: self.found.as_ref().map(jobs::rows).unwrap_or_default(),
        }
    }

    /// As `jobs list --json` tells it, with what differs and the summaries of its points.
    fn as_json(&self, part: &Part, statuses: &Statuses) -> Value {
        let mut told = match &self.found {
            Some(found) => jobs::as_json(found, statuses),
            None => json!({
                "job": self.member.job, "state": part.state, "recipe": self.member.recipe, "gpu": self.member.gpu,
                "model": self.member.model,
                "experiment": (!self.suite.is_unsubmitted(self.member)).then_some(&self.dir),
            }),
        };
        if let Value::Object(told) = &mut told {
            told.insert("failure".into(), json!(part.failure));
            told.insert("differs".into(), json!(self.member.differs));
            told.insert("results".into(), part.rows.iter().map(|row| json!(row.summary)).collect());
        }
        told
    }
}

/// Waits until every experiment has ended, and ends as the worst of them.
pub(super) async fn wait(global: &Global, suite: &Suite, slurm: &Slurm, json: bool) -> anyhow::Result<()> {
    let mut watched = tokio::task::JoinSet::new();
    for member in &suite.receipt.jobs {
        let dir = suite.experiment(member);
        let found = found(suite, member);
        let own = own_job(suite, member, found.as_ref());
        let job: Option<JobId> = own.and_then(|job| job.parse().ok());
        let settled = found.as_ref().is_some_and(|found| !jobs::may_change(found.progress()));
        let (global, slurm, suite, member) = (global.clone(), slurm.clone(), suite.clone(), member.clone());
        watched.spawn(async move {
            match job {
                _ if settled => Ok(None),
                Some(job) => waiting::end_of_job(&global, &slurm, &job, &dir).await.map(Some),
                None => {
                    while Standing::of(&suite, &member, &Statuses::new()).course == Course::Open {
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                    Ok(None)
                }
            }
        });
    }
    let mut statuses = Statuses::new();
    while let Some(end) = watched.join_next().await {
        match end? {
            Ok(Some(status)) => _ = statuses.insert(status.id.clone(), status),
            Ok(None) => {}
            // Its row says that nobody knows its end; those of the others are told all the same.
            Err(failure) => output::note(&format!("warning: {failure:#}")),
        }
    }
    conclude(suite, &standings(suite, &statuses), &statuses, json)
}

/// Asks the process that runs a suite to stop; `false` when its experiments are jobs of their own, or all have ended.
pub(super) fn stop(suite: &Suite) -> anyhow::Result<bool> {
    let statuses = Statuses::new();
    let standings = standings(suite, &statuses);
    let Some(pid) = suite.receipt.pid.filter(|_| standings.iter().any(|s| s.course == Course::Open)) else {
        return Ok(false);
    };
    let host = &suite.receipt.host;
    if *host != hostname() {
        return Err(InputError::new(suite.id(), format!("runs on {host}, not here"))
            .next(format!("cancel it on {host}"))
            .into());
    }
    jobs::ask_to_stop(&suite.id(), pid)?;
    Ok(true)
}

/// Shows how a suite stands.
pub(super) async fn show(suite: &Suite, slurm: &Slurm, json: bool) -> anyhow::Result<()> {
    let found = experiments(suite);
    let statuses = jobs::statuses(&found.iter().collect::<Vec<_>>(), slurm).await;
    let standings = standings(suite, &statuses);
    let parts = parts(&standings, &statuses);
    if standings.iter().all(|standing| standing.course == Course::Over) {
        write(suite, &parts)?;
    }
    if json {
        return tell(&standings, &parts, &statuses);
    }
    let receipt = &suite.receipt;
    let ended = standings.iter().filter(|standing| standing.course == Course::Over).count();
    let mut lines = vec![format!("suite {}, {ended} of {} ended", receipt.name, standings.len())];
    lines.extend(receipt.summary.iter().map(|summary| format!("summary    {summary}")));
    let created = (receipt.created_at, &receipt.tokmark, &receipt.created_by, &receipt.host);
    lines.push(format!("created    {} by tokmark {} ({}) on {}", created.0, created.1, created.2, created.3));
    lines.push(format!("suite      {}\n", suite.dir().display()));
    output::line(&lines.join("\n"))?;
    Ok(output::text(&pages::text(&parts))?)
}

fn standings<'a>(suite: &'a Suite, statuses: &'a Statuses) -> Vec<Standing<'a>> {
    suite.receipt.jobs.iter().map(|member| Standing::of(suite, member, statuses)).collect()
}

fn parts(standings: &[Standing<'_>], statuses: &Statuses) -> Vec<Part> {
    standings.iter().map(|standing| standing.part(statuses)).collect()
}

/// The files of a suite that has ended.
fn write(suite: &Suite, parts: &[Part]) -> std::io::Result<()> {
    let receipt = &suite.receipt;
    let page = pages::markdown(&receipt.name, receipt.summary.as_deref(), parts);
    files::replace(&suite.dir().join("summary.md"), page.as_bytes())?;
    files::replace(&suite.dir().join("summary.csv"), pages::csv(parts).as_bytes())
}

fn tell(standings: &[Standing<'_>], parts: &[Part], statuses: &Statuses) -> anyhow::Result<()> {
    let told = standings.iter().zip(parts).map(|(standing, part)| standing.as_json(part, statuses));
    output::json(&told.collect::<Vec<_>>())
}

/// The end of a suite that this process ran; `ends` is how it saw each of its experiments end.
pub(super) fn conclude_here(suite: &Suite, ends: &[anyhow::Result<()>], json: bool) -> anyhow::Result<()> {
    let statuses = Statuses::new();
    let all = standings(suite, &statuses).into_iter().zip(ends);
    let standings: Vec<Standing<'_>> = all.map(|(standing, end)| standing.ended_here(end)).collect();
    conclude(suite, &standings, &statuses, json)
}

/// The end of a suite: its table, its files, and the worst of its exit codes.
fn conclude(
    suite: &Suite,
    standings: &[Standing<'_>],
    statuses: &Statuses,
    json: bool,
) -> anyhow::Result<()> {
    let parts = parts(standings, statuses);
    if json {
        tell(standings, &parts, statuses)?;
    } else {
        output::text(&pages::text(&parts))?;
        output::line(&format!("\nsuite: {}", suite.dir().display()))?;
    }
    write(suite, &parts)?;
    let failures = standings.iter().zip(&parts).filter_map(|(standing, part)| {
        let failure = standing.judge().err()?;
        let name = match &part.job {
            Some(job) if suite.receipt.pid.is_none() => format!("job {job}"),
            None if suite.is_unsubmitted(standing.member) => part.name(),
            _ => part.experiment.clone(),
        };
        Some((name, failure))
    });
    waiting::worst(failures.collect(), standings.len())
}
