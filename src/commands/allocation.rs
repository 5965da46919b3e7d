//! The Slurm allocation this process is in: its nodes, its GPUs, whether tokmark runs on one of them.

use anyhow::Context;

use crate::deploy::place::Allocation;
use crate::document::InputError;
use crate::executor::slurm::Slurm;
use crate::experiment::manifest::hostname;
use crate::plan::Plan;
use crate::planner::scale::Allocated;
use crate::slurm::JobId;

/// A variable that is set to something.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Id of the job this process is in, and its nodes: Slurm says both inside an allocation.
pub(crate) fn of_environment() -> Option<(String, String)> {
    Some((variable("SLURM_JOB_ID")?, variable("SLURM_JOB_NODELIST").or_else(|| variable("SLURM_NODELIST"))?))
}

/// The allocation of a job and its node list.
pub(crate) async fn of_job(id: &str, list: &str) -> anyhow::Result<Allocation> {
    let job: JobId = id.parse().map_err(|error| InputError::new("$SLURM_JOB_ID", format!("{error}")))?;
    let slurm = Slurm::default();
    let nodes = slurm.hostnames(list).await.context("cannot find the nodes of this job")?;
    let restarts = variable("SLURM_RESTART_COUNT").and_then(|count| count.parse().ok()).unwrap_or(0);
    // A shell of salloc is usually on the login node, which is none of the job's.
    let here = variable("SLURMD_NODENAME").unwrap_or_else(hostname);
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let on_first = nodes.first().is_some_and(|first| short(first) == short(&here));
    Ok(Allocation { job, nodes, restarts, slurm, on_first, run: Some(std::process::id()) })
}

/// What a job script's allocation has, by what Slurm tells it, else by what the script asked for.
pub(crate) fn of_script(allocation: &Allocation, frozen: &Plan) -> Allocated {
    let asked = || asks_for_gpus(frozen).then(|| frozen.gpus_on_a_node());
    Allocated { gpus_per_node: counted().or_else(asked), ..named(allocation) }
}

fn named(allocation: &Allocation) -> Allocated {
    Allocated {
        name: format!("job {}", allocation.job),
        nodes: allocation.nodes.clone(),
        gpus_per_node: None,
    }
}

/// GPUs on this node of the job; Slurm says so in job scripts and steps.
fn counted() -> Option<u32> {
    variable("SLURM_GPUS_ON_NODE")?.parse().ok()
}

/// What an allocation has. In a shell of salloc only scontrol knows.
pub(crate) async fn allocated(allocation: &Allocation, plan: &Plan) -> anyhow::Result<Allocated> {
    let gpus_per_node = match counted() {
        Some(count) => Some(count),
        None => {
            let facts = allocation.slurm.allocated_gpus(&allocation.job).await?;
            // Where the site does not ask Slurm for GPUs, that it counts none means nothing.
            facts.or_else(|| asks_for_gpus(plan).then_some(0))
        }
    };
    Ok(Allocated { gpus_per_node, ..named(allocation) })
}

fn asks_for_gpus(plan: &Plan) -> bool {
    let asks = |directive: &String| directive.starts_with("--gpus") || directive.starts_with("--gres=gpu");
    plan.job.directives.iter().any(asks)
}
