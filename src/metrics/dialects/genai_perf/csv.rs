//! `profile_export_genai_perf.csv`: metrics with percentiles, a blank line, single values.
//!
//! A port of genai-perf 0.0.16 `csv_exporter.py` and `exporter_utils.py`. The telemetry sections are absent, as they are when
//! genai-perf found no DCGM.

use super::values::{Metric, Value};
use crate::metrics::stats::Distribution;

/// The rows of the first section: metric, `Name (unit)`, streaming only. The order is hard-coded in genai-perf, too.
const ROWS: [(&str, &str, bool); 7] = [
    ("time_to_first_token", "Time To First Token (ms)", true),
    ("time_to_second_token", "Time To Second Token (ms)", true),
    ("request_latency", "Request Latency (ms)", false),
    ("inter_token_latency", "Inter Token Latency (ms)", true),
    ("output_token_throughput_per_user", "Output Token Throughput Per User (tokens/sec/user)", true),
    ("output_sequence_length", "Output Sequence Length (tokens)", false),
    ("input_sequence_length", "Input Sequence Length (tokens)", false),
];

/// The rows of the second section.
const SINGLE: [(&str, &str); 4] = [
    ("output_token_throughput", "Output Token Throughput (tokens/sec)"),
    ("request_throughput", "Request Throughput (per sec)"),
    (GOODPUT, "Request Goodput (per sec)"),
    ("request_count", "Request Count (count)"),
];

const GOODPUT: &str = "request_goodput";

/// What stands where there is no value.
const NOTHING: &str = "N/A";

/// The CSV of `metrics`. Objectives add the goodput row.
pub(super) fn csv(metrics: &[Metric], streaming: bool, objectives: bool) -> String {
    let value = |name: &str| metrics.iter().find(|metric| metric.name == name).map(|metric| metric.value);
    let mut lines = vec!["Metric,avg,min,max,p99,p95,p90,p75,p50,p25,p10,p5,p1".to_owned()];
    for (name, title, _) in ROWS.iter().filter(|(_, _, streamed)| streaming || !streamed) {
        let cells = match value(name) {
            Some(Value::Spread(spread)) => statistics(&spread).map(cell),
            _ => std::array::from_fn(|_| NOTHING.to_owned()),
        };
        lines.push(format!("{title},{}", cells.join(",")));
    }
    lines.extend([String::new(), "Metric,Value".to_owned()]);
    for (name, title) in SINGLE.iter().filter(|(name, _)| objectives || *name != GOODPUT) {
        let cell = match value(name) {
            Some(Value::Single(value)) => cell(value),
            _ => NOTHING.to_owned(),
        };
        lines.push(format!("{title},{cell}"));
    }
    lines.into_iter().map(|line| line + "\r\n").collect()
}

/// In the order of the header.
fn statistics(of: &Distribution) -> [f64; 12] {
    [of.avg, of.min, of.max, of.p99, of.p95, of.p90, of.p75, of.p50, of.p25, of.p10, of.p5, of.p1]
}

/// Python's `{:,.2f}`, in quotes when the commas make them necessary.
fn cell(value: f64) -> String {
    let plain = format!("{value:.2}");
    let (sign, digits) = plain.strip_prefix('-').map_or(("", plain.as_str()), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "00"));
    if whole.len() <= 3 {
        return plain;
    }
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("\"{sign}{grouped}.{fraction}\"")
}

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn numbers_as_python_groups_them() {
        let expected = [
            (0.0, "0.00"),
            (0.005, "0.01"),
            (22.285, "22.29"),
            (999.994, "999.99"),
            (999.999, "\"1,000.00\""),
            (10_071.944, "\"10,071.94\""),
            (12_345.678, "\"12,345.68\""),
            (1_234_567.0, "\"1,234,567.00\""),
            (-1_234.5, "\"-1,234.50\""),
            (-12.0, "-12.00"),
        ];
        for (value, text) in expected {
            assert_eq!(cell(value), text);
        }
    }
}
