//! Closed loops: slots that send their next request when their last one, or its whole conversation, has ended.
//!
//! Slot `s` belongs to thread `s mod threads`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::conversation::Conversations;
use super::ramp::Timeline;
use super::request_queue::ReadyRequest;

/// Pause of a slot whose request the server refused.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_millis(20);

#[derive(Clone)]
pub(crate) struct Slots {
    pub(crate) thread: usize,
    pub(crate) threads: usize,
    pub(crate) conversations: Conversations,
}

impl Slots {
    /// Starts this thread's share of `concurrency` slots, so that exactly that many are in flight until the supply runs out.
    pub(crate) fn fixed(&self, concurrency: u32, tasks: &mut JoinSet<()>) {
        for slot in self.share(concurrency) {
            let slots = self.clone();
            tasks.spawn(async move {
                while let Some(request) = slots.conversations.queue.take() {
                    slots.send(slot, request).await;
                }
            });
        }
    }

    /// Sends a conversation; a slot that was refused pauses, so that it does not spin.
    async fn send(&self, slot: u32, request: ReadyRequest) {
        if self.conversations.run(slot, request, None).await {
            self.conversations.client.timers.sleep_until(Instant::now() + PAUSE_AFTER_REFUSAL).await;
        }
    }

    /// Starts this thread's share of the slots of a ramp that has `peak` of them at most. Each begins when the ramp rises to
    /// it and, when it falls below, ends after its request. The phase lasts as long as the ramp does.
    pub(crate) fn ramp(&self, timeline: &Arc<Timeline>, peak: u32, tasks: &mut JoinSet<()>) {
        for slot in self.share(peak) {
            let (slots, spans) = (self.clone(), timeline.spans(slot));
            tasks.spawn(async move {
                for (from, to) in spans {
                    slots.conversations.client.timers.sleep_until(from).await;
                    while Instant::now() < to
                        && let Some(request) = slots.conversations.queue.take()
                    {
                        slots.send(slot, request).await;
                    }
                }
            });
        }
        tasks.spawn(self.conversations.client.timers.sleep_until(timeline.end()));
    }

    fn share(&self, slots: u32) -> impl Iterator<Item = u32> + use<> {
        (0..slots).skip(self.thread).step_by(self.threads)
    }
}
