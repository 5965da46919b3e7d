//! `[[load.stages]]`: the stages of a ramp.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::units::{MAX_RATE, Span};

/// How the load gets to the target of a stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// In a straight line from where the last stage ended.
    #[default]
    Linear,
    /// At once, and stays there for the whole stage.
    Hold,
}

/// `[[load.stages]]`: one part of a ramp.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StageSection {
    /// Name in the report. Default: its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Length of the stage, above 0.
    #[serde(deserialize_with = "some_time")]
    pub duration: Span,
    /// Requests in flight at its end (closed loop).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Arrivals per second at its end (open loop); instead of `concurrency`.
    #[serde(default, deserialize_with = "rate_or_none", skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// How the load gets there. Default: `linear`.
    #[serde(default)]
    pub shape: Shape,
    /// Run and record this stage but leave it out of the figures; only at the end of the ramp. Default: false.
    #[serde(default)]
    pub cool_down: bool,
}

fn some_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
    let span = Span::deserialize(deserializer)?;
    if span.seconds() > 0.0 && span.seconds().is_finite() {
        return Ok(span);
    }
    let found = de::Unexpected::Float(span.seconds());
    Err(de::Error::invalid_value(found, &"a length of time above 0; a jump is shape = \"hold\""))
}

/// A rate per second that may be 0.
pub(super) fn rate_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let rate = f64::deserialize(deserializer)?;
    if (0.0..=MAX_RATE).contains(&rate) {
        return Ok(Some(rate));
    }
    Err(de::Error::invalid_value(
        de::Unexpected::Float(rate),
        &"a rate of 0 or more and at most 1000000 per second",
    ))
}
