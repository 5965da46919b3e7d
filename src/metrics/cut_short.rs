//! Load points that a search ended early, because they could no longer keep its objectives.

use serde::{Deserialize, Serialize};

use super::Summary;
use super::verdict::Rating;

/// A load point of a search that ended before its planned end. Its throughput is that of the shorter time, and the longest requests
/// are missing from its latencies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CutShort {
    /// Requests of the whole point, at most.
    pub planned_requests: u64,
    /// More requests arrived than were completed, and the queue grew without bound.
    pub over_saturated: bool,
    pub reason: String,
}

impl Summary {
    /// Whether its figures stand for the whole load point: it is not invalid, and no search cut it short.
    pub fn is_whole(&self) -> bool {
        self.verdict.result != Rating::Invalid && self.cut_short.is_none()
    }
}
