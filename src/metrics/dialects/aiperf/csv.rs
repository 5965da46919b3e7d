//! `profile_export_aiperf.csv`: metrics with percentiles, a blank line, single values, two blank lines, the GPU section.
//!
//! A port of AIPerf 0.13 `exporters/metrics_csv_exporter.py`.

use super::super::get;
use super::totals::Metric;

/// Column names of a distribution (`STAT_KEYS`).
const STATISTICS: &str = "avg,min,max,sum,p1,p5,p10,p25,p50,p75,p90,p95,p99,std";

/// The CSV of `metrics`: UTF-8, CRLF, rows by tag, `%.2f`, a cell that has no value empty. No name or number in
/// it needs quoting. The GPU section has its header only, as AIPerf writes it when no telemetry endpoint answered.
pub(super) fn csv(metrics: &[Metric]) -> String {
    let mut rows: Vec<&Metric> = metrics.iter().collect();
    rows.sort_by(|a, b| a.tag.cmp(&b.tag));
    let (distributions, scalars): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|row| get(&row.stats, "p50").is_some());
    let mut lines = Vec::new();
    if !distributions.is_empty() {
        lines.push(format!("Metric,{STATISTICS}"));
        lines.extend(distributions.iter().map(|row| format!("{},{}", name(row), cells(row))));
    }
    if !distributions.is_empty() && !scalars.is_empty() {
        lines.push(String::new());
    }
    if !scalars.is_empty() {
        lines.push("Metric,Value".to_owned());
        lines.extend(scalars.iter().map(|row| format!("{},{}", name(row), cell(get(&row.stats, "avg")))));
    }
    let gpus = format!("Endpoint,GPU_Index,GPU_Name,GPU_UUID,Platform,Metric,{STATISTICS}");
    lines.extend([String::new(), String::new(), gpus]);
    lines.into_iter().map(|line| line + "\r\n").collect()
}

/// `Header (unit)`; counts have no unit.
fn name(row: &Metric) -> String {
    match row.unit {
        "requests" | "count" => row.header.clone(),
        unit => format!("{} ({unit})", row.header),
    }
}

fn cells(row: &Metric) -> String {
    STATISTICS.split(',').map(|name| cell(get(&row.stats, name))).collect::<Vec<_>>().join(",")
}

fn cell(value: Option<f64>) -> String {
    value.filter(|value| value.is_finite()).map(|value| format!("{value:.2}")).unwrap_or_default()
}
