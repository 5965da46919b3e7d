//! `profile_export.jsonl`: one request a line, warm-up and failures included, in order of ending.
//!
//! AIPerf 0.13 `MetricRecordInfo`: absent fields are not written, token counts stay integers, instants are wall-clock ns.

use super::Results;
use super::errors::{ErrorDetails, error};
use super::session_id;
use super::totals::is_good;
use super::values::{FAILED_ISL, INTER_CHUNK_LATENCY, PER_REQUEST, PerRequest};
use crate::metrics::record::{Outcome, Phase, PointRun, RequestRecord, request_id};
use crate::metrics::row::Row;
use crate::plan::LoadPoint;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::io::{self, Write};

#[derive(Serialize)]
struct Line {
    metadata: Metadata,
    metrics: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorDetails>,
}

/// AIPerf's `MetricRecordMetadata`, the fields a single-turn request has.
#[derive(Serialize)]
struct Metadata {
    session_num: u64,
    x_request_id: String,
    x_correlation_id: String,
    conversation_id: String,
    turn_index: u32,
    credit_issued_ns: i64,
    request_start_ns: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_ack_ns: Option<i64>,
    request_end_ns: i64,
    worker_id: String,
    record_processor_id: &'static str,
    benchmark_phase: &'static str,
    phase_index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    profiling_index: Option<u32>,
    phase_name: &'static str,
    phase_kind: &'static str,
    was_cancelled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancellation_time_ns: Option<i64>,
    context_overflow_skip: bool,
    agent_depth: u32,
    root_correlation_id: String,
}

/// Writes `profile_export.jsonl`, a line at a time. `x_request_id` is the `X-Request-Id` header the request was sent with.
///
/// # Errors
/// Those of reading the records and of `out`.
pub fn write_jsonl<W: Write>(mut out: W, results: &Results<'_>) -> io::Result<()> {
    let Results { point, run, fold, records } = *results;
    let has_warmup = fold.of_phase(Phase::Warmup).next().is_some();
    records.each(&mut |record| {
        // AIPerf has no word for a phase behind the measured one.
        if record.phase == Phase::CoolDown {
            return Ok(());
        }
        let line = Line {
            metadata: metadata(point, run, record, has_warmup),
            metrics: metrics(point, record),
            error: error(record),
        };
        serde_json::to_writer(&mut out, &line)?;
        out.write_all(b"\n")
    })
}

fn metadata(point: &LoadPoint, run: &PointRun, record: &RequestRecord, has_warmup: bool) -> Metadata {
    let wall = |at_us: u64| {
        let ns = run.started_at.as_nanosecond() + i128::from(at_us) * 1_000;
        i64::try_from(ns).unwrap_or(i64::MAX)
    };
    let measured = record.phase == Phase::Measure;
    let phase = if measured { "profiling" } else { "warmup" };
    let session = session_id(record.phase, record.id);
    let cancelled = record.outcome == Outcome::Cancelled;
    Metadata {
        session_num: record.id,
        x_request_id: request_id(&point.id, record.phase, record.id),
        x_correlation_id: session.clone(),
        conversation_id: session.clone(),
        turn_index: 0,
        credit_issued_ns: wall(record.scheduled_us),
        request_start_ns: wall(record.sent_us),
        request_ack_ns: record.headers_us.map(wall),
        request_end_ns: wall(record.end_us),
        worker_id: format!("worker_{}", record.worker),
        record_processor_id: "tokmark",
        benchmark_phase: phase,
        phase_index: u32::from(measured && has_warmup),
        profiling_index: measured.then_some(0),
        phase_name: phase,
        phase_kind: phase,
        was_cancelled: cancelled,
        cancellation_time_ns: cancelled.then(|| wall(record.end_us)),
        context_overflow_skip: false,
        agent_depth: 0,
        root_correlation_id: session,
    }
}

fn metrics(point: &LoadPoint, record: &RequestRecord) -> Map<String, Value> {
    let row = Row::of(record);
    if !is_good(&row) {
        return entry(&FAILED_ISL, &row).into_iter().collect();
    }
    let applicable = PER_REQUEST.iter().filter(|of| of.scope.applies(point.streaming));
    let mut found: Map<String, Value> = applicable.filter_map(|of| entry(of, &row)).collect();
    let gaps: Vec<f64> = record.gaps_us().map(|gap| gap as f64 / 1e3).collect();
    if point.streaming && !gaps.is_empty() {
        let (tag, _, unit) = INTER_CHUNK_LATENCY;
        found.insert(tag.to_owned(), json!({"value": gaps, "unit": unit}));
    }
    found
}

fn entry(of: &PerRequest, row: &Row) -> Option<(String, Value)> {
    let value = (of.value)(row).filter(|value| value.is_finite())?;
    // Token counts are small and not negative, so the cast is exact.
    let value = if of.whole { json!(value as u64) } else { json!(value) };
    Some((of.tag.to_owned(), json!({"value": value, "unit": of.unit})))
}
