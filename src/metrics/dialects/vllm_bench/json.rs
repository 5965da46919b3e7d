//! The result file, written as it is computed: the arrays go out value by value, nothing of them is held, and the records
//! are read once more for the gaps and the errors.
//!
//! Key order is that of vLLM 0.32 `benchmarks/serve.py`, text that of Python's `json.dump`.

use super::super::aiperf::errors::reason_phrase;
use super::super::{ExportContext, offered, time_stamp};
use super::peaks::{Chunks, most_alive};
use super::totals::{PERCENTS, statistics, totals};
use super::{Results, backend, latency_s, seconds, succeeded, ttft_s};
use crate::metrics::record::{Outcome, RequestRecord};
use crate::metrics::row::Row;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::ser::Formatter;
use std::cell::RefCell;
use std::io::{self, Write};

/// What vLLM says of a 200 answer without a chunk, missing blank included.
const NO_CHUNK: &str =
    "Never received a valid chunk to calculate TTFT.This response will be marked as failed!";

/// Writes the result of the measured requests, on one line without a final newline.
///
/// # Errors
/// Those of reading the records and of `out`.
pub fn write<W: Write>(out: W, results: &Results<'_>, context: &ExportContext<'_>) -> io::Result<()> {
    let Results { point, fold, .. } = *results;
    let mut serializer = serde_json::Serializer::with_formatter(out, PythonStyle);
    let mut map = serializer.serialize_map(None)?;
    head(&mut map, results, context)?;
    figures(&mut map, results)?;
    let busiest = arrays(&mut map, results)?;
    map.serialize_entry("max_output_tokens_per_s", &(busiest as f64))?;
    map.serialize_entry("max_concurrent_requests", &most_alive(fold))?;
    map.serialize_entry("rtfx", &0.0)?;
    for (name, of) in statistics(point.streaming, fold) {
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

/// What was asked for.
fn head<M: SerializeMap<Error = serde_json::Error>>(
    map: &mut M,
    results: &Results<'_>,
    context: &ExportContext<'_>,
) -> Result<(), serde_json::Error> {
    let Results { point, run, fold, .. } = *results;
    let offered = offered(point);
    map.serialize_entry("date", &time_stamp(run))?;
    map.serialize_entry("endpoint_type", backend(point.endpoint))?;
    map.serialize_entry("backend", backend(point.endpoint))?;
    map.serialize_entry("label", &None::<&str>)?;
    map.serialize_entry("model_id", context.model)?;
    map.serialize_entry("tokenizer_id", context.model)?;
    map.serialize_entry("num_prompts", &fold.measured().count())?;
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
    results: &Results<'_>,
) -> Result<(), serde_json::Error> {
    let totals = totals(results.point, results.run, results.fold);
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
/// what it had of TTFT and gaps, and has latency 0. Gives the chunks of the busiest second; 0 without streaming.
fn arrays<M: SerializeMap<Error = serde_json::Error>>(
    map: &mut M,
    results: &Results<'_>,
) -> Result<u64, serde_json::Error> {
    let Results { point, run, fold, .. } = *results;
    let (order, streaming) = (&fold.in_order(), point.streaming);
    // A closed loop is to vLLM a crowd that is there from the start and waits for its turn.
    let closed = offered(point).rate.is_none();
    let queued_from = |row: &Row| if closed { run.window_start_us } else { row.scheduled_us };
    let mut put = |key: &'static str, value: &dyn Fn(&Row) -> Number| {
        map.serialize_entry(key, &Each { results, order, value })
    };
    put("input_lens", &|row| Number::Count(row.isl))?;
    put("output_lens", &|row| Number::Count(if succeeded(row) { row.osl } else { 0 }))?;
    put("ttfts", &|row| Number::Seconds(if streaming { ttft_s(row) } else { 0.0 }))?;
    let gaps = Gaps { results, order, chunks: RefCell::new(Chunks::new(fold)) };
    map.serialize_entry("itls", &gaps)?;
    let mut put = |key: &'static str, value: &dyn Fn(&Row) -> Number| {
        map.serialize_entry(key, &Each { results, order, value })
    };
    put("latencies", &|row| Number::Seconds(latency_s(row)))?;
    put("start_times", &|row| Number::Seconds(seconds(0, row.sent_us)))?;
    put("queue_times", &|row| Number::Seconds(seconds(queued_from(row), row.sent_us)))?;
    put("generated_texts", &|_| Number::Nothing)?;
    map.serialize_entry("errors", &Errors { results, order })?;
    Ok(gaps.chunks.into_inner().most())
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

/// A value of an array.
enum Number {
    Count(u32),
    Seconds(f64),
    /// An empty string.
    Nothing,
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u32(*count),
            Self::Seconds(seconds) => serializer.serialize_f64(*seconds),
            Self::Nothing => serializer.serialize_str(""),
        }
    }
}

/// An array with one value per request.
struct Each<'a> {
    results: &'a Results<'a>,
    order: &'a [u32],
    value: &'a dyn Fn(&Row) -> Number,
}

impl Serialize for Each<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rows = self.order.iter().filter_map(|position| self.results.fold.rows().get(*position));
        serializer.collect_seq(rows.map(self.value))
    }
}

/// The array of the gaps of each request; streaming off there are none. Counts the chunks in passing.
struct Gaps<'a> {
    results: &'a Results<'a>,
    order: &'a [u32],
    chunks: RefCell<Chunks>,
}

impl Serialize for Gaps<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.results.point.streaming {
            return serializer.collect_seq(self.order.iter().map(|_| GapsOf(&[])));
        }
        let mut chunks = self.chunks.borrow_mut();
        let mut seq = serializer.serialize_seq(None)?;
        walk(
            self.results,
            self.order,
            |_| true,
            |record| {
                let Some(record) = record else { return Ok(()) };
                chunks.add(record);
                seq.serialize_element(&GapsOf(&record.chunks_us))
            },
        )?;
        seq.end()
    }
}

/// The array of what went wrong with each request. Only those that failed are read again.
struct Errors<'a> {
    results: &'a Results<'a>,
    order: &'a [u32],
}

impl Serialize for Errors<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        walk(
            self.results,
            self.order,
            |row| !succeeded(row),
            |record| seq.serialize_element(&record.map(error).unwrap_or_default()),
        )?;
        seq.end()
    }
}

/// [`Results::walk`] inside a serializer: errors of reading the records become its own.
fn walk<E: serde::ser::Error>(
    results: &Results<'_>,
    order: &[u32],
    reread: impl Fn(&Row) -> bool,
    mut see: impl FnMut(Option<&RequestRecord>) -> Result<(), E>,
) -> Result<(), E> {
    let mut failed = None;
    let walked = results.walk(order, reread, |_, record| {
        see(record).map_err(|error| {
            let text = error.to_string();
            failed = Some(error);
            io::Error::other(text)
        })
    });
    match (failed, walked) {
        (Some(error), _) => Err(error),
        (None, walked) => walked.map_err(E::custom),
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
