//! Words of an open loop: how arrivals are spaced, what a full house does, how a load point ends.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[load.arrival]`: exactly one of these tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ArrivalSection {
    /// Every gap is 1 / rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constant: Option<NoOptions>,
    /// Exponential gaps: independent users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poisson: Option<NoOptions>,
    /// Gamma-distributed gaps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gamma: Option<GammaSection>,
}

/// A table without keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoOptions {}

/// `[load.arrival.gamma]`
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GammaSection {
    /// Burstier than Poisson below 1, more even above.
    pub shape: f64,
}

/// `at_end`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AtEndWord {
    /// Requests in flight may end.
    #[default]
    Drain,
    /// They are cut and recorded as `cancelled`.
    Cut,
}

/// What happens to an arrival that finds the most allowed requests in flight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// It waits for a free place, first come first served; the wait counts in the scheduled latencies.
    #[default]
    Queue,
    /// It is not sent, and counted as dropped.
    Drop,
}
