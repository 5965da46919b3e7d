//! Processes of a deployment: role, nodes, GPUs, ports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::launcher::PoolName;
use crate::template::Context;

/// One process (a step of one or more tasks) of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Unique name in the deployment, e.g. `server-0`; also of its log and its Slurm step.
    pub name: String,
    /// Role in the launcher.
    pub role: String,
    /// Pool it belongs to, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolName>,
    /// Number among the processes of the role and pool.
    pub index: u32,
    /// Number of its replica in the pool.
    pub replica: u32,
    /// Number within the replica; 0 leads.
    pub rank: u32,
    /// Processes of the replica.
    pub ranks: u32,
    /// It works for the first process of its replica and is not asked by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follows: bool,
    /// Its first data-parallel rank within the replica.
    pub dp_rank: u32,
    /// Data-parallel ranks it runs.
    pub dp_local: u32,
    /// Nodes it runs on, as numbers within the allocation; the first is its address.
    pub nodes: Vec<u32>,
    /// Tasks of the step, over all its nodes.
    pub tasks: u32,
    /// GPUs it may use on each of its nodes.
    pub gpus: Vec<u32>,
    /// Ports it needs, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, PortNeed>,
}

/// Consecutive ports a process needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortNeed {
    /// Preferred first number.
    pub base: u16,
    /// How many.
    pub count: u16,
    /// Distance to those of the next process.
    pub stride: u16,
}

/// What templates see of a process before it has a place.
pub fn insert_process(context: &mut Context, process: &Process) {
    context.insert("index", &process.index);
    context.insert("replica", &process.replica);
    context.insert("rank", &process.rank);
    context.insert("ranks", &process.ranks);
    context.insert("dp_rank", &process.dp_rank);
    context.insert("dp_local", &process.dp_local);
    context.insert("gpus", &process.gpus);
    context.insert("tasks", &process.tasks);
    context.insert("process_nodes", &process.nodes.len());
}
