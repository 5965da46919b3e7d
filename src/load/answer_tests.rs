//! Answers read by read: forms of the body, ends, errors in the stream, content that is not known.

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
        (&[TEXT, "data: {\"choices\":[{\"index\":1,\"text\":\"b\"}]}\n\n", FINISH], Outcome::Disconnected),
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
        format!("data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":1,\"completion_tokens\":{n}}}}}\n\n")
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
    for status in [201, 203] {
        assert_eq!([false, true].map(|streaming| read(status, streaming, good).0), [End::ok(), End::ok()]);
    }
    let page = "<html><title>Sign in</title></html>";
    assert!(read(200, true, page).0.error.is_some_and(|words| words.ends_with("no events: Sign in")));
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
    let event =
        |key: &str, text: &str| format!("data: {{\"choices\":[{{\"delta\":{{\"{key}\":\"{text}\"}}}}]}}\n\n");
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
