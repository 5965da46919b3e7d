//! Timers of the driving threads, on a thread of their own: a runtime with timers reads its clock and searches its wheel before
//! and after every wait, which would be a sixth of what an event costs. On a driving thread tokio's own timers panic.

use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::time::{Sleep, Timeout};

/// A handle on the runtime that has the timers.
#[derive(Debug, Clone)]
pub(crate) struct Timers(pub(crate) Handle);

impl Timers {
    pub(crate) fn sleep_until(&self, at: Instant) -> Sleep {
        let _context = self.0.enter();
        tokio::time::sleep_until(at.into())
    }

    pub(crate) fn within<F: Future>(&self, limit: Duration, work: F) -> Timeout<F> {
        let _context = self.0.enter();
        tokio::time::timeout(limit, work)
    }
}
