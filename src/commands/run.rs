//! `tokmark run RECIPE`: the inner path without Slurm, processes on this machine.

use anyhow::Context;
use clap::Args;

use super::{output, planning, session};
use crate::cli::Global;
use crate::deploy::{Place, ports, secrets};
use crate::document::InputError;
use crate::experiment::{Experiment, Manifest};
use crate::plan::Plan;

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Recipe: file, name or alias
    recipe: String,
    /// Print the summaries as JSON instead of the table
    #[arg(long)]
    json: bool,
}

/// Runs the verb. What can be known to fail is found before the experiment directory is made.
pub fn run(global: &Global, args: &RunArgs) -> anyhow::Result<()> {
    let plan = planning::plan(global, &args.recipe)?.plan;
    planning::check_weights(global, &plan)?;
    planning::check_connection(&plan, true)?;
    planning::check_prompts(&plan)?;
    for port in plan.deployments.iter().filter_map(|deployment| deployment.port) {
        ports::must_be_free("127.0.0.1", port)?;
    }
    for deployment in &plan.deployments {
        let pools = deployment.pools.iter().map(|pool| &pool.env);
        for env in std::iter::once(&deployment.env).chain(pools) {
            secrets::resolve(env).map_err(|error| place_of(&plan, error))?;
        }
    }
    if plan.container.is_some() && !global.quiet {
        output::note("the site's containers are for Slurm jobs: here the servers run bare");
    }
    let experiment = Experiment::local(&plan, jiff::Timestamp::now())
        .with_context(|| format!("cannot make an experiment directory in {}", plan.experiments))?;
    experiment.ensure(&plan, None)?;
    Manifest::now(&plan, None, "run").create(experiment.dir())?;
    session::conduct(global, plan, Place::Local, experiment, args.json)
}

/// Says where a reference that leads nowhere was written.
fn place_of(plan: &Plan, mut error: InputError) -> InputError {
    let key = format!("deploy.env.{}", error.key.unwrap_or_default());
    match plan.origins.get(&key) {
        Some(origin) => error.origin.clone_from(origin),
        None => "the site file's [env]".clone_into(&mut error.origin),
    }
    error.key = Some(key);
    error
}
