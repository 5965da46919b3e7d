//! Parses one `data:` payload of a streamed answer, or one whole answer.
//!
//! Pure: bytes in, a borrowed view out. `answer` folds these views into a record.
//! Read from real streams (`tests/fixtures/streams`): chunks are not tokens; the role comes in its own chunk (vLLM), in the
//! first content chunk (Dynamo) or never; reasoning is `delta.reasoning` (vLLM ≥ 0.12), `delta.reasoning_content`
//! (Dynamo, older vLLM) or a part of `delta.content` (Mistral); usage has its own chunk with `"choices":[]`, rides on another
//! one, or is on every one.

use std::borrow::Cow;

use serde::de::Error as _;

use super::wire::{self, fields, items, number};
use crate::load::error_body;
use crate::metrics::record::Usage;

type Result<T> = std::result::Result<T, serde_json::Error>;

#[derive(Debug)]
pub enum Payload<'a> {
    Chunk(Chunk<'a>),
    Done,
    /// `null`, blank, or an object of another kind: nothing to record.
    Nothing,
    /// The server reports a failure inside a 200 answer; its words.
    Error(String),
}

/// The payload is not JSON, or not of the shape of an answer.
#[derive(Debug, thiserror::Error)]
#[error("{source}: {excerpt}")]
pub struct Malformed {
    source: serde_json::Error,
    excerpt: String,
}

/// Classifies one event of a streamed answer. `event` is the name of the SSE event, empty for most.
///
/// # Errors
/// [`Malformed`] for anything that is neither a known marker nor a JSON object.
pub fn classify<'a>(event: &[u8], data: &'a [u8]) -> std::result::Result<Payload<'a>, Malformed> {
    let data = data.trim_ascii();
    match data {
        _ if event.eq_ignore_ascii_case(b"error") => Ok(Payload::Error(error_body::message(data))),
        b"[DONE]" => Ok(Payload::Done),
        b"" | b"null" => Ok(Payload::Nothing),
        _ => whole(data),
    }
}

/// Reads a whole (not streamed) answer of either endpoint.
///
/// # Errors
/// [`Malformed`] when it is no JSON object.
pub fn whole(body: &[u8]) -> std::result::Result<Payload<'_>, Malformed> {
    let body = body.trim_ascii();
    let text = std::str::from_utf8(body).map_err(serde_json::Error::custom);
    let chunk = text.and_then(Chunk::of);
    let chunk = chunk.map_err(|source| Malformed { source, excerpt: error_body::excerpt(body) })?;
    Ok(match chunk {
        chunk if chunk.is_error => Payload::Error(error_body::message(body)),
        chunk if chunk.is_answer || chunk.unknown.is_some() => Payload::Chunk(chunk),
        _ => Payload::Nothing,
    })
}

/// What matters here of a chat or completions object, streamed or whole.
#[derive(Debug, Default)]
pub struct Chunk<'a> {
    /// The content in the order in which it is read, reasoning and tool calls included.
    pub pieces: Vec<Piece<'a>>,
    /// Choices that have ended, and why the first did.
    pub finished: u64,
    pub finish_reason: Option<String>,
    pub usage: Option<Usage>,
    /// The key of a text that is no known content.
    pub unknown: Option<String>,
    /// It has choices or usage.
    is_answer: bool,
    is_error: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Index of the choice.
    pub choice: u64,
    /// Something else than reasoning.
    pub is_output: bool,
    /// UTF-8 in which half a surrogate pair may stand; empty for content without text, such as an image.
    pub text: Cow<'a, [u8]>,
}

/// Parts in parts are read to this depth.
const DEPTH: u8 = 8;

/// Keys whose text is about an answer and no part of it, each between spaces.
const ABOUT: &str = " annotations channel citations context created created_at end_turn event format id index logprobs matched_stop \
                     metadata model name object obfuscation phase prompt_filter_results provider provider_specific_fields \
                     recipient request_id role search_results service_tier signature sources status stop stop_sequence \
                     system_fingerprint time_info timings token_ids type version ";

impl<'a> Chunk<'a> {
    fn of(object: &'a str) -> Result<Self> {
        let mut chunk = Self::default();
        // A code that means success.
        let (mut good, mut complains) = (false, false);
        fields(object, |key, value| {
            match key {
                "choices" => {
                    chunk.is_answer = true;
                    items(value, |choice| chunk.read_choice(choice))?;
                }
                "usage" => chunk.usage = usage(value)?,
                "error" | "errors" | "exception" | "fault" => chunk.is_error |= is_error(value),
                "object" | "type" if value == "\"error\"" => chunk.is_error = true,
                "code" | "status_code" | "error_code" | "statusCode" | "errorCode" | "status" => {
                    good = ["0", "200", "\"0\"", "\"200\"", "\"success\""].contains(&value);
                    complains |= number(value).is_some_and(|code| (400..600).contains(&code))
                        || ["\"error\"", "\"failed\"", "\"failure\""].contains(&value);
                }
                "success" | "ok" => complains |= value == "false",
                "message" | "msg" | "detail" | "error_msg" | "error_message" | "errorMessage"
                | "error_description"
                    if !value.starts_with('{') =>
                {
                    complains |= wire::has_text(value, DEPTH)
                }
                _ => {}
            }
            Ok(())
        })?;
        let is_silent = chunk.pieces.is_empty() && chunk.finish_reason.is_none() && chunk.usage.is_none();
        chunk.is_error |= is_silent && complains && !good;
        chunk.is_answer |= chunk.usage.is_some();
        if !chunk.is_answer && !chunk.is_error && !complains {
            fields(object, |key, value| {
                chunk.notice("", key, value);
                Ok(())
            })?;
        }
        Ok(chunk)
    }

    /// The one text, when the chunk holds nothing else and the text stands in it as it is.
    pub(crate) fn only_text(&self) -> Option<(u64, &'a str, bool)> {
        let has_more = self.usage.is_some() || self.finish_reason.is_some();
        match self.pieces.as_slice() {
            [Piece { choice, is_output, text: Cow::Borrowed(text) }] if !has_more && !text.is_empty() => {
                Some((*choice, std::str::from_utf8(text).ok()?, *is_output))
            }
            _ => None,
        }
    }

    fn read_choice(&mut self, choice: &'a str) -> Result<()> {
        let (from, mut index, mut reason) = (self.pieces.len(), 0, None);
        fields(choice, |key, value| {
            match key {
                "index" => index = number(value).unwrap_or(0),
                // Some servers send both, with the same content.
                "delta" | "message" if self.pieces.len() > from => {}
                "delta" | "message" if value.starts_with('{') => self.read_message(key, value)?,
                // An empty object, as PHP writes it; text.
                "delta" | "message" => self.read_content(key, value, true, DEPTH)?,
                "error" => self.is_error |= is_error(value),
                "text" => self.read_content(key, value, true, DEPTH)?,
                "finish_reason" | "finish_details" if reason.is_none() => reason = finish_reason(value)?,
                _ => self.notice("choices", key, value),
            }
            Ok(())
        })?;
        self.pieces.iter_mut().skip(from).for_each(|piece| piece.choice = index);
        self.finished += u64::from(reason.is_some());
        self.finish_reason = self.finish_reason.take().or(reason);
        Ok(())
    }

    fn read_message(&mut self, name: &str, message: &'a str) -> Result<()> {
        let mut has_reasoning = false;
        fields(message, |key, value| {
            match key {
                "content" | "refusal" | "audio" | "images" => self.read_content(key, value, true, DEPTH)?,
                // Some servers send several of these names with the same text: one of them counts.
                "reasoning" | "reasoning_content" | "reasoning_details" | "thinking_blocks" => {
                    let before = self.pieces.len();
                    if !has_reasoning {
                        self.read_content(key, value, false, DEPTH)?;
                    }
                    has_reasoning |= self.pieces.len() > before;
                }
                "tool_calls" if value.starts_with('[') => items(value, |call| self.read_call(call, DEPTH))?,
                // The older form of `tool_calls`.
                "tool_calls" | "function_call" => self.read_call(value, DEPTH)?,
                "error" => self.is_error |= is_error(value),
                _ => self.notice(name, key, value),
            }
            Ok(())
        })
    }

    /// Content in any form: text, a part, or a list of parts.
    fn read_content(&mut self, key: &str, value: &'a str, is_output: bool, depth: u8) -> Result<()> {
        match value.as_bytes().first() {
            _ if depth == 0 => Ok(()),
            Some(b'"') => {
                let text = wire::text(value).filter(|text| !text.is_empty());
                self.pieces.extend(text.map(|text| Piece { choice: 0, is_output, text }));
                Ok(())
            }
            Some(b'[') => items(value, |part| self.read_content(key, part, is_output, depth - 1)),
            Some(b'{') => self.read_part(key, value, is_output, depth - 1),
            _ if !["content", "text"].contains(&key) => Ok(()),
            _ => Err(serde_json::Error::custom(format!("{key} is neither text nor a list of parts"))),
        }
    }

    fn read_part(&mut self, of: &str, part: &'a str, is_output: bool, depth: u8) -> Result<()> {
        let is_reasoning = |name: &str| ["think", "reason", "summary"].iter().any(|word| name.contains(word));
        let (mut kind, mut inner, mut strange) = (of.to_owned(), None, None);
        fields(part, |key, value| {
            match key {
                "type" => kind = wire::words(value).unwrap_or_default(),
                "text" | "thinking" | "reasoning" | "summary" | "content" | "refusal" | "value"
                | "transcript"
                    if wire::has_text(value, DEPTH) =>
                {
                    inner = inner.or(Some((is_reasoning(key), value)));
                }
                _ if strange.is_none() => strange = unknown(of, key, value),
                _ => {}
            }
            Ok(())
        })?;
        match inner {
            Some((reasons, inner)) => {
                let is_output = is_output && !reasons && !is_reasoning(&kind);
                self.read_content(of, inner, is_output, depth)?;
            }
            None if kind.starts_with("tool") || kind.starts_with("function") => {
                self.read_call(part, depth)?
            }
            None if ["image", "audio", "video", "file"].iter().any(|medium| kind.contains(medium)) => {
                if strange.is_some() {
                    self.pieces.push(Piece { choice: 0, is_output, text: Cow::Borrowed(b"") });
                }
            }
            // What is encrypted is hidden.
            None if is_reasoning(&kind) => {}
            None => self.unknown = self.unknown.take().or(strange),
        }
        Ok(())
    }

    fn read_call(&mut self, call: &'a str, depth: u8) -> Result<()> {
        if !call.starts_with('{') {
            return Ok(());
        }
        fields(call, |key, value| {
            match key {
                "function" | "custom" if depth > 0 => self.read_call(value, depth - 1)?,
                "name" | "arguments" | "input" => {
                    let text =
                        wire::text(value).or((value.len() > 2).then_some(Cow::Borrowed(value.as_bytes())));
                    let text = text.filter(|text| !text.is_empty());
                    self.pieces.extend(text.map(|text| Piece { choice: 0, is_output: true, text }));
                }
                _ => {}
            }
            Ok(())
        })
    }

    fn notice(&mut self, path: &str, key: &str, value: &str) {
        if self.unknown.is_none() {
            self.unknown = unknown(path, key, value);
        }
    }
}

fn is_error(value: &str) -> bool {
    !["false", "\"\"", "{}", "[]", "0"].contains(&value)
}

/// The name of a field that holds text and is not known.
fn unknown(path: &str, key: &str, value: &str) -> Option<String> {
    let about = ABOUT.split(' ').any(|about| about == key)
        || ["_id", "_ids", "_reason", "_results"].iter().any(|end| key.ends_with(end));
    let dot = if path.is_empty() { "" } else { "." };
    (!about && wire::has_text(value, DEPTH)).then(|| error_body::shorten(&format!("{path}{dot}{key}")))
}

/// Why a choice ended: text, or an object with a `type`. Empty while it has not.
fn finish_reason(value: &str) -> Result<Option<String>> {
    let mut reason = wire::words(value);
    if value.starts_with('{') {
        fields(value, |key, value| {
            if key == "type" {
                reason = wire::words(value);
            }
            Ok(())
        })?;
    }
    Ok(reason.filter(|reason| !["", "null", "None"].contains(&reason.trim())))
}

fn usage(value: &str) -> Result<Option<Usage>> {
    if !value.starts_with('{') {
        return Ok(None);
    }
    let mut usage =
        Usage { prompt_tokens: 0, completion_tokens: 0, reasoning_tokens: None, cached_tokens: None };
    fields(value, |key, value| {
        match key {
            "prompt_tokens" | "input_tokens" => usage.prompt_tokens = number(value).unwrap_or(0),
            "completion_tokens" | "output_tokens" => usage.completion_tokens = number(value).unwrap_or(0),
            "prompt_tokens_details" | "completion_tokens_details" if value.starts_with('{') => {
                fields(value, |key, value| {
                    match key {
                        "cached_tokens" => usage.cached_tokens = number(value),
                        "reasoning_tokens" => usage.reasoning_tokens = number(value),
                        _ => {}
                    }
                    Ok(())
                })?;
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(Some(usage))
}

#[cfg(test)]
#[path = "chunk_tests.rs"]
mod tests;
