//! Payloads of real servers and of lenient ones: what a chunk holds, what is an error, what is malformed.

use super::*;

fn chunk(data: &str) -> Chunk<'_> {
    match classify(b"", data.as_bytes()).unwrap() {
        Payload::Chunk(chunk) => chunk,
        other => panic!("{data}: {other:?}"),
    }
}

fn text_of(chunk: &Chunk<'_>) -> String {
    let texts = chunk.pieces.iter().map(|piece| piece.text.as_ref());
    String::from_utf8_lossy(&texts.collect::<Vec<_>>().concat()).into_owned()
}

/// `content`, `output`, `finish`, `usage` flags and the text of one payload.
fn seen(data: &str) -> (bool, bool, Option<String>, Option<u64>, String) {
    match classify(b"", data.as_bytes()).unwrap() {
        Payload::Chunk(chunk) => {
            let text = text_of(&chunk);
            (
                !chunk.pieces.is_empty(),
                chunk.pieces.iter().any(|piece| piece.is_output),
                chunk.finish_reason,
                chunk.usage.map(|usage| usage.completion_tokens),
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
    let usage = chunk.usage.unwrap();
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
        ("", r#"{"detail":"boom"}"#, error("boom")),
        ("", r#"{"detail":[{"loc":["body"],"msg":"boom"}]}"#, error("boom")),
        ("", r#"{"code":50000,"msg":"boom"}"#, error("boom")),
        ("", r#"{"code":"429","msg":"boom","data":null}"#, error("boom")),
        ("", r#"{"code":500,"message":"boom","choices":[]}"#, error("boom")),
        ("", r#"{"code":500,"message":"boom","choices":[{"delta":{}}],"usage":null}"#, error("boom")),
        ("", r#"{"type":"error","message":"boom"}"#, error("boom")),
        ("", r#"{"error":"boom","choices":[{"text":"x"}]}"#, error("boom")),
        ("", r#"{"error":true,"message":"boom"}"#, error("boom")),
        ("", r#"{"error_code":336100,"error_msg":"boom"}"#, error("boom")),
        ("", r#"{"success":false,"errors":[{"message":"boom"}]}"#, error("boom")),
        ("", r#"{"message":"boom","detail":""}"#, error("boom")),
        ("", r#"{"errorMessage":"boom"}"#, error("boom")),
        ("", r#"{"fault":{"faultstring":"boom"}}"#, error("boom")),
        ("", r#"{"exception":"boom"}"#, error("boom")),
        ("", r#"{"statusCode":500,"reason":"boom"}"#, error("boom")),
        ("", r#"{"status":"error","reason":"boom"}"#, error("boom")),
        ("", r#"{"status":503}"#, error(r#"{"status":503}"#)),
        ("", r#"{"success":false}"#, error(r#"{"success":false}"#)),
        ("", r#"{"choices":[{"delta":{},"error":{"message":"boom"}}]}"#, error("boom")),
        ("", r#"{"status":"in_progress"}"#, Payload::Nothing),
        ("", r#"{"status":200,"success":true}"#, Payload::Nothing),
        ("", r#"{"code":0,"msg":"success"}"#, Payload::Nothing),
        ("", r#"{"code":"200","message":"ok","data":{}}"#, Payload::Nothing),
        ("Error", r#"{"message":"boom"}"#, error("boom")),
        ("error", "", error("(empty body)")),
        ("error", r#"{"message":"boom"}"#, error("boom")),
        ("error", "boom", error("boom")),
    ];
    for (event, data, expected) in table {
        let found = classify(event.as_bytes(), data.as_bytes()).unwrap();
        assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{data}");
    }
    for data in
        ["{", "<html>", "12", "\"text\"", r#"{"choices":"no"}"#, r#"{"choices":[{"delta":{"content":5}}]}"#]
    {
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
    for choice in [r#"{"delta":{},"error":{"message":"x"}}"#, r#"{"delta":{"content":"x","error":"x"}}"#] {
        let data = format!(r#"{{"choices":[{choice}]}}"#);
        assert!(matches!(classify(b"", data.as_bytes()), Ok(Payload::Error(_))), "{choice}");
    }
    for value in ["false", "null", "0", "{}", "[]", r#""""#] {
        assert!(seen(&format!(r#"{{"error":{value},"choices":[{{"text":"x"}}]}}"#)).0, "{value}");
    }
}

#[test]
fn long_lists_are_refused_before_they_fill_memory() {
    let list = |count: usize| vec!["{}"; count].join(",");
    let choices = |count| format!(r#"{{"choices":[{}]}}"#, list(count));
    let calls = |count| format!(r#"{{"choices":[{{"delta":{{"tool_calls":[{}]}}}}]}}"#, list(count));
    for data in [choices(wire::MAX_ITEMS), calls(wire::MAX_ITEMS)] {
        assert!(matches!(classify(b"", data.as_bytes()), Ok(Payload::Chunk(_))));
    }
    for data in [choices(wire::MAX_ITEMS + 1), calls(wire::MAX_ITEMS + 1)] {
        let error = classify(b"", data.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("at most 1024") && error.chars().count() < 500, "{error}");
    }
}

#[test]
fn content_is_text_a_part_or_a_list_of_parts() {
    let text = r#"{"type":"text","text":"so"}"#;
    let thinking = r#"{"type":"thinking","thinking":[{"type":"text","text":"hm"}]}"#;
    // Output and reasoning of `content`.
    for (content, output, reasoning) in [
        (format!("[{text}]"), "so", ""),
        (format!("[{thinking}]"), "", "hm"),
        (format!("[{thinking},{text},{text}]"), "soso", "hm"),
        (text.to_owned(), "so", ""),
        (r#"["so",null,"far"]"#.to_owned(), "sofar", ""),
        (r#"[{"type":"thinking","thinking":"hm","signature":"c2ln"}]"#.to_owned(), "", "hm"),
        (r#"[{"thinking":"hm"},{"text":"so"}]"#.to_owned(), "so", "hm"),
        (r#"[{"type":"reasoning","text":"hm","summary":null}]"#.to_owned(), "", "hm"),
        (r#"[{"type":"reasoning","summary":[{"type":"summary_text","text":"hm"}]}]"#.to_owned(), "", "hm"),
        (r#"[{"type":"output_text","text":"so","annotations":[]}]"#.to_owned(), "so", ""),
        (r#"[{"type":"text","text":{"value":"so","annotations":[]}}]"#.to_owned(), "so", ""),
        (r#"[{"type":"refusal","refusal":"no"}]"#.to_owned(), "no", ""),
        (r#"[{"type":"tool_use","id":"x","name":"f","input":{"a":1}}]"#.to_owned(), "f{\"a\":1}", ""),
        (r#"[{"type":"text","text":""},{"type":"thinking","thinking":[]},{}]"#.to_owned(), "", ""),
        (
            r#"[{"type":"redacted_thinking","data":"c2VjcmV0"},{"type":"reference","reference_ids":[1]}]"#
                .to_owned(),
            "",
            "",
        ),
        ("[]".to_owned(), "", ""),
    ] {
        for (message, key) in [("delta", "content"), ("message", "content"), ("delta", "refusal")] {
            let data = format!(r#"{{"choices":[{{"{message}":{{"{key}":{content}}}}}]}}"#);
            let chunk = chunk(&data);
            let of = |is_output| {
                let pieces = chunk.pieces.iter().filter(|piece| piece.is_output == is_output);
                String::from_utf8(pieces.flat_map(|piece| piece.text.to_vec()).collect()).unwrap()
            };
            assert_eq!((of(true).as_str(), of(false).as_str()), (output, reasoning), "{data}");
            assert_eq!(chunk.unknown, None, "{data}");
        }
    }
    for other in ["5", "true", "[5]"] {
        let data = format!(r#"{{"choices":[{{"delta":{{"content":{other}}}}}]}}"#);
        assert!(classify(b"", data.as_bytes()).is_err(), "{data}");
    }
}

#[test]
fn images_and_sound_are_content_without_text() {
    for delta in [
        r#"{"content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}"#,
        r#"{"content":{"type":"image","source":{"type":"base64","data":"AA=="}}}"#,
        r#"{"images":[{"type":"image_url","image_url":{"url":"data:,A"}}]}"#,
        r#"{"audio":{"id":"a","data":"AA==","expires_at":1}}"#,
    ] {
        let data = format!(r#"{{"choices":[{{"delta":{delta}}}]}}"#);
        let image = Piece { choice: 0, is_output: true, text: Cow::Borrowed(b"") };
        assert_eq!((chunk(&data).pieces, chunk(&data).unknown), (vec![image], None), "{delta}");
    }
    let sound = chunk(r#"{"choices":[{"delta":{"audio":{"id":"a","transcript":"hi"}}}]}"#);
    assert_eq!(text_of(&sound), "hi");
}

#[test]
fn reasoning_under_several_names_counts_once() {
    for delta in [
        r#"{"reasoning":"hm","reasoning_details":[{"type":"reasoning.text","text":"hm","format":"x"}]}"#,
        r#"{"reasoning":"","reasoning_details":[{"type":"reasoning.text","text":"hm"}]}"#,
        r#"{"reasoning_content":"hm","thinking_blocks":[{"type":"thinking","thinking":"hm","signature":"s"}]}"#,
        r#"{"reasoning":{"text":"hm"},"content":[]}"#,
    ] {
        let data = format!(r#"{{"choices":[{{"delta":{delta}}}]}}"#);
        let piece = Piece { choice: 0, is_output: false, text: Cow::Borrowed(b"hm") };
        assert_eq!((chunk(&data).pieces, chunk(&data).unknown), (vec![piece], None), "{delta}");
    }
}

#[test]
fn numbers_may_be_floats_text_or_absent() {
    for (usage, expected) in [
        (r#"{"prompt_tokens":3,"completion_tokens":7}"#, Some((3, 7))),
        (r#"{"prompt_tokens":3.0,"completion_tokens":"7"}"#, Some((3, 7))),
        (r#"{"prompt_tokens":null,"completion_tokens":7.0,"total_tokens":"10"}"#, Some((0, 7))),
        (r#"{"prompt_tokens":-1,"completion_tokens":{"n":7}}"#, Some((0, 0))),
        (
            r#"{"prompt_tokens":3,"completion_tokens":7,"prompt_tokens_details":[],"completion_tokens_details":7}"#,
            Some((3, 7)),
        ),
        ("null", None),
        ("[]", None),
        (r#""none""#, None),
    ] {
        let data = format!(r#"{{"created":"now","id":7,"choices":[{{"text":"x"}}],"usage":{usage}}}"#);
        let counts = chunk(&data).usage.map(|usage| (usage.prompt_tokens, usage.completion_tokens));
        assert_eq!(counts, expected, "{usage}");
    }
    let details = r#"{"choices":[],"usage":{"prompt_tokens_details":{"cached_tokens":2.0},"completion_tokens_details":{"reasoning_tokens":"5"}}}"#;
    let usage = chunk(details).usage.unwrap();
    assert_eq!((usage.cached_tokens, usage.reasoning_tokens), (Some(2), Some(5)));
    for (index, expected) in [
        ("", 0),
        (r#""index":null,"#, 0),
        (r#""index":1.0,"#, 1),
        (r#""index":"1","#, 1),
        (r#""index":"one","#, 0),
        (r#""index":-1,"#, 0),
    ] {
        let data = format!(r#"{{"choices":[{{{index}"text":"x"}}]}}"#);
        assert_eq!(chunk(&data).pieces[0].choice, expected, "{index}");
    }
    let call = r#"{"choices":[{"delta":{"tool_calls":[{"index":null,"function":{"name":null,"arguments":{"a":1}}}]}}]}"#;
    assert_eq!(text_of(&chunk(call)), "{\"a\":1}");
    assert_eq!(text_of(&chunk(r#"{"choices":{"delta":{"content":"x"}}}"#)), "x");
    for delta in [r#"[]"#, r#"{"content":[],"tool_calls":{},"function_call":"","reasoning":false,"audio":0}"#]
    {
        let data = format!(r#"{{"choices":[{{"delta":{delta}}}]}}"#);
        assert!(chunk(&data).pieces.is_empty(), "{delta}");
    }
    assert!(chunk(r#"{"choices":null,"usage":{}}"#).pieces.is_empty());
}

#[test]
fn finish_reasons_in_any_form() {
    for (fields, expected) in [
        (r#""finish_reason":"stop""#, Some("stop")),
        (r#""finish_reason":{"type":"length","length":16.0}"#, Some("length")),
        (r#""finish_reason":null,"finish_details":{"type":"stop","stop_tokens":["1"]}"#, Some("stop")),
        (r#""finish_details":{"type":"max_tokens"},"finish_reason":"""#, Some("max_tokens")),
        (r#""finish_reason":"""#, None),
        (r#""finish_reason":" ""#, None),
        (r#""finish_reason":"null""#, None),
        (r#""finish_reason":{}"#, None),
        (r#""finish_reason":false"#, None),
    ] {
        let data = format!(r#"{{"choices":[{{"text":"",{fields}}}]}}"#);
        assert_eq!(chunk(&data).finish_reason.as_deref(), expected, "{fields}");
    }
}

#[test]
fn text_under_an_unknown_key_is_named() {
    for (data, expected) in [
        (r#"{"choices":[{"delta":{"thoughts":"hm"}}]}"#, Some("delta.thoughts")),
        (
            r#"{"choices":[{"delta":{"role":"assistant","content":"","thoughts":"hm"}}]}"#,
            Some("delta.thoughts"),
        ),
        (
            r#"{"choices":[{"message":{"content":"so","analysis":[{"text":"hm"}]}}]}"#,
            Some("message.analysis"),
        ),
        (r#"{"choices":[{"delta":{"content":[{"type":"musing","musing":"hm"}]}}]}"#, Some("content.musing")),
        (r#"{"choices":[{"output":"hm"}]}"#, Some("choices.output")),
        (r#"{"response":"hm"}"#, Some("response")),
        (r#"{"choices":[{"delta":{"thoughts":""}}]}"#, None),
        (r#"{"choices":[{"delta":{"thoughts":7,"confidence":[0.5]}}]}"#, None),
        (
            r#"{"id":"c","object":"o","model":"m","system_fingerprint":"f","choices":[{"delta":{"role":"assistant","content":"x","name":"n","tool_call_id":"t"},"matched_stop":"</s>","stop_reason":"eos","native_finish_reason":"STOP","logprobs":{"content":[{"token":"x"}]},"content_filter_results":{"hate":{"severity":"safe"}}}],"service_tier":"default"}"#,
            None,
        ),
    ] {
        let seen = classify(b"", data.as_bytes()).unwrap();
        let Payload::Chunk(chunk) = seen else { panic!("{data}: {seen:?}") };
        assert_eq!(chunk.unknown.as_deref(), expected, "{data}");
    }
}

#[test]
fn plain_text_is_borrowed() {
    let data = br#"{"choices":[{"delta":{"content":" plain"}}]}"#;
    let Payload::Chunk(chunk) = classify(b"", data).unwrap() else { panic!() };
    assert!(matches!(chunk.pieces[0].text, Cow::Borrowed(b" plain")));
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
        assert_eq!(text_of(&chunk), text);
        assert!(chunk.finish_reason.is_some() && chunk.usage.is_some());
    }
}
