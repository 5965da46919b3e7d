//! Parses one `data:` payload of a streamed answer, or one whole answer.
//!
//! Pure: bytes in, a borrowed view out. `answer` folds these views into a record.
//! Read from real streams (`tests/fixtures/streams`): chunks are not tokens; the role comes in its own chunk (vLLM), in the
//! first content chunk (Dynamo) or never; reasoning is `delta.reasoning` (vLLM ≥ 0.12) or `delta.reasoning_content`
//! (Dynamo, older vLLM); usage has its own chunk with `"choices":[]`, rides on another one, or is on every one.

use std::borrow::Cow;
use std::fmt::Formatter;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::load::error_body;
use crate::metrics::record::Usage;

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a box would be an allocation for every token")]
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
pub fn classify<'a>(event: &[u8], data: &'a [u8]) -> Result<Payload<'a>, Malformed> {
    let data = data.trim_ascii();
    match data {
        b"[DONE]" => return Ok(Payload::Done),
        b"" | b"null" => return Ok(Payload::Nothing),
        _ if event == b"error" => return Ok(Payload::Error(error_body::message(data))),
        _ => {}
    }
    parse(data)
}

/// Reads a whole (not streamed) answer of either endpoint.
///
/// # Errors
/// [`Malformed`] when it is no JSON object.
pub fn whole(body: &[u8]) -> Result<Payload<'_>, Malformed> {
    parse(body.trim_ascii())
}

fn parse(data: &[u8]) -> Result<Payload<'_>, Malformed> {
    let chunk: Chunk<'_> = serde_json::from_slice(data)
        .map_err(|source| Malformed { source, excerpt: error_body::excerpt(data) })?;
    if chunk.is_error() {
        return Ok(Payload::Error(error_body::message(data)));
    }
    Ok(if chunk.choices.is_none() && chunk.usage.is_none() {
        Payload::Nothing
    } else {
        Payload::Chunk(chunk)
    })
}

/// The fields of a chat or completions object (streamed or whole) that matter here; all others are skipped unread.
#[derive(Debug, Default, Deserialize)]
pub struct Chunk<'a> {
    #[serde(borrow)]
    choices: Option<Few<Choice<'a>>>,
    usage: Option<WireUsage>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    object: Option<Text<'a>>,
    message: Option<IgnoredAny>,
}

impl<'a> Chunk<'a> {
    /// `{"error":…}`, vLLM's older `{"object":"error",…}`, or a flat error object in place of a chunk.
    fn is_error(&self) -> bool {
        self.error.is_some_and(|error| error.get() != "false")
            || self.object.as_ref().is_some_and(|object| object.0 == "error")
            || (self.choices.is_none() && self.usage.is_none() && self.message.is_some())
    }

    fn choices(&self) -> impl Iterator<Item = &Choice<'a>> {
        self.choices.iter().flat_map(Few::iter)
    }

    /// Every piece of generated text that is not empty, reasoning and tool-call arguments included, with the index of its
    /// choice and whether it is something else than reasoning.
    pub fn texts(&self) -> impl Iterator<Item = (u64, &str, bool)> {
        let texts = self.choices().flat_map(|choice| {
            let delta = choice.delta();
            let calls = delta.into_iter().flat_map(Delta::calls);
            let called = calls.flat_map(|call| [&call.name, &call.arguments]).flatten();
            let content = delta.and_then(|delta| delta.content.as_ref());
            let output = choice.text.iter().chain(content).chain(called).map(|text| (text, true));
            let reasoning = delta.and_then(Delta::reasoning).map(|text| (text, false));
            reasoning.into_iter().chain(output).map(|(text, is_output)| (choice.index, &*text.0, is_output))
        });
        texts.filter(|(_, text, _)| !text.is_empty())
    }

    /// The one text, as from [`Chunk::texts`], when the chunk holds nothing else.
    pub(crate) fn only_text(&self) -> Option<(u64, &str, bool)> {
        let choices = self.choices.as_ref().filter(|choices| choices.rest.is_empty())?;
        let delta = choices.first.as_ref()?.delta();
        let has_more = self.usage.is_some() || self.finish_reason().is_some();
        let (mut calls, mut texts) = (delta.into_iter().flat_map(Delta::calls), self.texts());
        let text = texts.next().filter(|_| !has_more && calls.next().is_none())?;
        texts.next().is_none().then_some(text)
    }

    pub fn finish_reason(&self) -> Option<&str> {
        self.choices().find_map(|choice| choice.finish_reason.as_ref()).map(|reason| reason.0.as_ref())
    }

    pub fn usage(&self) -> Option<Usage> {
        self.usage.as_ref().map(|usage| Usage {
            prompt_tokens: usage.prompt_tokens.unwrap_or(0),
            completion_tokens: usage.completion_tokens.unwrap_or(0),
            reasoning_tokens: usage.completion_tokens_details.as_ref().and_then(|d| d.reasoning_tokens),
            cached_tokens: usage.prompt_tokens_details.as_ref().and_then(|d| d.cached_tokens),
        })
    }
}

/// Longest list of choices or tool calls that is accepted. `{},` is three bytes and a parsed choice some hundred: without a
/// limit a long event would fill memory.
const MAX_ITEMS: usize = 1024;

/// A short list. Nearly always of one, which is kept without allocating.
#[derive(Debug)]
struct Few<T> {
    first: Option<T>,
    rest: Vec<T>,
}

impl<T> Few<T> {
    fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(&self.rest)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Collect<T> {
            type Value = Few<T>;

            fn expecting(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut few = Few { first: seq.next_element()?, rest: Vec::new() };
                while let Some(item) = seq.next_element()? {
                    if few.rest.len() + 1 == MAX_ITEMS {
                        return Err(A::Error::invalid_length(MAX_ITEMS + 1, &"a list of at most 1024"));
                    }
                    few.rest.push(item);
                }
                Ok(few)
            }
        }
        deserializer.deserialize_seq(Collect(PhantomData))
    }
}

#[derive(Debug, Default, Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u64,
    /// Chat, streamed.
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    /// Chat, whole.
    #[serde(borrow)]
    message: Option<Delta<'a>>,
    /// Completions.
    #[serde(borrow)]
    text: Option<Text<'a>>,
    #[serde(borrow)]
    finish_reason: Option<Text<'a>>,
}

impl<'a> Choice<'a> {
    fn delta(&self) -> Option<&Delta<'a>> {
        self.delta.as_ref().or(self.message.as_ref())
    }
}

#[derive(Debug, Default, Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    content: Option<Text<'a>>,
    #[serde(borrow)]
    reasoning: Option<Text<'a>>,
    #[serde(borrow)]
    reasoning_content: Option<Text<'a>>,
    #[serde(borrow)]
    tool_calls: Option<Few<ToolCall<'a>>>,
    /// The older form of `tool_calls`.
    #[serde(borrow)]
    function_call: Option<Function<'a>>,
}

impl<'a> Delta<'a> {
    /// Some servers send both names with the same text: one of them counts.
    fn reasoning(&self) -> Option<&Text<'a>> {
        [&self.reasoning, &self.reasoning_content].into_iter().flatten().find(|text| !text.0.is_empty())
    }

    fn calls(&self) -> impl Iterator<Item = &Function<'a>> {
        let listed = self.tool_calls.iter().flat_map(Few::iter).filter_map(|call| call.function.as_ref());
        listed.chain(&self.function_call)
    }
}

#[derive(Debug, Default, Deserialize)]
struct ToolCall<'a> {
    #[serde(borrow)]
    function: Option<Function<'a>>,
}

#[derive(Debug, Default, Deserialize)]
struct Function<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    arguments: Option<Text<'a>>,
}

/// A string that borrows when it has no escapes. (serde borrows a bare `Cow` field only, never an `Option<Cow>`.)
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Debug, Deserialize)]
struct WireUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
    completion_tokens_details: Option<Details>,
}

#[derive(Debug, Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `content`, `output`, `finish`, `usage` flags and the text of one payload.
    fn seen(data: &str) -> (bool, bool, Option<String>, Option<u64>, String) {
        match classify(b"", data.as_bytes()).unwrap() {
            Payload::Chunk(chunk) => {
                let text = chunk.texts().map(|(_, piece, _)| piece).collect();
                (
                    chunk.texts().next().is_some(),
                    chunk.texts().any(|(_, _, is_output)| is_output),
                    chunk.finish_reason().map(str::to_owned),
                    chunk.usage().map(|usage| usage.completion_tokens),
                    text,
                )
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn kinds_of_chunks() {
        let chat = |delta: &str| {
            format!(r#"{{"id":"x","choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#)
        };
        let table: &[(&str, bool, bool, &str)] = &[
            (r#"{"role":"assistant"}"#, false, false, ""),
            (r#"{"role":"assistant","content":""}"#, false, false, ""),
            (r#"{"role":"assistant","content":null}"#, false, false, ""),
            ("{}", false, false, ""),
            (r#"{"role":"assistant","content":"hi"}"#, true, true, "hi"),
            (r#"{"content":"a\n\"b\" \ud83d\ude42"}"#, true, true, "a\n\"b\" 🙂"),
            (r#"{"content":" "}"#, true, true, " "),
            (r#"{"reasoning":"hm"}"#, true, false, "hm"),
            (r#"{"reasoning_content":"hm","content":null}"#, true, false, "hm"),
            (r#"{"reasoning":"hm","reasoning_content":"hm"}"#, true, false, "hm"),
            (r#"{"reasoning":"hm","content":"so"}"#, true, true, "hmso"),
            (
                r#"{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":""}}]}"#,
                true,
                true,
                "f",
            ),
            (r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]}"#, true, true, "{\"a\":"),
            (r#"{"tool_calls":[]}"#, false, false, ""),
            (r#"{"function_call":{"name":"f"}}"#, true, true, "f"),
        ];
        for (delta, content, output, text) in table {
            assert_eq!(seen(&chat(delta)), (*content, *output, None, None, (*text).to_owned()), "{delta}");
        }
    }

    #[test]
    fn finish_and_usage() {
        let stop = Some("stop".to_owned());
        let none = String::new();
        assert_eq!(
            seen(r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#),
            (false, false, stop.clone(), None, none.clone())
        );
        assert_eq!(
            seen(r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":7,"total_tokens":10}}"#),
            (false, false, None, Some(7), none.clone())
        );
        assert_eq!(
            seen(r#"{"choices":[{"text":"","finish_reason":"stop"}],"usage":{"completion_tokens":7}}"#),
            (false, false, stop, Some(7), none)
        );
        assert_eq!(
            seen(r#"{"choices":[{"text":"x","finish_reason":null}],"usage":null,"timings":{"a":[1,{}]}}"#),
            (true, true, None, None, "x".into())
        );
    }

    #[test]
    fn usage_details() {
        let data = br#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":7,
            "prompt_tokens_details":{"audio_tokens":null,"cached_tokens":2},
            "completion_tokens_details":{"reasoning_tokens":5}}}"#;
        let Payload::Chunk(chunk) = classify(b"", data).unwrap() else { panic!() };
        let usage = chunk.usage().unwrap();
        assert_eq!((usage.cached_tokens, usage.reasoning_tokens), (Some(2), Some(5)));
    }

    #[test]
    fn several_choices_in_one_chunk() {
        let data = r#"{"choices":[{"index":1,"delta":{"content":""}},{"index":0,"delta":{"content":"b"},"finish_reason":"length"}]}"#;
        assert_eq!(seen(data), (true, true, Some("length".into()), None, "b".into()));
    }

    #[test]
    fn markers_errors_and_nonsense() {
        let error = |text: &str| Payload::Error(text.to_owned());
        let table: &[(&str, &str, Payload<'_>)] = &[
            ("", "[DONE]", Payload::Done),
            ("", " [DONE] ", Payload::Done),
            ("", "null", Payload::Nothing),
            ("", "", Payload::Nothing),
            ("", r#"{"note":1}"#, Payload::Nothing),
            ("", r#"{"error":{"message":"boom","type":"x","code":500}}"#, error("boom")),
            ("", r#"{"error":"boom"}"#, error("boom")),
            ("", r#"{"object":"error","message":"boom","code":400}"#, error("boom")),
            ("", r#"{"message":"boom","type":"Overloaded","code":529}"#, error("boom")),
            ("error", r#"{"message":"boom"}"#, error("boom")),
            ("error", "boom", error("boom")),
        ];
        for (event, data, expected) in table {
            let found = classify(event.as_bytes(), data.as_bytes()).unwrap();
            assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{data}");
        }
        for data in [
            "{",
            "<html>",
            "12",
            "\"text\"",
            r#"{"choices":"no"}"#,
            r#"{"choices":[{"delta":{"content":5}}]}"#,
        ] {
            assert!(classify(b"", data.as_bytes()).is_err(), "{data}");
        }
        assert!(classify(b"", b"{\"choices\":[{\"text\":\"\xff\"}]}").is_err());
        // A null `error` on a good chunk is no error.
        assert!(seen(r#"{"error":null,"choices":[{"text":"x"}]}"#).0);
    }

    #[test]
    fn an_error_of_any_type_counts_but_false_and_null() {
        for value in [r#""x""#, r#"{"a":{"b":[1]}}"#, "[[1],2]", "1", "-1", "1.5", "true"] {
            let data = format!(r#"{{"choices":[{{"text":"x"}}],"error":{value}}}"#);
            assert!(matches!(classify(b"", data.as_bytes()), Ok(Payload::Error(_))), "{value}");
        }
        assert!(seen(r#"{"error":false,"choices":[{"text":"x"}]}"#).0);
    }

    #[test]
    fn long_lists_are_refused_before_they_fill_memory() {
        let list = |count: usize| vec!["{}"; count].join(",");
        let choices = |count| format!(r#"{{"choices":[{}]}}"#, list(count));
        let calls = |count| format!(r#"{{"choices":[{{"delta":{{"tool_calls":[{}]}}}}]}}"#, list(count));
        for data in [choices(MAX_ITEMS), calls(MAX_ITEMS)] {
            assert!(matches!(classify(b"", data.as_bytes()), Ok(Payload::Chunk(_))));
        }
        for data in [choices(MAX_ITEMS + 1), calls(MAX_ITEMS + 1)] {
            let error = classify(b"", data.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("at most 1024") && error.chars().count() < 500, "{error}");
        }
    }

    #[test]
    fn plain_text_is_borrowed() {
        let data = br#"{"choices":[{"delta":{"content":" plain"}}]}"#;
        let Payload::Chunk(chunk) = classify(b"", data).unwrap() else { panic!() };
        let content = chunk.choices().next().unwrap().delta().unwrap().content.as_ref().unwrap();
        assert!(matches!(content.0, Cow::Borrowed(" plain")));
    }

    #[test]
    fn whole_answers() {
        for (body, text) in [
            (
                r#"{"choices":[{"message":{"role":"assistant","content":"hi","reasoning":null},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
                "hi",
            ),
            (
                r#"{"choices":[{"message":{"content":null,"reasoning_content":"hm"},"finish_reason":"length"}],"usage":{}}"#,
                "hm",
            ),
            (
                r#"{"choices":[{"text":"yo","index":0,"finish_reason":"length"}],"usage":{"completion_tokens":2}}"#,
                "yo",
            ),
        ] {
            let Payload::Chunk(chunk) = whole(body.as_bytes()).unwrap() else { panic!("{body}") };
            let seen: String = chunk.texts().map(|(_, piece, _)| piece).collect();
            assert_eq!(seen, text);
            assert!(chunk.finish_reason().is_some() && chunk.usage().is_some());
        }
    }
}
