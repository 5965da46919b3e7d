//! Points against points, with values worked out by hand.

use super::*;
use crate::metrics::cut_short::CutShort;
use crate::metrics::fixtures::{point, run, sound};
use crate::metrics::summary::{Context, summarize};

/// A run whose throughput and p50 of TTFT are these; the mean of its 100 E2E latencies is 100 ± 1 ms (t(0.975; 99) = 1.984,
/// 1.984 · 5.0148 / √99 = 1.0).
fn summary(tokens: f64, ttft: f64) -> Summary {
    let ran = run(sound());
    let mut summary = summarize(&point(), &ran, &ran.fold(), &Context::default());
    summary.throughput.output_tokens_per_s = tokens;
    summary.requests.completed = 100;
    summary.e2e_ms = summary.e2e_ms.map(|e2e| Distribution { avg: 100.0, std: 5.0148, ..e2e });
    summary.ttft_ms = summary.ttft_ms.map(|ttft_ms| Distribution { p50: ttft, ..ttft_ms });
    summary.intervals = summary.intervals.map(|mut all| {
        let within = |low, high| Bounds { low: Some(low), high: Some(high) };
        all.ttft_ms =
            all.ttft_ms.map(|known| PercentileIntervals { p50: within(ttft - 3.0, ttft + 4.0), ..known });
        all
    });
    summary
}

use crate::metrics::intervals::{Bounds, PercentileIntervals};
use crate::metrics::stats::Distribution;

fn measured(id: &str, runs: Vec<Summary>) -> Measured {
    Measured { deployment: String::new(), id: id.into(), model: "m".into(), gpus: 1, runs }
}

fn compared(a: Vec<Summary>, b: Vec<Summary>, figure: &str) -> FigurePair {
    let pairs = points(&[measured("p", a)], &[measured("p", b)], &[figure.to_owned()], Rules::default());
    assert_eq!(pairs[0].not_comparable, None);
    pairs[0].figures[0].clone()
}

const TOKENS: &str = "throughput.output_tokens_per_s";

/// One run each: ± 1 % of 1000 and of 800, so −200 ± √(10² + 8²) = 12.8, −21.28 to −18.72 % of 1000.
#[test]
fn a_run_that_is_a_fifth_slower_is_found() {
    let found = compared(vec![summary(1000.0, 50.0)], vec![summary(800.0, 50.0)], TOKENS);
    let interval = found.interval.unwrap();
    assert_eq!((found.difference, found.verdict), (Some(-0.2), Verdict::Worse));
    assert!((interval.low + 0.2128).abs() < 1e-4 && (interval.high + 0.1872).abs() < 1e-4, "{interval:?}");
    let faster = compared(vec![summary(800.0, 50.0)], vec![summary(1000.0, 50.0)], TOKENS);
    assert_eq!(faster.verdict, Verdict::Better);
}

#[test]
fn the_same_and_less_than_runs_differ_by_are_within_noise() {
    for b in [1000.0, 1004.0, 960.0] {
        let found = compared(vec![summary(1000.0, 50.0)], vec![summary(b, 50.0)], TOKENS);
        assert_eq!(found.verdict, Verdict::WithinNoise, "{b}: {found:?}");
    }
}

/// Repeats 98, 100, 102 and 108, 110, 112: ± 4.968 each, so 10 ± 7.026; the 5 % of single runs do not matter.
#[test]
fn repeats_find_what_single_runs_cannot() {
    let runs = |values: [f64; 3]| values.map(|tokens| summary(tokens, 50.0)).to_vec();
    let found = compared(runs([98.0, 100.0, 102.0]), runs([108.0, 110.0, 112.0]), TOKENS);
    let interval = found.interval.unwrap();
    assert!(
        (interval.low - 0.029_74).abs() < 1e-4 && (interval.high - 0.170_26).abs() < 1e-4,
        "{interval:?}"
    );
    assert_eq!(found.verdict, Verdict::Better);
    let found = compared(runs([98.0, 100.0, 102.0]), runs([104.0, 106.0, 108.0]), TOKENS);
    assert_eq!(found.verdict, Verdict::WithinNoise);
}

/// TTFT p50 50 (47 to 54) against 60 (57 to 64): 10 − √(3² + 4²) = 5 and 10 + √(4² + 3²) = 15 ms of 50.
#[test]
fn percentiles_take_the_order_statistics_of_their_run() {
    let found = compared(vec![summary(1.0, 50.0)], vec![summary(1.0, 60.0)], "ttft_ms.p50");
    assert_eq!(found.interval, Some(Interval { low: 0.1, high: 0.3 }));
    assert_eq!((found.difference, found.verdict), (Some(0.2), Verdict::Worse));
    let mut few = summary(1.0, 60.0);
    few.intervals = None;
    let found = compared(vec![summary(1.0, 50.0)], vec![few], "ttft_ms.p50");
    assert_eq!((found.interval, found.verdict), (None, Verdict::NotKnown));
}

fn reason(a: Measured, b: Measured, anyway: bool) -> Option<String> {
    points(&[a], &[b], &[TOKENS.to_owned()], Rules { anyway })[0].not_comparable.clone()
}

#[test]
fn what_cannot_be_compared_says_why_and_is_compared_when_asked() {
    let one = || measured("p", vec![summary(1.0, 1.0)]);
    let with = |change: fn(&mut Summary)| {
        let mut run = summary(1.0, 1.0);
        change(&mut run);
        measured("p", vec![run])
    };
    let model = Measured { model: "other".into(), ..one() };
    let cases: [(Measured, &str); 5] = [
        (model, "other models: m and other"),
        (with(|run| run.simulated = true), "B is simulated, the other is not"),
        (with(|run| run.point.streaming = false), "one of them streams, the other does not"),
        (with(|run| run.point.osl = 99), "other lengths: ISL 100 OSL 10 and ISL 100 OSL 99"),
        (
            with(|run| run.osl = run.osl.map(|osl| Distribution { avg: 8.0, ..osl })),
            "other lengths: mean OSL 10.0 and 8.0",
        ),
    ];
    for (other, why) in cases {
        assert_eq!(reason(one(), other.clone(), false).as_deref(), Some(why));
        assert_eq!(reason(one(), other, true), None);
    }
    let invalid = with(|run| {
        run.verdict.result = Rating::Invalid;
        run.verdict.reasons = vec!["9 of 10 failed".into()];
    });
    assert_eq!(reason(one(), invalid, true).as_deref(), Some("B is invalid: 9 of 10 failed"));
    let cut = with(|run| {
        run.cut_short =
            Some(CutShort { planned_requests: 99, over_saturated: true, reason: "a queue".into() });
    });
    assert_eq!(reason(one(), cut, true).as_deref(), Some("a search cut B short"));
}

#[test]
fn points_match_by_deployment_and_load_and_the_others_are_named() {
    let at = |id: &str, load: u32| {
        let mut run = summary(1.0, 1.0);
        run.point.concurrency = Some(load);
        measured(id, vec![run])
    };
    // Other lengths with the same load belong together, so that the reason can say so.
    let mut longer = at("isl9_con8", 8);
    longer.runs[0].point.isl = 9;
    let a = [at("isl1_con1", 1), at("isl1_con4", 4), at("isl1_con8", 8)];
    let b = [at("isl1_con4", 4), longer, at("isl1_con16", 16)];
    let pairs = points(&a, &b, &[TOKENS.to_owned()], Rules::default());
    let told: Vec<(&str, Option<&str>)> =
        pairs.iter().map(|pair| (pair.point.as_str(), pair.not_comparable.as_deref())).collect();
    assert_eq!(
        told,
        [
            ("isl1_con1", Some("measured in A alone")),
            ("isl1_con4", None),
            ("isl1_con8 against isl9_con8", Some("other lengths: ISL 100 OSL 10 and ISL 9 OSL 10")),
            ("isl1_con16", Some("measured in B alone")),
        ]
    );
}
