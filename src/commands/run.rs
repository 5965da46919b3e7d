//! `tokmark run RECIPE`: the inner path without Slurm, processes on this machine.

use anyhow::Context;
use clap::Args;

use super::{planning, session};
use crate::cli::Global;
use crate::deploy::{Place, ports};
use crate::experiment::{Experiment, Manifest};

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
    planning::check_weights(&plan)?;
    for port in plan.deployments.iter().filter_map(|deployment| deployment.port) {
        ports::must_be_free("127.0.0.1", port)?;
    }
    let experiment = Experiment::local(&plan, jiff::Timestamp::now())
        .with_context(|| format!("cannot make an experiment directory in {}", plan.experiments))?;
    experiment.ensure(&plan, None)?;
    Manifest::now(&plan, None, "run").create(experiment.dir())?;
    session::conduct(global, plan, Place::Local, experiment, args.json)
}
