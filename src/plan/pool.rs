//! Pools: groups of like replicas. One for an aggregated deployment, prefill and decode for a disaggregated one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Parallel;
use crate::launcher::PoolName;

/// Replicas of one kind, with what sets them apart from the other pools.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// Which.
    pub name: PoolName,
    /// Sizes.
    pub parallel: Parallel,
    /// Engine options, those of the whole deployment included.
    pub engine: Map<String, Value>,
    /// Environment, that of the whole deployment included.
    pub env: BTreeMap<String, String>,
}

impl Pool {
    /// GPUs of all its replicas.
    pub fn gpus(&self) -> u32 {
        self.parallel.gpus_per_replica().saturating_mul(self.parallel.replicas)
    }

    /// What templates see of it: the sizes, and what follows from them.
    pub fn facts(&self, gpus_per_node: u32) -> Map<String, Value> {
        let mut facts = sizes(&self.parallel);
        facts.insert("name".into(), json!(self.name.as_str()));
        facts.insert("gpus".into(), json!(self.gpus()));
        let nodes = self.parallel.gpus_per_replica().div_ceil(gpus_per_node.max(1)).max(1);
        facts.insert("nodes_per_replica".into(), json!(nodes));
        facts.insert("ranks".into(), json!(self.parallel.dp.saturating_mul(self.parallel.replicas)));
        facts
    }
}

/// Sizes as templates see them.
pub fn sizes(parallel: &Parallel) -> Map<String, Value> {
    let mut map = match serde_json::to_value(parallel) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    map.insert("gpus_per_replica".into(), json!(parallel.gpus_per_replica()));
    map
}
