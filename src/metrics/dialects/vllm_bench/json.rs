//! The result file.
//!
//! Key order is that of vLLM 0.32 `benchmarks/serve.py`, text that of Python's `json.dump`.

use super::super::aiperf::errors::reason_phrase;
use super::super::{ChunkGaps, ExportContext, offered, time_stamp};
use super::peaks::peaks;
use super::totals::{Figures, statistics, totals};
use super::{Results, backend, latency_s, seconds, succeeded, ttft_s};
use crate::metrics::fold::Fold;
use crate::metrics::record::{Outcome, RequestRecord};
use crate::metrics::request_figures::RequestFigures;
use serde::Serialize;
use serde_json::ser::Formatter;
use serde_json::{Value, json};
use std::io::{self, Write};

/// vLLM's error for a 200 answer without a chunk, missing blank included.
const NO_CHUNK: &str =
    "Never received a valid chunk to calculate TTFT.This response will be marked as failed!";

/// Writes the result of the measured requests, on one line without a final newline.
pub fn write<W: Write>(out: W, results: &Results<'_>, context: &ExportContext<'_>) -> io::Result<()> {
    let fold = Fold::of(results.records.iter().copied());
    let mut head = requested(results, context);
    head.extend(totals(results.point, results.run, &fold));
    let mut tail = peaks(results, &fold);
    tail.extend(statistics(results.point.streaming, &fold));
    let saved = Saved { head, arrays: Arrays::of(results), tail };
    saved.serialize(&mut serde_json::Serializer::with_formatter(out, PythonStyle))?;
    Ok(())
}

#[derive(Serialize)]
struct Saved<'a> {
    #[serde(flatten)]
    head: Figures,
    #[serde(flatten)]
    arrays: Arrays<'a>,
    #[serde(flatten)]
    tail: Figures,
}

/// The requested load.
fn requested(results: &Results<'_>, context: &ExportContext<'_>) -> Figures {
    let Results { point, run, records } = *results;
    let offered = offered(point);
    let found = [
        ("date", json!(time_stamp(run))),
        ("endpoint_type", json!(backend(point.endpoint))),
        ("backend", json!(backend(point.endpoint))),
        ("label", Value::Null),
        ("model_id", json!(context.model)),
        ("tokenizer_id", json!(context.model)),
        ("num_prompts", json!(records.len())),
        ("generator", json!(format!("tokmark {}", context.version))),
        ("simulated", json!(context.simulated.to_string())),
        ("is_complete", json!("false")),
        ("request_rate", offered.rate.map_or(json!("inf"), |rate| json!(rate))),
        ("burstiness", json!(offered.burstiness)),
        ("max_concurrency", json!(offered.concurrency)),
    ];
    let found = found.into_iter().filter(|(key, _)| run.interrupted || *key != "is_complete");
    found.map(|(key, value)| (key.to_owned(), value)).collect()
}

/// One value per request, in seconds or tokens, in the order of sending. A request that failed while it was answered keeps
/// what it had of TTFT and gaps, and has latency 0.
#[derive(Serialize)]
struct Arrays<'a> {
    input_lens: Vec<u32>,
    output_lens: Vec<u32>,
    ttfts: Vec<f64>,
    itls: Vec<ChunkGaps<'a>>,
    latencies: Vec<f64>,
    start_times: Vec<f64>,
    queue_times: Vec<f64>,
    generated_texts: Vec<&'static str>,
    errors: Vec<String>,
}

impl<'a> Arrays<'a> {
    fn of(results: &Results<'a>) -> Self {
        let Results { point, run, records } = *results;
        let requests: Vec<RequestFigures> = records.iter().map(|record| RequestFigures::of(record)).collect();
        let each = |value: &dyn Fn(&RequestFigures) -> f64| requests.iter().map(value).collect();
        // In vLLM's words a closed loop is a crowd that is there from the start and waits for its turn.
        let closed = offered(point).rate.is_none();
        let queued_from =
            |request: &RequestFigures| if closed { run.window_start_us } else { request.scheduled_us };
        let gaps = |record: &&'a RequestRecord| ChunkGaps {
            chunks_us: if point.streaming { &record.chunks_us } else { &[] },
            unit_us: 1e6,
        };
        let output = |request: &RequestFigures| if succeeded(request) { request.osl } else { 0 };
        Self {
            input_lens: requests.iter().map(|request| request.isl).collect(),
            output_lens: requests.iter().map(output).collect(),
            ttfts: each(&|request| if point.streaming { ttft_s(request) } else { 0.0 }),
            itls: records.iter().map(gaps).collect(),
            latencies: each(&latency_s),
            start_times: each(&|request| seconds(0, request.sent_us)),
            queue_times: each(&|request| seconds(queued_from(request), request.sent_us)),
            generated_texts: vec![""; records.len()],
            errors: records.iter().map(|record| error(record)).collect(),
        }
    }
}

/// vLLM records the reason phrase of a status and the trace of an exception; here the latter is what went wrong.
fn error(record: &RequestRecord) -> String {
    match record.outcome {
        Outcome::Ok if !record.chunks_us.is_empty() => String::new(),
        Outcome::Ok | Outcome::Empty => NO_CHUNK.to_owned(),
        Outcome::Http(status) => reason_phrase(status).to_owned(),
        other => record.error.clone().unwrap_or_else(|| other.to_string()),
    }
}

/// The text of Python's `json.dump`: a blank after `,` and `:`, nothing beyond ASCII.
struct PythonStyle;

impl Formatter for PythonStyle {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, text: &str) -> io::Result<()> {
        if text.is_ascii() {
            return out.write_all(text.as_bytes());
        }
        let mut units = [0; 2];
        for c in text.chars() {
            if c.is_ascii() {
                write!(out, "{c}")?;
            } else {
                for unit in c.encode_utf16(&mut units) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}
