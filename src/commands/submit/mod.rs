//! `tokmark submit RECIPE`, or the llmb way `submit -w WORKLOAD -s SIZE --dtype D --scale N`: everything is planned and
//! rendered, then each job goes to sbatch; with `--wait`, the results.
//!
//! Arrow: `workload`, `planning`, `render`, `executor`, `experiment` → here → `cli`.

mod args;
mod preview;

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use super::{allocation, output, planning, waiting};
use crate::cli::Global;
use crate::document::{InputError, InputErrors};
use crate::error::{self, Ended};
use crate::executor::slurm::Slurm;
use crate::experiment::{Experiment, Manifest, files};
use crate::plan::Plan;
use crate::plan::chosen::Chosen;
use crate::recipe::find::{self, RecipeFile};
use crate::render;
use crate::site::SiteFile;
use crate::slurm::{JobId, options};
use crate::workload::{self, MAX_JOBS, Task};
pub use args::SubmitArgs;

/// A job, ready for sbatch.
struct Ready {
    plan: Plan,
    script: String,
    /// `2/3` of its repeats; nothing when there is only one.
    number: Option<(u32, u32)>,
    differs: Vec<String>,
}

/// Runs the verb. Nothing is submitted before everything was planned, checked and rendered.
pub fn run(global: &Global, args: &SubmitArgs) -> anyhow::Result<()> {
    let options = args.sbatch()?;
    let tasks = tasks(global, args)?;
    check(global, args, &tasks, &options)?;
    let binary = planning::this_binary()?;
    let mut ready = Vec::new();
    for task in tasks {
        if !global.quiet {
            task.remarks.iter().for_each(|remark| output::note(&format!("warning: {remark}")));
            planning::tell_without_effect(&task.plan);
        }
        let script = render::script(&task.plan, &binary, &[])?;
        for number in 1..=task.repeats {
            let (plan, script, differs) = (task.plan.clone(), script.clone(), task.differs.clone());
            let number = (task.repeats > 1).then_some((number, task.repeats));
            ready.push(Ready { plan, script, number, differs });
        }
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
    runtime.block_on(all(global, args, &ready, &options))
}

/// Plans every order; all errors of all of them at once.
fn tasks(global: &Global, args: &SubmitArgs) -> Result<Vec<Task>, InputErrors> {
    let orders = args.orders()?;
    let base =
        Chosen { env: args.env()?, no_weights_check: args.no_weights_check, ..planning::chosen(global) };
    let site = SiteFile::load(global.site.as_deref())?;
    let (recipes, broken) = find::all();
    let plan = |file: &RecipeFile, chosen: Chosen| {
        let planned = planning::plan_file(global, &site, file.clone(), chosen)?;
        planning::check_templates(&planned)?;
        Ok(planned.plan)
    };
    let (mut tasks, mut errors) = (Vec::new(), Vec::new());
    for order in &orders {
        match workload::tasks(order, &recipes, &base, &plan) {
            Ok(found) => tasks.extend(found),
            Err(InputErrors(problems)) => {
                // A workload that is not found may be in a file that does not parse.
                let missing = problems.iter().any(|error| error.problem.starts_with("no workload"));
                errors.extend(problems);
                errors.extend(broken.iter().filter(|_| missing).cloned());
            }
        }
    }
    let jobs: u64 = tasks.iter().map(|task| u64::from(task.repeats)).sum();
    if jobs > MAX_JOBS as u64 {
        errors
            .push(InputError::new("submit", format!("{jobs} jobs")).expected(format!("at most {MAX_JOBS}")));
    }
    errors.dedup();
    InputErrors::check(errors)?;
    Ok(tasks)
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
    let mut seen: Vec<InputError> = Vec::new();
    for error in errors {
        if !seen.contains(&error) {
            seen.push(error);
        }
    }
    InputErrors::check(seen)
}

/// Submits them one after the other.
async fn all(global: &Global, args: &SubmitArgs, ready: &[Ready], options: &[String]) -> anyhow::Result<()> {
    let slurm = Slurm::default();
    let mut jobs: Vec<(JobId, PathBuf)> = Vec::new();
    let mut told = Vec::new();
    for task in ready {
        let (job, experiment) = match submit(&slurm, &task.plan, &task.script, options).await {
            Ok(submitted) => submitted,
            Err(error) if jobs.is_empty() => return Err(error),
            Err(error) => {
                if args.json {
                    output::json(&told)?;
                }
                let ids: Vec<&str> = jobs.iter().map(|(job, _)| job.as_str()).collect();
                let done = format!("{} of {} jobs are submitted: {}", ids.len(), ready.len(), ids.join(", "));
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
    if args.json && !args.wait {
        return match told.as_slice() {
            [only] if !args.is_list() => output::json(only),
            _ => output::json(&told),
        };
    }
    if !args.json && !global.quiet {
        further(args, &jobs)?;
    }
    if !args.wait {
        return Ok(());
    }
    let wait = async {
        match jobs.as_slice() {
            [(job, dir)] if !args.is_list() => waiting::wait_for(global, &slurm, job, dir, args.json).await,
            jobs => waiting::wait_for_all(global, &slurm, jobs, args.json).await,
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
fn further(args: &SubmitArgs, jobs: &[(JobId, PathBuf)]) -> std::io::Result<()> {
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
    if of == 1 { format!("submitted job {job}") } else { format!("submitted job {job}: {}", task.words()) }
}

impl Ready {
    /// `gpt-oss-120b-vllm 120b mxfp4, 4 GPUs (h100), STREAMING=false, 2/3`
    fn words(&self) -> String {
        let plan = &self.plan;
        let name = [Some(plan.name.as_str()), plan.model.size.as_deref(), plan.model.precision.as_deref()];
        let mut words = vec![name.into_iter().flatten().collect::<Vec<_>>().join(" ")];
        if plan.scale() > 0 {
            let on = if plan.gpu.kind == "none" { String::new() } else { format!(" ({})", plan.gpu.kind) };
            words.push(format!("{} GPU{}{on}", plan.scale(), if plan.scale() == 1 { "" } else { "s" }));
        }
        words.extend(self.differs.iter().cloned());
        words.extend(self.number.map(|(number, of)| format!("{number}/{of}")));
        words.join(", ")
    }

    /// What it is.
    fn facts(&self) -> Value {
        let plan = &self.plan;
        json!({
            "recipe": plan.name,
            "size": plan.model.size,
            "dtype": plan.model.precision,
            "scale": plan.scale(),
            "gpu": plan.gpu.kind,
            "differs": self.differs,
            "repeat": self.number.map_or(1, |(number, _)| number),
        })
    }
}

fn as_json(task: &Ready, job: &JobId, experiment: &Experiment) -> Value {
    let mut told = json!({"job": job, "experiment": experiment.dir()});
    if let (Value::Object(told), Value::Object(facts)) = (&mut told, task.facts()) {
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
