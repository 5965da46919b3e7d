//! `profile_export_aiperf.json`, schema 1.4: metrics, the requested load, how it ended.
//!
//! A port of AIPerf 0.13 `exporters/metrics_json_exporter.py`; keys come in the order of its `JsonExportData`, metrics that
//! model does not name at the end.

use super::super::{objectives, spacing, statistics};
use super::errors::ErrorTally;
use super::totals::Metric;
use super::{AIPERF_VERSION, ExportContext, SCHEMA_VERSION};
use crate::metrics::record::PointRun;
use crate::plan::{Extension, LoadPoint, Spacing, Stop};
use jiff::SignedDuration;
use serde_json::{Map, Value, json};

/// The metrics `JsonExportData` names, in its order.
const NAMED: [&str; 23] = [
    "request_throughput",
    "request_latency",
    "request_count",
    "time_to_first_token",
    "time_to_second_token",
    "inter_token_latency",
    "output_token_throughput",
    "output_token_throughput_per_user",
    "output_sequence_length",
    "input_sequence_length",
    "goodput",
    "good_request_count",
    "output_token_count",
    "reasoning_token_count",
    "inter_chunk_latency",
    "total_output_tokens",
    "total_reasoning_tokens",
    "benchmark_duration",
    "total_isl",
    "total_osl",
    "error_request_count",
    "error_isl",
    "total_error_isl",
];

/// The JSON export of `measured`, indented by 2, without a final newline.
pub(super) fn json(
    point: &LoadPoint,
    run: &PointRun,
    measured: &[Metric],
    warmup: Option<&[Metric]>,
    errors: &ErrorTally,
    context: &ExportContext<'_>,
) -> serde_json::Result<String> {
    let mut export = Map::new();
    let mut put = |key: &str, value: Value| export.insert(key.to_owned(), value);
    put("schema_version", json!(SCHEMA_VERSION));
    put("aiperf_version", json!(AIPERF_VERSION));
    put("benchmark_id", json!(context.benchmark_id));
    for tag in NAMED {
        if let Some(metric) = measured.iter().find(|metric| metric.tag == tag) {
            put(tag, statistics(metric.unit, &metric.stats));
        }
    }
    let (start, end) = (wall_clock(run, run.window_start_us), wall_clock(run, run.window_end_us));
    let no_telemetry = json!({
        "summary": {"endpoints_configured": [], "endpoints_successful": [], "start_time": start, "end_time": end},
        "endpoints": {},
        "error_summary": [],
    });
    put("telemetry_data", no_telemetry);
    put("input_config", input_config(point, context));
    let (benchmark_id, seed, label) = (context.benchmark_id, point.seed, &point.id);
    put(
        "run_info",
        json!({"benchmark_id": benchmark_id, "random_seed": seed, "trial": 0, "run_label": label}),
    );
    put("was_cancelled", json!(run.interrupted));
    put("is_complete", json!(!run.interrupted));
    if run.interrupted {
        put("incomplete_reason", json!("interrupted before the load point was complete"));
    }
    // Each distinct error of the measured requests and how often it happened, in order of first appearance.
    let errors = errors.0.iter().map(|(details, count)| json!({"error_details": details, "count": count}));
    put("error_summary", errors.collect());
    put("start_time", json!(start));
    put("end_time", json!(end));
    if let Some(warmup) = warmup {
        // They enter no other figure.
        put(
            "warmup_metrics",
            warmup
                .iter()
                .map(|metric| (metric.tag.clone(), statistics(metric.unit, &metric.stats)))
                .collect(),
        );
    }
    put("generator", json!(format!("tokmark {}", context.version)));
    put("simulated", json!(context.simulated));
    for metric in measured.iter().filter(|metric| !NAMED.contains(&metric.tag.as_str())) {
        put(&metric.tag, statistics(metric.unit, &metric.stats));
    }
    serde_json::to_string_pretty(&export)
}

/// UTC, `2026-11-22T02:21:19.320648`: AIPerf's time stamps carry no zone.
fn wall_clock(run: &PointRun, at_us: u64) -> String {
    let offset = SignedDuration::from_micros(i64::try_from(at_us).unwrap_or(i64::MAX));
    let instant = run.started_at.saturating_add(offset).unwrap_or(run.started_at);
    instant.strftime("%Y-%m-%dT%H:%M:%S%.6f").to_string()
}

/// The load point as an AIPerf `BenchmarkConfig`, which forbids keys it does not know.
fn input_config(point: &LoadPoint, context: &ExportContext<'_>) -> Value {
    let mut extra = point.extra_body.clone();
    if point.ignore_eos && !point.left_out.contains(&Extension::IgnoreEos) {
        extra.entry("ignore_eos").or_insert(json!(true));
    }
    let length = |length: crate::plan::Length| json!({"mean": f64::from(length.mean), "stddev": f64::from(length.stddev())});
    let mut config = json!({
        "models": {"items": [{"name": context.model}]},
        "endpoint": {
            "urls": context.url.split(", ").collect::<Vec<_>>(),
            "type": point.endpoint.as_str(),
            "streaming": point.streaming,
            "use_server_token_count": true,
            "extra": extra,
        },
        "datasets": [{
            "name": "main",
            "type": "synthetic",
            "random_seed": point.seed,
            "prompts": {"isl": length(point.isl), "osl": length(point.osl)},
        }],
        "phases": phases(point),
    });
    if !point.slo.is_empty() {
        config["slos"] = objectives(point);
    }
    config
}

fn phases(point: &LoadPoint) -> Vec<Value> {
    let spacing = spacing(point);
    let kind = match spacing {
        None => "concurrency",
        Some(Spacing::Constant) => "constant",
        Some(Spacing::Poisson) => "poisson",
        Some(Spacing::Gamma { .. }) => "gamma",
    };
    let phase = |name: &str| json!({"name": name, "kind": name, "type": kind});
    let mut phases = Vec::new();
    if point.warmup_requests > 0 || point.warmup_duration_s.is_some() {
        let mut warmup = phase("warmup");
        warmup["exclude_from_results"] = json!(true);
        match point.warmup_duration_s {
            Some(seconds) => warmup["duration"] = json!(seconds),
            None => warmup["requests"] = json!(point.warmup_requests),
        }
        phases.push(warmup);
    }
    let mut profiling = phase("profiling");
    match point.stop {
        Stop::Requests(requests) => profiling["requests"] = json!(requests),
        Stop::DurationS(seconds) => profiling["duration"] = json!(seconds),
        Stop::TraceEnd => {}
    }
    phases.push(profiling);
    for phase in &mut phases {
        if let Some(rate) = point.request_rate() {
            phase["rate"] = json!(rate);
        }
        if let Some(Spacing::Gamma { shape }) = spacing {
            phase["smoothness"] = json!(shape);
        }
        if let Some(concurrency) = point.concurrency() {
            phase["concurrency"] = json!(concurrency);
        }
    }
    phases
}
