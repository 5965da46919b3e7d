//! The metrics of a whole phase: every row of the CSV and every metric of the JSON.
//!
//! A port of AIPerf 0.13 `metrics/accumulator.py`, `derived_latency.py` and the derived metrics of `metrics/types/*`.

use super::Results;
use super::curves::{Chunks, Levels, MAX_GAPS, Span, Timeline, Weighted};
use super::values::{FAILED_ISL, INTER_CHUNK_LATENCY, PER_REQUEST, PerRequest, counts_differ, osl_mismatch};
use crate::metrics::record::{Outcome, Phase, ms};
use crate::metrics::row::Row;
use crate::metrics::stats::{Distribution, PERCENTILES};
use crate::metrics::summary::meets;
use crate::plan::LoadPoint;
use std::io;

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

/// The requests of one phase.
#[derive(Clone, Copy)]
struct Part<'a> {
    results: &'a Results<'a>,
    phase: Phase,
}

impl<'a> Part<'a> {
    fn all(self) -> impl Iterator<Item = &'a Row> {
        self.results.fold.of_phase(self.phase)
    }

    fn good(self) -> impl Iterator<Item = &'a Row> {
        self.all().filter(|row| is_good(row))
    }

    fn failures(self) -> usize {
        self.all().filter(|row| !is_good(row)).count()
    }

    fn distribution(self, values: impl Iterator<Item = f64>) -> Option<Distribution> {
        Distribution::of(&mut self.results.fold.values(values))
    }
}

/// Every metric of the requests of one phase over `window` (µs), in AIPerf's order of computation.
pub(super) fn metrics(results: &Results<'_>, phase: Phase, window: (u64, u64)) -> io::Result<Vec<Metric>> {
    let (point, part) = (results.point, Part { results, phase });
    let mut found = per_request(point.streaming, part);
    let failed_isl = part.all().filter(|row| !is_good(row)).filter_map(|row| (FAILED_ISL.value)(row));
    let failed_isl = part.distribution(failed_isl);
    found.extend(failed_isl.map(|d| full(&FAILED_ISL, &d)));
    found.extend(counts(part));
    found.extend(totals(part));
    found.extend(rates(point, part, ms(window.0, window.1) / 1e3));
    found.extend(failed_isl.map(|d| {
        metric("total_error_isl", "Total Error Input Sequence Length", "tokens", Stats::scalar(d.sum))
    }));
    if part.all().next().is_some() {
        found.extend(curves(point.streaming, part, (window.0 as f64, window.1 as f64))?);
        found.extend(from_schedule(part));
    }
    Ok(found)
}

/// Whether AIPerf would call the request valid.
pub(super) fn is_good(row: &Row) -> bool {
    row.outcome() == Outcome::Ok
}

fn full(of: &PerRequest, d: &Distribution) -> Metric {
    metric(of.tag, of.header, of.unit, Stats::full(d))
}

fn per_request(streaming: bool, part: Part<'_>) -> Vec<Metric> {
    let failures = part.failures();
    let mut found = Vec::new();
    let mut adjusted = Vec::new();
    for of in PER_REQUEST.iter().filter(|of| of.scope.applies(streaming)) {
        let mut values = part.results.fold.values(part.good().filter_map(of.value));
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
        let pooled = part.results.fold.gaps(part.phase).distribution_ms();
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
fn total(tag: &str, part: Part<'_>) -> Option<f64> {
    let of = PER_REQUEST.iter().find(|of| of.tag == tag)?;
    let mut values = part.good().filter_map(of.value).peekable();
    values.peek()?;
    Some(values.sum())
}

/// A single value, or nothing.
fn scalar(tag: &str, header: &str, unit: &'static str, value: Option<f64>) -> Option<Metric> {
    value.map(|value| metric(tag, header, unit, Stats::scalar(value)))
}

fn counts(part: Part<'_>) -> Vec<Metric> {
    let present = |count: usize| (count > 0).then_some(count as f64);
    let (good, failures) = (part.good().count(), part.failures());
    let all = present(good + failures);
    let error_rate = all.map(|all| 100.0 * failures as f64 / all);
    let found = [
        scalar("request_count", "Request Count", "requests", present(good)),
        scalar("error_request_count", "Error Request Count", "requests", present(failures)),
        scalar("completed_request_count", "Completed Requests (Success + Error)", "requests", all),
        scalar("request_error_rate", "Request Error Rate", "%", error_rate),
        scalar("osl_mismatch_count", "OSL Mismatch Count", "requests", count_of(part, osl_mismatch)),
        scalar(
            "usage_discrepancy_count",
            "Usage Discrepancy Count",
            "requests",
            count_of(part, counts_differ),
        ),
    ];
    found.into_iter().flatten().collect()
}

fn totals(part: Part<'_>) -> Vec<Metric> {
    let sums = TOTALS.iter().map(|(tag, header, of)| scalar(tag, header, "tokens", total(of, part)));
    let (read, prompts) = (total("usage_prompt_cache_read_tokens", part), total("usage_prompt_tokens", part));
    let prompts = prompts.filter(|prompts| *prompts > 0.0);
    let read_percent = read.zip(prompts).map(|(read, prompts)| read / prompts * 100.0);
    let share =
        scalar("overall_usage_prompt_cache_read_pct", "Overall Usage Prompt Cache Read %", "%", read_percent);
    sums.chain([share]).flatten().collect()
}

fn rates(point: &LoadPoint, part: Part<'_>, window_s: f64) -> Vec<Metric> {
    let duration_s = duration_s(part);
    let (good, failures) = (part.good().count(), part.failures());
    let per_s = |amount: Option<f64>| {
        amount.filter(|_| duration_s.is_some() && window_s > 0.0).map(|amount| amount / window_s)
    };
    let completed = (good > 0).then_some(good as f64);
    let (isl, osl) = (total("input_sequence_length", part), total("output_sequence_length", part));
    let both = isl.zip(osl).map(|(isl, osl)| isl + osl);
    let mut found = vec![
        scalar("benchmark_duration", "Benchmark Duration", "sec", duration_s),
        scalar("request_throughput", "Request Throughput", "requests/sec", per_s(completed)),
        scalar("input_token_throughput", "Input Token Throughput", "tokens/sec", per_s(isl)),
        scalar("output_token_throughput", "Output Token Throughput", "tokens/sec", per_s(osl)),
        scalar("total_token_throughput", "Total Token Throughput", "tokens/sec", per_s(both)),
    ];
    if !point.slo.is_empty() {
        let met = part.good().filter(|row| meets(row, &point.slo, point.streaming)).count() as f64;
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
fn count_of(part: Part<'_>, holds: fn(&Row) -> Option<bool>) -> Option<f64> {
    let mut held = part.good().filter_map(holds).peekable();
    held.peek()?;
    Some(held.filter(|held| *held).count() as f64)
}

/// First sent → last content, seconds; `None` when no time passed.
fn duration_s(part: Part<'_>) -> Option<f64> {
    let first = part.good().map(|row| row.sent_us).min()?;
    let last = part.good().filter_map(Row::last_us).max()?;
    (last > first).then(|| ms(first, last) / 1e3)
}

/// A row that is a curve: tag, header, unit, its level and, for the `active_*` rows, the level that says when.
type CurveRow = (&'static str, &'static str, &'static str, fn(&Levels) -> f64, Option<fn(&Levels) -> f64>);

const RATE: &str = "tokens/sec";
const PER_USER: &str = "tokens/sec/user";
const DECODING: Option<fn(&Levels) -> f64> = Some(|l| l.decode_concurrency);
const PREFILLING: Option<fn(&Levels) -> f64> = Some(|l| l.prefill_concurrency);
const ANY: Option<fn(&Levels) -> f64> = Some(|l| l.concurrency);

#[rustfmt::skip] // a table
const CURVES: [CurveRow; 14] = [
    ("effective_concurrency", "Effective Concurrency", "requests", |l| l.concurrency, None),
    ("effective_decode_throughput", "Effective Decode Throughput", RATE, |l| l.decode_rate, None),
    ("effective_prefill_throughput", "Effective Prefill Throughput", RATE, |l| l.prefill_rate, None),
    ("effective_decode_concurrency", "Effective Decode Concurrency", "requests", |l| l.decode_concurrency, None),
    ("effective_prefill_concurrency", "Effective Prefill Concurrency", "requests", |l| l.prefill_concurrency, None),
    ("effective_total_throughput", "Effective Total Throughput", RATE, |l| l.total_rate, None),
    ("effective_decode_throughput_per_user", "Effective Decode Throughput Per User", PER_USER, Levels::decode_rate_per_user, None),
    ("effective_prefill_throughput_per_user", "Effective Prefill Throughput Per User", PER_USER, Levels::prefill_rate_per_user, None),
    ("tokens_in_flight", "Tokens In Flight", "tokens", |l| l.tokens_in_flight, None),
    ("active_decode_throughput", "Active Decode Throughput", RATE, |l| l.decode_rate, DECODING),
    ("active_prefill_throughput", "Active Prefill Throughput", RATE, |l| l.prefill_rate, PREFILLING),
    ("active_decode_throughput_per_user", "Active Decode Throughput Per User", PER_USER, Levels::decode_rate_per_user, DECODING),
    ("active_prefill_throughput_per_user", "Active Prefill Throughput Per User", PER_USER, Levels::prefill_rate_per_user, PREFILLING),
    ("active_total_throughput", "Active Total Throughput", RATE, |l| l.total_rate, ANY),
];

/// The curves of all requests, failed ones included. Without streaming only the concurrency is known.
fn curves(streaming: bool, part: Part<'_>, window: (f64, f64)) -> io::Result<Vec<Metric>> {
    const US_PER_S: f64 = 1e6;
    let rows = part.results.fold.rows();
    let numbers =
        (0..).zip(rows.iter()).filter(|(_, row)| row.phase() == part.phase).map(|(number, _)| number);
    let nothing = Span { start: 0.0, first: None, end: 0.0, isl: 0.0, osl: 0.0 };
    let at = |number: u32| rows.get(number).map_or(nothing, |row| span(streaming, row));
    let timeline = Timeline::new(numbers, at, chunks(streaming, part)?);
    let known = CURVES.iter().take(if streaming { CURVES.len() } else { 1 });
    let row = |(tag, header, unit, level, active): &CurveRow| {
        let weighted = match active {
            None => timeline.over(window, level),
            Some(active) => timeline.while_active(window, level, |levels| active(levels) > 0.0),
        };
        let scale = if unit.contains("/sec") { US_PER_S } else { 1.0 };
        metric(tag, header, unit, Stats::curve(weighted, scale))
    };
    Ok(known.map(row).collect())
}

fn span(streaming: bool, row: &Row) -> Span {
    Span {
        start: row.sent_us as f64,
        first: row.first_us().filter(|_| streaming && is_good(row)).map(|first| first as f64),
        end: row.end_us.max(row.sent_us) as f64,
        isl: row.isl.into(),
        osl: row.osl.into(),
    }
}

/// The chunks of the good requests, read again; `None` when there is no gap between any, or too many.
fn chunks(streaming: bool, part: Part<'_>) -> io::Result<Option<Chunks>> {
    let gaps = part.results.fold.gaps(part.phase).count();
    if !streaming || gaps == 0 || gaps > MAX_GAPS {
        return Ok(None);
    }
    let mut chunks = Chunks::default();
    part.results.records.each(&mut |record| {
        let kept = record.phase == part.phase && record.outcome == Outcome::Ok;
        chunks.push(if kept { &record.chunks_us } else { &[] });
        Ok(())
    })?;
    Ok(Some(chunks))
}

/// Latencies from the intended arrival, failed requests included.
fn from_schedule(part: Part<'_>) -> Vec<Metric> {
    let latency = |tag, header, until: fn(&Row) -> u64| {
        let values = part.distribution(part.all().map(|row| ms(row.scheduled_us, until(row))));
        Some(metric(tag, header, "ms", Stats::full(&values?)))
    };
    let queued = latency("credit_to_start_latency", "Credit-to-Start Latency", |row| row.sent_us);
    let perceived = latency("effective_latency", "Effective Latency (CO-aware)", |row| row.end_us);
    queued.into_iter().chain(perceived).collect()
}
