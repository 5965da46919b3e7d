//! Mooncake traces: JSONL with the blocks of each prompt.
//!
//! A line is `{"timestamp": milliseconds, "input_length": tokens, "output_length": tokens, "hash_ids": [block, …]}`, one
//! block for each 512 tokens begun, or as many as `block_size` says; `timestamp` and `hash_ids` may be absent
//! (<https://github.com/kvcache-ai/Mooncake>, FAST25-release/traces). AIPerf has `text_input` in place of `input_length`, and
//! `session_id` and `delay` for turns that wait for one another
//! (<https://docs.nvidia.com/aiperf/benchmark-modes/trace-replay-with-mooncake-traces>).

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::super::dataset::file::Opened;
use super::super::dataset::records::{Record, Records};
use super::{Rows, TraceRow};
use crate::document::InputError;

/// The fields, in words.
const EXPECTED: &str =
    "the fields of a Mooncake trace: timestamp, input_length or text_input, output_length, hash_ids";

/// Names of the number of tokens in a block, in a line or in one before all others.
const SIZES: [&str; 3] = ["block_size", "hash_block_size", "tokens_per_block"];

/// Fields that are honoured or harmless.
const KNOWN: [&str; 7] =
    ["timestamp", "input_length", "output_length", "hash_ids", "text_input", "session_id", "delay"];

/// Fields that would change what is sent.
const REFUSED: [(&str, &str); 7] = [
    (
        "messages",
        "[load.prompts.dataset] with kind = \"jsonl\" sends messages; arrivals are then those of the load",
    ),
    (
        "payload",
        "[load.prompts.dataset] with kind = \"jsonl\" sends whole bodies; arrivals are then those of the load",
    ),
    (
        "tools",
        "[load.prompts.dataset] with kind = \"jsonl\" sends tools; arrivals are then those of the load",
    ),
    (
        "turns",
        "[load.prompts.dataset] with kind = \"jsonl\" reads turns; [load.prompts.conversation] sends them",
    ),
    ("extra", "send the same fields with every request: load.extra_body"),
    ("chat_id", BAILIAN),
    ("parent_chat_id", BAILIAN),
];

/// How a Bailian trace becomes one of Mooncake.
const BAILIAN: &str = "a Bailian trace counts seconds; make lines of Mooncake, and give block_size = 16: \
                       jq -c '{timestamp: (.timestamp * 1000), input_length, output_length, hash_ids}'";

/// Hands every line to `rows`.
pub(super) fn read(opened: Opened, rows: &mut Rows<'_>) -> Result<(), InputError> {
    let mut records = Records::new(opened);
    let advice = |error: InputError| match error.line == Some((1, 1)) && error.problem.starts_with("not JSON")
    {
        true => error.next("if it is a table with a header, take kind = \"burstgpt\" or kind = \"azure\""),
        false => error,
    };
    let mut sessions = HashSet::new();
    let mut unknown = BTreeMap::<String, u64>::new();
    while let Some(mut record) = records.next().map_err(advice)? {
        let is_header = block_size(&record, rows)?;
        if is_header {
            continue;
        }
        refuse(&record, &mut sessions)?;
        for key in record
            .fields
            .keys()
            .filter(|key| !KNOWN.contains(&key.as_str()) && !SIZES.contains(&key.as_str()))
        {
            *unknown.entry(key.clone()).or_default() += 1;
        }
        let row = row(&mut record, rows.count)?;
        rows.see(row);
    }
    rows.notes
        .extend(unknown.iter().map(|(key, count)| format!("the field {key} of {count} rows is not used")));
    Ok(())
}

/// Takes the number of tokens in a block from a row, or from a line of its own; whether it is such a line. All must agree.
fn block_size(record: &Record, rows: &mut Rows<'_>) -> Result<bool, InputError> {
    let inside = record.fields.values().filter_map(Value::as_object);
    let found = std::iter::once(&record.fields).chain(inside).find_map(|fields| {
        SIZES.iter().find_map(|key| Some((*key, fields.get(*key).filter(|value| !value.is_null())?)))
    });
    let Some((key, value)) = found else { return Ok(false) };
    let size = value.as_u64().and_then(|size| u32::try_from(size).ok()).filter(|size| *size > 0);
    let size = size.ok_or_else(|| record.wrong_type(key, value, "a whole number of tokens, 1 or more"))?;
    if let Some(other) = rows.block_size.replace(size).filter(|other| *other != size) {
        return Err(record.wrong_type(key, value, &format!("{other}, as before")));
    }
    Ok(!["input_length", "text_input", "output_length"].iter().any(|key| record.fields.contains_key(*key)))
}

/// Refuses what the clock of a trace cannot keep, and what it does not send.
fn refuse(record: &Record, sessions: &mut HashSet<String>) -> Result<(), InputError> {
    let present = |key: &str| record.fields.get(key).filter(|value| !value.is_null());
    if let Some((key, next)) = REFUSED.iter().find(|(key, _)| present(key).is_some()) {
        return Err(record
            .error("the field is not sent with a trace")
            .key(*key)
            .expected(EXPECTED)
            .next(*next));
    }
    let clock = "a row for each request, due at its timestamp";
    let advice = "give each row its timestamp and take the field out (jq -c 'del(.session_id, .delay)'), \
                  or hold conversations: [load.prompts.conversation]";
    if let Some(delay) = present("delay").filter(|delay| delay.as_f64() != Some(0.0)) {
        let error = record.wrong_type("delay", delay, clock);
        return Err(InputError {
            problem: format!("{}: a wait after another answer, which no clock keeps", error.problem),
            ..error
        }
        .next(advice));
    }
    if let Some(session) = present("session_id")
        && !sessions.insert(session.to_string())
    {
        let problem =
            format!("found {session} again: turns of a session wait for one another, which no clock keeps");
        return Err(record.error(problem).key("session_id").expected(clock).next(advice));
    }
    Ok(())
}

fn row(record: &mut Record, count: &dyn Fn(&str) -> u32) -> Result<TraceRow, InputError> {
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
    let text = record.words("text_input")?;
    let isl = record.tokens("input_length", 0)?;
    if text.is_some() && (isl.is_some() || !blocks.is_empty()) {
        let error = record.error("found beside input_length or hash_ids").key("text_input");
        return Err(error.expected("the words of the prompt, or its length and blocks"));
    }
    let isl = text.as_deref().map(count).or(isl).ok_or_else(|| record.missing("input_length", EXPECTED))?;
    let osl = record.tokens("output_length", 0)?.ok_or_else(|| record.missing("output_length", EXPECTED))?;
    Ok(TraceRow { at_ns, isl, osl, blocks, text, place: record.at })
}

/// Milliseconds as nanoseconds.
fn nanoseconds(milliseconds: &Value) -> Option<i64> {
    if let Some(whole) = milliseconds.as_i64() {
        return whole.checked_mul(1_000_000).filter(|nanoseconds| *nanoseconds >= 0);
    }
    let nanoseconds = (milliseconds.as_f64()? * 1e6).round();
    (0.0..9e18).contains(&nanoseconds).then_some(nanoseconds as i64)
}
