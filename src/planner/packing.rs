//! Which nodes and GPUs each replica gets. GPUs are counted from the sizes and never shared.
//!
//! Order of the nodes: one for the load and one for the head roles if the recipe sets them apart, one for each dedicated
//! role, then the pools, each packed from its first node on.

use super::sections::Deploy;
use crate::document::InputError;
use crate::launcher::{Launcher, PoolName};
use crate::plan::{Gpu, Pool};

/// Nodes and GPUs of one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReplicaGpus {
    pub nodes: Vec<u32>,
    /// Its first GPU on each of them.
    pub first_gpu: u32,
    /// Its GPUs on each of them; 0 without GPUs.
    pub gpus_each: u32,
}

/// How a deployment is packed onto nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packing {
    pub nodes: u32,
    /// Nodes with servers on them: all but one for the load alone.
    pub server_nodes: u32,
    /// The node of the head roles.
    pub head: u32,
    /// First of the nodes for dedicated roles.
    pub first_dedicated: u32,
    pools: Vec<(PoolName, Vec<ReplicaGpus>)>,
}

impl Packing {
    /// The replicas of a pool.
    pub(super) fn of(&self, name: PoolName) -> &[ReplicaGpus] {
        self.pools.iter().find(|(pool, _)| *pool == name).map_or(&[], |(_, replicas)| replicas)
    }
}

/// Packs every replica, behind nodes for this many dedicated roles.
pub(super) fn pack(
    section: &Deploy,
    launcher: &Launcher,
    pools: &[Pool],
    gpu: &Gpu,
    dedicated: u32,
) -> Result<Packing, InputError> {
    let first_dedicated = u32::from(section.client_node) + u32::from(section.head_node);
    let first = first_dedicated + dedicated;
    let with_gpus = |pool: &&Pool| launcher.uses_gpus(pool.name);
    let all = pools.iter().filter(with_gpus).map(Pool::gpus).fold(0, u32::saturating_add);
    let share_nodes = section.colocate.unwrap_or(all <= gpu.per_node);
    let mut cursor = Cursor { node: first, gpu: 0, per_node: gpu.per_node };
    let mut packed = Vec::new();
    for pool in pools {
        let replicas = 0..pool.parallel.replicas;
        let replicas: Vec<ReplicaGpus> = if with_gpus(&pool) {
            if !share_nodes {
                cursor.open_node();
            }
            fits(launcher, pool, gpu)?;
            replicas.map(|_| cursor.take(pool.parallel.gpus_per_replica())).collect()
        } else {
            replicas.map(|_| ReplicaGpus { nodes: vec![first], first_gpu: 0, gpus_each: 0 }).collect()
        };
        packed.push((pool.name, replicas));
    }
    cursor.open_node();
    // A launcher without GPUs still has a node to run on.
    let nodes = cursor.node.max(first + u32::from(!pools.is_empty() || first == 0));
    let client_nodes = u32::from(section.client_node);
    Ok(Packing {
        nodes,
        server_nodes: nodes - client_nodes,
        head: if section.head_node { client_nodes } else { first.min(nodes - 1) },
        first_dedicated,
        pools: packed,
    })
}

/// Whether a replica of a pool fits at all.
fn fits(launcher: &Launcher, pool: &Pool, gpu: &Gpu) -> Result<(), InputError> {
    let (sizes, per_node) = (&pool.parallel, gpu.per_node);
    let need = sizes.gpus_per_replica();
    let of = match pool.name {
        PoolName::Aggregated => "a replica".to_owned(),
        name => format!("a {} replica", name.as_str()),
    };
    let needs = format!("{of} needs tp × pp × dp = {} × {} × {} = {need} GPUs", sizes.tp, sizes.pp, sizes.dp);
    let (problem, next) = if need <= per_node {
        return Ok(());
    } else if !launcher.spans_nodes {
        let node = format!("a node with {} has {per_node}", gpu.kind);
        (
            format!("{needs}, {node}, and launcher {:?} cannot span nodes", launcher.name),
            "lower tp, pp or dp, or choose a launcher that spans nodes".to_owned(),
        )
    } else if need % per_node != 0 {
        let (below, above) = (need / per_node * per_node, need.div_ceil(per_node) * per_node);
        let left = format!("{need} / {per_node} leaves {}", need % per_node);
        (
            format!("{needs}, and {left}: more than a node must be whole nodes of {per_node}"),
            format!("make tp × pp × dp {below} or {above}"),
        )
    } else {
        return Ok(());
    };
    Err(InputError::new("", problem).key(format!("deploy.{}tp", pool.name.prefix())).next(next))
}

/// The next free GPU.
struct Cursor {
    node: u32,
    gpu: u32,
    per_node: u32,
}

impl Cursor {
    fn open_node(&mut self) {
        if self.gpu > 0 {
            self.node += 1;
            self.gpu = 0;
        }
    }

    /// Takes `need` GPUs: of one node, or whole nodes.
    fn take(&mut self, need: u32) -> ReplicaGpus {
        if self.gpu + need > self.per_node {
            self.open_node();
        }
        let (node, first_gpu) = (self.node, self.gpu);
        if need > self.per_node {
            let nodes = need / self.per_node.max(1);
            self.node += nodes;
            return ReplicaGpus { nodes: (node..self.node).collect(), first_gpu, gpus_each: self.per_node };
        }
        self.gpu += need;
        ReplicaGpus { nodes: vec![node], first_gpu, gpus_each: need }
    }
}
