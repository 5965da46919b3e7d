//! From orders to the jobs they make: what `submit` and `run --file` share.

use serde_json::{Value, json};

use super::{output, planning};
use crate::document::{InputError, InputErrors};
use crate::flags::Global;
use crate::plan::Plan;
use crate::plan::choices::Choices;
use crate::recipe::find::{self, RecipeFile};
use crate::site::SiteFile;
use crate::workload::{self, MAX_JOBS, Order, Task};

/// One of several jobs.
pub(super) struct Job {
    pub(super) plan: Plan,
    /// `2/3` of its repeats; nothing when there is only one.
    pub(super) number: Option<(u32, u32)>,
    /// What tells it from the others of its order.
    pub(super) differs: Vec<String>,
}

/// Plans every order; all errors of all of them at once.
pub(super) fn plan(global: &Global, orders: &[Order], base: &Choices) -> Result<Vec<Task>, InputErrors> {
    let site = SiteFile::load(global.site.as_deref())?;
    let (recipes, broken) = find::all();
    let plan = |file: &RecipeFile, chosen: Choices| {
        let planned = planning::plan_file(global, &site, file.clone(), chosen)?;
        planning::check_templates(&planned)?;
        Ok(planned.plan)
    };
    let (mut tasks, mut errors) = (Vec::new(), Vec::new());
    for order in orders {
        match workload::tasks(order, &recipes, base, &plan) {
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
        errors.push(
            InputError::new("the order", format!("{jobs} jobs")).expected(format!("at most {MAX_JOBS}")),
        );
    }
    errors.dedup();
    InputErrors::check(errors)?;
    Ok(tasks)
}

/// Each job of each task, in order; says what the user should know of a task.
pub(super) fn each(global: &Global, tasks: Vec<Task>) -> Vec<Job> {
    let mut jobs = Vec::new();
    for task in tasks {
        if !global.quiet {
            task.remarks.iter().for_each(|remark| output::note(&format!("warning: {remark}")));
            planning::tell_without_effect(&task.plan);
        }
        for number in 1..=task.repeats {
            let number = (task.repeats > 1).then_some((number, task.repeats));
            jobs.push(Job { plan: task.plan.clone(), number, differs: task.differs.clone() });
        }
    }
    jobs
}

/// Each error once, in order.
pub(super) fn each_once(errors: Vec<InputError>) -> Result<(), InputErrors> {
    let mut seen: Vec<InputError> = Vec::new();
    for error in errors {
        if !seen.contains(&error) {
            seen.push(error);
        }
    }
    InputErrors::check(seen)
}

impl Job {
    /// `gpt-oss-120b-vllm 120b mxfp4, 4 GPUs (h100), STREAMING=false, 2/3`
    pub(super) fn words(&self) -> String {
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
    pub(super) fn facts(&self) -> Value {
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
