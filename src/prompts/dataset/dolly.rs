//! `databricks-dolly-15k.jsonl`: an instruction, what it is about, and the answer a person wrote.
//!
//! Fields: `instruction`, `context` (often empty), `response`, `category`
//! (<https://huggingface.co/datasets/databricks/databricks-dolly-15k>).

use super::records::Record;
use super::{Sample, Turn};
use crate::document::InputError;

/// The instruction, a blank line and the context when there is one; `None` when the instruction is empty.
pub(super) fn sample(record: &mut Record) -> Result<Option<Sample>, InputError> {
    const EXPECTED: &str =
        "the fields of databricks-dolly-15k.jsonl: instruction, context, response, category";
    for key in ["instruction", "response"] {
        if !record.fields.contains_key(key) {
            return Err(record.missing(key, EXPECTED));
        }
    }
    let mut user = record.text("instruction")?.unwrap_or_default();
    let context = record.text("context")?.unwrap_or_default();
    let answer = record.text("response")?.filter(|answer| !answer.trim().is_empty());
    if user.trim().is_empty() {
        return Ok(None);
    }
    if !context.trim().is_empty() {
        user.push_str("\n\n");
        user.push_str(&context);
    }
    Ok(Some(Sample { turns: vec![Turn { user, answer }], ..Sample::default() }))
}
