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
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::load::error_body;
use crate::metrics::record::Usage;

/// Meaning of one `data:` payload.
#[derive(Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a box would be an allocation for every token")]
pub enum Payload<'a> {
    /// A part of the answer.
    Chunk(Chunk<'a>),
    /// `[DONE]`: nothing follows.
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
#[derive(Debug, Default, PartialEq, Deserialize)]
pub struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Option<Few<Choice<'a>>>,
    #[serde(default)]
    usage: Option<WireUsage>,
    #[serde(default)]
    error: Option<Truthy>,
    #[serde(borrow, default)]
    object: Option<Text<'a>>,
    #[serde(default)]
    message: Option<IgnoredAny>,
}

impl<'a> Chunk<'a> {
    /// `{"error":…}`, vLLM's older `{"object":"error",…}`, or a flat error object in place of a chunk.
    fn is_error(&self) -> bool {
        self.error.as_ref().is_some_and(|error| error.0)
            || self.object.as_ref().is_some_and(|object| object.0 == "error")
            || (self.choices.is_none() && self.usage.is_none() && self.message.is_some())
    }

    fn choices(&self) -> impl Iterator<Item = &Choice<'a>> {
        self.choices.iter().flat_map(Few::iter)
    }

    /// Whether it carries content: non-empty text, reasoning text or a tool-call delta, in any choice.
    pub fn has_content(&self) -> bool {
        self.choices().any(|choice| choice.has_output() || choice.has_reasoning())
    }

    /// Whether it carries content that is not reasoning.
    pub fn has_output(&self) -> bool {
        self.choices().any(Choice::has_output)
    }

    /// Every piece of generated text, reasoning and tool-call arguments included, with the index of its choice and whether it
    /// is something else than reasoning.
    pub fn for_each_text(&self, mut take: impl FnMut(u64, &str, bool)) {
        for choice in self.choices() {
            let Some(delta) = choice.delta() else {
                if let Some(text) = &choice.text {
                    take(choice.index, &text.0, true);
                }
                continue;
            };
            for (text, is_output) in [(delta.reasoning(), false), (delta.content.as_ref(), true)] {
                if let Some(text) = text {
                    take(choice.index, &text.0, is_output);
                }
            }
            for call in delta.calls() {
                for text in [&call.name, &call.arguments].into_iter().flatten() {
                    take(choice.index, &text.0, true);
                }
            }
        }
    }

    /// The text and its choice, when the chunk holds nothing else.
    pub(crate) fn only_text(&self) -> Option<(u64, &str)> {
        if self.usage.is_some() || self.finish_reason().is_some() {
            return None;
        }
        let choices = self.choices.as_ref().filter(|choices| choices.rest.is_empty())?;
        let choice = choices.first.as_ref()?;
        let texts = match choice.delta() {
            Some(delta) if delta.calls().next().is_some() => return None,
            Some(delta) => [delta.reasoning(), delta.content.as_ref()],
            None => [choice.text.as_ref(), None],
        };
        let mut texts = texts.into_iter().flatten().filter(|text| !text.0.is_empty());
        let text = texts.next()?;
        texts.next().is_none().then_some((choice.index, text.0.as_ref()))
    }

    /// Why a choice ended, once it has.
    pub fn finish_reason(&self) -> Option<&str> {
        self.choices().find_map(|choice| choice.finish_reason.as_ref()).map(|reason| reason.0.as_ref())
    }

    /// Token counts, when this chunk has them.
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
#[derive(Debug, PartialEq)]
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

/// Whether a value of any type is set: all but `false` and `null` are. The value itself is skipped.
#[derive(Debug, PartialEq)]
struct Truthy(bool);

impl<'de> Deserialize<'de> for Truthy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Look;
        impl<'de> Visitor<'de> for Look {
            type Value = Truthy;

            fn expecting(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
                f.write_str("any value")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Truthy, E> {
                Ok(Truthy(value))
            }

            fn visit_unit<E>(self) -> Result<Truthy, E> {
                Ok(Truthy(false))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Truthy, E> {
                Ok(Truthy(true))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Truthy, E> {
                Ok(Truthy(true))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Truthy, E> {
                Ok(Truthy(true))
            }

            fn visit_str<E>(self, _: &str) -> Result<Truthy, E> {
                Ok(Truthy(true))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Truthy, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Truthy(true))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Truthy, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Truthy(true))
            }
        }
        deserializer.deserialize_any(Look)
    }
}

#[derive(Debug, Default, PartialEq, Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u64,
    /// Chat, streamed.
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    /// Chat, whole.
    #[serde(borrow, default)]
    message: Option<Delta<'a>>,
    /// Completions.
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Text<'a>>,
}

impl<'a> Choice<'a> {
    fn delta(&self) -> Option<&Delta<'a>> {
        self.delta.as_ref().or(self.message.as_ref())
    }

    fn has_output(&self) -> bool {
        filled(self.text.as_ref())
            || self.delta().is_some_and(|delta| {
                filled(delta.content.as_ref())
                    || delta.calls().any(|call| filled(call.name.as_ref()) || filled(call.arguments.as_ref()))
            })
    }

    fn has_reasoning(&self) -> bool {
        self.delta().is_some_and(|delta| filled(delta.reasoning()))
    }
}

#[derive(Debug, Default, PartialEq, Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<Text<'a>>,
    #[serde(borrow, default)]
    reasoning: Option<Text<'a>>,
    #[serde(borrow, default)]
    reasoning_content: Option<Text<'a>>,
    #[serde(borrow, default)]
    tool_calls: Option<Few<ToolCall<'a>>>,
    /// The older form of `tool_calls`.
    #[serde(borrow, default)]
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

#[derive(Debug, Default, PartialEq, Deserialize)]
struct ToolCall<'a> {
    #[serde(borrow, default)]
    function: Option<Function<'a>>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
struct Function<'a> {
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    arguments: Option<Text<'a>>,
}

/// A string that borrows when it has no escapes. (serde borrows a bare `Cow` field only, never an `Option<Cow>`.)
#[derive(Debug, PartialEq, Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn filled(text: Option<&Text<'_>>) -> bool {
    text.is_some_and(|text| !text.0.is_empty())
}

#[derive(Debug, PartialEq, Deserialize)]
struct WireUsage {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `content`, `output`, `finish`, `usage` flags and the text of one payload.
    fn seen(data: &str) -> (bool, bool, Option<String>, Option<u64>, String) {
        match classify(b"", data.as_bytes()).unwrap() {
            Payload::Chunk(chunk) => {
                let mut text = String::new();
                chunk.for_each_text(|_, piece, _| text.push_str(piece));
                (
                    chunk.has_content(),
                    chunk.has_output(),
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
            assert_eq!(&classify(event.as_bytes(), data.as_bytes()).unwrap(), expected, "{data}");
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
            let mut seen = String::new();
            chunk.for_each_text(|_, piece, _| seen.push_str(piece));
            assert_eq!((seen.as_str(), chunk.has_content()), (text, true));
            assert!(chunk.finish_reason().is_some() && chunk.usage().is_some());
        }
    }
}
