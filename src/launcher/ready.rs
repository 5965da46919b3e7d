//! When a role counts as ready.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a role counts as ready. Of a replica with several processes only the first is checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ready {
    /// A path answers 200, and its JSON meets the conditions.
    Http {
        /// Role to ask instead of its own, e.g. a frontend that counts registered workers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role: Option<String>,
        /// Name of the port.
        port: String,
        /// Path.
        path: String,
        /// Dotted path into the JSON answer: `stats.prefill_count`, `instances`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        json: Option<String>,
        /// Which entries of the list there count: field → accepted values (templates).
        #[serde(default, rename = "where", skip_serializing_if = "BTreeMap::is_empty")]
        entries: BTreeMap<String, Vec<String>>,
        /// Least value of the number there, or least count of entries: a template of a number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_least: Option<String>,
        /// Text that the value there must equal: a template.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        equals: Option<String>,
    },
    /// A port that accepts connections.
    Tcp {
        /// Name of the port.
        port: String,
    },
    /// A line of its log.
    Log {
        /// Regular expression.
        pattern: String,
    },
    /// Running is enough, because something else waits for it.
    Started {},
}

/// A path on one of a role's ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PagePort {
    /// Name of the port.
    pub port: String,
    /// Path.
    pub path: String,
    /// Template expression: only the processes for which it is true have the page, e.g. `rank == 0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
}
