//! Flags of `bench` for the server and the requests to it.

use std::path::PathBuf;

use clap::Args;

use super::flag_layer::FlagLayer;
use crate::document::{InputError, join};
use crate::recipe::secret::{is_reference, is_secret_header};
use crate::recipe::units::Span;

/// Where the server is, and how it is reached.
#[derive(Debug, Args)]
pub(super) struct TargetArgs {
    /// Base URL of the server, e.g. http://127.0.0.1:8000; several, repeated or with commas between them, share the load
    #[arg(long, value_name = "URL", value_delimiter = ',', required = true)]
    url: Vec<String>,
    /// Model name [default: the only one the server lists]
    #[arg(long, value_name = "NAME")]
    pub(super) model: Option<String>,
    /// Bearer token, by reference: env:NAME or file:PATH
    #[arg(long, value_name = "REF", value_parser = reference, help_heading = "Connection")]
    api_key: Option<String>,
    /// Header for every request; a value env:NAME or file:PATH is read from there, a secret only so (repeatable)
    #[arg(long = "header", value_name = "K:V", help_heading = "Connection")]
    headers: Vec<String>,
    /// Speak HTTP/2: without TLS by prior knowledge, with TLS by ALPN
    #[arg(long, help_heading = "Connection")]
    http2: bool,
    /// Trust the authorities in this PEM file instead of the system's
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
pub(super) struct RequestArgs {
    /// Endpoint to send requests to [default: chat]
    #[arg(long, value_parser = ["chat", "completions"])]
    endpoint: Option<String>,
    /// Ask for the whole answer at once
    #[arg(long)]
    no_stream: bool,
    /// Let the server end answers early instead of asking for exactly OSL tokens
    #[arg(long)]
    respect_eos: bool,
    /// Field that limits the output length; auto: max_tokens, or max_completion_tokens where a chat server refuses that
    /// [default: auto]
    #[arg(long, value_name = "FIELD", value_parser = ["auto", "max_tokens", "max_completion_tokens"])]
    max_tokens_field: Option<String>,
    /// Ask for usage in every chunk of a stream
    #[arg(long, conflicts_with = "no_stream")]
    continuous_usage_stats: bool,
    /// JSON object merged into every request body
    #[arg(long, value_name = "JSON", value_parser = object)]
    extra_body: Option<String>,
    /// Limit of a whole request [default: 600s]
    #[arg(long, value_name = "TIME", help_heading = "Time limits")]
    request_timeout: Option<Span>,
    /// Longest wait for a connection, name resolution and TLS included [default: 30s]
    #[arg(long, value_name = "TIME", help_heading = "Time limits")]
    connect_timeout: Option<Span>,
    /// Longest wait from the send to the first content [default: none but the request's]
    #[arg(long, value_name = "TIME", help_heading = "Time limits")]
    first_token_timeout: Option<Span>,
    /// Longest silence within an answer [default: 120s]
    #[arg(long, value_name = "TIME", help_heading = "Time limits")]
    stall_timeout: Option<Span>,
}

/// Checks the text of a JSON object. It stays text because TOML has no `null`.
fn object(text: &str) -> Result<String, String> {
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("not a JSON object: {error}")),
    }
}

const BY_REFERENCE: &str = "a secret is given as env:NAME or file:PATH, not written out";

/// Accepts only references, because a secret on the command line would show in the process list.
fn reference(text: &str) -> Result<String, String> {
    if is_reference(text) { Ok(text.to_owned()) } else { Err(BY_REFERENCE.into()) }
}

impl TargetArgs {
    /// Applies the flags to a recipe.
    pub(super) fn lay(&self, layer: &mut FlagLayer) {
        let urls: Vec<&str> = self.url.iter().map(|url| url.trim()).collect();
        layer.set("--url", "deploy.url", Some(urls));
        layer.set("--model", "model.name", self.model.as_ref());
        layer.set("--api-key", "deploy.connection.api_key", self.api_key.as_ref());
        for header in &self.headers {
            lay_header(header, layer);
        }
        layer.switch("--http2", "deploy.connection.http_version", self.http2, "2");
        match self.ca_file.as_ref().map(std::path::absolute).transpose() {
            Ok(file) => layer.set("--ca-file", "deploy.connection.ca_file", file),
            Err(error) => layer.refuse(InputError::new("--ca-file", error.to_string())),
        }
        layer.switch("--insecure", "deploy.connection.insecure", self.insecure, true);
        layer.set("--proxy", "deploy.connection.proxy", self.proxy.as_ref());
    }
}

fn lay_header(header: &str, layer: &mut FlagLayer) {
    let Some((name, value)) = header.split_once(':') else {
        return layer.refuse(InputError::new("--header", "no `:` in it").expected("NAME:VALUE"));
    };
    let (name, value) = (name.trim(), value.trim());
    let flag = format!("--header {name}");
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        let problem = format!("{name:?} is no name of a header");
        return layer.refuse(InputError::new(flag, problem).expected("letters, digits, `-`, `_` and `.`"));
    }
    if is_secret_header(name) && !is_reference(value) {
        let next = "put the whole value into a variable, and its name behind env:";
        return layer.refuse(InputError::new(flag, BY_REFERENCE).next(next));
    }
    layer.set(&flag, &join("deploy.connection.headers", name), Some(value));
}

impl RequestArgs {
    /// Applies the flags to a recipe.
    pub(super) fn lay(&self, layer: &mut FlagLayer) {
        layer.set("--endpoint", "load.endpoint", self.endpoint.as_ref());
        layer.switch("--no-stream", "load.streaming", self.no_stream, false);
        layer.switch("--respect-eos", "load.ignore_eos", self.respect_eos, false);
        layer.set("--max-tokens-field", "load.max_tokens_field", self.max_tokens_field.as_ref());
        layer.switch(
            "--continuous-usage-stats",
            "load.continuous_usage_stats",
            self.continuous_usage_stats,
            true,
        );
        layer.set("--extra-body", "load.extra_body", self.extra_body.as_ref());
        layer.set("--request-timeout", "load.request_timeout", self.request_timeout);
        layer.set("--connect-timeout", "load.connect_timeout", self.connect_timeout);
        layer.set("--first-token-timeout", "load.first_token_timeout", self.first_token_timeout);
        layer.set("--stall-timeout", "load.stall_timeout", self.stall_timeout);
    }
}
