//! Words about the connection to the server: which HTTP, which name of the length limit, which proxy.
//!
//! Arrow: depends on nothing; free to `recipe` and `plan`, and through `plan` to `load`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of HTTP that is spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HttpVersion {
    /// HTTP/1.1: one connection per request in flight.
    #[default]
    #[serde(rename = "1.1")]
    Http1,
    /// HTTP/2: requests share a connection. Without TLS by prior knowledge, with TLS by ALPN; never a silent HTTP/1.1.
    #[serde(rename = "2")]
    Http2,
}

/// The field that bounds the output length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MaxTokensField {
    /// As the launcher says, else `max_tokens`; `max_completion_tokens` where a chat server refuses that.
    #[default]
    Auto,
    /// `max_tokens`.
    MaxTokens,
    /// `max_completion_tokens`, chat only.
    MaxCompletionTokens,
}

/// Through which proxy requests go.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Proxy {
    /// None, whatever the environment says.
    #[default]
    Off,
    /// As `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` say.
    Environment,
    /// Every request through this one: `http://` or `https://`, a user name and password allowed. Never shown.
    Url(String),
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
