//! The metrics of a whole phase: every row of the CSV and every metric of the JSON.
//!
//! A port of AIPerf 0.13 `metrics/accumulator.py`, `derived_latency.py` and the derived metrics of `metrics/types/*`.

use super::curves::{Levels, Span, Timeline};
use super::requests::{PhaseRequests, Request};
use super::values::{FAILED_ISL, INTER_CHUNK_LATENCY, PER_REQUEST, PerRequest, counts_differ, osl_mismatch};
use super::weighted::Weighted;
use crate::metrics::record::ms;
use crate::metrics::stats::{Distribution, PERCENTILES};
use crate::metrics::summary::meets;
use crate::plan::LoadPoint;

/// A metric and its statistics, in display units.
pub(super) struct Metric {
    pub tag: String,
    pub header: String,
    pub unit: &'static str,
    pub stats: Stats,
}

/// Statistics of a metric; those it does not have are `None`. Not finite only in `adj_*` metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Stats {
    pub avg: Option<f64>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub sum: Option<f64>,
    /// In the order of [`PERCENTILES`].
    pub percentiles: [Option<f64>; 9],
    pub std: Option<f64>,
    pub count: Option<u64>,
}

impl Stats {
    fn full(d: &Distribution) -> Self {
        Self {
            avg: Some(d.avg),
            min: Some(d.min),
            max: Some(d.max),
            sum: Some(d.sum),
            percentiles: d.percentiles().map(Some),
            std: Some(d.std),
            count: Some(d.count),
        }
    }

    fn scalar(value: f64) -> Self {
        Self { avg: Some(value), ..Self::default() }
    }

    fn curve(w: Weighted, scale: f64) -> Self {
        let [avg, min, max, p50, p90, p95, p99, std] =
            [w.avg, w.min, w.max, w.p50, w.p90, w.p95, w.p99, w.std].map(|value| Some(value * scale));
        let percentiles = [None, None, None, None, p50, None, p90, p95, p99];
        Self { avg, min, max, percentiles, std, ..Self::default() }
    }

    /// `sorted` and `failures` infinitely late ones; percentiles are the nearest rank, ties to even, as numpy's.
    fn adjusted(sorted: &[f64], failures: usize) -> Self {
        let count = sorted.len() + failures;
        let nearest = |percent: f64| {
            let rank = (percent / 100.0 * (count - 1) as f64).round_ties_even() as usize;
            Some(sorted.get(rank).copied().unwrap_or(f64::INFINITY))
        };
        let infinite = Some(f64::INFINITY);
        Self {
            avg: infinite,
            min: sorted.first().copied(),
            max: infinite,
            sum: infinite,
            percentiles: PERCENTILES.map(nearest),
            std: None,
            count: Some(count as u64),
        }
    }
}

fn metric(tag: &str, header: &str, unit: &'static str, stats: Stats) -> Metric {
    Metric { tag: tag.to_owned(), header: header.to_owned(), unit, stats }
}

/// Every metric of the requests of one phase over `window` (µs), in AIPerf's order of computation.
pub(super) fn metrics(point: &LoadPoint, phase: &PhaseRequests, window: (u64, u64)) -> Vec<Metric> {
    let mut found = per_request(point.streaming, phase);
    let failed_isl = phase.all().iter().filter(|request| !request.is_good()).filter_map(FAILED_ISL.value);
    let failed_isl = phase.distribution(failed_isl);
    found.extend(failed_isl.map(|d| full(&FAILED_ISL, &d)));
    found.extend(counts(phase));
    found.extend(totals(phase));
    found.extend(rates(point, phase, ms(window.0, window.1) / 1e3));
    found.extend(failed_isl.map(|d| {
        metric("total_error_isl", "Total Error Input Sequence Length", "tokens", Stats::scalar(d.sum))
    }));
    if !phase.all().is_empty() {
        found.extend(curves(point.streaming, phase, (window.0 as f64, window.1 as f64)));
        found.extend(from_schedule(phase));
    }
    found
}

fn full(of: &PerRequest, d: &Distribution) -> Metric {
    metric(of.tag, of.header, of.unit, Stats::full(d))
}

fn per_request(streaming: bool, phase: &PhaseRequests) -> Vec<Metric> {
    let failures = phase.failures();
    let mut found = Vec::new();
    let mut adjusted = Vec::new();
    for of in PER_REQUEST.iter().filter(|of| of.scope.applies(streaming)) {
        let mut values = phase.values(phase.good().filter_map(of.value));
        let Some(d) = Distribution::of(&mut values) else { continue };
        found.push(full(of, &d));
        if failures > 0 && of.scope.adjusted() {
            adjusted.push(Metric {
                tag: format!("adj_{}", of.tag),
                header: format!("{} (error-adjusted)", of.header),
                unit: of.unit,
                stats: Stats::adjusted(&values, failures),
            });
        }
    }
    if streaming {
        let (tag, header, unit) = INTER_CHUNK_LATENCY;
        let pooled = phase.gaps().distribution_ms();
        found.extend(pooled.map(|d| metric(tag, header, unit, Stats::full(&d))));
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
    value.map(|value| metric(tag, header, unit, Stats::scalar(value)))
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
        let met = phase.good().filter(|request| meets(&request.figures, &point.slo, point.streaming)).count()
            as f64;
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
    /// It follows every chunk.
    by_chunk: bool,
    level: fn(&Levels) -> f64,
    /// For `active_*` rows: the level that is above 0 while they count.
    active: Option<fn(&Levels) -> f64>,
}

const fn curve(
    tag: &'static str,
    header: &'static str,
    unit: &'static str,
    by_chunk: bool,
    level: fn(&Levels) -> f64,
    active: Option<fn(&Levels) -> f64>,
) -> Curve {
    Curve { tag, header, unit, by_chunk, level, active }
}

const RATE: &str = "tokens/sec";
const PER_USER: &str = "tokens/sec/user";
const DECODING: Option<fn(&Levels) -> f64> = Some(|l| l.decode_concurrency);
const PREFILLING: Option<fn(&Levels) -> f64> = Some(|l| l.prefill_concurrency);
const ANY: Option<fn(&Levels) -> f64> = Some(|l| l.concurrency);

#[rustfmt::skip] // a table
const CURVES: [Curve; 14] = [
    curve("effective_concurrency", "Effective Concurrency", "requests", false, |l| l.concurrency, None),
    curve("effective_decode_throughput", "Effective Decode Throughput", RATE, true, |l| l.decode_rate, None),
    curve("effective_prefill_throughput", "Effective Prefill Throughput", RATE, false, |l| l.prefill_rate, None),
    curve("effective_decode_concurrency", "Effective Decode Concurrency", "requests", false, |l| l.decode_concurrency, None),
    curve("effective_prefill_concurrency", "Effective Prefill Concurrency", "requests", false, |l| l.prefill_concurrency, None),
    curve("effective_total_throughput", "Effective Total Throughput", RATE, false, |l| l.total_rate, None),
    curve("effective_decode_throughput_per_user", "Effective Decode Throughput Per User", PER_USER, true, Levels::decode_rate_per_user, None),
    curve("effective_prefill_throughput_per_user", "Effective Prefill Throughput Per User", PER_USER, false, Levels::prefill_rate_per_user, None),
    curve("tokens_in_flight", "Tokens In Flight", "tokens", true, |l| l.tokens_in_flight, None),
    curve("active_decode_throughput", "Active Decode Throughput", RATE, true, |l| l.decode_rate, DECODING),
    curve("active_prefill_throughput", "Active Prefill Throughput", RATE, false, |l| l.prefill_rate, PREFILLING),
    curve("active_decode_throughput_per_user", "Active Decode Throughput Per User", PER_USER, true, Levels::decode_rate_per_user, DECODING),
    curve("active_prefill_throughput_per_user", "Active Prefill Throughput Per User", PER_USER, false, Levels::prefill_rate_per_user, PREFILLING),
    curve("active_total_throughput", "Active Total Throughput", RATE, false, |l| l.total_rate, ANY),
];

/// The curves of all requests, failed ones included. Without streaming only the concurrency is known.
fn curves(streaming: bool, phase: &PhaseRequests, window: (f64, f64)) -> Vec<Metric> {
    const US_PER_S: f64 = 1e6;
    let requests = phase.all();
    let nothing = Span { start: 0.0, first: None, end: 0.0, isl: 0.0, osl: 0.0 };
    let at = |number: u32| requests.get(number as usize).map_or(nothing, |request| span(streaming, request));
    let timeline = Timeline::new(u32::try_from(requests.len()).unwrap_or(u32::MAX), at, phase.chunks());
    let known = CURVES.iter().take(if streaming { CURVES.len() } else { 1 });
    let row = |Curve { tag, header, unit, by_chunk, level, active }: &Curve| {
        let weighted = match active {
            None => timeline.over(window, *by_chunk, level),
            Some(active) => timeline.while_active(window, *by_chunk, level, |levels| active(levels) > 0.0),
        };
        let scale = if unit.contains("/sec") { US_PER_S } else { 1.0 };
        metric(tag, header, unit, Stats::curve(weighted, scale))
    };
    known.map(row).collect()
}

fn span(streaming: bool, request: &Request) -> Span {
    let Request { figures, .. } = request;
    let first = figures.first_us().filter(|_| streaming && request.is_good());
    Span {
        start: figures.sent_us as f64,
        first: first.map(|first| first as f64),
        end: figures.end_us.max(figures.sent_us) as f64,
        isl: figures.isl.into(),
        osl: figures.osl.into(),
    }
}

/// Latencies from the intended arrival, failed requests included.
fn from_schedule(phase: &PhaseRequests) -> Vec<Metric> {
    let latency = |tag, header, until: fn(&Request) -> u64| {
        let values = phase
            .distribution(phase.all().iter().map(|request| ms(request.figures.scheduled_us, until(request))));
        Some(metric(tag, header, "ms", Stats::full(&values?)))
    };
    let queued =
        latency("credit_to_start_latency", "Credit-to-Start Latency", |request| request.figures.sent_us);
    let perceived =
        latency("effective_latency", "Effective Latency (CO-aware)", |request| request.figures.end_us);
    queued.into_iter().chain(perceived).collect()
}
