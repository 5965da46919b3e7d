//! Single requests outside any measurement: whether the server answers, which models it serves, whether it generates.
//!
//! They use the client set-up of the load and record nothing.

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde::Deserialize;

use super::body::request_body;
use super::chunk::{self, Payload};
use super::error_body;
use super::target::{self, Target, TargetError};
use crate::plan::server_url;
use crate::plan::{Endpoint, HttpVersion, Length, LoadPoint, MaxTokensField};
use crate::prompts::{Content, PromptPlan};

/// Bytes of an answer that are read at most; metrics pages are the longest ones, below 1 MiB.
const MAX_BODY_BYTES: usize = 8 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The address or a header is unusable; trying again is pointless.
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("no connection: {0}")]
    Connect(String),
    #[error("no answer within {:.1} s", .0.as_secs_f64())]
    Timeout(Duration),
    #[error("HTTP {status}: {message}")]
    Status { status: u16, message: String },
    #[error("unexpected answer: {0}")]
    Answer(String),
}

/// An answer to a plain GET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub status: u16,
    /// The body, as text, at most 8 MiB.
    pub body: String,
}

/// Generates one token, not streamed: the only proof that a server is ready. (Dynamo's `/health` is 200 without any worker.) A
/// chat server that refuses `max_tokens` is asked with `max_completion_tokens`.
///
/// # Errors
/// [`ProbeError`]; all but `Target` may pass with time.
pub async fn one_token(target: &Target, endpoint: Endpoint, timeout: Duration) -> Result<(), ProbeError> {
    let (client, url) = (target.http_client(timeout)?, target.url(endpoint.path())?);
    let body = one_token_body(target, endpoint, MaxTokensField::MaxTokens);
    let mut page = post(&client, url.clone(), body, false, timeout).await?;
    if matches!(page.status, 400 | 422) && endpoint == Endpoint::Chat {
        let body = one_token_body(target, endpoint, MaxTokensField::MaxCompletionTokens);
        let other = post(&client, url, body, false, timeout).await?;
        page = if other.status == 200 { other } else { page };
    }
    match chunk::whole(success(&page)?) {
        // Some servers give the token no text; the count or the reason of its end proves it as well.
        Ok(Payload::Chunk(chunk)) if !chunk.pieces.is_empty() || chunk.finish_reason.is_some() => Ok(()),
        Ok(Payload::Error(message)) => Err(ProbeError::Answer(message)),
        Ok(_) => Err(ProbeError::Answer("no choice in the answer".into())),
        Err(error) => Err(ProbeError::Answer(error.to_string())),
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Model {
    pub id: String,
    #[serde(default)]
    pub simulated: bool,
    /// Longest prompt and answer together, tokens, when the server reports it (vLLM, SGLang, tokmark's simulated engine).
    #[serde(default)]
    pub max_model_len: Option<u32>,
}

/// The models the server offers (`/v1/models`). Empty while a Dynamo frontend has no worker.
///
/// # Errors
/// [`ProbeError`]; all but `Target` may pass with time.
pub async fn models(target: &Target, timeout: Duration) -> Result<Vec<Model>, ProbeError> {
    #[derive(Deserialize)]
    struct Models {
        data: Vec<Model>,
    }
    let page = page(target, "/v1/models", timeout).await?;
    let models: Models = serde_json::from_slice(success(&page)?)
        .map_err(|error| ProbeError::Answer(format!("a list of models is expected: {error}")))?;
    Ok(models.data)
}

/// Prompt tokens the server counts for `content`, sent as `point` would send it, with one token as the answer. `None` when it
/// answers anything else than a completion with `usage`.
pub async fn prompt_tokens(
    target: &Target,
    point: &LoadPoint,
    content: Content,
    timeout: Duration,
) -> Option<u64> {
    let point = LoadPoint { streaming: false, osl: Length::fixed(1), ..point.clone() };
    let plan = PromptPlan { content, ..PromptPlan::one_word(point.endpoint) };
    let body = request_body(&point, &target.model, &plan);
    let (client, url) = (target.http_client(timeout).ok()?, target.url(point.endpoint.path()).ok()?);
    let page = post(&client, url, body, false, timeout).await.ok()?;
    match chunk::whole(success(&page).ok()?) {
        Ok(Payload::Chunk(chunk)) => {
            chunk.usage.map(|usage| usage.prompt_tokens).filter(|tokens| *tokens > 0)
        }
        _ => None,
    }
}

/// POSTs nothing to `path` of the first server of the target. Every status is an answer.
pub async fn poke(target: &Target, path: &str, timeout: Duration) -> Result<Page, ProbeError> {
    fetch(target.http_client(timeout)?.post(target.url(path)?), timeout).await
}

/// GETs `path` from the first server of the target, as the load reaches it. Every status is an answer.
pub async fn page(target: &Target, path: &str, timeout: Duration) -> Result<Page, ProbeError> {
    fetch(target.http_client(timeout)?.get(target.url(path)?), timeout).await
}

/// GETs any address: health and metrics pages. Every status is an answer.
///
/// # Errors
/// [`ProbeError::Target`], [`ProbeError::Connect`] or [`ProbeError::Timeout`].
pub async fn get(url: &str, timeout: Duration) -> Result<Page, ProbeError> {
    let url = server_url::parse(url).map_err(TargetError::from)?;
    let client = match url.scheme() {
        "http" => target::plain_client()?,
        _ => Target::new(url.as_str(), "").http_client(timeout)?,
    };
    fetch(client.get(url), timeout).await
}

/// Reads one page again and again over its own connection.
#[derive(Debug, Clone)]
pub struct PageReader {
    client: reqwest::Client,
    url: reqwest::Url,
}

impl PageReader {
    /// For a page of the servers of `target`, reached as the load reaches them. Key and headers go only to where the load sends them:
    /// to the same scheme, host and port.
    ///
    /// # Errors
    /// [`ProbeError::Target`]
    pub fn new(target: &Target, url: &str, connect: Duration) -> Result<Self, ProbeError> {
        let url = server_url::parse(url).map_err(TargetError::from)?;
        let is_own = target.urls("/")?.iter().any(|own| own.origin() == url.origin());
        let mut server = Target { base_urls: vec![String::from(url.clone())], path: None, ..target.clone() };
        if !is_own {
            server = Target { api_key: None, headers: Vec::new(), http: HttpVersion::Http1, ..server };
        }
        Ok(Self { client: server.http_client(connect)?, url })
    }

    /// Every status is an answer.
    ///
    /// # Errors
    /// [`ProbeError::Connect`] or [`ProbeError::Timeout`].
    pub async fn read(&self, timeout: Duration) -> Result<Page, ProbeError> {
        fetch(self.client.get(self.url.clone()), timeout).await
    }
}

/// POSTs a request of the load and waits for the whole answer. Every status is an answer.
pub(crate) async fn post(
    client: &reqwest::Client,
    url: reqwest::Url,
    body: Vec<u8>,
    streaming: bool,
    timeout: Duration,
) -> Result<Page, ProbeError> {
    let accept = if streaming { "text/event-stream" } else { "application/json" };
    let request = client.post(url).header(CONTENT_TYPE, "application/json").header(ACCEPT, accept);
    fetch(request.body(body), timeout).await
}

fn success(page: &Page) -> Result<&[u8], ProbeError> {
    let body = page.body.as_bytes();
    match page.status {
        200 => Ok(body),
        status => Err(ProbeError::Status { status, message: error_body::message(body) }),
    }
}

async fn fetch(request: reqwest::RequestBuilder, timeout: Duration) -> Result<Page, ProbeError> {
    let exchange = async {
        let mut response = request.send().await?;
        let mut body = Vec::new();
        while let Some(bytes) = response.chunk().await? {
            body.extend_from_slice(&bytes);
            if body.len() > MAX_BODY_BYTES {
                break;
            }
        }
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok::<Page, reqwest::Error>(Page { status: response.status().as_u16(), body })
    };
    match tokio::time::timeout(timeout, exchange).await {
        Ok(Ok(page)) => Ok(page),
        Ok(Err(error)) => Err(ProbeError::Connect(innermost(&error))),
        Err(_) => Err(ProbeError::Timeout(timeout)),
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// The shortest request a load point could send, so that readiness is proved on the path that is measured.
fn one_token_body(target: &Target, endpoint: Endpoint, max_tokens_field: MaxTokensField) -> Vec<u8> {
    let one = Length::fixed(1);
    let point = LoadPoint { isl: one, osl: one, endpoint, max_tokens_field, ..LoadPoint::default() };
    request_body(&point, &target.model, &PromptPlan::one_word(endpoint))
}
