//! One request in flight: the record while it is being made.
//!
//! A flight that is dropped before it ended — its task was cut by an interrupt — still delivers its record, as `cancelled`,
//! with what was received: nothing vanishes.

use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::answer::{Answer, End};
use super::clock::Clock;
use super::http1::{Head, Sink};
use super::progress::Progress;
use super::ramp::Timeline;
use super::supply::Prepared;
use crate::metrics::record::{CountSource, Outcome, Phase, RequestRecord};

/// Where the flights of one thread begin and end.
#[derive(Debug, Clone)]
pub(crate) struct Tower {
    pub(crate) clock: Clock,
    pub(crate) phase: Phase,
    /// The ramp of the phase, when it has one.
    pub(crate) timeline: Option<Arc<Timeline>>,
    pub(crate) progress: Progress,
    /// Answers were asked for as streams.
    pub(crate) streaming: bool,
    /// Which answers' texts are kept, to be counted by the tokenizer.
    pub(crate) keep: Keep,
    /// One message per finished request, never per token.
    pub(crate) records: Sender<Ended>,
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

/// A request that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) record: RequestRecord,
    /// Its text, when its tokens are to be counted.
    pub(crate) text: Option<String>,
}

/// Where a flight leaves the answer for the next turn of its conversation; empty when there was none.
pub(crate) type Reply = Arc<OnceLock<String>>;

#[derive(Debug)]
pub(crate) struct Flight<'a> {
    tower: &'a Tower,
    /// Taken when the flight ends.
    record: Option<RequestRecord>,
    answer: Option<Answer>,
    /// Tokens of the answer are counted.
    counted: bool,
    reply: Option<Reply>,
}

impl<'a> Flight<'a> {
    /// The request leaves now. `scheduled_us`: when it was meant to (open loop); `None`: now. The answer's text is left in
    /// `reply`.
    pub(crate) fn depart(
        tower: &'a Tower,
        prepared: &Prepared,
        worker: u32,
        scheduled_us: Option<u64>,
        reply: Option<Reply>,
    ) -> Self {
        tower.progress.departed();
        let sent_us = tower.clock.now_us();
        let intended_us = scheduled_us.unwrap_or(sent_us);
        let staged = tower.timeline.as_ref().and_then(|timeline| timeline.mark(intended_us));
        let record = RequestRecord {
            id: prepared.id,
            phase: staged.map_or(tower.phase, |(phase, _)| phase),
            stage: staged.map(|(_, mark)| mark),
            worker,
            scheduled_us: intended_us,
            sent_us,
            headers_us: None,
            chunks_us: Vec::new(),
            first_output_us: None,
            end_us: sent_us,
            isl_planned: u64::from(prepared.isl),
            osl_requested: u64::from(prepared.osl),
            usage: None,
            isl: u64::from(prepared.isl),
            isl_source: if prepared.exact { CountSource::Tokenizer } else { CountSource::Approximate },
            osl: 0,
            osl_source: CountSource::Approximate,
            outcome: Outcome::Cancelled,
            status: None,
            error: None,
            finish_reason: None,
            bytes_sent: prepared.body.len() as u64,
            turn: prepared.turn,
            isl_shared: u64::from(prepared.shared),
            osl_counted: None,
            bytes_received: 0,
        };
        Self { tower, record: Some(record), answer: None, counted: tower.keep.wants(prepared.id), reply }
    }

    /// The phase that the request belongs to.
    pub(crate) fn phase(&self) -> Phase {
        self.record.as_ref().map_or(self.tower.phase, |record| record.phase)
    }

    /// The response headers arrived. `encoding`: the `Content-Encoding`, when there is one.
    pub(crate) fn headers(
        &mut self,
        at: Instant,
        status: u16,
        content_type: Option<&str>,
        encoding: Option<&str>,
    ) {
        if let Some(record) = &mut self.record {
            record.headers_us = Some(self.tower.clock.us(at));
            record.status = Some(status);
        }
        let answer = self.answer.insert(Answer::new(status, content_type, self.tower.streaming));
        if let Some(encoding) = encoding.filter(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
            let words = format!("the answer is encoded as {encoding:?}, which was not asked for");
            answer.give_up(End::failed(Outcome::Malformed, words));
        }
        if self.counted || self.reply.is_some() {
            answer.keep_text();
        }
    }

    /// Body bytes arrived; `at` was taken before anything looked at them.
    pub(crate) fn read(&mut self, at: Instant, bytes: &[u8]) {
        if let Some(record) = &mut self.record {
            record.bytes_received += bytes.len() as u64;
        }
        let Some(answer) = &mut self.answer else { return };
        let before = answer.chunks();
        answer.read(self.tower.clock.us(at), bytes);
        self.tower.progress.received(answer.chunks() - before);
    }

    /// The result is known; nothing more needs to be read.
    pub(crate) fn settled(&self) -> bool {
        self.answer.as_ref().is_some_and(Answer::settled)
    }

    /// Some of the body has arrived.
    pub(crate) fn has_body(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.bytes_received > 0)
    }

    /// Some content has arrived.
    pub(crate) fn has_content(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.chunks() > 0)
    }

    /// The request ended: the body in good order (`None`), or for the reason given.
    pub(crate) fn land(mut self, at: Instant, broken: Option<End>) {
        let at_us = self.tower.clock.us(at);
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
            record.usage = content.usage;
            if let (Some(reply), Some(said), Outcome::Ok) = (&self.reply, content.text, record.outcome) {
                // It is set once: a flight is delivered once.
                let _ = reply.set(said);
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
        self.tower.progress.ended(record.outcome == Outcome::Ok, record.osl);
        // The collector outlives every flight; if it is gone there is nobody to tell.
        let _ = self.tower.records.send(Ended { record, text });
    }
}

impl Sink for Flight<'_> {
    fn head(&mut self, at: Instant, head: &Head) {
        self.headers(at, head.status, head.content_type.as_deref(), head.encoding.as_deref());
    }

    fn payload(&mut self, at: Instant, bytes: &[u8]) {
        self.read(at, bytes);
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let at_us = self.tower.clock.now_us();
        self.deliver(at_us, End::failed(Outcome::Cancelled, "cut off by the end of the load point"));
    }
}
