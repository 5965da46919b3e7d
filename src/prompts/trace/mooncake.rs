//! Mooncake traces: JSONL with the blocks of each prompt.
//!
//! A line is `{"timestamp": milliseconds, "input_length": tokens, "output_length": tokens, "hash_ids": [block, …]}`, one
//! block for each 512 tokens begun; `timestamp` and `hash_ids` may be absent (<https://github.com/kvcache-ai/Mooncake>,
//! FAST25-release/traces).

use serde_json::Value;

use super::super::dataset::file::Opened;
use super::super::dataset::records::{Record, Records};
use super::TraceRow;
use crate::document::InputError;

/// The fields, in words.
const EXPECTED: &str = "the fields of a Mooncake trace: timestamp, input_length, output_length, hash_ids";

/// Hands every line to `see`.
pub(super) fn read(opened: Opened, see: &mut dyn FnMut(TraceRow)) -> Result<(), InputError> {
    let mut records = Records::new(opened);
    loop {
        match records.next() {
            Ok(Some(record)) => see(row(&record)?),
            Ok(None) => return Ok(()),
            Err(error) if error.line == Some((1, 1)) && error.problem.starts_with("not JSON") => {
                return Err(error
                    .next("if it is a table with a header, take kind = \"burstgpt\" or kind = \"azure\""));
            }
            Err(error) => return Err(error),
        }
    }
}

fn row(record: &Record) -> Result<TraceRow, InputError> {
    let tokens = |key| record.tokens(key, 0)?.ok_or_else(|| record.missing(key, EXPECTED));
    // Traces without timestamps leave it out.
    let at_ns = match record.fields.get("timestamp") {
        None | Some(Value::Null) => 0,
        Some(timestamp) => nanoseconds(timestamp)
            .ok_or_else(|| record.wrong_type("timestamp", timestamp, "milliseconds, 0 or more"))?,
    };
    let blocks = match record.fields.get("hash_ids") {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().map(Value::as_u64).collect(),
        Some(_) => None,
    };
    let blocks = blocks.ok_or_else(|| {
        let found = record.fields.get("hash_ids").unwrap_or(&Value::Null);
        record.wrong_type("hash_ids", found, "a list of whole numbers, 0 or more")
    })?;
    Ok(TraceRow { at_ns, isl: tokens("input_length")?, osl: tokens("output_length")?, blocks })
}

/// Milliseconds as nanoseconds.
fn nanoseconds(milliseconds: &Value) -> Option<i64> {
    if let Some(whole) = milliseconds.as_i64() {
        return whole.checked_mul(1_000_000).filter(|nanoseconds| *nanoseconds >= 0);
    }
    let nanoseconds = (milliseconds.as_f64()? * 1e6).round();
    (0.0..9e18).contains(&nanoseconds).then_some(nanoseconds as i64)
}
