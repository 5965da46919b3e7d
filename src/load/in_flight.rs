//! One request in flight: the record while it is being made.
//!
//! A request that is dropped before it ended, because its task was cut, still delivers its record, as `cancelled`, with what
//! was received: no request vanishes.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::answer::{Answer, End};
use super::clock::Clock;
use super::counters::LiveCounters;
use super::http1::Sink;
use super::ramp::Timeline;
use super::request_queue::ReadyRequest;
use crate::metrics::record::{CountSource, Outcome, Phase, RequestRecord};

#[derive(Debug, Clone)]
pub(crate) struct PhaseContext {
    pub(crate) clock: Clock,
    pub(crate) phase: Phase,
    /// The ramp of the phase, when it has one.
    pub(crate) timeline: Option<Arc<Timeline>>,
    pub(crate) counters: LiveCounters,
    pub(crate) streaming: bool,
    /// Which answers' texts are kept, to be counted by the tokenizer.
    pub(crate) keep: Keep,
    /// One message per finished request, never per token.
    pub(crate) records: Sender<FinishedRequest>,
}

/// Which answers' texts are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// None: there is no tokenizer to count them.
    None,
    /// The first [`SAMPLED_FIRST`] and one in [`SAMPLED_EVERY`] after them.
    Sample,
    /// All: the server was found not to count.
    All,
}

/// Answers at the start of a phase whose tokens are counted.
const SAMPLED_FIRST: u64 = 16;

/// Of the others every so many.
const SAMPLED_EVERY: u64 = 256;

impl Keep {
    fn wants(self, id: u64) -> bool {
        match self {
            Self::None => false,
            Self::Sample => id < SAMPLED_FIRST || id.is_multiple_of(SAMPLED_EVERY),
            Self::All => true,
        }
    }
}

#[derive(Debug)]
pub(crate) struct FinishedRequest {
    pub(crate) record: RequestRecord,
    /// Its text, when its tokens are to be counted.
    pub(crate) text: Option<String>,
}

/// The text of an answer, for the next turn of its conversation; empty when there was none.
pub(crate) type AnswerText = Arc<OnceLock<String>>;

#[derive(Debug)]
pub(crate) struct InFlight<'a> {
    context: &'a PhaseContext,
    record: Option<RequestRecord>,
    answer: Option<Answer>,
    counted: bool,
    answer_text: Option<AnswerText>,
    /// Set when the server takes no request now.
    refused: &'a AtomicBool,
}

impl<'a> InFlight<'a> {
    /// The request leaves now. `scheduled_us`: when it was meant to (open loop); `None`: now. The answer's text is stored in
    /// `answer_text`, and whether the server refused the request in `refused`.
    pub(crate) fn start(
        context: &'a PhaseContext,
        request: &ReadyRequest,
        worker: u32,
        scheduled_us: Option<u64>,
        answer_text: Option<AnswerText>,
        refused: &'a AtomicBool,
    ) -> Self {
        // The stamp comes first, so that whoever sees the count knows when those counted were sent at the latest.
        let sent_us = context.clock.now_us();
        context.counters.sent();
        let intended_us = scheduled_us.unwrap_or(sent_us);
        let staged = context.timeline.as_ref().and_then(|timeline| timeline.mark(intended_us));
        let record = RequestRecord {
            id: request.id,
            phase: staged.map_or(context.phase, |(phase, _)| phase),
            stage: staged.map(|(_, mark)| mark),
            worker,
            scheduled_us: intended_us,
            sent_us,
            headers_us: None,
            chunks_us: Vec::new(),
            first_output_us: None,
            end_us: sent_us,
            isl_planned: u64::from(request.isl),
            osl_requested: u64::from(request.osl),
            usage: None,
            isl: u64::from(request.isl),
            isl_source: if request.exact { CountSource::Tokenizer } else { CountSource::Approximate },
            osl: 0,
            osl_source: CountSource::Approximate,
            outcome: Outcome::Cancelled,
            status: None,
            error: None,
            finish_reason: None,
            bytes_sent: request.body.len() as u64,
            turn: request.turn,
            isl_shared: u64::from(request.shared),
            osl_counted: None,
            text_bytes: None,
            first_text_bytes: None,
            unknown_content: None,
            bytes_received: 0,
        };
        Self {
            context,
            record: Some(record),
            answer: None,
            counted: context.keep.wants(request.id),
            answer_text,
            refused,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.record.as_ref().map_or(self.context.phase, |record| record.phase)
    }

    /// The result is known; nothing more needs to be read.
    pub(crate) fn settled(&self) -> bool {
        self.answer.as_ref().is_some_and(Answer::settled)
    }

    pub(crate) fn has_body(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.bytes_received > 0)
    }

    pub(crate) fn has_content(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.chunks() > 0)
    }

    /// The request ended: the body in good order (`None`), or for the reason given.
    pub(crate) fn finish(mut self, at: Instant, broken: Option<End>) {
        let at_us = self.context.clock.us(at);
        let end = match (&mut self.answer, broken) {
            (Some(answer), broken) => answer.end(at_us, broken),
            (None, Some(broken)) => broken,
            (None, None) => End::failed(Outcome::Disconnected, "no answer"),
        };
        self.deliver(at_us, end);
    }

    fn deliver(&mut self, at_us: u64, end: End) {
        let Some(mut record) = self.record.take() else { return };
        record.end_us = at_us;
        record.outcome = end.outcome;
        self.refused.store(end.outcome.is_refusal(), Relaxed);
        record.error = end.error;
        let mut text = None;
        if let Some(answer) = self.answer.take() {
            text = answer.whole_text().filter(|_| self.counted && record.outcome == Outcome::Ok);
            let content = answer.into_content();
            record.chunks_us = content.chunks_us;
            record.chunks_us.shrink_to_fit();
            record.first_output_us = content.first_output_us;
            record.finish_reason = content.finish_reason;
            record.osl = content.words;
            record.text_bytes = Some(content.text_bytes);
            record.first_text_bytes = content.first_text_bytes;
            record.unknown_content = content.unknown;
            record.usage = content.usage;
            if let (Some(answer_text), Some(text), Outcome::Ok) =
                (&self.answer_text, content.text, record.outcome)
            {
                // It is set once: a request is delivered once.
                let _ = answer_text.set(text);
            }
            // A count of 0 beside text is a server that does not count.
            if let Some(usage) = content.usage {
                if usage.completion_tokens > 0 || content.words == 0 {
                    record.osl = usage.completion_tokens;
                    record.osl_source = CountSource::Usage;
                }
                if usage.prompt_tokens > 0 {
                    record.isl = usage.prompt_tokens;
                    record.isl_source = CountSource::Usage;
                }
            }
        }
        if let Some(first) = record.chunks_us.first().filter(|_| self.context.streaming) {
            self.context.counters.first_token(first.saturating_sub(record.sent_us));
        }
        let failed = !matches!(record.outcome, Outcome::Ok | Outcome::Cancelled);
        self.context.counters.ended(!failed, record.osl);
        // The collector outlives every request; without it the record has no reader.
        let _ = self.context.records.send(FinishedRequest { record, text });
    }
}

impl Sink for InFlight<'_> {
    fn head(&mut self, at: Instant, status: u16, encoding: Option<&str>) {
        if let Some(record) = &mut self.record {
            record.headers_us = Some(self.context.clock.us(at));
            record.status = Some(status);
        }
        let answer = self.answer.insert(Answer::new(status, self.context.streaming));
        if let Some(encoding) = encoding.filter(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
            let words = format!("the answer is encoded as {encoding:?}, which was not asked for");
            answer.give_up(End::failed(Outcome::Malformed, words));
        }
        if self.counted || self.answer_text.is_some() {
            answer.keep_text();
        }
    }

    fn payload(&mut self, at: Instant, bytes: &[u8]) {
        if let Some(record) = &mut self.record {
            record.bytes_received += bytes.len() as u64;
        }
        let Some(answer) = &mut self.answer else { return };
        let before = answer.chunks();
        answer.read(self.context.clock.us(at), bytes);
        self.context.counters.received(answer.chunks() - before);
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let at_us = self.context.clock.now_us();
        self.deliver(at_us, End::failed(Outcome::Cancelled, "cut off by the end of the load point"));
    }
}
