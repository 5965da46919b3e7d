//! The connection to the server: where it is, which HTTP, whom to trust, which proxy, which name of the length limit.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// `[deploy.connection]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionSection {
    /// `"1.1"` (default) or `"2"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_version: Option<HttpVersion>,
    /// PEM file of the authorities to trust in place of the system's, an absolute path where the load runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// Accept any certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure: Option<bool>,
    /// `off` (default), `environment` (`HTTPS_PROXY` and its like), or a URL. With a password only as `env:NAME` or `file:PATH`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// Bearer token, as `env:NAME` or `file:PATH`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// Headers of every request. Secrets only as `env:NAME` or `file:PATH`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

impl ConnectionSection {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One URL or several: text, commas between them, or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Urls(pub Vec<String>);

impl Urls {
    /// The URLs in `text`, which has commas between them.
    pub fn split(text: &str) -> Self {
        Self(text.split(',').map(|url| url.trim().to_owned()).collect())
    }
}

impl Serialize for Urls {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [one] => serializer.serialize_str(one),
            many => many.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Urls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Urls;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a URL, or a list of them")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Urls, E> {
                Ok(Urls::split(text))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut sequence: A) -> Result<Urls, A::Error> {
                let mut urls = Vec::new();
                while let Some(url) = sequence.next_element::<String>()? {
                    urls.push(url);
                }
                if urls.is_empty() {
                    return Err(de::Error::invalid_length(0, &self));
                }
                Ok(Urls(urls))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Urls {
    fn schema_name() -> Cow<'static, str> {
        "Urls".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"oneOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}]})
    }
}

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
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Proxy {
    /// None, whatever the environment holds.
    #[default]
    Off,
    /// The one that `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` name.
    Environment,
    /// Every request through this one, in a recipe a URL or a reference to one: `http://` or `https://`, a user name and
    /// password allowed. Never shown.
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

impl JsonSchema for Proxy {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Proxy".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string"})
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
