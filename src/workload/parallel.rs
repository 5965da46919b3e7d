//! The deployments of a sweep as jobs of their own.

use super::Task;
use crate::document::{InputError, InputErrors};
use crate::plan::choices::Choices;
use crate::plan::{Plan, PlanInput};
use crate::planner;

/// Each task with several deployments as one task for each of them, in order. Its plan is that of the whole sweep with one
/// deployment left: same ids, same names of points, and a job of its own size.
pub fn apart(tasks: Vec<Task>) -> Result<Vec<Task>, InputErrors> {
    let mut all = Vec::new();
    for task in tasks {
        if task.plan.deployments.len() < 2 {
            all.push(task);
            continue;
        }
        for deployment in &task.plan.deployments {
            let plan = planned(&task.plan, deployment.id.clone())?;
            let differs = task.differs.iter().cloned().chain([deployment.id.clone()]).collect();
            all.push(Task { plan, differs, repeats: task.repeats, remarks: Vec::new() });
        }
    }
    if all.iter().all(|task| task.plan.input.choices.deployment.is_none()) {
        return Err(InputError::new("--parallel", "every recipe has one deployment")
            .expected("a recipe with [sweep.server], whose deployments become jobs")
            .next("leave out --parallel; load points of one deployment share its servers")
            .into());
    }
    Ok(all)
}

fn planned(plan: &Plan, deployment: String) -> Result<Plan, InputErrors> {
    let choices = Choices { deployment: Some(deployment), ..plan.input.choices.clone() };
    planner::plan(&PlanInput { choices, ..plan.input.clone() })
}
