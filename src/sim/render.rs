//! The bytes of an answer, in vLLM's stream and unary shapes.
//!
//! The constant parts are rendered once per request, so a token costs two copies and no serialisation. Pure.

use std::fmt::Write as _;
use std::sync::LazyLock;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::json;

use super::engine::FinishReason;
use super::request::{Endpoint, InferenceRequest};

/// `system_fingerprint` of every answer.
pub(super) const FINGERPRINT: &str = "tokmark-sim";

/// The text that answers repeat: one word is one token, and none needs escaping in JSON.
static VOCABULARY: LazyLock<Vec<&str>> = LazyLock::new(|| {
    "the model reads a prompt and writes one word after another while batch grows with each request \
     that waits in queue for its turn to run on simulated engine where time is counted by step not \
     guessed from memory of past runs blocks hold keys values until answer ends then they are free \
     again so next may enter this text means nothing at all"
        .split(' ')
        .collect()
});

/// Renders one request's answer.
#[derive(Debug)]
pub(super) struct Renderer {
    request: InferenceRequest,
    id: String,
    created: u64,
    model: String,
    /// A chunk up to `"choices":[`.
    head: Vec<u8>,
    /// A chunk with a token, up to the text.
    token_head: Vec<u8>,
}

impl Renderer {
    /// A renderer for the answer with this id; `created` in Unix seconds.
    pub(super) fn new(request: InferenceRequest, id: String, created: u64, model: String) -> Self {
        let object = match request.endpoint {
            Endpoint::Chat => "chat.completion.chunk",
            Endpoint::Completions => "text_completion",
        };
        // `json!` of a string is its quoted, escaped form.
        let head = format!(
            r#"data: {{"id":{},"object":"{object}","created":{created},"model":{},"choices":["#,
            json!(id),
            json!(model)
        );
        let opening = match request.endpoint {
            Endpoint::Chat => r#"{"index":0,"delta":{"content":""#,
            Endpoint::Completions => r#"{"index":0,"text":""#,
        };
        let token_head = format!("{head}{opening}").into_bytes();
        Self { request, id, created, model, head: head.into_bytes(), token_head }
    }

    /// The request being answered.
    pub(super) fn request(&self) -> &InferenceRequest {
        &self.request
    }

    /// The event of the `nth` token (from 1); a chat has an event with only the role before the first.
    pub(super) fn token(&self, out: &mut BytesMut, nth: u32, finish: Option<FinishReason>) {
        if nth == 1 && self.request.endpoint == Endpoint::Chat {
            self.role(out);
        }
        out.put_slice(&self.token_head);
        if nth > 1 {
            out.put_u8(b' ');
        }
        out.put_slice(self.word(nth).as_bytes());
        let (closing, extra) = match self.request.endpoint {
            Endpoint::Chat => (r#""},"logprobs":null,"finish_reason":"#, r#","token_ids":null}]"#),
            Endpoint::Completions => {
                (r#"","logprobs":null,"finish_reason":"#, r#","prompt_token_ids":null,"token_ids":null}]"#)
            }
        };
        out.put_slice(closing.as_bytes());
        match (finish, self.request.endpoint) {
            (None, Endpoint::Chat) => out.put_slice(b"null"),
            (None, Endpoint::Completions) => out.put_slice(br#"null,"stop_reason":null"#),
            (Some(reason), _) => {
                out.put_u8(b'"');
                out.put_slice(reason.as_str().as_bytes());
                out.put_slice(br#"","stop_reason":null"#);
            }
        }
        out.put_slice(extra.as_bytes());
        if self.request.continuous_usage {
            self.usage(out, nth);
        }
        out.put_slice(b"}\n\n");
    }

    /// The end: the usage event if requested, and `[DONE]`.
    pub(super) fn end(&self, out: &mut BytesMut, generated: u32) {
        if self.request.include_usage {
            out.put_slice(&self.head);
            out.put_u8(b']');
            self.usage(out, generated);
            out.put_slice(format!(",\"system_fingerprint\":\"{FINGERPRINT}\"}}\n\n").as_bytes());
        }
        out.put_slice(b"data: [DONE]\n\n");
    }

    /// The whole answer as one JSON body.
    pub(super) fn unary(&self, generated: u32, finish: FinishReason) -> Bytes {
        let text = (1..=generated).map(|nth| self.word(nth)).collect::<Vec<_>>().join(" ");
        let (object, choice) = match self.request.endpoint {
            Endpoint::Chat => {
                let message =
                    json!({"role": "assistant", "content": text, "refusal": null, "reasoning": null});
                let choice = json!({"index": 0, "message": message, "logprobs": null,
                    "finish_reason": finish.as_str(), "stop_reason": null, "token_ids": null});
                ("chat.completion", choice)
            }
            Endpoint::Completions => {
                let choice = json!({"index": 0, "text": text, "logprobs": null,
                    "finish_reason": finish.as_str(), "stop_reason": null, "token_ids": null});
                ("text_completion", choice)
            }
        };
        let prompt = self.request.prompt_tokens;
        let usage = json!({"prompt_tokens": prompt, "total_tokens": u64::from(prompt) + u64::from(generated),
            "completion_tokens": generated, "prompt_tokens_details": null});
        let body = json!({"id": self.id, "object": object, "created": self.created, "model": self.model,
            "choices": [choice], "system_fingerprint": FINGERPRINT, "usage": usage});
        Bytes::from(body.to_string())
    }

    fn role(&self, out: &mut BytesMut) {
        out.put_slice(&self.head);
        out.put_slice(
            br#"{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]"#,
        );
        if self.request.continuous_usage {
            self.usage(out, 0);
        }
        out.put_slice(b",\"prompt_token_ids\":null}\n\n");
    }

    fn usage(&self, out: &mut BytesMut, generated: u32) {
        let prompt = self.request.prompt_tokens;
        let total = u64::from(prompt) + u64::from(generated);
        // Writing to a BytesMut cannot fail, because it grows.
        let _ = write!(
            out,
            r#","usage":{{"prompt_tokens":{prompt},"total_tokens":{total},"completion_tokens":{generated}}}"#
        );
    }

    fn word(&self, nth: u32) -> &'static str {
        let at = self.request.text_seed.wrapping_add(u64::from(nth)) % VOCABULARY.len() as u64;
        VOCABULARY[at as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn renderer(endpoint: Endpoint, include_usage: bool, continuous_usage: bool) -> Renderer {
        let request = InferenceRequest {
            endpoint,
            stream: true,
            include_usage,
            continuous_usage,
            prompt_tokens: 9,
            output_tokens: 2,
            finish: FinishReason::Length,
            text_seed: 63,
        };
        Renderer::new(request, "id-\"1".into(), 1_795_312_764, "m".into())
    }

    fn stream(renderer: &Renderer) -> Vec<Value> {
        let mut out = BytesMut::new();
        renderer.token(&mut out, 1, None);
        renderer.token(&mut out, 2, Some(FinishReason::Length));
        renderer.end(&mut out, 2);
        let text = String::from_utf8(out.to_vec()).expect("UTF-8");
        let events: Vec<&str> = text.split_terminator("\n\n").collect();
        let (done, events) = events.split_last().expect("events");
        assert_eq!(*done, "data: [DONE]");
        let json =
            |event: &&str| serde_json::from_str(event.strip_prefix("data: ").expect("data")).expect(event);
        events.iter().map(json).collect()
    }

    #[test]
    fn a_completion_stream_has_vllms_bytes() {
        let mut out = BytesMut::new();
        renderer(Endpoint::Completions, false, false).token(&mut out, 2, None);
        let expected = concat!(
            r#"data: {"id":"id-\"1","object":"text_completion","created":1795312764,"model":"m","choices":[{"index":0,"#,
            r#""text":" model","logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"#,
            r#""token_ids":null}]}"#,
            "\n\n"
        );
        assert_eq!(out, expected);
    }

    #[test]
    fn a_chat_stream_is_role_tokens_finish_usage_done() {
        let events = stream(&renderer(Endpoint::Chat, true, false));
        assert_eq!(events.len(), 4);
        assert_eq!(events[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
        assert_eq!(events[1]["choices"][0]["delta"], json!({"content": "the"}));
        assert_eq!(events[1]["choices"][0]["finish_reason"], Value::Null);
        assert_eq!(events[2]["choices"][0]["finish_reason"], "length");
        assert_eq!(events[3]["choices"], json!([]));
        assert_eq!(
            events[3]["usage"],
            json!({"prompt_tokens": 9, "total_tokens": 11, "completion_tokens": 2})
        );
        assert_eq!(events[3]["system_fingerprint"], "tokmark-sim");
        assert!(events.iter().all(|event| event["id"] == "id-\"1"));
    }

    #[test]
    fn usage_is_in_every_event_only_on_request() {
        let counts = |events: &[Value]| -> Vec<_> {
            events.iter().map(|event| event["usage"]["completion_tokens"].as_u64()).collect()
        };
        let chat = stream(&renderer(Endpoint::Chat, true, true));
        assert_eq!(counts(&chat), [Some(0), Some(1), Some(2), Some(2)]);
        let plain = stream(&renderer(Endpoint::Completions, false, false));
        assert_eq!(counts(&plain), [None, None]);
    }

    #[test]
    fn a_unary_answer_has_as_many_words_as_tokens() {
        for endpoint in [Endpoint::Chat, Endpoint::Completions] {
            let body = renderer(endpoint, false, false).unary(5, FinishReason::Stop);
            let json: Value = serde_json::from_slice(&body).expect("JSON");
            let choice = &json["choices"][0];
            let text = choice["text"].as_str().or(choice["message"]["content"].as_str()).expect("a text");
            assert_eq!(crate::sim::count_words(text), 5);
            assert_eq!(
                (&choice["finish_reason"], &json["usage"]["total_tokens"]),
                (&json!("stop"), &json!(14))
            );
        }
    }
}
