//! The highest load that keeps service-level objectives such as `ttft.p99 < 500ms`.

use serde::Serialize;
use serde_json::{Value, json};

use super::level::{self, Level};
use crate::document::{InputError, nearest};
use crate::recipe::units::Span;

/// A bound on a figure of a load level.
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    /// As the user wrote it.
    text: String,
    /// `ttft.p99`, `goodput`.
    figure: String,
    is_upper: bool,
    /// The bound itself is kept.
    includes: bool,
    /// ms, a share, or tokens or requests per second.
    bound: f64,
}

const LATENCIES: [&str; 4] = ["ttft", "itl", "e2e", "e2e_per_token"];
const STATISTICS: [&str; 9] = ["avg", "min", "p25", "p50", "p75", "p90", "p95", "p99", "max"];
const SHARES: [&str; 2] = ["error_rate", "goodput"];
const RATES: [&str; 3] = ["output_tokens_per_s", "requests_per_s", "tokens_per_s_per_user"];

impl Objective {
    /// Reads `ttft.p99 < 500ms`, `error_rate <= 1%`, `goodput >= 95%`, `tokens_per_s_per_user > 20`.
    pub fn parse(text: &str) -> Result<Self, InputError> {
        let wrong = |problem: String| InputError::new(format!("--slo {text:?}"), problem);
        let at = text.find(['<', '>']).ok_or_else(|| {
            wrong("no `<`, `<=`, `>` or `>=`".into()).expected("a bound such as ttft.p99 < 500ms")
        })?;
        let (name, rest) = text.split_at(at);
        let is_upper = rest.starts_with('<');
        let rest = rest.get(1..).unwrap_or_default();
        let (includes, value) = rest.strip_prefix('=').map_or((false, rest), |value| (true, value));
        let (name, value) = (name.trim(), value.trim());
        let figure = match name.split_once('.') {
            Some(("tpot", statistic)) => format!("itl.{statistic}"),
            Some(("latency", statistic)) => format!("e2e.{statistic}"),
            _ => name.to_owned(),
        };
        let known: Vec<String> = figures().collect();
        if !known.contains(&figure) {
            let error = wrong(format!("no figure {name:?}"))
                .expected("ttft, itl, tpot, e2e or e2e_per_token with avg, p50, p90, p95 or p99, as in ttft.p99; error_rate, goodput, \
                           output_tokens_per_s, requests_per_s or tokens_per_s_per_user");
            let near = nearest(&figure, known.iter().map(String::as_str));
            return Err(match near {
                Some(near) => error.next(format!("did you mean `{near}`?")),
                None => error,
            });
        }
        let bound =
            bound(&figure, value).map_err(|expected| wrong(format!("found {value:?}")).expected(expected))?;
        Ok(Self { text: text.trim().to_owned(), figure, is_upper, includes, bound })
    }

    /// The objective of a recipe with `load.slo`: 99 % of the requests meet its bounds.
    pub fn of_goodput() -> Self {
        Self {
            text: "goodput >= 99%".into(),
            figure: "goodput".into(),
            is_upper: false,
            includes: true,
            bound: 0.99,
        }
    }

    /// Its value at a level; `None` if it was not measured.
    fn value(&self, level: &Level) -> Option<f64> {
        match self.figure.as_str() {
            "error_rate" => level.error_rate,
            "output_tokens_per_s" => level.output_tokens_per_s,
            "requests_per_s" => level.requests_per_s,
            "tokens_per_s_per_user" => level.per_user,
            named => level.figures.get(named).copied(),
        }
    }

    fn unit(&self) -> Unit {
        match self.figure.as_str() {
            name if SHARES.contains(&name) => Unit::Share,
            name if RATES.contains(&name) => Unit::Rate,
            _ => Unit::Ms,
        }
    }

    fn is_kept(&self, value: f64) -> bool {
        match self.is_upper {
            _ if value == self.bound => self.includes,
            true => value < self.bound,
            false => value > self.bound,
        }
    }
}

/// Every figure that an objective can name.
fn figures() -> impl Iterator<Item = String> {
    let latencies =
        LATENCIES.iter().flat_map(|metric| STATISTICS.map(|statistic| format!("{metric}.{statistic}")));
    latencies.chain(SHARES.iter().chain(&RATES).map(|name| (*name).to_owned()))
}

/// The bound in the unit of its figure; the error says what was expected.
fn bound(figure: &str, value: &str) -> Result<f64, &'static str> {
    let number = |digits: &str| {
        digits.trim().parse::<f64>().ok().filter(|number| *number >= 0.0 && number.is_finite())
    };
    if SHARES.contains(&figure) {
        let share =
            value.strip_suffix('%').map_or_else(|| number(value), |digits| Some(number(digits)? / 100.0));
        return share.filter(|share| *share <= 1.0).ok_or("a share such as 1% or 0.01");
    }
    if RATES.contains(&figure) {
        return number(value).ok_or("a number without a unit");
    }
    Span::with_unit(value).map(Span::millis).map_err(|_| "a time with its unit, such as 500ms")
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
    /// The objective; `None` when the level failed.
    pub objective: Option<String>,
    pub value: Option<f64>,
    pub unit: Unit,
}

/// What the value of an objective is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Ms,
    Share,
    /// Tokens or requests per second.
    Rate,
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
        if level.failed {
            return Some(Some(Broken { at: level.load, objective: None, value: None, unit: Unit::Rate }));
        }
        let values: Option<Vec<f64>> = objectives.iter().map(|objective| objective.value(level)).collect();
        let mut pairs = objectives.iter().zip(values?);
        let broken = pairs.find(|(objective, value)| !objective.is_kept(*value));
        Some(broken.map(|(objective, value)| Broken {
            at: level.load,
            objective: Some(objective.text.clone()),
            value: Some(value),
            unit: objective.unit(),
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
        objectives: objectives.iter().map(|objective| objective.text.clone()).collect(),
        outcome,
        load: kept.map(|level| level.load),
        broken: broken.filter(|_| measured),
        interpolated,
        kept_again: higher.filter(|(_, broken)| broken.is_none()).map(|(level, _)| level.load).collect(),
    })
}

/// Where the figure that broke crosses its bound on a straight line.
fn crossing(kept: &Level, broken: &Broken, objectives: &[Objective]) -> Option<f64> {
    let objective = objectives.iter().find(|objective| Some(&objective.text) == broken.objective.as_ref())?;
    let (from, to) = (objective.value(kept)?, broken.value?);
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
