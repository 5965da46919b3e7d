//! The result file, written as it is computed: the arrays go out value by value, nothing of them is held.
//!
//! Key order is that of vLLM 0.32 `benchmarks/serve.py`, text that of Python's `json.dump`. Arrow: `totals`, `peaks` → here
//! → a writer.

use super::super::aiperf::errors::reason_phrase;
use super::super::{ExportContext, offered, time_stamp};
use super::peaks::peaks;
use super::totals::{PERCENTS, statistics, totals};
use super::{backend, in_order, latency_s, seconds, succeeded, ttft_s};
use crate::metrics::record::{Outcome, PointRun, RequestRecord};
use crate::plan::LoadPoint;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::ser::Formatter;
use std::io::{self, Write};

/// What vLLM says of a 200 answer without a chunk, missing blank included.
const NO_CHUNK: &str =
    "Never received a valid chunk to calculate TTFT.This response will be marked as failed!";

/// Writes the result of the measured requests, on one line without a final newline.
pub fn write<W: Write>(
    out: W,
    point: &LoadPoint,
    run: &PointRun,
    context: &ExportContext<'_>,
) -> io::Result<()> {
    let records = in_order(run);
    let mut serializer = serde_json::Serializer::with_formatter(out, PythonStyle);
    let mut map = serializer.serialize_map(None)?;
    head(&mut map, point, run, context, &records)?;
    figures(&mut map, point, run, &records)?;
    arrays(&mut map, point, run, &records)?;
    let (chunks, alive) = peaks(&records);
    map.serialize_entry("max_output_tokens_per_s", &if point.streaming { chunks as f64 } else { 0.0 })?;
    map.serialize_entry("max_concurrent_requests", &alive)?;
    map.serialize_entry("rtfx", &0.0)?;
    for (name, of) in statistics(point.streaming, &records) {
        map.serialize_entry(&format!("mean_{name}_ms"), &of.mean)?;
        map.serialize_entry(&format!("median_{name}_ms"), &of.median)?;
        map.serialize_entry(&format!("std_{name}_ms"), &of.std)?;
        for (percent, value) in PERCENTS.iter().zip(of.percentiles) {
            map.serialize_entry(&format!("p{percent}_{name}_ms"), &value)?;
        }
    }
    map.end()?;
    Ok(())
}

/// What was asked for.
fn head<M: SerializeMap<Error = serde_json::Error>>(
    map: &mut M,
    point: &LoadPoint,
    run: &PointRun,
    context: &ExportContext<'_>,
    records: &[&RequestRecord],
) -> Result<(), serde_json::Error> {
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
    match offered.rate {
        Some(rate) => map.serialize_entry("request_rate", &rate)?,
        None => map.serialize_entry("request_rate", "inf")?,
    }
    map.serialize_entry("burstiness", &offered.burstiness)?;
    map.serialize_entry("max_concurrency", &offered.concurrency)
}

fn figures<M: SerializeMap<Error = serde_json::Error>>(
    map: &mut M,
    point: &LoadPoint,
    run: &PointRun,
    records: &[&RequestRecord],
) -> Result<(), serde_json::Error> {
    let totals = totals(point, run, records);
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

/// One value per request, in seconds or tokens. A request that failed while it was answered keeps what it had of TTFT and
/// gaps, and has latency 0.
fn arrays<M: SerializeMap<Error = serde_json::Error>>(
    map: &mut M,
    point: &LoadPoint,
    run: &PointRun,
    records: &[&RequestRecord],
) -> Result<(), serde_json::Error> {
    let streaming = point.streaming;
    // A closed loop is to vLLM a crowd that is there from the start and waits for its turn.
    let closed = offered(point).rate.is_none();
    let queued_from = |r: &RequestRecord| if closed { run.window_start_us } else { r.scheduled_us };
    map.serialize_entry("input_lens", &Each(records, |r: &RequestRecord| r.isl))?;
    let output = |r: &RequestRecord| if succeeded(r) { r.osl } else { 0 };
    map.serialize_entry("output_lens", &Each(records, output))?;
    map.serialize_entry(
        "ttfts",
        &Each(records, |r: &RequestRecord| if streaming { ttft_s(r) } else { 0.0 }),
    )?;
    map.serialize_entry("itls", &Gaps { records, streaming })?;
    map.serialize_entry("latencies", &Each(records, latency_s))?;
    map.serialize_entry("start_times", &Each(records, |r: &RequestRecord| seconds(0, r.sent_us)))?;
    let queue = |r: &RequestRecord| seconds(queued_from(r), r.sent_us);
    map.serialize_entry("queue_times", &Each(records, queue))?;
    map.serialize_entry("generated_texts", &Each(records, |_: &RequestRecord| ""))?;
    map.serialize_entry("errors", &Each(records, error))
}

/// vLLM records the reason phrase of a status and the trace of an exception; here the latter is what went wrong.
fn error(record: &RequestRecord) -> String {
    match record.outcome {
        Outcome::Ok if succeeded(record) => String::new(),
        Outcome::Ok | Outcome::Empty => NO_CHUNK.to_owned(),
        Outcome::Http(status) => reason_phrase(status).to_owned(),
        other => record.error.clone().unwrap_or_else(|| other.to_string()),
    }
}

/// An array with one value per request.
struct Each<'a, F>(&'a [&'a RequestRecord], F);

impl<T: Serialize, F: Fn(&RequestRecord) -> T> Serialize for Each<'_, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|record| (self.1)(record)))
    }
}

/// The array of the gaps of each request; streaming off there are none.
struct Gaps<'a> {
    records: &'a [&'a RequestRecord],
    streaming: bool,
}

impl Serialize for Gaps<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let chunks = |record: &'_ RequestRecord| if self.streaming { record.chunks_us.len() } else { 0 };
        serializer
            .collect_seq(self.records.iter().map(|r| GapsOf(r.chunks_us.get(..chunks(r)).unwrap_or(&[]))))
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
