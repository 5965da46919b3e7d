//! Closed loops: slots that send their next request when their last one, or its whole conversation, has ended.
//!
//! Slot `s` belongs to thread `s mod threads`.

use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::ramp::Timeline;
use super::turns::Line;

/// One thread's part of the slots.
#[derive(Clone)]
pub(crate) struct Slots {
    /// Number of the thread.
    pub(crate) thread: usize,
    /// Threads there are.
    pub(crate) threads: usize,
    pub(crate) line: Line,
}

impl Slots {
    /// Starts this thread's share of `concurrency` slots, so that exactly that many are in flight until the supply runs out.
    pub(crate) fn fixed(&self, concurrency: u32, flights: &mut JoinSet<()>) {
        for slot in self.share(concurrency) {
            let slots = self.clone();
            flights.spawn(async move {
                while let Some(prepared) = slots.line.supply.take() {
                    slots.line.converse(slot, prepared, None).await;
                }
            });
        }
    }

    /// Starts this thread's share of the slots of a ramp that has `peak` of them at most. Each begins when the ramp rises to
    /// it (timers tick in milliseconds and are never early) and, when it falls below, ends after its request. The
    /// phase lasts as long as the ramp does, also while nothing is sent.
    pub(crate) fn ramp(&self, timeline: &Arc<Timeline>, peak: u32, flights: &mut JoinSet<()>) {
        for slot in self.share(peak) {
            let (slots, spans) = (self.clone(), timeline.spans(slot));
            flights.spawn(async move {
                for (from, to) in spans {
                    tokio::time::sleep_until(from.into()).await;
                    while Instant::now() < to
                        && let Some(prepared) = slots.line.supply.take()
                    {
                        slots.line.converse(slot, prepared, None).await;
                    }
                }
            });
        }
        flights.spawn(tokio::time::sleep_until(timeline.end().into()));
    }

    fn share(&self, slots: u32) -> impl Iterator<Item = u32> + use<> {
        (0..slots).skip(self.thread).step_by(self.threads)
    }
}
