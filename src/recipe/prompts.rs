//! `[load.prompts]`: where prompts come from and what they share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::units::Span;

/// `[load.prompts]`
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PromptSection {
    /// How tokens are counted: `builtin` (one word a token, approximate), `o200k_harmony`, or the path of a
    /// `tokenizer.json` or its folder. Default: the model's folder when it has one, else `builtin`.
    pub tokenizer: Option<String>,
    /// Synthetic prompts: `random` words (default) or `natural` text.
    pub style: Option<Style>,
    /// Send token numbers in place of text; the endpoint `completions` only.
    pub token_ids: Option<bool>,
    /// Begin each prompt with unique words. Default: true.
    pub unique: Option<bool>,
    /// Salt of these unique words. Default: 0 if the run starts the servers, else random for each run.
    pub salt: Option<u64>,
    /// Path to POST to before each load point, which empties the prefix cache: `/reset_prefix_cache` (vLLM), `/flush_cache`
    /// (SGLang).
    pub reset_cache: Option<String>,
    /// Real prompts from a file.
    pub dataset: Option<DatasetSection>,
    /// A recorded trace: lengths, arrivals and shared blocks from a file.
    pub trace: Option<TraceSection>,
    /// Prefixes that requests share.
    pub prefix: Option<PrefixSection>,
    /// Several turns with growing context.
    pub conversation: Option<ConversationSection>,
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
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetSection {
    /// Format; required.
    pub kind: Option<DatasetKind>,
    /// File; required.
    pub path: Option<String>,
    /// Shortest prompt that is used, tokens.
    pub min_tokens: Option<u32>,
    /// Longest prompt that is used, tokens.
    pub max_tokens: Option<u32>,
    /// Use each distinct prompt only once. Default: true.
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
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceSection {
    /// Format; required.
    pub kind: Option<TraceKind>,
    /// File; required.
    pub path: Option<String>,
    /// Run its clock this many times as fast. Default: 1.
    pub speedup: Option<f64>,
    /// Skip this much time at its start.
    pub start: Option<Span>,
    /// Tokens of a block of `hash_ids`. Default: as the file says, 512, or what alone fits every row.
    pub block_size: Option<u32>,
    /// Longer prompts are cut to this many tokens.
    pub max_isl: Option<u32>,
    /// Longer answers are cut to this many tokens.
    pub max_osl: Option<u32>,
}

/// Format of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TraceKind {
    /// Mooncake JSONL: `timestamp` (ms; a request without one is due at once), `input_length` or `text_input`,
    /// `output_length`, `hash_ids`.
    Mooncake,
    /// BurstGPT CSV: `Timestamp` (s), `Request tokens`, `Response tokens`.
    Burstgpt,
    /// Azure LLM inference CSV: `TIMESTAMP`, `ContextTokens`, `GeneratedTokens`.
    Azure,
}

/// `[load.prompts.prefix]`
#[skip_serializing_none]
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PrefixSection {
    /// Tokens of a system prompt that all requests share.
    pub system_tokens: Option<u32>,
    /// Prefixes in a pool.
    pub pool: Option<u32>,
    /// Tokens of each prefix of the pool.
    pub pool_tokens: Option<u32>,
    /// Share of the requests that begin with a prefix of the pool, 0 to 1. Default: 1.
    pub hit_ratio: Option<f64>,
}

/// `[load.prompts.conversation]`
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConversationSection {
    /// Turns, mean. Default: 4.
    pub turns: Option<u32>,
    /// Turns, standard deviation.
    pub turns_stddev: Option<u32>,
    /// Tokens of each user message after the first. Default: `isl`, the length of the first.
    pub turn_isl: Option<u32>,
    /// Their standard deviation.
    pub turn_isl_stddev: Option<u32>,
    /// Mean time between an answer and the next message. Default: none.
    pub think_time: Option<Span>,
    /// Its standard deviation.
    pub think_time_stddev: Option<Span>,
    /// Limit of prompt plus answer, tokens; older turns are left out to meet it.
    pub max_context: Option<u32>,
}

/// `[load.length_range]`: lengths drawn uniformly around the nominal length L; set exactly one key.
#[skip_serializing_none]
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RangeSection {
    /// As `vllm bench serve --random-range-ratio`: [L × (1 − r), L × (1 + r)], 0 ≤ r < 1.
    pub vllm: Option<f64>,
    /// As SGLang, sa-bench and InferenceX: [L × r, L], 0 < r ≤ 1.
    pub sa_bench: Option<f64>,
}

/// `[[load.mix]]`: one of several shapes in a load.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixSection {
    /// Prompt length, tokens.
    pub isl: u32,
    /// Standard deviation of the prompt length.
    pub isl_stddev: Option<u32>,
    /// Output length, tokens.
    pub osl: u32,
    /// Standard deviation of the output length.
    pub osl_stddev: Option<u32>,
    /// Relative frequency. Default: 1.
    pub weight: Option<f64>,
}
