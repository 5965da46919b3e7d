//! From recipe, site, launcher and choices to a [`Plan`]. Pure: same input, same bytes.

mod arrival;
mod connection;
pub mod container;
mod deployments;
pub mod engine_options;
mod experiment_name;
pub mod input;
pub mod job;
pub mod knobs;
mod layout;
mod load_points;
pub mod matrix;
mod packing;
mod parsed;
mod prompts;
mod rehearsal;
mod repeats;
pub mod resolve;
pub mod sbatch_env;
pub mod scale;
mod search;
mod secrets;
pub mod sections;
mod speculation;
mod stages;
mod telemetry;
#[cfg(test)]
pub(crate) mod testing;

use crate::document::{InputError, InputErrors};
use crate::plan::container::host_path;
use crate::plan::{Deployment, Plan, PlanInput, SCHEMA};
use job::{Needs, job};
use parsed::Parsed;

/// Makes a plan, or returns every mistake of the first step that finds any.
pub fn plan(input: &PlanInput) -> Result<Plan, InputErrors> {
    let parsed = Parsed::of(input)?;
    let model = parsed.model()?;
    let container = container::container(&parsed, &model)?;
    let model_folder = model.is_path().then(|| host_path(container.as_ref(), &model.path));
    let mut deployments = deployments::deployments(&parsed, &model, model_folder)?;
    if let Some(id) = &input.choices.deployment {
        let known = deployments
            .iter()
            .map(|deployment| format!("{:?}", deployment.id))
            .collect::<Vec<_>>()
            .join(", ");
        deployments.retain(|deployment| deployment.id == *id);
        if deployments.is_empty() {
            let error = InputError::new(input.recipe.file.clone(), format!("no deployment {id:?}"));
            return Err(error.key("sweep.server").expected(format!("one of {known}")).into());
        }
    }
    let telemetry = telemetry::telemetry(&parsed)?;
    let search = search::search(&parsed, deployments.first().map_or(&[], |first| &first.points))?;
    let engine = &input.engine().launcher;
    let experiment =
        experiment_name::experiment_name(engine.options.batch_size.as_deref(), &model, &deployments);
    let is_scaled =
        deployments.iter().flat_map(|deployment| &deployment.points).any(|point| point.scaled.is_some());
    let is_rehearsal = input.stand_in.is_some() || is_scaled;
    let experiment = if is_rehearsal { format!("rehearsal_{experiment}") } else { experiment };
    let gpus_on_a_node = deployments.iter().map(Deployment::gpus_on_a_node).max().unwrap_or(0);
    let needs = Needs {
        name: parsed.file.name(),
        nodes: deployments.iter().map(|deployment| deployment.nodes).max().unwrap_or(1),
        gpu: &parsed.gpu.kind,
        gpus_per_node: match gpus_on_a_node {
            0 if engine.roles.iter().any(|role| role.gpus) => parsed.gpu.per_node,
            gpus => gpus,
        },
    };
    let (_, slurm) = parsed.section("slurm", "", &Vec::new())?;
    let mut job = job(&parsed.site.site, &slurm, &needs);
    scale::check(input.choices.scale, &parsed.file, &deployments)?;
    sbatch_env::apply(&mut job, &input.choices, gpus_on_a_node).map_err(InputErrors)?;
    let Parsed { file, site, resolved, gpu, .. } = parsed;
    Ok(Plan {
        schema: SCHEMA,
        input: input.clone(),
        name: file.name().to_owned(),
        summary: resolved.recipe.summary.clone().unwrap_or_default(),
        recipe: resolved.recipe,
        origins: resolved.origins,
        simulated: engine.simulated,
        container: container.filter(|_| input.stand_in.is_none()),
        network: site.site.network.interface,
        telemetry,
        search,
        gpu,
        model,
        experiment,
        job,
        deployments,
    })
}

/// Plans again with the knobs that the environment of the job sets; `None` when it sets nothing new.
pub fn plan_in_job(frozen: &Plan, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Plan>, InputErrors> {
    let Some(choices) = frozen.input.choices.in_job(&frozen.recipe.knobs, env) else { return Ok(None) };
    plan(&PlanInput { choices, ..frozen.input.clone() }).map(Some)
}
