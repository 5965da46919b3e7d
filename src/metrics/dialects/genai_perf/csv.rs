//! `profile_export_genai_perf.csv`: metrics with percentiles, a blank line, single values.
//!
//! A port of genai-perf 0.0.16 `csv_exporter.py` and `exporter_utils.py`. The telemetry sections are absent, as they are when
//! genai-perf found no DCGM.

use super::super::get;
use super::values::Metric;
use crate::metrics::stats::with_thousands;

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

/// Column names of a distribution.
const STATISTICS: &str = "avg,min,max,p99,p95,p90,p75,p50,p25,p10,p5,p1";

/// The CSV of `metrics`. Objectives add the goodput row.
pub(super) fn csv(metrics: &[Metric], streaming: bool, objectives: bool) -> String {
    let row = |name: &str, title: &str, statistics: &str| {
        let stats = metrics.iter().find(|metric| metric.name == name).map(|metric| &metric.stats);
        let cell = |name| stats.and_then(|stats| get(stats, name)).map_or_else(|| "N/A".to_owned(), cell);
        format!("{title},{}", statistics.split(',').map(cell).collect::<Vec<_>>().join(","))
    };
    let mut lines = vec![format!("Metric,{STATISTICS}")];
    let rows = ROWS.iter().filter(|(_, _, streamed)| streaming || !streamed);
    lines.extend(rows.map(|(name, title, _)| row(name, title, STATISTICS)));
    lines.extend([String::new(), "Metric,Value".to_owned()]);
    let single = SINGLE.iter().filter(|(name, _)| objectives || *name != GOODPUT);
    lines.extend(single.map(|(name, title)| row(name, title, "avg")));
    lines.into_iter().map(|line| line + "\r\n").collect()
}

/// Python's `{:,.2f}`, in quotes when the commas make them necessary.
fn cell(value: f64) -> String {
    let grouped = with_thousands(&format!("{value:.2}"));
    if grouped.contains(',') { format!("\"{grouped}\"") } else { grouped }
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
