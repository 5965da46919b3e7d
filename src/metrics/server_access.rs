//! How the server was reached and what it refused: the part of a summary that no record holds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::{Extension, HttpVersion};

/// How the server was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerAccess {
    /// Addresses of the servers, joined by `, `; `null` in summaries of earlier versions.
    #[serde(default)]
    pub address: Option<String>,
    /// Model name that the requests carried; `null` in summaries of earlier versions.
    #[serde(default)]
    pub model: Option<String>,
    /// URLs that shared the load.
    pub urls: u32,
    /// The version of HTTP that was spoken.
    pub http_version: HttpVersion,
    /// How the server's certificate was checked; `null` without TLS.
    pub tls: Option<TlsCheck>,
    /// Whether requests went through a proxy, or could have: the environment decides for each URL.
    pub proxy: bool,
}

/// Against what a certificate was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TlsCheck {
    /// The authorities of the system.
    System,
    /// Those of the CA file.
    CaFile,
    /// Not at all (`insecure`): anybody could have answered.
    Unverified,
}

/// A field that was not sent, because the server refused it in the request before the load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DroppedExtension {
    /// The field of the request body, dotted.
    pub field: String,
    /// The field that was sent in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<String>,
    /// The server's error, in one line.
    pub said: String,
    /// What it means for the figures.
    pub effect: String,
}

impl DroppedExtension {
    /// `extension`, refused with this error, as one of `left_out`.
    pub fn new(extension: Extension, error: &str, left_out: &[Extension]) -> Self {
        Self {
            field: extension.path().to_owned(),
            replaced_by: extension.replacement().map(str::to_owned),
            said: error.to_owned(),
            effect: extension.effect(left_out).to_owned(),
        }
    }

    /// The reason of the verdict; `None` for a field that another one replaces, since the request still means the same.
    pub fn reason(&self) -> Option<String> {
        let Self { field, said, effect, replaced_by } = self;
        replaced_by.is_none().then(|| {
            format!("{field} is not understood and was left out: {effect} (the server said: {said})")
        })
    }
}
