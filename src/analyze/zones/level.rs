//! Load levels: the figures that the rules read.

use std::collections::{BTreeMap, BTreeSet};

use crate::recipe::Price;

/// What the levels of a series differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Axis {
    /// Requests in flight.
    #[default]
    Concurrency,
    /// Requests per second.
    RequestRate,
}

impl Axis {
    /// Its key in JSON.
    pub fn key(self) -> &'static str {
        match self {
            Self::Concurrency => "concurrency",
            Self::RequestRate => "request_rate",
        }
    }

    /// As people write it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Concurrency => "concurrency",
            Self::RequestRate => "request rate",
        }
    }
}

/// Whether a measurement ended early, because what was left could not have changed the answer of a search. What came out by then
/// is no throughput of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum CutShort {
    #[default]
    No,
    /// An objective was broken for good.
    Broken,
    /// The queue grew without bound.
    OverSaturated,
}

/// One load with what was measured under it. A figure that was not measured is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Level {
    /// Requests in flight, or requests per second.
    pub load: f64,
    pub requests_per_s: Option<f64>,
    pub output_tokens_per_s: Option<f64>,
    /// Prompt and output tokens per second.
    pub total_tokens_per_s: Option<f64>,
    pub gpus: Option<f64>,
    /// Output tokens per second that one user sees: the mean of 1 / ITL.
    pub per_user: Option<f64>,
    pub latency_avg_ms: Option<f64>,
    pub latency_p99_ms: Option<f64>,
    pub ttft_avg_ms: Option<f64>,
    pub ttft_p50_ms: Option<f64>,
    pub ttft_p95_ms: Option<f64>,
    pub ttft_p99_ms: Option<f64>,
    /// Failed requests as a share of all.
    pub error_rate: Option<f64>,
    /// Requests that waited inside the server, on average.
    pub waiting: Option<f64>,
    /// Share of the KV cache in use, at its highest.
    pub kv_cache: Option<f64>,
    /// Latencies in ms by metric and statistic, such as `ttft.p99`; `e2e_per_token.p90` per output token. And `goodput`, the share
    /// of requests that met every objective of the recipe.
    pub figures: BTreeMap<String, f64>,
    /// The figures cannot be used.
    pub failed: bool,
    /// The figures need a second look.
    pub suspect: bool,
    pub cut_short: CutShort,
    /// Further results of the same load that the figures are the mean of.
    pub more: usize,
}

impl Level {
    /// Whether the figures are those of the whole measurement.
    pub fn is_whole(&self) -> bool {
        !self.failed && self.cut_short == CutShort::No
    }

    /// Output tokens per second; requests per second without tokens. `None` if nothing came out.
    pub fn throughput(&self) -> Option<f64> {
        self.output_tokens_per_s.or(self.requests_per_s).filter(|throughput| *throughput > 0.0)
    }

    /// Sets the latencies that the rules read from those by name; one that is 0 was not measured.
    pub fn name_figures(&mut self) {
        let of = |name: &str| self.figures.get(name).copied().filter(|value| *value > 0.0);
        let (latency, ttft) =
            ([of("e2e.avg"), of("e2e.p99")], ["avg", "p50", "p95", "p99"].map(|of| format!("ttft.{of}")));
        let [ttft_avg, ttft_p50, ttft_p95, ttft_p99] = ttft.map(|name| of(&name));
        [self.latency_avg_ms, self.latency_p99_ms] = latency;
        (self.ttft_avg_ms, self.ttft_p50_ms) = (ttft_avg, ttft_p50);
        (self.ttft_p95_ms, self.ttft_p99_ms) = (ttft_p95, ttft_p99);
    }

    /// Output tokens per second and GPU. `None` when the number of GPUs is not known.
    pub fn per_gpu(&self) -> Option<f64> {
        let gpus = self.gpus.filter(|gpus| *gpus > 0.0)?;
        Some(self.output_tokens_per_s.filter(|tokens| *tokens > 0.0)? / gpus)
    }

    /// Average latency, ms; in a closed loop without one by Little's law.
    pub(super) fn latency_ms(&self, axis: Axis) -> Option<f64> {
        let by_law = || self.requests_per_s.filter(|rate| *rate > 0.0).map(|rate| self.load / rate * 1e3);
        self.latency_avg_ms.or_else(|| (axis == Axis::Concurrency).then(by_law).flatten())
    }

    /// The mean of repeats of one load: of each figure over those that have it. Failed repeats do not count beside others.
    fn mean(repeats: &[Self]) -> Self {
        let usable = || repeats.iter().filter(|level| !level.failed);
        let failed = usable().next().is_none();
        let counted = || repeats.iter().filter(|level| failed || !level.failed);
        let mean = |figure: fn(&Self) -> Option<f64>| average(counted().filter_map(figure));
        let names: BTreeSet<&String> = counted().flat_map(|level| level.figures.keys()).collect();
        let of = |name: &String| average(counted().filter_map(|level| level.figures.get(name).copied()));
        let figures = names.into_iter().filter_map(|name| Some((name.clone(), of(name)?))).collect();
        Self {
            load: repeats.first().map_or(0.0, |level| level.load),
            requests_per_s: mean(|level| level.requests_per_s),
            output_tokens_per_s: mean(|level| level.output_tokens_per_s),
            total_tokens_per_s: mean(|level| level.total_tokens_per_s),
            gpus: mean(|level| level.gpus),
            per_user: mean(|level| level.per_user),
            latency_avg_ms: mean(|level| level.latency_avg_ms),
            latency_p99_ms: mean(|level| level.latency_p99_ms),
            ttft_avg_ms: mean(|level| level.ttft_avg_ms),
            ttft_p50_ms: mean(|level| level.ttft_p50_ms),
            ttft_p95_ms: mean(|level| level.ttft_p95_ms),
            ttft_p99_ms: mean(|level| level.ttft_p99_ms),
            error_rate: mean(|level| level.error_rate),
            waiting: mean(|level| level.waiting),
            kv_cache: mean(|level| level.kv_cache),
            figures,
            suspect: usable().any(|level| level.suspect),
            cut_short: counted().map(|level| level.cut_short).max().unwrap_or_default(),
            failed,
            more: repeats.len().saturating_sub(1),
        }
    }
}

/// The mean; `None` of nothing.
fn average(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// Levels that differ in load alone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// What it is a series of; empty if it is the only one.
    pub name: String,
    /// What was sent: lengths, streaming, endpoint, model. Only figures of one workload compare.
    pub workload: String,
    /// What it was sent to: recipe, deployment.
    pub configuration: String,
    pub axis: Axis,
    /// Price of a GPU-hour, when known.
    pub price: Option<Price>,
    /// Some levels are slices of a ramp, within which the load rose.
    pub rises: bool,
    pub levels: Vec<Level>,
}

impl Series {
    /// The levels by load, each load once. Those without throughput, or with this share of failed requests, have failed.
    pub(crate) fn ordered(&self, failed: f64) -> Vec<Level> {
        let judged = |level: &Level| {
            let is_failed =
                level.throughput().is_none() || level.error_rate.is_some_and(|rate| rate >= failed);
            Level { failed: level.failed || is_failed, ..level.clone() }
        };
        let mut levels: Vec<Level> = self.levels.iter().map(judged).collect();
        levels.sort_by(|a, b| a.load.total_cmp(&b.load));
        levels.chunk_by(|a, b| a.load == b.load).map(Level::mean).collect()
    }
}

/// Reads the TTFT figure that all these levels have, the median before others; none if none is common to them.
pub(super) fn common_ttft(levels: &[&Level]) -> fn(&Level) -> Option<f64> {
    let figures: [fn(&Level) -> Option<f64>; 4] = [
        |level| level.ttft_p50_ms,
        |level| level.ttft_avg_ms,
        |level| level.ttft_p95_ms,
        |level| level.ttft_p99_ms,
    ];
    let is_common = |figure: &fn(&Level) -> Option<f64>| levels.iter().all(|level| figure(level).is_some());
    figures.into_iter().find(is_common).unwrap_or(|_| None)
}

/// A load as JSON: a whole number without a decimal point.
pub fn json(load: f64) -> serde_json::Value {
    let is_whole = load.fract() == 0.0 && load.abs() < 1e15;
    if is_whole { serde_json::json!(load as i64) } else { serde_json::json!(load) }
}
