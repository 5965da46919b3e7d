//! Runs the engine's steps in real time at the model's times and delivers the tokens.
//!
//! Deadlines are absolute: a step begins when the previous one *should* have ended, so lateness does not accumulate. Only when the
//! process is behind by more than [`MAX_LAG_US`] does the model's time slip, which the metrics report.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;

use super::answer::{Answer, AnswerHandle};
use super::api_error::ApiError;
use super::engine::{Engine, SequenceRequest, TokenEvent};
use super::pacer::Pacer;
use super::render::Renderer;
use super::request::{Endpoint, InferenceRequest};
use super::{SimConfig, stable_hash};

/// Lateness up to which the model's time is kept, µs.
const MAX_LAG_US: u64 = 100_000;

/// How late tokens were sent. A run with large values measured this machine, not the model.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Lag {
    pub(super) sum_us: u64,
    pub(super) max_us: u64,
    /// Time by which the model slipped, µs.
    pub(super) slipped_us: u64,
}

/// The engine with its clock and the answers in progress. One thread.
pub(super) struct Driver {
    pub(super) config: SimConfig,
    pub(super) engine: RefCell<Engine>,
    pub(super) lag: Cell<Lag>,
    /// Cancelled by `--crash-after`.
    pub(super) crashed: CancellationToken,
    answers: RefCell<HashMap<u64, Answer>>,
    work: Notify,
    origin: Instant,
    received: Cell<u64>,
    answered: Cell<u64>,
}

impl Driver {
    pub(super) fn new(config: SimConfig) -> Self {
        let engine = Engine::new(config.engine.clone());
        Self {
            config,
            engine: RefCell::new(engine),
            lag: Cell::default(),
            crashed: CancellationToken::new(),
            answers: RefCell::default(),
            work: Notify::new(),
            origin: Instant::now(),
            received: Cell::new(0),
            answered: Cell::new(0),
        }
    }

    /// µs since the start: the engine's virtual time.
    pub(super) fn now_us(&self) -> u64 {
        self.origin.elapsed().as_micros() as u64
    }

    /// Puts a request that arrived at `arrival_us` into the engine, or refuses it.
    pub(super) fn submit(
        self: &Rc<Self>,
        arrival_us: u64,
        request: InferenceRequest,
        request_id: Option<&str>,
    ) -> Result<AnswerHandle, ApiError> {
        let nth = self.received.get() + 1;
        self.received.set(nth);
        let faults = &self.config.faults;
        if faults.fails(self.config.seed, nth) {
            return Err(ApiError::unavailable());
        }
        let sequence = SequenceRequest {
            id: nth,
            arrival_us,
            prompt_tokens: request.prompt_tokens,
            output_tokens: request.output_tokens,
            finish: request.finish,
        };
        let refused = |error: super::engine::DoesNotFit| ApiError::bad_request(&error.to_string(), None);
        self.engine.borrow_mut().submit(sequence).map_err(refused)?;
        let id = self.answer_id(request.endpoint, nth, request_id);
        let renderer = Renderer::new(request, id, unix_s(), self.config.model.clone());
        let (sender, chunks) = unbounded_channel();
        let answer = Answer::new(renderer, sender, faults.stall_after == Some(nth));
        self.answers.borrow_mut().insert(nth, answer);
        self.work.notify_one();
        Ok(AnswerHandle { driver: Rc::clone(self), id: nth, chunks })
    }

    /// The connection of a request is closed or complete.
    pub(super) fn forget(&self, id: u64) {
        if self.answers.borrow_mut().remove(&id).is_some() {
            self.engine.borrow_mut().abort(id);
        }
    }

    /// Ends every answer in progress with an error.
    pub(super) fn fail_all(&self) {
        let answers = std::mem::take(&mut *self.answers.borrow_mut());
        for (id, answer) in answers {
            self.engine.borrow_mut().abort(id);
            answer.fail();
        }
    }

    /// Runs steps forever; an idle engine costs nothing.
    pub(super) async fn run(&self, pacer: Pacer) {
        let mut events = Vec::new();
        let mut now_us = 0;
        loop {
            let plan = {
                let mut engine = self.engine.borrow_mut();
                engine.next_start_us(now_us).and_then(|start_us| engine.begin_step(start_us))
            };
            let Some(plan) = plan else {
                self.work.notified().await;
                continue;
            };
            pacer.sleep_until(self.origin + Duration::from_micros(plan.end_us)).await;
            now_us = self.account(plan.end_us);
            self.engine.borrow_mut().finish_step(&mut events);
            self.deliver(&events);
        }
    }

    /// Records how late a step ended; returns the virtual time to continue from.
    fn account(&self, end_us: u64) -> u64 {
        let late_us = self.now_us().saturating_sub(end_us);
        let slips = late_us > MAX_LAG_US;
        let lag = self.lag.get();
        self.lag.set(Lag {
            sum_us: lag.sum_us + late_us,
            max_us: lag.max_us.max(late_us),
            slipped_us: lag.slipped_us + if slips { late_us } else { 0 },
        });
        if slips { end_us + late_us } else { end_us }
    }

    fn deliver(&self, events: &[TokenEvent]) {
        let mut answers = self.answers.borrow_mut();
        for event in events {
            let Some(answer) = answers.get(&event.id) else { continue };
            if answer.push(event) {
                answers.remove(&event.id);
            }
            self.answered.set(self.answered.get() + u64::from(event.finish.is_some()));
        }
        if self.config.faults.crash_after.is_some_and(|limit| self.answered.get() >= limit) {
            self.crashed.cancel();
        }
    }

    fn answer_id(&self, endpoint: Endpoint, nth: u64, request_id: Option<&str>) -> String {
        let prefix = match endpoint {
            Endpoint::Chat => "chatcmpl",
            Endpoint::Completions => "cmpl",
        };
        match request_id {
            Some(id) => format!("{prefix}-{id}"),
            None => format!("{prefix}-{:016x}", stable_hash(self.config.seed, &nth.to_le_bytes())),
        }
    }
}

/// Seconds since 1970.
pub(super) fn unix_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
