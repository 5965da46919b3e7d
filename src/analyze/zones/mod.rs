//! How much load a deployment takes: zones, operating points and the first sign of saturation in a series of load levels.
//!
//! The rules hold for any tool's figures. Every threshold is a field of [`Thresholds`]; `docs/zones.md` states the rules in words.

mod columns;
#[cfg(test)]
mod cut_short_tests;
mod level;
mod operating;
pub mod stability;
mod sustained;
pub mod table;
#[cfg(test)]
mod tests;

use super::cost::cost;
use crate::recipe::Price;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use crate::recipe::objective::{Objective, Unit};
pub use level::{Axis, CutShort, Level, Series, json as load_json};
pub use operating::OperatingPoints;
pub use sustained::{Outcome, Sustained, objective};

/// Bounds of the rules. Factors and shares are numbers: 0.05 is 5 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Differences of throughput up to this share are noise.
    pub noise: f64,
    /// Throughput that grows by at most this share per doubling of the load is on a plateau.
    pub plateau: f64,
    /// A level beyond saturation that is this share below the peak is over-saturated; a request rate missed by it was not reached.
    pub fall: f64,
    /// Latency of so many times its lowest value so far is degraded.
    pub latency: f64,
    /// Time to first token of so many times its lowest value so far is degraded.
    pub ttft: f64,
    /// A queue longer than this share of the requests in flight has grown.
    pub queue: f64,
    /// A KV cache filled to this share is full.
    pub kv_cache: f64,
    /// More failed requests than this share are errors of the server under load.
    pub errors: f64,
    /// A level with this share of failed requests has failed.
    pub failed: f64,
    /// A step is of poor efficiency if throughput grows by less than this share of the growth of latency.
    pub efficiency: f64,
    /// The sweet spot reaches down to this share of the best ratio of throughput to latency.
    pub sweet_spot: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            noise: 0.02,
            plateau: 0.05,
            fall: 0.05,
            latency: 2.0,
            ttft: 3.0,
            queue: 0.05,
            kv_cache: 0.95,
            errors: 0.01,
            failed: 0.5,
            efficiency: 0.5,
            sweet_spot: 0.9,
        }
    }
}

/// Rises of TTFT below this are no degradation, whatever their factor: people do not notice them, ms.
const NOTICEABLE_TTFT_MS: f64 = 50.0;

/// A step to less than this multiple of the load is too small to tell a plateau from noise.
const TELLING_STEP: f64 = 1.1;

/// Where a level lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Zone {
    /// No signal has crossed.
    Safe,
    /// A signal has crossed, and throughput still grows.
    EarlyDegradation,
    /// Throughput no longer grows.
    Saturated,
    /// Throughput has fallen.
    OverSaturated,
    /// The level has no usable figures.
    Failed,
}

impl Zone {
    /// As people write it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::EarlyDegradation => "early degradation",
            Self::Saturated => "saturated",
            Self::OverSaturated => "over-saturated",
            Self::Failed => "failed",
        }
    }
}

/// What the last step of load brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Efficiency {
    Good,
    /// Latency grew much faster than throughput.
    Poor,
}

/// A sign of saturation. In order of how much it tells: of several that cross at one level the first is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalName {
    /// Requests wait inside the server.
    QueueGrowth,
    Ttft,
    KvCache,
    Latency,
    ThroughputPlateau,
    Errors,
}

const SIGNALS: [SignalName; 6] = [
    SignalName::QueueGrowth,
    SignalName::Ttft,
    SignalName::KvCache,
    SignalName::Latency,
    SignalName::ThroughputPlateau,
    SignalName::Errors,
];

/// A signal that crossed its threshold and stayed beyond it at every higher level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Signal {
    pub name: SignalName,
    /// Load at which it crossed.
    pub at: f64,
    /// Its value there: waiting requests, ms, tokens/s, or a share.
    pub value: f64,
}

/// One level with its judgement.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    pub level: Level,
    pub zone: Zone,
    /// `None` for a failed level.
    pub efficiency: Option<Efficiency>,
}

/// What a series of levels tells.
#[derive(Debug, Clone, PartialEq)]
pub struct Zones {
    pub axis: Axis,
    /// Price of a GPU-hour, when known.
    pub price: Option<Price>,
    /// Some levels are slices of a ramp, within which the load rose.
    pub rises: bool,
    /// From the lowest load to the highest, each load once.
    pub points: Vec<Judged>,
    pub operating: OperatingPoints,
    /// The highest load up to which throughput grows; `None` if it grows up to the highest one.
    pub saturation_beyond: Option<f64>,
    /// Every signal that crossed, from the lowest load; the first is the earliest.
    pub signals: Vec<Signal>,
    /// The highest load that keeps the objectives; `None` without objectives.
    pub sustained: Option<Sustained>,
    pub thresholds: Thresholds,
}

impl Zones {
    /// The earliest signal.
    pub fn first_signal(&self) -> Option<&Signal> {
        self.signals.first()
    }

    /// The JSON of `tokmark zones --json`: loads as numbers, what was not reached as `null`.
    pub fn json(&self) -> Value {
        let load = |load: Option<f64>| load.map(level::json);
        let signal = |signal: &Signal| json!({"name": signal.name, "at": level::json(signal.at), "value": signal.value});
        let points = self.points.iter().map(|judged| {
            let mut point = json!({
                self.axis.key(): level::json(judged.level.load),
                "zone": judged.zone,
                "efficiency": judged.efficiency,
                "output_tokens_per_s": judged.level.output_tokens_per_s,
                "requests_per_s": judged.level.requests_per_s,
                "latency_avg_ms": judged.level.latency_avg_ms,
            });
            if !judged.level.failed && !judged.level.is_whole() {
                point["output_tokens_per_s"] = Value::Null;
                point["requests_per_s"] = Value::Null;
                point["cut_short"] = json!(true);
            }
            if let Some((price, cost)) =
                self.price.as_ref().and_then(|price| Some((price, cost(&judged.level, price)?)))
            {
                point["currency"] = json!(price.currency);
                point["cost_per_million_output_tokens"] = json!(cost.output);
                point["cost_per_million_total_tokens"] = json!(cost.total);
            }
            point
        });
        json!({
            "points": points.collect::<Vec<_>>(),
            "operating_points": {
                "optimal_latency": load(self.operating.optimal_latency),
                "peak_throughput": load(self.operating.peak_throughput),
                "sweet_spot": self.operating.sweet_spot.map(|(from, to)| [level::json(from), level::json(to)]),
            },
            "saturation_beyond": load(self.saturation_beyond),
            "first_signal": self.first_signal().map(signal),
            "signals": self.signals.iter().map(signal).collect::<Vec<_>>(),
            "slo": self.sustained.as_ref().map(Sustained::json),
            "thresholds": self.thresholds,
        })
    }
}

/// Judges a series of levels, in any order. Levels of equal load count as repeats and are averaged. Levels with a goodput of the
/// recipe's objectives are also judged by it, when there are no others.
pub fn judge(series: &Series, thresholds: Thresholds, objectives: &[Objective]) -> Zones {
    let levels = series.ordered(thresholds.failed);
    let usable: Vec<&Level> = levels.iter().filter(|level| !level.failed).collect();
    let whole: Vec<&Level> = levels.iter().filter(|level| level.is_whole()).collect();
    let saturation_beyond = saturation(&whole, over_saturated(&usable), series.axis, &thresholds);
    let signals = signals(&usable, saturation_beyond, series.axis, &thresholds);
    let degraded = signals.iter().map(|signal| signal.at).reduce(f64::min);
    let throughputs = whole.iter().filter_map(|level| Some((level.load, level.throughput()?)));
    let (peak_load, peak) = throughputs.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or_default();
    let zone = |level: &Level| match (level.throughput(), saturation_beyond) {
        _ if level.failed => Zone::Failed,
        (_, Some(bound)) if level.load > bound && !level.is_whole() => Zone::Saturated,
        (Some(throughput), Some(bound)) if level.load > bound => {
            let has_fallen = level.load > peak_load && throughput < peak * (1.0 - thresholds.fall);
            if has_fallen { Zone::OverSaturated } else { Zone::Saturated }
        }
        _ if degraded.is_some_and(|at| level.load >= at) => Zone::EarlyDegradation,
        _ => Zone::Safe,
    };
    let mut points: Vec<Judged> = Vec::new();
    for level in &levels {
        let before = points.iter().rev().map(|judged| &judged.level).find(|before| before.is_whole());
        let efficiency = level.is_whole().then(|| efficiency(before, level, &thresholds));
        points.push(Judged { level: level.clone(), zone: zone(level), efficiency });
    }
    let operating = operating::points(&points, saturation_beyond, &thresholds);
    let has_goodput = levels.iter().any(|level| level.figures.contains_key("goodput"));
    let own = (objectives.is_empty() && has_goodput).then(Objective::of_goodput);
    let objectives = [objectives, own.as_slice()].concat();
    let sustained = sustained::sustained(&levels, &objectives);
    Zones {
        axis: series.axis,
        price: series.price.clone(),
        rises: series.rises,
        points,
        operating,
        saturation_beyond,
        signals,
        sustained,
        thresholds,
    }
}

/// The highest load whose queue grew without bound.
fn over_saturated(levels: &[&Level]) -> Option<f64> {
    levels.iter().rfind(|level| level.cut_short == CutShort::OverSaturated).map(|level| level.load)
}

/// The lowest load from which on throughput no longer grows: at every higher level it is at most noise, or the growth of a
/// plateau, above. Of request rates also the highest one that was reached, when a higher one was not, as one that was cut short as
/// over-saturated.
fn saturation(
    usable: &[&Level],
    over_saturated: Option<f64>,
    axis: Axis,
    thresholds: &Thresholds,
) -> Option<f64> {
    let highest = usable.last()?.load;
    let is_flat_from = |from: &&&Level| {
        let Some(base) = from.throughput().filter(|_| highest >= from.load * TELLING_STEP) else {
            return false;
        };
        let higher = usable.iter().filter(|level| level.load > from.load);
        higher.filter_map(|level| Some((level.load, level.throughput()?))).all(|(load, throughput)| {
            let allowed = (thresholds.plateau * (load / from.load).log2()).max(thresholds.noise);
            throughput <= base * (1.0 + allowed)
        })
    };
    let flat = usable.iter().find(is_flat_from).map(|level| level.load);
    let is_reached = |level: &&&Level| {
        level.requests_per_s.is_some_and(|rate| rate >= level.load * (1.0 - thresholds.fall))
    };
    let reached = usable.iter().rfind(is_reached).map(|level| level.load);
    let highest = over_saturated.unwrap_or(highest).max(highest);
    let missed = reached.filter(|load| axis == Axis::RequestRate && *load < highest);
    flat.into_iter().chain(missed).reduce(f64::min)
}

/// The signals that crossed and stayed beyond their thresholds, ordered by load, then by how much they tell.
fn signals(
    usable: &[&Level],
    saturation_beyond: Option<f64>,
    axis: Axis,
    thresholds: &Thresholds,
) -> Vec<Signal> {
    let crossed = |name: SignalName| {
        // The value of each level that has one, and whether it is beyond the threshold.
        let mut lowest = f64::INFINITY;
        let ttft = level::common_ttft(usable);
        let values: Vec<(f64, f64, bool)> = usable
            .iter()
            .filter_map(|level| {
                let (value, beyond) = match name {
                    SignalName::QueueGrowth => {
                        let share =
                            if axis == Axis::Concurrency { level.load * thresholds.queue } else { 0.0 };
                        level.waiting.map(|waiting| (waiting, waiting > share.max(1.0)))?
                    }
                    SignalName::Ttft => {
                        let value = ttft(level)?;
                        lowest = lowest.min(value);
                        let risen = value > lowest * thresholds.ttft && value > lowest + NOTICEABLE_TTFT_MS;
                        (value, risen)
                    }
                    SignalName::KvCache => level.kv_cache.map(|used| (used, used >= thresholds.kv_cache))?,
                    SignalName::Latency => {
                        let value = level.latency_ms(axis)?;
                        lowest = lowest.min(value);
                        (value, value > lowest * thresholds.latency)
                    }
                    SignalName::ThroughputPlateau => {
                        (level.throughput()?, saturation_beyond.is_some_and(|bound| level.load > bound))
                    }
                    SignalName::Errors => level.error_rate.map(|rate| (rate, rate > thresholds.errors))?,
                };
                Some((level.load, value, beyond))
            })
            .collect();
        let stays = values.iter().rev().take_while(|(_, _, beyond)| *beyond).last();
        stays.map(|(at, value, _)| Signal { name, at: *at, value: *value })
    };
    let mut signals: Vec<Signal> = SIGNALS.into_iter().filter_map(crossed).collect();
    signals.sort_by(|a, b| a.at.total_cmp(&b.at));
    signals
}

/// Whether the step from the next lower level was worth its latency.
fn efficiency(before: Option<&Level>, level: &Level, thresholds: &Thresholds) -> Efficiency {
    let growth = || {
        let before = before?;
        let throughput = level.throughput()? / before.throughput()?;
        // Without latencies by Little's law: requests in flight = rate × latency.
        let measured = level.latency_avg_ms.zip(before.latency_avg_ms).map(|(now, then)| now / then);
        Some((throughput - 1.0, measured.unwrap_or(level.load / before.load / throughput) - 1.0))
    };
    match growth() {
        Some((throughput, latency))
            if latency > thresholds.plateau && throughput < thresholds.efficiency * latency =>
        {
            Efficiency::Poor
        }
        _ => Efficiency::Good,
    }
}
