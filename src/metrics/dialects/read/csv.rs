//! The CSV summaries: sections with a header each, blank lines between them; sections on GPUs are left alone.

use super::{ForeignMetric, ForeignSummary, Tool, at_line, names, shortened, tool_of_name, unknown};
use crate::document::InputError;
use std::collections::BTreeMap;
use std::path::Path;

/// What the rows that follow belong to.
enum Section {
    /// Metrics with these statistics.
    Metrics(Vec<String>),
    /// Something else: GPU telemetry.
    Other,
}

pub(super) fn parse(file: &Path, text: &str) -> Result<ForeignSummary, InputError> {
    let mut metrics: BTreeMap<String, ForeignMetric> = BTreeMap::new();
    let mut section = None;
    let mut tool = None;
    for Row { line, cells } in rows(file, text)? {
        let Some((first, rest)) = cells.split_first() else { continue };
        if rest.is_empty() && first.trim().is_empty() {
            section = None;
            continue;
        }
        if let Some(header) = header(first, rest) {
            tool = tool.or_else(|| tool_of_header(first, rest));
            section = Some(header);
            continue;
        }
        match &section {
            Some(Section::Other) => {}
            Some(Section::Metrics(columns)) => {
                // The one title that the tools write differently in a file without percentiles.
                tool = tool.or_else(|| (first == "Request Count (count)").then_some(Tool::GenAiPerf));
                let (tag, unit) = names::tag_and_unit(first);
                let stats = stats(file, line, first, columns, rest)?;
                metrics.insert(tag, ForeignMetric { unit, stats });
            }
            None => {
                let problem = format!(
                    "{:?} stands below no header, expected a row that starts with \"Metric\"",
                    shortened(first)
                );
                return Err(at_line(file, line, problem));
            }
        }
    }
    let tool = tool.or_else(|| tool_of_name(file)).filter(|_| !metrics.is_empty() || section.is_some());
    let tool = tool.ok_or_else(|| unknown(file))?;
    Ok(ForeignSummary { tool, version: None, metrics })
}

/// The section a header opens, `None` for a row that is none.
fn header(first: &str, rest: &[String]) -> Option<Section> {
    match (first, rest.first().map(String::as_str)) {
        ("Metric", Some("GPU" | "GPU Index")) | ("Endpoint", _) => Some(Section::Other),
        ("Metric", Some("Value")) => Some(Section::Metrics(vec!["avg".to_owned()])),
        ("Metric", _) => Some(Section::Metrics(rest.to_vec())),
        _ => None,
    }
}

/// genai-perf writes percentiles from the highest down, AIPerf from the lowest up, whatever else its header had.
fn tool_of_header(first: &str, rest: &[String]) -> Option<Tool> {
    let at = |name: &str| rest.iter().position(|column| column == name);
    match (at("p1"), at("p99")) {
        (Some(lowest), Some(highest)) if highest < lowest => Some(Tool::GenAiPerf),
        (Some(_), Some(_)) => Some(Tool::AiPerf),
        _ => (first == "Endpoint").then_some(Tool::AiPerf),
    }
}

fn stats(
    file: &Path,
    line: usize,
    key: &str,
    columns: &[String],
    cells: &[String],
) -> Result<BTreeMap<String, f64>, InputError> {
    let key = shortened(key);
    if columns.len() != cells.len() {
        let (found, expected) = (cells.len() + 1, columns.len() + 1);
        return Err(at_line(file, line, format!("{key:?} has {found} cells, its header {expected}")));
    }
    let mut stats = BTreeMap::new();
    for (column, cell) in columns.iter().zip(cells) {
        let cell = cell.trim();
        if cell.is_empty() || cell == "N/A" {
            continue;
        }
        let number: f64 = cell.replace(',', "").parse().map_err(|_| {
            let (column, cell) = (shortened(column), shortened(cell));
            at_line(file, line, format!("{key:?}, column {column:?}: found {cell:?}, expected a number"))
        })?;
        stats.extend(number.is_finite().then(|| (column.clone(), number)));
    }
    Ok(stats)
}

/// A record of the file and the line it starts on, from 1.
#[derive(Debug)]
pub struct Row {
    pub line: usize,
    pub cells: Vec<String>,
}

/// RFC 4180, line ends CRLF or LF; a quote inside an unquoted cell is itself. A blank line is a row with one empty cell.
pub fn rows(file: &Path, text: &str) -> Result<Vec<Row>, InputError> {
    rows_by(file, text, ',')
}

/// The same with another separator between cells.
pub fn rows_by(file: &Path, text: &str, separator: char) -> Result<Vec<Row>, InputError> {
    let mut rows = Vec::new();
    let mut row = Row { line: 1, cells: Vec::new() };
    let mut cell = String::new();
    let mut line = 1;
    // Line of the opening quote, while inside one.
    let mut quoted = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        line += usize::from(c == '\n');
        match c {
            '"' if quoted.is_some() => match chars.next_if_eq(&'"') {
                Some(quote) => cell.push(quote),
                None => quoted = None,
            },
            _ if quoted.is_some() => cell.push(c),
            '"' if cell.is_empty() => quoted = Some(line),
            c if c == separator => row.cells.push(std::mem::take(&mut cell)),
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' => {
                row.cells.push(std::mem::take(&mut cell));
                rows.push(std::mem::replace(&mut row, Row { line, cells: Vec::new() }));
            }
            _ => cell.push(c),
        }
    }
    if let Some(line) = quoted {
        return Err(at_line(file, line, "a quoted cell starts here and never ends; is the file cut off?"));
    }
    if !cell.is_empty() || !row.cells.is_empty() {
        row.cells.push(cell);
        rows.push(row);
    }
    Ok(rows)
}
