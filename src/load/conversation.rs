//! Sends the turns of a conversation one after the other: request, answer, think time, next turn. A single request is a
//! conversation of one turn.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::client::Client;
use super::in_flight::{AnswerText, InFlight, PhaseContext};
use super::request_queue::{ReadyRequest, RequestQueue};

#[derive(Clone)]
pub(crate) struct Conversations {
    pub(crate) client: Arc<Client>,
    pub(crate) queue: Arc<RequestQueue>,
    pub(crate) context: Arc<PhaseContext>,
}

impl Conversations {
    /// Sends `request`, whose intended instant is `scheduled_us` (open loop; `None`: now), and every turn after it. No turn
    /// begins after the phase. Returns whether the server refused the last one.
    pub(crate) async fn run(
        &self,
        place: u32,
        mut request: ReadyRequest,
        mut scheduled_us: Option<u64>,
    ) -> bool {
        let refused = AtomicBool::new(false);
        let is_open = scheduled_us.is_some();
        loop {
            let (conversation, dialogue) = (request.route, request.dialogue.take());
            let answer_text = dialogue.as_ref().map(|_| AnswerText::default());
            let in_flight =
                InFlight::start(&self.context, &request, place, scheduled_us, answer_text.clone(), &refused);
            let phase = in_flight.phase();
            self.client.exchange(in_flight, request, phase).await;
            let ended = Instant::now();
            let Some((dialogue, answer)) =
                dialogue.zip(answer_text.as_ref().and_then(|answer_text| answer_text.get().cloned()))
            else {
                return refused.into_inner();
            };
            let queue = Arc::clone(&self.queue);
            let next = move || queue.go_on(conversation, *dialogue, &answer);
            // Counting a long context takes milliseconds: not on a thread that stamps chunks.
            let Ok(Some((next, think))) = tokio::task::spawn_blocking(next).await else { return false };
            let due = ended + think;
            self.client.timers.sleep_until(due).await;
            if self.queue.deadline().is_some_and(|deadline| Instant::now() >= deadline) {
                return false;
            }
            scheduled_us = is_open.then(|| self.context.clock.us(due));
            request = next;
        }
    }
}
