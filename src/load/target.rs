//! The server that is driven, and how an HTTP client for it is built.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::tls::{self, Tls};
use crate::plan::server_url::{self, ServerUrl, UrlError};
use crate::plan::{HttpVersion, Proxy};

/// An idle connection older than this is not used again. Uvicorn (vLLM, SGLang, TensorRT-LLM) and llama-server close idle
/// connections after 5 s; a request written into a connection that is just being closed would be a failure of ours.
pub(crate) const IDLE_LIMIT: Duration = Duration::from_secs(4);

/// An OpenAI-compatible server, or several alike that share the load.
#[derive(Clone)]
pub struct Target {
    /// Bases as [`ServerUrl`] reads them; at least one. Request `n` goes to number `n` modulo their count.
    pub base_urls: Vec<String>,
    /// Path of the requests below each base, in place of the endpoint's.
    pub path: Option<String>,
    pub model: String,
    /// Sent as `Authorization: Bearer …`. Never shown.
    pub api_key: Option<String>,
    /// Sent with every request. Values are never shown.
    pub headers: Vec<(String, String)>,
    pub http: HttpVersion,
    /// Whom to trust when a URL begins with `https://`.
    pub tls: Tls,
    pub proxy: Proxy,
}

impl Target {
    /// One server without key or extra headers, reached directly over HTTP/1.1.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_urls: vec![base_url.into()],
            path: None,
            model: model.into(),
            api_key: None,
            headers: Vec::new(),
            http: HttpVersion::Http1,
            tls: Tls::default(),
            proxy: Proxy::Off,
        }
    }

    /// The base URLs in one line, for people and reports.
    pub fn address(&self) -> String {
        self.base_urls.join(", ")
    }

    /// The address of `path` on the first server, for people.
    pub fn shown(&self, path: &str) -> String {
        self.url(path).map_or_else(|error| error.to_string(), String::from)
    }

    /// The same target with one of its servers only, for each of them.
    pub fn each(&self) -> impl Iterator<Item = Self> {
        self.base_urls.iter().map(|url| Self { base_urls: vec![url.clone()], ..self.clone() })
    }

    /// The address of `path` (which starts with `/`) on the first server.
    pub fn url(&self, path: &str) -> Result<reqwest::Url, TargetError> {
        self.address_at(self.base_urls.first().ok_or(TargetError::NoUrl)?, path)
    }

    /// The address of `path` (which starts with `/`) on each server; never empty.
    ///
    /// # Errors
    /// [`TargetError::Url`] for the first base URL that names no server, [`TargetError::NoUrl`].
    pub fn urls(&self, path: &str) -> Result<Vec<reqwest::Url>, TargetError> {
        if self.base_urls.is_empty() {
            return Err(TargetError::NoUrl);
        }
        self.base_urls.iter().map(|base| self.address_at(base, path)).collect()
    }

    fn address_at(&self, base: &str, path: &str) -> Result<reqwest::Url, TargetError> {
        Ok(ServerUrl::new(base, self.path.as_deref())?.join(path))
    }

    /// Whether it can be used as given. Sends nothing.
    pub fn check(&self) -> Result<(), TargetError> {
        self.http_client(Duration::from_secs(1)).map(drop)
    }

    /// Whether requests go through reqwest, which HTTP/2 and proxies need.
    pub(crate) fn needs_reqwest(&self) -> bool {
        self.http == HttpVersion::Http2 || self.proxy != Proxy::Off
    }

    pub(crate) fn header_map(&self) -> Result<HeaderMap, TargetError> {
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

    /// The TLS configuration of every connection; `None` when neither a URL nor the proxy begins with `https://`. Parses the
    /// CA file or reads the system's certificates: ask once, then share it.
    pub(crate) fn rustls_config(&self) -> Result<Option<Arc<rustls::ClientConfig>>, TargetError> {
        let to_server = self.urls("/")?.iter().any(|url| url.scheme() == "https");
        let to_proxy = matches!(&self.proxy, Proxy::Url(url) if url.starts_with("https:"));
        if !to_server && !to_proxy {
            return Ok(None);
        }
        Ok(Some(Arc::new(self.tls.config(self.http)?)))
    }

    /// An HTTP client for this target: no redirects, no retries by reqwest, a proxy only where one is set. hyper still hands a
    /// request to another connection when the idle one turns out closed *before a single byte was written*.
    pub(crate) fn http_client(&self, connect: Duration) -> Result<reqwest::Client, TargetError> {
        let tls = match self.rustls_config()? {
            Some(config) => config.as_ref().clone(),
            None => tls::none()?,
        };
        let builder = builder(tls).connect_timeout(connect).default_headers(self.header_map()?);
        let builder = match &self.proxy {
            Proxy::Off => builder.no_proxy(),
            Proxy::Environment => builder,
            Proxy::Url(url) => {
                let wrong =
                    || TargetError::Proxy { reason: "expected http://host:port or https://host:port" };
                server_url::parse(url).map_err(|_| wrong())?;
                builder.proxy(reqwest::Proxy::all(url).map_err(|_| wrong())?)
            }
        };
        let builder = match self.http {
            HttpVersion::Http1 => builder.http1_only(),
            // Also over TLS: whoever asks for HTTP/2 must not measure HTTP/1.1 instead.
            HttpVersion::Http2 => builder.http2_prior_knowledge(),
        };
        Ok(builder.build()?)
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Target")
            .field("base_urls", &self.base_urls)
            .field("path", &self.path)
            .field("model", &self.model)
            .field("api_key", &self.api_key.as_ref().map(|_| "…"))
            .field("headers", &names)
            .field("http", &self.http)
            .field("tls", &self.tls)
            .field("proxy", &self.proxy)
            .finish()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("no URL of a server is given")]
    NoUrl,
    /// A URL that names no server, or holds a secret.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// A header that HTTP does not allow. The value is not shown: it may be a secret.
    #[error("header {name:?} has a name or a value that HTTP does not allow")]
    Header { name: String },
    /// A proxy that is none. It is not shown: it may hold a password.
    #[error("the proxy is no address: {reason}")]
    Proxy { reason: &'static str },
    #[error("CA file {}: {found}; expected certificates in PEM (-----BEGIN CERTIFICATE-----)", .file.display())]
    Ca { file: PathBuf, found: String },
    #[error("a CA file and insecure exclude each other: give one of them")]
    InsecureWithCa,
    #[error(
        "this machine has no CA certificates to check the server with ({reason}); give a CA file, or install ca-certificates"
    )]
    NoRoots { reason: String },
    #[error("TLS cannot be set up: {reason}")]
    Tls { reason: String },
    #[error("the HTTP client cannot be set up")]
    Client(#[from] reqwest::Error),
}

/// A client for single requests over plain HTTP, made once.
pub(crate) fn plain_client() -> Result<reqwest::Client, TargetError> {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    if let Some(client) = CLIENT.get() {
        return Ok(client.clone());
    }
    let client = builder(tls::none()?).no_proxy().http1_only().build()?;
    Ok(CLIENT.get_or_init(|| client).clone())
}

/// What every client of ours has in common.
fn builder(tls: rustls::ClientConfig) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("tokmark/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .tcp_nodelay(true)
        .pool_idle_timeout(IDLE_LIMIT)
        .pool_max_idle_per_host(usize::MAX)
        // 0 also keeps reqwest from holding a second copy of each body until its answer begins.
        .retry(reqwest::retry::never().max_retries_per_request(0))
        .tls_backend_preconfigured(tls)
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
    fn the_wrong_one_of_several_addresses_is_named() {
        let target = |urls: &[&str]| Target {
            base_urls: urls.iter().map(|url| (*url).to_owned()).collect(),
            ..Target::new("", "m")
        };
        let both = target(&["http://a:1/v1", "https://b/gw"]);
        let urls: Vec<String> = both.urls("/v1/models").unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(urls, ["http://a:1/v1/models", "https://b/gw/v1/models"]);
        assert_eq!(both.address(), "http://a:1/v1, https://b/gw");
        assert_eq!(both.each().map(|one| one.address()).collect::<Vec<_>>(), both.base_urls);
        let error = target(&["http://a:1", "b:2"]).urls("/").unwrap_err().to_string();
        assert!(error.contains("\"b:2\""), "{error}");
        let error = target(&["http://user:secret@a:1"]).check().unwrap_err().to_string();
        assert!(error.contains("user name") && !error.contains("secret"), "{error}");
        assert!(matches!(target(&[]).urls("/"), Err(TargetError::NoUrl)));
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
        let error = bad.http_client(Duration::from_secs(1)).unwrap_err();
        assert!(!format!("{error:?}{error}").contains("sk-"));
    }
}
