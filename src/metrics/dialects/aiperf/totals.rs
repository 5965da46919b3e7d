//! The metrics of a whole phase: every row of the CSV and every metric of the JSON.
//!
//! A port of AIPerf 0.13 `metrics/accumulator.py`, `derived_latency.py` and the derived metrics of `metrics/types/*`.

use super::super::{COUNT, Stats};
use super::curves::{Curves, Steps, Weighted};
use super::requests::{PhaseRequests, Request};
use super::values::{FAILED_ISL, INTER_CHUNK_LATENCY, PER_REQUEST, PerRequest, counts_differ, osl_mismatch};
use crate::metrics::record::ms;
use crate::metrics::request_figures::RequestFigures;
use crate::metrics::stats::Distribution;
use crate::metrics::summary::within;
use crate::plan::LoadPoint;

/// A metric and its statistics, in display units. They are not finite only in `adj_*` metrics.
pub(super) struct Metric {
    pub tag: String,
    pub header: String,
    pub unit: &'static str,
    pub stats: Stats,
}

fn distribution(d: &Distribution) -> Stats {
    d.named().into_iter().chain([(COUNT, d.count as f64), ("sum", d.sum)]).collect()
}

/// `sorted` and `failures` infinitely late ones; percentiles are the nearest rank, ties to even, as numpy's.
fn error_adjusted(sorted: &[f64], failures: usize) -> Stats {
    let count = sorted.len() + failures;
    let nearest = |percent: f64| {
        let rank = (percent / 100.0 * (count - 1) as f64).round_ties_even() as usize;
        sorted.get(rank).copied().unwrap_or(f64::INFINITY)
    };
    let min = sorted.first().copied().unwrap_or(f64::INFINITY);
    let (max, count) = (f64::INFINITY, count as u64);
    let all = Distribution { avg: max, min, max, sum: max, count, ..Distribution::default() };
    let mut stats = distribution(&all.with_percentiles(nearest));
    stats.retain(|(name, _)| *name != "std");
    stats
}

fn weighted(w: Weighted, scale: f64) -> Stats {
    let stats = [
        ("avg", w.avg),
        ("p50", w.p50),
        ("p90", w.p90),
        ("p95", w.p95),
        ("p99", w.p99),
        ("min", w.min),
        ("max", w.max),
        ("std", w.std),
    ];
    stats.map(|(name, value)| (name, value * scale)).into()
}

fn metric(tag: &str, header: &str, unit: &'static str, stats: Stats) -> Metric {
    Metric { tag: tag.to_owned(), header: header.to_owned(), unit, stats }
}

/// Every metric of the requests of one phase over `window` (µs), in AIPerf's order of computation.
pub(super) fn metrics(point: &LoadPoint, phase: &mut PhaseRequests, window: (u64, u64)) -> Vec<Metric> {
    let mut found = per_request(point.streaming, phase);
    let failed_isl = phase.all().iter().filter(|request| !request.is_good()).filter_map(FAILED_ISL.value);
    let failed_isl = phase.distribution(failed_isl);
    found.extend(failed_isl.map(|d| full(&FAILED_ISL, &d)));
    found.extend(counts(phase));
    found.extend(totals(phase));
    found.extend(rates(point, phase, ms(window.0, window.1) / 1e3));
    found.extend(failed_isl.map(|d| {
        metric("total_error_isl", "Total Error Input Sequence Length", "tokens", vec![("avg", d.sum)])
    }));
    if !phase.all().is_empty() {
        found.extend(curves(point.streaming, phase, (window.0 as f64, window.1 as f64)));
        found.extend(from_schedule(phase));
    }
    found
}

fn full(of: &PerRequest, d: &Distribution) -> Metric {
    metric(of.tag, of.header, of.unit, distribution(d))
}

/// Metrics of the time between tokens.
const PACE: [&str; 3] = ["decode_duration", "inter_token_latency", "output_token_throughput_per_user"];

/// Whether no answer was streamed as it was generated.
fn none_has_pace(phase: &PhaseRequests) -> bool {
    RequestFigures::none_has_pace(phase.good().map(|request| &request.figures))
}

fn per_request(streaming: bool, phase: &PhaseRequests) -> Vec<Metric> {
    let failures = phase.failures();
    let mut found = Vec::new();
    let mut adjusted = Vec::new();
    let is_held_back = none_has_pace(phase);
    let applies = |of: &&PerRequest| of.applies(streaming) && !(is_held_back && PACE.contains(&of.tag));
    for of in PER_REQUEST.iter().filter(applies) {
        let mut values = phase.values(phase.good().filter_map(of.value));
        let Some(d) = Distribution::of(&mut values) else { continue };
        found.push(full(of, &d));
        if failures > 0 && of.adjusted {
            adjusted.push(Metric {
                tag: format!("adj_{}", of.tag),
                header: format!("{} (error-adjusted)", of.header),
                unit: of.unit,
                stats: error_adjusted(&values, failures),
            });
        }
    }
    if streaming {
        let (tag, header, unit) = INTER_CHUNK_LATENCY;
        let pooled = phase.gaps().distribution_ms();
        found.extend(pooled.map(|d| metric(tag, header, unit, distribution(&d))));
    }
    found.append(&mut adjusted);
    found
}

/// Sums of a per-request metric: total's tag and header, the metric's tag.
const TOTALS: [(&str, &str, &str); 9] = [
    ("total_isl", "Total Input Sequence Length", "input_sequence_length"),
    ("total_osl", "Total Output Sequence Length", "output_sequence_length"),
    ("total_output_tokens", "Total Output Tokens", "output_token_count"),
    ("total_reasoning_tokens", "Total Reasoning Tokens", "reasoning_token_count"),
    ("total_usage_completion_tokens", "Total Usage Completion Tokens", "usage_completion_tokens"),
    (
        "total_usage_prompt_cache_read_tokens",
        "Total Usage Prompt Cache Read Tokens",
        "usage_prompt_cache_read_tokens",
    ),
    ("total_usage_prompt_tokens", "Total Usage Prompt Tokens", "usage_prompt_tokens"),
    ("total_usage_reasoning_tokens", "Total Usage Reasoning Tokens", "usage_reasoning_tokens"),
    ("total_usage_total_tokens", "Total Usage Total Tokens", "usage_total_tokens"),
];

/// Sum of the metric `tag` over the good requests; `None` when none has it.
fn total(tag: &str, phase: &PhaseRequests) -> Option<f64> {
    let of = PER_REQUEST.iter().find(|of| of.tag == tag)?;
    let mut values = phase.good().filter_map(of.value).peekable();
    values.peek()?;
    Some(values.sum())
}

/// A single value, or nothing.
fn scalar(tag: &str, header: &str, unit: &'static str, value: Option<f64>) -> Option<Metric> {
    value.map(|value| metric(tag, header, unit, vec![("avg", value)]))
}

fn counts(phase: &PhaseRequests) -> Vec<Metric> {
    let present = |count: usize| (count > 0).then_some(count as f64);
    let (good, failures) = (phase.good().count(), phase.failures());
    let all = present(good + failures);
    let error_rate = all.map(|all| 100.0 * failures as f64 / all);
    let found = [
        scalar("request_count", "Request Count", "requests", present(good)),
        scalar("error_request_count", "Error Request Count", "requests", present(failures)),
        scalar("completed_request_count", "Completed Requests (Success + Error)", "requests", all),
        scalar("request_error_rate", "Request Error Rate", "%", error_rate),
        scalar("osl_mismatch_count", "OSL Mismatch Count", "requests", count_of(phase, osl_mismatch)),
        scalar(
            "usage_discrepancy_count",
            "Usage Discrepancy Count",
            "requests",
            count_of(phase, counts_differ),
        ),
    ];
    found.into_iter().flatten().collect()
}

fn totals(phase: &PhaseRequests) -> Vec<Metric> {
    let sums = TOTALS.iter().map(|(tag, header, of)| scalar(tag, header, "tokens", total(of, phase)));
    let (read, prompts) =
        (total("usage_prompt_cache_read_tokens", phase), total("usage_prompt_tokens", phase));
    let prompts = prompts.filter(|prompts| *prompts > 0.0);
    let read_percent = read.zip(prompts).map(|(read, prompts)| read / prompts * 100.0);
    let share =
        scalar("overall_usage_prompt_cache_read_pct", "Overall Usage Prompt Cache Read %", "%", read_percent);
    sums.chain([share]).flatten().collect()
}

fn rates(point: &LoadPoint, phase: &PhaseRequests, window_s: f64) -> Vec<Metric> {
    let duration_s = duration_s(phase);
    let (good, failures) = (phase.good().count(), phase.failures());
    let per_s = |amount: Option<f64>| {
        amount.filter(|_| duration_s.is_some() && window_s > 0.0).map(|amount| amount / window_s)
    };
    let completed = (good > 0).then_some(good as f64);
    let (isl, osl) = (total("input_sequence_length", phase), total("output_sequence_length", phase));
    let both = isl.zip(osl).map(|(isl, osl)| isl + osl);
    let mut found = vec![
        scalar("benchmark_duration", "Benchmark Duration", "sec", duration_s),
        scalar("request_throughput", "Request Throughput", "requests/sec", per_s(completed)),
        scalar("input_token_throughput", "Input Token Throughput", "tokens/sec", per_s(isl)),
        scalar("output_token_throughput", "Output Token Throughput", "tokens/sec", per_s(osl)),
        scalar("total_token_throughput", "Total Token Throughput", "tokens/sec", per_s(both)),
    ];
    if !point.slo.is_empty() {
        let unmet = point.slo.itl_ms.is_some() && none_has_pace(phase);
        let met = phase.good().filter(|request| !unmet && meets(&request.figures, point)).count() as f64;
        let share = met / (good + failures).max(1) as f64;
        let met = completed.map(|_| met);
        found.extend([
            scalar("good_request_count", "Good Request Count", "requests", met),
            scalar("good_request_fraction", "GoodRequestFraction", "ratio", Some(share)),
            scalar("goodput", "Goodput", "requests/sec", per_s(met)),
        ]);
    }
    found.into_iter().flatten().collect()
}

/// Whether a request meets every objective by AIPerf's definitions.
fn meets(request: &RequestFigures, LoadPoint { slo, streaming, .. }: &LoadPoint) -> bool {
    within(slo.ttft_ms, request.ttft_ms().filter(|_| *streaming))
        && within(slo.itl_ms, request.itl_of_all_ms().filter(|_| *streaming))
        && within(slo.e2e_ms, request.e2e_ms())
}

/// How many requests hold; `None` when it applies to none.
fn count_of(phase: &PhaseRequests, holds: fn(&Request) -> Option<bool>) -> Option<f64> {
    let mut held = phase.good().filter_map(holds).peekable();
    held.peek()?;
    Some(held.filter(|held| *held).count() as f64)
}

/// First sent → last content, seconds; `None` when no time passed.
fn duration_s(phase: &PhaseRequests) -> Option<f64> {
    let first = phase.good().map(|request| request.figures.sent_us).min()?;
    let last = phase.good().filter_map(|request| request.figures.last_us()).max()?;
    (last > first).then(|| ms(first, last) / 1e3)
}

/// A row that is a curve.
struct Curve {
    tag: &'static str,
    header: &'static str,
    unit: &'static str,
    level: fn(&Curves) -> &Steps,
    /// The users that the value depends on beside the level.
    users: fn(&Curves) -> &Steps,
    /// The value at a level and a number of users; `None` where it does not count.
    value: fn(f64, f64) -> Option<f64>,
}

const fn curve(
    tag: &'static str,
    header: &'static str,
    unit: &'static str,
    level: fn(&Curves) -> &Steps,
    users: fn(&Curves) -> &Steps,
    value: fn(f64, f64) -> Option<f64>,
) -> Curve {
    Curve { tag, header, unit, level, users, value }
}

fn plain(level: f64, _users: f64) -> Option<f64> {
    Some(level)
}

/// 0 where there are none (`divide_step_functions`).
fn per_user(level: f64, users: f64) -> Option<f64> {
    Some(if users > 0.0 { level / users } else { 0.0 })
}

fn active(level: f64, users: f64) -> Option<f64> {
    (users > 0.0).then_some(level)
}

fn active_per_user(level: f64, users: f64) -> Option<f64> {
    (users > 0.0).then(|| level / users)
}

const RATE: &str = "tokens/sec";
const PER_USER: &str = "tokens/sec/user";

#[rustfmt::skip] // a table
const CURVES: [Curve; 14] = [
    curve("effective_concurrency", "Effective Concurrency", "requests", |c| &c.concurrency, |c| &c.concurrency, plain),
    curve("effective_decode_throughput", "Effective Decode Throughput", RATE, |c| &c.decode_rate, |c| &c.decode_rate, plain),
    curve("effective_prefill_throughput", "Effective Prefill Throughput", RATE, |c| &c.prefill_rate, |c| &c.prefill_rate, plain),
    curve("effective_decode_concurrency", "Effective Decode Concurrency", "requests", |c| &c.decode_concurrency, |c| &c.decode_concurrency, plain),
    curve("effective_prefill_concurrency", "Effective Prefill Concurrency", "requests", |c| &c.prefill_concurrency, |c| &c.prefill_concurrency, plain),
    curve("effective_total_throughput", "Effective Total Throughput", RATE, |c| &c.total_rate, |c| &c.total_rate, plain),
    curve("effective_decode_throughput_per_user", "Effective Decode Throughput Per User", PER_USER, |c| &c.decode_rate, |c| &c.decode_concurrency, per_user),
    curve("effective_prefill_throughput_per_user", "Effective Prefill Throughput Per User", PER_USER, |c| &c.prefill_rate, |c| &c.prefill_concurrency, per_user),
    curve("tokens_in_flight", "Tokens In Flight", "tokens", |c| &c.tokens_in_flight, |c| &c.tokens_in_flight, plain),
    curve("active_decode_throughput", "Active Decode Throughput", RATE, |c| &c.decode_rate, |c| &c.decode_concurrency, active),
    curve("active_prefill_throughput", "Active Prefill Throughput", RATE, |c| &c.prefill_rate, |c| &c.prefill_concurrency, active),
    curve("active_decode_throughput_per_user", "Active Decode Throughput Per User", PER_USER, |c| &c.decode_rate, |c| &c.decode_concurrency, active_per_user),
    curve("active_prefill_throughput_per_user", "Active Prefill Throughput Per User", PER_USER, |c| &c.prefill_rate, |c| &c.prefill_concurrency, active_per_user),
    curve("active_total_throughput", "Active Total Throughput", RATE, |c| &c.total_rate, |c| &c.concurrency, active),
];

/// The curves of all requests. Without streaming only the concurrency is known.
fn curves(streaming: bool, phase: &mut PhaseRequests, window: (f64, f64)) -> Vec<Metric> {
    const US_PER_S: f64 = 1e6;
    let curves = phase.curves();
    let row = |curve: &Curve| {
        let over = (curve.level)(&curves).over((curve.users)(&curves), window, curve.value);
        let scale = if curve.unit.contains("/sec") { US_PER_S } else { 1.0 };
        metric(curve.tag, curve.header, curve.unit, weighted(over, scale))
    };
    CURVES.iter().take(if streaming { CURVES.len() } else { 1 }).map(row).collect()
}

/// Latencies from the intended arrival, failed requests included.
fn from_schedule(phase: &PhaseRequests) -> Vec<Metric> {
    let latency = |tag, header, until: fn(&Request) -> u64| {
        let values = phase
            .distribution(phase.all().iter().map(|request| ms(request.figures.scheduled_us, until(request))));
        Some(metric(tag, header, "ms", distribution(&values?)))
    };
    let queued =
        latency("credit_to_start_latency", "Credit-to-Start Latency", |request| request.figures.sent_us);
    let perceived =
        latency("effective_latency", "Effective Latency (CO-aware)", |request| request.figures.end_us);
    queued.into_iter().chain(perceived).collect()
}
