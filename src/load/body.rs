//! The JSON body of one request, byte for byte as it is sent.
//!
//! Pure. `request_queue` builds bodies ahead of need with it; `inputs.json` and `tokmark prompts` show the same bytes.

use std::borrow::Borrow;

use serde::Serialize;
use serde::ser::{Error as _, SerializeMap as _, Serializer};
use serde_json::{Map, Value};

use crate::plan::{Endpoint, Extension, LoadPoint, MaxTokensField};
use crate::prompts::{Content, PromptPlan};

/// The body of a request to `model` with `prompt` and the settings of `point`.
///
/// * `ignore_eos` also sends `min_tokens`, which keeps the length where a server honours only it (both are extensions of vLLM,
///   SGLang, TensorRT-LLM and Dynamo).
/// * Servers report token counts in a stream only with `stream_options.include_usage`.
/// * What is in `left_out` is not sent, see [`Extension`].
/// * Other fields that a file has for this prompt are sent as they are.
/// * `extra_body` is merged last, as a JSON Merge Patch (RFC 7396): objects merge, `null` removes a field, all else replaces.
pub fn request_body(point: &LoadPoint, model: &str, prompt: &PromptPlan) -> Vec<u8> {
    // Strings, numbers and values can be written.
    serde_json::to_vec(&RequestBody { point, model, prompt }).unwrap_or_default()
}

pub struct RequestBody<'a, P> {
    pub point: &'a LoadPoint,
    pub model: &'a str,
    pub prompt: P,
}

impl<P: Borrow<PromptPlan>> Serialize for RequestBody<'_, P> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let given = &self.prompt.borrow().fields;
        if given.is_empty() && self.point.extra_body.is_empty() {
            return self.own_fields(serializer);
        }
        let mut body = self.own_fields(serde_json::value::Serializer).map_err(S::Error::custom)?;
        if let Value::Object(fields) = &mut body {
            for (key, value) in given {
                fields.entry(key.as_str()).or_insert_with(|| value.clone());
            }
            merge(fields, &self.point.extra_body);
        }
        body.serialize(serializer)
    }
}

impl<P: Borrow<PromptPlan>> RequestBody<'_, P> {
    /// Written directly, it costs a tenth of a tree of values.
    fn own_fields<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct StreamOptions {
            include_usage: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            continuous_usage_stats: Option<bool>,
        }
        let Self { point, model, prompt } = self;
        let prompt = prompt.borrow();
        let sends = |extension: Extension| !point.left_out.contains(&extension);
        let mut body = serializer.serialize_map(None)?;
        body.serialize_entry("model", model)?;
        match &prompt.content {
            Content::Messages(messages) => body.serialize_entry("messages", messages)?,
            Content::Text(text) => body.serialize_entry("prompt", text)?,
            Content::Tokens(ids) => body.serialize_entry("prompt", ids)?,
        };
        body.serialize_entry(length_field(point), &prompt.osl)?;
        if point.ignore_eos && sends(Extension::MinTokens) {
            body.serialize_entry(Extension::MinTokens.key(), &prompt.osl)?;
        }
        if point.ignore_eos && sends(Extension::IgnoreEos) {
            body.serialize_entry(Extension::IgnoreEos.key(), &true)?;
        }
        body.serialize_entry("stream", &point.streaming)?;
        if point.streaming && sends(Extension::StreamOptions) {
            let continuous = point.continuous_usage_stats && sends(Extension::ContinuousUsageStats);
            let continuous_usage_stats = continuous.then_some(true);
            let options = StreamOptions { include_usage: true, continuous_usage_stats };
            body.serialize_entry(Extension::StreamOptions.key(), &options)?;
        }
        body.end()
    }
}

/// The field that bounds the output. The completions endpoint knows one only.
fn length_field(point: &LoadPoint) -> &'static str {
    let other = point.max_tokens_field == MaxTokensField::MaxCompletionTokens
        || point.left_out.contains(&Extension::MaxTokens);
    match point.endpoint {
        Endpoint::Chat if other => "max_completion_tokens",
        Endpoint::Chat | Endpoint::Completions => "max_tokens",
    }
}

/// The extensions a request of `point` carries and could do without, in the order in which they are given up. One that
/// `extra_body` sets or removes is the user's choice, and stays.
pub(crate) fn extensions(point: &LoadPoint) -> Vec<Extension> {
    let may_go = |extension: Extension| match extension {
        Extension::ContinuousUsageStats => point.streaming && point.continuous_usage_stats,
        Extension::MinTokens | Extension::IgnoreEos => point.ignore_eos,
        Extension::StreamOptions => point.streaming,
        Extension::MaxTokens => {
            point.endpoint == Endpoint::Chat && point.max_tokens_field == MaxTokensField::Auto
        }
    };
    let of_the_user = |extension: Extension| {
        let options = point.extra_body.get(Extension::StreamOptions.key()).and_then(Value::as_object);
        match extension {
            Extension::ContinuousUsageStats => {
                options.is_some_and(|options| options.contains_key(extension.key()))
            }
            other => point.extra_body.contains_key(other.key()),
        }
    };
    let carried = |extension: &Extension| {
        may_go(*extension) && !of_the_user(*extension) && !point.left_out.contains(extension)
    };
    Extension::ALL.into_iter().filter(carried).collect()
}

fn merge(into: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, value) in patch {
        match value {
            Value::Null => {
                into.shift_remove(key);
            }
            Value::Object(fields) => {
                let slot = into.entry(key.clone()).or_insert(Value::Null);
                if !slot.is_object() {
                    *slot = Value::Object(Map::new());
                }
                if let Value::Object(existing) = slot {
                    merge(existing, fields);
                }
            }
            other => {
                into.insert(key.clone(), other.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::testing::point;
    use serde_json::json;

    fn body(point: &LoadPoint) -> String {
        let content = Content::plain(point.endpoint, "two words");
        let prompt = PromptPlan { content, osl: 5, ..PromptPlan::one_word(point.endpoint) };
        String::from_utf8(request_body(point, "m", &prompt)).unwrap()
    }

    #[test]
    fn both_endpoints_streamed_or_not() {
        assert_eq!(
            body(&LoadPoint { ignore_eos: true, ..point(1) }),
            concat!(
                r#"{"model":"m","messages":[{"role":"user","content":"two words"}],"max_tokens":5,"min_tokens":5,"ignore_eos":true,"#,
                r#""stream":true,"stream_options":{"include_usage":true}}"#
            )
        );
        assert_eq!(
            body(&LoadPoint {
                endpoint: Endpoint::Completions,
                streaming: false,
                ignore_eos: false,
                ..point(1)
            }),
            r#"{"model":"m","prompt":"two words","max_tokens":5,"stream":false}"#
        );
    }

    #[test]
    fn the_length_has_two_names_in_chat_and_one_in_completions() {
        let field = |endpoint: Endpoint, max_tokens_field: MaxTokensField, left_out: &[Extension]| {
            let left_out = left_out.to_vec();
            let text = body(&LoadPoint { endpoint, max_tokens_field, left_out, ..point(1) });
            let body: Value = serde_json::from_str(&text).unwrap();
            let found = ["max_tokens", "max_completion_tokens"].into_iter().filter(|key| body[key] == 5);
            found.collect::<Vec<_>>()
        };
        use {Endpoint::*, MaxTokensField::*};
        assert_eq!(field(Chat, Auto, &[]), ["max_tokens"]);
        assert_eq!(field(Chat, MaxTokens, &[]), ["max_tokens"]);
        assert_eq!(field(Chat, MaxCompletionTokens, &[]), ["max_completion_tokens"]);
        assert_eq!(field(Chat, Auto, &[Extension::MaxTokens]), ["max_completion_tokens"]);
        assert_eq!(field(Completions, MaxCompletionTokens, &[Extension::MaxTokens]), ["max_tokens"]);
    }

    #[test]
    fn extensions_left_out_are_neither_sent_nor_offered() {
        let all = LoadPoint { continuous_usage_stats: true, ..point(1) };
        assert!(
            body(&all).contains(r#""stream_options":{"include_usage":true,"continuous_usage_stats":true}"#)
        );
        assert_eq!(extensions(&all), Extension::ALL);
        for extension in Extension::ALL {
            let without = LoadPoint { left_out: vec![extension], ..all.clone() };
            let text = body(&without);
            assert!(!text.contains(&format!("\"{}\":", extension.key())), "{text}");
            let others = extensions(&without);
            assert!(others.len() == 4 && !others.contains(&extension), "{others:?}");
        }
        let bare =
            LoadPoint { streaming: false, ignore_eos: false, endpoint: Endpoint::Completions, ..point(1) };
        assert_eq!(extensions(&bare), []);
        let fixed = LoadPoint { max_tokens_field: MaxTokensField::MaxTokens, ..point(1) };
        assert!(!extensions(&fixed).contains(&Extension::MaxTokens));
    }

    #[test]
    fn fields_of_extra_body_are_never_left_out() {
        let extra = json!({"ignore_eos": true, "min_tokens": null, "stream_options": {"continuous_usage_stats": true}});
        let Value::Object(extra_body) = extra else { panic!() };
        let mine = LoadPoint { extra_body, continuous_usage_stats: true, ..point(1) };
        assert_eq!(extensions(&mine), [Extension::MaxTokens]);
    }

    #[test]
    fn extra_body_merges_last() {
        let extra = json!({"temperature": 0, "max_tokens": 9, "min_tokens": null, "absent": null,
            "stream_options": {"continuous_usage_stats": true}, "nvext": {"a": {"b": 1}}});
        let Value::Object(extra_body) = extra else { panic!() };
        let text =
            body(&LoadPoint { endpoint: Endpoint::Completions, ignore_eos: true, extra_body, ..point(1) });
        assert_eq!(
            text,
            concat!(
                r#"{"model":"m","prompt":"two words","max_tokens":9,"ignore_eos":true,"stream":true,"#,
                r#""stream_options":{"include_usage":true,"continuous_usage_stats":true},"temperature":0,"nvext":{"a":{"b":1}}}"#
            )
        );
    }
}
