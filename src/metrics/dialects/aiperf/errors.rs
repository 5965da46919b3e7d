//! How a failed request looks in AIPerf's words: `error` of `profile_export.jsonl`, `error_summary` of the JSON export.

use crate::metrics::record::{Outcome, RequestRecord};
use serde::Serialize;

/// AIPerf's `ErrorDetails`; absent fields are not written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct ErrorDetails {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    r#type: String,
    message: String,
}

/// The error of a record, `None` for a good one. Types are the exception names AIPerf would have recorded.
pub(super) fn error(record: &RequestRecord) -> Option<ErrorDetails> {
    details(record.outcome, record.error.as_deref())
}

/// The same of an outcome and what was said of it.
pub(super) fn details(outcome: Outcome, error: Option<&str>) -> Option<ErrorDetails> {
    let (code, kind) = match outcome {
        Outcome::Ok => return None,
        Outcome::Http(status) => (Some(status), reason_phrase(status)),
        Outcome::Connect => (None, "ClientConnectorError"),
        Outcome::Timeout => (None, "TimeoutError"),
        Outcome::Stalled => (None, "SocketTimeoutError"),
        Outcome::Disconnected => (None, "ServerDisconnectedError"),
        Outcome::Malformed => (None, "ClientPayloadError"),
        Outcome::Empty => (None, "InvalidInferenceResultError"),
        Outcome::ServerError => (Some(502), "SSEResponseError"),
        Outcome::Cancelled => (Some(499), "RequestCancellationError"),
    };
    let message = error.map_or_else(|| outcome.to_string(), str::to_owned);
    Some(ErrorDetails { code, r#type: kind.to_owned(), message })
}

/// The phrase of a status line; AIPerf records it as the error's type, vLLM as the error.
pub(in crate::metrics::dialects) fn reason_phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Request Entity Too Large",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "HTTP error",
    }
}
