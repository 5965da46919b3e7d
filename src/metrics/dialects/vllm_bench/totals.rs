//! The figures of a whole run as `vllm bench serve` defines them.
//!
//! A port of vLLM 0.32 `benchmarks/serve.py`, `calculate_metrics`.

use super::{latency_s, succeeded, tpot_s, ttft_s};
use crate::metrics::fold::Fold;
use crate::metrics::record::PointRun;
use crate::metrics::request_figures::RequestFigures;
use crate::metrics::stats::Distribution;
use crate::plan::{LoadPoint, Slo};

/// The percentiles that are written, beside the median.
pub(super) const PERCENTS: [f64; 4] = [50.0, 90.0, 95.0, 99.0];

/// One metric, ms. All 0 when no request has it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Statistics {
    pub mean: f64,
    pub median: f64,
    pub std: f64,
    /// In the order of [`PERCENTS`].
    pub percentiles: [f64; 4],
}

impl Statistics {
    fn of(distribution: Option<Distribution>) -> Self {
        distribution.map_or_else(Self::default, |d| Self {
            mean: d.avg,
            median: d.p50,
            std: d.std,
            percentiles: [d.p50, d.p90, d.p95, d.p99],
        })
    }
}

/// The single values of the result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Totals {
    /// First measured request sent → last one ended, seconds.
    pub duration: f64,
    pub completed: u64,
    pub failed: u64,
    pub total_input_tokens: u64,
    pub total_output_tokens: u64,
    pub request_throughput: f64,
    /// `None` without objectives.
    pub request_goodput: Option<f64>,
    pub output_throughput: f64,
    pub total_token_throughput: f64,
}

pub(super) fn totals(point: &LoadPoint, run: &PointRun, fold: &Fold) -> Totals {
    let good = || fold.measured().filter(|request| succeeded(request));
    let duration = run.window_s();
    let per_s = |amount: f64| if duration > 0.0 { amount / duration } else { 0.0 };
    let sum = |of: fn(&RequestFigures) -> u32| good().map(|request| u64::from(of(request))).sum::<u64>();
    let (input, output) = (sum(|request| request.isl), sum(|request| request.osl));
    let completed = good().count();
    let met = good().filter(|request| meets(request, &point.slo, point.streaming)).count();
    Totals {
        duration,
        completed: completed as u64,
        failed: (fold.measured().count() - completed) as u64,
        total_input_tokens: input,
        total_output_tokens: output,
        request_throughput: per_s(completed as f64),
        request_goodput: (!point.slo.is_empty()).then(|| per_s(met as f64)),
        output_throughput: per_s(output as f64),
        total_token_throughput: per_s(input as f64 + output as f64),
    }
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

/// The metrics with statistics, in the order of the file.
pub(super) fn statistics(streaming: bool, fold: &Fold) -> Vec<(&'static str, Statistics)> {
    let good = || fold.measured().filter(|request| succeeded(request));
    let each = |of: fn(&RequestFigures) -> Option<f64>| {
        let values = good().filter_map(of).map(|seconds| seconds * 1e3);
        Statistics::of(Distribution::of(&mut fold.values(values)))
    };
    let mut found = Vec::new();
    if streaming {
        found.push(("ttft", each(|request| Some(ttft_s(request)))));
        found.push(("tpot", each(tpot_s)));
        // The gaps of all requests, pooled. An answer without a chunk, which vLLM leaves out, has none.
        found.push(("itl", Statistics::of(fold.gaps().distribution_ms())));
    }
    found.push(("e2el", each(|request| Some(latency_s(request)))));
    found
}
