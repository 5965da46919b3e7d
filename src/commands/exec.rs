//! `tokmark exec`: the inside of an allocation. The job script's last line calls it; nobody else needs to.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::{planning, session};
use crate::cli::Global;
use crate::deploy::Place;
use crate::deploy::place::Allocation;
use crate::document::InputError;
use crate::executor::slurm::Slurm;
use crate::experiment::{Experiment, Manifest};
use crate::plan::{Plan, SCHEMA};

/// Arguments of `exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// The frozen plan
    #[arg(long, value_name = "FILE")]
    plan: PathBuf,
    /// The job script, to keep a copy of it
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(global: &Global, args: &ExecArgs) -> anyhow::Result<()> {
    let plan = read_plan(args)?;
    let place = allocation()?;
    let job = place.job().map(ToString::to_string).unwrap_or_default();
    let experiment = Experiment::of_job(&plan, &job);
    fs_err::create_dir_all(experiment.dir())?;
    let script = args.script.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
    experiment.ensure(&plan, script.as_deref())?;
    Manifest::now(&plan, Some(&job), "exec").create(experiment.dir())?;
    experiment.link_output(&job);
    planning::check_prompts(&plan)?;
    session::conduct(global, plan, place, experiment, false)
}

fn read_plan(args: &ExecArgs) -> anyhow::Result<Plan> {
    let file = args.plan.display().to_string();
    let text = fs_err::read_to_string(&args.plan)?;
    let plan: Plan = serde_json::from_str(&text).map_err(|error| {
        InputError::new(&file, format!("not a plan of this version: {error}"))
            .next("render the recipe again with this tokmark")
    })?;
    if plan.schema != SCHEMA {
        return Err(InputError::new(&file, format!("found plan version {}", plan.schema))
            .expected(format!("version {SCHEMA}"))
            .next("render the recipe again with this tokmark")
            .into());
    }
    Ok(plan)
}

/// The allocation this process is in.
fn allocation() -> anyhow::Result<Place> {
    let outside = || {
        InputError::new("exec", "not inside a Slurm job: SLURM_JOB_ID is not set")
            .next("submit the script with sbatch, or use `tokmark run RECIPE`")
    };
    let id = std::env::var("SLURM_JOB_ID").map_err(|_| outside())?;
    let list = std::env::var("SLURM_JOB_NODELIST").map_err(|_| outside())?;
    let job = id.parse().map_err(|error| InputError::new("$SLURM_JOB_ID", format!("{error}")))?;
    let slurm = Slurm::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let nodes = runtime.block_on(slurm.hostnames(&list)).context("cannot find the nodes of this job")?;
    let restarts =
        std::env::var("SLURM_RESTART_COUNT").ok().and_then(|count| count.parse().ok()).unwrap_or(0);
    Ok(Place::Allocation(Box::new(Allocation { job, nodes, restarts, slurm })))
}
