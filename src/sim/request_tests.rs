//! Requests by table: what is understood, what is refused and with which status and message.

use super::*;

fn config() -> SimConfig {
    let overrides =
        crate::sim::Overrides { model: Some("m".into()), max_model_len: Some(100), ..Default::default() };
    SimConfig::new("quick", &overrides).expect("sound")
}

fn parse(endpoint: Endpoint, body: &str) -> Result<InferenceRequest, ApiError> {
    InferenceRequest::parse(endpoint, body.as_bytes(), &config())
}

#[test]
fn chat_counts_the_words_of_all_messages() {
    let body = r#"{"model":"m","max_tokens":7,"ignore_eos":true,"messages":[{"role":"system","content":"be brief"},
        {"role":"user","content":[{"type":"text","text":"three more words"}]},{"role":"assistant","content":null}]}"#;
    let request = parse(Endpoint::Chat, body).expect("sound");
    assert_eq!((request.prompt_tokens, request.output_tokens, request.finish), (5, 7, FinishReason::Length));
    assert!(!request.stream && !request.include_usage);
}

#[test]
fn prompts_are_a_string_one_string_or_token_ids() {
    for (prompt, tokens) in
        [(r#""a b c""#, 3), (r#"["a b"]"#, 2), ("[1,2,3,4]", 4), ("[[1,2,3]]", 3), (r#"" ""#, 1)]
    {
        let request = parse(Endpoint::Completions, &format!(r#"{{"prompt":{prompt},"ignore_eos":true}}"#))
            .expect(prompt);
        assert_eq!((request.prompt_tokens, request.output_tokens), (tokens, 16), "{prompt}");
    }
}

#[test]
fn answer_lengths_are_deterministic() {
    let lengths: Vec<_> = (0..400)
        .map(|n| {
            let body = format!(r#"{{"prompt":"prompt {n}","max_tokens":90,"min_tokens":5}}"#);
            let request = parse(Endpoint::Completions, &body).expect("sound");
            assert_eq!(Ok(&request), parse(Endpoint::Completions, &body).as_ref());
            assert_eq!(request.finish == FinishReason::Length, request.output_tokens == 90);
            request.output_tokens
        })
        .collect();
    assert!(lengths.iter().all(|length| (5..=90).contains(length)));
    // Exponential with mean 128: half (1 − e^(−90/128) = 50.5%) end before 90.
    let stopped = lengths.iter().filter(|length| **length < 90).count();
    assert!((170..235).contains(&stopped), "{stopped} of 400");
}

#[test]
fn max_completion_tokens_wins_over_max_tokens() {
    let chat = |extra: &str| {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"a b"}}],"ignore_eos":true{extra}}}"#);
        parse(Endpoint::Chat, &body).expect("sound").output_tokens
    };
    assert_eq!(chat(""), 98);
    assert_eq!(chat(r#","max_tokens":3"#), 3);
    assert_eq!(chat(r#","max_tokens":3,"max_completion_tokens":4"#), 4);
}

#[test]
fn stream_options_are_read() {
    let body = r#"{"prompt":"a","stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}}"#;
    let request = parse(Endpoint::Completions, body).expect("sound");
    assert!(request.stream && request.include_usage && request.continuous_usage);
}

#[test]
fn errors_have_vllms_status_type_and_param() {
    use Endpoint::{Chat, Completions};
    let long = "w ".repeat(100);
    let too_long = format!(r#"{{"prompt":"{long}"}}"#);
    let cases = [
        (Chat, "", 400, "Field required"),
        (Chat, "{", 400, "JSON decode error"),
        (Chat, "[]", 400, "valid dictionary"),
        (
            Chat,
            r#"{"model":"x","messages":[{"role":"user","content":"a"}]}"#,
            404,
            "The model `x` does not exist. Valid aliases: m.",
        ),
        (Chat, r#"{"model":"m"}"#, 400, "body.messages"),
        (Chat, r#"{"messages":[]}"#, 400, "empty conversation"),
        (Chat, r#"{"messages":"hi"}"#, 400, "valid list"),
        (Chat, r#"{"messages":[{"content":"a"}]}"#, 400, "body.messages.0.role"),
        (Chat, r#"{"messages":[{"role":"user","content":3}]}"#, 400, "valid string"),
        (Completions, "{}", 400, "Either prompt or prompt_embeds"),
        (Completions, r#"{"prompt":""}"#, 400, "Either prompt or prompt_embeds"),
        (Completions, r#"{"prompt":[]}"#, 400, "Either prompt or prompt_embeds"),
        (Completions, r#"{"prompt":["a","b"]}"#, 400, "one prompt, got 2"),
        (Completions, r#"{"prompt":[1,"a"]}"#, 400, "valid string"),
        (Completions, r#"{"prompt":"a","n":2}"#, 400, "n must be 1, got 2"),
        (Completions, r#"{"prompt":"a","n":0}"#, 400, "n must be at least 1, got 0"),
        (Completions, r#"{"prompt":"a","max_tokens":0}"#, 400, "max_tokens must be at least 1, got 0"),
        (Completions, r#"{"prompt":"a","max_tokens":"many"}"#, 400, "valid integer"),
        (Completions, r#"{"prompt":"a","max_tokens":101}"#, 400, "cannot be greater than max_model_len=100"),
        (Completions, r#"{"prompt":"a","max_tokens":100}"#, 400, "maximum context length is 100 tokens"),
        (Completions, r#"{"prompt":"a","max_tokens":3,"min_tokens":4}"#, 400, "min_tokens must be less"),
        (Completions, r#"{"prompt":"a","stream":"yes"}"#, 400, "valid boolean"),
        (Completions, r#"{"prompt":"a","stream_options":{}}"#, 400, "Stream options can only"),
        (Completions, too_long.as_str(), 400, "even without any output tokens"),
    ];
    for (endpoint, body, status, expected) in cases {
        let error = parse(endpoint, body).expect_err(body);
        assert_eq!(error.status.as_u16(), status, "{body}");
        let json: Value = serde_json::from_str(&error.body).expect("JSON");
        assert_eq!(json["error"]["code"], status, "{body}");
        let message = json["error"]["message"].as_str().expect("a message");
        assert!(message.contains(expected), "{body}: {message}");
    }
}
