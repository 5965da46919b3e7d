//! `profile_export.jsonl`: one request a line, warm-up and failures included, in order of ending.
//!
//! AIPerf 0.13 `MetricRecordInfo`: absent fields are not written, token counts stay integers, instants are wall-clock ns.

use super::errors::error;
use super::requests::Request;
use super::session_id;
use super::values::{FAILED_ISL, INTER_CHUNK_LATENCY, PER_REQUEST};
use crate::metrics::record::{Outcome, Phase, RequestRecord, request_id};
use crate::plan::LoadPoint;
use std::io::{self, Write};

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
    let mut line = br#"{"metadata":"#.to_vec();
    serde_json::to_writer(&mut line, &metadata(point, started_at, record, has_warmup))?;
    line.extend_from_slice(br#","metrics":"#);
    add_metrics(&mut line, point.streaming, record, request)?;
    if let Some(error) = error(record) {
        line.extend_from_slice(br#","error":"#);
        serde_json::to_writer(&mut line, &error)?;
    }
    line.extend_from_slice(b"}\n");
    out.write_all(&line)
}

/// Adds the metrics of one request, each `{"value":…,"unit":…}`. Their names and units need no escapes, and the gaps between
/// chunks are most of the line: written directly they cost a third of what a serializer takes.
fn add_metrics(
    line: &mut Vec<u8>,
    streaming: bool,
    record: &RequestRecord,
    request: &Request,
) -> io::Result<()> {
    let failed = std::slice::from_ref(&FAILED_ISL);
    let metrics = if request.is_good() { &PER_REQUEST } else { failed };
    let mut start = b'{';
    for metric in metrics.iter().filter(|metric| metric.applies(streaming)) {
        let Some(value) = (metric.value)(request).filter(|value| value.is_finite()) else { continue };
        begin_entry(line, start, metric.tag);
        start = b',';
        match metric.whole {
            // Token counts are small and not negative, so the cast is exact.
            true => line.extend_from_slice(itoa::Buffer::new().format(value as u64).as_bytes()),
            false => serde_json::to_writer(&mut *line, &value)?,
        }
        end_entry(line, metric.unit);
    }
    if streaming && request.is_good() && record.chunks_us.len() > 1 {
        let (tag, _, unit) = INTER_CHUNK_LATENCY;
        begin_entry(line, start, tag);
        start = b'[';
        for gap_us in record.gaps_us() {
            line.push(start);
            start = b',';
            push_ms(gap_us, line)?;
        }
        line.push(b']');
        end_entry(line, unit);
    }
    line.extend_from_slice(if start == b'{' { b"{}" } else { b"}" });
    Ok(())
}

fn begin_entry(line: &mut Vec<u8>, start: u8, tag: &str) {
    line.extend([start, b'"']);
    line.extend_from_slice(tag.as_bytes());
    line.extend_from_slice(br#"":{"value":"#);
}

fn end_entry(line: &mut Vec<u8>, unit: &str) {
    line.extend_from_slice(br#","unit":""#);
    line.extend_from_slice(unit.as_bytes());
    line.extend_from_slice(br#""}"#);
}

/// Writes µs as ms: the shortest decimal that reads back as the same number, as `serde_json` does.
fn push_ms(us: u64, out: &mut Vec<u8>) -> io::Result<()> {
    /// Every number below has at most 15 digits, which no shorter decimal stands for.
    const EXACT: u64 = 1_000_000_000_000_000;
    if us >= EXACT {
        return Ok(serde_json::to_writer(out, &(us as f64 / 1e3))?);
    }
    out.extend_from_slice(itoa::Buffer::new().format(us / 1_000).as_bytes());
    let [hundreds, tens, ones] = [us / 100, us / 10, us].map(|digits| b'0' + (digits % 10) as u8);
    let decimals = match (tens, ones) {
        (b'0', b'0') => 1,
        (_, b'0') => 2,
        _ => 3,
    };
    out.push(b'.');
    out.extend([hundreds, tens, ones].into_iter().take(decimals));
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn gaps_are_written_as_the_serializer_would(
            us in prop_oneof![0..3_000_u64, 0..100_000_000_u64, any::<u64>()],
        ) {
            let mut text = Vec::new();
            push_ms(us, &mut text).expect("memory");
            prop_assert_eq!(String::from_utf8(text).expect("digits"), serde_json::to_string(&(us as f64 / 1e3)).expect("a number"));
        }
    }
}
