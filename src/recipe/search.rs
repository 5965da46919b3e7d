//! `[search]`: the load to look for on the live server, and how far to look.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_with::skip_serializing_none;

use super::objective::{Mistake, Objective};
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

impl FromStr for Goal {
    type Err = Mistake;

    fn from_str(text: &str) -> Result<Self, Mistake> {
        if text.trim() == "throughput" {
            return Ok(Self::Throughput);
        }
        text.parse().map(Self::Keep)
    }
}

impl Display for Goal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Throughput => f.write_str("throughput"),
            Self::Keep(objective) => objective.fmt(f),
        }
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
