//! One experiment against another: what differs in how they were run, and how much each figure differs.
//!
//! Points with the same deployment and the same load are held against each other. A difference has an interval; only one that excludes 0 is
//! called better or worse. What cannot be compared says why, and is not.

mod configuration;
mod gate;
mod interval;

use serde::Serialize;

pub use configuration::{Change, changes};
pub use gate::{Failed, Gate};
pub use interval::{Estimate, Interval};

use super::metric::{self, Better};
use crate::metrics::{Rating, Summary};

/// Figures that are compared without being asked for, by their path in `summary.json`.
pub const FIGURES: [&str; 8] = [
    "throughput.output_tokens_per_s",
    "throughput.requests_per_s",
    "ttft_ms.p50",
    "ttft_ms.p99",
    "itl_ms.p50",
    "itl_ms.p99",
    "e2e_ms.p50",
    "e2e_ms.p99",
];

/// Single runs of the same servers differ by about this share for reasons that their intervals do not contain: less is no difference.
pub const BETWEEN_RUNS: f64 = 0.05;

/// Mean lengths that differ by more than this share are other lengths.
const LENGTHS: f64 = 0.02;

/// A load point of one side: its repeats, or its only run.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Name of its deployment; empty when there is only one, so that it is matched whatever its options are.
    pub deployment: String,
    /// Name of the load point without deployment and repeat.
    pub id: String,
    pub model: String,
    pub gpus: u32,
    /// Those that are whole ([`Summary::is_whole`]), unless none is.
    pub runs: Vec<Summary>,
}

/// What becomes of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Better,
    Worse,
    /// A figure of which neither more nor less is better.
    Differs,
    WithinNoise,
    /// There is no interval: too few requests, or a figure that has none.
    NotKnown,
}

impl Verdict {
    pub fn words(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Differs => "differs",
            Self::WithinNoise => "within noise",
            Self::NotKnown => "noise not known",
        }
    }
}

/// A figure of both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FigurePair {
    /// Its path in `summary.json`.
    pub figure: String,
    pub a: f64,
    pub b: f64,
    /// B − A as a share of A; `null` when A is 0.
    pub difference: Option<f64>,
    /// The interval of that share, of 95 % confidence.
    pub interval: Option<Interval>,
    pub verdict: Verdict,
}

/// A load point of both sides, or of one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PointPair {
    pub point: String,
    /// Runs of each side whose mean the figures are.
    pub runs: (usize, usize),
    /// Why it is not compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_comparable: Option<String>,
    pub figures: Vec<FigurePair>,
}

/// How strict a comparison is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// Compare other models and lengths, and simulated results with measured ones.
    pub anyway: bool,
}

/// Every load point of both sides, in the order of A, then those of B alone.
pub fn points(a: &[Measured], b: &[Measured], figures: &[String], rules: Rules) -> Vec<PointPair> {
    let mut taken = vec![false; b.len()];
    let mut pairs: Vec<PointPair> = Vec::new();
    for own in a {
        let free = |at: &usize| !taken[*at] && b[*at].deployment == own.deployment;
        let same = (0..b.len()).filter(free).find(|at| b[*at].id == own.id);
        let alike = || (0..b.len()).filter(free).find(|at| load(&b[*at]) == load(own));
        match same.or_else(alike) {
            Some(at) => {
                taken[at] = true;
                pairs.push(pair(own, &b[at], figures, rules));
            }
            None => pairs.push(alone(own, "measured in A alone")),
        }
    }
    let left = b.iter().zip(taken).filter(|(_, taken)| !taken);
    pairs.extend(left.map(|(other, _)| alone(other, "measured in B alone")));
    pairs
}

/// Its load without its lengths: requests in flight and per second, and the stages of a ramp.
fn load(point: &Measured) -> Option<(Option<u32>, Option<u64>, usize)> {
    let summary = point.runs.first()?;
    let stages = summary.stages.as_ref().map_or(0, Vec::len);
    Some((summary.point.concurrency, summary.point.request_rate.map(f64::to_bits), stages))
}

fn name(point: &Measured) -> String {
    [&point.deployment, &point.id]
        .into_iter()
        .filter(|part| !part.is_empty())
        .cloned()
        .collect::<Vec<_>>()
        .join(" ")
}

fn alone(point: &Measured, why: &str) -> PointPair {
    PointPair { point: name(point), runs: (0, 0), not_comparable: Some(why.into()), figures: Vec::new() }
}

fn pair(a: &Measured, b: &Measured, figures: &[String], rules: Rules) -> PointPair {
    let why =
        invalid(a, "A").or_else(|| invalid(b, "B")).or_else(|| other_thing(a, b).filter(|_| !rules.anyway));
    let compared = why.is_none();
    let of = |figure: &String| figure_pair(a, b, figure);
    PointPair {
        point: if a.id == b.id { name(a) } else { format!("{} against {}", name(a), b.id) },
        runs: (a.runs.len(), b.runs.len()),
        not_comparable: why,
        figures: figures.iter().filter(|_| compared).filter_map(of).collect(),
    }
}

/// Why the figures of a side say nothing.
fn invalid(side: &Measured, called: &str) -> Option<String> {
    let Some(first) = side.runs.first() else { return Some(format!("{called} has no figures")) };
    let is_invalid = side.runs.iter().all(|run| run.verdict.result == Rating::Invalid);
    let reason = first.verdict.reasons.first().map(|reason| format!(": {reason}")).unwrap_or_default();
    if side.runs.iter().all(|run| run.cut_short.is_some()) {
        return Some(format!("a search cut {called} short"));
    }
    is_invalid.then(|| format!("{called} is invalid{reason}"))
}

/// Why the two sides measured different things.
fn other_thing(a: &Measured, b: &Measured) -> Option<String> {
    let (first, second) = (a.runs.first()?, b.runs.first()?);
    if a.model != b.model {
        return Some(format!("other models: {} and {}", a.model, b.model));
    }
    if first.simulated != second.simulated {
        let simulated = if first.simulated { "A" } else { "B" };
        return Some(format!("{simulated} is simulated, the other is not"));
    }
    if first.point.streaming != second.point.streaming {
        return Some("one of them streams, the other does not".into());
    }
    if first.point.endpoint != second.point.endpoint {
        return Some(format!(
            "other endpoints: {} and {}",
            first.point.endpoint.as_str(),
            second.point.endpoint.as_str()
        ));
    }
    let asked = |s: &Summary| (s.point.isl, s.point.osl);
    if asked(first) != asked(second) {
        let told = |s: &Summary| format!("ISL {} OSL {}", s.point.isl, s.point.osl);
        return Some(format!("other lengths: {} and {}", told(first), told(second)));
    }
    for (called, length) in
        [("ISL", (|s| Some(s.isl?.avg)) as fn(&Summary) -> Option<f64>), ("OSL", |s| Some(s.osl?.avg))]
    {
        if let (Some(one), Some(two)) = (mean(&a.runs, length), mean(&b.runs, length))
            && (one - two).abs() > LENGTHS * one.max(two)
        {
            return Some(format!("other lengths: mean {called} {one:.1} and {two:.1}"));
        }
    }
    None
}

fn mean(runs: &[Summary], figure: impl Fn(&Summary) -> Option<f64>) -> Option<f64> {
    let values: Vec<f64> = runs.iter().filter_map(figure).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// `None` where one side does not have the figure.
fn figure_pair(a: &Measured, b: &Measured, figure: &str) -> Option<FigurePair> {
    let (of_a, of_b) = (Estimate::of(&a.runs, figure, a.gpus)?, Estimate::of(&b.runs, figure, b.gpus)?);
    let share = |difference: f64| (of_a.value > 0.0).then(|| difference / of_a.value);
    let difference = share(of_b.value - of_a.value);
    let interval = interval::difference(&of_a, &of_b);
    let interval =
        interval.and_then(|Interval { low, high }| Some(Interval { low: share(low)?, high: share(high)? }));
    let single = a.runs.len() < 2 || b.runs.len() < 2;
    let noise = if single { BETWEEN_RUNS } else { 0.0 };
    Some(FigurePair {
        verdict: verdict(difference, interval, noise, metric::better(figure)),
        figure: figure.to_owned(),
        a: of_a.value,
        b: of_b.value,
        difference,
        interval,
    })
}

fn verdict(difference: Option<f64>, interval: Option<Interval>, noise: f64, better: Better) -> Verdict {
    match (difference, interval) {
        (Some(0.0), _) => Verdict::WithinNoise,
        (_, Some(interval)) if interval.low <= 0.0 && interval.high >= 0.0 => Verdict::WithinNoise,
        (Some(difference), _) if difference.abs() < noise => Verdict::WithinNoise,
        (Some(difference), Some(_)) => match (better, difference > 0.0) {
            (Better::Higher, true) | (Better::Lower, false) => Verdict::Better,
            (Better::Higher, false) | (Better::Lower, true) => Verdict::Worse,
            (Better::Neither, _) => Verdict::Differs,
        },
        _ => Verdict::NotKnown,
    }
}

#[cfg(test)]
mod tests;
