//! Servers that behave badly, and what must come of it: outcome, record, an end in bounded time, and a next request that
//! is none the worse. Everything goes through the public API over loopback TCP, so it holds for any transport.

mod memory;
mod quirks;
mod rows;
mod server;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use rows::{Row, good, rows};
use server::{Server, Step, send};
use tokio_util::sync::CancellationToken;
use tokmark::internals::load::{LiveCounters, Options, Target, drive};
use tokmark::internals::metrics::{Outcome, RequestRecord};
use tokmark::internals::plan::LoadPoint;
use tokmark::internals::prompts::{Learned, Prompts, TokenizerCache};

/// No point of these tests may take longer: a hang is a failure, not a wait.
const BOUND: Duration = Duration::from_secs(300);

/// A closed loop of so many requests, as a plan has it.
fn point(concurrency: u32, requests: u64) -> LoadPoint {
    serde_json::from_value(serde_json::json!({
        "id": "p", "isl": {"mean": 8}, "osl": {"mean": 4},
        "arrival": {"closed": {"concurrency": concurrency}}, "stop": {"requests": requests}, "warmup_requests": 0,
        "endpoint": "chat", "streaming": true, "ignore_eos": true, "seed": 1,
        "request_timeout_s": 60.0, "stall_timeout_s": 60.0, "connect_timeout_s": 30.0, "max_tokens_field": "auto",
        "continuous_usage_stats": false, "at_end": {"drain": {"limit_s": null}},
        "prompts": {"tokenizer": "builtin", "source": {"synthetic": "random"}, "token_ids": false, "unique": true},
    }))
    .unwrap()
}

/// Every record of a point, by id, the warm-up's first; fails when the point does not end.
fn run(address: std::net::SocketAddr, point: LoadPoint) -> Vec<RequestRecord> {
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let target = Target::new(format!("http://{address}"), "m");
        let mut records = Vec::new();
        let prompts = Prompts::prepare(&point, 0, Learned::default(), &TokenizerCache::default()).unwrap();
        let prompts = std::sync::Arc::new(prompts);
        let mut sink = |record: &RequestRecord| records.push(record.clone());
        drive(
            &target,
            &point,
            &prompts,
            &Options { threads: Some(1), ..Options::default() },
            &LiveCounters::default(),
            &mut sink,
            &CancellationToken::new(),
        )
        .unwrap();
        records.sort_by_key(|record| (record.phase.as_str() == "measure", record.id));
        done.send(records)
    });
    let ended = ended.recv_timeout(BOUND);
    assert!(ended.is_ok(), "the point did not end: {}", ended.unwrap_err());
    ended.unwrap()
}

fn outcomes(records: &[RequestRecord]) -> Vec<String> {
    records.iter().map(|record| record.outcome.to_string()).collect()
}

/// Plays one row: the bad answer to the first of two requests on one slot, a good one to the second.
fn check(row: &Row) -> Result<(), String> {
    let steps = row.steps.clone();
    let server = Server::play(move |n| if n == 0 { steps.clone() } else { good() });
    let (request_timeout_s, stall_timeout_s) = row.limits;
    let records = run(server.address, LoadPoint { request_timeout_s, stall_timeout_s, ..point(1, 2) });
    let [bad, next] = records.as_slice() else { return Err(format!("{} records", records.len())) };
    let (outcome, error) = (bad.outcome.to_string(), bad.error.clone().unwrap_or_default());
    let told = (bad.outcome == Outcome::Ok) == bad.error.is_none() && error.chars().count() <= 300;
    let received = row.raced || (row.status == bad.status && row.chunks == bad.chunks_us.len());
    let either = row.outcomes.len() > 1;
    for (holds, what) in [
        (row.outcomes.contains(&outcome.as_str()), "the outcome"),
        (told && error.contains(row.words), "the words"),
        (received || either, "what was received"),
        (row.bytes.is_none_or(|bytes| bytes as u64 == bad.bytes_received), "the bytes"),
        (bad.status.is_some() == bad.headers_us.is_some(), "the head"),
        (bad.chunks_us.is_sorted() && bad.chunks_us.last() <= Some(&bad.end_us), "the times"),
        ((next.outcome, next.chunks_us.len(), next.osl) == (Outcome::Ok, 2, 4), "the next request"),
        (server.requests() == 2, "the number of requests that reached the server"),
    ] {
        if !holds {
            return Err(format!(
                "{what}: {bad:#?}\n{:?} {:?}, {} requests",
                next.outcome,
                next.error,
                server.requests()
            ));
        }
    }
    Ok(())
}

#[test]
fn every_row_of_the_table_holds() {
    let rows = rows();
    let (next, failures) = (AtomicUsize::new(0), std::sync::Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, SeqCst)) {
                    if let Err(failure) = check(row) {
                        failures.lock().unwrap().push(format!("{}: {failure}", row.name));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of {} rows fail:\n{}", failures.len(), rows.len(), failures.join("\n"));
}

#[test]
fn the_documentation_shows_the_table() {
    let word = |outcome: &str| match outcome.strip_prefix("http_") {
        Some(_) => "`http_<status>`".to_owned(),
        None => format!("`{outcome}`"),
    };
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for row in rows().into_iter().filter(|row| row.shown) {
        let outcomes: Vec<String> = row.outcomes.iter().map(|outcome| word(outcome)).collect();
        let outcomes = outcomes.join(" or ");
        match groups.iter_mut().find(|(known, _)| *known == outcomes) {
            Some((_, names)) if names.contains(&row.name) => {}
            Some((_, names)) => names.push(row.name),
            None => groups.push((outcomes, vec![row.name])),
        }
    }
    let lines: Vec<String> =
        groups.iter().map(|(outcomes, names)| format!("| {outcomes} | {} |", names.join("; "))).collect();
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/bench.md")).unwrap();
    let table = lines.join("\n");
    assert!(page.contains(&table), "docs/bench.md, \"What a bad server gets\", should hold:\n{table}");
}

#[test]
fn a_server_that_closes_after_each_answer_costs_connections_only() {
    let close = stream_closing();
    let server = Server::play(move |_| vec![send(&close), Step::Close]);
    let records = run(server.address, point(3, 30));
    assert!(records.iter().all(|record| record.outcome == Outcome::Ok), "{:?}", outcomes(&records));
    assert_eq!((records.len(), server.requests(), server.connections()), (30, 30, 30));
}

/// A good answer with `Connection: close`.
fn stream_closing() -> String {
    rows::stream(&[&rows::good_body()]).replacen("\r\n", "\r\nConnection: Close\r\n", 1)
}

#[test]
fn an_idle_connection_closed_by_the_server_costs_nothing() {
    // Warm-up: the connection of request 0 is closed behind its answer, and only then request 1 is answered. The measured
    // requests find one connection that is closed and one that is not.
    let server = Server::play(|n| match n {
        0 => [good(), vec![Step::Close]].concat(),
        1 => [vec![Step::Closed(1)], good()].concat(),
        _ => good(),
    });
    let records = run(server.address, LoadPoint { warmup_requests: 2, ..point(2, 2) });
    assert_eq!((outcomes(&records), server.requests()), (vec!["ok".to_owned(); 4], 4));
}

#[test]
fn a_request_on_a_reused_connection_is_never_sent_twice() {
    for end in [Step::Close, Step::Reset] {
        let server = Server::play(move |n| if n == 1 { vec![end.clone()] } else { good() });
        let records = run(server.address, point(1, 3));
        assert_eq!(
            (outcomes(&records), server.requests()),
            (["ok", "disconnected", "ok"].map(str::to_owned).to_vec(), 3)
        );
    }
}

/// A prompt that no socket buffer holds.
fn large(requests: u64) -> LoadPoint {
    let isl = serde_json::from_value(serde_json::json!({"mean": 2_000_000})).unwrap();
    LoadPoint { isl, ..point(1, requests) }
}

#[test]
fn an_answer_may_begin_before_the_request_has_ended() {
    let server = Server::hasty(|_| [good(), vec![Step::ReadRequest]].concat());
    let records = run(server.address, large(2));
    // Whether the connection may be used again is left to the client; the answers count.
    assert_eq!(outcomes(&records), ["ok", "ok"]);
}

#[test]
fn a_refusal_before_the_request_has_ended_ends_the_request() {
    // The close discards what was not read, so the kernel resets: the status may or may not have been read before that.
    let refusal = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let server = Server::hasty(move |_| vec![send(refusal), Step::Close]);
    let records = run(server.address, large(2));
    let allowed = ["http_413", "disconnected"];
    assert!(outcomes(&records).iter().all(|outcome| allowed.contains(&outcome.as_str())), "{records:?}");
    assert_eq!(records.len(), 2);
}

#[test]
fn no_listener() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let records = run(address, point(1, 3));
    assert_eq!(outcomes(&records), ["connect"; 3]);
    assert!(records.iter().all(|record| record.status.is_none() && record.bytes_received == 0));
    assert!(records.iter().all(|record| record.error.as_ref().unwrap().contains("refused")), "{records:?}");
}

#[test]
fn no_accept() {
    // A queue of one that is full: the kernel drops every further SYN.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _in_it = runtime.enter();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the queue never fills");
    }
    // Opening a connection ahead of the load takes the whole limit for connections.
    let records = run(address, LoadPoint { request_timeout_s: 0.5, connect_timeout_s: 2.0, ..point(1, 1) });
    assert_eq!(outcomes(&records), ["timeout"]);
    assert!(records.iter().all(|record| record.status.is_none() && record.bytes_received == 0));
}
