//! The Slurm allocation of this process: its nodes, its GPUs, and whether tokmark runs on one of them.

use anyhow::Context;

use crate::deploy::place::Allocation;
use crate::document::InputError;
use crate::executor::slurm::Slurm;
use crate::experiment::manifest::hostname;
use crate::plan::Plan;
use crate::planner::scale::Allocated;
use crate::slurm::JobId;
use crate::slurm::srun::replaces_patterns_twice;

/// An environment variable; `None` if it is unset or empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Id and node list of this process's job; Slurm sets both inside an allocation.
pub(crate) fn of_environment() -> Option<(String, String)> {
    Some((variable("SLURM_JOB_ID")?, variable("SLURM_JOB_NODELIST").or_else(|| variable("SLURM_NODELIST"))?))
}

/// The allocation of a job with this node list.
pub(crate) async fn of_job(id: &str, list: &str) -> anyhow::Result<Allocation> {
    let job: JobId = id.parse().map_err(|error| InputError::new("$SLURM_JOB_ID", format!("{error}")))?;
    let slurm = Slurm::default();
    let nodes = slurm.hostnames(list).await.context("cannot find the nodes of this job")?;
    let restarts = variable("SLURM_RESTART_COUNT").and_then(|count| count.parse().ok()).unwrap_or(0);
    // A shell of salloc usually runs on the login node, which is not part of the job.
    let host = variable("SLURMD_NODENAME").unwrap_or_else(hostname);
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let on_first = nodes.first().is_some_and(|first| short(first) == short(&host));
    let cluster = variable("SLURM_CLUSTER_NAME");
    let statuses = slurm.poll(std::slice::from_ref(&job)).await.unwrap_or_default();
    let submitted = statuses.get(&job).and_then(|status| status.submit);
    let version = slurm.version().await.ok().flatten();
    let replaces_twice = version.is_some_and(|version| replaces_patterns_twice(&version));
    let run = Some(std::process::id());
    Ok(Allocation { job, nodes, restarts, cluster, submitted, replaces_twice, slurm, on_first, run })
}

/// The resources of a job script's allocation: Slurm's count, else the script's request.
pub(crate) fn of_script(allocation: &Allocation, frozen: &Plan) -> Allocated {
    let requested = || requests_gpus(frozen).then(|| frozen.gpus_on_a_node());
    Allocated { gpus_per_node: counted().or_else(requested), ..named(allocation) }
}

fn named(allocation: &Allocation) -> Allocated {
    Allocated {
        name: format!("job {}", allocation.job),
        nodes: allocation.nodes.clone(),
        gpus_per_node: None,
    }
}

/// The job's GPUs on this node; Slurm sets the variable in job scripts and steps.
fn counted() -> Option<u32> {
    variable("SLURM_GPUS_ON_NODE")?.parse().ok()
}

/// The resources of an allocation. Inside a shell of salloc only scontrol knows them.
pub(crate) async fn allocated(allocation: &Allocation, plan: &Plan) -> anyhow::Result<Allocated> {
    let gpus_per_node = match counted() {
        Some(count) => Some(count),
        None => {
            let counted = allocation.slurm.allocated_gpus(&allocation.job).await?;
            // A count of none means nothing if the site does not request GPUs from Slurm.
            counted.or_else(|| requests_gpus(plan).then_some(0))
        }
    };
    Ok(Allocated { gpus_per_node, ..named(allocation) })
}

fn requests_gpus(plan: &Plan) -> bool {
    let requests =
        |directive: &String| directive.starts_with("--gpus") || directive.starts_with("--gres=gpu");
    plan.job.directives.iter().any(requests)
}
