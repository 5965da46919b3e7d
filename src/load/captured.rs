//! Answers captured from real servers (`tests/fixtures/streams`, raw `curl -i` output), read as the engine reads them.
//!
//! The expected counts come from reading the files with another program. vLLM 0.32, Dynamo 1.6.1.

use super::answer::{Answer, Content, End};
use crate::metrics::record::Outcome;

/// Status, content type and body of a captured answer.
fn load(name: &str) -> (u16, String, Vec<u8>) {
    let path = format!("{}/tests/fixtures/streams/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let bytes = fs_err::read(path).unwrap();
    let head_end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default();
    (status, kind.to_owned(), bytes[head_end + 4..].to_vec())
}

fn read(name: &str, step: usize) -> (End, Content) {
    let (status, kind, body) = load(name);
    let streaming = kind.starts_with("text/event-stream");
    let mut answer = Answer::new(status, streaming);
    for (at, piece) in body.chunks(step).enumerate() {
        answer.read(at as u64, piece);
    }
    (answer.end(u64::MAX, None), answer.into_content())
}

#[test]
fn good_answers_whatever_the_reads() {
    // Content chunks, `usage` (prompt, completion), reasoning chunks before the first output.
    let table = [
        ("vllm/10-comp", 1, Some((9, 16)), 0),
        ("vllm/20-chat", 1, Some((21, 16)), 0),
        ("vllm/11-comp-stream-usage", 14, Some((9, 16)), 0),
        ("vllm/21-chat-stream-usage", 16, Some((21, 16)), 0),
        ("vllm/21-chat-stream-n2", 8, Some((21, 8)), 0),
        ("vllm/21-chat-stream-contusage", 16, Some((21, 16)), 0),
        ("vllm/21-chat-stream-nousage-default", 4, None, 0),
        ("vllm/11-comp-stream-max1", 1, Some((9, 1)), 0),
        ("vllm/11-comp-stream-logprobs", 3, Some((9, 4)), 0),
        ("vllm/21-chat-stream-min-tokens", 16, Some((21, 16)), 0),
        ("vllm-variant/ok-stream-forceusage", 6, Some((11, 23)), 0),
        ("vllm-gptoss-harmony/20-chat", 1, Some((75, 16)), 0),
        ("vllm-gptoss-harmony/21-chat-stream-usage", 9, Some((75, 16)), 8),
        ("vllm-gptoss-harmony/21-chat-stream-max1", 1, Some((75, 1)), 0),
        ("dynamo/10-comp", 1, Some((9, 16)), 0),
        ("dynamo/20-chat", 1, Some((21, 16)), 0),
        ("dynamo/11-comp-stream-usage", 16, Some((9, 16)), 0),
        ("dynamo/21-chat-stream-usage", 16, Some((21, 16)), 0),
        ("dynamo/21-chat-stream-contusage", 16, Some((21, 16)), 0),
        ("dynamo/42-nvext-annotations", 3, Some((12, 3)), 0),
        ("dynamo/42-nvext-extra", 3, Some((12, 3)), 0),
    ];
    for (name, chunks, usage, reasoning) in table {
        for step in [1, 7, 300, usize::MAX] {
            let (end, content) = read(name, step);
            assert_eq!(end, End::ok(), "{name}");
            assert_eq!(content.chunks_us.len(), chunks, "{name}");
            assert_eq!(
                content.usage.map(|usage| (usage.prompt_tokens, usage.completion_tokens)),
                usage,
                "{name}"
            );
            assert_eq!(content.finish_reason.as_deref(), Some("length"), "{name}");
            if step == 1 {
                let first = content.first_output_us.unwrap();
                let before = content.chunks_us.iter().filter(|at| **at < first).count();
                assert_eq!(before, reasoning, "{name}");
            }
        }
    }
}

#[test]
fn failures_and_their_messages() {
    let table = [
        ("dynamo/40-no-max-tokens", Outcome::ServerError, "is required by the mocker worker", 0),
        ("dynamo/90-err-too-long-chat-stream", Outcome::ServerError, "Internal server error", 0),
        ("dynamo/97-workerkill-stream", Outcome::ServerError, "Service temporarily unavailable", 254),
        ("vllm/97-sigterm-stream", Outcome::ServerError, "EngineCore encountered an issue", 272),
        ("vllm-variant/no-key-chat", Outcome::Http(401), "Unauthorized", 0),
        ("vllm-variant/overload-7", Outcome::Http(503), "The engine is currently busy", 0),
        ("vllm/90-err-not-found", Outcome::Http(404), "Not Found", 0),
        ("vllm/90-err-unknown-model", Outcome::Http(404), "The model `no-such-model` does not exist", 0),
        ("vllm/90-err-bad-json", Outcome::Http(400), "1 validation error", 0),
        ("dynamo/43-overload-13", Outcome::Http(529), "Service temporarily overloaded", 0),
        ("dynamo/41-noworker-chat", Outcome::Http(404), "(empty body)", 0),
        ("dynamo/90-err-get-chat", Outcome::Http(405), "(empty body)", 0),
        ("dynamo/90-err-unknown-model", Outcome::Http(404), "Model not found", 0),
    ];
    for (name, outcome, words, chunks) in table {
        for step in [1, 300, usize::MAX] {
            let (end, content) = read(name, step);
            assert_eq!(end.outcome, outcome, "{name}");
            assert!(end.error.unwrap_or_default().contains(words), "{name}");
            assert_eq!(content.chunks_us.len(), chunks, "{name}");
        }
    }
}

#[test]
fn a_stream_cut_anywhere_before_its_finish_is_disconnected() {
    let (status, _, body) = load("vllm/21-chat-stream-usage");
    let finish = body.windows(24).position(|part| part == b"\"finish_reason\":\"length\"").unwrap();
    for cut in (1..finish).step_by(13) {
        let mut answer = Answer::new(status, true);
        answer.read(0, &body[..cut]);
        let outcome = answer.end(1, None).outcome;
        // Less than one event is nothing at all, or a line that no field name fits yet.
        assert!(
            outcome == Outcome::Disconnected || (cut < 300 && outcome != Outcome::Ok),
            "cut at {cut}: {outcome}"
        );
    }
}
