//! How the prompts of a load point were made, as far as one must know it to send them again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `prompts` of `summary.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PromptFacts {
    /// What counted their tokens: `builtin`, `o200k_harmony`, or the path of a `tokenizer.json`.
    pub tokenizer: String,
    /// It counts what a server counts; `builtin` counts words.
    pub exact: bool,
    /// Where the tokens around the messages are known from; `null` when words were counted.
    pub template: Option<TemplateSource>,
    /// What stirred the first words: the same salt sends the same prompts.
    pub salt: u64,
    /// What differs from the file, what was left out, and how a trace was read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Where the tokens around the messages are known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TemplateSource {
    /// The chat template of the model's folder (or there is none: completions). The server counted a text alike, or does not
    /// tell.
    Known,
    /// The server was asked how many tokens it counts.
    Measured,
    /// From nowhere: the server does not tell.
    Unknown,
}
