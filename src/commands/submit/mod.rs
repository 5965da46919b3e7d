//! `tokmark submit RECIPE`, or in llmb's syntax `submit -w WORKLOAD -s SIZE --dtype D --scale N`: plans and renders everything,
//! then passes each job to sbatch; with `--wait`, shows the results.

mod args;
mod parallel;
mod preview;
mod submission;

use super::block_on;
use super::planning::{self, Planning};
use super::printer::Printer;
use super::run::allocation;
use crate::deploy::connection;
use crate::document::{InputError, InputErrors};
use crate::plan::choices::Choices;
use crate::recipe::find::{self, RecipeFile};
use crate::render;
use crate::slurm::options;
use crate::workload::{self, Job, Order, Task};
use crate::{prompts, weights};
pub use args::SubmitArgs;
pub(super) use preview::from_outside;
use submission::Submission;

/// A job ready for sbatch.
struct Ready {
    job: Job,
    script: String,
}

/// Submits nothing before everything is planned, checked and rendered.
pub fn run(printer: Printer, args: &SubmitArgs) -> anyhow::Result<()> {
    let printer = printer.with_json(args.json);
    let options = args.sbatch()?;
    let (suite, orders) = args.orders()?;
    let planning = args.flags.planning(printer)?;
    let mut base =
        Choices { env: args.env()?, no_weights_check: args.no_weights_check, ..planning.choices.clone() };
    base.flags.extend(args.exports.flag());
    parallel::check(args.parallel, &options)?;
    let mut tasks = plan(&planning, &orders, &base)?;
    if args.parallel.is_some() {
        tasks = workload::apart(tasks)?;
    }
    let suite =
        suite.or_else(|| args.parallel.and_then(|most| Some(parallel::suite(&tasks.first()?.plan, most))));
    check(printer, args, &tasks, &options)?;
    let binary = planning::this_binary()?;
    let mut ready: Vec<Ready> = Vec::new();
    for job in jobs(printer, tasks) {
        let script = match (job.number, ready.last()) {
            (Some((number, _)), Some(same)) if number > 1 => same.script.clone(),
            _ => render::script(&job.plan, &binary, &[])?,
        };
        ready.push(Ready { job, script });
    }
    if args.dry_run {
        return preview::show(printer, &ready, &options, args);
    }
    if let Some(id) = allocation::variable("SLURM_JOB_ID") {
        printer.note(format!(
            "this is inside job {id}, which `tokmark run` would use; what is submitted becomes a job of its own"
        ));
    }
    let submission = Submission { printer, args, ready: &ready, suite: suite.as_ref(), options: &options };
    block_on(submission.submit())
}

/// Plans every order; returns all errors of all orders at once.
pub(super) fn plan(planning: &Planning, orders: &[Order], base: &Choices) -> Result<Vec<Task>, InputErrors> {
    workload::tasks(orders, &find::all(), base, &|file: &RecipeFile, chosen| {
        let plan = planning.plan(file, chosen)?;
        render::check(&plan)?;
        Ok(plan)
    })
}

/// The jobs of tasks; prints each remark about them as a warning.
pub(super) fn jobs(printer: Printer, tasks: Vec<Task>) -> Vec<Job> {
    for task in &tasks {
        task.remarks.iter().for_each(|remark| printer.note(format!("warning: {remark}")));
        planning::warn_about(printer, &task.plan);
        planning::warn_about_time(printer, &task.plan);
    }
    workload::jobs(tasks)
}

/// Checks what this machine can check before the jobs run.
fn check(printer: Printer, args: &SubmitArgs, tasks: &[Task], options: &[String]) -> Result<(), InputErrors> {
    let mut errors = Vec::new();
    for Task { plan, .. } in tasks {
        let exported = options::exported(options);
        for name in exported.into_iter().filter(|name| plan.recipe.knobs.contains_key(*name)) {
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
            weights::check::container_image(plan),
            connection::check(plan, false),
            prompts::check::check(plan),
        ];
        errors.extend(checks.into_iter().filter_map(Result::err).flat_map(|InputErrors(problems)| problems));
    }
    if !args.no_weights_check {
        match weights::check::folders(tasks.iter().map(|task| &task.plan)) {
            Ok(remarks) => remarks.iter().for_each(|remark| printer.note(format!("warning: {remark}"))),
            Err(InputErrors(problems)) => errors.extend(problems),
        }
    }
    InputErrors::check(errors)
}
