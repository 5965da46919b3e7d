//! The types of a recipe file, section by section; every key is optional.
//!
//! A recipe describes what to measure, not where. Each layer is parsed alone into these types, then merged by [`layers`].

pub mod alternatives;
pub mod connection;
pub mod find;
pub mod layers;
pub(crate) mod load;
pub mod objective;
pub mod origin;
pub mod precision;
mod price;
pub mod prompts;
pub mod search;
pub mod secret;
pub mod speculation;
pub mod units;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

pub use connection::{ConnectionSection, HttpVersion, MaxTokensField, Proxy};
pub use load::{
    ArrivalSection, AtEndWord, Endpoint, ExportFormat, LoadSection, Shape, SloSection, StageSection, WhenFull,
};
pub use origin::{Origin, Origins};
pub use price::Price;
use speculation::SpeculationSection;
use units::{OneOrMany, Span};

/// The only version of the recipe format.
pub const SCHEMA: u32 = 1;

/// A recipe, or one layer of it.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Version of the format: 1.
    pub schema: Option<u32>,
    /// Short name: lower-case letters, digits, `.`, `_`, `-`.
    pub name: Option<String>,
    /// The question the recipe answers, in one line.
    pub summary: Option<String>,
    /// Other names of the recipe.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Where the configuration was published.
    pub source: Option<String>,
    /// What a reader should know: conflicts between sources, what was left out.
    pub notes: Option<String>,
    /// The model.
    pub model: ModelSection,
    /// The servers.
    pub deploy: DeploySection,
    /// The load.
    pub load: LoadSection,
    /// Axes to sweep.
    pub sweep: SweepSection,
    /// A load to look for.
    #[serde(skip_serializing_if = "is_default")]
    pub search: search::SearchSection,
    /// Environment variables that set keys of this recipe: name → dotted key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub knobs: BTreeMap<String, String>,
    /// Slurm options of the job.
    pub slurm: SlurmSection,
    /// What is recorded of servers and GPUs during the run.
    #[serde(skip_serializing_if = "is_default")]
    pub telemetry: TelemetrySection,
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
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSection {
    /// Name as its publisher writes it, e.g. `openai/gpt-oss-120b`.
    pub name: Option<String>,
    /// Model name in the API. Default: `name`.
    pub served_name: Option<String>,
    /// Parameter count, e.g. `120b`.
    pub size: Option<String>,
    /// Weight precision, e.g. `mxfp4`, `fp8`, `bf16`.
    pub precision: Option<String>,
    /// Size of the weights, GiB.
    pub weights_gib: Option<f64>,
    /// Folder with the weights; usually the site sets it. Default: `name`, which the engine resolves.
    pub path: Option<String>,
}

/// `[deploy]`
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeploySection {
    /// Launcher that starts the engine.
    pub launcher: Option<String>,
    /// Tensor-parallel size.
    pub tp: Option<u32>,
    /// Pipeline-parallel size.
    pub pp: Option<u32>,
    /// Data-parallel size.
    pub dp: Option<u32>,
    /// Expert-parallel size; uses the same GPUs as tp.
    pub ep: Option<u32>,
    /// Data parallelism inside the attention layers.
    pub attention_dp: Option<bool>,
    /// Independent copies of the engine.
    pub replicas: Option<u32>,
    /// Disaggregated serving: the workers that prefill. Requires `decode`.
    pub prefill: Option<PoolSection>,
    /// Disaggregated serving: the workers that decode.
    pub decode: Option<PoolSection>,
    /// Settings that the launcher declares (`tokmark list --launchers`), e.g. `router_mode`.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub settings: toml::Table,
    /// Words before the command of every process with GPUs, e.g. `["numactl", "-m", "0,1"]`.
    pub prefix: Option<Vec<String>>,
    /// Send the load from a separate node without servers.
    pub client_node: Option<bool>,
    /// Run frontends and discovery on a separate node without GPU workers.
    pub head_node: Option<bool>,
    /// Whether prefill and decode may share a node. Default: only when all of them fit on one.
    pub colocate: Option<bool>,
    /// Port of the endpoint. Default: a free one near the launcher's.
    pub port: Option<u16>,
    /// URL of a running endpoint (launcher `attach`), or of several equal ones that share the load.
    pub url: Option<OneOrMany<String>>,
    /// Metrics pages (Prometheus text) of the servers behind it, one or a list. Default: `/metrics` at each URL.
    pub metrics_url: Option<OneOrMany<String>>,
    /// How the load reaches the endpoint.
    #[serde(skip_serializing_if = "is_default")]
    pub connection: ConnectionSection,
    /// Longest wait until the servers generate a first token. With the launcher `attach`, 0 means not to wait.
    pub startup_timeout: Option<Span>,
    /// Each progress line in the servers' logs extends the startup deadline to at least this long from then. Default: 10
    /// min.
    pub progress_timeout: Option<Span>,
    /// Time between TERM and KILL when the servers are stopped.
    pub stop_grace: Option<Span>,
    /// Speculative decoding.
    pub speculation: Option<SpeculationSection>,
    /// Engine options, by the engine's names.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub engine: toml::Table,
    /// Environment of the servers. `env:NAME` and `file:PATH` are read on the servers' nodes and never stored.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// `[deploy.prefill]` and `[deploy.decode]`. Missing sizes default to those of `[deploy]`, `replicas` to 1.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolSection {
    /// Tensor-parallel size.
    pub tp: Option<u32>,
    /// Pipeline-parallel size.
    pub pp: Option<u32>,
    /// Data-parallel size.
    pub dp: Option<u32>,
    /// Expert-parallel size.
    pub ep: Option<u32>,
    /// Data parallelism inside the attention layers.
    pub attention_dp: Option<bool>,
    /// Independent copies.
    pub replicas: Option<u32>,
    /// Engine options laid over `[deploy.engine]`.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub engine: toml::Table,
    /// Environment laid over `[deploy.env]`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// Whether a section has no value of its own, so that it is not written.
fn is_default<T: Default + PartialEq>(section: &T) -> bool {
    *section == T::default()
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
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SlurmSection {
    /// Time limit of the job.
    pub time: Option<Span>,
    /// Allocate whole nodes.
    pub exclusive: Option<bool>,
    /// Memory per node in Slurm's notation (`0` = all).
    pub mem: Option<String>,
    /// More `#SBATCH` directives, without the `#SBATCH`.
    pub directives: Option<Vec<String>>,
}

/// `[telemetry]`
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetrySection {
    /// Record power, utilization, clocks and errors of the deployment's GPUs. Default: true.
    pub gpu: Option<bool>,
    /// Time between two samples. Default: 1 s.
    pub interval: Option<Span>,
    /// The DCGM exporter's metrics page as each node reaches its own. Default: `http://127.0.0.1:9400/metrics`.
    pub dcgm_url: Option<String>,
}

/// `[container]` and `[gpu.TYPE.container]`
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ContainerSection {
    /// Image in the container runtime's notation; ignored at a site without a runtime.
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
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// GPU type it was measured on.
    pub gpu: String,
    /// Folder name of its load point. Default: every point that meets the conditions below.
    pub point: Option<String>,
    /// Path in `summary.json`, e.g. `throughput.output_tokens_per_s_per_gpu`.
    pub metric: String,
    /// The published value, in the unit of the metric.
    pub value: f64,
    /// Allowed deviation of a measurement, e.g. `5%`.
    #[serde(default = "layers::default_tolerance")]
    pub tolerance: String,
    /// Prompt length of the published run, tokens.
    pub isl: Option<u32>,
    /// Output length of the published run, tokens.
    pub osl: Option<u32>,
    /// Concurrency of the published run.
    pub concurrency: Option<u32>,
    /// Whether answers were streamed.
    pub streaming: Option<bool>,
    /// GPUs of the published run.
    pub gpus: Option<u32>,
    /// Software it was measured with, e.g. `Dynamo 1.3, vLLM 0.23`.
    pub software: Option<String>,
    /// Measured without a server; shown next to a measurement, never compared with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub offline: bool,
    /// Further notes for readers.
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
