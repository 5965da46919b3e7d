//! `[search]`: the load to look for on the live server, and how far to look.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_with::skip_serializing_none;

use super::units::Span;

/// `[search]`
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SearchSection {
    /// Objectives that the largest load must keep, all of them, e.g. `["ttft.p99 < 500ms", "errors < 1%"]`; or `["throughput"]`,
    /// the highest throughput.
    pub goal: Option<Vec<Goal>>,
    /// Smallest concurrency or rate. Default: 1, of a rate a 64th of the recipe's.
    pub min: Option<f64>,
    /// Largest concurrency or rate.
    pub max: Option<f64>,
    /// Distance of the limit from the next load that does not keep the objectives, as a share.
    pub tolerance: Option<f64>,
    /// Most measurements, repeats included.
    pub points: Option<u32>,
    /// Longest measured time. Default: no limit.
    pub time: Option<Span>,
    /// Measurements of the two loads at the limit, each.
    pub repeats: Option<u32>,
}

/// What a search looks for, as written.
#[derive(Debug, Clone, PartialEq)]
pub enum Goal {
    /// The load beyond which throughput no longer grows.
    Throughput,
    Keep(Objective),
}

/// A bound of one figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    pub figure: Figure,
    /// The figure must stay below the bound, not above.
    pub below: bool,
    /// ms, a share, or the unit of the figure.
    pub bound: f64,
    text: String,
}

/// What an objective bounds.
#[derive(Debug, Clone, PartialEq)]
pub enum Figure {
    /// Failed requests as a share of all.
    Errors,
    /// Requests that meet `load.slo` as a share of all completed.
    Goodput,
    /// A path in `summary.json`.
    Path(String),
}

impl Objective {
    /// The name of its figure as written: `ttft.p99`.
    pub fn name(&self) -> &str {
        self.text.split(['<', '>']).next().unwrap_or_default().trim()
    }
}

const LATENCIES: [&str; 5] = ["ttft", "itl", "tpot", "icl", "e2e"];

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "throughput" {
            return Ok(Self::Throughput);
        }
        let wrong = || {
            format!(
                "{text:?} is not like \"ttft.p99 < 500ms\", \"errors < 1%\", \"goodput > 95%\" or \"throughput\""
            )
        };
        let at = text.find(['<', '>']).ok_or_else(wrong)?;
        let (name, rest) = text.split_at(at);
        let (name, below) = (name.trim(), rest.starts_with('<'));
        let bound = rest.trim_start_matches(['<', '>', '=']).trim();
        let share = || match bound.strip_suffix('%') {
            Some(percent) => percent.trim().parse().ok().map(|percent: f64| percent / 100.0),
            None => bound.parse().ok(),
        };
        let sided = |figure, wanted: bool| {
            let sign = if wanted { '<' } else { '>' };
            if below == wanted { Ok(figure) } else { Err(format!("{text:?}: {name} is bounded by `{sign}`")) }
        };
        let latency =
            name.split_once('.').filter(|(metric, _)| LATENCIES.contains(&metric.trim_end_matches("_ms")));
        let (figure, bound) = match (name, latency) {
            ("errors", _) => (sided(Figure::Errors, true)?, share().ok_or_else(wrong)?),
            ("goodput", _) => (sided(Figure::Goodput, false)?, share().ok_or_else(wrong)?),
            (_, Some((metric, statistic))) => {
                let path = format!("{}_ms.{statistic}", metric.trim_end_matches("_ms"));
                (sided(Figure::Path(path), true)?, Span::with_unit(bound)?.millis())
            }
            _ => (Figure::Path(name.to_owned()), bound.parse().map_err(|_| wrong())?),
        };
        if !bound.is_finite() || bound < 0.0 {
            return Err(wrong());
        }
        Ok(Self::Keep(Objective { figure, below, bound, text: text.trim().to_owned() }))
    }
}

impl Display for Goal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Throughput => "throughput",
            Self::Keep(objective) => &objective.text,
        })
    }
}

impl Serialize for Goal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Goal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Goal {
    fn schema_name() -> Cow<'static, str> {
        "Goal".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "description": "\"ttft.p99 < 500ms\", \"errors < 1%\", \"goodput > 95%\" or \"throughput\""})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives_as_people_write_them() {
        let of = |text: &str| match text.parse::<Goal>() {
            Ok(Goal::Keep(objective)) => (objective.figure, objective.below, objective.bound),
            other => panic!("{text}: {other:?}"),
        };
        let path = |path: &str| Figure::Path(path.to_owned());
        for (text, expected) in [
            ("ttft.p99 < 500ms", (path("ttft_ms.p99"), true, 500.0)),
            ("itl.p95<25ms", (path("itl_ms.p95"), true, 25.0)),
            ("e2e_ms.avg <= 2s", (path("e2e_ms.avg"), true, 2000.0)),
            ("errors < 1%", (Figure::Errors, true, 0.01)),
            ("goodput > 95%", (Figure::Goodput, false, 0.95)),
            (
                "throughput.output_tokens_per_s_per_user > 30",
                (path("throughput.output_tokens_per_s_per_user"), false, 30.0),
            ),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
        assert_eq!("throughput".parse(), Ok(Goal::Throughput));
        for (text, problem) in [
            ("ttft.p99", "is not like"),
            ("ttft.p99 < 500", "has no unit"),
            ("ttft.p99 > 5ms", "bounded by `<`"),
            ("goodput < 5%", "bounded by `>`"),
            ("errors < x", "is not like"),
            ("x > NaN", "is not like"),
        ] {
            assert!(text.parse::<Goal>().unwrap_err().contains(problem), "{text}");
        }
    }
}
