//! The HTTP routes. Every answer has the header `x-tokmark-simulated: true`.

use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SERVER};
use hyper::{Method, Request, Response, StatusCode};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::json;

use super::answer::SimBody;
use super::api_error::ApiError;
use super::driver::{Driver, unix_s};
use super::prometheus::Snapshot;
use super::request::{Endpoint, InferenceRequest};

/// The header of every answer, with the value `true`.
pub(super) const SIMULATED: HeaderName = HeaderName::from_static("x-tokmark-simulated");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const JSON: &str = "application/json";
const SSE: &str = "text/event-stream; charset=utf-8";
const METRICS: &str = "text/plain; version=1.0.0; charset=utf-8";

/// Largest request body, bytes; the longest context in words is far smaller.
const BODY_LIMIT: usize = 16 * 1024 * 1024;

/// Answers one request; errors are answers too.
pub(super) async fn handle(
    driver: Rc<Driver>,
    request: Request<Incoming>,
) -> Result<Response<SimBody>, Infallible> {
    let (post, path) = (request.method() == Method::POST, request.uri().path().to_owned());
    let inference = match path.as_str() {
        "/v1/chat/completions" => Some(Endpoint::Chat),
        "/v1/completions" => Some(Endpoint::Completions),
        "/health" | "/v1/models" | "/metrics" | "/version" => None,
        _ => return Ok(error(ApiError::router(StatusCode::NOT_FOUND))),
    };
    Ok(match inference {
        Some(endpoint) if post => infer(driver, endpoint, request).await.unwrap_or_else(error),
        None if request.method() == Method::GET => match path.as_str() {
            "/v1/models" => full(StatusCode::OK, JSON, models(&driver)),
            "/metrics" => full(StatusCode::OK, METRICS, metrics(&driver)),
            "/version" => full(StatusCode::OK, JSON, version()),
            _ => response(StatusCode::OK, None, SimBody::Full(None)),
        },
        _ => {
            let mut answer = error(ApiError::router(StatusCode::METHOD_NOT_ALLOWED));
            let allowed = if inference.is_some() { "POST" } else { "GET" };
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            answer
        }
    })
}

async fn infer(
    driver: Rc<Driver>,
    endpoint: Endpoint,
    request: Request<Incoming>,
) -> Result<Response<SimBody>, ApiError> {
    let (head, body) = request.into_parts();
    check_content_type(&head.headers)?;
    if body.size_hint().lower() > BODY_LIMIT as u64 {
        return Err(ApiError::too_large(BODY_LIMIT));
    }
    let body = Limited::new(body, BODY_LIMIT).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            ApiError::too_large(BODY_LIMIT)
        } else {
            ApiError::bad_request("The request body could not be read.", None)
        }
    })?;
    // The request's time starts when it is complete, before it is parsed.
    let arrival_us = driver.now_us();
    let parsed = InferenceRequest::parse(endpoint, &body.to_bytes(), &driver.config)?;
    let stream = parsed.stream;
    let request_id = head.headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let answer = driver.submit(arrival_us, parsed, request_id)?;
    if stream {
        Ok(response(StatusCode::OK, Some(SSE), SimBody::Stream(answer)))
    } else {
        answer.unary().await.map(|body| response(StatusCode::OK, Some(JSON), SimBody::Full(Some(body))))
    }
}

/// Accepts JSON and requests without a content type, as vLLM does.
fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(found) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let essence = found.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(JSON) { Ok(()) } else { Err(ApiError::content_type()) }
}

fn models(driver: &Driver) -> String {
    let config = &driver.config;
    let model = json!({"id": config.model, "object": "model", "created": unix_s(), "owned_by": "tokmark-sim",
        "root": config.model, "parent": null, "max_model_len": config.max_model_len, "simulated": true,
        "profile": config.profile});
    json!({"object": "list", "data": [model]}).to_string()
}

fn version() -> String {
    json!({"version": concat!("tokmark-sim-", env!("CARGO_PKG_VERSION")), "simulated": true}).to_string()
}

fn metrics(driver: &Driver) -> String {
    let (engine, config) = (driver.engine.borrow(), &driver.config);
    Snapshot {
        model: &config.model,
        profile: &config.profile,
        running: engine.num_running(),
        waiting: engine.num_waiting(),
        kv_usage: engine.kv_usage(),
        block_size: config.engine.block_size,
        num_blocks: config.engine.num_blocks,
        stats: engine.stats(),
        lag: driver.lag.get(),
        cpu_s: cpu_s(),
    }
    .render()
}

/// User and system time of this process, seconds.
fn cpu_s() -> f64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
        let time = |value: nix::sys::time::TimeVal| value.tv_sec() as f64 + value.tv_usec() as f64 / 1e6;
        time(usage.user_time()) + time(usage.system_time())
    })
}

fn error(error: ApiError) -> Response<SimBody> {
    full(error.status, JSON, error.body)
}

fn full(status: StatusCode, content_type: &'static str, body: String) -> Response<SimBody> {
    response(status, Some(content_type), SimBody::Full(Some(Bytes::from(body))))
}

fn response(status: StatusCode, content_type: Option<&'static str>, body: SimBody) -> Response<SimBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static("tokmark-sim"));
    headers.insert(SIMULATED, HeaderValue::from_static("true"));
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}
