//! The clock of one load point: µs since its instant 0, monotonic.

use std::time::Instant;

/// Instant 0, and the wall-clock time it fell on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
    pub(crate) started_at: jiff::Timestamp,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now(), started_at: jiff::Timestamp::now() }
    }

    /// µs from instant 0 to `at`; 0 for earlier instants.
    pub(crate) fn us(&self, at: Instant) -> u64 {
        let elapsed = at.saturating_duration_since(self.origin);
        elapsed.as_secs() * 1_000_000 + u64::from(elapsed.subsec_micros())
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.us(Instant::now())
    }
}
