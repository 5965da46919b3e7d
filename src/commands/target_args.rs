//! Flags of `bench` about the server: where it is, how it is reached, and what a request to it looks like.

use std::path::PathBuf;

use clap::Args;

use crate::deploy::secrets;
use crate::document::{InputError, InputErrors};
use crate::load::{Target, Tls};
use crate::plan::load_point::CONNECT_TIMEOUT_S;
use crate::plan::{Endpoint, HttpVersion, LoadPoint, MaxTokensField, Proxy};
use crate::recipe::secret;
use crate::recipe::units::Span;

/// Where the server is, and how it is reached.
#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// Base URL of the server, e.g. http://127.0.0.1:8000; repeated, or with commas between them, several share the load
    #[arg(long, value_name = "URL", value_delimiter = ',', required = true)]
    url: Vec<String>,
    /// Bearer token, by reference: env:NAME or file:PATH
    #[arg(long, value_name = "REF", value_parser = reference, help_heading = "Connection")]
    api_key: Option<String>,
    /// Header for every request; a value env:NAME or file:PATH is read from there (repeatable)
    #[arg(long = "header", value_name = "K:V", help_heading = "Connection")]
    headers: Vec<String>,
    /// Speak HTTP/2: without TLS by prior knowledge, with TLS by ALPN
    #[arg(long, help_heading = "Connection")]
    http2: bool,
    /// PEM file of the authorities to trust in place of the system's
    #[arg(long, value_name = "FILE", conflicts_with = "insecure", help_heading = "Connection")]
    ca_file: Option<PathBuf>,
    /// Accept any certificate; the summary says so
    #[arg(long, help_heading = "Connection")]
    insecure: bool,
    /// Proxy for every request: a URL, env:NAME or file:PATH to one with a password, or `environment` (HTTPS_PROXY and its
    /// like) [default: none]
    #[arg(long, value_name = "PROXY", help_heading = "Connection")]
    proxy: Option<String>,
}

/// What a request looks like, and how long it may take.
#[derive(Debug, Args)]
pub(crate) struct RequestArgs {
    /// Endpoint that is driven
    #[arg(long, default_value = "chat", value_parser = ["chat", "completions"])]
    endpoint: String,
    /// Ask for the whole answer at once
    #[arg(long)]
    no_stream: bool,
    /// Let the server end answers early instead of asking for exactly OSL tokens
    #[arg(long)]
    respect_eos: bool,
    /// Field that bounds the output length; auto: max_tokens, and max_completion_tokens where a chat server refuses that
    #[arg(long, value_name = "FIELD", default_value = "auto", value_parser = ["auto", "max_tokens", "max_completion_tokens"])]
    max_tokens_field: String,
    /// Ask for usage in every chunk of a stream
    #[arg(long, conflicts_with = "no_stream")]
    continuous_usage_stats: bool,
    /// JSON object merged into every request body
    #[arg(long, value_name = "JSON", value_parser = object)]
    extra_body: Option<serde_json::Map<String, serde_json::Value>>,
    /// Total time limit of one request
    #[arg(long, value_name = "TIME", default_value = "600s", help_heading = "Time limits")]
    request_timeout: Span,
    /// Longest wait for a connection, name resolution and TLS included [default: 30s]
    #[arg(long, value_name = "TIME", help_heading = "Time limits")]
    connect_timeout: Option<Span>,
    /// Longest wait from the send to the first content [default: none but the request's]
    #[arg(long, value_name = "TIME", help_heading = "Time limits")]
    first_token_timeout: Option<Span>,
    /// Longest silence within an answer [default: the request's limit, at most 120s]
    #[arg(long, value_name = "TIME", help_heading = "Time limits")]
    stall_timeout: Option<Span>,
}

fn object(text: &str) -> Result<serde_json::Map<String, serde_json::Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))
}

/// What is written out here stands in the process list.
fn reference(text: &str) -> Result<String, String> {
    match secret::is_reference(text) {
        true => Ok(text.to_owned()),
        false => Err("a secret is given as env:NAME or file:PATH, not written out".into()),
    }
}

impl TargetArgs {
    /// The target, secrets read, everything checked that can be without sending.
    pub(crate) fn target(&self, model: &str) -> Result<Target, InputErrors> {
        let proxy = match self.proxy.as_deref() {
            None | Some("off") => Proxy::Off,
            Some("environment") => Proxy::Environment,
            Some(url) => Proxy::Url(at("--proxy", secrets::read(url))?),
        };
        let key = self.api_key.as_deref().map(|key| at("--api-key", secrets::read(key))).transpose()?;
        Ok(Target {
            base_urls: self.url.iter().map(|url| url.trim().to_owned()).collect(),
            model: model.to_owned(),
            api_key: key,
            headers: self.headers.iter().map(|header| pair(header)).collect::<Result<_, _>>()?,
            http: if self.http2 { HttpVersion::Http2 } else { HttpVersion::Http1 },
            tls: Tls { ca_file: self.ca_file.clone(), insecure: self.insecure },
            proxy,
        })
    }
}

fn at<T>(flag: &str, read: Result<T, InputError>) -> Result<T, InputError> {
    read.map_err(|error| InputError { origin: flag.to_owned(), ..error })
}

fn pair(header: &str) -> Result<(String, String), InputErrors> {
    let Some((name, value)) = header.split_once(':') else {
        return Err(InputError::new("--header", "no `:` in it").expected("NAME:VALUE").into());
    };
    let name = name.trim();
    Ok((name.to_owned(), at(&format!("--header {name}"), secrets::read(value.trim()))?))
}

impl RequestArgs {
    /// Which endpoint.
    pub(crate) fn endpoint(&self) -> Endpoint {
        if self.endpoint == "completions" { Endpoint::Completions } else { Endpoint::Chat }
    }

    /// Writes these flags into a load point.
    pub(crate) fn apply(&self, point: &mut LoadPoint) {
        let total = self.request_timeout.seconds();
        point.endpoint = self.endpoint();
        point.streaming = !self.no_stream;
        point.ignore_eos = !self.respect_eos;
        point.max_tokens_field = match self.max_tokens_field.as_str() {
            "max_tokens" => MaxTokensField::MaxTokens,
            "max_completion_tokens" => MaxTokensField::MaxCompletionTokens,
            _ => MaxTokensField::Auto,
        };
        point.continuous_usage_stats = self.continuous_usage_stats;
        point.extra_body = self.extra_body.clone().unwrap_or_default();
        point.request_timeout_s = total;
        point.connect_timeout_s = self.connect_timeout.map_or(CONNECT_TIMEOUT_S, Span::seconds);
        point.first_token_timeout_s = self.first_token_timeout.map(Span::seconds);
        point.stall_timeout_s = self.stall_timeout.map_or(total.min(120.0), Span::seconds);
    }

    /// What no server could make sense of.
    pub(crate) fn check(&self) -> Result<(), InputError> {
        if self.max_tokens_field == "max_completion_tokens" && self.endpoint == "completions" {
            return Err(InputError::new(
                "--max-tokens-field",
                "found max_completion_tokens with --endpoint completions",
            )
            .expected("max_tokens or auto: the completions endpoint knows no other"));
        }
        let limits = [
            ("--request-timeout", Some(self.request_timeout)),
            ("--connect-timeout", self.connect_timeout),
            ("--first-token-timeout", self.first_token_timeout),
            ("--stall-timeout", self.stall_timeout),
        ];
        match limits.into_iter().find(|(_, limit)| limit.is_some_and(|limit| limit.seconds() <= 0.0)) {
            Some((flag, _)) => {
                Err(InputError::new(flag, "found 0: every request would fail").expected("more than 0"))
            }
            None => Ok(()),
        }
    }
}
