//! Roles: the kinds of process an engine is made of, and where each goes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::{Arg, PortSpec, Ready};

/// `[[role]]`: one kind of process.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Name, unique in the launcher.
    pub name: String,
    /// Template expression: the role exists only if it is true, e.g. `settings.discovery == "etcd"`.
    pub when: Option<String>,
    /// Pools whose replicas get processes of this role. Default: `["aggregated"]`. In a disaggregated deployment the processes
    /// are named after the pool.
    #[serde(default = "aggregated")]
    pub pools: Vec<PoolName>,
    /// Where it runs.
    pub placement: Placement,
    /// Other placements: the first one whose condition holds applies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub placed: Vec<PlacedWhen>,
    /// Whether it gets the GPUs of its replica.
    #[serde(default)]
    pub gpus: bool,
    /// Tasks of its step: one on each of its nodes, or one for each of its GPUs (MPI).
    #[serde(default)]
    pub tasks: Tasks,
    /// Started under the site's MPI type.
    #[serde(default)]
    pub mpi: bool,
    /// MPI type when the site names none, e.g. `pmix`. Default: the cluster's own.
    pub mpi_type: Option<String>,
    /// Runs outside the container.
    #[serde(default)]
    pub bare: bool,
    /// Roles that must be ready before it starts. Default: every earlier one that has no GPUs.
    pub after: Option<Vec<String>>,
    /// Program and arguments, each a template of one argument. Never a shell line.
    pub argv: Vec<Arg>,
    /// Environment; values are templates. A variable that renders to nothing is not set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Whether it gets the launcher's `[env]` too.
    #[serde(default = "super::yes", skip_serializing_if = "super::is_true")]
    pub common_env: bool,
    /// Variables removed from its environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unset: Vec<String>,
    /// Ports: name → the preferred number, or with `base`, `count` and `stride`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, PortSpec>,
    /// Files rendered before it starts: name → template. `{{ files.NAME }}` is the path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// When it counts as ready. Required, except for the role that serves the endpoint.
    pub ready: Option<Ready>,
    /// Path of its own Prometheus metrics, and the port.
    pub metrics: Option<super::PagePort>,
    /// Which of the two log views shows it.
    #[serde(default)]
    pub logs: Vec<LogView>,
}

fn aggregated() -> Vec<PoolName> {
    vec![PoolName::Aggregated]
}

/// A group of like replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolName {
    /// Prefill and decode in one engine: sizes of `[deploy]`.
    Aggregated,
    /// Prefill alone: sizes of `[deploy.prefill]`.
    Prefill,
    /// Decode alone: sizes of `[deploy.decode]`.
    Decode,
}

impl PoolName {
    /// The word of the field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aggregated => "aggregated",
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        }
    }

    /// What stands before its keys below `deploy`.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Aggregated => "",
            Self::Prefill => "prefill.",
            Self::Decode => "decode.",
        }
    }
}

/// `[[role.placed]]`: another placement under a condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlacedWhen {
    /// Template expression, e.g. `settings.dp_mode == "per_rank"`.
    pub when: String,
    /// Where it then runs.
    pub placement: Placement,
}

/// Where a role runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// One process on the head node: the first, or the one that `deploy.head_node` sets apart.
    Head,
    /// One process on each node.
    EachNode,
    /// One process (step) for each replica, over all of that replica's nodes.
    EachReplica,
    /// One process on each node of each replica.
    EachReplicaNode,
    /// One process for each data-parallel rank of each replica, with tp × pp GPUs.
    EachRank,
    /// One process for each GPU of each replica.
    EachGpu,
    /// One process on a node of its own, where nothing else is placed.
    Dedicated,
    /// One process on the node that the load comes from.
    Client,
}

impl Placement {
    /// Whether each replica has one process or more.
    pub fn is_per_replica(self) -> bool {
        matches!(self, Self::EachReplica | Self::EachReplicaNode | Self::EachRank | Self::EachGpu)
    }
}

/// Tasks of a role's step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tasks {
    /// One on each of its nodes.
    #[default]
    One,
    /// One for each GPU of the process.
    PerGpu,
}

/// The two log views of an experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogView {
    /// `output_server.log`
    Server,
    /// `output_workers.log`
    Workers,
}
