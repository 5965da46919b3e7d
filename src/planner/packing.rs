//! Which nodes and GPUs each replica gets. GPUs are counted from the sizes and never shared.
//!
//! Order of the nodes: one for the load and one for the head roles when the recipe sets them apart, one for each
//! dedicated role, then the pools, each packed from its first node on.

use crate::launcher::{Launcher, PoolName};
use crate::plan::{Gpu, Pool};

/// A topology that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Misfit {
    /// Key below `deploy` to blame.
    pub key: String,
    /// What does not fit, with the arithmetic.
    pub problem: String,
    /// What to do.
    pub next: String,
}

/// What a recipe sets apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Apart {
    /// A node for the load.
    pub client: bool,
    /// A node for the head roles.
    pub head: bool,
    /// Whether pools may share a node; without a word only when all fit on one.
    pub colocate: Option<bool>,
}

/// Nodes and GPUs of one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReplicaGpus {
    /// Its nodes.
    pub nodes: Vec<u32>,
    /// Its first GPU on each of them.
    pub first_gpu: u32,
    /// Its GPUs on each of them; 0 without GPUs.
    pub gpus_each: u32,
}

/// How a deployment is packed onto nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packing {
    /// Nodes in all.
    pub nodes: u32,
    /// The node of the load.
    pub client: u32,
    /// The node of the head roles.
    pub head: u32,
    /// First of the nodes for dedicated roles.
    pub first_dedicated: u32,
    /// Replicas of each pool, in the order of the pools.
    pub pools: Vec<(PoolName, Vec<ReplicaGpus>)>,
    /// Nodes with servers on them: all but one for the load alone.
    pub server_nodes: u32,
}

impl Packing {
    /// The replicas of a pool.
    pub(super) fn of(&self, name: PoolName) -> &[ReplicaGpus] {
        self.pools.iter().find(|(pool, _)| *pool == name).map_or(&[], |(_, replicas)| replicas)
    }
}

/// Packs every replica.
pub(super) fn pack(
    launcher: &Launcher,
    pools: &[Pool],
    gpu: &Gpu,
    apart: Apart,
    dedicated: u32,
) -> Result<Packing, Misfit> {
    let reserved = u32::from(apart.client) + u32::from(apart.head);
    let first = reserved + dedicated;
    let with_gpus = |pool: &&Pool| launcher.uses_gpus(pool.name);
    let all: u32 = pools.iter().filter(with_gpus).map(Pool::gpus).fold(0, u32::saturating_add);
    let share = apart.colocate.unwrap_or(all <= gpu.per_node);
    let mut cursor = Cursor { node: first, gpu: 0, per_node: gpu.per_node };
    let mut packed = Vec::new();
    for pool in pools {
        if !with_gpus(&pool) {
            let replicas = (0..pool.parallel.replicas).map(|_| ReplicaGpus {
                nodes: vec![first],
                first_gpu: 0,
                gpus_each: 0,
            });
            packed.push((pool.name, replicas.collect()));
            continue;
        }
        if !share {
            cursor.open_node();
        }
        fits(launcher, pool, gpu)?;
        let replicas = (0..pool.parallel.replicas).map(|_| cursor.take(pool.parallel.gpus_per_replica()));
        packed.push((pool.name, replicas.collect()));
    }
    cursor.open_node();
    // A launcher without GPUs still has a node to run on.
    let nodes = cursor.node.max(first + u32::from(!pools.is_empty() || first == 0));
    Ok(Packing {
        nodes,
        client: 0,
        head: if apart.head { u32::from(apart.client) } else { first.min(nodes - 1) },
        first_dedicated: reserved,
        pools: packed,
        server_nodes: nodes - u32::from(apart.client),
    })
}

/// Whether a replica of a pool fits at all.
fn fits(launcher: &Launcher, pool: &Pool, gpu: &Gpu) -> Result<(), Misfit> {
    let (need, per_node) = (pool.parallel.gpus_per_replica(), gpu.per_node);
    let sizes = format!(
        "tp × pp × dp = {} × {} × {} = {need} GPUs",
        pool.parallel.tp, pool.parallel.pp, pool.parallel.dp
    );
    let misfit = |problem: String, next: String| {
        let key = match pool.name {
            PoolName::Aggregated => "tp".to_owned(),
            name => format!("{}.tp", name.as_str()),
        };
        Err(Misfit { key, problem, next })
    };
    if need <= per_node {
        return Ok(());
    }
    let of = match pool.name {
        PoolName::Aggregated => "a replica".to_owned(),
        name => format!("a {} replica", name.as_str()),
    };
    if !launcher.spans_nodes {
        return misfit(
            format!(
                "{of} needs {sizes}, a node with {} has {per_node}, and launcher {:?} cannot span nodes",
                gpu.kind, launcher.name
            ),
            "lower tp, pp or dp, or choose a launcher that spans nodes".into(),
        );
    }
    if need % per_node != 0 {
        let (below, above) = (need / per_node * per_node, need.div_ceil(per_node) * per_node);
        return misfit(
            format!(
                "{of} needs {sizes}, and {need} / {per_node} leaves {}: more than a node must be whole nodes of {per_node}",
                need % per_node
            ),
            format!("make tp × pp × dp {below} or {above}"),
        );
    }
    Ok(())
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
        if need > self.per_node {
            self.open_node();
            let nodes = need / self.per_node.max(1);
            let replica = ReplicaGpus {
                nodes: (self.node..self.node + nodes).collect(),
                first_gpu: 0,
                gpus_each: self.per_node,
            };
            self.node += nodes;
            return replica;
        }
        if self.gpu + need > self.per_node {
            self.open_node();
        }
        let replica = ReplicaGpus { nodes: vec![self.node], first_gpu: self.gpu, gpus_each: need };
        self.gpu += need;
        replica
    }
}
