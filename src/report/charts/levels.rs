//! Loads that were held, each with its figures: load points, and the levels of ramps.

use crate::metrics::server::LayerView;
use crate::metrics::stages::StageFigures;
use crate::metrics::{Distribution, Rating, Summary};
use crate::report::{PointResult, load_of};

/// One load and what came of it.
#[derive(Debug, Clone)]
pub(super) struct Level<'a> {
    /// Points that differ in load alone have it in common.
    pub series: &'a str,
    pub deployment: &'a str,
    pub load: f64,
    pub is_rate: bool,
    pub rating: Rating,
    pub requests_per_s: f64,
    /// Requests that failed, per second.
    pub failed_per_s: f64,
    pub goodput_per_s: Option<f64>,
    pub output_tokens_per_s: f64,
    pub ttft: Option<Distribution>,
    pub itl: Option<Distribution>,
    pub e2e: Option<Distribution>,
    /// Cut short by a search: what came out by then is no throughput of the load.
    is_cut: bool,
    servers: Option<&'a LayerView>,
}

/// The levels of all points, by load.
pub(super) fn levels(rows: &[PointResult]) -> Vec<Level<'_>> {
    let mut levels: Vec<Level> = rows.iter().flat_map(of_row).collect();
    levels.sort_by(|a, b| a.load.total_cmp(&b.load));
    levels
}

fn of_row(row: &PointResult) -> Vec<Level<'_>> {
    match (&row.summary.stages, load_of(&row.summary)) {
        (Some(stages), _) => stages.iter().flat_map(|stage| of_stage(row, stage)).collect(),
        (None, Some(load)) => vec![of_summary(row, &row.summary, load)],
        (None, None) => Vec::new(),
    }
}

fn of_summary<'a>(row: &'a PointResult, s: &'a Summary, load: f64) -> Level<'a> {
    Level {
        series: &row.series,
        deployment: &row.deployment,
        load,
        is_rate: s.point.request_rate.is_some(),
        rating: s.verdict.result,
        requests_per_s: s.throughput.requests_per_s,
        failed_per_s: if s.duration_s > 0.0 { s.requests.failed as f64 / s.duration_s } else { 0.0 },
        goodput_per_s: s.throughput.goodput_per_s,
        output_tokens_per_s: s.throughput.output_tokens_per_s,
        ttft: s.ttft_ms,
        itl: s.itl_ms,
        e2e: s.e2e_ms,
        is_cut: s.cut_short.is_some(),
        servers: s.servers.as_ref().and_then(|view| view.engine.as_ref().or(view.frontend.as_ref())),
    }
}

fn of_stage<'a>(row: &'a PointResult, stage: &'a StageFigures) -> impl Iterator<Item = Level<'a>> {
    stage.levels().map(|(load, stage)| Level {
        load,
        requests_per_s: stage.requests_per_s,
        failed_per_s: stage.failed as f64 / (stage.end_s - stage.start_s),
        goodput_per_s: stage.goodput_per_s,
        output_tokens_per_s: stage.output_tokens_per_s,
        ttft: stage.ttft_ms,
        itl: stage.itl_ms,
        e2e: stage.e2e_ms,
        servers: stage.servers.as_deref(),
        ..of_summary(row, &row.summary, load)
    })
}

impl Level<'_> {
    /// A throughput; `None` of a level that was cut short.
    pub(super) fn whole(&self, throughput: f64) -> Option<f64> {
        (!self.is_cut).then_some(throughput)
    }

    /// A figure of the engines, which know, else of the frontends.
    pub(super) fn served<T>(&self, figure: impl Fn(&LayerView) -> Option<T>) -> Option<T> {
        figure(self.servers?)
    }
}

/// The distinct names of series, in order of the rows.
pub(super) fn names<'a>(levels: &[Level<'a>]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for level in levels {
        if !names.contains(&level.series) {
            names.push(level.series);
        }
    }
    names
}
