//! `[load.prompts]`: where prompts come from and what they share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::Span;

/// `[load.prompts]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PromptSection {
    /// How tokens are counted: `builtin` (one word a token, approximate), `o200k_harmony`, or the path of a
    /// `tokenizer.json` or its folder. Default: the model's folder when it has one, else `builtin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// Synthetic prompts: `random` words (default) or `natural` text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub style: Option<Style>,
    /// Send token numbers in place of text; the endpoint `completions` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_ids: Option<bool>,
    /// Begin each prompt with unique words. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique: Option<bool>,
    /// Salt of these unique words. Default: 0 if the run starts the servers, else random for each run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub salt: Option<u64>,
    /// Path to POST to before each load point, which empties the prefix cache: `/reset_prefix_cache` (vLLM), `/flush_cache`
    /// (SGLang).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset_cache: Option<String>,
    /// Real prompts from a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<DatasetSection>,
    /// A recorded trace: lengths, arrivals and shared blocks from a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceSection>,
    /// Prefixes that requests share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<PrefixSection>,
    /// Several turns with growing context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ConversationSection>,
}

impl PromptSection {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Words of synthetic prompts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// Words drawn at random.
    #[default]
    Random,
    /// Sentences of English prose in random order.
    Natural,
}

/// `[load.prompts.dataset]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetSection {
    /// Format; required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<DatasetKind>,
    /// File; required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Shortest prompt that is used, tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_tokens: Option<u32>,
    /// Longest prompt that is used, tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Use each distinct prompt only once. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedupe: Option<bool>,
}

/// Format of a prompt file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DatasetKind {
    /// `databricks-dolly-15k.jsonl`: `instruction`, `context`, `response`.
    Dolly,
    /// ShareGPT JSON: a list of `conversations`.
    Sharegpt,
    /// OpenAssistant JSONL: messages or trees.
    Openassistant,
    /// Any JSONL: `prompt` or `messages`, optionally an output length.
    Jsonl,
}

impl DatasetKind {
    /// The word a recipe uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dolly => "dolly",
            Self::Sharegpt => "sharegpt",
            Self::Openassistant => "openassistant",
            Self::Jsonl => "jsonl",
        }
    }

    /// All of them.
    pub const ALL: [Self; 4] = [Self::Dolly, Self::Sharegpt, Self::Openassistant, Self::Jsonl];
}

impl TraceKind {
    /// The word a recipe uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mooncake => "mooncake",
            Self::Burstgpt => "burstgpt",
            Self::Azure => "azure",
        }
    }

    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mooncake, Self::Burstgpt, Self::Azure];
}

/// `[load.prompts.trace]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceSection {
    /// Format; required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<TraceKind>,
    /// File; required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Run its clock this many times as fast. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speedup: Option<f64>,
    /// Skip this much time at its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Span>,
    /// Longer prompts are cut to this many tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_isl: Option<u32>,
    /// Longer answers are cut to this many tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_osl: Option<u32>,
}

/// Format of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TraceKind {
    /// Mooncake JSONL: `timestamp` (ms; a request without one is due at once), `input_length`, `output_length`, `hash_ids`
    /// of blocks of 512 tokens.
    Mooncake,
    /// BurstGPT CSV: `Timestamp` (s), `Request tokens`, `Response tokens`.
    Burstgpt,
    /// Azure LLM inference CSV: `TIMESTAMP`, `ContextTokens`, `GeneratedTokens`.
    Azure,
}

/// `[load.prompts.prefix]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PrefixSection {
    /// Tokens of a system prompt that all requests share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_tokens: Option<u32>,
    /// Prefixes in a pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<u32>,
    /// Tokens of each prefix of the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_tokens: Option<u32>,
    /// Share of the requests that begin with a prefix of the pool, 0 to 1. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hit_ratio: Option<f64>,
}

/// `[load.prompts.conversation]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConversationSection {
    /// Turns, mean. Default: 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turns: Option<u32>,
    /// Turns, standard deviation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turns_stddev: Option<u32>,
    /// Tokens of each user message after the first. Default: `isl`, the length of the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_isl: Option<u32>,
    /// Their standard deviation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_isl_stddev: Option<u32>,
    /// Mean time between an answer and the next message. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub think_time: Option<Span>,
    /// Its standard deviation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub think_time_stddev: Option<Span>,
    /// Limit of prompt plus answer, tokens; older turns are left out to meet it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_context: Option<u32>,
}

/// `[load.length_range]`: lengths drawn uniformly around the nominal length L; set exactly one key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RangeSection {
    /// As `vllm bench serve --random-range-ratio`: [L × (1 − r), L × (1 + r)], 0 ≤ r < 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vllm: Option<f64>,
    /// As SGLang, sa-bench and InferenceX: [L × r, L], 0 < r ≤ 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sa_bench: Option<f64>,
}

/// `[[load.mix]]`: one of several shapes in a load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixSection {
    /// Prompt length, tokens.
    pub isl: u32,
    /// Standard deviation of the prompt length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isl_stddev: Option<u32>,
    /// Output length, tokens.
    pub osl: u32,
    /// Standard deviation of the output length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub osl_stddev: Option<u32>,
    /// Relative frequency. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
}
