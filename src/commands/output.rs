//! Printing for verbs that have no printer yet.

use std::io::Write;

use serde::Serialize;

/// Writes text to stdout as it is.
pub(crate) fn text(text: &str) -> std::io::Result<()> {
    super::printer::write(text)
}

/// Writes one line to stdout.
pub(crate) fn line(line: &str) -> std::io::Result<()> {
    text(&format!("{line}\n"))
}

/// Writes one line to stderr; a closed stderr is nobody's problem.
pub(crate) fn note(line: &str) {
    let _closed = writeln!(std::io::stderr().lock(), "{line}");
}

/// Writes a value as JSON to stdout.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    Ok(line(&text)?)
}
