use crate::metrics::fixtures::{Ran, failed, run, sound};
use crate::metrics::record::{CountSource, Outcome, Phase, RequestRecord};
use crate::metrics::server::{Imbalance, InFlight, Latency, LayerView, LoadMeasure, ServerView};
use crate::metrics::verdict::{Rating, Reason};

/// The reasons for 20 answers of 10 tokens, counted by the server, when the servers say so.
fn judged(view: ServerView, change: impl Fn(&mut Vec<RequestRecord>)) -> Vec<Reason> {
    let mut records = sound();
    records.iter_mut().for_each(|record| record.osl_source = CountSource::Usage);
    change(&mut records);
    let mut ran: Ran = run(records);
    ran.run.servers = Some(view);
    super::reasons(&ran, &ran.fold())
}

fn reasons(engine: LayerView, change: impl Fn(&mut Vec<RequestRecord>)) -> Vec<String> {
    let view = ServerView { engine: Some(engine), ..ServerView::default() };
    judged(view, change).into_iter().map(|reason| reason.text).collect()
}

fn counted(output_tokens: u64) -> LayerView {
    LayerView { pages: 1, output_tokens: Some(output_tokens), ..LayerView::default() }
}

fn latency(avg: f64, count: u64) -> Option<Latency> {
    Some(Latency { count, avg, p50: None, p90: None, p95: None, p99: None, p50_from: None })
}

#[test]
fn tokens_of_the_servers_are_those_of_the_answers() {
    let all: u64 = sound().iter().map(|record| record.osl).sum();
    assert_eq!(reasons(counted(all), |_| {}), Vec::<String>::new());
    assert_eq!(reasons(counted(all + all / 200), |_| {}), Vec::<String>::new());
    let more = reasons(counted(all * 2), |_| {});
    assert!(more[0].ends_with("the servers had other requests too"), "{more:?}");
    let less = reasons(counted(all - 1), |_| {});
    assert!(less[0].contains(&format!("counted {} output tokens", all - 1)), "{less:?}");
}

#[test]
fn requests_of_the_servers_are_those_of_the_records() {
    let served = |requests| LayerView { requests: Some(requests), ..LayerView::default() };
    assert_eq!(reasons(served(20), |_| {}), Vec::<String>::new());
    assert!(
        reasons(served(19), |_| {})[0]
            .contains("counted 19 requests in the measured window, the answers have 20")
    );
    assert!(reasons(served(30), |_| {})[0].ends_with("the servers had other requests too"));
    // Tokens that differ say it already.
    let both = LayerView { requests: Some(30), ..counted(1) };
    assert_eq!(reasons(both, |_| {}).len(), 1);
}

/// The pages are read once more after the cool-down, whose requests the servers served beside the measured ones.
#[test]
fn requests_of_a_cool_down_are_none_of_others() {
    let cool_down = |records: &mut Vec<RequestRecord>| {
        let last = records.last().unwrap().clone();
        records.push(RequestRecord { phase: Phase::CoolDown, ..last });
    };
    let both = |requests, tokens| LayerView { requests: Some(requests), ..counted(tokens) };
    assert_eq!(reasons(both(21, 210), cool_down), Vec::<String>::new());
    assert!(reasons(both(21, 230), cool_down)[0].contains("counted 230 output tokens"));
    // One that was cut was served in part.
    let cut = |records: &mut Vec<RequestRecord>| {
        cool_down(records);
        records.last_mut().unwrap().outcome = Outcome::Cancelled;
    };
    assert_eq!(reasons(both(20, 205), cut), Vec::<String>::new());
}

#[test]
fn tokens_and_requests_of_cut_answers_are_not_compared() {
    let with_failure = |records: &mut Vec<RequestRecord>| records.push(failed(99, 1_000, Outcome::Timeout));
    assert_eq!(reasons(LayerView { requests: Some(3), ..counted(7) }, with_failure), Vec::<String>::new());
    let by_tokenizer = |records: &mut Vec<RequestRecord>| records[0].osl_source = CountSource::Tokenizer;
    assert_eq!(reasons(counted(7), by_tokenizer), Vec::<String>::new());
}

/// Every record: TTFT 50 ms, then 9 chunks 10 ms apart.
#[test]
fn no_client_is_faster_than_its_server() {
    let with = |layer: LayerView| reasons(layer, |_| {});
    let none = Vec::<String>::new();
    let ttft = |avg, count| LayerView { ttft_ms: latency(avg, count), ..LayerView::default() };
    assert_eq!(with(ttft(51.0, 20)), none, "1 % and 1 ms");
    assert!(
        with(ttft(55.0, 20))[0]
            .starts_with("the mean TTFT of the servers is 55.0 ms, and the client saw 50.0 ms")
    );
    assert_eq!(with(ttft(55.0, 21)), none, "other requests");
    let queue = LayerView { queue_ms: latency(60.0, 20), ..LayerView::default() };
    assert!(with(queue)[0].contains("the mean queue time of the servers is 60.0 ms"));
    let e2e = LayerView { e2e_ms: latency(500.0, 20), ..LayerView::default() };
    assert!(with(e2e)[0].contains("the mean E2E latency of the servers is 500.0 ms"));
    // The engine behind a frontend is held to it too, and one reason is enough.
    let view = ServerView {
        frontend: Some(ttft(49.0, 20)),
        engine: Some(LayerView { e2e_ms: latency(500.0, 20), ..ttft(55.0, 20) }),
        ..ServerView::default()
    };
    assert_eq!(judged(view, |_| {}).len(), 1);
}

#[test]
fn first_tokens_that_came_late_shorten_the_decode_time() {
    let decoded =
        |decode_ms, itl_ms| LayerView { requests: Some(20), decode_ms, itl_ms, ..LayerView::default() };
    let with = |layer: LayerView| reasons(layer, |_| {});
    assert_eq!(
        with(decoded(latency(180.0, 31), None)),
        Vec::<String>::new(),
        "it counts answers that were cut, too"
    );
    assert_eq!(with(decoded(latency(92.0, 20), None)), Vec::<String>::new());
    assert!(with(decoded(latency(180.0, 20), None))[0].contains("180.0 ms from first to last token"));
    // 20 requests of 9 steps of 20 ms: 180 ms each, whatever a step yields.
    assert!(with(decoded(None, latency(20.0, 180)))[0].contains("180.0 ms from first to last token"));
    let cut = |records: &mut Vec<RequestRecord>| records.push(failed(99, 1_000, Outcome::Cancelled));
    assert_eq!(
        reasons(decoded(None, latency(20.0, 180)), cut),
        Vec::<String>::new(),
        "steps of one that was cut, too"
    );
}

fn in_flight(client: f64, servers: f64, sampling: f64) -> Vec<Reason> {
    let in_flight = InFlight {
        requests_per_s: 4.0,
        time_s: 2.0,
        by_littles_law: 8.0,
        client,
        servers,
        sampling,
        samples: 20,
    };
    judged(ServerView { in_flight: Some(in_flight), ..ServerView::default() }, |_| {})
}

#[test]
fn requests_in_flight_are_those_of_the_client() {
    assert_eq!(in_flight(8.0, 8.9, 0.5), []);
    assert_eq!(in_flight(80.0, 87.0, 0.5), [], "10 %");
    assert_eq!(in_flight(8.0, 11.0, 4.0), [], "chance");
    let others = &in_flight(8.0, 12.0, 0.5)[0];
    assert_eq!(others.rating, Rating::Suspect);
    assert!(
        others.text.contains("4.00 requests/s × 2.000 s = 8.0")
            && others.text.ends_with("others use the servers too")
    );
    let elsewhere = &in_flight(64.0, 32.0, 2.0)[0];
    assert_eq!(elsewhere.rating, Rating::Valid, "the figures are right");
}

fn uneven(by: LoadMeasure, each: &[f64]) -> Vec<Reason> {
    let total: f64 = each.iter().sum();
    let most = each.iter().copied().fold(0.0, f64::max);
    let imbalance = Imbalance {
        of: each.len(),
        by,
        total,
        largest_over_mean: most * each.len() as f64 / total,
        largest: "worker-1".into(),
        idle: each.iter().filter(|value| **value == 0.0).map(|_| "worker-0".to_owned()).collect(),
    };
    let engine = LayerView { imbalance: Some(imbalance), ..LayerView::default() };
    judged(ServerView { engine: Some(engine), ..ServerView::default() }, |_| {})
}

#[test]
fn an_uneven_load_is_named_beyond_chance() {
    use LoadMeasure::{Requests, Running};
    assert_eq!(uneven(Requests, &[60.0, 40.0]), [], "1.2 times the mean");
    assert_eq!(uneven(Requests, &[14.0, 6.0]), [], "3 standard deviations of a mean of 10 are 9.5");
    let named = &uneven(Requests, &[160.0, 40.0])[0];
    assert_eq!(named.rating, Rating::Valid);
    assert!(
        named.text.contains("worker-1 had 1.60 times the mean of 2 engines (requests, mean 100.0)"),
        "{named:?}"
    );
    assert_eq!(uneven(Running, &[90.0, 10.0]).len(), 1);
    let idle = &uneven(Requests, &[0.0, 40.0])[0];
    assert_eq!(idle.rating, Rating::Suspect);
    assert_eq!(uneven(Requests, &[0.0, 4.0]), [], "two requests each may all go to one");
}

#[test]
fn a_server_that_began_anew_is_named() {
    let engine = LayerView { restarted: vec!["server-0".into()], ..LayerView::default() };
    assert!(reasons(engine, |_| {})[0].starts_with("server-0 began anew in the measured window"));
}
