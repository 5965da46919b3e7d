//! One load on one deployment: what is sent, how fast, until when.

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::extension::Extension;
use super::prompts::PromptSpec;
use super::ramp::Ramp;
use crate::recipe::ExportFormat;
pub use crate::recipe::{Endpoint, HttpVersion, MaxTokensField, Proxy, WhenFull};

/// A length in tokens, never below 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Length {
    /// The nominal length, tokens: the mean, unless it is drawn from a range that is not around it.
    pub mean: u32,
    /// How single lengths differ from it.
    #[serde(default)]
    pub spread: Spread,
}

/// How single lengths differ from the nominal one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// They do not.
    #[default]
    None,
    /// Normally distributed, rounded.
    Normal {
        /// Standard deviation, tokens.
        stddev: u32,
    },
    /// Every whole number from `low` to `high` is as likely.
    Uniform { low: u32, high: u32 },
}

impl Length {
    /// Always `tokens`.
    pub fn fixed(tokens: u32) -> Self {
        Self { mean: tokens, spread: Spread::None }
    }

    /// Normally distributed around `mean`; fixed when `stddev` is 0.
    pub fn normal(mean: u32, stddev: u32) -> Self {
        let spread = if stddev == 0 { Spread::None } else { Spread::Normal { stddev } };
        Self { mean, spread }
    }

    /// Standard deviation, tokens; 0 when it is fixed. Of a range rounded.
    pub fn stddev(self) -> u32 {
        match self.spread {
            Spread::None => 0,
            Spread::Normal { stddev } => stddev,
            Spread::Uniform { low, high } => {
                let values = f64::from(high.saturating_sub(low)) + 1.0;
                ((values * values - 1.0) / 12.0).sqrt().round() as u32
            }
        }
    }

    /// The longest there can be, or almost: 4 standard deviations above the mean.
    pub fn longest(self) -> u32 {
        match self.spread {
            Spread::None => self.mean,
            Spread::Normal { stddev } => self.mean.saturating_add(stddev.saturating_mul(4)),
            Spread::Uniform { high, .. } => high,
        }
    }
}

/// One of several shapes in a load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WeightedShape {
    pub isl: Length,
    pub osl: Length,
    /// How often it occurs beside the others, above 0.
    pub weight: f64,
}

/// How requests arrive. Open against closed loop is a type, not a flag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrival {
    /// Closed loop: always `concurrency` requests in flight; the next leaves when one ends.
    Closed {
        /// Requests in flight. The values of a ramp are whole numbers.
        concurrency: Level<u32>,
    },
    /// Open loop: requests arrive by a schedule that does not wait for the server.
    Open {
        /// Mean arrivals per second.
        rate: Level<f64>,
        /// How arrivals are spaced around that mean.
        spacing: Spacing,
        /// How many may be in flight.
        #[serde(flatten)]
        limit: Limit,
    },
    /// Open loop on the clock of the trace that the prompts come from.
    Trace {
        /// How many may be in flight.
        #[serde(flatten)]
        limit: Limit,
    },
}

/// A value that stays the same, or follows a ramp.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Level<T> {
    /// Always this value.
    Constant(T),
    /// The value of the ramp at each instant.
    Ramp(Ramp),
}

impl<T: Copy + Into<f64>> Level<T> {
    pub fn peak(&self) -> f64 {
        match self {
            Self::Constant(value) => (*value).into(),
            Self::Ramp(ramp) => ramp.peak(),
        }
    }
}

/// A bound on the requests in flight of an open loop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// Most requests in flight; `None`: no limit.
    pub max_concurrency: Option<u32>,
    /// What happens to an arrival that finds `max_concurrency` requests in flight.
    pub when_full: WhenFull,
}

impl Default for Arrival {
    fn default() -> Self {
        Self::closed(1)
    }
}

impl Arrival {
    /// A closed loop of this many requests in flight.
    pub fn closed(concurrency: u32) -> Self {
        Self::Closed { concurrency: Level::Constant(concurrency) }
    }

    /// The ramp, when there is one.
    pub fn ramp(&self) -> Option<&Ramp> {
        match self {
            Self::Closed { concurrency: Level::Ramp(ramp) } | Self::Open { rate: Level::Ramp(ramp), .. } => {
                Some(ramp)
            }
            _ => None,
        }
    }

    /// How the warm-up's requests arrive: in the same way, for a ramp at its first value above 0.
    pub fn of_warmup(&self) -> Self {
        match self {
            // `as` saturates.
            Self::Closed { concurrency: Level::Ramp(ramp) } => Self::closed(ramp.first_level().ceil() as u32),
            Self::Open { rate: Level::Ramp(ramp), spacing, limit } => {
                Self::Open { rate: Level::Constant(ramp.first_level()), spacing: *spacing, limit: *limit }
            }
            Self::Trace { limit } => {
                let most = limit.max_concurrency.unwrap_or(TRACE_WARMUP_CONCURRENCY);
                Self::closed(most.clamp(1, TRACE_WARMUP_CONCURRENCY))
            }
            constant => constant.clone(),
        }
    }
}

/// Requests in flight while a trace is warmed up: its own clock belongs to what is measured.
const TRACE_WARMUP_CONCURRENCY: u32 = 8;

/// The gaps between arrivals. All have the mean 1 / rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spacing {
    /// Every gap is the mean.
    Constant,
    /// Exponential gaps: independent users.
    Poisson,
    /// Gamma-distributed gaps: burstier than Poisson below a shape of 1, more even above; 1 is Poisson.
    Gamma {
        /// Shape; the coefficient of variation of a gap is 1 / √shape.
        shape: f64,
    },
}

impl std::fmt::Display for Spacing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Constant => f.write_str("constant"),
            Self::Poisson => f.write_str("poisson"),
            Self::Gamma { shape } => write!(f, "gamma:{shape}"),
        }
    }
}

/// Bounds of a gamma shape: below, almost all arrivals come in a few bursts; above, the spacing is constant.
pub const GAMMA_SHAPES: std::ops::RangeInclusive<f64> = 0.01..=1000.0;

/// What happens to requests that are in flight when the last one has been sent, or the time is over.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AtEnd {
    /// They may end.
    Drain {
        /// For this long at most, seconds, then they are cut. `None`: the time limit of each request is the bound.
        limit_s: Option<f64>,
    },
    /// They are cut at once and recorded as `cancelled`.
    Cut,
}

impl Default for AtEnd {
    fn default() -> Self {
        Self::Drain { limit_s: None }
    }
}

/// When a load point ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// After this many measured requests; in an open loop after this many arrivals, dropped ones included.
    Requests(u64),
    /// No request is sent after this many seconds.
    DurationS(f64),
    /// After the last request of the trace.
    #[default]
    TraceEnd,
}

/// Service-level objectives a request must meet, all of them, to count as good. Unset ones do not apply.
#[skip_serializing_none]
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Slo {
    /// Upper bound of TTFT, ms.
    pub ttft_ms: Option<f64>,
    /// Upper bound of the per-request ITL, ms.
    pub itl_ms: Option<f64>,
    /// Upper bound of the E2E latency, ms.
    pub e2e_ms: Option<f64>,
}

impl Slo {
    pub fn is_empty(&self) -> bool {
        self.ttft_ms.is_none() && self.itl_ms.is_none() && self.e2e_ms.is_none()
    }
}

/// One of several measurements of the same load on the same deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repeat {
    /// From 1.
    pub number: u32,
    /// How many there are; with `until` at most.
    pub of: u32,
    /// What makes further ones unnecessary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
}

/// Fewest repeats that `until` may end: of two the interval is too wide, or small by chance.
pub const MIN_UNTIL: u32 = 3;

/// When repeats are enough: half the width of a figure's 95 % confidence interval is at most a share of its mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Until {
    /// The share, above 0 and below 1.
    pub share: f64,
    /// Path of the figure in `summary.json`.
    pub figure: String,
}

/// One load on one deployment. The default one sends nothing; the planner sets every field.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadPoint {
    /// Name of the point and of its folder, e.g. `isl128_osl1000_con64`; of a repeat with its number, `…_con64_r2`.
    pub id: String,
    /// Which measurement of the same load on the same deployment it is; `None`: the only one.
    pub repeat: Option<Repeat>,
    pub isl: Length,
    pub osl: Length,
    pub prompts: PromptSpec,
    pub arrival: Arrival,
    pub stop: Stop,
    /// Requests sent before the measured window, at the same concurrency or rate.
    pub warmup_requests: u64,
    /// Warm-up for this long instead, seconds.
    pub warmup_duration_s: Option<f64>,
    /// What happens to requests that are in flight at the end.
    pub at_end: AtEnd,
    pub endpoint: Endpoint,
    /// Whether answers are streamed (SSE) or come in one piece.
    pub streaming: bool,
    /// Ask the server to generate exactly the output length (`ignore_eos`, `min_tokens`).
    pub ignore_eos: bool,
    /// Seed of prompts and lengths.
    pub seed: u64,
    #[serde(default, skip_serializing_if = "Slo::is_empty")]
    pub slo: Slo,
    /// Total time limit of one request, seconds.
    pub request_timeout_s: f64,
    /// Longest silence between two reads of one answer, seconds.
    pub stall_timeout_s: f64,
    /// Longest wait for a connection, name resolution and TLS included, seconds. Past it the outcome is `connect`.
    pub connect_timeout_s: f64,
    /// Longest wait from the send to the first content chunk, seconds. Past it the outcome is `timeout`.
    pub first_token_timeout_s: Option<f64>,
    /// Field that bounds the output length.
    pub max_tokens_field: MaxTokensField,
    /// Ask for `usage` in every chunk of a stream.
    pub continuous_usage_stats: bool,
    /// Extensions that are not sent, because the server refused them when it was asked before the load.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<Extension>,
    /// The share of the recipe's requests or time that is left of it: a load that was scaled down on purpose. 1 when
    /// the simulated engine stands in and all of the load is left.
    pub scaled: Option<f64>,
    /// Other tools' formats that the results are written in, beside AIPerf's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exports: Vec<ExportFormat>,
    /// Merged into every request body, last.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub extra_body: serde_json::Map<String, serde_json::Value>,
}

impl LoadPoint {
    /// Whether requests are sent before the measured ones.
    pub fn warms_up(&self) -> bool {
        self.warmup_requests > 0 || self.warmup_duration_s.is_some()
    }

    /// Requests in flight: the number in a closed loop, its highest in a ramp, the limit (if there is one) in an open
    /// loop.
    pub fn concurrency(&self) -> Option<u32> {
        match &self.arrival {
            Arrival::Closed { concurrency: Level::Constant(concurrency) } => Some(*concurrency),
            Arrival::Closed { concurrency: Level::Ramp(ramp) } => Some(ramp.slots()),
            Arrival::Open { limit, .. } | Arrival::Trace { limit } => limit.max_concurrency,
        }
    }

    /// Arrivals per second, their highest in a ramp; `None` in a closed loop.
    pub fn request_rate(&self) -> Option<f64> {
        match &self.arrival {
            Arrival::Open { rate, .. } => Some(rate.peak()),
            Arrival::Closed { .. } | Arrival::Trace { .. } => None,
        }
    }

    /// Requests that may be wanted at about the same time: the concurrency, or what arrives in a second.
    pub fn wave(&self) -> u32 {
        match self.request_rate() {
            // `as` saturates.
            Some(rate) => (rate.ceil() as u32).clamp(1, self.concurrency().unwrap_or(u32::MAX).max(1)),
            None => self.concurrency().unwrap_or(1),
        }
    }

    /// The load in a few words, for people: `64` or `12.5/s poisson, at most 64 in flight (drop)`.
    pub fn load_words(&self) -> String {
        let (load, limit) = match &self.arrival {
            Arrival::Closed { concurrency: Level::Constant(concurrency) } => return concurrency.to_string(),
            Arrival::Closed { concurrency: Level::Ramp(ramp) } => return ramp.to_string(),
            Arrival::Open { rate: Level::Constant(rate), spacing, limit } => {
                (format!("{rate}/s {spacing}"), limit)
            }
            Arrival::Open { rate: Level::Ramp(ramp), spacing, limit } => {
                (format!("{ramp} /s {spacing}"), limit)
            }
            Arrival::Trace { limit } => ("the trace's clock".to_owned(), limit),
        };
        let Some(most) = limit.max_concurrency else { return load };
        let full = match limit.when_full {
            WhenFull::Queue => "queue",
            WhenFull::Drop => "drop",
        };
        format!("{load}, at most {most} in flight ({full})")
    }
}
