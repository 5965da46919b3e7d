//! One request after the other of a conversation: answer, thinking, next turn. A request that stands alone is a conversation of
//! one turn.

use std::sync::Arc;
use std::time::Instant;

use super::client::Client;
use super::flight::{Flight, Reply, Tower};
use super::supply::{Prepared, Supply};

/// What a conversation needs of its thread.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) client: Arc<Client>,
    pub(crate) supply: Arc<Supply>,
    pub(crate) tower: Arc<Tower>,
}

impl Line {
    /// Sends `prepared`, which was meant to leave at `scheduled_us` (open loop; `None`: now), and every turn after it. Turns
    /// end with the phase.
    pub(crate) async fn converse(&self, place: u32, mut prepared: Prepared, mut scheduled_us: Option<u64>) {
        let is_open = scheduled_us.is_some();
        loop {
            let (conversation, dialogue) = (prepared.route, prepared.dialogue.take());
            let reply = dialogue.as_ref().map(|_| Reply::default());
            let flight = Flight::depart(&self.tower, &prepared, place, scheduled_us, reply.clone());
            let phase = flight.phase();
            self.client.exchange(flight, prepared, phase).await;
            let ended = Instant::now();
            let Some((dialogue, answer)) =
                dialogue.zip(reply.as_ref().and_then(|reply| reply.get().cloned()))
            else {
                return;
            };
            let supply = Arc::clone(&self.supply);
            let next = move || supply.go_on(conversation, *dialogue, &answer);
            // Counting a long context takes milliseconds: not on a thread that stamps chunks.
            let Ok(Some((next, think))) = tokio::task::spawn_blocking(next).await else { return };
            let due = ended + think;
            tokio::time::sleep_until(due.into()).await;
            if self.supply.deadline().is_some_and(|deadline| Instant::now() >= deadline) {
                return;
            }
            scheduled_us = is_open.then(|| self.tower.clock.us(due));
            prepared = next;
        }
    }
}
