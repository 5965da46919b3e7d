//! Load levels: the figures that the rules read.

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

/// One load with what was measured under it. A figure that was not measured is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Level {
    /// Requests in flight, or requests per second.
    pub load: f64,
    pub requests_per_s: Option<f64>,
    pub output_tokens_per_s: Option<f64>,
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
    /// The figures cannot be used.
    pub failed: bool,
    /// Further results of the same load that the figures are the mean of.
    pub more: usize,
}

impl Level {
    /// Output tokens per second; requests per second without tokens. `None` if nothing came out.
    pub fn throughput(&self) -> Option<f64> {
        self.output_tokens_per_s.or(self.requests_per_s).filter(|throughput| *throughput > 0.0)
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
        let mean = |figure: fn(&Self) -> Option<f64>| {
            let values: Vec<f64> =
                repeats.iter().filter(|level| failed || !level.failed).filter_map(figure).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        Self {
            load: repeats.first().map_or(0.0, |level| level.load),
            requests_per_s: mean(|level| level.requests_per_s),
            output_tokens_per_s: mean(|level| level.output_tokens_per_s),
            latency_avg_ms: mean(|level| level.latency_avg_ms),
            latency_p99_ms: mean(|level| level.latency_p99_ms),
            ttft_avg_ms: mean(|level| level.ttft_avg_ms),
            ttft_p50_ms: mean(|level| level.ttft_p50_ms),
            ttft_p95_ms: mean(|level| level.ttft_p95_ms),
            ttft_p99_ms: mean(|level| level.ttft_p99_ms),
            error_rate: mean(|level| level.error_rate),
            waiting: mean(|level| level.waiting),
            kv_cache: mean(|level| level.kv_cache),
            failed,
            more: repeats.len().saturating_sub(1),
        }
    }
}

/// Levels that differ in load alone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// What it is a series of; empty if it is the only one.
    pub name: String,
    pub axis: Axis,
    pub levels: Vec<Level>,
}

impl Series {
    /// The levels by load, each load once. Those without throughput, or with this share of failed requests, have failed.
    pub(super) fn ordered(&self, failed: f64) -> Vec<Level> {
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
pub(super) fn json(load: f64) -> serde_json::Value {
    let is_whole = load.fract() == 0.0 && load.abs() < 1e15;
    if is_whole { serde_json::json!(load as i64) } else { serde_json::json!(load) }
}
