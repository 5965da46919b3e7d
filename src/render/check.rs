//! Checks that every template of a plan renders, before anything is created.

use super::{Addresses, Placed, RenderError, script};
use crate::document::{InputError, InputErrors};
use crate::plan::Plan;

/// Renders everything with sample addresses; errors name file and key.
pub fn check(plan: &Plan) -> Result<(), InputErrors> {
    let mut errors = Vec::new();
    let mut note =
        |result: Result<(), RenderError>| errors.extend(result.err().map(|error| located(plan, error)));
    note(script(plan, "/path/to/tokmark", &[]).map(drop));
    for deployment in &plan.deployments {
        let addresses = Addresses::sample(plan, deployment);
        let placed = Placed { plan, deployment, addresses: &addresses };
        for process in &deployment.processes {
            note(placed.process(process).map(drop));
            let role = plan.launcher().role(&process.role);
            if let Some(page) = role.and_then(|role| role.metrics.as_ref()) {
                note(placed.has_page(process, page).map(drop));
            }
            if let Some(rule) = role.and_then(|role| role.ready.as_ref()) {
                note(placed.ready(process, rule).map(drop));
            }
        }
        note(placed.endpoint_urls().map(drop));
    }
    errors.dedup();
    InputErrors::check(errors)
}

/// Adds the template's file.
fn located(plan: &Plan, error: RenderError) -> InputError {
    match error {
        RenderError::Launcher { key, problem, .. } => {
            InputError::new(&plan.input.engine().file, problem).key(key)
        }
        RenderError::Template { .. } => InputError::new(&plan.input.recipe.file, error.to_string()),
    }
}
