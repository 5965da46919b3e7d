//! What templates may use of a deployment before anything runs: sizes, settings, how many nodes.

use serde_json::{Map, Value, json};

use super::{Deployment, Gpu, Parallel, Pool};
use crate::template::Context;

impl Deployment {
    /// A context with `deploy`, `pools`, `settings`, `gpu`, `node_count`, `disaggregated`. With a pool, `deploy` has its
    /// sizes, and `pool` and `engine` are there.
    pub fn context(&self, gpu: &Gpu, pool: Option<&Pool>) -> Context {
        let mut context = Context::new();
        let mut deploy = sizes(pool.map_or(&self.parallel, |pool| &pool.parallel));
        deploy.insert("nodes".into(), json!(self.server_nodes));
        deploy.insert("url".into(), json!(self.url));
        context.insert("deploy", &deploy);
        context.insert("settings", &self.settings);
        context.insert("gpu", gpu);
        context.insert("node_count", &self.server_nodes);
        context.insert("disaggregated", &self.is_disaggregated());
        let pools = self.pools.iter().map(|pool| (pool.name.as_str().to_owned(), pool.facts(gpu).into()));
        context.insert("pools", &pools.collect::<Map<String, Value>>());
        if let Some(pool) = pool {
            context.insert("pool", &pool.facts(gpu));
            context.insert("engine", &as_names(&pool.engine));
        }
        context
    }
}

impl Pool {
    /// The sizes, and what follows from them.
    fn facts(&self, gpu: &Gpu) -> Map<String, Value> {
        let mut facts = sizes(&self.parallel);
        facts.insert("name".into(), json!(self.name.as_str()));
        facts.insert("gpus".into(), json!(self.gpus()));
        let nodes = self.parallel.gpus_per_replica().div_ceil(gpu.per_node.max(1)).max(1);
        facts.insert("nodes_per_replica".into(), json!(nodes));
        facts.insert("ranks".into(), json!(self.parallel.dp.saturating_mul(self.parallel.replicas)));
        facts
    }
}

/// Engine options under names that an expression can use: as on the command line, `dp-size` means `dp_size`.
pub fn as_names(engine: &Map<String, Value>) -> Map<String, Value> {
    engine.iter().map(|(option, value)| (option.replace('-', "_"), value.clone())).collect()
}

fn sizes(parallel: &Parallel) -> Map<String, Value> {
    let map = serde_json::to_value(parallel).ok().and_then(|value| value.as_object().cloned());
    let mut map = map.unwrap_or_default();
    map.insert("gpus_per_replica".into(), json!(parallel.gpus_per_replica()));
    map
}
