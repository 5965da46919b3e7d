//! How much the client itself adds to an instant: the time from when bytes were readable to when they were stamped.

use super::record::ClientHealth;
use super::stats::percentile;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What the client added to its time stamps, ms. A time stamp is late by this; a latency is too long by it at its end, and too
/// short by it at its beginning when that is a stamp as well (ITL, ICL).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AddedError {
    /// Median, ms.
    pub p50: f64,
    /// 99th percentile, ms.
    pub p99: f64,
    /// The largest, ms.
    pub max: f64,
    /// What it was taken from.
    pub source: AddedErrorSource,
}

/// What the added error was taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AddedErrorSource {
    /// Sampled reads: from the kernel's receive stamp of the last segment in a read to the stamp of the read.
    ReadDelay,
    /// The loop lag, which stands for it: bytes wait for the thread as long as what another thread sends it.
    LoopLag,
}

impl AddedError {
    /// From the read delays, else from the loop lag; `None` without samples of either.
    pub fn of(health: &ClientHealth) -> Option<Self> {
        let (samples_us, source) = match health.read_delay_us.as_slice() {
            [] => (&health.loop_lag_us, AddedErrorSource::LoopLag),
            _ => (&health.read_delay_us, AddedErrorSource::ReadDelay),
        };
        let mut sorted_ms: Vec<f64> = samples_us.iter().map(|delay| f64::from(*delay) / 1e3).collect();
        sorted_ms.sort_unstable_by(f64::total_cmp);
        let max = *sorted_ms.last()?;
        Some(Self { p50: percentile(&sorted_ms, 50.0), p99: percentile(&sorted_ms, 99.0), max, source })
    }
}

impl fmt::Display for AddedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self.source {
            AddedErrorSource::ReadDelay => "by the kernel's receive stamps",
            AddedErrorSource::LoopLag => "by its loop lag",
        };
        write!(f, "client's own delay: at most {:.2} ms on each time stamp (p99), {source}", self.p99)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_delays_go_before_the_loop_lag() {
        let lag_only = ClientHealth { loop_lag_us: vec![1_500; 4], ..ClientHealth::default() };
        let error = AddedError::of(&lag_only).expect("samples");
        assert_eq!((error.p99, error.source), (1.5, AddedErrorSource::LoopLag));
        // 0 … 100 µs: p50 is 50 µs, p99 99 µs
        let read_delay_us = (0..=100).rev().collect();
        let error = AddedError::of(&ClientHealth { read_delay_us, ..lag_only }).expect("samples");
        let expected = AddedError { p50: 0.05, p99: 0.099, max: 0.1, source: AddedErrorSource::ReadDelay };
        assert_eq!(error, expected);
        let words =
            "client's own delay: at most 0.10 ms on each time stamp (p99), by the kernel's receive stamps";
        assert_eq!(error.to_string(), words);
        assert_eq!(AddedError::of(&ClientHealth::default()), None);
    }
}
