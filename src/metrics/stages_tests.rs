//! Stages and their slices.

use super::*;
use crate::metrics::fixtures::{any_record, failed, point, record};
use crate::metrics::fold::Fold;
use crate::metrics::record::{Outcome, StageMark};
use crate::plan::ramp::Shape;
use crate::plan::{Level, Stage};
use proptest::prelude::*;

fn stages<'a>(
    point: &LoadPoint,
    records: impl IntoIterator<Item = &'a RequestRecord>,
) -> Option<Vec<StageFigures>> {
    let mut fold = Fold::new(point);
    records.into_iter().for_each(|record| fold.add(record));
    fold.stages()
}

/// 0 → 2 in 1 s, 2 for 1 s, and a cool-down of 1 s.
fn ramp_point() -> LoadPoint {
    let stage = |name: Option<&str>, target, cool_down| Stage {
        name: name.map(str::to_owned),
        duration_s: 1.0,
        target,
        shape: Shape::Linear,
        cool_down,
    };
    let stages = vec![stage(Some("up"), 2.0, false), stage(None, 2.0, false), stage(None, 0.0, true)];
    let slo = Slo { e2e_ms: Some(139.0), ..Slo::default() };
    let concurrency = Level::Ramp(Ramp { start: 0.0, stages });
    LoadPoint { arrival: Arrival::Closed { concurrency }, slo, ..point() }
}

/// `record`, sent in stage `index` of a ramp that began at 5 s.
fn in_stage(record: RequestRecord, index: u32) -> RequestRecord {
    let start_us = 5_000_000 + 1_000_000 * u64::from(index);
    let phase = if index == 2 { Phase::CoolDown } else { Phase::Measure };
    RequestRecord { stage: Some(StageMark { index, start_us }), phase, ..record }
}

#[test]
fn worked_by_hand() {
    // First chunk 50 ms after the send, then one every 10 ms up to 140 ms, ten tokens.
    let mut fast = in_stage(record(2, 6_200_000), 1);
    fast.chunks_us.iter_mut().for_each(|at| *at -= 40_000);
    let records = [
        RequestRecord { phase: Phase::Warmup, ..record(0, 1_000_000) },
        in_stage(record(0, 5_500_000), 0),
        // Chunks at 5,950 … 5,990 ms belong to the first stage, 6,000 … 6,040 ms to the second, where it ends.
        in_stage(record(1, 5_900_000), 0),
        fast,
        in_stage(failed(3, 6_300_000, Outcome::Timeout), 1),
        // Sent in the second stage, over in the cool-down.
        in_stage(record(4, 6_990_000), 1),
        in_stage(record(5, 7_100_000), 2),
    ];
    let stages = stages(&ramp_point(), &records).expect("a ramp");
    let [up, second] = &stages[..] else { panic!("{stages:?}") };
    assert_eq!((up.name.as_str(), second.name.as_str()), ("up", "2"));
    assert_eq!((up.start_s, up.end_s, second.end_s), (5.0, 6.0, 7.0));
    assert_eq!((up.from, up.to, second.from), (0.0, 2.0, 2.0));
    assert_eq!((up.requests, up.completed, up.failed), (2, 2, 0));
    assert_eq!((second.requests, second.completed, second.failed), (3, 2, 1));
    assert_eq!((up.requests_per_s, second.requests_per_s), (1.0, 2.0));
    assert_eq!((up.output_tokens_per_s, second.output_tokens_per_s), (15.0, 15.0));
    assert_eq!(up.ttft_ms.expect("ttft").avg, 50.0);
    assert_eq!(second.ttft_ms.expect("ttft").min, 10.0);
    assert_eq!(second.itl_ms.expect("itl").avg, 10.0);
    assert_eq!(second.e2e_ms.expect("e2e").avg, 120.0);
    // Only the fast one met the objective.
    assert_eq!((up.good, second.good), (Some(0), Some(1)));
    assert_eq!((up.goodput_per_s, second.goodput_per_s), (Some(0.0), Some(1.0)));
}

#[test]
fn a_stage_that_held_nothing_but_cut_requests_is_named() {
    let cut = |id| RequestRecord { outcome: Outcome::Cancelled, ..in_stage(record(id, 6_900_000), 1) };
    let mut fold = Fold::new(&ramp_point());
    [in_stage(record(0, 5_500_000), 0), cut(1), cut(2)].iter().for_each(|record| fold.add(record));
    let stages = fold.stages().expect("a ramp");
    assert_eq!(
        (stages[1].requests, stages[1].completed, stages[1].failed, stages[1].cancelled),
        (2, 0, 0, 2)
    );
    assert_eq!(fold.stages_cut().collect::<Vec<_>>(), [("2", 2)]);
}

/// The loads that a stage stands for, and what came out under each, tokens per second.
fn levels(stage: &StageFigures) -> Vec<(f64, f64)> {
    stage.levels().map(|(load, stage)| (load, stage.output_tokens_per_s.round())).collect()
}

#[test]
fn a_rising_stage_is_divided_into_slices_that_outlast_an_answer() {
    // 0 → 2 in 1 s, answers of 140 ms: six slices of 167 ms. The first answer lies in the fourth, with ten tokens. The second is sent in
    // the last, where five of its tokens arrive.
    let records = [in_stage(record(0, 5_510_000), 0), in_stage(record(1, 5_900_000), 0)];
    let found = stages(&ramp_point(), &records).expect("a ramp");
    let slices = &found[0].slices;
    assert_eq!(slices.iter().map(|slice| slice.requests).collect::<Vec<_>>(), [0, 0, 0, 1, 0, 1]);
    assert_eq!(
        slices.iter().map(|slice| slice.requests_per_s.round()).collect::<Vec<_>>(),
        [0.0, 0.0, 0.0, 6.0, 0.0, 0.0]
    );
    assert_eq!((slices[3].start_s, slices[3].end_s), (5.5, 5.666_666));
    assert_eq!((slices[3].name.as_str(), slices[3].from), ("up 4/6", 1.0));
    let loads: Vec<f64> = levels(&found[0]).iter().map(|(load, _)| *load).collect();
    assert_eq!(loads, [0.167, 0.5, 0.833, 1.17, 1.5, 1.83]);
    assert_eq!(
        levels(&found[0]).iter().map(|level| level.1).collect::<Vec<_>>(),
        [0.0, 0.0, 0.0, 60.0, 0.0, 30.0]
    );
    // Answers of 300 ms allow three slices, of 500 ms two, and with longer ones the load rises too fast to be read.
    let slices = |answer_us: u64| {
        let mut slow = in_stage(record(0, 5_100_000), 0);
        (slow.end_us, slow.chunks_us) = (5_100_000 + answer_us, vec![5_200_000, 5_100_000 + answer_us]);
        stages(&ramp_point(), &[slow]).expect("a ramp")[0].slices.len()
    };
    assert_eq!([slices(300_000), slices(500_000), slices(510_000)], [3, 2, 0]);
}

#[test]
fn a_held_stage_is_a_level_unless_all_its_requests_were_cut() {
    let cut = RequestRecord { outcome: Outcome::Cancelled, ..in_stage(record(1, 6_200_000), 1) };
    let found = |record: RequestRecord| stages(&ramp_point(), &[record]).expect("a ramp");
    assert_eq!(levels(&found(in_stage(record(0, 6_200_000), 1))[1]), [(2.0, 10.0)]);
    assert_eq!(levels(&found(cut)[1]), []);
}

#[test]
fn what_does_not_apply_is_absent() {
    assert_eq!(stages(&point(), &[record(0, 0)]), None);
    let unstreamed = LoadPoint { streaming: false, slo: Slo::default(), ..ramp_point() };
    let found = stages(&unstreamed, &[in_stage(record(0, 5_500_000), 0)]).expect("a ramp");
    assert_eq!(
        (found[0].ttft_ms, found[0].itl_ms, found[0].good, found[0].goodput_per_s),
        (None, None, None, None)
    );
    assert_eq!((found[1].requests, found[1].requests_per_s, found[1].e2e_ms), (0, 0.0, None));
    let json = serde_json::to_value(&found[1]).expect("json");
    assert_eq!((&json["e2e_ms"], &json["good"]), (&serde_json::Value::Null, &serde_json::Value::Null));
}

proptest! {
    #[test]
    fn order_does_not_matter_and_nothing_is_counted_twice(
        records in prop::collection::vec((any_record(), 0..4_u32), 0..20),
    ) {
        let records: Vec<RequestRecord> = records
            .into_iter()
            .map(|(record, index)| {
                let stage = Some(StageMark { index, start_us: 1_000_000 * u64::from(index) });
                RequestRecord { stage, osl: record.osl % 1000, ..record }
            })
            .collect();
        let forth = stages(&ramp_point(), &records).unwrap();
        let back = stages(&ramp_point(), records.iter().rev()).unwrap();
        let measured = |record: &&RequestRecord| record.phase == Phase::Measure && record.stage.unwrap().index < 2;
        prop_assert_eq!(
            forth.iter().map(|stage| stage.requests).sum::<u64>(),
            records.iter().filter(measured).count() as u64
        );
        for (one, other) in forth.iter().zip(&back) {
            prop_assert_eq!((one.completed, one.good, one.requests_per_s), (other.completed, other.good, other.requests_per_s));
            prop_assert!((one.output_tokens_per_s - other.output_tokens_per_s).abs() < 1e-6);
            prop_assert!(one.completed <= one.requests && one.good <= Some(one.completed));
        }
    }
}
