//! How an engine is told to decode speculatively.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[speculation]`: what `deploy.speculation` of a recipe becomes, and by what engine options show that it is on. Templates and expressions
/// use `method`, `model`, `tokens` and `synthetic_acceptance`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SpeculationSpec {
    /// The engine option, a table, that the options below are keys of; dotted when it is within another one. Default: they are engine
    /// options themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Names of the options for method, draft model and tokens, by which speculation is known.
    pub names: SpeculationNames,
    /// Other engine options by which it is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<SpeculationNames>,
    /// Options to set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<SetOption>,
    /// Environment of the servers: name → template. A variable that renders to nothing is not set.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Options whose value shows that drafts are accepted at random.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub synthetic: BTreeMap<String, String>,
}

/// Names of engine options.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SpeculationNames {
    /// Of the method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Of the draft model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Of the tokens of a draft.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<String>,
}

/// An option to set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetOption {
    /// Its name.
    pub option: String,
    /// A template of its value. What looks like a number or a truth value becomes one.
    pub value: String,
    /// Only when this expression is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
}
