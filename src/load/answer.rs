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
    /// A status other than 200: the body holds the error.
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
            200 if streaming => Form::Unknown,
            200 => Form::Whole(Vec::new()),
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
                let strange = parser.strange_lines();
                self.content.end_of_stream(self.done, strange)
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

    fn end_of_stream(&self, done: bool, strange_lines: u64) -> End {
        if self.events == 0 && strange_lines > 0 {
            return End::failed(
                Outcome::Malformed,
                "a streamed answer was asked for, and what came has no events",
            );
        }
        if !done && self.finished < self.choices().max(1) {
            if self.events == 0 {
                return End::failed(Outcome::Empty, "200 without any event");
            }
            return End::failed(
                Outcome::Disconnected,
                "the stream ended without a finish_reason and without [DONE]",
            );
        }
        self.end_of_whole()
    }

    fn end_of_whole(&self) -> End {
        match self.finish_reason.as_deref() {
            Some(reason) if FAILED_REASONS.iter().any(|part| reason.to_ascii_lowercase().contains(part)) => {
                return End::failed(Outcome::ServerError, format!("finish_reason {reason:?}"));
            }
            _ if !self.chunks_us.is_empty() => return End::ok(),
            _ => {}
        }
        let words = "the answer has no content".to_owned();
        let noticed =
            self.unknown.as_ref().map(|key| format!("; the text under {key:?} is no known content"));
        End::failed(Outcome::Empty, words + &noticed.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `pieces` as a 200 event stream, piece `i` at `i` µs.
    fn stream(pieces: &[&str]) -> (End, Content) {
        let mut answer = Answer::new(200, true);
        for (at, piece) in pieces.iter().enumerate() {
            answer.read(at as u64, piece.as_bytes());
        }
        (answer.end(99, None), answer.into_content())
    }

    fn outcome(pieces: &[&str]) -> Outcome {
        stream(pieces).0.outcome
    }

    const TEXT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a b\"}}]}\n\n";
    const REASONING: &str = "data: {\"choices\":[{\"delta\":{\"reasoning\":\"r\"}}]}\n\n";
    const FINISH: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    const NO_FINISH: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"\"}]}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    #[test]
    fn ends_of_streams() {
        for (pieces, expected) in [
            (&[TEXT, FINISH, DONE][..], Outcome::Ok),
            (&[TEXT, FINISH], Outcome::Ok),
            (&[TEXT, DONE], Outcome::Ok),
            (&[TEXT, FINISH, "data: [DONE]"], Outcome::Ok),
            (&[TEXT, FINISH, DONE, "data: not json\n\n"], Outcome::Ok),
            (&[TEXT], Outcome::Disconnected),
            (&[TEXT, "data: {\"choices\":[{\"del"], Outcome::Disconnected),
            (&[FINISH, DONE], Outcome::Empty),
            (&[DONE], Outcome::Empty),
            (&[], Outcome::Empty),
            (&[":\n\n:\n\n"], Outcome::Empty),
            (&["<html>\n<p>hi</p>\n"], Outcome::Malformed),
            (&["data: {\n\n"], Outcome::Malformed),
            (&[TEXT, "data: {\"error\":{\"message\":\"x\"}}\n\n", DONE], Outcome::ServerError),
            (&[TEXT, "event: error\ndata: x\n\n"], Outcome::ServerError),
            (
                &[TEXT, "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"abort\"}]}\n\n", DONE],
                Outcome::ServerError,
            ),
            (
                &[TEXT, "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"Network_Error\"}]}\n\n"],
                Outcome::ServerError,
            ),
            (&[TEXT, "data: {\"detail\":\"x\"}\n\n", FINISH, DONE], Outcome::ServerError),
            (&[TEXT, "data: {\"code\":500,\"msg\":\"x\"}\n\n", FINISH, DONE], Outcome::ServerError),
            (&[TEXT, "data: {\"object\":\"error\"}\n\n", FINISH, DONE], Outcome::ServerError),
            (&[TEXT, "event: error\n\n", FINISH, DONE], Outcome::ServerError),
            (&[TEXT, NO_FINISH], Outcome::Disconnected),
            (&[TEXT, NO_FINISH, DONE], Outcome::Ok),
            (
                &[TEXT, "data: {\"choices\":[{\"index\":1,\"text\":\"b\"}]}\n\n", FINISH],
                Outcome::Disconnected,
            ),
            (&["data: {\"choices\":[{\"index\":1,\"text\":\"b\"}]}\n\n", FINISH], Outcome::Ok),
        ] {
            assert_eq!(outcome(pieces), expected, "{pieces:?}");
        }
    }

    #[test]
    fn only_content_is_stamped_and_reasoning_is_no_output() {
        let role = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
        let (end, content) = stream(&[role, ":\n\n", REASONING, TEXT, FINISH, DONE]);
        assert_eq!(end, End::ok());
        assert_eq!((content.chunks_us, content.first_output_us), (vec![2, 3], Some(3)));
        let both = format!("{TEXT}{TEXT}");
        assert_eq!(stream(&[role, &both, FINISH]).1.chunks_us, [1, 1]);
    }

    #[test]
    fn words_are_counted_across_chunks_and_per_choice() {
        let chunk = |index: u32, text: &str| {
            format!("data: {{\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
        };
        let pieces = [chunk(0, "hel"), chunk(1, "x"), chunk(0, "lo wor"), chunk(1, "y z"), chunk(0, "ld")];
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        assert_eq!(stream(&pieces).1.words, 4);
    }

    #[test]
    fn the_last_usage_counts() {
        let usage = |n: u32| {
            format!(
                "data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":1,\"completion_tokens\":{n}}}}}\n\n"
            )
        };
        let (_, content) = stream(&[&usage(0), TEXT, &usage(1), FINISH, &usage(2), DONE]);
        assert_eq!(content.usage.map(|usage| usage.completion_tokens), Some(2));
    }

    #[test]
    fn a_break_after_done_harms_nothing() {
        let broken = || Some(End::failed(Outcome::Disconnected, "reset"));
        let mut answer = Answer::new(200, true);
        answer.read(1, format!("{TEXT}{FINISH}").as_bytes());
        assert_eq!(answer.end(2, broken()).outcome, Outcome::Disconnected);
        answer.read(3, DONE.as_bytes());
        assert_eq!(answer.end(4, broken()).outcome, Outcome::Ok);
    }

    #[test]
    fn whole_answers_and_refusals() {
        let read = |status, streaming, body: &str| {
            let mut answer = Answer::new(status, streaming);
            answer.read(1, body.as_bytes());
            (answer.end(2, None), answer.into_content())
        };
        let good = r#"{"choices":[{"text":"x","finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
        let (end, content) = read(200, false, good);
        assert_eq!((end, content.chunks_us), (End::ok(), vec![2]));
        assert_eq!(read(200, true, good).0, End::ok());
        for (status, body, outcome) in [
            (200, "", Outcome::Empty),
            (200, "<html>", Outcome::Malformed),
            (200, r#"{"error":"x"}"#, Outcome::ServerError),
            (200, r#"{"choices":[{"text":"","finish_reason":"stop"}]}"#, Outcome::Empty),
            (429, r#"{"error":"slow down"}"#, Outcome::Http(429)),
            (204, "", Outcome::Http(204)),
        ] {
            assert_eq!(read(status, false, body).0.outcome, outcome, "{body}");
        }
        assert_eq!(read(429, true, r#"{"error":"slow down"}"#).0.error.as_deref(), Some("slow down"));
        let long = "x".repeat(3 * MAX_ERROR_BYTES);
        assert_eq!(read(500, true, &long).0.outcome, Outcome::Http(500));
    }

    #[test]
    fn the_body_says_whether_it_is_a_stream() {
        let events = format!("{TEXT}{TEXT}{FINISH}{DONE}");
        let whole = r#"{"choices":[{"message":{"content":"a b"},"finish_reason":"stop"}]}"#;
        for (streaming, body, chunks) in [
            (true, events.clone(), 2),
            (true, format!("\n\r\n{events}"), 2),
            (true, format!("\u{feff}{events}"), 2),
            (true, format!(": ping\n\nevent: x\n{events}"), 2),
            (true, whole.to_owned(), 1),
            (true, format!("\n  {whole}"), 1),
            (false, whole.to_owned(), 1),
            // A stream unasked is one answer.
            (false, events.clone(), 1),
            (false, format!("\n: ping\n\n{events}"), 1),
        ] {
            for step in [1, 7, usize::MAX] {
                let mut answer = Answer::new(200, streaming);
                body.as_bytes().chunks(step).for_each(|read| answer.read(1, read));
                let end = answer.end(2, None);
                assert_eq!((end, answer.chunks()), (End::ok(), chunks), "{streaming} {body}");
            }
        }
        let mut cut = Answer::new(200, false);
        cut.read(1, TEXT.as_bytes());
        assert_eq!(cut.end(2, None).outcome, Outcome::Disconnected);
    }

    #[test]
    fn halves_of_a_surrogate_pair_are_put_together() {
        let event = |key: &str, text: &str| {
            format!("data: {{\"choices\":[{{\"delta\":{{\"{key}\":\"{text}\"}}}}]}}\n\n")
        };
        let (high, low) = (event("content", "a \\ud83d"), event("content", "\\uDE42 b"));
        let plain = event("content", "x");
        for (events, text, words) in [
            ([high.as_str(), low.as_str()], "a 🙂 b", 3),
            ([high.as_str(), plain.as_str()], "a \u{fffd}x", 2),
            ([low.as_str(), plain.as_str()], "\u{fffd} bx", 2),
            ([plain.as_str(), high.as_str()], "xa ", 1),
        ] {
            let mut answer = Answer::new(200, true);
            answer.keep_text();
            let stream = events.concat() + FINISH;
            answer.read(1, stream.as_bytes());
            assert_eq!((answer.end(2, None), answer.chunks()), (End::ok(), 2), "{stream}");
            let Content { text: found, words: counted, text_bytes, .. } = answer.into_content();
            assert_eq!((found.as_deref(), counted, text_bytes), (Some(text), words, text.len() as u64));
        }
    }

    #[test]
    fn text_under_an_unknown_key_is_no_content_and_is_named() {
        let thoughts = "data: {\"choices\":[{\"delta\":{\"thoughts\":\"hm\"}}]}\n\n";
        let (end, content) = stream(&[thoughts, thoughts, TEXT, FINISH]);
        assert_eq!((end, content.chunks_us), (End::ok(), vec![2]));
        assert_eq!(content.unknown.as_deref(), Some("delta.thoughts"));
        let (end, _) = stream(&[thoughts, FINISH]);
        let words = "the answer has no content; the text under \"delta.thoughts\" is no known content";
        assert_eq!(end, End::failed(Outcome::Empty, words));
    }

    use proptest::prelude::*;

    proptest! {
        #[test]
        fn how_a_stream_is_split_changes_nothing(
            events in prop::collection::vec(
                (prop::sample::select(vec!["", ": ping\n\n", "event: x\n", "id: 7\n"]), "[a-b\\\\\"é ]{0,6}", prop::bool::ANY),
                1..20,
            ),
            end in prop::sample::select(vec!["\n\n", "\r\n\r\n", "\n\r\n"]),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let event = |(before, text, is_output): &(&str, String, bool)| {
                let (key, text) = (if *is_output { "content" } else { "reasoning" }, serde_json::json!(text));
                format!("{before}data: {{\"choices\":[{{\"delta\":{{\"{key}\":{text}}}}}]}}{end}")
            };
            let stream: String = events.iter().map(event).chain([FINISH.to_owned()]).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.sort_unstable();
            cuts.push(stream.len());
            let read = |ends: &mut dyn Iterator<Item = usize>| {
                let (mut answer, mut from) = (Answer::new(200, true), 0);
                answer.keep_text();
                for end in ends {
                    answer.read(0, &stream.as_bytes()[from..end]);
                    from = end;
                }
                let end = answer.end(0, None);
                let Content { words, chunks_us, text, reasoning, .. } = answer.into_content();
                (end, words, chunks_us.len(), text, reasoning)
            };
            let single = read(&mut (1..=stream.len()));
            prop_assert_eq!(&read(&mut std::iter::once(stream.len())), &single);
            prop_assert_eq!(&read(&mut cuts.into_iter()), &single);
            let text: String = events.iter().filter(|event| event.2).map(|event| event.1.as_str()).collect();
            prop_assert_eq!(single.3, Some(text));
        }
    }
}
