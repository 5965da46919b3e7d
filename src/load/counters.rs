//! Live counters of a load point, for a progress display on another thread.
//!
//! Plain atomics: reading never disturbs the load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

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
}

/// The counters of the current phase at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// Which part runs; `None` before the first request and after the last.
    pub phase: Option<Phase>,
    /// Requests sent.
    pub sent: u64,
    /// Requests ended, failed ones included.
    pub done: u64,
    /// Requests that ended with another outcome than `ok`.
    pub failed: u64,
    /// Arrivals of an open loop that were dropped.
    pub dropped: u64,
    /// Requests sent and not yet ended.
    pub in_flight: u64,
    /// Content chunks received, also of requests in flight: the livelier twin of `tokens`.
    pub chunks: u64,
    /// Output tokens of the requests that ended.
    pub tokens: u64,
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
        }
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

    pub(crate) fn ended(&self, ok: bool, tokens: u64) {
        self.0.tokens.fetch_add(tokens, Relaxed);
        self.0.failed.fetch_add(u64::from(!ok), Relaxed);
        self.0.done.fetch_add(1, Relaxed);
    }
}
