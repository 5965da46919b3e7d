//! How a failed request looks in AIPerf's words: `error` of `profile_export.jsonl`, `error_summary` of the JSON export.

use crate::metrics::record::{Outcome, RequestRecord};
use indexmap::IndexMap;
use serde::Serialize;

/// AIPerf's `ErrorDetails`; absent fields are not written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub(super) struct ErrorDetails {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    r#type: &'static str,
    message: String,
}

/// The error of a record, `None` for a good one. Types are the exception names AIPerf would have recorded.
pub(super) fn error(record: &RequestRecord) -> Option<ErrorDetails> {
    details(record.outcome, record.error.as_deref())
}

/// Distinct errors that are kept. Beyond that, as when each names its own request, only the outcome is counted.
const MOST_ERRORS: usize = 1_000;

/// How often each distinct error occurred, in order of first appearance.
#[derive(Debug, Default)]
pub(super) struct ErrorTally(pub(super) IndexMap<ErrorDetails, u64>);

impl ErrorTally {
    pub(super) fn add(&mut self, record: &RequestRecord) {
        let is_full = |details: &ErrorDetails| self.0.len() >= MOST_ERRORS && !self.0.contains_key(details);
        let details = match error(record) {
            Some(details) if is_full(&details) => self::details(record.outcome, None),
            details => details,
        };
        if let Some(details) = details {
            *self.0.entry(details).or_default() += 1;
        }
    }
}

/// The same from the outcome and the error text.
fn details(outcome: Outcome, error: Option<&str>) -> Option<ErrorDetails> {
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
    Some(ErrorDetails { code, r#type: kind, message })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{failed, record};

    fn tally(records: impl Iterator<Item = RequestRecord>) -> ErrorTally {
        let mut tally = ErrorTally::default();
        records.for_each(|record| tally.add(&record));
        tally
    }

    #[test]
    fn errors_are_counted_in_order_of_appearance() {
        let outcomes = [Outcome::Timeout, Outcome::Http(503), Outcome::Timeout];
        let failed = outcomes.into_iter().map(|outcome| failed(0, 0, outcome));
        let tally = tally([record(1, 0)].into_iter().chain(failed));
        let counts = tally.0.iter().map(|(details, count)| (details.code, *count));
        assert_eq!(counts.collect::<Vec<_>>(), [(None, 2), (Some(503), 1)]);
    }

    #[test]
    fn errors_that_all_differ_do_not_pile_up() {
        let each = |id: u64| RequestRecord {
            error: Some(format!("request {id}")),
            ..failed(id, 0, Outcome::Http(500))
        };
        let tally = tally((0..5_000).map(each));
        assert_eq!(tally.0.len(), MOST_ERRORS + 1);
        assert_eq!(
            tally.0.last().map(|(details, count)| (details.message.as_str(), *count)),
            Some(("http_500", 4_000))
        );
    }
}
