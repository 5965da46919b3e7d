//! The highest load that keeps service-level objectives such as `ttft.p99 < 500ms`.

use serde::Serialize;
use serde_json::{Value, json};

use super::level::{self, CutShort, Level};
use crate::document::InputError;
use crate::recipe::objective::{Figure, Mistake, Objective, Unit};

/// Reads an objective of `--slo`, on a figure that levels have.
pub fn objective(text: &str) -> Result<Objective, InputError> {
    let read = text.parse::<Objective>().and_then(|objective| match objective.figure {
        Figure::Path(_) => Err(Mistake::unknown(objective.name())),
        _ => Ok(objective),
    });
    read.map_err(|mistake| mistake.at(&format!("--slo {text:?}")))
}

/// Its value at a level; `None` if it was not measured.
fn value(objective: &Objective, level: &Level) -> Option<f64> {
    match &objective.figure {
        Figure::ErrorRate => level.error_rate,
        Figure::OutputTokensPerS => level.output_tokens_per_s,
        Figure::RequestsPerS => level.requests_per_s,
        Figure::TokensPerSPerUser => level.per_user,
        Figure::Goodput => level.figures.get("goodput").copied(),
        Figure::Latency(name) | Figure::Path(name) => level.figures.get(name).copied(),
    }
}

/// How the search for the highest load ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The next higher measured load breaks an objective.
    Bounded,
    /// Every measured load keeps all: the limit lies above the highest.
    NotReached,
    /// The lowest measured load already breaks one.
    None,
    /// No load has the figures.
    Unknown,
}

/// What broke first.
#[derive(Debug, Clone, PartialEq)]
pub struct Broken {
    pub at: f64,
    /// The objective; `None` when the level failed or was over-saturated.
    pub objective: Option<String>,
    pub value: Option<f64>,
    pub unit: Unit,
}

/// The highest load that keeps the objectives.
#[derive(Debug, Clone, PartialEq)]
pub struct Sustained {
    pub objectives: Vec<String>,
    pub outcome: Outcome,
    /// The highest measured load up to which every measured load keeps all objectives.
    pub load: Option<f64>,
    pub broken: Option<Broken>,
    /// Where the broken figure crosses its bound on a straight line between the two measured loads: an estimate.
    pub interpolated: Option<f64>,
    /// Higher loads that keep all objectives again.
    pub kept_again: Vec<f64>,
}

/// The highest of these levels, from the lowest load up, that keeps every objective together with all below it. A failed level
/// keeps none; a level without a figure says nothing and is passed over.
pub(super) fn sustained(levels: &[Level], objectives: &[Objective]) -> Option<Sustained> {
    if objectives.is_empty() {
        return None;
    }
    let breaks = |level: &Level| {
        if level.failed || level.cut_short == CutShort::OverSaturated {
            return Some(Some(Broken { at: level.load, objective: None, value: None, unit: Unit::Plain }));
        }
        let values: Option<Vec<f64>> = objectives.iter().map(|objective| value(objective, level)).collect();
        let mut pairs = objectives.iter().zip(values?);
        let broken = pairs.find(|(objective, value)| !objective.is_kept(*value));
        Some(broken.map(|(objective, value)| Broken {
            at: level.load,
            objective: Some(objective.to_string()),
            value: Some(value),
            unit: objective.figure.unit(),
        }))
    };
    let known: Vec<(&Level, Option<Broken>)> =
        levels.iter().filter_map(|level| Some((level, breaks(level)?))).collect();
    let measured = known.iter().any(|(level, _)| !level.failed);
    let first = known.iter().position(|(_, broken)| broken.is_some());
    let kept = known.get(..first.unwrap_or(known.len())).and_then(<[_]>::last).map(|(level, _)| *level);
    let broken = first.and_then(|at| known.get(at)?.1.clone());
    let higher = known.iter().skip(first.map_or(known.len(), |at| at + 1));
    let outcome = match (measured, kept, &broken) {
        (false, ..) => Outcome::Unknown,
        (_, None, _) => Outcome::None,
        (_, Some(_), Some(_)) => Outcome::Bounded,
        (_, Some(_), None) => Outcome::NotReached,
    };
    let interpolated =
        kept.zip(broken.as_ref()).and_then(|(kept, broken)| crossing(kept, broken, objectives));
    Some(Sustained {
        objectives: objectives.iter().map(|objective| objective.to_string()).collect(),
        outcome,
        load: kept.map(|level| level.load),
        broken: broken.filter(|_| measured),
        interpolated,
        kept_again: higher.filter(|(_, broken)| broken.is_none()).map(|(level, _)| level.load).collect(),
    })
}

/// Where the figure that broke crosses its bound on a straight line.
fn crossing(kept: &Level, broken: &Broken, objectives: &[Objective]) -> Option<f64> {
    let objective = objectives.iter().find(|objective| Some(objective.to_string()) == broken.objective)?;
    let (from, to) = (value(objective, kept)?, broken.value?);
    Some(kept.load + (objective.bound - from) / (to - from) * (broken.at - kept.load))
        .filter(|at| at.is_finite())
}

impl Sustained {
    /// The JSON below `slo` of `tokmark zones --json`.
    pub fn json(&self) -> Value {
        json!({
            "objectives": self.objectives,
            "outcome": self.outcome,
            "max_load": self.load.map(level::json),
            "broken": self.broken.as_ref().map(|broken| {
                json!({"at": level::json(broken.at), "objective": broken.objective, "value": broken.value})
            }),
            "interpolated": self.interpolated,
            "kept_again": self.kept_again.iter().copied().map(level::json).collect::<Vec<_>>(),
        })
    }
}
