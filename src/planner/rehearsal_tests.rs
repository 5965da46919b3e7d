use super::*;
use crate::plan::{Limit, Ramp, Spacing};

fn closed(concurrency: u32, requests: u64) -> LoadPoint {
    let (arrival, stop) = (Arrival::closed(concurrency), Stop::Requests(requests));
    LoadPoint { arrival, stop, ..LoadPoint::default() }
}

#[test]
fn a_share_of_the_requests_and_of_the_warm_up_is_left_and_says_so() {
    let mut point = LoadPoint { warmup_requests: 4096, ..closed(2048, 16_384) };
    point.scale(0.01);
    assert_eq!((point.stop, point.warmup_requests), (Stop::Requests(164), 41));
    assert_eq!(point.arrival, Arrival::closed(2048), "the point stays the same one");
    assert_eq!(point.scaled, Some(0.01));
}

#[test]
fn what_is_small_already_is_not_scaled_to_nothing() {
    for (requests, left) in [(3, 3), (40, 10), (1000, 10), (2000, 20)] {
        let mut point = closed(1, requests);
        point.scale(0.01);
        assert_eq!(point.stop, Stop::Requests(left), "{requests}");
        assert_eq!(point.warmup_requests, 0, "none stays none");
    }
    let (rate, limit) = (Level::Constant(2.0), Limit::default());
    let arrival = Arrival::Open { rate, spacing: Spacing::Poisson, limit };
    let mut point = LoadPoint { arrival, stop: Stop::DurationS(60.0), ..closed(1, 1) };
    point.scale(0.01);
    assert_eq!(point.stop, Stop::DurationS(1.0));
}

#[test]
fn stages_shrink_and_the_ramp_ends_with_the_last() {
    let ramp: Ramp = "300s:512,600s:512:hold,10s:0:cool-down".parse().unwrap();
    let arrival = Arrival::Closed { concurrency: Level::Ramp(ramp) };
    let mut point = LoadPoint { arrival, stop: Stop::DurationS(910.0), ..closed(1, 1) };
    point.scale(0.01);
    let ramp = point.arrival.ramp().unwrap();
    let lengths: Vec<f64> = ramp.stages.iter().map(|stage| stage.duration_s).collect();
    assert_eq!(lengths, [3.0, 6.0, 0.5]);
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
        max_isl: None,
        max_osl: None,
        share: None,
    });
    assert_eq!(context(&[point, trace]), None);
}
