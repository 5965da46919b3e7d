//! Levels that a search cut short: evidence of saturation, no throughput.

use super::*;

/// Levels of a load and its throughput, with whether and how they were cut short.
fn judged(axis: Axis, levels: &[(f64, f64, CutShort)], objectives: &[&str]) -> Zones {
    let level = |(load, throughput, cut_short): &(f64, f64, CutShort)| Level {
        load: *load,
        requests_per_s: Some(*throughput),
        output_tokens_per_s: Some(throughput * 100.0),
        latency_avg_ms: Some(1000.0),
        ttft_p50_ms: Some(if *cut_short == CutShort::No { 20.0 } else { 900.0 }),
        cut_short: *cut_short,
        figures: [("e2e.avg".to_owned(), 1000.0)].into(),
        ..Level::default()
    };
    let series = Series { axis, levels: levels.iter().map(level).collect(), ..Series::default() };
    let objectives: Vec<Objective> = objectives.iter().map(|text| objective(text).unwrap()).collect();
    judge(&series, Thresholds::default(), &objectives)
}

fn zones(judged: &Zones) -> Vec<Zone> {
    judged.points.iter().map(|judged| judged.zone).collect()
}

#[test]
fn what_came_out_until_a_point_was_cut_short_is_no_peak_and_no_fall() {
    use CutShort::{Broken, No};
    // 9 seems to fall to a half of 8, and 16 to give more.
    let levels = [(2.0, 2.0, No), (4.0, 4.0, No), (8.0, 8.0, No), (9.0, 4.0, Broken), (16.0, 12.0, Broken)];
    let judged = judged(Axis::Concurrency, &levels, &[]);
    assert_eq!((judged.saturation_beyond, judged.operating.peak_throughput), (None, Some(8.0)));
    use Zone::{EarlyDegradation, Safe};
    assert_eq!(zones(&judged), [Safe, Safe, Safe, EarlyDegradation, EarlyDegradation]);
    assert_eq!(judged.first_signal().map(|signal| (signal.name, signal.at)), Some((SignalName::Ttft, 9.0)));
    assert_eq!(judged.points[3].efficiency, None);
    let json = judged.json();
    assert_eq!(
        (&json["points"][3]["cut_short"], &json["points"][3]["output_tokens_per_s"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(json["points"][2].get("cut_short"), None);
}

#[test]
fn an_over_saturated_rate_was_not_reached_and_keeps_no_objective() {
    use CutShort::{No, OverSaturated};
    let levels = [(16.0, 16.0, No), (32.0, 32.0, No), (64.0, 62.0, OverSaturated)];
    let judged = judged(Axis::RequestRate, &levels, &["e2e.avg < 2s"]);
    assert_eq!((judged.saturation_beyond, judged.operating.peak_throughput), (Some(32.0), Some(32.0)));
    assert_eq!(zones(&judged)[2], Zone::Saturated);
    let sustained = judged.sustained.unwrap();
    assert_eq!((sustained.outcome, sustained.load), (Outcome::Bounded, Some(32.0)));
    assert_eq!(sustained.broken.map(|broken| (broken.at, broken.objective)), Some((64.0, None)));
}
