//! The answer that a report begins with: what the deployment gives, up to which load, and whether the figures may be believed.

use super::table::{maybe, number};
use super::{PointResult, best, load_of, zones};
use crate::analyze::zones::{SignalName, Thresholds, Zones, judge};
use crate::metrics::Rating;

/// The first lines of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The worst verdict.
    pub verdict: Rating,
    pub headline: String,
    /// Sentences below it.
    pub lines: Vec<String>,
}

impl Answer {
    /// The answer of these points; `reproduced` compares them with published figures.
    pub fn of(rows: &[PointResult], reproduced: Option<&str>) -> Self {
        let verdict = rows.iter().map(|row| row.summary.verdict.result).max().unwrap_or(Rating::Valid);
        let capacity = zones::lines(rows);
        let mut lines = vec![verdicts(rows)];
        let told = [capacity, best::lines(rows)].into_iter().filter(|lines| lines.len() <= MOST_LINES);
        lines.extend(told.flatten());
        lines.extend(reproduced.map(str::to_owned));
        Self { verdict, headline: headline(rows), lines }
    }
}

/// More sentences on capacity, or on the best configurations, stand in their own part alone.
const MOST_LINES: usize = 7;

fn verdicts(rows: &[PointResult]) -> String {
    let count = |rating| rows.iter().filter(|row| row.summary.verdict.result == rating).count();
    let all = rows.len();
    match (count(Rating::Suspect), count(Rating::Invalid)) {
        (0, 0) if all == 1 => "The load point is valid.".to_owned(),
        (0, 0) => format!("All {all} load points are valid."),
        (_, 0) if all == 1 => "The load point is suspect; the reasons stand under Verdicts.".to_owned(),
        (0, _) if all == 1 => "The load point is invalid; the reasons stand under Verdicts.".to_owned(),
        (suspect, 0) => format!("{suspect} of {all} load points suspect; the reasons stand under Verdicts."),
        (0, invalid) => format!("{invalid} of {all} load points invalid; the reasons stand under Verdicts."),
        (suspect, invalid) => format!(
            "{suspect} of {all} load points suspect and {invalid} invalid; the reasons stand under Verdicts."
        ),
    }
}

/// `3,185 tok/s at concurrency 16; beyond it requests wait`
pub fn headline(rows: &[PointResult]) -> String {
    let series = zones::series(rows);
    match (series.as_slice(), rows) {
        (_, []) => "No load point has figures".to_owned(),
        ([one], _) => of_zones(&judge(one, Thresholds::default(), &[])),
        (_, [row]) => of_point(row),
        _ => of_best(rows),
    }
}

fn of_zones(zones: &Zones) -> String {
    let axis = zones.axis.words();
    let throughput = |load: f64| {
        let judged = zones.points.iter().find(|judged| judged.level.load == load);
        let level = judged.map(|judged| &judged.level);
        match level.and_then(|level| level.output_tokens_per_s) {
            Some(tokens) => format!("{} tok/s", number(tokens)),
            None => format!("{} requests/s", maybe(level.and_then(|level| level.requests_per_s))),
        }
    };
    if let Some(bound) = zones.saturation_beyond {
        let why = match zones.first_signal().map(|signal| signal.name) {
            Some(SignalName::QueueGrowth) => "requests wait",
            Some(SignalName::Ttft) => "the time to first token rises",
            Some(SignalName::KvCache) => "the KV cache is full",
            Some(SignalName::Latency) => "latency rises",
            Some(SignalName::Errors) => "requests fail",
            Some(SignalName::ThroughputPlateau) | None => "throughput no longer grows",
        };
        return format!("{} at {axis} {bound}; beyond it {why}", throughput(bound));
    }
    match zones.operating.peak_throughput {
        Some(peak) => format!(
            "{} at {axis} {peak}, the highest load measured; throughput still grows",
            throughput(peak)
        ),
        None => "No load has usable figures".to_owned(),
    }
}

fn of_point(row: &PointResult) -> String {
    let s = &row.summary;
    let load = match (load_of(s), s.point.request_rate) {
        (Some(load), Some(_)) => format!(" at {load} requests/s"),
        (Some(load), None) => format!(" at concurrency {load}"),
        (None, _) => String::new(),
    };
    let latency = |name: &str, value: Option<f64>| value.map(|ms| format!("{name} {} ms", number(ms)));
    let latencies = [
        latency("TTFT p50", s.ttft_ms.map(|d| d.p50)),
        latency("ITL p50", s.itl_ms.map(|d| d.p50)),
        latency("E2E p50", s.e2e_ms.map(|d| d.p50)),
    ];
    let latencies = latencies.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let latencies = if latencies.is_empty() { latencies } else { format!(": {latencies}") };
    format!("{} tok/s{load}{latencies}", number(s.throughput.output_tokens_per_s))
}

/// `concurrency 32 with max_num_seqs 256`; the name of a point without axes.
fn place(row: &PointResult) -> String {
    let axes = row.axes.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ");
    match (axes.is_empty(), load_of(&row.summary)) {
        (false, Some(load)) if row.summary.point.request_rate.is_some() => {
            format!("{load} requests/s with {axes}")
        }
        (false, Some(load)) => format!("concurrency {load} with {axes}"),
        _ => row.point.clone(),
    }
}

/// Of points that differ in more than load: the one with the highest throughput among those that may be used.
fn of_best(rows: &[PointResult]) -> String {
    let usable = rows.iter().filter(|row| row.summary.verdict.result != Rating::Invalid);
    let tokens = |row: &&PointResult| row.summary.throughput.output_tokens_per_s;
    match usable.max_by(|a, b| tokens(a).total_cmp(&tokens(b))) {
        Some(best) => format!(
            "Highest output throughput of {} load points: {} tok/s at {}",
            rows.len(),
            number(tokens(&best)),
            place(best)
        ),
        None => "No load point has usable figures".to_owned(),
    }
}
