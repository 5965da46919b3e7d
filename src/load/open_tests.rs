//! Open loops as a whole against a server that plays scripts: the schedule in the records, full houses, ends, warm-up.
//!
//! Nothing here looks at how long something took; that is measured by `benches/load`.

use std::collections::BTreeSet;

use tokio_util::sync::CancellationToken;

use super::schedule::Schedule;
use super::testing::*;
use super::{LiveCounters, Target};
use crate::metrics::record::{Arrivals, Outcome, Phase, RequestRecord};
use crate::plan::{Arrival, AtEnd, Level, Limit, LoadPoint, Spacing, Stop, WhenFull};

fn run(target: &Target, point: &LoadPoint, threads: usize) -> Driven {
    Driven::new(target, point, threads)
}

fn capped(rate: f64, most: u32, when_full: WhenFull) -> LoadPoint {
    let limit = Limit { max_concurrency: Some(most), when_full };
    let arrival = Arrival::Open { rate: Level::Constant(rate), spacing: Spacing::Poisson, limit };
    LoadPoint { arrival, ..point(1) }
}

fn schedule(point: &LoadPoint) -> Schedule {
    let Arrival::Open { rate, spacing, .. } = &point.arrival else { panic!("{point:?}") };
    Schedule::new(rate, *spacing, point, Phase::Measure)
}

/// Intended instants by number, µs from the first.
fn intended(run: &Driven) -> Vec<u64> {
    let mut records: Vec<&RequestRecord> = run.records.iter().collect();
    records.sort_unstable_by_key(|record| record.id);
    records.iter().map(|record| record.scheduled_us - run.arrivals.unwrap().first_us).collect()
}

fn count(run: &Driven, outcome: Outcome) -> usize {
    run.records.iter().filter(|record| record.outcome == outcome).count()
}

#[test]
fn every_thread_count_sends_the_one_schedule() {
    let server = Server::play(|_| good());
    let point = LoadPoint { stop: Stop::Requests(200), ..open_point(2000.0, Spacing::Poisson) };
    let drawn: Vec<u64> =
        schedule(&point).take(200).map(|at| u64::try_from(at.as_micros()).unwrap()).collect();
    for threads in [1, 4] {
        let run = run(&server.target(), &point, threads);
        assert_eq!(intended(&run), drawn, "{threads} threads");
        assert_eq!((run.records.len(), count(&run, Outcome::Ok)), (200, 200));
        assert!(run.records.iter().all(|record| record.sent_us >= record.scheduled_us));
        let arrivals = run.arrivals.unwrap();
        assert_eq!((arrivals.total, arrivals.dropped, arrivals.unsent), (200, 0, 0));
        assert_eq!(arrivals.last_us - arrivals.first_us, drawn[199]);
        assert_eq!((run.interrupted, run.cut_at_end()), (false, 0));
    }
}

#[test]
fn requests_leave_although_none_is_answered() {
    // No answer before all ten have come in: a closed loop would hang.
    let server = Server::play(|_| [vec![Step::Together(10, 10)], good()].concat());
    let point = LoadPoint { stop: Stop::Requests(10), ..open_point(1000.0, Spacing::Constant) };
    let run = run(&server.target(), &point, 2);
    assert_eq!((count(&run, Outcome::Ok), server.received().max_in_flight), (10, 10));
    let places: BTreeSet<u32> = run.records.iter().map(|record| record.worker).collect();
    assert_eq!(places, (0..10).collect());
}

#[test]
fn arrivals_at_the_limit_queue_and_their_wait_is_recorded() {
    // The first two answer when both are there; nobody else may be before that.
    let server =
        Server::play(|n| if n < 2 { [vec![Step::Together(2, 40)], good()].concat() } else { good() });
    let point = LoadPoint { stop: Stop::Requests(40), ..capped(1e5, 2, WhenFull::Queue) };
    let run = run(&server.target(), &point, 1);
    let received = server.received();
    assert_eq!((count(&run, Outcome::Ok), received.requests.len()), (40, 40));
    assert!(received.max_in_flight <= 2 && received.connections <= 2, "{}", received.max_in_flight);
    assert_eq!(run.arrivals.unwrap(), Arrivals { total: 40, dropped: 0, unsent: 0, ..run.arrivals.unwrap() });
    // The third could not leave before one of the first two had ended, and keeps its own intended instant.
    let of = |id: u64| run.records.iter().find(|record| record.id == id).unwrap();
    assert!(of(2).sent_us >= of(0).end_us.min(of(1).end_us));
    let ordered: Vec<u64> = (0..40).map(|id| of(id).sent_us).collect();
    assert!(ordered.is_sorted(), "first come, first served");
    assert!(intended(&run).is_sorted());
}

#[test]
fn arrivals_at_the_limit_are_dropped_and_counted() {
    // Nobody is answered: two requests are sent, every later arrival finds them there.
    let server = Server::play(|_| vec![head(), part(TOKEN), Step::Hold]);
    let point =
        LoadPoint { stop: Stop::Requests(50), at_end: AtEnd::Cut, ..capped(5000.0, 2, WhenFull::Drop) };
    let run = run(&server.target(), &point, 1);
    let arrivals = run.arrivals.unwrap();
    assert_eq!((arrivals.total, arrivals.dropped, arrivals.unsent), (50, 48, 0));
    let ids: BTreeSet<u64> = run.records.iter().map(|record| record.id).collect();
    assert_eq!(ids, BTreeSet::from([0, 1]), "numbers of dropped arrivals are missing");
    assert_eq!((count(&run, Outcome::Cancelled), run.cut_at_end(), run.interrupted), (2, 2, false));
}

#[test]
fn arrivals_that_still_wait_at_the_end_are_counted() {
    let server = Server::play(|_| vec![head(), part(TOKEN), Step::Hold]);
    let point =
        LoadPoint { stop: Stop::DurationS(0.05), at_end: AtEnd::Cut, ..capped(1000.0, 1, WhenFull::Queue) };
    let end = std::time::Duration::from_millis(50);
    let due = schedule(&point).take_while(|at| *at < end).count() as u64;
    let run = run(&server.target(), &point, 1);
    let arrivals = run.arrivals.unwrap();
    assert_eq!((arrivals.total, arrivals.unsent, run.records.len()), (due, due - 1, 1));
    assert_eq!(run.cut_at_end(), 1);
}

#[test]
fn a_drain_has_a_bound() {
    let server = Server::play(|_| vec![head(), part(TOKEN), Step::Hold]);
    let at_end = AtEnd::Drain { limit_s: Some(0.05) };
    let open = LoadPoint { stop: Stop::Requests(20), at_end, ..open_point(5000.0, Spacing::Constant) };
    let run_open = run(&server.target(), &open, 2);
    assert_eq!((run_open.records.len(), run_open.arrivals.unwrap().unsent), (20, 0));
    assert_eq!((run_open.cut_at_end(), run_open.interrupted, &run_open.aborted), (20, false, &None));
    let closed = LoadPoint { stop: Stop::Requests(4), at_end, ..point(4) };
    assert_eq!(run(&server.target(), &closed, 2).cut_at_end(), 4);
}

#[test]
fn a_cut_at_the_deadline_also_ends_a_closed_loop() {
    let server = Server::play(|_| vec![head(), part(TOKEN), Step::Hold]);
    let point = LoadPoint { stop: Stop::DurationS(0.05), at_end: AtEnd::Cut, ..point(3) };
    let run = run(&server.target(), &point, 2);
    assert_eq!((run.records.len(), run.cut_at_end(), run.arrivals), (3, 3, None));
}

#[test]
fn a_drain_waits_for_all() {
    // Nobody is answered before the last one has come in.
    let server = Server::play(|_| [vec![Step::Together(12, 12)], good()].concat());
    let point = LoadPoint { stop: Stop::Requests(12), ..open_point(1e4, Spacing::Poisson) };
    assert_eq!(count(&run(&server.target(), &point, 2), Outcome::Ok), 12);
}

#[test]
fn a_duration_sends_what_the_schedule_holds() {
    let server = Server::play(|_| good());
    let point = LoadPoint { stop: Stop::DurationS(0.1), ..open_point(500.0, Spacing::Poisson) };
    let end = std::time::Duration::from_millis(100);
    let due = schedule(&point).take_while(|at| *at < end).count() as u64;
    let run = run(&server.target(), &point, 2);
    let arrivals = run.arrivals.unwrap();
    // On a slow machine the last ones may come too late to be sent; none is lost.
    assert_eq!(arrivals.total, due);
    assert_eq!(run.records.len() as u64 + arrivals.unsent, due);
}

#[test]
fn warmup_has_its_own_schedule_and_prompts() {
    let server = Server::play(|_| good());
    let point = LoadPoint {
        stop: Stop::Requests(10),
        warmup_requests: 6,
        at_end: AtEnd::Cut,
        ..open_point(2000.0, Spacing::Poisson)
    };
    let run = run(&server.target(), &point, 2);
    let warm: Vec<&RequestRecord> = run.records.iter().filter(|r| r.phase == Phase::Warmup).collect();
    assert_eq!((warm.len(), run.arrivals.unwrap().total), (6, 10));
    assert!(warm.iter().all(|record| record.outcome == Outcome::Ok), "a warm-up is drained");
    let last_warm = warm.iter().map(|record| record.end_us).max().unwrap();
    assert!(last_warm <= run.window_start_us);
    // What was cut may still be on its way to the server.
    let received = server.received().requests;
    let bodies: BTreeSet<&String> = received.iter().map(|(_, body)| body).collect();
    assert_eq!(bodies.len(), received.len(), "no prompt is sent twice");
    let timed = LoadPoint { warmup_requests: 0, warmup_duration_s: Some(0.2), ..point };
    let run = self::run(&server.target(), &timed, 1);
    assert_eq!(run.arrivals.unwrap().total, 10);
    assert!(run.records.iter().any(|record| record.phase == Phase::Warmup));
}

#[test]
fn an_interrupt_leaves_nothing_uncounted() {
    let server = Server::play(|_| vec![head(), part(TOKEN), Step::Hold]);
    let point = LoadPoint { stop: Stop::Requests(1000), ..capped(1e5, 4, WhenFull::Queue) };
    let (stop, counters) = (CancellationToken::new(), LiveCounters::default());
    let run = std::thread::scope(|scope| {
        let driver = scope.spawn(|| Driven::watched(&server.target(), &point, 2, &counters, &stop));
        while counters.snapshot().chunks < 4 {
            std::thread::yield_now();
        }
        stop.cancel();
        driver.join().unwrap()
    });
    assert_eq!((run.records.len(), run.interrupted, run.cut_at_end()), (4, true, 0));
    let arrivals = run.arrivals.unwrap();
    assert_eq!(arrivals.total, run.records.len() as u64 + arrivals.unsent);
}

#[test]
fn a_dead_server_ends_an_open_loop_too() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::new(format!("http://{}", listener.local_addr().unwrap()), "m");
    drop(listener);
    let point = LoadPoint { stop: Stop::Requests(1_000_000), ..open_point(2000.0, Spacing::Constant) };
    let run = run(&target, &point, 2);
    assert!(run.aborted.is_some() && !run.interrupted && run.records.len() < 100_000);
}
