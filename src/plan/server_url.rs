//! Makes every address of a server from its base URL.

use reqwest::Url;

use super::Endpoint;
use crate::recipe::secret::is_secret_header;

/// Ends of bases whose API lies right below them, although their last part is no version: Gemini, Vertex AI.
const API_ENDS: [&str; 2] = ["/v1beta/openai", "/endpoints/openapi"];

/// A server by its base URL: `http://host:8000`, the same with the version of its API (`/v1`) behind it, or the URL of an
/// endpoint. The query of the base goes with every address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    base: Url,
    /// What `/health` and `/metrics` stand behind.
    root: String,
    /// What `/models` and `/chat/completions` stand behind.
    api: String,
    /// Path of the requests where it does not tell the API.
    requests: Option<String>,
    /// The endpoint that the URL or the path names.
    pub endpoint: Option<Endpoint>,
}

impl ServerUrl {
    /// Reads a base, and the path of the requests below it where that is not `/v1/chat/completions` or `/v1/completions`. What
    /// the base ends with and the path begins with counts once.
    ///
    /// # Errors
    /// [`UrlError`]
    pub fn new(base: &str, path: Option<&str>) -> Result<Self, UrlError> {
        let url = parse(base)?;
        let mut url = without_secrets(url)?;
        let given = url.path().trim_end_matches('/').to_owned();
        let (above, mut endpoint) = api_and_endpoint(&given).map_or((given.as_str(), None), |found| found);
        let is_api = above.len() < given.len() || ends_with_api(above);
        let mut api = if is_api { above.to_owned() } else { format!("{above}/v1") };
        let mut requests = None;
        if let Some(path) = path {
            let (path, query) = path.split_once('?').unwrap_or((path, ""));
            add_query(&mut url, query);
            let joined = overlapped(above, path.trim_end_matches('/'));
            match api_and_endpoint(&joined) {
                Some((above, named)) => (api, endpoint) = (above.to_owned(), named),
                None => (requests, endpoint) = (Some(joined), None),
            }
        }
        let root = root(above).to_owned();
        add_query(&mut url, "");
        // Two spellings of one server are equal.
        url.set_path("");
        Ok(Self { base: url, root, api, requests, endpoint })
    }

    /// The address of `path`, which begins with `/`: below the API if it begins with `/v1/`, else beside it.
    pub fn join(&self, path: &str) -> Url {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let is_request = path == Endpoint::Chat.path() || path == Endpoint::Completions.path();
        let joined = match (path.strip_prefix("/v1/"), &self.requests) {
            (Some(_), Some(requests)) if is_request => requests.clone(),
            (Some(rest), _) => format!("{}/{rest}", self.api),
            (None, _) => format!("{}{path}", self.root),
        };
        let mut url = self.base.clone();
        url.set_path(&joined);
        add_query(&mut url, query);
        url
    }
}

/// A URL that names no server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("{url:?} {problem}{}", .next.as_ref().map_or_else(String::new, |next| format!("; {next}")))]
    Address {
        /// What was given.
        url: String,
        problem: String,
        /// What to write in its place, if it is clear what was meant.
        next: Option<String>,
    },
    /// It would stand in every report.
    #[error("the URL of {host} holds a {what}; give it as a header, by reference")]
    Secret { host: String, what: String },
}

/// An `http://` or `https://` address.
///
/// # Errors
/// [`UrlError::Address`]
pub fn parse(text: &str) -> Result<Url, UrlError> {
    let wrong = |problem: &str, next| {
        Err(UrlError::Address { url: text.to_owned(), problem: problem.to_owned(), next })
    };
    let Some((scheme, rest)) = text.split_once("://") else {
        return wrong(
            "is not an http:// or https:// address",
            with_scheme(text).map(|url| format!("write {url}")),
        );
    };
    if !["http", "https"].iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
        let problem = format!("is not an http:// or https:// address: the scheme is {scheme:?}");
        return wrong(&problem, None);
    }
    match Url::parse(text) {
        Err(error) => wrong(&format!("is no address: {error}"), None),
        Ok(_) if rest.starts_with('/') => wrong("names no host", None),
        Ok(url) => match url.fragment() {
            Some(part) => wrong("has a fragment, which is never sent", Some(format!("leave out #{part}"))),
            None => Ok(url),
        },
    }
}

/// An `http://` or `https://` address that holds no secret.
///
/// # Errors
/// [`UrlError`]
pub fn public(text: &str) -> Result<Url, UrlError> {
    without_secrets(parse(text)?)
}

/// The address that a text without scheme means.
fn with_scheme(text: &str) -> Option<String> {
    let scheme = if text.ends_with(":443") { "https" } else { "http" };
    let url = format!("{scheme}://{text}");
    let is_meant = !text.starts_with("http:") && !text.starts_with("https:");
    (is_meant && Url::parse(&url).is_ok_and(|url| url.has_host())).then_some(url)
}

fn without_secrets(url: Url) -> Result<Url, UrlError> {
    let is_secret = |name: &str| is_secret_header(name) || ["key", "sig"].contains(&name);
    let named = url.query_pairs().map(|(name, _)| name.into_owned()).find(|name| is_secret(name));
    let what = match named {
        _ if !url.username().is_empty() || url.password().is_some() => "user name or password".to_owned(),
        Some(name) => format!("secret ({name} in its query)"),
        None => return Ok(url),
    };
    Err(UrlError::Secret { host: url.host_str().unwrap_or_default().to_owned(), what })
}

/// The API that the path of an endpoint or of a list of models lies below, and that endpoint.
fn api_and_endpoint(path: &str) -> Option<(&str, Option<Endpoint>)> {
    let chat = path.strip_suffix("/chat/completions").map(|api| (api, Some(Endpoint::Chat)));
    let completions = || Some((path.strip_suffix("/completions")?, Some(Endpoint::Completions)));
    let models = || Some((path.strip_suffix("/models").filter(|api| ends_with_api(api))?, None));
    chat.or_else(completions).or_else(models)
}

/// Whether `models` and `chat/completions` lie right below a path: one that ends with a version, or Azure's
/// `/openai/deployments/NAME`.
fn ends_with_api(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    let (last, before, first) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    is_version(last)
        || API_ENDS.iter().any(|end| path.ends_with(end))
        || (before, first) == (Some("deployments"), Some("openai"))
}

/// `v1`, `v4`, `v1beta`, `v1beta1`.
fn is_version(part: &str) -> bool {
    let Some(number) = part.strip_prefix('v') else { return false };
    let stage = number.trim_start_matches(|c: char| c.is_ascii_digit());
    stage.len() < number.len()
        && (stage.is_empty() || stage.starts_with("alpha") || stage.starts_with("beta"))
}

/// What lies above the version in a path; all of it if it has none.
fn root(path: &str) -> &str {
    let version = path.rsplit('/').find(|part| is_version(part));
    let start = version.and_then(|version| path.rfind(&format!("/{version}")));
    start.map_or(path, |start| &path[..start])
}

/// `path` behind `base`; the parts that end the one and begin the other stand there once.
fn overlapped(base: &str, path: &str) -> String {
    let path = format!("/{}", path.trim_start_matches('/'));
    let shared = |end: &usize| base.ends_with(&path[..*end]);
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    let longest = ends.filter(shared).max().unwrap_or_default();
    format!("{base}{}", &path[longest..])
}

/// Adds to the query of `url`, and removes an empty one.
fn add_query(url: &mut Url, more: &str) {
    let parts = [url.query().unwrap_or_default(), more].map(str::to_owned);
    let query = parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<String>>().join("&");
    url.set_query(Some(query.as_str()).filter(|query| !query.is_empty()));
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = "/v1/chat/completions";

    fn joined(base: &str, path: Option<&str>, to: &str) -> String {
        ServerUrl::new(base, path).unwrap().join(to).to_string()
    }

    #[test]
    fn a_base_with_or_without_version_and_slashes_reaches_the_same_addresses() {
        for base in
            ["http://h:8000", "http://h:8000/", "http://h:8000/v1", "http://h:8000/v1/", "HTTP://H:8000/v1//"]
        {
            assert_eq!(joined(base, None, "/v1/models"), "http://h:8000/v1/models", "{base}");
            assert_eq!(joined(base, None, CHAT), "http://h:8000/v1/chat/completions", "{base}");
            assert_eq!(joined(base, None, "/metrics"), "http://h:8000/metrics", "{base}");
        }
        assert_eq!(joined("https://h/gw/v1/", None, "/v1/completions"), "https://h/gw/v1/completions");
        assert_eq!(joined("https://h/gw/v1/", None, "/health"), "https://h/gw/health");
        assert_eq!(joined("https://h/gw", None, "/v1/models"), "https://h/gw/v1/models");
        assert_eq!(joined("http://[::1]:8000", None, "/version"), "http://[::1]:8000/version");
    }

    #[test]
    fn a_query_of_the_base_goes_with_every_address() {
        for (base, to, right) in [
            ("http://h?api-version=1", CHAT, "http://h/v1/chat/completions?api-version=1"),
            ("http://h/?a=1&b=x%20y", "/v1/models", "http://h/v1/models?a=1&b=x%20y"),
            ("http://h/v1?api-version=1", "/metrics", "http://h/metrics?api-version=1"),
            ("http://h/v1/?api-version=1", CHAT, "http://h/v1/chat/completions?api-version=1"),
            ("http://h/v1?", CHAT, "http://h/v1/chat/completions"),
            ("http://h?a=1", "/reset_prefix_cache?b=2", "http://h/reset_prefix_cache?a=1&b=2"),
        ] {
            assert_eq!(joined(base, None, to), right, "{base}");
        }
    }

    #[test]
    fn spellings_of_one_server_are_equal() {
        let server = |base| ServerUrl::new(base, None).unwrap();
        assert_eq!(server("http://h:1"), server("http://H:1/v1/"));
        assert_ne!(server("http://h:1"), server("http://h:1/gw"));
        assert_ne!(server("http://h:1?a=1"), server("http://h:1?a=2"));
    }

    #[test]
    fn percent_encoding_is_kept() {
        assert_eq!(joined("http://h/a%2Fb/c%20d/v1", None, "/v1/models"), "http://h/a%2Fb/c%20d/v1/models");
        assert_eq!(
            joined("http://h", Some("/x%2Fy/chat/completions"), CHAT),
            "http://h/x%2Fy/chat/completions"
        );
    }

    #[test]
    fn a_base_of_an_api_that_is_not_below_v1_is_understood() {
        for (base, right) in [
            ("https://h/v1beta/openai/", "https://h/v1beta/openai/chat/completions"),
            ("https://h/api/paas/v4", "https://h/api/paas/v4/chat/completions"),
            (
                "https://h/openai/deployments/gpt-4o?api-version=2024-06-01",
                "https://h/openai/deployments/gpt-4o/chat/completions?api-version=2024-06-01",
            ),
            (
                "https://h/v1/projects/p/locations/l/endpoints/openapi",
                "https://h/v1/projects/p/locations/l/endpoints/openapi/chat/completions",
            ),
            ("https://api.example/v2/ID/openai", "https://api.example/v2/ID/openai/v1/chat/completions"),
            ("https://h/vllm", "https://h/vllm/v1/chat/completions"),
        ] {
            assert_eq!(joined(base, None, CHAT), right);
        }
        assert_eq!(joined("https://h/v1beta/openai/", None, "/v1/models"), "https://h/v1beta/openai/models");
        assert_eq!(joined("https://h/v1beta/openai/", None, "/metrics"), "https://h/metrics");
    }

    #[test]
    fn a_path_of_its_own_stands_behind_the_base_and_once() {
        let gemini = Some("/v1beta/openai/chat/completions");
        for base in ["http://h", "http://h/", "http://h/v1beta", "http://h/v1beta/openai/"] {
            assert_eq!(joined(base, gemini, CHAT), "http://h/v1beta/openai/chat/completions", "{base}");
            assert_eq!(joined(base, gemini, "/v1/models"), "http://h/v1beta/openai/models", "{base}");
            assert_eq!(joined(base, gemini, "/metrics"), "http://h/metrics", "{base}");
        }
        assert_eq!(joined("http://h/gw/v1", Some("v1/completions"), CHAT), "http://h/gw/v1/chat/completions");
        assert_eq!(joined("http://h/gw", Some("/chat/completions"), CHAT), "http://h/gw/chat/completions");
        let azure = Some("/openai/deployments/x/chat/completions?api-version=1");
        assert_eq!(
            joined("http://h?a=2", azure, CHAT),
            "http://h/openai/deployments/x/chat/completions?a=2&api-version=1"
        );
        let own = ServerUrl::new("http://h/v1", Some("/generate")).unwrap();
        assert_eq!(own.join(CHAT).as_str(), "http://h/v1/generate");
        assert_eq!((own.join("/v1/models").as_str(), own.endpoint), ("http://h/v1/models", None));
    }

    #[test]
    fn the_url_of_an_endpoint_names_its_api() {
        for (base, endpoint, models) in [
            ("http://h/v1/chat/completions", Some(Endpoint::Chat), "http://h/v1/models"),
            ("http://h/v1/completions/?q=1", Some(Endpoint::Completions), "http://h/v1/models?q=1"),
            ("https://h/chat/completions", Some(Endpoint::Chat), "https://h/models"),
            ("http://h/v1/models", None, "http://h/v1/models"),
        ] {
            let server = ServerUrl::new(base, None).unwrap();
            assert_eq!((server.endpoint, server.join("/v1/models").as_str()), (endpoint, models), "{base}");
            assert_eq!(server.join("/health").path(), "/health", "{base}");
        }
    }

    #[test]
    fn a_base_that_cannot_be_right_says_what_to_write() {
        for (base, right) in [
            ("localhost:8000/v1", Some("write http://localhost:8000/v1")),
            ("10.0.0.1:443", Some("write https://10.0.0.1:443")),
            ("h", Some("write http://h")),
            ("http://h/v1#top", Some("leave out #top")),
            ("", None),
            ("http:/h", None),
            ("http:///v1", None),
            ("http://", None),
            ("ws://h", None),
            ("grpc://h:1", None),
        ] {
            let error = ServerUrl::new(base, None).unwrap_err();
            let UrlError::Address { next, .. } = &error else { panic!("{base}: {error}") };
            assert_eq!(next.as_deref(), right, "{error}");
        }
    }

    #[test]
    fn a_secret_in_a_url_is_refused_and_not_shown() {
        for base in [
            "http://user:hunter2@h",
            "http://hunter2@h/v1",
            "http://h?key=hunter2",
            "http://h?api-key=hunter2",
        ] {
            let error = ServerUrl::new(base, None).unwrap_err();
            assert!(matches!(error, UrlError::Secret { .. }), "{base}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
