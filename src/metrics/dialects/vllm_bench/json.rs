//! The result file.
//!
//! Key order is that of vLLM 0.32 `benchmarks/serve.py`, text that of Python's `json.dump`.

use super::super::aiperf::errors::reason_phrase;
use super::super::{ExportContext, offered, time_stamp};
use super::peaks::{busiest_second, most_alive};
use super::totals::{PERCENTS, statistics, totals};
use super::{Results, backend, latency_s, seconds, succeeded, ttft_s};
use crate::metrics::fold::Fold;
use crate::metrics::record::{Outcome, RequestRecord};
use crate::metrics::request_figures::RequestFigures;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::ser::Formatter;
use std::io::{self, Write};

/// vLLM's error for a 200 answer without a chunk, missing blank included.
const NO_CHUNK: &str =
    "Never received a valid chunk to calculate TTFT.This response will be marked as failed!";

/// Writes the result of the measured requests, on one line without a final newline.
///
/// # Errors
/// Errors of `out`.
pub fn write<W: Write>(out: W, results: &Results<'_>, context: &ExportContext<'_>) -> io::Result<()> {
    let Results { point, records, .. } = *results;
    let fold = Fold::of(records.iter().copied());
    let mut serializer = serde_json::Serializer::with_formatter(out, PythonStyle);
    let mut map = serializer.serialize_map(None)?;
    head(&mut map, results, context)?;
    figures(&mut map, results, &fold)?;
    arrays(&mut map, results)?;
    let busiest = if point.streaming { busiest_second(records) } else { 0 };
    map.serialize_entry("max_output_tokens_per_s", &(busiest as f64))?;
    map.serialize_entry("max_concurrent_requests", &most_alive(&fold))?;
    map.serialize_entry("rtfx", &0.0)?;
    for (name, of) in statistics(point.streaming, &fold) {
        map.serialize_entry(&format!("mean_{name}_ms"), &of.mean)?;
        map.serialize_entry(&format!("median_{name}_ms"), &of.median)?;
        map.serialize_entry(&format!("std_{name}_ms"), &of.std)?;
        for (percent, value) in PERCENTS.iter().zip(of.percentiles) {
            map.serialize_entry(&format!("p{percent}_{name}_ms"), &value)?;
        }
    }
    SerializeMap::end(map)?;
    Ok(())
}

/// The requested load.
fn head<M: SerializeMap<Error = serde_json::Error>>(
    map: &mut M,
    results: &Results<'_>,
    context: &ExportContext<'_>,
) -> Result<(), serde_json::Error> {
    let Results { point, run, records } = *results;
    let offered = offered(point);
    map.serialize_entry("date", &time_stamp(run))?;
    map.serialize_entry("endpoint_type", backend(point.endpoint))?;
    map.serialize_entry("backend", backend(point.endpoint))?;
    map.serialize_entry("label", &None::<&str>)?;
    map.serialize_entry("model_id", context.model)?;
    map.serialize_entry("tokenizer_id", context.model)?;
    map.serialize_entry("num_prompts", &records.len())?;
    map.serialize_entry("generator", &format!("tokmark {}", context.version))?;
    map.serialize_entry("simulated", if context.simulated { "true" } else { "false" })?;
    if run.interrupted {
        map.serialize_entry("is_complete", "false")?;
    }
    match offered.rate {
        Some(rate) => map.serialize_entry("request_rate", &rate)?,
        None => map.serialize_entry("request_rate", "inf")?,
    }
    map.serialize_entry("burstiness", &offered.burstiness)?;
    map.serialize_entry("max_concurrency", &offered.concurrency)
}

fn figures<M: SerializeMap<Error = serde_json::Error>>(
    map: &mut M,
    results: &Results<'_>,
    fold: &Fold,
) -> Result<(), serde_json::Error> {
    let totals = totals(results.point, results.run, fold);
    map.serialize_entry("duration", &totals.duration)?;
    map.serialize_entry("completed", &totals.completed)?;
    map.serialize_entry("failed", &totals.failed)?;
    map.serialize_entry("total_input_tokens", &totals.total_input_tokens)?;
    map.serialize_entry("total_output_tokens", &totals.total_output_tokens)?;
    map.serialize_entry("request_throughput", &totals.request_throughput)?;
    map.serialize_entry("request_goodput", &totals.request_goodput)?;
    map.serialize_entry("output_throughput", &totals.output_throughput)?;
    map.serialize_entry("total_token_throughput", &totals.total_token_throughput)
}

/// One value per request, in seconds or tokens, in the order of sending. A request that failed while it was answered keeps
/// what it had of TTFT and gaps, and has latency 0.
fn arrays<M: SerializeMap<Error = serde_json::Error>>(
    map: &mut M,
    results: &Results<'_>,
) -> Result<(), serde_json::Error> {
    let Results { point, run, records } = *results;
    let requests: Vec<RequestFigures> = records.iter().map(|record| RequestFigures::of(record)).collect();
    let each = |value: &dyn Fn(&RequestFigures) -> f64| requests.iter().map(value).collect::<Vec<f64>>();
    // In vLLM's words a closed loop is a crowd that is there from the start and waits for its turn.
    let closed = offered(point).rate.is_none();
    let queued_from =
        |request: &RequestFigures| if closed { run.window_start_us } else { request.scheduled_us };
    let input: Vec<u32> = requests.iter().map(|request| request.isl).collect();
    let output: Vec<u32> =
        requests.iter().map(|request| if succeeded(request) { request.osl } else { 0 }).collect();
    map.serialize_entry("input_lens", &input)?;
    map.serialize_entry("output_lens", &output)?;
    map.serialize_entry("ttfts", &each(&|request| if point.streaming { ttft_s(request) } else { 0.0 }))?;
    let gaps = records.iter().map(|record| GapsOf(if point.streaming { &record.chunks_us } else { &[] }));
    map.serialize_entry("itls", &gaps.collect::<Vec<_>>())?;
    map.serialize_entry("latencies", &each(&latency_s))?;
    map.serialize_entry("start_times", &each(&|request| seconds(0, request.sent_us)))?;
    map.serialize_entry("queue_times", &each(&|request| seconds(queued_from(request), request.sent_us)))?;
    map.serialize_entry("generated_texts", &vec![""; records.len()])?;
    map.serialize_entry("errors", &records.iter().map(|record| error(record)).collect::<Vec<_>>())
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

/// The gaps between the chunks of one request, seconds.
struct GapsOf<'a>(&'a [u64]);

impl Serialize for GapsOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let later = self.0.iter().skip(1);
        serializer.collect_seq(self.0.iter().zip(later).map(|(before, after)| seconds(*before, *after)))
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
