//! The same records in other tools' definitions and file formats, so that their readers work on our results; and readers
//! of their summaries, so that theirs can stand beside ours.
//!
//! Statistics come from the fold; only what lists every chunk or every error walks the records again.

pub mod aiperf;
pub mod genai_perf;
pub mod read;
pub mod vllm_bench;
pub mod vllm_bench_csv;

use crate::metrics::fold::Fold;
use crate::metrics::record::{PointRun, Records, RequestRecord};
use crate::metrics::row::Row;
use crate::plan::{Arrival, LoadPoint, Spacing};
use std::io;

/// A load point that was driven.
#[derive(Clone, Copy)]
pub struct Results<'a> {
    /// What was asked for.
    pub point: &'a LoadPoint,
    /// How it ran.
    pub run: &'a PointRun,
    /// Its requests, folded up.
    pub fold: &'a Fold,
    /// The same requests in full.
    pub records: &'a dyn Records,
}

impl Results<'_> {
    /// Shows the requests at these positions of the fold, in this order. Those for which `reread` holds are read again and
    /// come with their record.
    fn walk(
        &self,
        positions: &[u32],
        reread: impl Fn(&Row) -> bool,
        mut see: impl FnMut(&Row, Option<&RequestRecord>) -> io::Result<()>,
    ) -> io::Result<()> {
        let rows = || positions.iter().filter_map(|at| Some((*at, self.fold.rows().get(*at)?)));
        let mut left = rows().map(|(_, row)| row);
        let mut wanted = rows().filter(|(_, row)| reread(row)).map(|(at, _)| at);
        self.records.pick(&mut wanted, &mut |record| {
            for row in left.by_ref() {
                if reread(row) {
                    return see(row, Some(record));
                }
                see(row, None)?;
            }
            Ok(())
        })?;
        left.try_for_each(|row| see(row, None))
    }
}

/// What the exports need to know beside the load point and its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportContext<'a> {
    /// Model name as sent to the server.
    pub model: &'a str,
    /// Base URL of the server, without credentials.
    pub url: &'a str,
    /// Our own version, e.g. `0.1.0`.
    pub version: &'a str,
    /// The answers came from the simulated engine.
    pub simulated: bool,
    /// Name of the experiment or run; `benchmark_id` of AIPerf's JSON.
    pub benchmark_id: &'a str,
}

/// The arrivals of a point in the words that the exports share. They have none for a ramp: its highest load stands for it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Offered {
    /// Most requests in flight; `None` when there is no bound.
    concurrency: Option<u32>,
    /// Arrivals per second; `None` in a closed loop.
    rate: Option<f64>,
    /// Shape of the gamma distribution of the gaps: 1 is Poisson, infinity is constant spacing.
    burstiness: f64,
}

fn offered(point: &LoadPoint) -> Offered {
    let burstiness = match spacing(point) {
        Some(Spacing::Constant) => f64::INFINITY,
        Some(Spacing::Gamma { shape }) => shape,
        Some(Spacing::Poisson) | None => 1.0,
    };
    Offered { concurrency: point.concurrency(), rate: point.request_rate(), burstiness }
}

/// How the arrivals of an open loop are spaced.
fn spacing(point: &LoadPoint) -> Option<Spacing> {
    match &point.arrival {
        Arrival::Open { spacing, .. } => Some(*spacing),
        Arrival::Closed { .. } | Arrival::Trace { .. } => None,
    }
}

/// The part of a model name after the last `/`, fit for a file name.
fn file_name_of_model(model: &str) -> String {
    let base = model.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    file_name_part(base)
}

/// `text` with everything that a file name, a shell glob or a reader's pattern could stumble over replaced by `_`.
fn file_name_part(text: &str) -> String {
    let kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
    let name: String = text.chars().map(|c| if kept(c) { c } else { '_' }).take(100).collect();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

/// `YYYYmmdd-HHMMSS` of the start of the point, UTC: the same for every export of one run, however often it is made.
fn time_stamp(run: &PointRun) -> String {
    run.started_at.strftime("%Y%m%d-%H%M%S").to_string()
}
