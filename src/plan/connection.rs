//! How the load reaches the endpoint.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::recipe::{HttpVersion, Proxy};

/// How the load reaches the endpoint; `[deploy.connection]` has the same keys. Secrets are references, read where the load runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Connection {
    /// The version of HTTP that is spoken.
    pub http_version: HttpVersion,
    /// PEM file of the authorities to trust in place of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// Accept any certificate.
    pub insecure: bool,
    /// The proxy; its URL may be a reference to one.
    #[serde(skip_serializing_if = "Proxy::is_off")]
    pub proxy: Proxy,
    /// Reference to the bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// Path of the requests below the URL, in place of the endpoint's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Headers of every request: a value, or a reference to one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

impl Connection {
    /// Whether nothing but the defaults is asked for.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}
