//! The requests of a stage or of a turn: how many, and their latencies.
//!
//! A subset keeps the positions of its requests in the fold, 4 bytes each, and reads their figures there.

use super::record::Outcome;
use super::request_figures::RequestFigures;
use super::stats::Distribution;

/// A subset of the measured requests.
#[derive(Debug, Clone, Default)]
pub(super) struct Subset {
    pub(super) requests: u64,
    /// Of those, the ones that tokmark cut.
    pub(super) cancelled: u64,
    /// Positions in the fold of those that ended well.
    completed: Vec<u32>,
}

/// The latencies of a subset, ms; `None` where they do not apply.
pub(super) struct Latencies {
    pub(super) ttft_ms: Option<Distribution>,
    pub(super) itl_ms: Option<Distribution>,
    pub(super) e2e_ms: Option<Distribution>,
}

impl Subset {
    /// Adds the measured request at `position` of the fold.
    pub(super) fn add(&mut self, request: &RequestFigures, position: u32) {
        self.requests += 1;
        self.cancelled += u64::from(request.outcome == Outcome::Cancelled);
        if request.counts() {
            self.completed.push(position);
        }
    }

    /// Adds the requests of another subset, none of which is in this one.
    pub(super) fn join(&mut self, other: &Self) {
        self.requests += other.requests;
        self.cancelled += other.cancelled;
        self.completed.extend(&other.completed);
    }

    /// Requests that ended well.
    pub(super) fn completed(&self) -> u64 {
        self.completed.len() as u64
    }

    /// The latencies of those that ended well. Without streaming only E2E applies.
    pub(super) fn latencies(&self, all: &[RequestFigures], streamed: bool) -> Latencies {
        let of = |applies: bool, value: fn(&RequestFigures) -> Option<f64>| {
            let mut values = Vec::with_capacity(if applies { self.completed.len() } else { 0 });
            values.extend(self.completed_in(all).filter(|_| applies).filter_map(value));
            Distribution::of(&mut values)
        };
        Latencies {
            ttft_ms: of(streamed, RequestFigures::ttft_ms),
            itl_ms: of(streamed, RequestFigures::itl_ms),
            e2e_ms: of(true, RequestFigures::e2e_ms),
        }
    }

    /// The mean of a number of tokens over those that ended well; `None` when none did.
    pub(super) fn mean(&self, all: &[RequestFigures], tokens: fn(&RequestFigures) -> u32) -> Option<f64> {
        let sum: u64 = self.completed_in(all).map(|request| u64::from(tokens(request))).sum();
        (!self.completed.is_empty()).then(|| sum as f64 / self.completed.len() as f64)
    }

    fn completed_in<'a>(&'a self, all: &'a [RequestFigures]) -> impl Iterator<Item = &'a RequestFigures> {
        self.completed.iter().filter_map(|position| all.get(*position as usize))
    }
}
