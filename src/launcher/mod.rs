//! Engines as data: the processes of an engine, where each runs, its argv, ports, files, readiness, fatal log lines.
//!
//! A new engine is a new TOML file and no Rust.

mod arg;
mod check;
pub use check::overlap;
pub mod find;
mod options;
mod ports;
mod ready;
mod role;
mod speculation;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_with::skip_serializing_none;

use crate::recipe::MaxTokensField;
pub use arg::Arg;
pub use find::{all, find, parse, standing_in};
pub use options::{Finding, OptionSpec, size};
pub use ports::PortSpec;
pub use ready::{PagePort, Ready};
pub use role::{LogView, Placement, PoolName, Role, Tasks};
pub use speculation::{SpeculationNames, SpeculationSpec};

/// A launcher file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Launcher {
    /// Version of the format: 1.
    pub schema: u32,
    /// Name, equal to the file's.
    pub name: String,
    /// What it starts, in one line.
    pub summary: String,
    /// It replaces the built-in launcher of this name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replaces_builtin: bool,
    /// Results of this engine are simulated.
    #[serde(default)]
    pub simulated: bool,
    /// One replica may span several nodes.
    #[serde(default)]
    pub spans_nodes: bool,
    /// Limit of replicas, behind one endpoint or each with its own. Default: 1.
    #[serde(default = "one")]
    pub max_replicas: u32,
    /// Settings that a recipe may choose below `deploy.settings`, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, Setting>,
    /// Conditions on sizes and settings.
    #[serde(default, rename = "require", skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<Require>,
    /// How it runs recipes of other engines (`--rehearse`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stand_in: Option<StandIn>,
    /// Engine options: their names, how they become flags, which one is the batch size.
    #[serde(default)]
    pub options: Options,
    /// Speculative decoding, if it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speculation: Option<SpeculationSpec>,
    /// Where the load goes.
    pub endpoint: EndpointSpec,
    /// Environment of every role; a role's own wins. Values are templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Its processes in start order; they are stopped in reverse order.
    #[serde(default, rename = "role")]
    pub roles: Vec<Role>,
    /// Regular expressions for the changing part of progress lines in the logs, e.g. `42%`: each new match extends the deadline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub progress: Vec<String>,
    /// Lists of fatal log lines that several engines share, by name: `gpu`, `server`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fatal_sets: Vec<String>,
    /// Log lines that end the run.
    #[serde(default, rename = "fatal")]
    pub fatal: Vec<Fatal>,
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_true(value: &bool) -> bool {
    *value
}

/// `[settings.NAME]`: a choice that a recipe makes below `deploy.settings` and templates read as `settings.NAME`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// What it decides.
    pub about: String,
    /// Default value; its type is the type of the setting.
    #[schemars(with = "Value")]
    pub default: Value,
    /// Valid values. Empty: any of the type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// `[[require]]`: a condition, and the error when it does not hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Require {
    /// Template expression over `deploy`, `pool`, `engine`, `settings`, `gpu`, `node_count`; evaluated once for each pool.
    pub that: String,
    /// Error text: a template, so that it can show the arithmetic.
    pub message: String,
    /// Key that the error names, below `deploy` or the pool's section.
    pub key: String,
}

/// `[stand_in]`: how a deployment of another engine becomes one of this engine. The number of GPUs stays: those of a replica
/// become its `tp`, and prefill and decode become one replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StandIn {
    /// Options of this engine, each with the names that other engines use for it; whole numbers are copied.
    #[serde(default)]
    pub options: BTreeMap<String, Vec<String>>,
    /// Options that other engines set for one data-parallel rank and this engine for all.
    #[serde(default)]
    pub per_rank: Vec<String>,
    /// The option that limits prompt plus answer; lowered to what the load needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The option that depends on the GPU type.
    pub gpu_option: String,
    /// Its value by GPU type.
    #[serde(default)]
    pub gpus: BTreeMap<String, String>,
    /// Its value for any other GPU type.
    pub other_gpus: String,
    /// Suffix of that value after a slash, by the name of the recipe's model. Other models have none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, String>,
}

/// `[options]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Names of the options its templates use; any other is an error. Empty: every option becomes a flag.
    pub known: Vec<String>,
    /// The table of the engine's options (`launchers/options`) that recipes are checked against.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Options beside those of the table, by name: a kind (`"integer"`) or limits.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub own: BTreeMap<String, OptionSpec>,
    /// Options that the launcher gives to the engine itself, each with the key of the recipe that sets it, or empty text. A recipe may
    /// not set them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set_by: BTreeMap<String, String>,
    /// The option that limits prompt plus answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Required options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needed: Vec<String>,
    /// The option that limits the running batch; part of the experiment's name.
    pub batch_size: Option<String>,
    /// Options, each with the value that makes the engine use dummy weights; then the model's folder is not checked.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub made_up_weights: BTreeMap<String, String>,
    /// How a name is spelled as a flag. Default: `kebab`.
    pub spelling: Spelling,
    /// What `false` becomes. Default: `no_flag`.
    pub when_false: WhenFalse,
}

/// Spelling of flags.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Spelling {
    /// `--max-num-seqs`
    #[default]
    Kebab,
    /// `--max_num_seqs`
    Snake,
}

/// What an option that is `false` becomes on the command line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFalse {
    /// `--no-NAME`, as argparse's BooleanOptionalAction reads it.
    #[default]
    NoFlag,
    /// Nothing: the flag is left out.
    Omit,
}

/// `[endpoint]`
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointSpec {
    /// Role that serves it. Several processes get the requests in turn.
    pub role: Option<String>,
    /// Roles that serve it if `role` has no process, each with a port of the same name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub or_roles: Vec<String>,
    /// Name of that role's port.
    pub port: Option<String>,
    /// Or the URL of an endpoint that runs elsewhere: a template.
    pub url: Option<String>,
    /// Path that answers 200 when the server is up. Dynamo's answers 200 without any worker, so tokmark always asks for the
    /// served model in `/v1/models` and for a generated token as well.
    pub health: Option<String>,
    /// Whether it lists its models at `/v1/models`; if so, the load waits for the served one there. Default: true.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub models: bool,
    /// Path whose JSON answer has the engine's version in the field `version`, for the results. A server without it is accepted.
    pub version: Option<String>,
    /// Path of the Prometheus metrics.
    pub metrics: Option<String>,
    /// Field of its chat endpoint that bounds the output length. Default `auto`: `max_tokens`, unless the server refuses it.
    #[serde(default)]
    pub max_tokens_field: MaxTokensField,
}

/// `[[fatal]]`: a log line that ends the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fatal {
    /// Regular expression matched against each line.
    pub pattern: String,
    /// What the line means and what to do.
    pub advice: String,
    /// Start once more with other ports, because another process took one in the meantime.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retry_with_new_ports: bool,
    /// Another start would fail in the same way, so tokmark tries none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub permanent: bool,
}

/// A launcher and the file it was read from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LauncherFile {
    /// The file, for messages.
    pub file: String,
    /// Its content.
    pub launcher: Launcher,
}

impl Options {
    /// Whether the engine uses dummy weights. `-` and `_` in names are the same, as for the engines.
    pub fn makes_up_weights(&self, engine: &serde_json::Map<String, Value>) -> bool {
        let plain = |name: &str| name.replace('-', "_");
        engine.iter().any(|(name, value)| {
            let at = self.made_up_weights.iter().find(|(option, _)| plain(option) == plain(name));
            at.is_some_and(|(_, made_up)| value.as_str() == Some(made_up))
        })
    }
}

impl Launcher {
    /// The role of that name.
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.iter().find(|role| role.name == name)
    }

    /// Roles that may serve the endpoint, best first.
    pub fn endpoint_roles(&self) -> impl Iterator<Item = &str> {
        self.endpoint.role.iter().chain(&self.endpoint.or_roles).map(String::as_str)
    }

    /// Whether a pool's replicas get GPUs from any role.
    pub fn uses_gpus(&self, pool: PoolName) -> bool {
        self.roles.iter().any(|role| role.gpus && role.pools.contains(&pool))
    }

    /// Whether it can start prefill and decode apart.
    pub fn disaggregates(&self) -> bool {
        [PoolName::Prefill, PoolName::Decode]
            .iter()
            .all(|pool| self.roles.iter().any(|role| role.pools.contains(pool)))
    }
}
