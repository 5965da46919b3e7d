//! Sections of the merged recipe: every key that has a default has a value. Their keys are those of the sections in
//! [`recipe`](crate::recipe).

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Table;

use crate::plan::prompts::{DatasetKind, Prefix, Style, TraceKind};
use crate::plan::{Connection, Endpoint, ExportFormat, MaxTokensField, WhenFull};
use crate::recipe::precision::Precision;
use crate::recipe::prompts::RangeSection;
use crate::recipe::speculation::SpeculationSection;
use crate::recipe::units::{OneOrMany, Span};
use crate::recipe::{ArrivalSection, AtEndWord, SloSection, StageSection, load};

/// `[deploy]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Deploy {
    #[serde(rename = "launcher")]
    pub _launcher: String,
    pub tp: u32,
    pub pp: u32,
    pub dp: u32,
    pub ep: u32,
    pub attention_dp: bool,
    pub replicas: u32,
    pub prefill: Option<PoolKeys>,
    pub decode: Option<PoolKeys>,
    #[serde(default)]
    pub settings: Table,
    #[serde(default)]
    pub prefix: Vec<String>,
    pub client_node: bool,
    pub head_node: bool,
    pub colocate: Option<bool>,
    pub port: Option<u16>,
    pub url: Option<OneOrMany<String>>,
    pub metrics_url: Option<OneOrMany<String>>,
    pub connection: Connection,
    pub startup_timeout: Span,
    pub progress_timeout: Span,
    pub stop_grace: Span,
    pub speculation: Option<SpeculationSection>,
    #[serde(default)]
    pub engine: Table,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

impl Deploy {
    /// Engine options of the deployment and of its pools, by what stands before their keys.
    pub fn engines_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut Table)> {
        let prefill = self.prefill.as_mut().map(|pool| ("prefill.", &mut pool.engine));
        let decode = self.decode.as_mut().map(|pool| ("decode.", &mut pool.engine));
        [Some(("", &mut self.engine)), prefill, decode].into_iter().flatten()
    }

    /// Engine options and environment of the deployment and of its pools, by what stands before their keys.
    pub fn engines(&self) -> impl Iterator<Item = (&'static str, &Table, &BTreeMap<String, String>)> {
        let prefill = self.prefill.as_ref().map(|pool| ("prefill.", &pool.engine, &pool.env));
        let decode = self.decode.as_ref().map(|pool| ("decode.", &pool.engine, &pool.env));
        [Some(("", &self.engine, &self.env)), prefill, decode].into_iter().flatten()
    }
}

/// `[deploy.prefill]` or `[deploy.decode]`; a size that is missing is that of `[deploy]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PoolKeys {
    pub tp: Option<u32>,
    pub pp: Option<u32>,
    pub dp: Option<u32>,
    pub ep: Option<u32>,
    pub attention_dp: Option<bool>,
    pub replicas: u32,
    #[serde(default)]
    pub engine: Table,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// `[load]` of one load point.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Load {
    pub isl: Option<OneOrMany<u32>>,
    /// 0 where `mix` or a file gives the lengths.
    #[serde(default)]
    pub isl_stddev: u32,
    pub osl: Option<OneOrMany<u32>>,
    #[serde(default)]
    pub osl_stddev: u32,
    pub length_range: Option<RangeSection>,
    #[serde(default)]
    pub mix: Vec<MixKeys>,
    pub prompts: PromptKeys,
    pub concurrency: Option<OneOrMany<u32>>,
    pub rate: Option<OneOrMany<f64>>,
    pub stages: Option<Vec<StageSection>>,
    pub start_concurrency: Option<u32>,
    #[serde(default, deserialize_with = "load::rate_or_none")]
    pub start_rate: Option<f64>,
    pub arrival: Option<ArrivalSection>,
    pub max_concurrency: Option<u32>,
    pub when_full: Option<WhenFull>,
    pub requests: Option<u64>,
    pub requests_per_concurrency: Option<u32>,
    pub duration: Option<Span>,
    pub at_end: AtEndWord,
    pub drain_timeout: Option<Span>,
    pub warmup_requests: Option<u64>,
    pub warmup_per_concurrency: Option<u32>,
    pub warmup_duration: Option<Span>,
    #[serde(rename = "repeats")]
    pub _repeats: Option<u32>,
    #[serde(rename = "until")]
    pub _until: Option<Precision>,
    pub streaming: bool,
    pub endpoint: Endpoint,
    pub ignore_eos: bool,
    pub seed: u64,
    pub request_timeout: Span,
    pub stall_timeout: Span,
    pub connect_timeout: Span,
    pub first_token_timeout: Option<Span>,
    pub max_tokens_field: MaxTokensField,
    pub continuous_usage_stats: bool,
    #[serde(default)]
    pub slo: SloSection,
    #[serde(default)]
    pub exports: Vec<ExportFormat>,
    #[serde(default, deserialize_with = "load::extra_body")]
    pub extra_body: serde_json::Map<String, serde_json::Value>,
}

/// `[[load.mix]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MixKeys {
    pub isl: u32,
    pub isl_stddev: u32,
    pub osl: u32,
    pub osl_stddev: u32,
    pub weight: f64,
}

/// `[load.prompts]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PromptKeys {
    pub tokenizer: Option<String>,
    /// Of synthetic prompts alone.
    pub style: Option<Style>,
    pub token_ids: bool,
    pub unique: bool,
    pub salt: Option<u64>,
    pub reset_cache: Option<String>,
    pub dataset: Option<DatasetKeys>,
    pub trace: Option<TraceKeys>,
    pub prefix: Option<Prefix>,
    pub conversation: Option<ConversationKeys>,
}

/// `[load.prompts.dataset]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DatasetKeys {
    pub kind: Option<DatasetKind>,
    pub path: Option<String>,
    pub min_tokens: Option<u32>,
    pub max_tokens: Option<u32>,
    pub dedupe: bool,
}

/// `[load.prompts.trace]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TraceKeys {
    pub kind: Option<TraceKind>,
    pub path: Option<String>,
    pub speedup: f64,
    pub start: Span,
    pub block_size: Option<u32>,
    pub max_isl: Option<u32>,
    pub max_osl: Option<u32>,
}

/// `[load.prompts.conversation]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConversationKeys {
    pub turns: u32,
    pub turns_stddev: u32,
    pub turn_isl: Option<u32>,
    pub turn_isl_stddev: u32,
    pub think_time: Span,
    pub think_time_stddev: Span,
    pub max_context: Option<u32>,
}

/// `[telemetry]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TelemetryKeys {
    pub gpu: bool,
    pub interval: Span,
    pub dcgm_url: Option<String>,
}

/// `[slurm]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slurm {
    pub time: Span,
    pub exclusive: bool,
    pub mem: Option<String>,
    #[serde(default)]
    pub directives: Vec<String>,
}
