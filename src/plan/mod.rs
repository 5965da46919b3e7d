//! What will happen, resolved and frozen. Pure: same input, same bytes.
//!
//! A [`Plan`] travels inside the job script and is all that the inside of an allocation needs. Hosts and ports are not
//! in it: they are known only where the job runs.

pub mod choices;
mod connection;
pub mod container;
pub mod extension;
pub mod facts;
mod input;
mod job;
pub mod load_point;
mod load_time;
mod metrics_page;
mod point_id;
pub mod port_map;
pub mod process;
pub mod prompts;
pub mod ramp;
pub mod search;
pub mod server_url;
mod speculation;
mod telemetry;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::document::InputError;
use crate::launcher::PoolName;
use crate::recipe::layers::split_path;
pub use crate::recipe::{ExportFormat, Price};
use crate::recipe::{Origin, Origins, Recipe};
pub use connection::Connection;
pub use container::Container;
pub use extension::Extension;
pub use input::PlanInput;
pub use job::Job;
pub use load_point::{
    Arrival, AtEnd, Endpoint, HttpVersion, Length, Level, Limit, LoadPoint, MaxTokensField, Proxy, Slo,
    Spacing, Spread, Stop, WeightedShape, WhenFull,
};
pub use metrics_page::MetricsPage;
pub use point_id::{point_id, without_repeat};
pub use process::{PortNeed, Process};
pub use prompts::{Conversation, Dataset, Prefix, PromptKind, PromptSpec, Style, TokenizerSpec};
pub use ramp::{Leg, Ramp, Stage};
pub use speculation::Speculation;
pub use telemetry::Telemetry;

/// Version of the plan format.
pub const SCHEMA: u32 = 2;

/// Everything one job does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub schema: u32,
    /// What it was made from, so that a job whose environment changes a knob can plan again.
    pub input: PlanInput,
    /// Name of the recipe.
    pub name: String,
    pub summary: String,
    /// The recipe with all layers merged; `resolved` in JSON, as in `show --json`.
    #[serde(rename = "resolved")]
    pub recipe: Recipe,
    /// Where each of its values comes from, by dotted key.
    pub origins: Origins,
    /// Results are simulated.
    pub simulated: bool,
    pub gpu: Gpu,
    pub model: Model,
    /// Name of the experiment without the job id: `<model>_<isl>_<osl>_<max_batch_size>_<concurrency>`.
    pub experiment: String,
    pub job: Job,
    /// The container, when the site has a runtime for one.
    pub container: Option<Container>,
    /// Interface of the nodes whose IPv4 address processes are reached at; without it their names are used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// What is recorded beside the load.
    #[serde(default, skip_serializing_if = "Telemetry::is_default")]
    pub telemetry: Telemetry,
    /// A search on every load point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<search::Search>,
    /// Server configurations, one after the other.
    pub deployments: Vec<Deployment>,
}

impl Plan {
    /// Whether another plan measures the same on the same: jobs of both are repeats of one another.
    pub fn measures_like(&self, other: &Self) -> bool {
        let of = |plan: &Self| (plan.name.clone(), plan.gpu.kind.clone(), plan.model.clone(), plan.simulated);
        of(self) == of(other) && self.deployments == other.deployments && self.search == other.search
    }
}

/// GPUs of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    /// Type, e.g. `h100`; `none` when nobody named one and the engine needs none.
    pub kind: String,
    /// GPUs of a node.
    pub per_node: u32,
    /// Price of a GPU-hour, when the site file has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
}

/// The model of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Name as its publisher writes it.
    pub name: String,
    /// Name the server is asked for.
    pub served_name: String,
    /// Folder of the weights, or the name when the engine finds them itself.
    pub path: String,
    /// Parameter count as people write it.
    pub size: Option<String>,
    /// Weight precision.
    pub precision: Option<String>,
    pub weights_gib: Option<f64>,
}

impl Model {
    /// Whether its weights are given by a folder, not by a name that the engine looks up.
    pub fn is_path(&self) -> bool {
        is_path(&self.path)
    }
}

/// Whether a model is given by a folder, not by a name.
fn is_path(model: &str) -> bool {
    ["/", "./", "../", "~"].iter().any(|start| model.starts_with(start))
}

/// One server configuration and the load points run on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// Readable name, unique in the plan; empty when there is only one.
    pub id: String,
    /// Its value on each server axis of the sweep.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub axes: Vec<AxisValue>,
    pub parallel: Parallel,
    /// GPUs it uses: tp × pp × dp × replicas, over all pools; 0 when it runs elsewhere and nobody says.
    pub gpus: u32,
    pub engine: serde_json::Map<String, serde_json::Value>,
    /// Speculative decoding, when it is known to be on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speculation: Option<Speculation>,
    /// Environment of the servers: references (`env:NAME`, `file:PATH`) or literal values.
    pub env: BTreeMap<String, String>,
    /// Its replicas: one pool, or prefill and decode.
    pub pools: Vec<Pool>,
    /// Choices of the launcher, every one with a value.
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// Put before the command of every process with GPUs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefix: Vec<String>,
    /// Fixed port of the endpoint.
    pub port: Option<u16>,
    /// URL of an endpoint that already runs.
    pub url: Option<String>,
    /// More URLs that share the load with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_urls: Vec<String>,
    /// Metrics pages of servers that run elsewhere; empty for the endpoint's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics_urls: Vec<String>,
    /// How the load reaches the endpoint.
    #[serde(default, skip_serializing_if = "Connection::is_plain")]
    pub connection: Connection,
    /// Seconds until the first token must have come.
    pub startup_timeout_s: f64,
    /// Seconds from the last sign of progress in a log that the servers get in any case.
    pub progress_timeout_s: f64,
    /// Seconds between TERM and KILL.
    pub stop_grace_s: f64,
    pub nodes: u32,
    /// Those of them with servers on them.
    pub server_nodes: u32,
    /// Its processes, in start order.
    pub processes: Vec<Process>,
    pub points: Vec<LoadPoint>,
    /// Places of `points` in the order in which they are run; empty: in their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<usize>,
}

/// A value of a deployment on an axis of `[sweep.server]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AxisValue {
    /// Dotted key below `deploy`.
    pub key: String,
    pub value: serde_json::Value,
}

impl AxisValue {
    /// The axis in tables and names: `max_num_seqs`, `decode-max_num_seqs`.
    pub fn name(&self) -> String {
        axis_name(&self.key)
    }

    /// The value as people write it.
    pub fn text(&self) -> String {
        self.value.as_str().map_or_else(|| self.value.to_string(), str::to_owned)
    }
}

/// The last part of an axis' key. The same key of prefill and of decode must not look the same.
pub fn axis_name(key: &str) -> String {
    let last = key.rsplit('.').next().unwrap_or(key).trim_matches('"');
    let pool = ["prefill", "decode"].into_iter().find(|pool| key.starts_with(&format!("{pool}.")));
    pool.map_or_else(|| last.to_owned(), |pool| format!("{pool}-{last}"))
}

/// Parallel sizes of a deployment: tensor, pipeline, data, expert (on the GPUs of tensor).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parallel {
    pub tp: u32,
    pub pp: u32,
    pub dp: u32,
    pub ep: u32,
    /// Data parallelism inside attention.
    pub attention_dp: bool,
    /// Copies of the engine.
    pub replicas: u32,
}

impl Parallel {
    /// GPUs of one replica: tp × pp × dp.
    pub fn gpus_per_replica(&self) -> u32 {
        self.tp.saturating_mul(self.pp).saturating_mul(self.dp)
    }
}

/// Replicas of one kind: all of an aggregated deployment, or those that prefill or decode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    pub name: PoolName,
    pub parallel: Parallel,
    /// Engine options, those of the whole deployment included.
    pub engine: serde_json::Map<String, serde_json::Value>,
    /// Environment, that of the whole deployment included.
    pub env: BTreeMap<String, String>,
}

impl Pool {
    /// GPUs of all its replicas.
    pub fn gpus(&self) -> u32 {
        self.parallel.gpus_per_replica().saturating_mul(self.parallel.replicas)
    }
}

impl Deployment {
    /// The points in the order in which they are run.
    pub fn in_order(&self) -> Vec<&LoadPoint> {
        if self.order.is_empty() {
            return self.points.iter().collect();
        }
        self.order.iter().filter_map(|place| self.points.get(*place)).collect()
    }

    pub fn pool(&self, name: PoolName) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.name == name)
    }

    /// `name` with the deployment's own before it, when there are several.
    pub fn named(&self, name: &str) -> String {
        if self.id.is_empty() { name.to_owned() } else { format!("{}_{name}", self.id) }
    }

    /// Whether the load waits for a first token: not for an endpoint that runs elsewhere with a startup timeout of 0.
    pub fn is_awaited(&self) -> bool {
        self.startup_timeout_s > 0.0 || !self.processes.is_empty()
    }

    /// GPUs that one node must have.
    pub fn gpus_on_a_node(&self) -> u32 {
        let last = self.processes.iter().filter_map(|process| process.gpus.iter().max()).max();
        last.map_or(0, |last| last + 1)
    }

    /// Whether prefill and decode are apart.
    pub fn is_disaggregated(&self) -> bool {
        self.pools.iter().any(|pool| pool.name != PoolName::Aggregated)
    }
}

impl Plan {
    /// An error about the value of its key, with the place that the value comes from. A flag stands for its key.
    pub fn locate(&self, mut error: InputError) -> InputError {
        let key = error.key.as_deref().unwrap_or_default();
        error.origin = self.place_of(key);
        if matches!(self.origins.get(key), Some(Origin::Flag(_))) {
            error.key = None;
        }
        error
    }

    /// Where the value of a key comes from: its origin, else the recipe file.
    pub fn place_of(&self, key: &str) -> String {
        self.origins.get(key).map_or_else(|| self.input.recipe.file.clone(), ToString::to_string)
    }

    /// Whether another engine runs in place of the recipe's, or only a share of the load is driven.
    pub fn is_rehearsal(&self) -> bool {
        self.input.stand_in.is_some() || self.points().any(|(_, point)| point.scaled.is_some())
    }

    /// Values that options of the command line (but flags of `bench`) and environment variables set, each with its key and
    /// origin.
    pub fn overridden(&self) -> Vec<(String, String, &Origin)> {
        let recipe = serde_json::to_value(&self.recipe).unwrap_or_default();
        let value = |key: &str| {
            let path = split_path(key).ok()?;
            let found = path.iter().try_fold(&recipe, |at, key| at.get(key.as_str()))?;
            Some(found.as_str().map_or_else(|| found.to_string(), str::to_owned))
        };
        let given =
            self.origins.iter().filter(|(_, origin)| origin.is_given() && !matches!(origin, Origin::Flag(_)));
        given.filter_map(|(key, origin)| Some((key.clone(), value(key)?, origin))).collect()
    }

    /// Whether servers read weights from a folder: the model is given by one, a role has GPUs, and some pool does not make its
    /// weights up. Whoever looks at the folder asks this, so that all of them agree.
    pub fn reads_weights(&self) -> bool {
        let mut pools = self.deployments.iter().flat_map(|deployment| &deployment.pools);
        self.model.is_path()
            && self.launcher().roles.iter().any(|role| role.gpus)
            && pools.any(|pool| !self.launcher().options.makes_up_weights(&pool.engine))
    }

    /// Whether wrong weights are a warning and end nothing.
    pub fn forgives_weights(&self) -> bool {
        self.input.choices.no_weights_check
    }

    /// GPUs in all: those of the largest deployment; 0 when nobody knows.
    pub fn scale(&self) -> u32 {
        self.deployments.iter().map(|deployment| deployment.gpus).max().unwrap_or(0)
    }

    /// GPUs that one node must have.
    pub fn gpus_on_a_node(&self) -> u32 {
        self.deployments.iter().map(Deployment::gpus_on_a_node).max().unwrap_or(0)
    }

    /// Load points of all deployments together.
    pub fn points(&self) -> impl Iterator<Item = (&Deployment, &LoadPoint)> {
        self.deployments
            .iter()
            .flat_map(|deployment| deployment.points.iter().map(move |point| (deployment, point)))
    }

    /// Whether the experiment holds more than one load point, each then in a folder of its own.
    pub fn is_sweep(&self) -> bool {
        self.search.is_some() || self.points().nth(1).is_some()
    }

    /// Folder of a point below `benchmark_logs`; `None` when it is the only one.
    pub fn point_folder(&self, deployment: &Deployment, point: &LoadPoint) -> Option<String> {
        self.is_sweep().then(|| deployment.named(&point.id))
    }

    /// Name of a point in reports and events: its folder, or the id of the only one.
    pub fn point_name(&self, deployment: &Deployment, point: &LoadPoint) -> String {
        self.point_folder(deployment, point).unwrap_or_else(|| point.id.clone())
    }
}
