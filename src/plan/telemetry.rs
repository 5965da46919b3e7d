//! What is recorded of servers and GPUs beside the load.

use serde::{Deserialize, Serialize};

/// The DCGM exporter's own default address.
const DCGM_URL: &str = "http://127.0.0.1:9400/metrics";

/// What is recorded of servers and GPUs beside the load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Telemetry {
    /// The GPUs of the deployment are sampled.
    pub gpu: bool,
    /// Seconds between two samples.
    pub interval_s: f64,
    /// The DCGM exporter's metrics page as each node reaches its own.
    pub dcgm_url: String,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { gpu: true, interval_s: 1.0, dcgm_url: DCGM_URL.to_owned() }
    }
}

impl Telemetry {
    /// Whether nothing was chosen, so that the plan does not say it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
