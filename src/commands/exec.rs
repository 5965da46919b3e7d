//! `tokmark exec`: runs inside an allocation, called by the last line of the job script.

use std::path::PathBuf;

use clap::Args;

use super::printer::Printer;
use super::run::{allocation, session};
use super::{block_on, planning};
use crate::deploy::Place;
use crate::deploy::place::Allocation;
use crate::document::InputError;
use crate::experiment::manifest::hostname;
use crate::experiment::{Holder, JobIdentity};
use crate::node::processes::Process;
use crate::plan::{Plan, SCHEMA};
use crate::planner::{knobs, plan_in_job};
use crate::prompts;

#[derive(Debug, Args)]
pub struct ExecArgs {
    /// The frozen plan
    #[arg(long, value_name = "FILE")]
    plan: PathBuf,
    /// The job script, to copy into the experiment
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
}

/// If the job's environment sets a knob differently from the script, the plan changes before anything is created
/// or started.
pub fn run(printer: Printer, args: &ExecArgs) -> anyhow::Result<()> {
    let frozen = read_plan(args)?;
    let allocation = block_on(this_allocation())?;
    let plan = match plan_in_job(&frozen, &allocation::variable)? {
        Some(plan) => {
            plan.fits(&allocation::of_script(&allocation, &frozen))?;
            let set = knobs::set_in_job(&plan);
            if !set.is_empty() {
                printer.error(format!("planned again with {} of the job's environment", set.join(", ")));
            }
            planning::warn_about(printer, &plan);
            plan
        }
        None => frozen,
    };
    let script = args.script.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
    let identity = JobIdentity {
        id: allocation.job.to_string(),
        cluster: allocation.cluster.clone(),
        submitted: allocation.submitted,
        restarts: allocation.restarts,
    };
    let experiment = identity.experiment(&plan, "exec", script.as_deref())?;
    let _lock = experiment.lock(&holder(&identity), |pid| Some(Process::of(pid)?.started))?;
    prompts::check::check(&plan)?;
    session::conduct(printer, plan, Place::Allocation(Box::new(allocation)), experiment)?.show(printer, true)
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

/// This process, which is about to run the experiment of a job.
fn holder(identity: &JobIdentity) -> Holder {
    let pid = std::process::id();
    Holder {
        job: Some(identity.id.clone()),
        restarts: identity.restarts,
        host: hostname(),
        pid,
        started: Process::of(pid).map(|process| process.started).unwrap_or_default(),
        since: jiff::Timestamp::now(),
    }
}

/// The allocation of this process; a job script runs tokmark on its first node.
async fn this_allocation() -> anyhow::Result<Allocation> {
    let (id, list) = allocation::of_environment().ok_or_else(|| {
        InputError::new("exec", "not inside a Slurm job: SLURM_JOB_ID is not set")
            .next("submit the script with sbatch, or use `tokmark run RECIPE`")
    })?;
    Ok(Allocation { on_first: true, run: None, ..allocation::of_job(&id, &list).await? })
}
