//! The engine as a whole against a server that plays scripts: outcomes, concurrency, totals, connections, interrupts.

use std::collections::BTreeSet;

use tokio_util::sync::CancellationToken;

use super::testing::*;
use super::{LiveCounters, Target, probe};
use crate::metrics::record::{Aborted, CountSource, Outcome, Phase, RequestRecord};
use crate::plan::{Endpoint, LoadPoint, Stop};

fn run(target: &Target, point: &LoadPoint, threads: usize) -> Driven {
    Driven::new(target, point, threads)
}

/// The record of a single request answered by `steps`.
fn single(point: &LoadPoint, steps: Vec<Step>) -> RequestRecord {
    let server = Server::play(move |_| steps.clone());
    run(&server.target(), point, 1).records.remove(0)
}

fn measured(total: u64, concurrency: u32) -> LoadPoint {
    LoadPoint { stop: Stop::Requests(total), ..point(concurrency) }
}

#[test]
fn a_good_answer_is_recorded_in_full() {
    let record = single(&point(1), good());
    assert_eq!((record.outcome, record.error.as_deref()), (Outcome::Ok, None));
    assert_eq!((record.isl, record.osl, record.osl_source), (20, 4, CountSource::Usage));
    assert_eq!(record.usage.and_then(|usage| usage.cached_tokens), Some(16));
    assert_eq!((record.chunks_us.len(), record.isl_planned, record.osl_requested), (4, 8, 4));
    assert_eq!((record.status, record.finish_reason.as_deref()), (Some(200), Some("length")));
    assert!(record.first_output_us >= record.chunks_us.first().copied());
    assert!(
        record.sent_us <= record.headers_us.unwrap() && record.headers_us.unwrap() <= record.chunks_us[0]
    );
    assert!(record.chunks_us.is_sorted() && record.chunks_us[3] <= record.end_us);
    assert_eq!(record.scheduled_us, record.sent_us);
    let received: usize =
        [REASON, TOKEN, TOKEN, TOKEN, FINISH, USAGE, DONE].iter().map(|part| part.len()).sum();
    assert_eq!(record.bytes_received, received as u64);
    assert!(record.bytes_sent > 0);
}

#[test]
fn without_usage_words_are_counted() {
    let record =
        single(&point(1), vec![head(), part(REASON), part(TOKEN), part(TOKEN), part(FINISH), tail()]);
    assert_eq!((record.outcome, record.osl, record.osl_source), (Outcome::Ok, 3, CountSource::Approximate));
    assert_eq!((record.isl, record.isl_source), (8, CountSource::Approximate));
}

#[test]
fn each_way_to_end_has_its_outcome() {
    let raw = |text: &str| Step::Send(text.as_bytes().to_vec());
    let json = "application/json";
    let error = "data: {\"error\":{\"message\":\"boom\",\"code\":500}}\n\n";
    let table: Vec<(&str, Vec<Step>, Outcome, &str)> = vec![
        (
            "429",
            whole("429 Too Many Requests", json, "{\"error\":{\"message\":\"slow down\"}}"),
            Outcome::Http(429),
            "slow down",
        ),
        ("529", whole("529 <none>", json, "{\"message\":\"overloaded\"}"), Outcome::Http(529), "overloaded"),
        ("404 empty", whole("404 Not Found", "", ""), Outcome::Http(404), "(empty body)"),
        (
            "redirect",
            vec![raw("HTTP/1.1 307 Temporary Redirect\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n")],
            Outcome::Http(307),
            "(empty body)",
        ),
        ("html 200", whole("200 OK", "text/html", "<html>\n<p>hi</p>\n"), Outcome::Malformed, "no events"),
        ("not http", vec![raw("SSH-2.0-OpenSSH\r\n\r\n"), Step::Close], Outcome::Malformed, ""),
        (
            "bad json",
            vec![head(), part(TOKEN), part("data: {\"choices\":\n\n"), tail()],
            Outcome::Malformed,
            "event 2",
        ),
        ("bad framing", vec![head(), part(TOKEN), raw("zz\r\n"), Step::Close], Outcome::Malformed, ""),
        ("empty 200", whole("200 OK", "text/event-stream", ""), Outcome::Empty, ""),
        (
            "no content",
            vec![head(), part(FINISH), part(USAGE), part(DONE), tail()],
            Outcome::Empty,
            "no content",
        ),
        (
            "error then done",
            vec![head(), part(TOKEN), part(error), part(DONE), tail()],
            Outcome::ServerError,
            "boom",
        ),
        ("closed before headers", vec![Step::Close], Outcome::Disconnected, ""),
        ("closed mid-stream", vec![head(), part(TOKEN), Step::Close], Outcome::Disconnected, ""),
        (
            "cut inside a chunk",
            vec![head(), part(TOKEN), raw("ff\r\ndata: {"), Step::Close],
            Outcome::Disconnected,
            "",
        ),
        ("reset mid-stream", vec![head(), part(TOKEN), Step::Reset], Outcome::Disconnected, ""),
        (
            "ended early in good order",
            vec![head(), part(TOKEN), tail()],
            Outcome::Disconnected,
            "finish_reason",
        ),
        (
            "json instead of a stream",
            whole(
                "200 OK",
                json,
                "{\"choices\":[{\"message\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}",
            ),
            Outcome::Ok,
            "",
        ),
        (
            "close after done",
            vec![head(), part(TOKEN), part(FINISH), part(DONE), Step::Close],
            Outcome::Ok,
            "",
        ),
    ];
    for (name, steps, outcome, words) in table {
        let record = single(&point(1), steps);
        assert_eq!(record.outcome, outcome, "{name}: {record:?}");
        assert!(record.error.clone().unwrap_or_default().contains(words), "{name}: {record:?}");
    }
}

#[test]
fn what_arrived_before_a_failure_is_kept() {
    let record = single(&point(1), vec![head(), part(TOKEN), part(TOKEN), Step::Close]);
    assert_eq!((record.outcome, record.chunks_us.len(), record.osl), (Outcome::Disconnected, 2, 2));
}

#[test]
fn silence_is_a_stall_and_slowness_a_timeout() {
    let short = LoadPoint { stall_timeout_s: 0.05, ..point(1) };
    assert_eq!(single(&short, vec![head(), part(TOKEN), Step::Hold]).outcome, Outcome::Stalled);
    let short = LoadPoint { request_timeout_s: 0.05, ..point(1) };
    assert_eq!(single(&short, vec![head(), part(TOKEN), Step::Hold]).outcome, Outcome::Timeout);
    assert_eq!(single(&short, vec![Step::Hold]).outcome, Outcome::Timeout);
    // The wait for the first byte belongs to the TTFT: it is no stall.
    let both = LoadPoint { stall_timeout_s: 0.01, request_timeout_s: 0.1, ..point(1) };
    assert_eq!(single(&both, vec![head(), Step::Hold]).outcome, Outcome::Timeout);
}

#[test]
fn the_first_token_has_a_limit_of_its_own() {
    let limited = LoadPoint { first_token_timeout_s: Some(0.05), ..point(1) };
    let busy = part(": still in the queue\n\n");
    for steps in [vec![Step::Hold], vec![head(), busy, Step::Hold]] {
        let record = single(&limited, steps);
        assert_eq!((record.outcome, record.chunks_us.len()), (Outcome::Timeout, 0));
        assert_eq!(record.error.as_deref(), Some("no token within 0.05 s"));
    }
    let generous = LoadPoint { first_token_timeout_s: Some(20.0), stall_timeout_s: 0.05, ..point(1) };
    let record = single(&generous, vec![head(), part(TOKEN), Step::Hold]);
    assert_eq!((record.outcome, record.chunks_us.len()), (Outcome::Stalled, 1));
}

#[test]
fn an_answer_that_never_closes_after_done_is_still_good() {
    let record = single(&point(1), vec![head(), part(TOKEN), part(FINISH), part(DONE), Step::Hold]);
    assert_eq!(record.outcome, Outcome::Ok);
}

#[test]
fn unstreamed_answers_on_both_endpoints() {
    for (endpoint, choice) in [
        (Endpoint::Chat, "{\"message\":{\"content\":\"a b\"},\"finish_reason\":\"stop\"}"),
        (Endpoint::Completions, "{\"text\":\"a b\",\"finish_reason\":\"stop\"}"),
    ] {
        let body =
            format!("{{\"choices\":[{choice}],\"usage\":{{\"prompt_tokens\":9,\"completion_tokens\":2}}}}");
        let record = single(
            &LoadPoint { streaming: false, endpoint, ..point(1) },
            whole("200 OK", "application/json", &body),
        );
        assert_eq!((record.outcome, record.osl, record.isl), (Outcome::Ok, 2, 9));
        assert_eq!(record.chunks_us, [record.end_us]);
    }
}

#[test]
fn concurrency_is_exact_and_so_are_totals_over_threads() {
    let (concurrency, total) = (7, 100);
    // Every answer waits until all slots are busy, so fewer in flight than asked for would hang, and more would show.
    let server = Server::play(move |_| {
        let mut steps = good();
        steps.insert(0, Step::Together(concurrency, total));
        steps
    });
    let run = run(&server.target(), &measured(total as u64, concurrency as u32), 2);
    let received = server.received();
    assert_eq!((run.records.len(), received.requests.len()), (total, total));
    assert_eq!((received.max_in_flight, received.connections), (concurrency, concurrency));
    assert!(run.records.iter().all(|record| record.outcome == Outcome::Ok));
    let ids: BTreeSet<u64> = run.records.iter().map(|record| record.id).collect();
    assert_eq!(ids, (0..total as u64).collect());
    assert_eq!(run.records.iter().map(|record| record.worker).collect::<BTreeSet<_>>().len(), concurrency);
    assert_eq!(run.client.threads, 2);
}

#[test]
fn connections_are_reused_without_growing() {
    let server = Server::play(|_| good());
    run(&server.target(), &measured(400, 4), 1);
    assert_eq!((server.received().connections, server.received().requests.len()), (4, 400));
}

#[test]
fn warmup_comes_first_and_alone() {
    let server = Server::play(|_| good());
    let point = LoadPoint { warmup_requests: 6, ..measured(10, 3) };
    let run = run(&server.target(), &point, 2);
    let ids: Vec<String> = server.received().requests.into_iter().map(|(id, _)| id).collect();
    assert!(ids[..6].iter().all(|id| id.starts_with("tokmark-p-warmup-")), "{ids:?}");
    assert!(ids[6..].iter().all(|id| id.starts_with("tokmark-p-measure-")), "{ids:?}");
    let last_warm = run.records.iter().filter(|r| r.phase == Phase::Warmup).map(|r| r.end_us).max().unwrap();
    assert!(last_warm <= run.window_start_us && run.window_start_us <= run.window_end_us);
    let bodies: BTreeSet<String> = server.received().requests.into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies.len(), 16, "no prompt is sent twice");
}

#[test]
fn a_duration_stops_sending_and_drains() {
    let server = Server::play(|_| good());
    let point = LoadPoint { stop: Stop::DurationS(0.2), ..point(2) };
    let run = run(&server.target(), &point, 2);
    assert!(!run.records.is_empty() && run.records.iter().all(|record| record.outcome == Outcome::Ok));
    let last = run.records.iter().map(|record| record.sent_us).max().unwrap();
    // The exact rule is tested in `request_queue`; here a slow machine may pause between the rule and the stamp.
    assert!(last <= run.window_start_us + 5_000_000);
    assert_eq!((run.interrupted, &run.aborted), (false, &None));
}

#[test]
fn an_interrupt_cuts_and_records_what_is_in_flight() {
    let server = Server::play(|n| if n < 3 { good() } else { vec![head(), part(TOKEN), Step::Hold] });
    let (stop, counters) = (CancellationToken::new(), LiveCounters::default());
    let run = std::thread::scope(|scope| {
        let driver =
            scope.spawn(|| Driven::watched(&server.target(), &measured(1000, 4), 2, &counters, &stop));
        while counters.snapshot().chunks < 3 * 4 + 4 {
            std::thread::yield_now();
        }
        assert_eq!(counters.snapshot().in_flight, 4);
        stop.cancel();
        driver.join().unwrap()
    });
    let cancelled: Vec<_> = run.records.iter().filter(|r| r.outcome == Outcome::Cancelled).collect();
    assert_eq!((run.records.len(), cancelled.len(), run.interrupted), (7, 4, true));
    assert!(cancelled.iter().all(|record| record.chunks_us.len() == 1 && record.status == Some(200)));
    assert_eq!((counters.snapshot().in_flight, counters.snapshot().phase), (0, None));
}

#[test]
fn a_dead_server_ends_the_point_at_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::new(format!("http://{}", listener.local_addr().unwrap()), "m");
    drop(listener);
    let run = run(&target, &measured(1_000_000, 64), 2);
    assert!(matches!(run.aborted, Some(Aborted::Unreachable { .. })), "{:?}", run.aborted);
    assert!(run.records.len() < 10_000 && !run.interrupted);
    let outcomes: BTreeSet<Outcome> = run.records.iter().map(|record| record.outcome).collect();
    assert!(outcomes.contains(&Outcome::Connect));
    assert!(outcomes.is_subset(&[Outcome::Connect, Outcome::Cancelled].into()));
    // A single request is too little to give up on.
    assert_eq!(self::run(&target, &measured(1, 1), 1).aborted, None);
}

#[test]
fn a_server_that_refuses_everything_ends_the_point_too() {
    let server =
        Server::play(|_| whole("401 Unauthorized", "application/json", "{\"error\":\"Unauthorized\"}"));
    let run = run(&server.target(), &measured(100_000, 2), 1);
    let Some(Aborted::AllFailed { outcome, error, .. }) = &run.aborted else { panic!("{:?}", run.aborted) };
    assert_eq!((*outcome, error.as_str()), (Outcome::Http(401), "Unauthorized"));
    assert!(run.records.len() < 10_000);
}

/// 30 requests are being served while 100 others are refused at once.
#[test]
fn refusals_end_nothing_while_accepted_requests_are_in_flight() {
    let server = Server::play(|n| match n {
        0..30 => [vec![Step::Together(1000, 130)], good()].concat(),
        30..130 => whole("429 Too Many Requests", "application/json", "{\"error\":\"overloaded\"}"),
        _ => good(),
    });
    let run = run(&server.target(), &measured(200, 32), 2);
    assert_eq!(run.aborted, None);
    let count = |outcome| run.records.iter().filter(|record| record.outcome == outcome).count();
    assert_eq!((count(Outcome::Ok), count(Outcome::Http(429))), (100, 100));
    let mut sent: Vec<u64> = run.records.iter().map(|record| record.sent_us).collect();
    sent.sort_unstable();
    let rounds = (130 - 32) / 2;
    assert!(sent[129] - sent[31] >= rounds * 15_000, "a refused slot pauses: {sent:?}");
}

#[test]
fn idle_connections_closed_by_the_server_cause_no_failure() {
    // Warm-up: the server closes the connection of request 0 behind its answer, and only then answers request 1. The measured
    // phase finds one connection that is closed and one that is not.
    let server = Server::play(|n| match n {
        0 => [good(), vec![Step::Close]].concat(),
        1 => [vec![Step::Closed(1)], good()].concat(),
        _ => [vec![Step::Together(2, 4)], good()].concat(),
    });
    let point = LoadPoint { warmup_requests: 2, ..measured(2, 2) };
    let run = run(&server.target(), &point, 1);
    assert!(run.records.iter().all(|record| record.outcome == Outcome::Ok), "{:?}", run.records);
    assert_eq!(
        (run.records.len(), server.received().requests.len(), server.received().connections),
        (4, 4, 3)
    );
}

#[tokio::test]
async fn probes_tell_ready_from_not_ready() {
    let limit = std::time::Duration::from_secs(30);
    let good = "{\"choices\":[{\"message\":{\"content\":\"\"},\"finish_reason\":\"length\"}]}";
    let json = "application/json";
    let server = Server::play(move |n| match n {
        0 => whole("200 OK", json, good),
        1 => whole("503 Service Unavailable", json, "{\"error\":{\"message\":\"Loading model\"}}"),
        2 => whole("200 OK", json, "{\"error\":{\"message\":\"no worker\"}}"),
        3 => whole("200 OK", json, "{\"object\":\"list\",\"data\":[{\"id\":\"m\"}]}"),
        4 => whole("200 OK", "text/plain", "up 1\n"),
        _ => vec![Step::Hold],
    });
    let target = server.target();
    probe::one_token(&target, Endpoint::Chat, limit).await.unwrap();
    assert!(server.received().requests[0].1.contains("\"max_tokens\":1,\"stream\":false"));
    let error = probe::one_token(&target, Endpoint::Chat, limit).await.unwrap_err();
    assert_eq!(error.to_string(), "HTTP 503: Loading model");
    assert!(probe::one_token(&target, Endpoint::Completions, limit).await.is_err());
    let models = probe::models(&target, limit).await.unwrap();
    assert_eq!(models, [probe::Model { id: "m".into(), simulated: false, max_model_len: None }]);
    let page = probe::get(&format!("http://{}/metrics", server.address), limit).await.unwrap();
    assert_eq!((page.status, page.body.as_str()), (200, "up 1\n"));
    let brief = std::time::Duration::from_millis(20);
    assert!(matches!(probe::models(&target, brief).await, Err(probe::ProbeError::Timeout(_))));
}
