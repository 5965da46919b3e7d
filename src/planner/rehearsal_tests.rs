use super::*;
use crate::plan::{Limit, Ramp, Spacing};

fn closed(concurrency: u32, requests: u64) -> LoadPoint {
    let (arrival, stop) = (Arrival::closed(concurrency), Stop::Requests(requests));
    LoadPoint { arrival, stop, ..LoadPoint::default() }
}

#[test]
fn a_share_of_the_requests_and_of_the_warm_up_is_left_and_says_so() {
    let mut point = LoadPoint { warmup_requests: 4096, ..closed(2048, 16_384) };
    point.scale(0.01, 1.0);
    assert_eq!((point.stop, point.warmup_requests), (Stop::Requests(2048), 41), "the concurrency is reached");
    assert_eq!(point.arrival, Arrival::closed(2048), "the point stays the same one");
    assert_eq!(point.scaled, Some(0.125), "the share that it really drives");
}

#[test]
fn what_is_small_already_is_not_scaled_to_nothing() {
    for (requests, left) in [(3, 3), (40, 10), (1000, 10), (2000, 20)] {
        let mut point = closed(1, requests);
        point.scale(0.01, 1.0);
        assert_eq!(point.stop, Stop::Requests(left), "{requests}");
        assert_eq!(point.scaled, (left < requests).then(|| left as f64 / requests as f64), "{requests}");
        assert_eq!(point.warmup_requests, 0, "none stays none");
    }
    let (rate, limit) = (Level::Constant(2.0), Limit::default());
    let arrival = Arrival::Open { rate, spacing: Spacing::Poisson, limit };
    let mut point =
        LoadPoint { arrival, stop: Stop::DurationS(60.0), osl: Length::fixed(16), ..closed(1, 1) };
    point.scale(0.01, 1.0);
    assert_eq!((point.stop, point.scaled), (Stop::DurationS(1.0), Some(0.0167)));
}

#[test]
fn stages_shrink_and_the_ramp_ends_with_the_last() {
    let ramp: Ramp = "300s:512,600s:512:hold,10s:0:cool-down".parse().unwrap();
    let arrival = Arrival::Closed { concurrency: Level::Ramp(ramp) };
    let whole = LoadPoint { arrival, stop: Stop::DurationS(910.0), osl: Length::fixed(100), ..closed(1, 1) };
    let lengths = |point: &LoadPoint| -> Vec<f64> {
        point.arrival.ramp().unwrap().stages.iter().map(|stage| stage.duration_s).collect()
    };
    let mut point = whole.clone();
    point.scale(0.01, 1.0);
    assert_eq!(lengths(&point), [5.0, 6.0, 5.0], "a stage outlasts an answer of 100 tokens");
    let mut point = whole;
    point.scale(0.01, 100.0);
    assert_eq!(lengths(&point), [3.0, 6.0, 0.5]);
    let ramp = point.arrival.ramp().unwrap();
    assert_eq!(ramp.peak(), 512.0);
    assert_eq!(point.stop, Stop::DurationS(9.5));
}

#[test]
fn the_longest_request_is_known_unless_a_file_decides() {
    let point = LoadPoint { isl: Length::normal(200, 20), osl: Length::normal(100, 10), ..closed(1, 1) };
    // 200 + 4 × 20 and 100 + 4 × 10, and room for the template.
    assert_eq!(context(&[point.clone(), closed(1, 1)]), Some(280 + 140 + 256));
    let mut trace = point.clone();
    trace.prompts.source = PromptKind::Trace(crate::plan::prompts::Trace {
        kind: crate::plan::prompts::TraceKind::Mooncake,
        path: "t.jsonl".into(),
        speedup: 1.0,
        start_s: 0.0,
        block_size: None,
        max_isl: None,
        max_osl: None,
        share: None,
    });
    assert_eq!(context(&[point, trace]), None);
}
