//! Ramps as a whole against a server that plays scripts: slots over time, stages in the records, pauses, cool-down, ends.
//!
//! Nothing here looks at how long something took: timers are never early, so an instant may be compared with the earliest it
//! can be. What takes longer than a slow machine could tell lasts an hour, and is ended when enough was seen.

use std::collections::{BTreeMap, BTreeSet};

use tokio_util::sync::CancellationToken;

use super::testing::*;
use super::{LiveCounters, Options, Target, drive};
use crate::metrics::record::{Arrivals, Outcome, Phase, RequestRecord};
use crate::plan::{Arrival, AtEnd, Level, Limit, LoadPoint, Ramp, Spacing, Stop, WhenFull};

fn run(target: &Target, point: &LoadPoint, threads: usize) -> Driven {
    Driven::new(target, point, threads)
}

/// Ends the run when `enough` of its requests have ended.
fn run_until(
    server: &Server,
    point: &LoadPoint,
    threads: usize,
    enough: impl Fn(&Received) -> bool,
) -> Driven {
    let (counters, stop) = (LiveCounters::default(), CancellationToken::new());
    std::thread::scope(|scope| {
        let driver = scope.spawn(|| Driven::watched(&server.target(), point, threads, &counters, &stop));
        while !enough(&server.received()) {
            std::thread::yield_now();
        }
        stop.cancel();
        driver.join().unwrap()
    })
}

fn ramp(stages: &str) -> Ramp {
    stages.parse().unwrap()
}

fn closed(ramp: Ramp) -> LoadPoint {
    let stop = Stop::DurationS(ramp.duration_s());
    LoadPoint { arrival: Arrival::Closed { concurrency: Level::Ramp(ramp) }, stop, ..point(1) }
}

fn open(ramp: Ramp, max_concurrency: Option<u32>, when_full: WhenFull) -> LoadPoint {
    let stop = Stop::DurationS(ramp.duration_s());
    let limit = Limit { max_concurrency, when_full };
    let arrival = Arrival::Open { rate: Level::Ramp(ramp), spacing: Spacing::Constant, limit };
    LoadPoint { arrival, stop, ..point(1) }
}

/// Start of the ramp, µs, as the records tell it.
fn start_us(run: &Driven, ramp: &Ramp) -> u64 {
    let record = run.records.iter().find(|record| record.stage.is_some()).unwrap();
    let mark = record.stage.unwrap();
    let leg = ramp.legs().nth(mark.index as usize).unwrap();
    mark.start_us - (leg.start_s * 1e6) as u64
}

/// No slot sends before the ramp has risen to it: at a rising edge nothing is in flight that should not be.
fn keeps_to(run: &Driven, ramp: &Ramp) {
    let start_us = start_us(run, ramp);
    for record in &run.records {
        // Both instants are rounded down to a µs.
        let at_s = (record.sent_us - start_us + 2) as f64 / 1e6;
        let begun = ramp.spans(record.worker).iter().any(|(from, _)| *from <= at_s);
        assert!(begun, "slot {} sent at {at_s}, {:?}", record.worker, ramp.spans(record.worker));
    }
}

#[test]
fn slots_start_as_the_ramp_rises_whatever_the_server_does() {
    // Nobody is answered before all eight are there: were a slot started by the end of another's request, this would hang.
    for threads in [1, 3] {
        let server = Server::play(|_| [vec![Step::Together(8, 8)], good()].concat());
        let ramp = ramp("50ms:8,1h:8");
        let run =
            run_until(&server, &closed(ramp.clone()), threads, |received| received.requests.len() >= 40);
        keeps_to(&run, &ramp);
        assert_eq!(server.received().max_in_flight, 8, "{threads} threads");
        assert!(run.records.iter().all(|r| [Outcome::Ok, Outcome::Cancelled].contains(&r.outcome)));
        let slots: BTreeSet<u32> = run.records.iter().map(|record| record.worker).collect();
        assert_eq!(slots, (0..8).collect());
        assert_eq!((run.interrupted, run.arrivals), (true, None));
    }
}

#[test]
fn at_every_instant_the_slots_of_the_ramp_are_busy_and_no_others() {
    // Up to 6 by steps, down to 2, up to 4. The server is quick, so every slot that is on sends all the time.
    let server = Server::play(|_| good());
    let ramp = ramp("60ms:2:hold,60ms:6:hold,60ms:2:hold,60ms:4:hold");
    let run = run(&server.target(), &closed(ramp.clone()), 2);
    keeps_to(&run, &ramp);
    let mut by_slot: BTreeMap<u32, Vec<&RequestRecord>> = BTreeMap::new();
    for record in &run.records {
        by_slot.entry(record.worker).or_default().push(record);
    }
    // A machine that stood still for a whole stage cannot have sent in it; the client knows that of itself.
    let stood_still =
        run.client.loop_lag_us.iter().any(|lag| *lag > 20_000) || run.client.loop_lag_us.len() < 12;
    assert!(stood_still || by_slot.len() == 6, "{:?}", by_slot.keys());
    let start_us = start_us(&run, &ramp);
    for (slot, records) in &mut by_slot {
        records.sort_unstable_by_key(|record| record.sent_us);
        assert!(records.windows(2).all(|two| two[0].end_us <= two[1].sent_us), "one at a time");
        // Each time it was on it sent: at its start, and again when a request had ended, until it was off.
        for (from, to) in ramp.spans(*slot) {
            let us = |at: f64| start_us + (at * 1e6) as u64;
            let within = |record: &&&RequestRecord| (us(from)..us(to)).contains(&(record.sent_us + 2));
            let sent = records.iter().filter(within).count();
            assert!(stood_still || sent > 1, "slot {slot} sent {sent} from {from} to {to}");
        }
    }
    let ids: BTreeSet<u64> = run.records.iter().map(|record| record.id).collect();
    assert_eq!(ids, (0..run.records.len() as u64).collect(), "a number is given out once");
    assert_eq!(server.received().requests.len(), run.records.len());
    assert!(server.received().max_in_flight <= 6);
}

#[test]
fn a_slot_that_is_off_ends_after_its_request() {
    // Three requests, held until the ramp has fallen to nothing and a later stage has begun its own: none is cut.
    let server = Server::play(|n| match n {
        0..3 => [vec![Step::Together(usize::MAX, 4)], good()].concat(),
        _ => good(),
    });
    let ramp = Ramp { start: 3.0, ..ramp("300ms:3,20ms:0,20ms:0,1h:4:hold") };
    let run = run_until(&server, &closed(ramp.clone()), 2, |received| received.requests.len() >= 20);
    keeps_to(&run, &ramp);
    assert!(run.records.iter().all(|r| [Outcome::Ok, Outcome::Cancelled].contains(&r.outcome)));
    let held: Vec<&RequestRecord> = run.records.iter().filter(|record| record.id < 3).collect();
    let fourth_us = run.records.iter().filter(|record| record.worker == 3).map(|record| record.sent_us).min();
    let outlived =
        |record: &&RequestRecord| record.end_us >= fourth_us.unwrap() && record.outcome == Outcome::Ok;
    assert!(held.len() == 3 && held.iter().all(outlived), "{held:?}");
    assert!(held.iter().all(|record| record.stage.unwrap().index == 0));
    let stages: BTreeSet<u32> = run.records.iter().map(|record| record.stage.unwrap().index).collect();
    assert_eq!(stages, BTreeSet::from([0, 3]), "nothing is sent while the ramp is at 0");
}

#[test]
fn a_ramp_lasts_to_its_end_also_without_load() {
    let server = Server::play(|_| good());
    let before = std::time::Instant::now();
    run(&server.target(), &closed(ramp("10ms:1:hold,80ms:0:hold")), 2);
    assert!(before.elapsed() >= std::time::Duration::from_millis(90));
}

#[test]
fn stages_are_marked_and_a_cool_down_is_apart() {
    let server = Server::play(|_| good());
    let ramp = ramp("30ms:2:hold,30ms:4:hold,1h:1:hold:cool-down");
    let cool = |received: &Received| {
        received.requests.iter().filter(|(id, _)| id.starts_with("tokmark-p-cool_down-")).count()
    };
    let run = run_until(&server, &closed(ramp.clone()), 1, |received| cool(received) >= 3);
    let start = start_us(&run, &ramp);
    for record in &run.records {
        let at_us = record.sent_us - start;
        let mark = record.stage.unwrap();
        assert_eq!(
            mark.index,
            [30_000, 60_000].iter().filter(|end| at_us >= **end).count() as u32,
            "{at_us}"
        );
        assert_eq!(
            (mark.start_us, record.phase == Phase::CoolDown),
            (start + 30_000 * u64::from(mark.index), mark.index == 2)
        );
    }
    // The window is that of the figures, and so are the requests.
    let measured = |record: &&RequestRecord| record.phase == Phase::Measure;
    let last = run.records.iter().filter(measured).map(|record| record.end_us).max();
    assert_eq!(last, (run.window_end_us > run.window_start_us).then_some(run.window_end_us));
    assert_eq!(cool(&server.received()), run.records.iter().filter(|r| r.phase == Phase::CoolDown).count());
    let line = serde_json::to_value(&run.records[0]).unwrap();
    assert_eq!(line["stage"]["index"], run.records[0].stage.unwrap().index);
}

#[test]
fn a_warm_up_has_the_first_level_of_the_ramp_and_no_stage() {
    let server = Server::play(|_| [vec![Step::Together(2, 4)], good()].concat());
    let point = LoadPoint { warmup_requests: 4, ..closed(ramp("100ms:2:hold,20ms:5")) };
    let run = run(&server.target(), &point, 2);
    let warm: Vec<&RequestRecord> = run.records.iter().filter(|r| r.phase == Phase::Warmup).collect();
    assert!(warm.len() == 4 && warm.iter().all(|record| record.stage.is_none() && record.worker < 2));
    assert!(run.records.len() > 4);
}

#[test]
fn an_open_ramp_sends_its_schedule_and_marks_the_intended_stage() {
    let server = Server::play(|_| good());
    // 0 → 1000/s in 100 ms: 50 arrivals; 100 ms at 1000/s: 100; a pause of 20 ms; 500/s for 40 ms: 20, of them 10 cool-down.
    let ramp = ramp("100ms:1000,100ms:1000,20ms:0:hold,20ms:500:hold,20ms:500:cool-down");
    for threads in [1, 3] {
        let run = run(&server.target(), &open(ramp.clone(), None, WhenFull::Queue), threads);
        let arrivals = run.arrivals.unwrap();
        assert_eq!((arrivals.total, arrivals.dropped), (160, 0));
        // On a slow machine the last ones may come too late to be sent; those are counted, or belong to the cool-down.
        let measured = run.records.iter().filter(|r| r.phase == Phase::Measure).count() as u64;
        assert_eq!(measured + arrivals.unsent, 160);
        let start = start_us(&run, &ramp);
        for record in &run.records {
            let at_us = record.scheduled_us - start;
            let ends = [100_000, 200_000, 220_000, 240_000];
            let stage = ends.iter().position(|end| at_us < *end).unwrap_or(4) as u32;
            assert_eq!(record.stage.unwrap().index, stage, "{at_us}");
            assert_eq!(record.phase == Phase::CoolDown, stage == 4);
            assert!(record.sent_us >= record.scheduled_us);
        }
        let in_stage = |index: u32| run.records.iter().filter(|r| r.stage.unwrap().index == index).count();
        assert!(in_stage(2) == 0 && (arrivals.unsent > 0 || (in_stage(0), in_stage(1)) == (50, 100)));
    }
}

#[test]
fn an_open_ramp_at_its_limit_drops_and_counts_measured_arrivals() {
    // Nobody is answered: one is sent, all others find it there.
    let server = Server::play(|_| vec![head(), part(TOKEN), Step::Hold]);
    let ramp = ramp("50ms:1000:hold,50ms:1000:cool-down");
    let point = LoadPoint { at_end: AtEnd::Cut, ..open(ramp, Some(1), WhenFull::Drop) };
    let run = run(&server.target(), &point, 1);
    let arrivals = run.arrivals.unwrap();
    // On a slow machine the last ones may come too late to be dropped.
    assert_eq!((arrivals.total, arrivals.dropped + arrivals.unsent), (50, 49));
    assert_eq!((run.records.len(), run.cut_at_end()), (1, 1));
}

#[test]
fn arrivals_of_an_open_ramp_that_wait_at_its_end_are_counted() {
    let server = Server::play(|_| vec![head(), part(TOKEN), Step::Hold]);
    let point = LoadPoint {
        at_end: AtEnd::Cut,
        ..open(ramp("20ms:1000:hold,20ms:500:hold"), Some(1), WhenFull::Queue)
    };
    let run = run(&server.target(), &point, 1);
    let arrivals = run.arrivals.unwrap();
    assert_eq!(arrivals, Arrivals { total: 30, dropped: 0, unsent: 29, ..arrivals });
    assert_eq!(run.cut_at_end(), 1);
}

#[test]
fn a_ramp_is_drained_or_cut_at_its_end() {
    let hold = || Server::play(|_| vec![head(), part(TOKEN), Step::Hold]);
    let cut = LoadPoint { at_end: AtEnd::Cut, ..closed(ramp("100ms:3:hold,20ms:3")) };
    let server = hold();
    let run_cut = run(&server.target(), &cut, 2);
    assert_eq!((run_cut.records.len(), run_cut.cut_at_end(), run_cut.interrupted), (3, 3, false));
    let server = hold();
    let limited = LoadPoint { at_end: AtEnd::Drain { limit_s: Some(0.03) }, ..cut.clone() };
    assert_eq!(run(&server.target(), &limited, 2).cut_at_end(), 3);
    // Requests of a measured stage are cut in the cool-down like all others; those of the cool-down are no part of the count.
    let server = hold();
    let cool = LoadPoint { at_end: AtEnd::Cut, ..closed(ramp("20ms:2:hold,20ms:5:hold:cool-down")) };
    let run_cool = run(&server.target(), &cool, 2);
    let measured = run_cool.records.iter().filter(|record| record.phase == Phase::Measure).count();
    assert!(run_cool.records.len() <= 5 && run_cool.cut_at_end() == measured as u64);
    let server = Server::play(|_| [vec![Step::Together(6, 6)], good()].concat());
    let drained = closed(ramp("300ms:6:hold"));
    assert!(run(&server.target(), &drained, 2).records.iter().all(|record| record.outcome == Outcome::Ok));
}

#[test]
fn an_interrupt_in_mid_ramp_cuts_and_records() {
    for point in [closed(ramp("20ms:4,1h:4")), open(ramp("4ms:1000:hold,1h:0:hold"), None, WhenFull::Queue)] {
        let server = Server::play(|_| vec![head(), part(TOKEN), Step::Hold]);
        let run = run_until(&server, &point, 2, |received| received.requests.len() == 4);
        assert_eq!(
            (run.records.len(), run.interrupted, run.cut_at_end()),
            (4, true, 0),
            "{:?}",
            point.arrival
        );
        assert!(run.records.iter().all(|r| r.outcome == Outcome::Cancelled && r.stage.is_some()));
    }
}

#[test]
fn a_ramp_of_nothing_is_refused() {
    let nothing = closed(ramp("1s:0"));
    let (counters, stop) = (LiveCounters::default(), CancellationToken::new());
    let target = Target::new("http://127.0.0.1:1", "m");
    let prompts = prompts(&nothing);
    assert!(drive(&target, &nothing, &prompts, &Options::default(), &counters, &mut |_| {}, &stop).is_err());
}
