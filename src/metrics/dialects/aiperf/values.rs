//! The metrics AIPerf has one value of per request: tag, header, unit and definition.
//!
//! A port of AIPerf 0.13 `metrics/types/*`. Times are ms, lengths tokens, speeds tokens per second.

use super::requests::Request;
use crate::metrics::record::CountSource;

/// A metric with at most one value per successful request.
pub(super) struct PerRequest {
    pub tag: &'static str,
    pub header: &'static str,
    pub unit: &'static str,
    /// Streaming only.
    pub streamed: bool,
    /// With failures there is an `adj_` twin as well (AIPerf's flag `PERCENTILE_INCLUDES_FAILED_REQUESTS`).
    pub adjusted: bool,
    /// Written as an integer in `profile_export.jsonl`.
    pub whole: bool,
    /// `None`: not applicable to this request.
    pub value: fn(&Request) -> Option<f64>,
}

impl PerRequest {
    /// Whether the metric exists in a run.
    pub(super) fn applies(&self, streaming: bool) -> bool {
        streaming || !self.streamed
    }

    const fn streamed(self) -> Self {
        Self { streamed: true, ..self }
    }

    const fn adjusted(self) -> Self {
        Self { adjusted: true, ..self }
    }
}

const MS: &str = "ms";
const PER_USER: &str = "tokens/sec/user";
const PERCENT: &str = "%";

/// The pooled gaps between chunks are the one metric with a list per request.
pub(super) const INTER_CHUNK_LATENCY: (&str, &str, &str) = ("inter_chunk_latency", "Inter Chunk Latency", MS);

const fn figure(
    tag: &'static str,
    header: &'static str,
    unit: &'static str,
    value: fn(&Request) -> Option<f64>,
) -> PerRequest {
    PerRequest { tag, header, unit, streamed: false, adjusted: false, whole: false, value }
}

const fn tokens(tag: &'static str, header: &'static str, value: fn(&Request) -> Option<f64>) -> PerRequest {
    PerRequest { whole: true, ..figure(tag, header, "tokens", value) }
}

/// All of successful requests, by tag.
pub(super) const PER_REQUEST: [PerRequest; 21] = [
    figure("decode_duration", "Decode Duration", MS, |r| r.figures.span_ms()).streamed().adjusted(),
    figure("e2e_output_token_throughput", "E2E Output Token Throughput", PER_USER, |r| {
        per_s(f64::from(r.figures.osl), r.figures.e2e_ms()?)
    }),
    tokens("input_sequence_length", "Input Sequence Length", |r| Some(f64::from(r.figures.isl))),
    figure("inter_token_latency", "Inter Token Latency", MS, |r| r.figures.itl_of_all_ms())
        .streamed()
        .adjusted(),
    figure("osl_mismatch_diff_pct", "OSL Mismatch Diff %", PERCENT, osl_mismatch_percent),
    tokens("output_sequence_length", "Output Sequence Length", |r| Some(f64::from(r.figures.osl))),
    tokens("output_token_count", "Output Token Count", output_tokens),
    figure("output_token_throughput_per_user", "Output Token Throughput Per User", PER_USER, |r| {
        per_s(1.0, r.figures.itl_of_all_ms()?)
    })
    .streamed(),
    figure("prefill_throughput_per_user", "Prefill Throughput Per User", PER_USER, |r| {
        per_s(f64::from(r.figures.isl), r.figures.ttft_ms()?)
    })
    .streamed(),
    tokens("reasoning_token_count", "Reasoning Token Count", reasoning_tokens),
    figure("request_latency", "Request Latency", MS, |r| r.figures.e2e_ms()).adjusted(),
    figure("time_to_first_output_token", "Time to First Output Token", MS, |r| r.figures.ttfo_ms())
        .streamed(),
    figure("time_to_first_token", "Time to First Token", MS, |r| r.figures.ttft_ms()).streamed().adjusted(),
    figure("time_to_second_token", "Time to Second Token", MS, |r| r.figures.ttst_ms()).streamed(),
    tokens("usage_completion_tokens", "Usage Completion Tokens", |r| Some(r.usage?.completion_tokens as f64)),
    figure("usage_completion_tokens_diff_pct", "Usage Completion Diff %", PERCENT, completion_diff),
    tokens("usage_prompt_cache_read_tokens", "Usage Prompt Cache Read Tokens", |r| {
        Some(r.usage?.cached_tokens? as f64)
    }),
    tokens("usage_prompt_tokens", "Usage Prompt Tokens", |r| Some(r.usage?.prompt_tokens as f64)),
    figure("usage_prompt_tokens_diff_pct", "Usage Prompt Diff %", PERCENT, prompt_diff),
    tokens("usage_reasoning_tokens", "Usage Reasoning Tokens", reasoning_tokens),
    tokens("usage_total_tokens", "Usage Total Tokens", |r| {
        r.usage.map(|usage| usage.prompt_tokens as f64 + usage.completion_tokens as f64)
    }),
];

/// Prompt tokens of failed requests, the only metric they have.
pub(super) const FAILED_ISL: PerRequest = tokens("error_isl", "Error Input Sequence Length", |r| {
    (r.figures.isl > 0).then_some(f64::from(r.figures.isl))
});

/// `amount` per second over `time_ms`; AIPerf has no value when no time passed.
fn per_s(amount: f64, time_ms: f64) -> Option<f64> {
    (time_ms > 0.0).then(|| amount / (time_ms / 1e3))
}

fn reasoning_tokens(request: &Request) -> Option<f64> {
    Some(request.usage?.reasoning_tokens? as f64)
}

/// Generated tokens less reasoning, never below 0; absent when that leaves none.
fn output_tokens(request: &Request) -> Option<f64> {
    let output = f64::from(request.figures.osl) - reasoning_tokens(request).unwrap_or(0.0);
    (output > 0.0).then_some(output)
}

fn osl_mismatch_percent(request: &Request) -> Option<f64> {
    let requested = f64::from(request.figures.osl_requested);
    (requested > 0.0).then(|| (f64::from(request.figures.osl) - requested) / requested * 100.0)
}

/// How far the server's count is from the client's, percent of the client's; absent when there is only the server's.
fn difference(server: u64, client: u64, source: CountSource) -> Option<f64> {
    (source != CountSource::Usage && client > 0)
        .then(|| (server as f64 - client as f64).abs() / client as f64 * 100.0)
}

fn prompt_diff(request: &Request) -> Option<f64> {
    difference(request.usage?.prompt_tokens, request.figures.isl.into(), request.figures.isl_source)
}

fn completion_diff(request: &Request) -> Option<f64> {
    difference(request.usage?.completion_tokens, request.figures.osl.into(), request.figures.osl_source)
}

/// AIPerf's thresholds of a wrong output length: 5 %, but never more than 50 tokens.
const OSL_MISMATCH: (f64, f64) = (0.05, 50.0);

/// AIPerf's threshold of counts that disagree, percent.
const COUNTS_DIFFER_PERCENT: f64 = 10.0;

/// Whether the answer is too long or too short by AIPerf's thresholds; `None` when no length was requested.
pub(super) fn osl_mismatch(request: &Request) -> Option<bool> {
    let allowed = (f64::from(request.figures.osl_requested) * OSL_MISMATCH.0).min(OSL_MISMATCH.1);
    let (osl, requested) = (request.figures.osl, request.figures.osl_requested);
    (requested > 0).then(|| f64::from(osl.abs_diff(requested)) > allowed)
}

/// Whether the server's and the client's counts disagree; `None` unless there are both of both.
pub(super) fn counts_differ(request: &Request) -> Option<bool> {
    let (prompt, completion) = (prompt_diff(request)?, completion_diff(request)?);
    Some(prompt > COUNTS_DIFFER_PERCENT || completion > COUNTS_DIFFER_PERCENT)
}
