//! Keys of an open loop: how arrivals are spaced, what happens at the concurrency limit, how a load point ends.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[load.arrival]`: set exactly one of these tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ArrivalSection {
    /// Every gap is 1 / rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constant: Option<NoOptions>,
    /// Exponentially distributed gaps, as from independent users.
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

/// What happens to requests in flight when the load ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AtEndWord {
    /// Wait until they finish.
    #[default]
    Drain,
    /// Cut them and record them as `cancelled`.
    Cut,
}

/// What happens to an arrival at the limit of requests in flight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// It waits for a free slot, in order of arrival; scheduled latencies include the wait.
    #[default]
    Queue,
    /// It is not sent and counts as dropped.
    Drop,
}
