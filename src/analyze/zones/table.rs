//! Reads load levels from any tool's table: a CSV (also with semicolons or tabs) or a Markdown table with a row per level, or a
//! result file of AIPerf, genai-perf or `vllm bench serve` for one level.

use std::path::Path;

use itertools::Itertools;

use super::columns::{Column, column, is_throughput, number};
use super::level::{Axis, Level, Series};
use crate::document::{InputError, nearest};
use crate::metrics::dialects::read::{self, Row};

/// The names of the load.
const CONCURRENCY: [&str; 3] = ["concurrency", "max_concurrency", "conc"];
const RATE: [&str; 3] = ["request_rate", "rate", "rate_per_s"];

/// Columns that tell one series of a table from another.
const GROUPS: [&str; 6] = ["deployment", "isl", "osl", "streaming", "endpoint", "series"];

/// Those of them that say what the load was sent to; the others say what was sent.
const CONFIGURATIONS: [&str; 2] = ["deployment", "series"];

/// What other columns of `summary.csv` say about a row.
const VERDICT: &str = "verdict";
const COUNTS: [&str; 2] = ["requests", "failed"];

/// The column of `summary.csv` with the number of a repeat, and what stands there in the row of their mean.
const REPEAT: &str = "repeat";
pub const MEAN: &str = "mean";

/// What a file held.
#[derive(Debug, Default)]
pub struct Read {
    pub series: Vec<Series>,
    /// Names of columns that no rule reads.
    pub unread: Vec<String>,
}

/// Reads a table or a result file; `file` is named in errors.
pub fn parse(file: &Path, bytes: &[u8]) -> Result<Read, InputError> {
    let text = read::text(file, bytes)?;
    if text.trim_start().starts_with('{') {
        return Ok(Read { series: vec![of_json(file, text)?], unread: Vec::new() });
    }
    let separator = separator(text);
    let mut rows = read::rows_by(file, text, separator)?;
    rows.retain(|row| !is_rule(row));
    match rows.first().and_then(|row| row.cells.first()).map(|cell| cell.trim()) {
        Some("Metric" | "Endpoint") => {
            Ok(Read { series: vec![of_summary(file, text, None)?], unread: Vec::new() })
        }
        _ => of_rows(file, rows, separator == ';'),
    }
}

/// What separates the cells: of these the most frequent in the first line with text.
fn separator(text: &str) -> char {
    let head = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let count = |separator: &char| head.matches(*separator).count();
    [';', '\t', '|', ','].into_iter().max_by_key(count).unwrap_or(',')
}

/// The line below the head of a Markdown table: `| --- | :-: |`.
fn is_rule(row: &Row) -> bool {
    let is_dashes = |cell: &String| cell.trim().chars().all(|c| matches!(c, '-' | ':'));
    row.cells.iter().all(is_dashes) && row.cells.iter().any(|cell| cell.contains("--"))
}

/// Joins the series of several files: those of one name and axis are one.
pub fn join(all: impl IntoIterator<Item = Series>) -> Vec<Series> {
    let mut joined: Vec<Series> = Vec::new();
    for series in all {
        match joined.iter_mut().find(|known| (&known.name, known.axis) == (&series.name, series.axis)) {
            Some(known) => known.levels.extend(series.levels),
            None => joined.push(series),
        }
    }
    joined
}

fn normal(name: &str) -> String {
    name.trim().to_ascii_lowercase().replace(' ', "_")
}

/// The head of a table: where what stands.
struct Head {
    names: Vec<String>,
    columns: Vec<(usize, Column)>,
    loads: Vec<(usize, Axis)>,
    /// A comma in a number is a decimal comma.
    decimal_comma: bool,
}

impl Head {
    fn of(file: &Path, row: &Row, decimal_comma: bool) -> Result<Self, InputError> {
        let names: Vec<String> = row.cells.iter().map(|cell| normal(cell)).collect();
        if let Some(twice) = names.iter().filter(|name| !name.is_empty()).duplicates().next() {
            return Err(read::at_line(file, row.line, format!("column {twice:?} stands twice")));
        }
        let at = |known: &[&str]| names.iter().position(|name| known.contains(&name.as_str()));
        let columns: Vec<(usize, Column)> =
            names.iter().enumerate().filter_map(|(at, name)| Some((at, column(name)?))).collect();
        let loads: Vec<(usize, Axis)> = [(&RATE, Axis::RequestRate), (&CONCURRENCY, Axis::Concurrency)]
            .into_iter()
            .filter_map(|(known, axis)| Some((at(known.as_slice())?, axis)))
            .collect();
        let expected =
            "a header such as concurrency,requests_per_s,output_tokens_per_s,latency_avg_ms,latency_p99_ms";
        let found = row.cells.iter().map(|cell| read::shortened(cell)).join(",");
        let wrong = |problem: String| {
            let advice = names
                .iter()
                .find_map(|name| nearest(name, ["concurrency", "output_tokens_per_s"].into_iter()));
            let error = read::at_line(file, row.line, problem).expected(expected);
            match advice {
                Some(near) => error.next(format!("did you mean `{near}`?")),
                None => error,
            }
        };
        if loads.is_empty() {
            return Err(wrong(format!("no column `concurrency` or `request_rate` in {found:?}")));
        }
        if !names.iter().any(|name| is_throughput(name)) {
            return Err(wrong(format!("no column `output_tokens_per_s` or `requests_per_s` in {found:?}")));
        }
        Ok(Self { names, columns, loads, decimal_comma })
    }

    fn at(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }

    /// Columns that nothing reads.
    fn unread(&self) -> Vec<String> {
        let is_read = |name: &&String| {
            let others = CONCURRENCY.iter().chain(&RATE).chain(&GROUPS).chain(&COUNTS);
            column(name).is_some() || others.chain([&VERDICT, &REPEAT]).any(|known| known == name)
        };
        self.names.iter().filter(|name| !name.is_empty() && !is_read(name)).cloned().collect()
    }
}

fn of_rows(file: &Path, rows: Vec<Row>, decimal_comma: bool) -> Result<Read, InputError> {
    let is_empty = |row: &Row| row.cells.iter().all(|cell| cell.trim().is_empty());
    let mut rows = rows.into_iter().filter(|row| !is_empty(row));
    let nothing = || {
        InputError::new(file.display().to_string(), "the table is empty")
            .expected("a header and a row per load")
    };
    let head = rows.next().ok_or_else(nothing)?;
    let head = Head::of(file, &head, decimal_comma)?;
    // The repeats themselves are in the table, too.
    let repeat = head.at(REPEAT);
    let is_mean = |row: &Row| repeat.and_then(|at| row.cells.get(at)).is_some_and(|cell| cell.trim() == MEAN);
    let rows = rows.filter(|row| !is_mean(row));
    let levels: Vec<(Axis, Vec<String>, Level)> = rows.map(|row| level(file, &head, &row)).try_collect()?;
    if levels.is_empty() {
        return Err(nothing());
    }
    // A name says only what differs.
    let groups: Vec<usize> = GROUPS.iter().filter_map(|name| head.at(name)).collect();
    let differs = |at: usize| !levels.iter().map(|(_, cells, _)| cells.get(at)).all_equal();
    let naming: Vec<usize> = (0..groups.len()).filter(|at| differs(*at)).collect();
    let series = levels.iter().map(|(axis, cells, level)| {
        let word = |at: &usize| {
            let name = groups.get(*at).and_then(|column| head.names.get(*column))?;
            let value = cells.get(*at)?;
            Some((CONFIGURATIONS.contains(&name.as_str()), format!("{name} {value}")))
        };
        let words: Vec<(bool, String)> = naming.iter().filter_map(word).collect();
        let of = |wanted: &dyn Fn(bool) -> bool| {
            words
                .iter()
                .filter(|(is_configuration, _)| wanted(*is_configuration))
                .map(|(_, word)| word)
                .join(", ")
        };
        Series {
            name: of(&|_| true),
            configuration: of(&|is_configuration| is_configuration),
            workload: of(&|is_configuration| !is_configuration),
            axis: *axis,
            levels: vec![level.clone()],
            ..Series::default()
        }
    });
    Ok(Read { series: join(series), unread: head.unread() })
}

/// The level in a row, and its cells of the columns that group.
fn level(file: &Path, head: &Head, row: &Row) -> Result<(Axis, Vec<String>, Level), InputError> {
    if row.cells.len() != head.names.len() {
        let (found, expected) = (row.cells.len(), head.names.len());
        return Err(read::at_line(file, row.line, format!("{found} cells, its header has {expected}")));
    }
    let cell = |at: usize| row.cells.get(at).map_or("", |cell| cell.trim());
    let wrong = |at: usize, expected: &'static str| {
        let name = head.names.get(at).map_or("", String::as_str);
        let problem = format!("column {name:?}: found {:?}", read::shortened(cell(at)));
        read::at_line(file, row.line, problem).expected(expected)
    };
    let plain = |at: usize| number(cell(at), head.decimal_comma).map_err(|expected| wrong(at, expected));
    let mut level = Level::default();
    let mut axis = None;
    for (at, of) in &head.loads {
        if let (None, Some(load)) = (axis, plain(*at)?.filter(|load| *load > 0.0)) {
            axis = Some(*of);
            level.load = load;
        }
    }
    let Some(axis) = axis else {
        return Err(
            read::at_line(file, row.line, "no load").expected("a concurrency or a request rate above 0")
        );
    };
    for (at, column) in &head.columns {
        column.read(cell(*at), head.decimal_comma, &mut level).map_err(|expected| wrong(*at, expected))?;
    }
    level.name_figures();
    let count = |name: &str| head.at(name).map(&plain).transpose().map(Option::flatten);
    let counted =
        count(COUNTS[1])?.zip(count(COUNTS[0])?.filter(|all| *all > 0.0)).map(|(failed, all)| failed / all);
    level.error_rate = level.error_rate.or(counted);
    let verdict = head.at(VERDICT).map_or("", cell);
    (level.failed, level.suspect) = (verdict == "invalid", verdict == "suspect");
    let groups = GROUPS.iter().filter_map(|name| row.cells.get(head.at(name)?).cloned());
    Ok((axis, groups.collect(), level))
}

/// A JSON result: `vllm bench serve`'s, AIPerf's or genai-perf's.
fn of_json(file: &Path, text: &str) -> Result<Series, InputError> {
    let Ok(content) = serde_json::from_str::<serde_json::Value>(text) else {
        return of_summary(file, text, None);
    };
    if content.get("max_concurrency").is_none()
        || content.get("request_throughput").is_none_or(|of| !of.is_number())
    {
        return of_summary(file, text, content.get("input_config"));
    }
    let figure = |name: &str| content.get(name).and_then(serde_json::Value::as_f64);
    let mut level = Level::default();
    for (name, value) in content.as_object().into_iter().flatten() {
        // Every figure of these files is a number in ms or per second.
        if let (Some(column), Some(value)) = (column(name), value.as_f64()) {
            let _ = column.read(&value.to_string(), false, &mut level);
        }
    }
    level.name_figures();
    let requests = figure("num_prompts").filter(|all| *all > 0.0);
    level.error_rate =
        requests.zip(figure("completed")).map(|(all, completed)| (1.0 - completed / all).max(0.0));
    let rate = figure("request_rate").map(|rate| (rate, Axis::RequestRate));
    let load = rate.or(figure("max_concurrency").map(|most| (most, Axis::Concurrency)));
    at_load(file, level, load)
}

/// AIPerf's and genai-perf's summaries; their load stands in `config`, or in the name of the file or its folder.
fn of_summary(file: &Path, text: &str, config: Option<&serde_json::Value>) -> Result<Series, InputError> {
    let summary = read::parse(file, text.as_bytes())?;
    let get = |metric: &str, statistic: &str| summary.get(metric, statistic);
    let counted = get("request_error_rate", "avg").map(|percent| percent / 100.0);
    let mut level = Level {
        requests_per_s: get("request_throughput", "avg"),
        output_tokens_per_s: get("output_token_throughput", "avg"),
        total_tokens_per_s: get("total_token_throughput", "avg"),
        per_user: get("output_token_throughput_per_user", "avg"),
        error_rate: counted.filter(|rate| (0.0..=1.0).contains(rate)),
        ..Level::default()
    };
    let latencies =
        [("request_latency", "e2e"), ("time_to_first_token", "ttft"), ("inter_token_latency", "itl")];
    for (tag, name) in latencies {
        let statistics = summary.metrics.get(tag).into_iter().flat_map(|metric| &metric.stats);
        level.figures.extend(statistics.map(|(statistic, value)| (format!("{name}.{statistic}"), *value)));
    }
    level.name_figures();
    let inside = |name: &str| config.and_then(|config| find(config, name));
    let rate = inside("request_rate").or_else(|| inside("rate")).map(|rate| (rate, Axis::RequestRate));
    let load = rate
        .or_else(|| inside("concurrency").or_else(|| in_name(file)).map(|load| (load, Axis::Concurrency)));
    at_load(file, level, load)
}

fn at_load(file: &Path, level: Level, load: Option<(f64, Axis)>) -> Result<Series, InputError> {
    let Some((load, axis)) = load.filter(|(load, _)| *load > 0.0) else {
        return Err(InputError::new(
            file.display().to_string(),
            "neither the file nor its path names the concurrency",
        )
        .expected("`concurrency` in its `input_config`, or a folder such as `concurrency8`")
        .next("write the levels into a CSV file with a column `concurrency`"));
    };
    Ok(Series { axis, levels: vec![Level { load, ..level }], ..Series::default() })
}

/// The first number of that key, at any depth.
fn find(value: &serde_json::Value, key: &str) -> Option<f64> {
    match value {
        serde_json::Value::Object(fields) => fields
            .get(key)
            .and_then(serde_json::Value::as_f64)
            .or_else(|| fields.values().find_map(|inside| find(inside, key))),
        serde_json::Value::Array(items) => items.iter().find_map(|inside| find(inside, key)),
        _ => None,
    }
}

/// The number behind `concurrency` or `conc` in the last folders or the name of a file: `…/concurrency8/…`, `…-conc16.json`.
fn in_name(file: &Path) -> Option<f64> {
    let parts = file.components().rev().filter_map(|part| part.as_os_str().to_str()).take(3);
    let number = |part: &str| {
        let after = ["concurrency", "conc"].into_iter().find_map(|word| part.split(word).nth(1))?;
        let digits: String =
            after.trim_start_matches(['-', '_', '=']).chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    parts.into_iter().find_map(number)
}
