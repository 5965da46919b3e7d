//! One answer while it arrives: a state machine fed with stamped reads.
//!
//! Pure: it never waits and knows nothing of sockets. `in_flight` drives it with what `client` reads and folds it into the record.

use super::chunk::{self, Chunk, Payload, Piece};
use super::error_body;
use super::repeat::{Repeat, Repeated};
use super::sse;
use super::wire::Half;
use super::words::Words;
use crate::metrics::record::{Outcome, Usage};

/// Longest unstreamed body that is accepted, bytes.
const MAX_BODY_BYTES: usize = 64 << 20;

/// Bytes of an error body that are kept.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// Parts of `finish_reason`s of a server that gave up (vLLM: `abort` when it shuts down, `error` when the engine failed; others:
/// `network_error`, `cancelled`, `insufficient_system_resource`).
const FAILED_REASONS: [&str; 5] = ["abort", "error", "cancel", "fail", "insufficient"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub outcome: Outcome,
    pub error: Option<String>,
}

impl End {
    pub(crate) fn ok() -> Self {
        Self { outcome: Outcome::Ok, error: None }
    }

    pub(crate) fn failed(outcome: Outcome, error: impl AsRef<str>) -> Self {
        Self { outcome, error: Some(error_body::shorten(error.as_ref())) }
    }
}

#[derive(Debug)]
enum Form {
    /// Of an answer that was asked for as a stream, before its first byte that is not blank: the body tells what it is, whatever
    /// type the server declares.
    Unknown,
    Stream(sse::Parser),
    Whole(Vec<u8>),
    /// A status that is no success: the body holds the error.
    Refusal(u16, Vec<u8>),
}

#[derive(Debug, Default)]
pub struct Content {
    /// Arrival of each content chunk, µs.
    pub(crate) chunks_us: Vec<u64>,
    /// Arrival of the first that is not reasoning, µs.
    pub(crate) first_output_us: Option<u64>,
    pub usage: Option<Usage>,
    pub finish_reason: Option<String>,
    /// Words of generated text, reasoning included.
    pub words: u64,
    /// Its bytes.
    pub(crate) text_bytes: u64,
    /// Those of the first content chunk.
    pub(crate) first_text_bytes: Option<u64>,
    /// Per choice that had text: it ends inside a word so far.
    inside_word: Vec<Option<bool>>,
    /// Of a choice, and whether of its output.
    half: Half<(u64, bool)>,
    /// Finish reasons so far.
    finished: u64,
    /// The first key of a text that is no known content.
    pub(crate) unknown: Option<String>,
    events: u64,
    repeat: Repeat,
    /// The text, reasoning left out, when it is wanted; of the first choice.
    pub(crate) text: Option<String>,
    pub(crate) reasoning: String,
}

#[derive(Debug)]
pub struct Answer {
    form: Form,
    content: Content,
    /// `[DONE]` was seen: whatever follows, the answer is complete.
    done: bool,
    /// The first thing that was wrong; nothing after it is read.
    failure: Option<End>,
}

impl Answer {
    /// `streaming`: asked for as a stream. A server may send a whole answer all the same, or a stream unasked.
    pub fn new(status: u16, streaming: bool) -> Self {
        let form = match status {
            // Some gateways answer `created` or `non-authoritative`, and mean the same.
            200 | 201 | 203 if streaming => Form::Unknown,
            200 | 201 | 203 => Form::Whole(Vec::new()),
            other => Form::Refusal(other, Vec::new()),
        };
        // Most streams are longer, and growing in small steps costs as much as reading them.
        let chunks_us = Vec::with_capacity(if streaming { 64 } else { 1 });
        Self { form, content: Content { chunks_us, ..Content::default() }, done: false, failure: None }
    }

    /// Takes in one read that was stamped `at_us` when it arrived.
    pub fn read(&mut self, at_us: u64, mut bytes: &[u8]) {
        if self.failure.is_some() {
            return;
        }
        if matches!(self.form, Form::Unknown) {
            bytes = bytes.trim_ascii_start();
            match bytes.first() {
                None => return,
                Some(b'{' | b'[') => self.form = Form::Whole(Vec::new()),
                Some(_) => self.form = Form::Stream(sse::Parser::default()),
            }
        }
        self.failure = match &mut self.form {
            Form::Unknown => None,
            Form::Stream(parser) => {
                let is_simple = !self.done && parser.is_between_events();
                match if is_simple { self.content.take_repeated_events(bytes, at_us) } else { bytes } {
                    [] => None,
                    rest => {
                        parser.push(rest);
                        read_events(parser, &mut self.content, &mut self.done, at_us)
                    }
                }
            }
            Form::Whole(body) if body.len() + bytes.len() > MAX_BODY_BYTES => Some(End::failed(
                Outcome::Malformed,
                format!("the answer is longer than {MAX_BODY_BYTES} bytes"),
            )),
            Form::Whole(body) => {
                body.extend_from_slice(bytes);
                None
            }
            Form::Refusal(_, body) => {
                let room = MAX_ERROR_BYTES.saturating_sub(body.len());
                body.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
                None
            }
        };
    }

    /// The body cannot be parsed, whatever follows.
    pub(crate) fn give_up(&mut self, failure: End) {
        if !matches!(self.form, Form::Refusal(..)) {
            self.failure.get_or_insert(failure);
        }
    }

    pub fn chunks(&self) -> u64 {
        self.content.chunks_us.len() as u64
    }

    /// Nothing that may follow can change the result: it is complete, has failed, or enough of an error body is known.
    pub(crate) fn settled(&self) -> bool {
        let enough = matches!(&self.form, Form::Refusal(_, body) if body.len() >= MAX_ERROR_BYTES);
        self.done || self.failure.is_some() || enough
    }

    /// The body ended at `at_us`: in good order, or broken off for the reason given.
    pub fn end(&mut self, at_us: u64, broken: Option<End>) -> End {
        if let Some(failure) = &self.failure {
            return failure.clone();
        }
        if let Form::Refusal(status, body) = &self.form {
            return End::failed(Outcome::Http(*status), error_body::message(body));
        }
        if let Some(broken) = broken.filter(|_| !self.done) {
            return broken;
        }
        if let Form::Whole(body) = &mut self.form
            && sse::begins(body)
        {
            let body = std::mem::take(body);
            self.form = Form::Stream(sse::Parser::default());
            self.read(at_us, &body);
            // It was to come whole.
            self.content.chunks_us.truncate(1);
            return self.end(at_us, None);
        }
        match &mut self.form {
            Form::Unknown => End::failed(Outcome::Empty, "200 with an empty body"),
            Form::Stream(parser) => {
                // A last event without a blank line counts if it can be read; a cut one is a cut connection.
                if let Some(event) = parser.finish()
                    && let Ok(payload) = chunk::classify(event.name, event.data)
                    && let Some(failure) = self.content.take(payload, at_us, &mut self.done)
                {
                    return failure;
                }
                self.content.end_of_stream(self.done, parser.strange())
            }
            Form::Whole(body) => match chunk::whole(body) {
                _ if body.is_empty() => End::failed(Outcome::Empty, "200 with an empty body"),
                Ok(payload) => self
                    .content
                    .take(payload, at_us, &mut self.done)
                    .unwrap_or_else(|| self.content.end_of_whole()),
                Err(error) => End::failed(Outcome::Malformed, error.to_string()),
            },
            Form::Refusal(..) => End::ok(),
        }
    }

    pub(crate) fn keep_text(&mut self) {
        self.content.text.get_or_insert_default();
    }

    /// All text of an answer of one choice, reasoning first, when it was kept: what its tokens are counted in.
    pub(crate) fn whole_text(&self) -> Option<String> {
        let content = &self.content;
        let one = content.choices() <= 1;
        content.text.as_ref().filter(|_| one).map(|text| format!("{}{text}", content.reasoning))
    }

    pub fn into_content(self) -> Content {
        self.content
    }
}

fn read_events(parser: &mut sse::Parser, content: &mut Content, done: &mut bool, at_us: u64) -> Option<End> {
    loop {
        let event = match parser.next_event() {
            Ok(Some(event)) => event,
            Ok(None) => return None,
            Err(error) => return Some(End::failed(Outcome::Malformed, error.to_string())),
        };
        if *done {
            continue;
        }
        if let Some(repeated) = content.repeat.recognise(event.data).filter(|_| event.name.is_empty()) {
            content.take_repeated(repeated, at_us);
            continue;
        }
        let failure = match chunk::classify(event.name, event.data) {
            Ok(payload) => {
                if let Payload::Chunk(chunk) = &payload {
                    content.repeat.learn(event.data, chunk);
                }
                content.take(payload, at_us, done)
            }
            Err(error) => {
                Some(End::failed(Outcome::Malformed, format!("event {}: {error}", content.events + 1)))
            }
        };
        if failure.is_some() {
            return failure;
        }
    }
}

impl Content {
    fn take(&mut self, payload: Payload<'_>, at_us: u64, done: &mut bool) -> Option<End> {
        self.events += 1;
        match payload {
            Payload::Chunk(chunk) => self.take_chunk(&chunk, at_us),
            Payload::Done => *done = true,
            Payload::Nothing => {}
            Payload::Error(message) => return Some(End::failed(Outcome::ServerError, message)),
        }
        None
    }

    /// Takes the events at the start of `stream` that are like an earlier one but for their text; returns the rest.
    fn take_repeated_events<'a>(&mut self, mut stream: &'a [u8], at_us: u64) -> &'a [u8] {
        while let Some((repeated, rest)) = self.repeat.next_event(stream) {
            self.take_repeated(repeated, at_us);
            stream = rest;
        }
        stream
    }

    fn take_repeated(&mut self, repeated: Repeated<'_>, at_us: u64) {
        let Repeated { text, words, choice, is_output } = repeated;
        self.events += 1;
        self.chunks_us.push(at_us);
        self.take_text(choice, text, Some(words), is_output, at_us);
    }

    fn take_chunk(&mut self, chunk: &Chunk<'_>, at_us: u64) {
        for Piece { choice, is_output, text } in &chunk.pieces {
            self.take_text(*choice, text, Words::of(text), *is_output, at_us);
        }
        if !chunk.pieces.is_empty() {
            self.chunks_us.push(at_us);
            self.first_text_bytes.get_or_insert(self.text_bytes);
        }
        self.usage = chunk.usage.or(self.usage);
        self.finished += chunk.finished;
        if let Some(reason) = &chunk.finish_reason {
            self.finish_reason = Some(error_body::shorten(reason));
        }
        if let (None, Some(key)) = (&self.unknown, &chunk.unknown) {
            self.unknown = Some(key.clone());
        }
    }

    /// `text` is UTF-8, for which `words` stand, or has halves of surrogate pairs in it.
    fn take_text(&mut self, choice: u64, text: &[u8], words: Option<Words>, is_output: bool, at_us: u64) {
        let joined;
        let (text, words) = if self.half.is_none() && words.is_some() {
            (text, words)
        } else {
            joined = self.half.join((choice, is_output), text);
            (joined.as_slice(), Words::of(&joined))
        };
        if is_output {
            self.first_output_us.get_or_insert(at_us);
        }
        if let Some(kept) = self.text.as_mut().filter(|_| choice == 0)
            && let Ok(text) = std::str::from_utf8(text)
        {
            if is_output { kept.push_str(text) } else { self.reasoning.push_str(text) }
        }
        let choice = choice.min(255) as usize;
        if self.inside_word.len() <= choice {
            self.inside_word.resize(choice + 1, None);
        }
        if let (Some(words), Some(inside)) = (words, self.inside_word.get_mut(choice)) {
            self.words += words.after(inside.get_or_insert(false));
        }
        self.text_bytes += text.len() as u64;
    }

    /// Choices that had text.
    fn choices(&self) -> u64 {
        self.inside_word.iter().flatten().count() as u64
    }

    /// `strange`: the beginning of what came that is no event.
    fn end_of_stream(&self, done: bool, strange: &[u8]) -> End {
        if self.events == 0 && !strange.is_empty() {
            let words = error_body::message(strange);
            return End::failed(
                Outcome::Malformed,
                format!("a streamed answer was asked for, and what came has no events: {words}"),
            );
        }
        if !done && self.finished < self.choices().max(1) {
            if self.events == 0 {
                return End::failed(Outcome::Empty, "200 without any event");
            }
            let words = "the stream ended without a finish_reason and without [DONE]";
            return End::failed(Outcome::Disconnected, words.to_owned() + &self.noticed());
        }
        self.end_of_whole()
    }

    fn noticed(&self) -> String {
        let noticed =
            self.unknown.as_ref().map(|key| format!("; the text under {key:?} is no known content"));
        noticed.unwrap_or_default()
    }

    fn end_of_whole(&self) -> End {
        match self.finish_reason.as_deref() {
            Some(reason) if FAILED_REASONS.iter().any(|part| reason.to_ascii_lowercase().contains(part)) => {
                return End::failed(Outcome::ServerError, format!("finish_reason {reason:?}"));
            }
            _ if !self.chunks_us.is_empty() => return End::ok(),
            _ => {}
        }
        End::failed(Outcome::Empty, "the answer has no content".to_owned() + &self.noticed())
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
