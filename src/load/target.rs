//! The server that is driven, and how an HTTP client for it is built.
//!
//! Arrow: `drive` and `probe` build their clients here, so that both treat proxies, redirects and retries alike.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

/// Longest wait for a TCP (and TLS) connection. Long enough for a few lost SYNs when thousands connect at once.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// An idle connection older than this is not used again. Uvicorn (vLLM, SGLang, TensorRT-LLM) and llama-server close idle
/// connections after 5 s; a request written into a connection that is just being closed would be a failure of ours.
const IDLE_LIMIT: Duration = Duration::from_secs(4);

/// An OpenAI-compatible server.
#[derive(Clone)]
pub struct Target {
    /// `http://host:8000`, with or without a trailing `/v1`.
    pub base_url: String,
    /// The model name sent in each request.
    pub model: String,
    /// Sent as `Authorization: Bearer …`. Never shown.
    pub api_key: Option<String>,
    /// Sent with every request. Values are never shown.
    pub headers: Vec<(String, String)>,
}

impl Target {
    /// A server without key or extra headers.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self { base_url: base_url.into(), model: model.into(), api_key: None, headers: Vec::new() }
    }

    /// The address of `path` (which starts with `/`) on this server.
    ///
    /// # Errors
    /// [`TargetError::Url`] when `base_url` is no `http://` or `https://` address.
    pub fn url(&self, path: &str) -> Result<reqwest::Url, TargetError> {
        let base = self.base_url.trim_end_matches('/');
        let base = if path.starts_with("/v1/") { base.strip_suffix("/v1").unwrap_or(base) } else { base };
        parse_url(base)?;
        parse_url(&format!("{base}{path}"))
    }

    fn default_headers(&self) -> Result<HeaderMap, TargetError> {
        let mut headers = HeaderMap::new();
        if let Some(key) = &self.api_key {
            headers.insert(AUTHORIZATION, secret("authorization", &format!("Bearer {key}"))?);
        }
        for (name, value) in &self.headers {
            let parsed = HeaderName::try_from(name.as_str());
            let parsed = parsed.map_err(|_| TargetError::Header { name: name.clone() })?;
            headers.insert(parsed, secret(name, value)?);
        }
        Ok(headers)
    }

    /// An HTTP client for this server: HTTP/1.1, no proxy, no redirects, no retries by reqwest.
    ///
    /// One resend remains that reqwest cannot switch off and that is safe: hyper's pool hands a request to another connection
    /// when the idle one it had picked turns out closed *before a single byte was written*; the server never saw it.
    /// Once bytes were written nothing is ever sent twice: the record says `disconnected`.
    ///
    /// # Errors
    /// [`TargetError::Header`], or [`TargetError::Client`] when TLS cannot be set up.
    pub(crate) fn http_client(&self) -> Result<reqwest::Client, TargetError> {
        let tls = self.url("/")?.scheme() == "https";
        Ok(builder(tls).default_headers(self.default_headers()?).build()?)
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Target")
            .field("base_url", &self.base_url)
            .field("model", &self.model)
            .field("api_key", &self.api_key.as_ref().map(|_| "…"))
            .field("headers", &names)
            .finish()
    }
}

/// The target cannot be used as given.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Not an address.
    #[error("{url:?} is not an http:// or https:// address: {reason}")]
    Url {
        /// What was given.
        url: String,
        /// Why not.
        reason: String,
    },
    /// A header that HTTP does not allow. The value is not shown: it may be a secret.
    #[error("header {name:?} has a name or a value that HTTP does not allow")]
    Header {
        /// Its name.
        name: String,
    },
    /// The HTTP client could not be set up.
    #[error("the HTTP client cannot be set up")]
    Client(#[from] reqwest::Error),
}

pub(crate) fn parse_url(text: &str) -> Result<reqwest::Url, TargetError> {
    let wrong = |reason: String| TargetError::Url { url: text.to_owned(), reason };
    let url = reqwest::Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        other => Err(wrong(format!("the scheme is {other:?}"))),
    }
}

/// What every client of ours has in common.
pub(crate) fn builder(tls: bool) -> reqwest::ClientBuilder {
    let ring = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    // Fails only when one is installed already, which is as good.
    let _ = rustls::crypto::CryptoProvider::install_default(ring.as_ref().clone());
    let builder = reqwest::Client::builder()
        .user_agent(concat!("tokmark/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .http1_only()
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_LIMIT)
        .pool_max_idle_per_host(usize::MAX)
        // 0 also keeps reqwest from holding a second copy of each body until its answer begins.
        .retry(reqwest::retry::never().max_retries_per_request(0));
    if tls {
        return builder;
    }
    // Plain HTTP must work on a node without CA certificates, which reqwest's default set-up refuses.
    match rustls::ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions() {
        Ok(config) => builder.tls_backend_preconfigured(
            config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth(),
        ),
        Err(_) => builder,
    }
}

fn secret(name: &str, value: &str) -> Result<HeaderValue, TargetError> {
    let mut value =
        HeaderValue::try_from(value).map_err(|_| TargetError::Header { name: name.to_owned() })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for base in ["http://h:8000", "http://h:8000/", "http://h:8000/v1", "http://h:8000/v1/"] {
            let url = Target::new(base, "m").url("/v1/models").unwrap();
            assert_eq!(url.as_str(), "http://h:8000/v1/models");
        }
        let prefixed = Target::new("https://h/gw/v1", "m").url("/v1/completions").unwrap();
        assert_eq!(prefixed.as_str(), "https://h/gw/v1/completions");
        for base in ["h:8000", "", "ftp://h", "http://"] {
            assert!(Target::new(base, "m").url("/health").is_err(), "{base}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let target = Target {
            api_key: Some("sk-1".into()),
            headers: vec![("X-Key".into(), "sk-2".into())],
            ..Target::new("http://h", "m")
        };
        assert!(!format!("{target:?}").contains("sk-"));
        let bad = Target { headers: vec![("X-Key".into(), "sk-3\n".into())], ..target };
        let error = bad.http_client().unwrap_err();
        assert!(!format!("{error:?}{error}").contains("sk-"));
    }
}
