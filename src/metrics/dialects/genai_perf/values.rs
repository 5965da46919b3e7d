//! The metrics of genai-perf and their definitions.
//!
//! A port of genai-perf 0.0.16 `llm_profile_data_parser.py`, `statistics.py` and `llm_goodput_calculator.py`.

use super::super::{Stats, get};
use crate::metrics::fold::Fold;
use crate::metrics::record::Outcome;
use crate::metrics::request_figures::RequestFigures;
use crate::metrics::stats::Distribution;
use crate::metrics::summary::within;
use crate::plan::{LoadPoint, Slo};

/// A metric that the run has. Times are ms.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Metric {
    pub name: &'static str,
    /// Unit in the JSON; the CSV has its own for some.
    pub unit: &'static str,
    /// A single value is `avg`.
    pub stats: Stats,
}

/// All metrics of the run that have a value, in the order of the JSON.
pub(super) fn metrics(point: &LoadPoint, fold: &Fold) -> Vec<Metric> {
    let good = || fold.good().filter(|request| request.has_content());
    let completed = good().count();
    let ended = completed + fold.measured().filter(|request| request.outcome == Outcome::Empty).count();
    let duration_s = duration_s(fold);
    let per_s = |amount: f64| duration_s.map(|duration_s| amount / duration_s);
    let tokens = || good().map(|request| f64::from(request.osl)).sum::<f64>();
    let is_held_back = RequestFigures::none_has_pace(good());
    let unmet = point.slo.itl_ms.is_some() && is_held_back;
    let met =
        || good().filter(|request| !unmet && meets(request, &point.slo, point.streaming)).count() as f64;

    let single = |name, unit, value: Option<f64>| {
        let stats = vec![("avg", value.filter(|value| value.is_finite())?)];
        Some(Metric { name, unit, stats })
    };
    let spread = |name, unit, of: fn(&RequestFigures) -> Option<f64>| {
        let values = Distribution::of(&mut fold.values(good().filter_map(of)))?;
        Some(Metric { name, unit, stats: values.named().into() })
    };
    let streamed = |name, unit, of| spread(name, unit, of).filter(|_| point.streaming);
    let paced = |name, unit, of| streamed(name, unit, of).filter(|_| !is_held_back);
    let goodput = (!point.slo.is_empty()).then(|| per_s(met())).flatten();
    let found = [
        single("request_throughput", "requests/sec", per_s(ended as f64)),
        spread("request_latency", "ms", latency_ms),
        single("request_goodput", "requests/sec", goodput),
        single("request_count", "count", Some(completed as f64)),
        streamed("time_to_first_token", "ms", ttft_ms),
        streamed("time_to_second_token", "ms", ttst_ms),
        // A run in which every ITL is 0 counts as not streamed.
        paced("inter_token_latency", "ms", itl_ms).filter(|metric| get(&metric.stats, "max") > Some(0.0)),
        single("output_token_throughput", "tokens/sec", per_s(tokens())),
        paced("output_token_throughput_per_user", "tokens/sec/user", tokens_per_s_and_user),
        spread("output_sequence_length", "tokens", |request| Some(request.osl.into())),
        spread("input_sequence_length", "tokens", |request| Some(request.isl.into())),
    ];
    found.into_iter().flatten().collect()
}

/// First sent → last content of the requests that genai-perf would have kept (a good answer with text in it), seconds;
/// `None` when no time passed.
fn duration_s(fold: &Fold) -> Option<f64> {
    let good = || fold.good().filter(|request| request.has_content());
    let first = good().map(|request| request.sent_us).min()?;
    let last = good().filter_map(RequestFigures::last_us).max()?;
    (last > first).then(|| (last - first) as f64 / 1e6)
}

const NS_PER_US: f64 = 1e3;
const MS_PER_NS: f64 = 1.0 / 1e6;

fn latency_ms(request: &RequestFigures) -> Option<f64> {
    Some(elapsed_ns(request.sent_us, request.last_us()?) * MS_PER_NS)
}

fn ttft_ms(request: &RequestFigures) -> Option<f64> {
    Some(elapsed_ns(request.sent_us, request.first_us()?) * MS_PER_NS)
}

fn ttst_ms(request: &RequestFigures) -> Option<f64> {
    Some(elapsed_ns(0, request.ttst_us()?) * MS_PER_NS)
}

fn itl_ms(request: &RequestFigures) -> Option<f64> {
    Some(itl_ns(request)? * MS_PER_NS)
}

/// (latency − TTFT) / (tokens − 1), a whole number of ns, ties to even as Python rounds; needs two responses and two
/// tokens.
fn itl_ns(request: &RequestFigures) -> Option<f64> {
    let (first, last) = (request.first_us()?, request.last_us()?);
    let several = request.ttst_us().is_some() && request.osl > 1;
    several.then(|| (elapsed_ns(first, last) / f64::from(request.osl - 1)).round_ties_even())
}

fn tokens_per_s_and_user(request: &RequestFigures) -> Option<f64> {
    let itl_s = itl_ns(request)? / 1e9;
    (itl_s > 0.0).then(|| 1.0 / itl_s)
}

fn elapsed_ns(from_us: u64, to_us: u64) -> f64 {
    to_us.saturating_sub(from_us) as f64 * NS_PER_US
}

/// Every objective that is set has a value and keeps its bound.
fn meets(request: &RequestFigures, slo: &Slo, streaming: bool) -> bool {
    let streamed = |value: Option<f64>| value.filter(|_| streaming);
    within(slo.ttft_ms, streamed(ttft_ms(request)))
        && within(slo.itl_ms, streamed(itl_ms(request)))
        && within(slo.e2e_ms, latency_ms(request))
}
