//! The metrics of a whole phase: every row of the CSV and every metric of the JSON.
//!
//! A port of AIPerf 0.13 `metrics/accumulator.py`, `derived_latency.py` and the derived metrics of `metrics/types/*`.
//! Arrow: `values`, `curves`, `stats` → here → `csv`, `json`.

use super::curves::{Curve, Curves, Span, Weighted};
use super::values::{FAILED_ISL, INTER_CHUNK_LATENCY, PER_REQUEST, PerRequest, counts_differ, osl_mismatch};
use crate::metrics::record::{Phase, PointRun, RequestRecord, ms};
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
pub(super) fn metrics(point: &LoadPoint, run: &PointRun, phase: Phase, window: (u64, u64)) -> Vec<Metric> {
    let records: Vec<&RequestRecord> = run.records.iter().filter(|record| record.phase == phase).collect();
    let (good, failed): (Vec<&RequestRecord>, Vec<_>) = records.iter().partition(|r| is_good(r));
    let mut found = per_request(point.streaming, &good, failed.len());
    let failed_isl = Distribution::of(&mut failed.iter().filter_map(|r| (FAILED_ISL.value)(r)).collect());
    found.extend(failed_isl.map(|d| full(&FAILED_ISL, &d)));
    found.extend(counts(&good, failed.len()));
    found.extend(totals(&good));
    found.extend(rates(point, &good, failed.len(), ms(window.0, window.1) / 1e3));
    found.extend(failed_isl.map(|d| {
        metric("total_error_isl", "Total Error Input Sequence Length", "tokens", Stats::scalar(d.sum))
    }));
    if !records.is_empty() {
        found.extend(curves(point.streaming, &records, (window.0 as f64, window.1 as f64)));
        found.extend(from_schedule(&records));
    }
    found
}

/// Whether AIPerf would call the record valid.
pub(super) fn is_good(record: &RequestRecord) -> bool {
    record.outcome == crate::metrics::record::Outcome::Ok
}

fn full(of: &PerRequest, d: &Distribution) -> Metric {
    metric(of.tag, of.header, of.unit, Stats::full(d))
}

fn per_request(streaming: bool, good: &[&RequestRecord], failures: usize) -> Vec<Metric> {
    let mut found = Vec::new();
    let mut adjusted = Vec::new();
    for of in PER_REQUEST.iter().filter(|of| of.scope.applies(streaming)) {
        let mut values: Vec<f64> = good.iter().filter_map(|record| (of.value)(record)).collect();
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
        let pooled = Distribution::of(&mut good.iter().flat_map(|record| record.icl_ms()).collect());
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

/// Sum of the metric `tag` over `good`; `None` when no request has it.
fn total(tag: &str, good: &[&RequestRecord]) -> Option<f64> {
    let of = PER_REQUEST.iter().find(|of| of.tag == tag)?;
    let mut values = good.iter().filter_map(|record| (of.value)(record)).peekable();
    values.peek()?;
    Some(values.sum())
}

/// A single value, or nothing.
fn scalar(tag: &str, header: &str, unit: &'static str, value: Option<f64>) -> Option<Metric> {
    value.map(|value| metric(tag, header, unit, Stats::scalar(value)))
}

fn counts(good: &[&RequestRecord], failures: usize) -> Vec<Metric> {
    let present = |count: usize| (count > 0).then_some(count as f64);
    let all = present(good.len() + failures);
    let error_rate = all.map(|all| 100.0 * failures as f64 / all);
    let found = [
        scalar("request_count", "Request Count", "requests", present(good.len())),
        scalar("error_request_count", "Error Request Count", "requests", present(failures)),
        scalar("completed_request_count", "Completed Requests (Success + Error)", "requests", all),
        scalar("request_error_rate", "Request Error Rate", "%", error_rate),
        scalar("osl_mismatch_count", "OSL Mismatch Count", "requests", count_of(good, osl_mismatch)),
        scalar(
            "usage_discrepancy_count",
            "Usage Discrepancy Count",
            "requests",
            count_of(good, counts_differ),
        ),
    ];
    found.into_iter().flatten().collect()
}

fn totals(good: &[&RequestRecord]) -> Vec<Metric> {
    let sums = TOTALS.iter().map(|(tag, header, of)| scalar(tag, header, "tokens", total(of, good)));
    let (read, prompts) = (total("usage_prompt_cache_read_tokens", good), total("usage_prompt_tokens", good));
    let prompts = prompts.filter(|prompts| *prompts > 0.0);
    let read_percent = read.zip(prompts).map(|(read, prompts)| read / prompts * 100.0);
    let share =
        scalar("overall_usage_prompt_cache_read_pct", "Overall Usage Prompt Cache Read %", "%", read_percent);
    sums.chain([share]).flatten().collect()
}

fn rates(point: &LoadPoint, good: &[&RequestRecord], failures: usize, window_s: f64) -> Vec<Metric> {
    let duration_s = duration_s(good);
    let per_s = |amount: Option<f64>| {
        amount.filter(|_| duration_s.is_some() && window_s > 0.0).map(|amount| amount / window_s)
    };
    let completed = (!good.is_empty()).then_some(good.len() as f64);
    let (isl, osl) = (total("input_sequence_length", good), total("output_sequence_length", good));
    let both = isl.zip(osl).map(|(isl, osl)| isl + osl);
    let mut found = vec![
        scalar("benchmark_duration", "Benchmark Duration", "sec", duration_s),
        scalar("request_throughput", "Request Throughput", "requests/sec", per_s(completed)),
        scalar("input_token_throughput", "Input Token Throughput", "tokens/sec", per_s(isl)),
        scalar("output_token_throughput", "Output Token Throughput", "tokens/sec", per_s(osl)),
        scalar("total_token_throughput", "Total Token Throughput", "tokens/sec", per_s(both)),
    ];
    if !point.slo.is_empty() {
        let met = good.iter().filter(|record| meets(record, &point.slo, point.streaming)).count() as f64;
        let share = met / (good.len() + failures).max(1) as f64;
        let met = completed.map(|_| met);
        found.extend([
            scalar("good_request_count", "Good Request Count", "requests", met),
            scalar("good_request_fraction", "GoodRequestFraction", "ratio", Some(share)),
            scalar("goodput", "Goodput", "requests/sec", per_s(met)),
        ]);
    }
    found.into_iter().flatten().collect()
}

/// How many records hold; `None` when it applies to none.
fn count_of(good: &[&RequestRecord], holds: fn(&RequestRecord) -> Option<bool>) -> Option<f64> {
    let mut held = good.iter().filter_map(|record| holds(record)).peekable();
    held.peek()?;
    Some(held.filter(|held| *held).count() as f64)
}

/// First sent → last content, seconds; `None` when no time passed.
fn duration_s(good: &[&RequestRecord]) -> Option<f64> {
    let first = good.iter().map(|record| record.sent_us).min()?;
    let last = good.iter().filter_map(|record| record.chunks_us.last()).max()?;
    (*last > first).then(|| ms(first, *last) / 1e3)
}

/// A row that is a curve: tag, header, unit, the curve and, for the `active_*` rows, the curve that says when.
type CurveRow = (&'static str, &'static str, &'static str, fn(&Curves) -> (&Curve, Option<&Curve>));

const RATE: &str = "tokens/sec";
const PER_USER: &str = "tokens/sec/user";

#[rustfmt::skip] // a table
const CURVES: [CurveRow; 14] = [
    ("effective_concurrency", "Effective Concurrency", "requests", |c| (&c.concurrency, None)),
    ("effective_decode_throughput", "Effective Decode Throughput", RATE, |c| (&c.decode_rate, None)),
    ("effective_prefill_throughput", "Effective Prefill Throughput", RATE, |c| (&c.prefill_rate, None)),
    ("effective_decode_concurrency", "Effective Decode Concurrency", "requests", |c| (&c.decode_concurrency, None)),
    ("effective_prefill_concurrency", "Effective Prefill Concurrency", "requests", |c| (&c.prefill_concurrency, None)),
    ("effective_total_throughput", "Effective Total Throughput", RATE, |c| (&c.total_rate, None)),
    ("effective_decode_throughput_per_user", "Effective Decode Throughput Per User", PER_USER, |c| (&c.decode_rate_per_user, None)),
    ("effective_prefill_throughput_per_user", "Effective Prefill Throughput Per User", PER_USER, |c| (&c.prefill_rate_per_user, None)),
    ("tokens_in_flight", "Tokens In Flight", "tokens", |c| (&c.tokens_in_flight, None)),
    ("active_decode_throughput", "Active Decode Throughput", RATE, |c| (&c.decode_rate, Some(&c.decode_concurrency))),
    ("active_prefill_throughput", "Active Prefill Throughput", RATE, |c| (&c.prefill_rate, Some(&c.prefill_concurrency))),
    ("active_decode_throughput_per_user", "Active Decode Throughput Per User", PER_USER, |c| (&c.decode_rate_per_user, Some(&c.decode_concurrency))),
    ("active_prefill_throughput_per_user", "Active Prefill Throughput Per User", PER_USER, |c| (&c.prefill_rate_per_user, Some(&c.prefill_concurrency))),
    ("active_total_throughput", "Active Total Throughput", RATE, |c| (&c.total_rate, Some(&c.concurrency))),
];

/// The curves of all requests, failed ones included. Without streaming only the concurrency is known.
fn curves(streaming: bool, records: &[&RequestRecord], window: (f64, f64)) -> Vec<Metric> {
    const US_PER_S: f64 = 1e6;
    let spans: Vec<Span<'_>> = records.iter().map(|record| span(streaming, record)).collect();
    let curves = Curves::of(&spans);
    let known = CURVES.iter().take(if streaming { CURVES.len() } else { 1 });
    let row = |(tag, header, unit, pick): &CurveRow| {
        let weighted = match pick(&curves) {
            (curve, None) => curve.over(window),
            (curve, Some(mask)) => curve.while_active(mask, window),
        };
        let scale = if unit.contains("/sec") { US_PER_S } else { 1.0 };
        metric(tag, header, unit, Stats::curve(weighted, scale))
    };
    known.map(row).collect()
}

fn span(streaming: bool, record: &RequestRecord) -> Span<'_> {
    let tokens = streaming && is_good(record);
    let chunks = if tokens { record.chunks_us.as_slice() } else { &[] };
    Span {
        start: record.sent_us as f64,
        first: chunks.first().map(|first| *first as f64),
        end: record.end_us.max(record.sent_us) as f64,
        chunks,
        isl: record.isl as f64,
        osl: record.osl as f64,
    }
}

/// Latencies from the intended arrival, failed requests included.
fn from_schedule(records: &[&RequestRecord]) -> Vec<Metric> {
    let latency = |tag, header, until: fn(&RequestRecord) -> u64| {
        let mut values = records.iter().map(|record| ms(record.scheduled_us, until(record))).collect();
        Some(metric(tag, header, "ms", Stats::full(&Distribution::of(&mut values)?)))
    };
    let queued = latency("credit_to_start_latency", "Credit-to-Start Latency", |record| record.sent_us);
    let perceived = latency("effective_latency", "Effective Latency (CO-aware)", |record| record.end_us);
    queued.into_iter().chain(perceived).collect()
}
