//! What the requests of a load point say: whose words, how long, what they share.

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

pub use crate::recipe::prompts::{DatasetKind, Style, TraceKind};

/// What is sent.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PromptSpec {
    pub tokenizer: TokenizerSpec,
    pub source: PromptKind,
    /// Several shapes in one load: lengths and their weights, in place of the point's. Empty: one shape.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mix: Vec<super::load_point::WeightedShape>,
    /// Send token numbers in place of text (completions only).
    pub token_ids: bool,
    /// Begin each prompt with words that no other request begins with, so that no two share a cache block.
    pub unique: bool,
    /// Stirs the first words of each prompt. `None`: drawn when the run begins, if its servers may have been asked before.
    pub salt: Option<u64>,
    /// What requests share on purpose.
    #[serde(default, skip_serializing_if = "Prefix::is_empty")]
    pub prefix: Prefix,
    pub conversation: Option<Conversation>,
    /// Path that is POSTed to before the point, so that it starts with an empty prefix cache.
    pub reset_cache: Option<String>,
}

/// How tokens are counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerSpec {
    /// A word is a token: no files needed, and marked as approximate.
    #[default]
    Builtin,
    /// The `tokenizer.json` beside the weights when there is one, else [`TokenizerSpec::Builtin`].
    Model {
        /// Folder of the weights.
        folder: String,
    },
    /// OpenAI's o200k_harmony, built in: gpt-oss.
    O200kHarmony,
    /// A `tokenizer.json`, or the folder it is in.
    File { path: String },
}

/// Where the words come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptKind {
    /// Made up, of exact length.
    Synthetic(Style),
    /// From a file of real prompts.
    Dataset(Dataset),
    /// Made up, with the lengths, arrivals and shared blocks of a recorded trace.
    Trace(Trace),
}

impl PromptKind {
    /// The file that prompts come from.
    pub fn file(&self) -> Option<&str> {
        match self {
            Self::Synthetic(_) => None,
            Self::Dataset(dataset) => Some(&dataset.path),
            Self::Trace(trace) => Some(&trace.path),
        }
    }
}

impl Default for PromptKind {
    fn default() -> Self {
        Self::Synthetic(Style::default())
    }
}

/// A file of real prompts.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dataset {
    pub kind: DatasetKind,
    pub path: String,
    /// Shortest prompt that is used, tokens.
    pub min_tokens: Option<u32>,
    /// Longest prompt that is used, tokens.
    pub max_tokens: Option<u32>,
    /// Use a prompt once that occurs several times.
    pub dedupe: bool,
    /// Ask for as many tokens as the file's own answers have, in place of the point's output length.
    pub own_lengths: bool,
}

/// A recorded trace.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    pub kind: TraceKind,
    pub path: String,
    /// Its clock runs this many times as fast.
    pub speedup: f64,
    /// Seconds of it that are left out at its start.
    pub start_s: f64,
    /// Tokens of a block; `None`: as the file or its rows say.
    pub block_size: Option<u32>,
    /// Longer prompts are cut to this many tokens.
    pub max_isl: Option<u32>,
    /// Longer answers are cut to this many tokens.
    pub max_osl: Option<u32>,
    /// Only this share of its requests, from the first one on, is sent; `None`: all.
    pub share: Option<f64>,
}

/// What requests share on purpose; `[load.prompts.prefix]` has the same keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prefix {
    /// Tokens of a system prompt that all have.
    pub system_tokens: u32,
    /// Prefixes in the pool.
    pub pool: u32,
    /// Tokens of each.
    pub pool_tokens: u32,
    /// Share of the requests that begin with one of them.
    pub hit_ratio: f64,
}

impl Prefix {
    /// Whether nothing is shared.
    pub fn is_empty(&self) -> bool {
        self.system_tokens == 0 && self.pool == 0
    }
}

/// Several turns with growing context.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// Turns: mean.
    pub turns: u32,
    /// Turns: standard deviation.
    pub turns_stddev: u32,
    /// Length of the user's messages after the first, tokens.
    pub turn_isl: super::Length,
    /// Mean time between an answer and the next message, seconds.
    pub think_s: f64,
    /// Its standard deviation, seconds.
    pub think_stddev_s: f64,
    /// Prompt and answer together never exceed this many tokens: older turns are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_context: Option<u32>,
}
