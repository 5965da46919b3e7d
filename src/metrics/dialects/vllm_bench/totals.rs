//! The figures of a whole run as `vllm bench serve` defines them.
//!
//! A port of vLLM 0.32 `benchmarks/serve.py`, `calculate_metrics`.

use super::{latency_s, succeeded, tpot_s, ttft_s};
use crate::metrics::fold::Fold;
use crate::metrics::record::PointRun;
use crate::metrics::request_figures::RequestFigures;
use crate::metrics::stats::Distribution;
use crate::plan::{LoadPoint, Slo};
use serde_json::{Map, Value, json};

/// Keys and values of the result, in order.
pub(super) type Figures = Map<String, Value>;

/// The single values of the result, over first measured request sent → last one ended.
pub(super) fn totals(point: &LoadPoint, run: &PointRun, fold: &Fold) -> Figures {
    let good = || fold.measured().filter(|request| succeeded(request));
    let duration = run.window_s();
    let per_s = |amount: f64| if duration > 0.0 { amount / duration } else { 0.0 };
    let sum = |of: fn(&RequestFigures) -> u32| good().map(|request| u64::from(of(request))).sum::<u64>();
    let (input, output) = (sum(|request| request.isl), sum(|request| request.osl));
    let completed = good().count();
    let unmet = point.slo.itl_ms.is_some() && RequestFigures::none_has_pace(good());
    let met = good().filter(|request| !unmet && meets(request, &point.slo, point.streaming)).count();
    let goodput = (!point.slo.is_empty()).then(|| per_s(met as f64));
    let found = [
        ("duration", json!(duration)),
        ("completed", json!(completed)),
        ("failed", json!(fold.measured().count() - completed)),
        ("total_input_tokens", json!(input)),
        ("total_output_tokens", json!(output)),
        ("request_throughput", json!(per_s(completed as f64))),
        ("request_goodput", json!(goodput)),
        ("output_throughput", json!(per_s(output as f64))),
        ("total_token_throughput", json!(per_s(input as f64 + output as f64))),
    ];
    found.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
}

/// Every objective that is set is met; the TPOT of an answer of one token is 0. Streaming off there is no TTFT and no TPOT
/// to meet an objective with.
fn meets(request: &RequestFigures, slo: &Slo, streaming: bool) -> bool {
    let within = |bound_ms: Option<f64>, applies: bool, value_s: f64| {
        bound_ms.is_none_or(|bound| applies && value_s <= bound / 1e3)
    };
    within(slo.ttft_ms, streaming, ttft_s(request))
        && within(slo.itl_ms, streaming, tpot_s(request).unwrap_or(0.0))
        && within(slo.e2e_ms, true, latency_s(request))
}

/// The metrics with statistics, ms; all 0 when no request has one, and null when TPOT applies to none.
pub(super) fn statistics(streaming: bool, fold: &Fold) -> Figures {
    let each = |of: fn(&RequestFigures) -> Option<f64>| {
        let values = fold.measured().filter(|request| succeeded(request)).filter_map(of);
        Distribution::of(&mut fold.values(values.map(|seconds| seconds * 1e3)))
    };
    let is_held_back = RequestFigures::none_has_pace(fold.measured().filter(|request| succeeded(request)));
    let metrics = [
        ("ttft", each(|request| Some(ttft_s(request)))),
        ("tpot", each(tpot_s)),
        // The gaps of all requests, pooled. An answer without a chunk, which vLLM leaves out, has none.
        ("itl", fold.gaps.distribution_ms()),
        ("e2el", each(|request| Some(latency_s(request)))),
    ];
    let mut found = Figures::new();
    for (name, d) in metrics.into_iter().filter(|(name, _)| streaming || *name == "e2el") {
        let applies = name != "tpot" || !is_held_back;
        let d = d.unwrap_or_default();
        let statistics = [("mean", d.avg), ("median", d.p50), ("std", d.std)];
        let percentiles = [("p50", d.p50), ("p90", d.p90), ("p95", d.p95), ("p99", d.p99)];
        for (statistic, value) in statistics.into_iter().chain(percentiles) {
            found.insert(format!("{statistic}_{name}_ms"), json!(applies.then_some(value)));
        }
    }
    found
}
