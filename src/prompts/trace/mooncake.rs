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
    let advice = |error: InputError| match error.line == Some((1, 1)) && error.problem.starts_with("not JSON")
    {
        true => error.next("if it is a table with a header, take kind = \"burstgpt\" or kind = \"azure\""),
        false => error,
    };
    while let Some(mut record) = records.next().map_err(advice)? {
        see(row(&mut record)?);
    }
    Ok(())
}

fn row(record: &mut Record) -> Result<TraceRow, InputError> {
    // Traces without timestamps leave it out.
    let at_ns = match record.take("timestamp") {
        Value::Null => 0,
        found => nanoseconds(&found)
            .ok_or_else(|| record.wrong_type("timestamp", &found, "milliseconds, 0 or more"))?,
    };
    let blocks = match record.take("hash_ids") {
        Value::Null => Vec::new(),
        found => {
            let ids = found.as_array().and_then(|ids| ids.iter().map(Value::as_u64).collect());
            ids.ok_or_else(|| record.wrong_type("hash_ids", &found, "a list of whole numbers, 0 or more"))?
        }
    };
    let tokens = |key| record.tokens(key, 0)?.ok_or_else(|| record.missing(key, EXPECTED));
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
