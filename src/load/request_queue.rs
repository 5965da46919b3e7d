//! The queue of requests, built ahead of need so that building a prompt never delays a stream that is being timed.
//!
//! One lock per request. The queue also makes totals exact over threads: it gives each number out once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio_util::sync::CancellationToken;

use super::body::request_body;
use crate::metrics::record::{Phase, TurnMark};
use crate::plan::{LoadPoint, Stop};
use crate::prompts::{Dialogue, PromptPlan, Prompts};

/// Bodies kept ready, bytes.
const AHEAD_BYTES: usize = 32 << 20;

/// Bodies kept ready at least, however many are in flight.
const AHEAD_REQUESTS: usize = 256;

#[derive(Debug)]
pub(crate) struct ReadyRequest {
    pub(crate) id: u64,
    pub(crate) isl: u32,
    pub(crate) osl: u32,
    /// Whether `isl` was counted with a tokenizer.
    pub(crate) exact: bool,
    /// Prompt tokens that earlier requests may have had.
    pub(crate) shared: u32,
    /// Which of several servers it goes to: the turns of a conversation stay together.
    pub(crate) route: u64,
    pub(crate) turn: Option<TurnMark>,
    pub(crate) dialogue: Option<Box<Dialogue>>,
    pub(crate) body: Bytes,
}

#[derive(Debug)]
pub(crate) struct RequestQueue {
    point: Arc<LoadPoint>,
    model: Arc<str>,
    pub(crate) prompts: Arc<Prompts>,
    pub(crate) phase: Phase,
    /// Requests of the phase; `None`: no limit but time.
    pub(crate) total: Option<u64>,
    /// The phase ends this long after its first request.
    pub(crate) duration: Option<Duration>,
    ahead: usize,
    state: Mutex<State>,
    /// Conversations: number of the next turn that is sent.
    next_turn: AtomicU64,
    room: Condvar,
    opened: Condvar,
    /// The last request of the phase has been given out, or its time is over.
    pub(crate) all_taken: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<ReadyRequest>,
    ready_bytes: usize,
    /// Next number nobody has claimed.
    next: u64,
    opened_at: Option<Instant>,
    deadline: Option<Instant>,
    closed: bool,
}

impl RequestQueue {
    pub(crate) fn new(point: Arc<LoadPoint>, prompts: Arc<Prompts>, model: Arc<str>, phase: Phase) -> Self {
        let stop = match (phase, point.warmup_duration_s) {
            (Phase::Warmup, Some(seconds)) => Stop::DurationS(seconds),
            (Phase::Warmup, None) => Stop::Requests(point.warmup_requests),
            (Phase::Measure | Phase::CoolDown, _) => point.stop,
        };
        let (total, duration) = match stop {
            Stop::Requests(total) => (Some(total), None),
            Stop::DurationS(seconds) => {
                (None, Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)))
            }
            Stop::TraceEnd => (prompts.total(), None),
        };
        // A trace ends earlier, maybe.
        let total = match (phase, prompts.total()) {
            (Phase::Measure, Some(most)) => Some(total.unwrap_or(most).min(most)),
            _ => total,
        };
        let ahead = AHEAD_REQUESTS.max(point.wave() as usize);
        Self {
            point,
            model,
            prompts,
            phase,
            total,
            duration,
            ahead,
            state: Mutex::default(),
            next_turn: AtomicU64::new(0),
            room: Condvar::new(),
            opened: Condvar::new(),
            all_taken: CancellationToken::new(),
        }
    }

    pub(crate) fn open(&self) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.opened_at = Some(now);
        state.deadline = self.duration.and_then(|duration| now.checked_add(duration));
        drop(state);
        self.opened.notify_all();
    }

    /// Blocks until the phase begins; returns when it began, `None` if it never will.
    pub(crate) fn wait_open(&self) -> Option<Instant> {
        let mut state = self.state.lock();
        self.opened.wait_while(&mut state, |state| state.opened_at.is_none() && !state.closed);
        state.opened_at
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.state.lock().deadline
    }

    /// The next request, or `None` when the phase is over. Never waits: if the builder is behind, it is built here.
    pub(crate) fn take(&self) -> Option<ReadyRequest> {
        let (mut taken, more) = self.next();
        if !more {
            self.all_taken.cancel();
        }
        if let Some(request) = taken.as_mut().filter(|request| request.dialogue.is_some()) {
            self.number(request);
        }
        taken
    }

    /// Turns are numbered as they are sent; what was built ahead bears the number of its conversation.
    fn number(&self, request: &mut ReadyRequest) {
        request.id = self.next_turn.fetch_add(1, Relaxed);
    }

    /// The turn of `dialogue` after `answer`, and how long the user thinks before; `None` when it is over.
    pub(crate) fn go_on(
        &self,
        conversation: u64,
        dialogue: Dialogue,
        answer: &str,
    ) -> Option<(ReadyRequest, Duration)> {
        let next = self.prompts.next_turn(conversation, dialogue, answer)?;
        let mut request = self.request(&next.plan, Some(next.dialogue));
        self.number(&mut request);
        Some((request, next.think))
    }

    /// The next request, and whether there may be another after it.
    fn next(&self) -> (Option<ReadyRequest>, bool) {
        let mut state = self.state.lock();
        if let Some(duration) = self.duration {
            let now = Instant::now();
            if now >= *state.deadline.get_or_insert(now + duration) {
                return (None, false);
            }
        }
        if let Some(request) = state.ready.pop_front() {
            state.ready_bytes -= request.body.len();
            let more = !state.ready.is_empty() || !self.exhausted(&state);
            drop(state);
            self.room.notify_one();
            return (Some(request), more);
        }
        let Some(id) = self.claim(&mut state) else { return (None, false) };
        let more = !self.exhausted(&state);
        drop(state);
        (Some(self.build(id)), more)
    }

    /// Builds what the first wave needs, up to the memory limit. Called before the phase starts.
    pub(crate) fn prefill(&self) {
        while self.build_one(self.point.wave() as usize) {}
    }

    /// Keeps requests ready until the phase has no more or the queue is closed. Blocks; runs on a thread of its own.
    pub(crate) fn keep_filled(&self) {
        loop {
            while self.build_one(self.ahead) {}
            let mut state = self.state.lock();
            if state.closed || self.exhausted(&state) {
                return;
            }
            self.room.wait_while(&mut state, |state| !state.closed && self.full(state, self.ahead));
        }
    }

    /// No more requests are needed: lets [`RequestQueue::keep_filled`] return.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.room.notify_all();
        self.opened.notify_all();
    }

    /// Builds one more if there is room for it; false when there is not, or nothing is left. The number is claimed only when
    /// its body is ready: else a slot that finds nothing left would end before the last request reaches the queue.
    fn build_one(&self, ahead: usize) -> bool {
        let state = self.state.lock();
        if state.closed || self.full(&state, ahead) || self.exhausted(&state) {
            return false;
        }
        let id = state.next;
        drop(state);
        let request = self.build(id);
        let mut state = self.state.lock();
        // A slot that found the queue empty may have claimed the number meanwhile; then this one is not needed.
        if state.next == id {
            state.next += 1;
            state.ready_bytes += request.body.len();
            state.ready.push_back(request);
        }
        true
    }

    fn build(&self, id: u64) -> ReadyRequest {
        let (plan, dialogue) = self.prompts.begin(self.phase, id);
        self.request(&plan, dialogue)
    }

    fn request(&self, plan: &PromptPlan, dialogue: Option<Dialogue>) -> ReadyRequest {
        let body = request_body(&self.point, &self.model, plan).into();
        let &PromptPlan { id, isl, exact, shared, osl, .. } = plan;
        let turn = dialogue.as_ref().map(|dialogue| TurnMark { conversation: id, turn: dialogue.turn() });
        ReadyRequest { id, isl, osl, exact, shared, route: id, turn, dialogue: dialogue.map(Box::new), body }
    }

    fn claim(&self, state: &mut State) -> Option<u64> {
        if self.exhausted(state) {
            return None;
        }
        state.next += 1;
        Some(state.next - 1)
    }

    fn exhausted(&self, state: &State) -> bool {
        self.total.is_some_and(|total| state.next >= total)
    }

    fn full(&self, state: &State, ahead: usize) -> bool {
        state.ready.len() >= ahead || state.ready_bytes >= AHEAD_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::testing::point;

    fn queue(point: LoadPoint) -> RequestQueue {
        let prompts = crate::load::testing::prompts(&point);
        RequestQueue::new(Arc::new(point), prompts, "m".into(), Phase::Measure)
    }

    #[test]
    fn every_number_is_given_out_once_whoever_builds_it() {
        let queue = queue(LoadPoint { stop: Stop::Requests(20_000), ..point(4) });
        queue.prefill();
        let taken = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            scope.spawn(|| queue.keep_filled());
            for _ in 0..2 {
                scope.spawn(|| {
                    while let Some(request) = queue.take() {
                        taken.lock().push(request.id);
                    }
                });
            }
        });
        let mut taken = taken.into_inner();
        taken.sort_unstable();
        assert_eq!(taken, (0..20_000).collect::<Vec<_>>());
    }

    #[test]
    fn built_ahead_or_built_late_a_request_is_the_same() {
        let point = LoadPoint { stop: Stop::Requests(8), ..point(4) };
        let (ahead, late) = (queue(point.clone()), queue(point));
        ahead.prefill();
        for _ in 0..8 {
            let (a, b) = (ahead.take().unwrap(), late.take().unwrap());
            assert_eq!((a.id, a.body), (b.id, b.body));
        }
        assert!(ahead.take().is_none() && late.take().is_none());
    }

    #[test]
    fn memory_ahead_is_bounded() {
        let isl = crate::plan::Length::fixed(200_000);
        let queue = queue(LoadPoint { isl, stop: Stop::Requests(1000), ..point(1000) });
        queue.prefill();
        assert!(queue.state.lock().ready_bytes < AHEAD_BYTES + (4 << 20));
    }

    #[test]
    fn nothing_is_given_out_after_the_deadline() {
        let over = queue(LoadPoint { stop: Stop::DurationS(0.0), ..point(1) });
        assert!(over.take().is_none());
        let long = queue(LoadPoint { stop: Stop::DurationS(3600.0), ..point(1) });
        assert!((0..100).all(|id| long.take().is_some_and(|request| request.id == id)));
        long.close();
        long.keep_filled();
    }
}
