//! What templates may use of a deployment before anything runs: sizes, settings, how many nodes.

use serde_json::{Map, Value, json};

use super::pool::{Pool, sizes};
use super::{Gpu, Parallel};
use crate::launcher::PoolName;
use crate::template::Context;

/// Pure facts of a deployment.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// Sizes of `[deploy]`.
    pub parallel: &'a Parallel,
    /// Its pools.
    pub pools: &'a [Pool],
    /// Settings of the launcher, every one with a value.
    pub settings: &'a Map<String, Value>,
    /// The GPUs.
    pub gpu: &'a Gpu,
    /// Nodes with servers on them.
    pub nodes: u32,
    /// URL of an endpoint that already runs.
    pub url: Option<&'a str>,
}

impl Facts<'_> {
    /// A context with `deploy`, `pools`, `settings`, `gpu`, `node_count`, `disaggregated`. With a pool, `deploy` has its
    /// sizes, and `pool` and `engine` are there.
    pub fn context(&self, pool: Option<&Pool>) -> Context {
        let mut context = Context::new();
        let mut deploy = sizes(pool.map_or(self.parallel, |pool| &pool.parallel));
        deploy.insert("nodes".into(), json!(self.nodes));
        deploy.insert("url".into(), json!(self.url));
        context.insert("deploy", &deploy);
        context.insert("settings", self.settings);
        context.insert("gpu", self.gpu);
        context.insert("node_count", &self.nodes);
        context.insert("disaggregated", &self.pools.iter().any(|pool| pool.name != PoolName::Aggregated));
        let all: Map<String, Value> = self
            .pools
            .iter()
            .map(|pool| (pool.name.as_str().to_owned(), Value::Object(pool.facts(self.gpu.per_node))))
            .collect();
        context.insert("pools", &all);
        if let Some(pool) = pool {
            context.insert("pool", &pool.facts(self.gpu.per_node));
            context.insert("engine", &pool.engine);
        }
        context
    }
}
