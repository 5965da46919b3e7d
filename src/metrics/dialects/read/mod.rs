//! Summaries of other tools, read for comparison: AIPerf's `profile_export_aiperf.{json,csv}` of any version so far and
//! genai-perf's `profile_export_genai_perf.{json,csv}`.
//!
//! Columns are found by name, the tool by content. A metric goes by its tag
//! (`time_to_first_token`) in both formats. Pure: bytes in, figures out, whoever reads the file passes its name for the
//! errors.

mod csv;
mod json;
mod names;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use crate::document::InputError;

/// Who wrote a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// AIPerf.
    AiPerf,
    /// genai-perf.
    GenAiPerf,
}

impl std::fmt::Display for Tool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AiPerf => "AIPerf",
            Self::GenAiPerf => "genai-perf",
        })
    }
}

/// One metric of another tool's summary.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ForeignMetric {
    /// Unit as the file gives it (`ms`, `tokens/sec`); empty where it gives none, as AIPerf's CSV for counts.
    pub unit: String,
    /// `avg`, `min`, `max`, `std`, `p50` … by name; a single value is `avg`. Statistics that are not there, `N/A` or not
    /// finite are absent.
    pub stats: BTreeMap<String, f64>,
}

/// Another tool's summary of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignSummary {
    /// Who wrote it.
    pub tool: Tool,
    /// The tool's version, when the file has it.
    pub version: Option<String>,
    /// The metrics by tag.
    pub metrics: BTreeMap<String, ForeignMetric>,
}

impl ForeignSummary {
    /// A statistic of a metric, in the unit of the metric.
    pub fn get(&self, metric: &str, statistic: &str) -> Option<f64> {
        self.metrics.get(metric)?.stats.get(statistic).copied()
    }
}

pub use csv::{Row, rows_by};

/// An error on a line, counted from 1.
pub fn at_line(file: &Path, line: usize, problem: impl Into<String>) -> InputError {
    InputError::new(format!("{}:{line}", file.display()), problem)
}

fn unknown(file: &Path) -> InputError {
    InputError::new(
        file.display().to_string(),
        "neither AIPerf's nor genai-perf's summary, expected a profile_export_aiperf or profile_export_genai_perf \
         file, .json or .csv",
    )
}

/// The summary in `bytes`, JSON or CSV. `file` is named in errors, and its name gives the tool when the content does not.
pub fn parse(file: &Path, bytes: &[u8]) -> Result<ForeignSummary, InputError> {
    let text = text(file, bytes)?;
    if text.trim_start().starts_with(['{', '[']) { json::parse(file, text) } else { csv::parse(file, text) }
}

/// The text of a file, without a byte order mark.
pub fn text<'a>(file: &Path, bytes: &'a [u8]) -> Result<&'a str, InputError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let read = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + read.iter().filter(|byte| **byte == b'\n').count();
        at_line(file, line, "not UTF-8 text")
    })
}

/// The tool that the name of a file speaks of.
fn tool_of_name(file: &Path) -> Option<Tool> {
    let name = file.file_name()?.to_string_lossy();
    match () {
        () if name.contains("genai_perf") => Some(Tool::GenAiPerf),
        () if name.contains("aiperf") => Some(Tool::AiPerf),
        () => None,
    }
}

/// At most 60 characters of `text`, for an error.
pub fn shortened(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
