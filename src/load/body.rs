//! The JSON body of one request, byte for byte as it is sent.
//!
//! Pure. `supply` builds bodies ahead of need with it; `inputs.json` and `tokmark prompts` show the same bytes.

use serde_json::{Map, Value, json};

use super::prompts::PromptPlan;
use crate::plan::{Endpoint, LoadPoint};

/// The body that asks `model` to answer `prompt` as `point` wants it.
///
/// * Length: `max_tokens` on both endpoints. Chat's newer name `max_completion_tokens` is not used: every server driven so far
///   takes `max_tokens`, and Dynamo's mocker refuses a request without it.
/// * `ignore_eos`: `ignore_eos` and `min_tokens`, extensions of vLLM, SGLang, TensorRT-LLM and Dynamo; the second keeps the
///   length where a server honours only it.
/// * Streaming: `stream_options.include_usage`, without which servers do not report token counts in a stream.
/// * Sampling parameters are left to the server unless `extra_body` sets them.
/// * `extra_body` is merged last, as a JSON Merge Patch (RFC 7396): objects merge, `null` removes a field, all else replaces.
pub fn request_body(point: &LoadPoint, model: &str, prompt: &PromptPlan) -> Vec<u8> {
    let mut body = Map::new();
    let mut set = |key: &str, value: Value| body.insert(key.to_owned(), value);
    set("model", model.into());
    match point.endpoint {
        Endpoint::Chat => set("messages", json!([{"role": "user", "content": prompt.text}])),
        Endpoint::Completions => set("prompt", prompt.text.as_str().into()),
    };
    set("max_tokens", prompt.osl.into());
    if point.ignore_eos {
        set("min_tokens", prompt.osl.into());
        set("ignore_eos", true.into());
    }
    set("stream", point.streaming.into());
    if point.streaming {
        set("stream_options", json!({"include_usage": true}));
    }
    merge(&mut body, &point.extra_body);
    Value::Object(body).to_string().into_bytes()
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

    fn body(point: &LoadPoint) -> String {
        let prompt = PromptPlan { id: 0, text: "two words".into(), isl: 2, osl: 5 };
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
