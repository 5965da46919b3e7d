//! Roles to processes: which node, which GPUs, how many tasks. GPU counts are derived, never typed.
//!
//! Arrow: `launcher` → here → `deploy`.

use serde::{Deserialize, Serialize};

use super::{Gpu, Parallel};
use crate::launcher::{Launcher, Placement, Role, Tasks};

/// One process (a step of one or more tasks) of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Unique name in the deployment, e.g. `server-0`; also of its log and its Slurm step.
    pub name: String,
    /// Role in the launcher.
    pub role: String,
    /// Number among the processes of the role.
    pub index: u32,
    /// Nodes it runs on, as numbers within the allocation; the first is its address.
    pub nodes: Vec<u32>,
    /// Tasks of the step, over all its nodes.
    pub tasks: u32,
    /// GPUs it may use on each of its nodes.
    pub gpus: Vec<u32>,
}

/// Nodes and processes of a deployment, or why it does not fit.
pub fn lay_out(launcher: &Launcher, parallel: &Parallel, gpu: &Gpu) -> Result<(u32, Vec<Process>), String> {
    let seats = Seats::of(launcher, parallel, gpu)?;
    let mut processes = Vec::new();
    for role in &launcher.roles {
        let count = match role.placement {
            Placement::Head => 1,
            Placement::EachNode => seats.nodes,
            Placement::EachReplica => parallel.replicas,
        };
        for index in 0..count {
            processes.push(seats.process(role, index));
        }
    }
    Ok((seats.nodes, processes))
}

/// Where replicas sit: `nodes_each` whole nodes, or `gpus_each` GPUs of one node.
struct Seats {
    nodes: u32,
    nodes_each: u32,
    gpus_each: u32,
    per_node: u32,
}

impl Seats {
    fn of(launcher: &Launcher, parallel: &Parallel, gpu: &Gpu) -> Result<Self, String> {
        let (need, per_node) = (parallel.gpus_per_replica(), gpu.per_node);
        if !launcher.roles.iter().any(|role| role.gpus) {
            return Ok(Self { nodes: 1, nodes_each: 1, gpus_each: 0, per_node: 0 });
        }
        if need <= per_node {
            let per_replica_node = per_node / need;
            let nodes = parallel.replicas.div_ceil(per_replica_node);
            return Ok(Self { nodes, nodes_each: 1, gpus_each: need, per_node });
        }
        if !launcher.spans_nodes {
            return Err(format!(
                "a replica needs tp × pp × dp = {} × {} × {} = {need} GPUs, a node with {} has {per_node}, and launcher {:?} cannot span nodes",
                parallel.tp, parallel.pp, parallel.dp, gpu.kind, launcher.name
            ));
        }
        if need % per_node != 0 {
            return Err(format!(
                "a replica needs {need} GPUs, which is no multiple of the {per_node} GPUs of a node"
            ));
        }
        let nodes_each = need / per_node;
        Ok(Self { nodes: nodes_each * parallel.replicas, nodes_each, gpus_each: per_node, per_node })
    }

    fn process(&self, role: &Role, index: u32) -> Process {
        let (nodes, first_gpu) = match role.placement {
            Placement::Head => ((0..self.nodes_each).collect(), 0),
            Placement::EachNode => (vec![index], 0),
            Placement::EachReplica if self.nodes_each > 1 => {
                (((index * self.nodes_each)..((index + 1) * self.nodes_each)).collect(), 0)
            }
            Placement::EachReplica => {
                let per_node = self.per_node.checked_div(self.gpus_each).unwrap_or(1).max(1);
                (vec![index / per_node], index % per_node * self.gpus_each)
            }
        };
        let nodes: Vec<u32> = if role.gpus { nodes } else { nodes.into_iter().take(1).collect() };
        let gpus: Vec<u32> =
            if role.gpus { (first_gpu..first_gpu + self.gpus_each).collect() } else { Vec::new() };
        let tasks = match role.tasks {
            Tasks::One => nodes.len() as u32,
            Tasks::PerGpu => (nodes.len() * gpus.len().max(1)) as u32,
        };
        Process { name: format!("{}-{index}", role.name), role: role.name.clone(), index, nodes, tasks, gpus }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launcher;

    fn parallel(tp: u32, replicas: u32) -> Parallel {
        Parallel { tp, pp: 1, dp: 1, ep: 1, attention_dp: false, replicas }
    }

    fn gpu(per_node: u32) -> Gpu {
        Gpu { kind: "h100".into(), per_node }
    }

    #[test]
    fn one_replica_gets_the_first_gpus_of_the_head() {
        let vllm = launcher::named("vllm", None, "t").unwrap();
        let (nodes, processes) = lay_out(&vllm, &parallel(2, 1), &gpu(8)).unwrap();
        assert_eq!(nodes, 1);
        assert_eq!(processes[0].gpus, [0, 1]);
        assert_eq!((processes[0].name.as_str(), processes[0].tasks), ("server-0", 1));
    }

    #[test]
    fn too_large_for_a_node_is_refused_when_the_launcher_cannot_span() {
        let vllm = launcher::named("vllm", None, "t").unwrap();
        let error = lay_out(&vllm, &parallel(16, 1), &gpu(8)).unwrap_err();
        assert!(error.contains("16") && error.contains("cannot span nodes"), "{error}");
    }

    #[test]
    fn replicas_share_a_node_without_sharing_gpus() {
        let dynamo = launcher::named("dynamo-trtllm", None, "t").unwrap();
        let (nodes, processes) = lay_out(&dynamo, &parallel(4, 3), &gpu(8)).unwrap();
        let workers: Vec<&Process> = processes.iter().filter(|process| process.role == "worker").collect();
        assert_eq!(nodes, 2);
        let seats: Vec<_> =
            workers.iter().map(|worker| (worker.nodes[0], worker.gpus[0], worker.tasks)).collect();
        assert_eq!(seats, [(0, 0, 4), (0, 4, 4), (1, 0, 4)]);
    }

    #[test]
    fn a_spanning_replica_takes_whole_nodes() {
        let mut dynamo = launcher::named("dynamo-trtllm", None, "t").unwrap();
        dynamo.spans_nodes = true;
        let (nodes, processes) = lay_out(&dynamo, &parallel(8, 2), &gpu(4)).unwrap();
        let last = processes.last().unwrap();
        assert_eq!((nodes, last.nodes.clone(), last.tasks), (4, vec![2, 3], 8));
        assert_eq!(processes[0].nodes, [0], "roles without GPUs stay on the head");
    }
}
