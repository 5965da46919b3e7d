//! `[deploy.speculation]`: speculative decoding.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

/// `[deploy.speculation]`: speculative decoding, in words that every engine has. With the launcher `attach` it says what runs there.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SpeculationSection {
    /// The engine's name of the method, e.g. `eagle3`, `ngram`, `MTP`. Required.
    pub method: Option<String>,
    /// Name or folder of the draft model, where the method needs one.
    pub model: Option<String>,
    /// Tokens of a draft.
    pub tokens: Option<u32>,
    /// Accept drafts at random, so that a step yields this many tokens on average, the one that needs no draft included: latencies without
    /// a meaning of the text.
    pub synthetic_acceptance: Option<f64>,
    /// Further options of speculation, by the engine's names.
    #[schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")]
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub options: toml::Table,
}
