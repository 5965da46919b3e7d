//! Collects finished requests, hands each on, and gives the point up when nothing works.

use std::sync::Arc;

use super::clock::Clock;
use super::in_flight::FinishedRequest;
use crate::metrics::record::{
    Aborted, Arrivals, ClientHealth, CountSource, Outcome, Phase, PointRun, RequestRecord,
};
use crate::prompts::Tokenizer;

/// Failed connections in a row that end a point which has never had an answer: between these, else the wave.
const FIRST_FAILURES: (u64, u64) = (10, 50);

pub(crate) struct Collector<'a> {
    /// Requests that may fail together for one passing reason: the concurrency, or one second's arrivals.
    wave: u64,
    tokenizer: Arc<Tokenizer>,
    sink: &'a mut dyn FnMut(&RequestRecord),
    /// First sent and last ended of the measured requests, µs.
    window: Option<(u64, u64)>,
    /// Some request got further than its connection.
    reached: bool,
    succeeded: bool,
    /// Requests that failed by themselves; those we cut are no evidence.
    failed: u64,
    failed_connects_in_a_row: u64,
    /// Requests of the current phase that have ended.
    ended: u64,
    /// The current phase is the warm-up.
    in_warmup: bool,
    /// Once nothing seems to work: when, and how many requests sent by then are still to end. One of them may be served.
    undecided: Option<(u64, u64)>,
    aborted: Option<Aborted>,
}

impl<'a> Collector<'a> {
    pub(crate) fn new(
        wave: u32,
        tokenizer: &Arc<Tokenizer>,
        sink: &'a mut dyn FnMut(&RequestRecord),
    ) -> Self {
        Self {
            wave: u64::from(wave),
            tokenizer: Arc::clone(tokenizer),
            sink,
            window: None,
            reached: false,
            succeeded: false,
            failed: 0,
            failed_connects_in_a_row: 0,
            ended: 0,
            in_warmup: false,
            undecided: None,
            aborted: None,
        }
    }

    /// Takes one finished request; returns why the point should be given up, once it should. `sent` and `now_us`: how many
    /// requests of the current phase were sent, and the time after this was read.
    pub(crate) fn take(&mut self, ended: FinishedRequest, sent: u64, now_us: u64) -> Option<&Aborted> {
        let record = self.counted(ended);
        (self.sink)(&record);
        if std::mem::replace(&mut self.in_warmup, record.phase == Phase::Warmup) != self.in_warmup {
            self.ended = 0;
        }
        self.ended += 1;
        match record.outcome {
            Outcome::Cancelled => {}
            Outcome::Connect => {
                self.failed += 1;
                self.failed_connects_in_a_row += 1;
            }
            outcome => {
                self.failed_connects_in_a_row = 0;
                self.reached = true;
                self.succeeded |= outcome == Outcome::Ok;
                self.failed += u64::from(outcome != Outcome::Ok);
            }
        }
        if record.phase == Phase::Measure {
            let (start, end) = self.window.unwrap_or((record.sent_us, record.end_us));
            self.window = Some((start.min(record.sent_us), end.max(record.end_us)));
        }
        if self.aborted.is_none() {
            let hopeless = self.hopeless(&record);
            self.aborted = hopeless.filter(|_| self.all_in_flight_ended(record.sent_us, sent, now_us));
        }
        self.aborted.as_ref()
    }

    /// Whether everything that was in flight when nothing seemed to work has ended. Refusals come at once, while requests that
    /// were accepted take their time.
    fn all_in_flight_ended(&mut self, sent_us: u64, sent: u64, now_us: u64) -> bool {
        let still_open = match self.undecided {
            None => (now_us, sent.saturating_sub(self.ended)),
            Some((since, open)) if sent_us <= since => (since, open.saturating_sub(1)),
            Some(undecided) => undecided,
        };
        self.undecided = Some(still_open);
        still_open.1 == 0
    }

    /// The record with its tokens counted, when its text was kept.
    fn counted(&self, FinishedRequest { mut record, text }: FinishedRequest) -> RequestRecord {
        let Some(text) = text else { return record };
        let tokens = self.tokenizer.count(&text, false);
        record.osl_counted = Some(tokens);
        if record.osl_source == CountSource::Approximate {
            (record.osl, record.osl_source) = (tokens, CountSource::Tokenizer);
        }
        record
    }

    fn hopeless(&mut self, last: &RequestRecord) -> Option<Aborted> {
        let error = || last.error.clone().unwrap_or_default();
        let (low, high) = FIRST_FAILURES;
        let patience = if self.reached { self.wave.max(high) } else { self.wave.clamp(low, high) };
        let failures = self.failed_connects_in_a_row;
        if failures < patience && (self.succeeded || self.failed < self.wave.max(high)) {
            self.undecided = None;
        }
        if failures >= patience {
            return Some(Aborted::Unreachable { failures, error: error() });
        }
        let failures = self.failed;
        (!self.succeeded && failures >= self.wave.max(high)).then(|| Aborted::AllFailed {
            failures,
            outcome: last.outcome,
            error: error(),
        })
    }

    /// `cut`: a thread was stopped before its work was done.
    pub(crate) fn finish(
        self,
        clock: &Clock,
        client: ClientHealth,
        cut: bool,
        arrivals: Option<Arrivals>,
    ) -> PointRun {
        let now_us = clock.now_us();
        let (window_start_us, window_end_us) = self.window.unwrap_or((now_us, now_us));
        PointRun {
            started_at: clock.started_at,
            window_start_us,
            window_end_us,
            client,
            interrupted: cut && self.aborted.is_none(),
            aborted: self.aborted,
            arrivals,
            prefix_cache: None,
            servers: None,
            gpus: None,
            processes: Vec::new(),
        }
    }
}
