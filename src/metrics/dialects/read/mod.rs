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
use std::path::{Path, PathBuf};

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

/// Why a file could not be read. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Bytes that are no text.
    #[error("{}:{line}: not UTF-8 text", file.display())]
    NotText {
        /// The file.
        file: PathBuf,
        /// Where the text ends.
        line: usize,
    },
    /// Text that starts as JSON and is none, or not an object.
    #[error("{}:{line}:{column}: {reason}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// Line of the fault.
        line: usize,
        /// Column of the fault.
        column: usize,
        /// The parser's error.
        reason: String,
    },
    /// A value of a metric that is of the wrong kind.
    #[error("{}: {key}: found {found}, expected {expected}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// `metric.statistic`.
        key: String,
        /// What is there, shortened.
        found: String,
        /// What should be.
        expected: &'static str,
    },
    /// A quoted cell without an end.
    #[error("{}:{line}: a quoted cell starts here and never ends; is the file cut off?", file.display())]
    Quote {
        /// The file.
        file: PathBuf,
        /// Line of the opening quote.
        line: usize,
    },
    /// A row above any header.
    #[error("{}:{line}: {key:?} stands below no header, expected a row that starts with \"Metric\"", file.display())]
    Headless {
        /// The file.
        file: PathBuf,
        /// The row.
        line: usize,
        /// Its first cell, shortened.
        key: String,
    },
    /// A row that does not fit its header.
    #[error("{}:{line}: {key:?} has {found} cells, its header {expected}", file.display())]
    Cells {
        /// The file.
        file: PathBuf,
        /// The row.
        line: usize,
        /// Its first cell, shortened.
        key: String,
        /// Cells of the row.
        found: usize,
        /// Cells of the header.
        expected: usize,
    },
    /// A cell that is no number.
    #[error("{}:{line}: {key:?}, column {column:?}: found {found:?}, expected a number", file.display())]
    Number {
        /// The file.
        file: PathBuf,
        /// The row.
        line: usize,
        /// The metric.
        key: String,
        /// The column.
        column: String,
        /// What is there, shortened.
        found: String,
    },
    /// Well-formed, but by no tool that is known here.
    #[error(
        "{}: neither AIPerf's nor genai-perf's summary, expected a profile_export_aiperf or profile_export_genai_perf \
         file, .json or .csv",
        file.display()
    )]
    Unknown {
        /// The file.
        file: PathBuf,
    },
}

/// The summary in `bytes`, JSON or CSV. `file` is named in errors, and its name gives the tool when the content does not.
pub fn parse(file: &Path, bytes: &[u8]) -> Result<ForeignSummary, ReadError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let read = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + read.iter().filter(|byte| **byte == b'\n').count();
        ReadError::NotText { file: file.to_owned(), line }
    })?;
    if text.trim_start().starts_with(['{', '[']) { json::parse(file, text) } else { csv::parse(file, text) }
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
fn shortened(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
