//! The types of a recipe file, section by section; every key is optional.
//!
//! A recipe describes what to measure, not where. Each layer is parsed alone into these types, then merged by [`layers`].

pub mod alternatives;
pub mod connection;
pub mod endpoint;
pub mod export_format;
mod extra_body;
pub mod find;
pub mod layers;
pub mod open_loop;
pub mod origin;
pub mod prompts;
pub mod ramp;
pub mod secret;
pub mod units;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use connection::{ConnectionSection, HttpVersion, MaxTokensField, Proxy, Urls};
pub use endpoint::Endpoint;
pub use open_loop::{ArrivalSection, AtEndWord, WhenFull};
pub use origin::{Origin, Origins};
pub use prompts::{MixSection, PromptSection, RangeSection};
pub use ramp::StageSection;
use units::{OneOrMany, Rates, Span};

/// The only version of the recipe format.
pub const SCHEMA: u32 = 1;

/// A recipe, or one layer of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Version of the format: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<u32>,
    /// Short name: lower-case letters, digits, `.`, `_`, `-`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The question the recipe answers, in one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Other names of the recipe.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Where the configuration was published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What a reader should know: conflicts between sources, what was left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// The model.
    pub model: ModelSection,
    /// The servers.
    pub deploy: DeploySection,
    /// The load.
    pub load: LoadSection,
    /// Axes to sweep.
    pub sweep: SweepSection,
    /// Environment variables that set keys of this recipe: name → dotted key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub knobs: BTreeMap<String, String>,
    /// Slurm options of the job.
    pub slurm: SlurmSection,
    /// The container image.
    pub container: ContainerSection,
    /// Values by GPU type. A recipe with such sections runs only on these types.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub gpu: BTreeMap<String, GpuSection>,
    /// Values by scale: total GPUs → section that `--scale` lays over the GPU section. The recipe's own scale needs no
    /// section.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub scale: BTreeMap<String, GpuSection>,
    /// Figures to reproduce.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
}

/// `[model]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSection {
    /// Name as its publisher writes it, e.g. `openai/gpt-oss-120b`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Model name in the API. Default: `name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served_name: Option<String>,
    /// Parameter count, e.g. `120b`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Weight precision, e.g. `mxfp4`, `fp8`, `bf16`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Size of the weights, GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights_gib: Option<f64>,
    /// Folder with the weights; usually the site sets it. Default: `name`, which the engine resolves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// `[deploy]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeploySection {
    /// Launcher that starts the engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launcher: Option<String>,
    /// Tensor-parallel size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tp: Option<u32>,
    /// Pipeline-parallel size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pp: Option<u32>,
    /// Data-parallel size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dp: Option<u32>,
    /// Expert-parallel size; uses the same GPUs as tp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ep: Option<u32>,
    /// Data parallelism inside the attention layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_dp: Option<bool>,
    /// Independent copies of the engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Disaggregated serving: the workers that prefill. Requires `decode`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefill: Option<PoolSection>,
    /// Disaggregated serving: the workers that decode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode: Option<PoolSection>,
    /// Settings that the launcher declares (`tokmark list --launchers`), e.g. `router_mode`.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub settings: toml::Table,
    /// Words before the command of every process with GPUs, e.g. `["numactl", "-m", "0,1"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Vec<String>>,
    /// Send the load from a separate node without servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_node: Option<bool>,
    /// Run frontends and discovery on a separate node without GPU workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_node: Option<bool>,
    /// Whether prefill and decode may share a node. Default: only when all of them fit on one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub colocate: Option<bool>,
    /// Port of the endpoint. Default: a free one near the launcher's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// URL of a running endpoint (launcher `attach`), or of several equal ones that share the load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Urls>,
    /// How the load reaches the endpoint.
    #[serde(skip_serializing_if = "ConnectionSection::is_empty")]
    pub connection: ConnectionSection,
    /// Longest wait until the servers generate a first token. With the launcher `attach`, 0 means not to wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startup_timeout: Option<Span>,
    /// Each progress line in the servers' logs extends the startup deadline to at least this long from then. Default: 10
    /// min.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_timeout: Option<Span>,
    /// Time between TERM and KILL when the servers are stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_grace: Option<Span>,
    /// Engine options, by the engine's names.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub engine: toml::Table,
    /// Environment of the servers. `env:NAME` and `file:PATH` are read on the servers' nodes and never stored.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// `[deploy.prefill]` and `[deploy.decode]`. Missing sizes default to those of `[deploy]`, `replicas` to 1.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolSection {
    /// Tensor-parallel size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tp: Option<u32>,
    /// Pipeline-parallel size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pp: Option<u32>,
    /// Data-parallel size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dp: Option<u32>,
    /// Expert-parallel size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ep: Option<u32>,
    /// Data parallelism inside the attention layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_dp: Option<bool>,
    /// Independent copies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Engine options laid over `[deploy.engine]`.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub engine: toml::Table,
    /// Environment laid over `[deploy.env]`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// `[load]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoadSection {
    /// Prompt length, tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isl: Option<OneOrMany>,
    /// Standard deviation of the prompt length, tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isl_stddev: Option<u32>,
    /// Output length, tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub osl: Option<OneOrMany>,
    /// Standard deviation of the output length, tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub osl_stddev: Option<u32>,
    /// Lengths drawn uniformly around `isl` and `osl`; set exactly one key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length_range: Option<RangeSection>,
    /// Several shapes in one load; instead of `isl` and `osl`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mix: Option<Vec<MixSection>>,
    /// Where prompts come from and what they share.
    #[serde(skip_serializing_if = "PromptSection::is_empty")]
    pub prompts: PromptSection,
    /// Requests in flight (closed loop).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<OneOrMany>,
    /// Arrivals per second (open loop); instead of `concurrency`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rates>,
    /// Stages of a ramp, in order; instead of `concurrency` and `rate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stages: Option<Vec<StageSection>>,
    /// Ramp: requests in flight at its start. Default: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_concurrency: Option<u32>,
    /// Ramp: arrivals per second at its start. Default: 0.
    #[serde(deserialize_with = "ramp::rate_or_none", skip_serializing_if = "Option::is_none")]
    pub start_rate: Option<f64>,
    /// Open loop: how arrivals are spaced; set exactly one table. Default: `poisson`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrival: Option<ArrivalSection>,
    /// Open loop: limit of requests in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// Open loop, at `max_concurrency`: queue the arrival or drop it. Default: `queue`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when_full: Option<WhenFull>,
    /// Stop after this many requests; in an open loop after this many arrivals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Stop after this many requests per unit of concurrency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_concurrency: Option<u32>,
    /// Send for this long. Default in an open loop: 60 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<Span>,
    /// What happens to requests in flight at the end: `drain` (default) or `cut`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_end: Option<AtEndWord>,
    /// Cut requests still in flight after draining this long. Default: drain until each request's time limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<Span>,
    /// Requests before the measured window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_requests: Option<u64>,
    /// Warm-up requests per unit of concurrency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_per_concurrency: Option<u32>,
    /// Length of the warm-up; instead of a number of requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_duration: Option<Span>,
    /// Whether answers are streamed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streaming: Option<bool>,
    /// `chat` or `completions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// Request exactly the output length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore_eos: Option<bool>,
    /// Seed of prompts and lengths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Total time limit of one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_timeout: Option<Span>,
    /// Longest silence within an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall_timeout: Option<Span>,
    /// Longest wait for a connection, name resolution and TLS included. Default: 30 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<Span>,
    /// Longest wait from sending to the first content chunk. Default: only `request_timeout` limits it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_timeout: Option<Span>,
    /// Field that bounds the output length: `auto` (default), `max_tokens` or `max_completion_tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens_field: Option<MaxTokensField>,
    /// Ask for `usage` in every chunk of a stream, not only in the last (`stream_options.continuous_usage_stats`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continuous_usage_stats: Option<bool>,
    /// Objectives for goodput.
    #[serde(skip_serializing_if = "SloSection::is_empty")]
    pub slo: SloSection,
    /// Formats of other tools to write results in, besides AIPerf's, which is always written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exports: Option<Vec<export_format::ExportFormat>>,
    /// Fields merged into every request body: a table, or JSON text if a field must be `null`.
    #[schemars(schema_with = "extra_body::schema")]
    #[serde(deserialize_with = "extra_body::read", skip_serializing_if = "serde_json::Map::is_empty")]
    pub extra_body: serde_json::Map<String, serde_json::Value>,
}

/// `[load.slo]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SloSection {
    /// Upper bound of TTFT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft: Option<Span>,
    /// Upper bound of the per-request ITL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub itl: Option<Span>,
    /// Upper bound of the E2E latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub e2e: Option<Span>,
}

impl SloSection {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `[sweep]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SweepSection {
    /// Axes that need a new deployment: key below `deploy` → list of values.
    #[schemars(with = "BTreeMap<String, Vec<serde_json::Value>>")]
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub server: toml::Table,
    /// Axes that share one deployment: key below `load` → list of values.
    #[schemars(with = "BTreeMap<String, Vec<serde_json::Value>>")]
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub load: toml::Table,
}

/// `[slurm]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SlurmSection {
    /// Time limit of the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Span>,
    /// Allocate whole nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<bool>,
    /// Memory per node in Slurm's notation (`0` = all).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem: Option<String>,
    /// More `#SBATCH` directives, without the `#SBATCH`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directives: Option<Vec<String>>,
}

/// `[container]` and `[gpu.TYPE.container]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ContainerSection {
    /// Image in the container runtime's notation; ignored at a site without a runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// `[gpu.TYPE]` and `[scale.N]`: laid over the recipe when that GPU type or scale is chosen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GpuSection {
    /// Laid over `[model]`.
    pub model: ModelSection,
    /// Laid over `[deploy]`.
    pub deploy: DeploySection,
    /// Laid over `[load]`.
    pub load: LoadSection,
    /// Laid over `[sweep]`.
    pub sweep: SweepSection,
    /// Laid over `[slurm]`.
    pub slurm: SlurmSection,
    /// Laid over `[container]`.
    pub container: ContainerSection,
}

/// `[[published]]`: a figure to reproduce.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// GPU type it was measured on.
    pub gpu: String,
    /// Folder name of its load point. Default: every point that meets the conditions below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<String>,
    /// Path in `summary.json`, e.g. `throughput.output_tokens_per_s_per_gpu`.
    pub metric: String,
    /// The published value, in the unit of the metric.
    pub value: f64,
    /// Allowed deviation of a measurement, e.g. `10%`. Default: 10%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<String>,
    /// Prompt length of the published run, tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isl: Option<u32>,
    /// Output length of the published run, tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub osl: Option<u32>,
    /// Concurrency of the published run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Whether answers were streamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streaming: Option<bool>,
    /// GPUs of the published run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
    /// Software it was measured with, e.g. `Dynamo 1.3, vLLM 0.23`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<String>,
    /// Measured without a server; shown next to a measurement, never compared with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub offline: bool,
    /// Further notes for readers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Where it was published.
    pub source: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipe_of_the_design_page_parses() {
        let text = r#"
schema = 1
name = "gpt-oss-120b-dynamo-trtllm"
summary = "Max throughput of gpt-oss-120b"
aliases = ["inference_gpt-oss-dynamo"]
source = "where"
[model]
name = "openai/gpt-oss-120b"
size = "120b"
precision = "mxfp4"
weights_gib = 61
[deploy]
launcher = "dynamo-trtllm"
tp = 4
ep = 4
attention_dp = true
[deploy.engine]
max_batch_size = 800
kv_cache_free_gpu_mem_fraction = 0.8
[load]
isl = 128
osl = 1000
concurrency = 2048
requests_per_concurrency = 8
streaming = true
[knobs]
STREAMING = "load.streaming"
[slurm]
time = "01:00:00"
exclusive = true
[gpu.gb200.container]
image = "x"
[[published]]
gpu = "gb200"
metric = "throughput.output_tokens_per_s_per_gpu"
value = 0
tolerance = "10%"
source = "s"
"#;
        let recipe: Recipe = toml::from_str(text).unwrap();
        assert_eq!(recipe.load.concurrency, Some(OneOrMany(vec![2048])));
        assert_eq!(recipe.slurm.time, Some(Span(3600.0)));
        let again: Recipe = toml::from_str(&toml::to_string(&recipe).unwrap()).unwrap();
        assert_eq!(again, recipe);
    }
}
