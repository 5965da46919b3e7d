//! Error answers in vLLM's shapes (status, body), as captured from vLLM 0.32.
//!
//! Two kinds: `{"error": {...}}` from the API and `{"detail": ...}` from the router.

use hyper::StatusCode;
use serde_json::json;

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) body: String,
}

impl ApiError {
    fn new(status: StatusCode, kind: &str, message: &str, param: Option<&str>) -> Self {
        let error = json!({"message": message, "type": kind, "param": param, "code": status.as_u16()});
        Self { status, body: json!({"error": error}).to_string() }
    }

    /// 400 for a value the API refuses.
    pub(super) fn bad_request(message: &str, param: Option<&str>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequestError", message, param)
    }

    /// 400 from the schema check of the body; vLLM names this type differently. `location`: the field, empty for the body.
    pub(super) fn validation((kind, what): (&str, &str), location: &str) -> Self {
        let location = format!("body{}{location}", if location.is_empty() { "" } else { "." });
        let message =
            format!("1 validation error:\n  {{'type': '{kind}', 'loc': '{location}', 'msg': '{what}'}}");
        Self::new(StatusCode::BAD_REQUEST, "Bad Request", &message, Some(&location))
    }

    /// 404 for a model that is not served.
    pub(super) fn unknown_model(found: &str, served: &str) -> Self {
        let message = format!("The model `{found}` does not exist. Valid aliases: {served}.");
        Self::new(StatusCode::NOT_FOUND, "NotFoundError", &message, Some("model"))
    }

    /// 400 for a content type that is not JSON.
    pub(super) fn content_type() -> Self {
        let message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed";
        Self::new(StatusCode::BAD_REQUEST, "Bad Request", message, None)
    }

    /// 413 for a body larger than `limit` bytes.
    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("The request body is larger than {limit} bytes.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "BadRequestError", &message, None)
    }

    /// 503, vLLM's answer to an overload; here an injected fault.
    pub(super) fn unavailable() -> Self {
        let message = "Injected failure (simulated).";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable", message, None)
    }

    /// 500, vLLM's answer to requests in flight when its engine dies.
    pub(super) fn engine_gone() -> Self {
        let message = "EngineCore encountered an issue. See stack trace (above) for the root cause.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", message, None)
    }

    /// An error of the router: 404 or 405.
    pub(super) fn router(status: StatusCode) -> Self {
        Self { status, body: json!({"detail": status.canonical_reason()}).to_string() }
    }
}
