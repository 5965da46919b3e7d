//! Pools: groups of like replicas. One for an aggregated deployment, prefill and decode for a disaggregated one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Parallel;
use crate::launcher::PoolName;

/// Replicas of one kind, with what sets them apart from the other pools.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    pub name: PoolName,
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
}
