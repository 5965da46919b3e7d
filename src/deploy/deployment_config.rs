//! `deployment_config.json`, in the form of Dynamo's `benchmarks/llm/perf.sh`, which its plotting tools read.

use serde_json::{Value, json};

use crate::launcher::PoolName;
use crate::plan::{Deployment, LoadPoint, Plan};

/// The file's content for one load point.
pub fn deployment_config(plan: &Plan, deployment: &Deployment, point: &LoadPoint) -> Value {
    let parallel = deployment.parallel;
    let sizes = |name: PoolName| deployment.pool(name).map(|pool| pool.parallel);
    let tp = |name| sizes(name).map_or(0, |sizes| sizes.tp);
    let dp = |name| sizes(name).map_or(0, |sizes| sizes.dp * sizes.replicas);
    let apart = deployment.is_disaggregated();
    json!({
        "kind": plan.launcher().name,
        "model": plan.model.name,
        "input_sequence_length": point.isl.mean,
        "output_sequence_length": point.osl.mean,
        "tensor_parallelism": if apart { 0 } else { parallel.tp },
        "data_parallelism": if apart { 0 } else { parallel.dp * parallel.replicas },
        "prefill_tensor_parallelism": tp(PoolName::Prefill),
        "prefill_data_parallelism": dp(PoolName::Prefill),
        "decode_tensor_parallelism": tp(PoolName::Decode),
        "decode_data_parallelism": dp(PoolName::Decode),
        "mode": if apart { "disaggregated" } else { "aggregated" },
        "pipeline_parallelism": parallel.pp,
        "expert_parallelism": parallel.ep,
        "attention_dp": parallel.attention_dp,
        "gpus": deployment.gpus,
        "gpu_type": plan.gpu.kind,
        "simulated": plan.simulated,
        "concurrency": point.concurrency(),
        "request_rate": point.request_rate(),
        "streaming": point.streaming,
        "engine": deployment.engine,
        "pools": deployment.pools,
    })
}
