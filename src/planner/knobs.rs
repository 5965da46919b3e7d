//! Knobs of a plan: which ones the job's environment set, and which ones have no effect.

use crate::plan::Plan;
use crate::recipe::Origin;

/// Variables of the job's environment that the plan was made again for, as `NAME=VALUE`; those without effect are left out.
pub fn set_in_job(plan: &Plan) -> Vec<String> {
    let variables = plan.input.choices.variables.iter();
    variables
        .filter(|(name, variable)| variable.in_job && overruled_by(plan, name).is_none())
        .map(|(name, variable)| format!("{name}={}", variable.value))
        .collect()
}

/// The option that wins over a knob's variable: `--set load.isl`, `--env ISL`.
pub fn overruled_by(plan: &Plan, knob: &str) -> Option<String> {
    let key = plan.recipe.knobs.get(knob)?;
    match plan.origins.get(key)? {
        Origin::Set => Some(format!("--set {key}")),
        origin @ (Origin::Env(_) | Origin::Flag(_)) => Some(origin.to_string()),
        Origin::Default | Origin::File { .. } | Origin::Variable { .. } => None,
    }
}

/// Knobs that have no effect, each with the reason. Values are left out: they may be secrets.
pub fn without_effect(plan: &Plan) -> Vec<String> {
    let choices = &plan.input.choices;
    let variables = choices
        .variables
        .iter()
        .filter_map(|(name, variable)| Some((variable.origin(name).to_string(), overruled_by(plan, name)?)));
    let env = choices.env.iter().filter_map(|(name, _)| {
        let origin = format!("--env {name}");
        overruled_by(plan, name).filter(|option| *option != origin).map(|option| (origin, option))
    });
    variables.chain(env).map(|(given, option)| format!("{given} has no effect: {option} was given")).collect()
}
