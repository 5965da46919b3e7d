//! `summary.csv`: one row per load point, of repeats also one for their mean, with every headline figure, empty if a figure does not apply.

use super::failures::Failures;
use super::{PointResult, gpus, repeats};
use crate::analyze::zones::table::MEAN;
use crate::metrics::repeats::FIGURES;

const HEAD: &str = "point,deployment,gpus,simulated,isl,osl,concurrency,request_rate,streaming,endpoint,verdict,requests,completed,\
failed,cancelled,duration_s,requests_per_s,output_tokens_per_s,total_tokens_per_s,output_tokens_per_s_per_gpu,\
output_tokens_per_s_per_user,goodput_per_s,ttft_avg_ms,ttft_min_ms,ttft_max_ms,ttft_p50_ms,ttft_p75_ms,ttft_p90_ms,ttft_p95_ms,ttft_p99_ms,itl_avg_ms,itl_min_ms,itl_max_ms,itl_p50_ms,itl_p75_ms,\
itl_p90_ms,itl_p95_ms,itl_p99_ms,e2e_avg_ms,e2e_min_ms,e2e_max_ms,e2e_p50_ms,e2e_p75_ms,e2e_p90_ms,e2e_p95_ms,e2e_p99_ms,isl_avg,osl_avg,offered_per_s,schedule_lag_p99_ms,dropped,\
ttft_scheduled_p50_ms,ttft_scheduled_p99_ms,e2e_scheduled_p50_ms,e2e_scheduled_p99_ms,reasons,errors,repeat,repeats";

/// The whole file.
pub fn summary(rows: &[PointResult]) -> String {
    let with_gpus = rows.iter().any(|row| row.summary.gpus.is_some());
    let mut text = head();
    text.extend(with_gpus.then(|| format!(",{}", gpus::CSV_HEAD)));
    text.push('\n');
    let mut means = if repeats::are_in(rows) { repeats::means(rows) } else { Vec::new() };
    // Telemetry belongs to a run; a mean has none of its own.
    means.iter_mut().for_each(|mean| mean.summary.gpus = None);
    for row in rows.iter().chain(&means) {
        text.push_str(&line(row));
        text.extend(with_gpus.then(|| format!(",{}", gpus::csv_cells(row))));
        text.push('\n');
    }
    text
}

pub(super) fn line(row: &PointResult) -> String {
    let s = &row.summary;
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.3}"));
    let mut cells = vec![
        quoted(&row.point),
        quoted(&row.deployment),
        if row.gpus > 0 { row.gpus.to_string() } else { String::new() },
        s.simulated.to_string(),
        s.point.isl.to_string(),
        s.point.osl.to_string(),
        s.point.concurrency.map(|c| c.to_string()).unwrap_or_default(),
        s.point.request_rate.map(|rate| rate.to_string()).unwrap_or_default(),
        s.point.streaming.to_string(),
        s.point.endpoint.as_str().to_owned(),
        s.verdict.result.to_string(),
        s.requests.total.to_string(),
        s.requests.completed.to_string(),
        s.requests.failed.to_string(),
        s.requests.by_outcome.get("cancelled").copied().unwrap_or(0).to_string(),
        number(Some(s.duration_s)),
        number(Some(s.throughput.requests_per_s)),
        number(Some(s.throughput.output_tokens_per_s)),
        number(Some(s.throughput.total_tokens_per_s)),
        number(s.throughput.output_tokens_per_s_per_gpu),
        number(s.throughput.output_tokens_per_s_per_user),
        number(s.throughput.goodput_per_s),
    ];
    for latency in [s.ttft_ms, s.itl_ms, s.e2e_ms] {
        cells.extend(
            ["avg", "min", "max", "p50", "p75", "p90", "p95", "p99"]
                .map(|name| number(latency.and_then(|d| d.get(name)))),
        );
    }
    cells.push(number(s.isl.map(|d| d.avg)));
    cells.push(number(s.osl.map(|d| d.avg)));
    cells.push(number(s.offered.requests_per_s));
    cells.push(number(s.offered.schedule_lag_ms.map(|d| d.p99)));
    cells.push(s.offered.dropped.map(|dropped| dropped.to_string()).unwrap_or_default());
    for latency in [s.ttft_scheduled_ms, s.e2e_scheduled_ms] {
        cells.extend(["p50", "p99"].map(|name| number(latency.and_then(|d| d.get(name)))));
    }
    cells.push(quoted(&s.verdict.reasons.join("; ")));
    let failures = Failures::of_rows(std::slice::from_ref(row));
    cells.push(quoted(&failures.map(|failures| failures.ways.join("; ")).unwrap_or_default()));
    // `mean` marks a row that is made of others.
    let number_of = |count: u64| if s.repeats.is_some() { count.to_string() } else { String::new() };
    cells.push(match (s.point.measurement(), &s.repeats) {
        (Some(number), _) => number,
        (None, Some(_)) => MEAN.to_owned(),
        (None, None) => String::new(),
    });
    cells.push(number_of(s.repeats.as_ref().map_or(0, |repeats| repeats.n)));
    cells.extend(FIGURES.iter().map(|(path, _)| number(s.half_width(path))));
    cells.join(",")
}

/// The names of all columns. Half the width of the 95 % interval of a mean has the name of its figure before `_half_width`.
pub(super) fn head() -> String {
    let name = |path: &str| match path.split_once("_ms.") {
        Some((metric, statistic)) => format!("{metric}_{statistic}_ms"),
        None => path.trim_start_matches("throughput.").to_owned(),
    };
    let half_widths: String = FIGURES.iter().map(|(path, _)| format!(",{}_half_width", name(path))).collect();
    format!("{HEAD}{half_widths}")
}

/// Quotes a cell as RFC 4180 requires.
pub(super) fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
