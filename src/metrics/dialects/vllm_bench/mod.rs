//! The result of `vllm bench serve --save-result --save-detailed`, vLLM 0.32: one JSON object on one line.
//!
//! Keys, their order, units and definitions are vLLM's. Checked against files that `vllm bench serve` wrote and against
//! figures recomputed from the arrays in them (`tests/it/vllm_bench_oracle.rs`). The statistics are those of
//! `--percentile-metrics ttft,tpot,itl,e2el --metric-percentiles 50,90,95,99`.
//!
//! What cannot be reproduced:
//! - vLLM's first token is the first chunk with `choices`, the role-only chunk of a chat answer included, and its last is
//!   the finish chunk. Records hold chunks with content: here TTFT is later, the first gap shorter and E2EL earlier by as
//!   much as those chunks are away from the content.
//! - `generated_texts` are empty strings: records keep no text.
//! - Token counts are the record's: `usage`, else the client's tokenizer.
//! - `start_times` count from the start of the load point; vLLM's monotonic clock has an origin of its own.
//! - `date` and the file name are UTC; vLLM writes local time without saying so.
//!
//! What differs, on purpose:
//! - Streaming off, a mode `vllm bench serve` does not have: `ttfts` are 0, `itls` empty, `max_output_tokens_per_s` is 0,
//!   and of the statistics only `e2el` is there, as with `--percentile-metrics e2el`.
//! - When no answer was streamed as it was generated, the statistics of TPOT are null, and no objective on it is met.
//! - A window without length has throughput 0; vLLM divides by it.
//! - Keys of ours stand where `--metadata` puts its own: `generator`, `simulated`, and `is_complete` (`"false"`) for a point
//!   that was cut short.

mod json;
mod peaks;
#[cfg(test)]
mod tests;
mod totals;

pub use json::write;

use super::{Results, file_name_of_model, offered, time_stamp};
use crate::metrics::record::PointRun;
use crate::metrics::request_figures::RequestFigures;
use crate::plan::{Endpoint, LoadPoint};

/// `{backend}-{request_rate}qps[-concurrency{N}]-{base_model}-{YYYYmmdd-HHMMSS}.json`, the time of the start of the point.
pub fn file_name(point: &LoadPoint, run: &PointRun, model: &str) -> String {
    let offered = offered(point);
    // `{:?}` of a float is Python's `str`: 10.0 stays 10.0.
    let rate = offered.rate.map_or_else(|| "inf".to_owned(), |rate| format!("{rate:?}"));
    let concurrency = offered.concurrency.map(|n| format!("-concurrency{n}")).unwrap_or_default();
    let (backend, model, time) = (backend(point.endpoint), file_name_of_model(model), time_stamp(run));
    format!("{backend}-{rate}qps{concurrency}-{model}-{time}.json")
}

/// vLLM's `--backend` for the endpoint.
fn backend(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Chat => "openai-chat",
        Endpoint::Completions => "openai",
    }
}

/// vLLM's `success`: an answer with at least one chunk.
fn succeeded(request: &RequestFigures) -> bool {
    request.outcome == crate::metrics::record::Outcome::Ok && request.has_content()
}

/// Seconds between two instants; 0 when they are out of order.
fn seconds(from_us: u64, to_us: u64) -> f64 {
    to_us.saturating_sub(from_us) as f64 / 1e6
}

/// Sent → first content, seconds. 0 when there was none, as vLLM leaves it.
fn ttft_s(request: &RequestFigures) -> f64 {
    request.first_us().map_or(0.0, |first| seconds(request.sent_us, first))
}

/// Sent → last content, seconds; 0 for a failed request.
fn latency_s(request: &RequestFigures) -> f64 {
    match request.last_us() {
        Some(last) if succeeded(request) => seconds(request.sent_us, last),
        _ => 0.0,
    }
}

/// (E2EL − TTFT) / (output tokens − 1), seconds; `None` for one token or none.
fn tpot_s(request: &RequestFigures) -> Option<f64> {
    let (first, last) = (request.first_us()?, request.last_us()?);
    (request.osl > 1).then(|| seconds(first, last) / f64::from(request.osl - 1))
}
