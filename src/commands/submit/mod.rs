//! `tokmark submit RECIPE`, or the llmb way `submit -w WORKLOAD -s SIZE --dtype D --scale N`: everything is planned and
//! rendered, then each job goes to sbatch; with `--wait`, the results.

mod args;
mod preview;

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use super::tasks::{self, Job};
use super::{allocation, output, planning, suites, waiting};
use crate::document::{InputError, InputErrors};
use crate::error::{self, Ended};
use crate::executor::slurm::Slurm;
use crate::experiment::suite::Suite;
use crate::experiment::{Experiment, Manifest, files};
use crate::flags::Global;
use crate::plan::Plan;
use crate::plan::choices::Choices;
use crate::render;
use crate::slurm::{JobId, options};
use crate::workload::Task;
use crate::workload::file::SuiteFile;
pub use args::SubmitArgs;

/// A job, ready for sbatch.
struct Ready {
    job: Job,
    script: String,
}

/// Runs the verb. Nothing is submitted before everything was planned, checked and rendered.
pub fn run(global: &Global, args: &SubmitArgs) -> anyhow::Result<()> {
    let options = args.sbatch()?;
    let (suite, orders) = args.orders()?;
    let base =
        Choices { env: args.env()?, no_weights_check: args.no_weights_check, ..planning::chosen(global) };
    let planned = tasks::plan(global, &orders, &base)?;
    check(global, args, &planned, &options)?;
    let binary = planning::this_binary()?;
    let mut ready: Vec<Ready> = Vec::new();
    for job in tasks::each(global, planned) {
        let script = match (job.number, ready.last()) {
            (Some((number, _)), Some(same)) if number > 1 => same.script.clone(),
            _ => render::script(&job.plan, &binary, &[])?,
        };
        ready.push(Ready { job, script });
    }
    if args.dry_run {
        return preview::show(&ready, &options, args.json, args.is_list());
    }
    if let Some(id) = allocation::variable("SLURM_JOB_ID").filter(|_| !global.quiet) {
        output::note(&format!(
            "this is inside job {id}, which `tokmark run` would use; what is submitted becomes a job of its own"
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(all(global, args, &ready, suite.as_ref(), &options))
}

/// What this machine can check before the jobs run.
fn check(global: &Global, args: &SubmitArgs, tasks: &[Task], options: &[String]) -> Result<(), InputErrors> {
    let mut errors = Vec::new();
    for Task { plan, .. } in tasks {
        let knobs = plan.resolved.get("knobs").and_then(Value::as_object);
        for name in
            options::exported(options).into_iter().filter(|name| knobs.is_some_and(|k| k.contains_key(*name)))
        {
            let error = InputError::new(
                "--slurm-arg export",
                format!("sets the knob {name}, which also names the experiment"),
            );
            errors.push(error.next(format!("set it with --env {name}=…, or in front of the command")));
        }
        if args.no_weights_check {
            continue;
        }
        let checks = [
            planning::check_image(global, plan),
            planning::check_connection(plan, false),
            planning::check_prompts(plan),
        ];
        errors.extend(checks.into_iter().filter_map(Result::err).flat_map(|InputErrors(problems)| problems));
    }
    if !args.no_weights_check {
        match planning::examine_weights(global, tasks.iter().map(|task| &task.plan)) {
            Ok(remarks) if global.quiet => drop(remarks),
            Ok(remarks) => remarks.iter().for_each(|remark| output::note(&format!("warning: {remark}"))),
            Err(InputErrors(problems)) => errors.extend(problems),
        }
    }
    tasks::each_once(errors)
}

/// Submits them one after the other.
async fn all(
    global: &Global,
    args: &SubmitArgs,
    ready: &[Ready],
    file: Option<&SuiteFile>,
    options: &[String],
) -> anyhow::Result<()> {
    let slurm = Slurm::default();
    let mut jobs: Vec<(JobId, PathBuf)> = Vec::new();
    let mut told = Vec::new();
    for task in ready {
        let (job, experiment) = match submit(&slurm, &task.job.plan, &task.script, options).await {
            Ok(submitted) => submitted,
            Err(error) if jobs.is_empty() => return Err(error),
            Err(error) => {
                let kept = file.and_then(|file| keep(file, ready, &jobs));
                if args.json {
                    output::json(&told)?;
                }
                let ids: Vec<&str> = jobs.iter().map(|(job, _)| job.as_str()).collect();
                let of = kept.map(|kept| format!(" (suite {})", kept.dir().display())).unwrap_or_default();
                let done =
                    format!("{} of {} jobs are submitted: {}{of}", ids.len(), ready.len(), ids.join(", "));
                return Err(error.context(done));
            }
        };
        match (args.json, args.wait) {
            (true, true) => output::note(&format!("submitted job {job}")),
            (true, false) => told.push(as_json(task, &job, &experiment)),
            (false, _) => output::line(&announcement(task, &job, ready.len()))?,
        }
        jobs.push((job, experiment.dir().to_path_buf()));
    }
    let suite = file.and_then(|file| keep(file, ready, &jobs));
    if let Some(suite) = suite.as_ref().filter(|_| args.json && !global.quiet) {
        output::note(&format!("suite: {}", suite.dir().display()));
    }
    if args.json && !args.wait {
        return match told.as_slice() {
            [only] if !args.is_list() => output::json(only),
            _ => output::json(&told),
        };
    }
    if !args.json && !global.quiet {
        further(args, &jobs, suite.as_ref())?;
    }
    if !args.wait {
        return Ok(());
    }
    let wait = async {
        match (suite.as_ref(), jobs.as_slice()) {
            (Some(suite), _) => suites::wait(global, suite, &slurm, args.json).await,
            (None, [(job, dir)]) if !args.is_list() => {
                waiting::wait_for(global, &slurm, job, dir, args.json).await
            }
            (None, jobs) => waiting::wait_for_all(global, &slurm, jobs, args.json).await,
        }
    };
    tokio::select! {
        // The signal's handler is there before the first state is told.
        biased;
        Ok(()) = tokio::signal::ctrl_c() => {
            output::note(&going_on(&jobs));
            Err(Ended { code: error::INTERRUPTED, message: String::new() }.into())
        }
        end = wait => end,
    }
}

/// Keeps which experiments the jobs of a suite became. They are in the queue, whatever becomes of this. Those that did not
/// get there belong to it too: without them it would seem to be complete.
fn keep(file: &SuiteFile, ready: &[Ready], jobs: &[(JobId, PathBuf)]) -> Option<Suite> {
    let experiments = Path::new(&ready.first()?.job.plan.experiments);
    let ordered: Vec<&Job> = ready.iter().map(|task| &task.job).collect();
    let place = |(job, dir): &(JobId, PathBuf)| (Some(job.to_string()), dir.clone());
    let nowhere = std::iter::repeat_with(|| (None, PathBuf::new()));
    let places = jobs.iter().map(place).chain(nowhere).take(ordered.len());
    let members = suites::members(&ordered, places.collect());
    match suites::keep(file, experiments, members, "submit") {
        Ok(suite) => Some(suite),
        Err(error) => {
            output::note(&format!(
                "warning: the jobs are submitted, the suite's directory cannot be made: {error}"
            ));
            None
        }
    }
}

/// What becomes of jobs that nobody waits for any more.
fn going_on(jobs: &[(JobId, PathBuf)]) -> String {
    match jobs {
        [(job, _)] => format!("job {job} goes on: tokmark jobs wait {job} | tokmark jobs cancel {job}"),
        jobs => {
            let ids: Vec<&str> = jobs.iter().map(|(job, _)| job.as_str()).collect();
            format!("jobs {} go on: tokmark jobs wait ID | tokmark jobs cancel ID", ids.join(", "))
        }
    }
}

/// Where the results will be, and what to do next.
fn further(args: &SubmitArgs, jobs: &[(JobId, PathBuf)], suite: Option<&Suite>) -> std::io::Result<()> {
    if let Some(suite) = suite {
        output::line(&format!("suite: {}", suite.dir().display()))?;
        if !args.wait {
            let name = suite.id();
            output::line(&format!("next: tokmark jobs wait {name}\n      tokmark jobs show {name}"))?;
        }
        return Ok(());
    }
    match jobs {
        [(job, dir)] => {
            output::line(&format!("results: {}", dir.display()))?;
            if !args.wait {
                output::line(&format!("next: tokmark jobs wait {job} | tokmark jobs log {job}"))?;
            }
        }
        jobs => {
            let folder = jobs.first().and_then(|(_, dir)| dir.parent()).unwrap_or(Path::new(""));
            output::line(&format!("results: {}", folder.display()))?;
            if !args.wait {
                output::line("next: tokmark jobs | tokmark jobs wait ID")?;
            }
        }
    }
    Ok(())
}

/// `submitted job 3`, and with several of them what it is.
fn announcement(task: &Ready, job: &JobId, of: usize) -> String {
    if of == 1 {
        format!("submitted job {job}")
    } else {
        format!("submitted job {job}: {}", task.job.words())
    }
}

fn as_json(task: &Ready, job: &JobId, experiment: &Experiment) -> Value {
    let mut told = json!({"job": job, "experiment": experiment.dir()});
    if let (Value::Object(told), Value::Object(facts)) = (&mut told, task.job.facts()) {
        told.extend(facts);
    }
    told
}

/// Hands the script to sbatch and creates the experiment's skeleton. The job may have done so already.
async fn submit(
    slurm: &Slurm,
    plan: &Plan,
    script: &str,
    options: &[String],
) -> anyhow::Result<(JobId, Experiment)> {
    let folder = Path::new(&plan.experiments);
    let path: PathBuf = folder.join(format!(".submit-{}.sbatch", std::process::id()));
    let is_new = !folder.exists();
    fs_err::create_dir_all(folder).context("cannot make the folder of the experiments")?;
    files::replace(&path, script.as_bytes())?;
    let submitted = slurm.submit(&path, options).await;
    fs_err::remove_file(&path)?;
    if submitted.is_err() && is_new {
        // Unless somebody else uses it by now.
        let _in_use = std::fs::remove_dir(folder);
    }
    let job = submitted?;
    let experiment = Experiment::of_job(plan, job.as_str());
    let skeleton = || -> std::io::Result<()> {
        fs_err::create_dir_all(experiment.dir())?;
        experiment.ensure(plan, Some(script))?;
        experiment.link_output(job.as_str());
        Manifest::now(plan, Some(job.as_str()), "submit").create(experiment.dir()).map(drop)
    };
    // The job is in the queue: from here on nothing may look as if it were not.
    if let Err(error) = skeleton() {
        output::note(&format!(
            "warning: job {job} is submitted, its directory will be made by the job itself: {error}"
        ));
    }
    Ok((job, experiment))
}
