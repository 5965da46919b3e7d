//! How the time to first token holds while the load rises.
//!
//! The grades are those of the vLLM benchmarking guide among the documents that tokmark was made from: the median within 50 ms of
//! the lowest load is stable, a p95 below twice its value there acceptable, a doubled TTFT a scheduling problem.

use serde::Serialize;

use super::level::Level;

/// How TTFT at a level compares with the lowest level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stability {
    Stable,
    Acceptable,
    /// Doubled: look at batching and scheduling.
    Unstable,
    /// The server is overloaded.
    Severe,
}

impl Stability {
    /// As people write it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Acceptable => "acceptable",
            Self::Unstable => "unstable",
            Self::Severe => "severe",
        }
    }
}

/// A rise of this is no rise, ms.
const STEADY_MS: f64 = 50.0;
/// A p95 up to this multiple is stable.
const STABLE_P95: f64 = 1.5;
/// From this multiple on TTFT is unstable.
const UNSTABLE: f64 = 2.0;
/// From this multiple on it is severe: the document's examples lie at 3.8 (unstable) and 10 (severe).
const SEVERE: f64 = 5.0;

/// The grade of each level in order, the lowest load first; `None` for the first, and for levels without TTFT. Uses the median and
/// the 95th percentile, and the average where a level has no median.
pub fn grades<'a>(levels: impl IntoIterator<Item = &'a Level>) -> Vec<Option<Stability>> {
    let mut base: Option<(f64, Option<f64>)> = None;
    let grade = |level: &Level| {
        let median = level.ttft_p50_ms.or(level.ttft_avg_ms).filter(|_| !level.failed)?;
        let Some((lowest, lowest_p95)) = base else {
            base = Some((median, level.ttft_p95_ms));
            return None;
        };
        let tail =
            level.ttft_p95_ms.zip(lowest_p95).map(|pair| of(pair, STABLE_P95).min(Stability::Unstable));
        Some(of((median, lowest), 1.0).max(tail.unwrap_or(Stability::Stable)))
    };
    levels.into_iter().map(grade).collect()
}

/// The grade of a figure against its value at the lowest load; up to `stable` times it is stable.
fn of((now, then): (f64, f64), stable: f64) -> Stability {
    match now {
        _ if now <= then + STEADY_MS || now <= then * stable => Stability::Stable,
        _ if now < then * UNSTABLE => Stability::Acceptable,
        _ if now < then * SEVERE => Stability::Unstable,
        _ => Stability::Severe,
    }
}
