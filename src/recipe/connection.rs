//! How to connect to the server: HTTP version, trusted authorities, proxy, field of the length limit.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

/// `[deploy.connection]`
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionSection {
    /// Path of the requests below the URL, if it is not `/v1/chat/completions` or `/v1/completions`, e.g.
    /// `/v1beta/openai/chat/completions`.
    pub path: Option<String>,
    /// `"1.1"` (default) or `"2"`.
    pub http_version: Option<HttpVersion>,
    /// PEM file of the authorities to trust instead of the system's: an absolute path on the machine that sends the load.
    pub ca_file: Option<String>,
    /// Accept any certificate.
    pub insecure: Option<bool>,
    /// `off` (default), `environment` (`HTTPS_PROXY` and similar), or a URL. Write a URL with a password as `env:NAME` or
    /// `file:PATH`.
    #[schemars(with = "Option<String>")]
    pub proxy: Option<Proxy>,
    /// Bearer token, as `env:NAME` or `file:PATH`.
    pub api_key: Option<String>,
    /// Headers of every request. Write secrets as `env:NAME` or `file:PATH`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// HTTP version of the requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HttpVersion {
    /// HTTP/1.1: one connection per request in flight.
    #[default]
    #[serde(rename = "1.1")]
    Http1,
    /// HTTP/2: requests share a connection. Uses prior knowledge without TLS and ALPN with TLS; never falls back to
    /// HTTP/1.1.
    #[serde(rename = "2")]
    Http2,
}

/// The field that bounds the output length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MaxTokensField {
    /// The launcher's field, else `max_tokens`, or `max_completion_tokens` if a chat server refuses `max_tokens`.
    #[default]
    Auto,
    /// `max_tokens`.
    MaxTokens,
    /// `max_completion_tokens`, chat only.
    MaxCompletionTokens,
}

/// Proxy of the requests.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Proxy {
    /// No proxy, even if the environment names one.
    #[default]
    Off,
    /// The proxy that `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` select.
    Environment,
    /// This proxy for every request: an `http://` or `https://` URL, optionally with user name and password; in a recipe
    /// also a reference to one. Never shown.
    Url(String),
}

impl Proxy {
    /// Whether requests go to the server directly.
    pub fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

impl From<String> for Proxy {
    fn from(text: String) -> Self {
        match text.as_str() {
            "off" => Self::Off,
            "environment" => Self::Environment,
            _ => Self::Url(text),
        }
    }
}

impl From<Proxy> for String {
    fn from(proxy: Proxy) -> Self {
        match proxy {
            Proxy::Off => "off".into(),
            Proxy::Environment => "environment".into(),
            Proxy::Url(url) => url,
        }
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Off => "Off",
            Self::Environment => "Environment",
            Self::Url(_) => "Url(…)",
        })
    }
}
