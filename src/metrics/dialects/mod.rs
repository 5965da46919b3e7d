//! The same records in other tools' definitions and file formats, so that their readers work on our results.
//!
//! Arrow: `record`, `stats`, `plan` → here → whoever writes the files.

pub mod aiperf;
pub mod genai_perf;

use crate::plan::{Arrival, LoadPoint};

/// What the exports need to know beside the load point and its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportContext<'a> {
    /// Model name as sent to the server.
    pub model: &'a str,
    /// Base URL of the server, without credentials.
    pub url: &'a str,
    /// Our own version, e.g. `0.1.0`.
    pub version: &'a str,
    /// The answers came from the simulated engine.
    pub simulated: bool,
    /// Name of the experiment or run; `benchmark_id` of AIPerf's JSON.
    pub benchmark_id: &'a str,
}

/// The arrivals of a point in the words that the exports share.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Offered {
    /// Most requests in flight; `None` when there is no bound.
    concurrency: Option<u32>,
    /// Arrivals per second; `None` in a closed loop.
    rate: Option<f64>,
    /// Shape of the gamma distribution of the gaps: 1 is Poisson.
    burstiness: f64,
}

fn offered(point: &LoadPoint) -> Offered {
    match point.arrival {
        Arrival::Closed { concurrency } => {
            Offered { concurrency: Some(concurrency), rate: None, burstiness: 1.0 }
        }
    }
}
