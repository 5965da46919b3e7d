//! Resuming an interrupted ramp: what is kept, what is set aside, what the result holds.

use tokio_util::sync::CancellationToken;

use super::point::{Measure, set_aside};
use crate::load::LiveCounters;
use crate::load::testing::{Server, good, point};
use crate::metrics::Rating;
use crate::plan::{Arrival, Level, LoadPoint, Ramp, Stop};
use crate::report::summary_in;

#[test]
fn an_interrupted_ramp_is_set_aside_and_run_anew() {
    let server = Server::play(|_| good());
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("ramp");
    let measure = |stages: &str| {
        let ramp: Ramp = stages.parse().unwrap();
        let stop = Stop::DurationS(ramp.duration_s());
        let arrival = Arrival::Closed { concurrency: Level::Ramp(ramp) };
        Measure {
            dir: Some(dir.clone()),
            ..Measure::new(server.target(), LoadPoint { arrival, stop, ..point(1) })
        }
    };
    let stop = CancellationToken::new();
    let cut = std::thread::scope(|scope| {
        let run = scope.spawn(|| measure("20ms:2:hold,1h:3:hold").run(&LiveCounters::default(), &stop));
        while server.received().requests.len() < 20 {
            std::thread::yield_now();
        }
        stop.cancel();
        run.join().unwrap().unwrap()
    });
    assert_eq!(cut.verdict.result, Rating::Invalid);
    assert!(summary_in(&dir).is_none() && dir.join("summary.interrupted.json").exists());

    set_aside(&dir, true).unwrap();
    assert!(dir.with_file_name("ramp.interrupted-1").join("records.jsonl").exists());
    let whole = measure("200ms:2:hold,200ms:3:hold");
    let summary = whole.run(&LiveCounters::default(), &CancellationToken::new()).unwrap();
    let stages = summary.stages.as_ref().unwrap();
    assert_eq!(stages.iter().map(|stage| stage.requests).sum::<u64>(), summary.requests.total);
    assert_eq!((stages.len(), stages[1].to), (2, 3.0));
    let read = summary_in(&dir).unwrap();
    assert_eq!(read.stages.unwrap().len(), 2);
}
