//! `profile_export_genai_perf.json`: the metrics, then `input_config`; indented by 2.
//!
//! A port of genai-perf 0.0.16 `json_exporter.py`.

use super::super::{ExportContext, objectives, offered, statistics};
use super::values::Metric;
use crate::metrics::record::PointRun;
use crate::plan::{Endpoint, LoadPoint, Stop};
use serde_json::{Map, Value, json};

/// The JSON export, without a final newline.
pub(super) fn json(
    metrics: &[Metric],
    point: &LoadPoint,
    run: &PointRun,
    context: &ExportContext<'_>,
) -> String {
    let mut export: Map<String, Value> = metrics
        .iter()
        .map(|metric| (metric.name.to_owned(), statistics(metric.unit, &metric.stats)))
        .collect();
    export.insert("input_config".to_owned(), input_config(point, run, context));
    // A map of strings and finite numbers: there is nothing in it that could fail to be written.
    serde_json::to_string_pretty(&export).unwrap_or_default()
}

/// The load point in the words of genai-perf's configuration; what a load point does not know is absent.
fn input_config(point: &LoadPoint, run: &PointRun, context: &ExportContext<'_>) -> Value {
    let kind = match point.endpoint {
        Endpoint::Chat => "chat",
        Endpoint::Completions => "completions",
    };
    let offered = offered(point);
    let stimulus = match offered.rate {
        Some(rate) => json!({"request_rate": rate}),
        None => json!({"concurrency": offered.concurrency}),
    };
    let measurement = match point.stop {
        Stop::Requests(requests) => json!({"mode": "request_count", "num": requests}),
        Stop::DurationS(seconds) => json!({"mode": "time_windows", "num": seconds * 1e3}),
        Stop::TraceEnd => json!({"mode": "request_count", "num": null}),
    };
    json!({
        "model_names": [context.model],
        "subcommand": "profile",
        "endpoint": {
            "type": kind,
            "streaming": point.streaming,
            "url": context.url,
            "service_kind": "openai",
        },
        "perf_analyzer": {
            "stimulus": stimulus,
            "measurement": measurement,
            "warmup_request_count": point.warmup_requests,
        },
        "input": {
            "extra": extra(point),
            "goodput": goodput(point),
            "random_seed": point.seed,
            "output_tokens": {
                "mean": point.osl.mean,
                "deterministic": point.ignore_eos,
                "stddev": point.osl.stddev(),
            },
            "synthetic_tokens": {"mean": point.isl.mean, "stddev": point.isl.stddev()},
            "prompt_source": "synthetic",
        },
        "tokmark": {
            "version": context.version,
            "benchmark_id": context.benchmark_id,
            "simulated": context.simulated,
            "is_complete": !run.interrupted,
        },
    })
}

/// What is sent beyond the prompt; genai-perf writes an empty string for nothing.
fn extra(point: &LoadPoint) -> Value {
    let mut extra = point.extra_body.clone();
    if point.ignore_eos {
        extra.entry("ignore_eos").or_insert(json!(true));
    }
    if extra.is_empty() { json!("") } else { Value::Object(extra) }
}

/// The objectives, ms; genai-perf writes an empty string for none.
fn goodput(point: &LoadPoint) -> Value {
    if point.slo.is_empty() { json!("") } else { objectives(point) }
}
