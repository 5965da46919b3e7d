//! Live counters of a load point, for a progress display on another thread.
//!
//! Plain atomics: reading never disturbs the load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::metrics::record::Phase;

/// A handle on the counters of one load point; clones share them.
#[derive(Debug, Clone, Default)]
pub struct LiveCounters(Arc<Counters>);

/// Each counter is bumped once a request, `chunks` once a read: never once a token.
#[derive(Debug, Default)]
struct Counters {
    phase: AtomicU8,
    sent: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    chunks: AtomicU64,
    tokens: AtomicU64,
    first_tokens: AtomicU64,
    ttfts: Ttfts,
}

/// The last times to a first token, µs, in a ring.
#[derive(Debug)]
struct Ttfts(Vec<AtomicU32>);

impl Default for Ttfts {
    fn default() -> Self {
        Self(std::iter::repeat_with(AtomicU32::default).take(512).collect())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// Which part runs; `None` before the first request and after the last.
    pub phase: Option<Phase>,
    pub sent: u64,
    /// Requests ended, failed ones included.
    pub done: u64,
    /// Requests that failed; what tokmark cut itself did not.
    pub failed: u64,
    /// Arrivals of an open loop that were dropped.
    pub dropped: u64,
    pub in_flight: u64,
    /// Content chunks received, also of requests in flight: the livelier twin of `tokens`.
    pub chunks: u64,
    pub tokens: u64,
    /// Streamed answers that ended with a first token.
    pub first_tokens: u64,
}

impl LiveCounters {
    /// Reads all counters. They are read one after another, so sums may be off by what happened meanwhile.
    pub fn snapshot(&self) -> Snapshot {
        let counters = &self.0;
        let done = counters.done.load(Relaxed);
        let sent = counters.sent.load(Relaxed);
        Snapshot {
            phase: match counters.phase.load(Relaxed) {
                1 => Some(Phase::Warmup),
                2 => Some(Phase::Measure),
                _ => None,
            },
            sent,
            done,
            failed: counters.failed.load(Relaxed),
            dropped: counters.dropped.load(Relaxed),
            in_flight: sent.saturating_sub(done),
            chunks: counters.chunks.load(Relaxed),
            tokens: counters.tokens.load(Relaxed),
            first_tokens: counters.first_tokens.load(Relaxed),
        }
    }

    /// Median TTFT in ms of the answers that ended after this many [`Snapshot::first_tokens`], of the last ones if they are many.
    pub fn median_ttft_ms(&self, after: u64) -> Option<f64> {
        let (Ttfts(ring), until) = (&self.0.ttfts, self.0.first_tokens.load(Relaxed));
        let from = after.max(until.saturating_sub(ring.len() as u64));
        let slot = |number: u64| ring.get((number % ring.len() as u64) as usize);
        let mut recent: Vec<u32> = (from..until).filter_map(slot).map(|ttft| ttft.load(Relaxed)).collect();
        recent.sort_unstable();
        recent.get(recent.len() / 2).map(|ttft| f64::from(*ttft) / 1e3)
    }

    /// Begins a phase: all counters start again. Only called while nothing is in flight.
    pub(crate) fn enter(&self, phase: Option<Phase>) {
        let counters = &self.0;
        if phase.is_some() {
            for counter in [
                &counters.sent,
                &counters.done,
                &counters.failed,
                &counters.dropped,
                &counters.chunks,
                &counters.tokens,
                &counters.first_tokens,
            ] {
                counter.store(0, Relaxed);
            }
        }
        let code = match phase {
            None => 0,
            Some(Phase::Warmup) => 1,
            Some(Phase::Measure | Phase::CoolDown) => 2,
        };
        counters.phase.store(code, Relaxed);
    }

    pub(crate) fn sent(&self) {
        self.0.sent.fetch_add(1, Relaxed);
    }

    pub(crate) fn dropped(&self) {
        self.0.dropped.fetch_add(1, Relaxed);
    }

    pub(crate) fn received(&self, chunks: u64) {
        if chunks > 0 {
            self.0.chunks.fetch_add(chunks, Relaxed);
        }
    }

    pub(crate) fn first_token(&self, ttft_us: u64) {
        let Ttfts(ring) = &self.0.ttfts;
        let number = self.0.first_tokens.fetch_add(1, Relaxed);
        if let Some(slot) = ring.get((number % ring.len() as u64) as usize) {
            slot.store(u32::try_from(ttft_us).unwrap_or(u32::MAX), Relaxed);
        }
    }

    pub(crate) fn ended(&self, ok: bool, tokens: u64) {
        self.0.tokens.fetch_add(tokens, Relaxed);
        self.0.failed.fetch_add(u64::from(!ok), Relaxed);
        self.0.done.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ttft_is_of_the_answers_since_a_moment() {
        let counters = LiveCounters::default();
        assert_eq!(counters.median_ttft_ms(0), None);
        for ttft_us in [9_000, 1_000, 3_000, 2_000] {
            counters.first_token(ttft_us);
        }
        assert_eq!(counters.snapshot().first_tokens, 4);
        assert_eq!((counters.median_ttft_ms(0), counters.median_ttft_ms(1)), (Some(3.0), Some(2.0)));
        assert_eq!((counters.median_ttft_ms(4), counters.median_ttft_ms(9)), (None, None));
        (0..600).for_each(|_| counters.first_token(5_000));
        assert_eq!(counters.median_ttft_ms(0), Some(5.0), "the ring holds the last ones");
    }
}
