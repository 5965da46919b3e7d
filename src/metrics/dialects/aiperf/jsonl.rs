//! `profile_export.jsonl`: one request a line, warm-up and failures included, in order of ending.
//!
//! AIPerf 0.13 `MetricRecordInfo`: absent fields are not written, token counts stay integers, instants are wall-clock ns.

use super::super::ChunkGaps;
use super::errors::{ErrorDetails, error};
use super::requests::Request;
use super::session_id;
use super::values::{FAILED_ISL, INTER_CHUNK_LATENCY, PER_REQUEST, PerRequest};
use crate::metrics::record::{Outcome, Phase, RequestRecord, request_id};
use crate::plan::LoadPoint;
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::io::{self, Write};

#[derive(serde::Serialize)]
struct Line<'a> {
    metadata: Metadata,
    metrics: Metrics<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorDetails>,
}

/// AIPerf's `MetricRecordMetadata`, the fields a single-turn request has.
#[derive(serde::Serialize)]
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

/// Writes the line of a record. `x_request_id` is the `X-Request-Id` header the request was sent with.
pub(super) fn write_line<W: Write>(
    mut out: W,
    point: &LoadPoint,
    started_at: jiff::Timestamp,
    has_warmup: bool,
    record: &RequestRecord,
    request: &Request,
) -> io::Result<()> {
    let line = Line {
        metadata: metadata(point, started_at, record, has_warmup),
        metrics: Metrics { streaming: point.streaming, record, request },
        error: error(record),
    };
    serde_json::to_writer(&mut out, &line)?;
    out.write_all(b"\n")
}

fn metadata(
    point: &LoadPoint,
    started_at: jiff::Timestamp,
    record: &RequestRecord,
    has_warmup: bool,
) -> Metadata {
    let wall = |at_us: u64| {
        let ns = started_at.as_nanosecond() + i128::from(at_us) * 1_000;
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

/// The metrics of one request, each `{"value":…,"unit":…}`.
struct Metrics<'a> {
    streaming: bool,
    record: &'a RequestRecord,
    request: &'a Request,
}

#[derive(serde::Serialize)]
struct Entry<V> {
    value: V,
    unit: &'static str,
}

impl Serialize for Metrics<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { streaming, record, request } = *self;
        let mut map = serializer.serialize_map(None)?;
        if !request.is_good() {
            entry(&mut map, &FAILED_ISL, request)?;
            return map.end();
        }
        for metric in PER_REQUEST.iter().filter(|metric| metric.applies(streaming)) {
            entry(&mut map, metric, request)?;
        }
        if streaming && record.chunks_us.len() > 1 {
            let (tag, _, unit) = INTER_CHUNK_LATENCY;
            let value = ChunkGaps { chunks_us: &record.chunks_us, unit_us: 1e3 };
            map.serialize_entry(tag, &Entry { value, unit })?;
        }
        map.end()
    }
}

fn entry<M: SerializeMap>(map: &mut M, metric: &PerRequest, request: &Request) -> Result<(), M::Error> {
    let unit = metric.unit;
    match (metric.value)(request).filter(|value| value.is_finite()) {
        None => Ok(()),
        // Token counts are small and not negative, so the cast is exact.
        Some(value) if metric.whole => map.serialize_entry(metric.tag, &Entry { value: value as u64, unit }),
        Some(value) => map.serialize_entry(metric.tag, &Entry { value, unit }),
    }
}
