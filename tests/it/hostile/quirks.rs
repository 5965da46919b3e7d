//! What real servers send that a client easily gets wrong, over the wire. The whole captured answers are read in
//! `src/load/captured.rs`; here each quirk stands alone, in the words of the server that has it.

use super::rows::{DONE, FINISH, ROLE, TOKEN, USAGE, parts, stream, stream_head};
use super::server::{Server, Step, send};
use super::{outcomes, point, run};
use tokmark::internals::metrics::{Outcome, RequestRecord};
use tokmark::internals::plan::LoadPoint;

/// The record of one request answered so.
fn record(steps: Vec<Step>) -> RequestRecord {
    let server = Server::play(move |_| steps.clone());
    run(server.address, point(1, 1)).remove(0)
}

fn delta(fields: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,\"delta\":{fields},\"finish_reason\":null}}]}}\n\n"
    )
}

#[test]
fn what_is_content_and_what_is_not() {
    let role = |fields: &str| delta(&format!("{{\"role\":\"assistant\"{fields}}}"));
    let say = |word: &str| delta(&format!("{{\"content\":\" {word}\"}}"));
    let think = |name: &str| delta(&format!("{{\"{name}\":\" hm\"}}"));
    let usage = |count: u32| {
        format!(
            "data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":20,\"completion_tokens\":{count}}}}}\n\n"
        )
    };
    let both = delta("{\"reasoning\":\" hm\",\"reasoning_content\":\" hm\"}");
    let whole = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" all of it at once\"},\"finish_reason\":\"length\"}]}\n\n";
    let rides = "data: {\"choices\":[{\"text\":\" a\",\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":3}}\n\n";
    let text = |text: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"text\":\"{text}\",\"finish_reason\":null}}],\"usage\":null}}\n\n"
        )
    };
    let second = "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\" b\"}}]}\n\n";
    let tool = delta(
        "{\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}",
    );
    let arguments = delta("{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{}\"}}]}");
    let (finish, done) = (FINISH.to_owned(), DONE.to_owned());
    // Events; content chunks; content chunks that are reasoning and come before the first output; OSL.
    type Case = (&'static str, Vec<String>, usize, usize, u64);
    let table: Vec<Case> = vec![
        (
            "role chunk apart (vLLM)",
            vec![role(",\"content\":\"\""), say("a"), say("b"), finish.clone(), usage(2), done.clone()],
            2,
            0,
            2,
        ),
        (
            "role chunk apart, content null (llama-server)",
            vec![role(",\"content\":null"), say("a"), finish.clone(), done.clone()],
            1,
            0,
            1,
        ),
        (
            "role in the first content chunk (Dynamo)",
            vec![role(",\"content\":\" a\""), say("b"), finish.clone(), usage(2), done.clone()],
            2,
            0,
            2,
        ),
        ("no role at all", vec![say("a"), say("b"), finish.clone(), usage(2), done.clone()], 2, 0, 2),
        (
            "chunks are not tokens (vLLM, stream interval 5)",
            vec![role(""), say("a"), say("b c d e f"), finish.clone(), usage(11), done.clone()],
            2,
            0,
            11,
        ),
        (
            "half a UTF-8 character is an empty chunk (vLLM)",
            vec![role(""), delta("{\"content\":\"\"}"), say("é"), finish.clone(), usage(2), done.clone()],
            1,
            0,
            2,
        ),
        (
            "`delta.reasoning` (vLLM)",
            vec![
                role(""),
                think("reasoning"),
                think("reasoning"),
                say("a"),
                finish.clone(),
                usage(3),
                done.clone(),
            ],
            3,
            2,
            3,
        ),
        (
            "`delta.reasoning_content` (Dynamo)",
            vec![role(""), think("reasoning_content"), say("a"), finish.clone(), usage(2), done.clone()],
            2,
            1,
            2,
        ),
        ("both names with one text", vec![both, say("a"), finish.clone(), done.clone()], 2, 1, 2),
        ("reasoning only", vec![think("reasoning"), finish.clone(), usage(9), done.clone()], 1, 1, 9),
        (
            "a whole gpt-oss answer in the last chunk",
            vec![role(",\"content\":\"\""), whole.to_owned(), usage(512), done.clone()],
            1,
            0,
            512,
        ),
        (
            "Harmony frames are empty deltas (Dynamo)",
            vec![delta("{}"), delta("{}"), say("a"), finish.clone(), usage(4), done.clone()],
            1,
            0,
            4,
        ),
        (
            "`data: null` first (llama-server)",
            vec!["data: null\n\n".to_owned(), say("a"), finish.clone(), usage(1), done.clone()],
            1,
            0,
            1,
        ),
        (
            "comments before the first data",
            vec![
                ": keep-alive\n\n".to_owned(),
                ":\n\n:\n\n".to_owned(),
                say("a"),
                finish.clone(),
                usage(1),
                done.clone(),
            ],
            1,
            0,
            1,
        ),
        (
            "an event whose value is in a comment (Dynamo)",
            vec![
                "event: request_id\n: \"c3bb\"\n\n".to_owned(),
                say("a"),
                finish.clone(),
                usage(1),
                done.clone(),
            ],
            1,
            0,
            1,
        ),
        (
            "completions, usage null on every chunk (Dynamo)",
            vec![text(" a"), text(" b"), text(""), rides.to_owned(), done.clone()],
            3,
            0,
            3,
        ),
        (
            "usage on every chunk, from 0 (vLLM)",
            vec![usage(0), say("a"), usage(1), say("b"), usage(2), finish.clone(), done.clone()],
            2,
            0,
            2,
        ),
        ("no usage", vec![say("a"), say("b c"), finish.clone(), done.clone()], 2, 0, 3),
        ("usage of 0 beside text", vec![say("a b"), finish.clone(), usage(0), done.clone()], 1, 0, 2),
        ("no `[DONE]` (transformers serve)", vec![say("a"), finish.clone(), usage(1)], 1, 0, 1),
        (
            "two choices",
            vec![say("a"), second.to_owned(), say("c"), finish.clone(), usage(3), done.clone()],
            3,
            0,
            3,
        ),
        ("a tool call", vec![role(""), tool, arguments, finish, usage(7), done], 2, 0, 7),
    ];
    for (name, events, chunks, reasoning, osl) in table {
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        let one_by_one: Vec<Step> = [send(stream_head())]
            .into_iter()
            .chain(events.iter().map(|event| Step::Drip(parts(&[event]).into_bytes())))
            .chain([send("0\r\n\r\n")])
            .collect();
        for steps in [vec![send(stream(&events))], vec![send(stream(&[&events.concat()]))], one_by_one] {
            let record = record(steps);
            assert_eq!((record.outcome, record.error.as_deref()), (Outcome::Ok, None), "{name}");
            assert_eq!((record.chunks_us.len(), record.osl), (chunks, osl), "{name}");
            match record.first_output_us {
                Some(first) => assert!(first >= record.chunks_us[reasoning], "{name}: {record:?}"),
                None => assert_eq!(reasoning, chunks, "{name}"),
            }
        }
    }
}

#[test]
fn an_error_in_a_stream_is_one_though_done_follows() {
    for (error, words) in [
        (
            "{\"error\":{\"message\":\"Internal server error\",\"type\":\"internal_server_error\",\"code\":500}}",
            "Internal server error",
        ),
        ("{\"error\":\"EngineCore died\"}", "EngineCore died"),
        ("{\"object\":\"error\",\"message\":\"old vLLM\",\"code\":400}", "old vLLM"),
        (
            "{\"message\":\"Service temporarily unavailable\",\"type\":\"service_unavailable\",\"code\":503}",
            "Service temporarily unavailable",
        ),
    ] {
        let error = format!("data: {error}\n\n");
        for before in [vec![], vec![ROLE, TOKEN]] {
            let events = [before.clone(), vec![error.as_str(), USAGE, DONE]].concat();
            let record = record(vec![send(stream(&events))]);
            assert_eq!((record.outcome, record.error.as_deref()), (Outcome::ServerError, Some(words)));
            assert_eq!(record.chunks_us.len(), before.len() / 2);
        }
    }
}

#[test]
fn while_no_worker_is_up_a_404_without_body_comes() {
    // Dynamo, as captured: no content type, no body.
    let record = record(vec![send(
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\ndate: Sun, 22 Nov 2026 10:00:00 GMT\r\n\r\n",
    )]);
    assert_eq!((record.outcome, record.status), (Outcome::Http(404), Some(404)));
    assert_eq!(record.error.as_deref(), Some("(empty body)"));
}

#[test]
fn an_overloaded_dynamo_has_a_status_line_of_its_own() {
    let body = "{\"message\":\"Service temporarily overloaded\",\"type\":\"Overloaded\",\"code\":529}";
    let head = format!(
        "HTTP/1.1 529 <none>\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let record = record(vec![send(head + body)]);
    assert_eq!(
        (record.outcome, record.error.as_deref()),
        (Outcome::Http(529), Some("Service temporarily overloaded"))
    );
}

#[test]
fn a_server_that_announces_its_close_causes_no_failures() {
    // llama-server: `Keep-Alive: timeout=5, max=100`, and here at most 3 requests on a connection, then the announced close.
    let body = super::rows::good_body();
    let answer = move |last: bool| {
        let word = if last { "close" } else { "keep-alive" };
        format!(
            "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5, max=3\r\nConnection: {word}\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
            parts(&[&body])
        )
    };
    let server = Server::play(move |n| {
        let last = n % 3 == 2;
        if last { vec![send(answer(last)), Step::Close] } else { vec![send(answer(last))] }
    });
    let records = run(server.address, point(1, 9));
    assert_eq!(
        (outcomes(&records), server.requests(), server.connections()),
        (vec!["ok".to_owned(); 9], 9, 3)
    );
}

#[test]
fn a_connection_is_not_used_again_after_five_idle_seconds() {
    // Uvicorn closes after 5 s. Two arrivals 6 s apart: the second goes over a connection of its own, by the client's choice.
    let server = Server::play(|_| super::rows::good());
    let open = serde_json::json!({"open": {"rate": 1.0 / 6.0, "spacing": "constant", "max_concurrency": null, "when_full": "queue"}});
    let slow = LoadPoint { arrival: serde_json::from_value(open).unwrap(), ..point(1, 2) };
    let records = run(server.address, slow);
    assert_eq!((outcomes(&records), server.connections()), (vec!["ok".to_owned(); 2], 2));
}
