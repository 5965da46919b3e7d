//! One load on one deployment: what is sent, how fast, until when.
//!
//! Arrow: pure data; `recipe` → here → `load`, `metrics`.

use serde::{Deserialize, Serialize};

pub use crate::recipe::endpoint::Endpoint;

/// A length in tokens: fixed (`stddev` 0) or normally distributed around `mean`, never below 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Length {
    /// Mean, tokens.
    pub mean: u32,
    /// Standard deviation, tokens.
    pub stddev: u32,
}

/// How requests arrive. Open against closed loop is a type, not a flag.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrival {
    /// Closed loop: always this many requests in flight; the next leaves when one ends.
    Closed {
        /// Requests in flight.
        concurrency: u32,
    },
}

/// When a load point ends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// After this many measured requests.
    Requests(u64),
    /// No request is sent after this many seconds; what is in flight is drained.
    DurationS(f64),
}

/// Service-level objectives a request must meet, all of them, to count as good. Unset ones do not apply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Slo {
    /// Upper bound of TTFT, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<f64>,
    /// Upper bound of the per-request ITL, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub itl_ms: Option<f64>,
    /// Upper bound of the E2E latency, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e2e_ms: Option<f64>,
}

impl Slo {
    /// Whether no objective is set.
    pub fn is_empty(&self) -> bool {
        self.ttft_ms.is_none() && self.itl_ms.is_none() && self.e2e_ms.is_none()
    }
}

/// One load on one deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadPoint {
    /// Name of the point and of its folder, e.g. `isl128_osl1000_con64`.
    pub id: String,
    /// Prompt length.
    pub isl: Length,
    /// Output length asked for.
    pub osl: Length,
    /// How requests arrive.
    pub arrival: Arrival,
    /// When the point ends.
    pub stop: Stop,
    /// Requests sent before the measured window, at the same concurrency.
    pub warmup_requests: u64,
    /// Which endpoint.
    pub endpoint: Endpoint,
    /// Whether answers are streamed (SSE) or come in one piece.
    pub streaming: bool,
    /// Ask the server to generate exactly the output length (`ignore_eos`, `min_tokens`).
    pub ignore_eos: bool,
    /// Seed of prompts and lengths.
    pub seed: u64,
    /// Objectives for goodput.
    #[serde(default, skip_serializing_if = "Slo::is_empty")]
    pub slo: Slo,
    /// Total time limit of one request, seconds.
    pub request_timeout_s: f64,
    /// Longest silence between two reads of one answer, seconds.
    pub stall_timeout_s: f64,
    /// Merged into every request body, last.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub extra_body: serde_json::Map<String, serde_json::Value>,
}

impl LoadPoint {
    /// Requests in flight of a closed loop.
    pub fn concurrency(&self) -> u32 {
        match self.arrival {
            Arrival::Closed { concurrency } => concurrency,
        }
    }
}

/// `isl128_osl1000_con64`: the stable, readable name of a load point and of its folder.
pub fn point_id(isl: Length, osl: Length, concurrency: u32) -> String {
    format!("isl{}_osl{}_con{concurrency}", isl.mean, osl.mean)
}
