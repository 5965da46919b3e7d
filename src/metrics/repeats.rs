//! Repeats of a load point in one summary: the mean of each figure, and half the width of its interval.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::intervals::IntervalKind;
use super::processes::ProcessView;
use super::stats::Distribution;
use super::student::{LEVEL, half_width};
use super::summary::{Offered, Requests, Summary, Throughput};
use super::verdict::{Rating, Verdict};
use crate::plan::without_repeat;

/// What a summary of several repeats is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Repeats {
    /// Repeats whose mean the figures are.
    pub n: u64,
    /// Repeats that are invalid and were left out.
    pub left_out: u64,
    /// How the intervals are made.
    pub kind: IntervalKind,
    /// Confidence of the intervals, as a share.
    pub level: f64,
    /// Half the width of the interval of each figure by its path; of a single repeat none.
    pub half_width: BTreeMap<String, f64>,
}

type Figure = fn(&Summary) -> Option<f64>;

/// The figures that have intervals, by their path.
pub const FIGURES: [(&str, Figure); 18] = [
    ("throughput.requests_per_s", |s| Some(s.throughput.requests_per_s)),
    ("throughput.output_tokens_per_s", |s| Some(s.throughput.output_tokens_per_s)),
    ("throughput.total_tokens_per_s", |s| Some(s.throughput.total_tokens_per_s)),
    ("throughput.output_tokens_per_s_per_gpu", |s| s.throughput.output_tokens_per_s_per_gpu),
    ("throughput.output_tokens_per_s_per_user", |s| s.throughput.output_tokens_per_s_per_user),
    ("throughput.goodput_per_s", |s| s.throughput.goodput_per_s),
    ("ttft_ms.avg", |s| Some(s.ttft_ms?.avg)),
    ("ttft_ms.p50", |s| Some(s.ttft_ms?.p50)),
    ("ttft_ms.p95", |s| Some(s.ttft_ms?.p95)),
    ("ttft_ms.p99", |s| Some(s.ttft_ms?.p99)),
    ("itl_ms.avg", |s| Some(s.itl_ms?.avg)),
    ("itl_ms.p50", |s| Some(s.itl_ms?.p50)),
    ("itl_ms.p95", |s| Some(s.itl_ms?.p95)),
    ("itl_ms.p99", |s| Some(s.itl_ms?.p99)),
    ("e2e_ms.avg", |s| Some(s.e2e_ms?.avg)),
    ("e2e_ms.p50", |s| Some(s.e2e_ms?.p50)),
    ("e2e_ms.p95", |s| Some(s.e2e_ms?.p95)),
    ("e2e_ms.p99", |s| Some(s.e2e_ms?.p99)),
];

impl Summary {
    /// Half the width of the interval of the figure at a path; `None` for a summary of one run.
    pub fn half_width(&self, path: &str) -> Option<f64> {
        self.repeats.as_ref()?.half_width.get(path).copied()
    }

    /// Completed requests of a run; of repeats on average.
    pub fn completed_each(&self) -> u64 {
        self.requests.completed / self.repeats.as_ref().map_or(1, |repeats| repeats.n.max(1))
    }
}

/// One summary of several of one load: means of the figures and sums of the counts. Invalid ones are left out, unless all are.
/// Of processes the highest figures. Servers, stages, turns and faults are those of single repeats, and absent here. `None` without a summary.
pub fn mean(all: &[&Summary]) -> Option<Summary> {
    let valid: Vec<&Summary> =
        all.iter().copied().filter(|summary| summary.verdict.result != Rating::Invalid).collect();
    let used = if valid.is_empty() { all } else { &valid };
    let first = *used.first()?;
    let values = |figure: Figure| used.iter().filter_map(|summary| figure(summary)).collect::<Vec<f64>>();
    let half_widths = FIGURES
        .iter()
        .filter_map(|(path, figure)| Some(((*path).to_owned(), half_width(&values(*figure), LEVEL)?)));
    let repeats = Repeats {
        n: used.len() as u64,
        left_out: (all.len() - used.len()) as u64,
        kind: IntervalKind::Student,
        level: LEVEL,
        half_width: half_widths.collect(),
    };
    let spread = |pick: fn(&Summary) -> Option<Distribution>| {
        mean_distribution(&used.iter().filter_map(|summary| pick(summary)).collect::<Vec<_>>())
    };
    let mut point = first.point.clone();
    point.job = None;
    if let Some(number) = point.repeat.take() {
        point.id = without_repeat(&point.id, number).to_owned();
    }
    Some(Summary {
        point,
        requests: requests(used),
        duration_s: used.iter().map(|summary| summary.duration_s).sum(),
        ttft_ms: spread(|s| s.ttft_ms),
        ttft_scheduled_ms: spread(|s| s.ttft_scheduled_ms),
        ttfo_ms: spread(|s| s.ttfo_ms),
        ttst_ms: spread(|s| s.ttst_ms),
        itl_ms: spread(|s| s.itl_ms),
        icl_ms: spread(|s| s.icl_ms),
        decode_ms: spread(|s| s.decode_ms),
        tps_per_user: spread(|s| s.tps_per_user),
        e2e_ms: spread(|s| s.e2e_ms),
        e2e_scheduled_ms: spread(|s| s.e2e_scheduled_ms),
        isl: spread(|s| s.isl),
        osl: spread(|s| s.osl),
        throughput: throughput(used),
        offered: Offered {
            requests_per_s: average(&values(|s| s.offered.requests_per_s)),
            sent_per_s: average(&values(|s| s.offered.sent_per_s)),
            schedule_lag_ms: spread(|s| s.offered.schedule_lag_ms),
            ..Offered::default()
        },
        stages: first.stages.as_ref().map(|_| Vec::new()),
        conversations: None,
        cut_short: used.iter().find_map(|summary| summary.cut_short.clone()),
        turns: Vec::new(),
        prefix_cache: None,
        token_check: None,
        servers: None,
        processes: ProcessView::highest(used.iter().flat_map(|summary| &summary.processes)),
        intervals: None,
        faults: Vec::new(),
        verdict: verdict(used, &repeats),
        repeats: Some(repeats),
        ..first.clone()
    })
}

fn average(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn mean_distribution(all: &[Distribution]) -> Option<Distribution> {
    all.first()?;
    let of = |field: fn(&Distribution) -> f64| {
        average(&all.iter().map(field).collect::<Vec<_>>()).unwrap_or_default()
    };
    Some(Distribution {
        avg: of(|d| d.avg),
        min: of(|d| d.min),
        max: of(|d| d.max),
        std: of(|d| d.std),
        p1: of(|d| d.p1),
        p5: of(|d| d.p5),
        p10: of(|d| d.p10),
        p25: of(|d| d.p25),
        p50: of(|d| d.p50),
        p75: of(|d| d.p75),
        p90: of(|d| d.p90),
        p95: of(|d| d.p95),
        p99: of(|d| d.p99),
        count: all.iter().map(|d| d.count).sum(),
        sum: all.iter().map(|d| d.sum).sum(),
    })
}

fn throughput(used: &[&Summary]) -> Throughput {
    let of = |figure: Figure| average(&used.iter().filter_map(|s| figure(s)).collect::<Vec<_>>());
    Throughput {
        requests_per_s: of(|s| Some(s.throughput.requests_per_s)).unwrap_or_default(),
        output_tokens_per_s: of(|s| Some(s.throughput.output_tokens_per_s)).unwrap_or_default(),
        total_tokens_per_s: of(|s| Some(s.throughput.total_tokens_per_s)).unwrap_or_default(),
        output_tokens_per_s_per_gpu: of(|s| s.throughput.output_tokens_per_s_per_gpu),
        total_tokens_per_s_per_gpu: of(|s| s.throughput.total_tokens_per_s_per_gpu),
        output_tokens_per_s_per_user: of(|s| s.throughput.output_tokens_per_s_per_user),
        goodput_per_s: of(|s| s.throughput.goodput_per_s),
    }
}

fn requests(used: &[&Summary]) -> Requests {
    let mut by_outcome: BTreeMap<String, u64> = BTreeMap::new();
    for (outcome, count) in used.iter().flat_map(|summary| &summary.requests.by_outcome) {
        *by_outcome.entry(outcome.clone()).or_default() += count;
    }
    let sum = |count: fn(&Requests) -> u64| used.iter().map(|summary| count(&summary.requests)).sum();
    Requests {
        total: sum(|requests| requests.total),
        completed: sum(|requests| requests.completed),
        failed: sum(|requests| requests.failed),
        by_outcome,
        errors: Vec::new(),
    }
}

/// The worst of those used, at least suspect when some were left out.
fn verdict(used: &[&Summary], repeats: &Repeats) -> Verdict {
    let worst = used.iter().map(|summary| summary.verdict.result).max().unwrap_or(Rating::Invalid);
    let mut verdict = Verdict { result: worst, reasons: Vec::new() };
    let count = used.iter().filter(|summary| summary.verdict.result == worst).count();
    if worst > Rating::Valid {
        verdict
            .reasons
            .push(format!("{count} of {} repeats are {worst}: their own reasons say why", used.len()));
    }
    if repeats.left_out > 0 {
        let all = repeats.n + repeats.left_out;
        verdict.suspect(format!("{} of {all} repeats are invalid and were left out", repeats.left_out));
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{point, run, sound};
    use crate::metrics::summary::{Context, summarize};

    fn repeat(number: u32, tokens_per_s: f64, ttft_p50: f64, result: Rating) -> Summary {
        let ran = run(sound());
        let mut summary = summarize(&point(), &ran, &ran.fold(), &Context::default());
        summary.point.id = format!("{}_r{number}", summary.point.id);
        summary.point.repeat = Some(number);
        summary.throughput.output_tokens_per_s = tokens_per_s;
        summary.ttft_ms = summary.ttft_ms.map(|ttft| Distribution { p50: ttft_p50, ..ttft });
        summary.verdict = Verdict { result, reasons: Vec::new() };
        summary
    }

    #[test]
    fn figures_are_means_with_intervals_and_counts_are_sums() {
        let all = [
            repeat(1, 98.0, 10.0, Rating::Valid),
            repeat(2, 100.0, 20.0, Rating::Valid),
            repeat(3, 102.0, 30.0, Rating::Valid),
        ];
        let mean = mean(&all.iter().collect::<Vec<_>>()).expect("three");
        assert_eq!((mean.point.id.as_str(), mean.point.repeat), ("isl100_osl10_con2", None));
        assert_eq!((mean.throughput.output_tokens_per_s, mean.ttft_ms.unwrap().p50), (100.0, 20.0));
        // t(0.975; 2) = 4.3027: · √(4 / 3) and · √(100 / 3).
        let half = |path| mean.half_width(path).expect("an interval");
        assert!((half("throughput.output_tokens_per_s") - 4.968).abs() < 1e-3);
        assert!((half("ttft_ms.p50") - 24.841).abs() < 1e-2);
        assert_eq!((mean.requests.total, mean.completed_each()), (60, 20));
        assert_eq!(mean.verdict, Verdict { result: Rating::Valid, reasons: Vec::new() });
        assert_eq!(mean.intervals, None);
    }

    #[test]
    fn invalid_repeats_are_left_out_and_one_alone_has_no_interval() {
        let all = [repeat(1, 50.0, 10.0, Rating::Invalid), repeat(2, 100.0, 20.0, Rating::Valid)];
        let mean = mean(&all.iter().collect::<Vec<_>>()).expect("two");
        assert_eq!(mean.throughput.output_tokens_per_s, 100.0);
        let repeats = mean.repeats.as_ref().expect("repeats");
        assert_eq!((repeats.n, repeats.left_out, repeats.half_width.len()), (1, 1, 0));
        assert_eq!(mean.verdict.result, Rating::Suspect);
        assert_eq!(mean.verdict.reasons, ["1 of 2 repeats are invalid and were left out"]);
        assert_eq!(super::mean(&[]), None);
    }

    #[test]
    fn repeats_that_are_all_invalid_stay_so() {
        let all = [repeat(1, 50.0, 10.0, Rating::Invalid), repeat(2, 100.0, 20.0, Rating::Invalid)];
        let mean = mean(&all.iter().collect::<Vec<_>>()).expect("two");
        assert_eq!((mean.verdict.result, mean.throughput.output_tokens_per_s), (Rating::Invalid, 75.0));
        assert_eq!(mean.verdict.reasons, ["2 of 2 repeats are invalid: their own reasons say why"]);
    }
}
