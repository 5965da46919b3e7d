//! Sections of the merged recipe, in which every key that has a default has a value.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Table;

use crate::plan::{Endpoint, HttpVersion, MaxTokensField, Proxy};
use crate::recipe::units::{OneOrMany, Span};
use crate::recipe::{PoolSection, SloSection};

/// `[deploy]`; its keys are those of [`DeploySection`](crate::recipe::DeploySection).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Deploy {
    #[serde(rename = "launcher")]
    pub(super) _launcher: String,
    pub(super) tp: u32,
    pub(super) pp: u32,
    pub(super) dp: u32,
    pub(super) ep: u32,
    pub(super) attention_dp: bool,
    pub(super) replicas: u32,
    pub(super) prefill: Option<PoolSection>,
    pub(super) decode: Option<PoolSection>,
    #[serde(default)]
    pub(super) settings: Table,
    #[serde(default)]
    pub(super) prefix: Vec<String>,
    pub(super) client_node: bool,
    pub(super) head_node: bool,
    pub(super) colocate: Option<bool>,
    pub(super) port: Option<u16>,
    pub(super) url: Option<OneOrMany<String>>,
    pub(super) connection: ConnectionKeys,
    pub(super) startup_timeout: Span,
    pub(super) progress_timeout: Span,
    pub(super) stop_grace: Span,
    #[serde(default)]
    pub(super) engine: Table,
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
}

/// `[deploy.connection]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConnectionKeys {
    pub(super) http_version: HttpVersion,
    pub(super) ca_file: Option<String>,
    pub(super) insecure: bool,
    pub(super) proxy: Proxy,
    pub(super) api_key: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
}

/// The keys of `[load]` about a single request.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct RequestKeys {
    pub(super) streaming: bool,
    pub(super) endpoint: Endpoint,
    pub(super) ignore_eos: bool,
    pub(super) seed: u64,
    pub(super) request_timeout: Span,
    pub(super) stall_timeout: Span,
    pub(super) connect_timeout: Span,
    pub(super) first_token_timeout: Option<Span>,
    pub(super) max_tokens_field: MaxTokensField,
    pub(super) continuous_usage_stats: bool,
    #[serde(default)]
    pub(super) slo: SloSection,
}
