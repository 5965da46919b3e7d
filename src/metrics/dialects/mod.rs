//! The same records in other tools' definitions and file formats, so that their readers work on our results; and readers
//! of their summaries, so that theirs can stand beside ours.
//!
//! AIPerf's files, which every run writes, are made from a stream of records; the others hold the records in memory.

pub mod aiperf;
pub mod genai_perf;
pub mod read;
pub mod vllm_bench;
pub mod vllm_bench_csv;

use crate::metrics::record::{Phase, PointRun, RequestRecord};
use crate::plan::{Arrival, LoadPoint, Spacing};
use serde::Serialize;
use serde_json::{Value, json};

/// A load point that was driven, with every measured request in memory.
#[derive(Debug, Clone, Copy)]
pub struct Results<'a> {
    /// The requested load.
    pub point: &'a LoadPoint,
    /// How it ran.
    pub run: &'a PointRun,
    /// The measured requests, see [`in_order_of_sending`].
    pub records: &'a [&'a RequestRecord],
}

/// The measured ones of `records`, in the order they were sent in.
pub fn in_order_of_sending(records: &[RequestRecord]) -> Vec<&RequestRecord> {
    let mut measured: Vec<_> = records.iter().filter(|record| record.phase == Phase::Measure).collect();
    measured.sort_by_key(|record| record.id);
    measured
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

/// Statistics of a metric by name, in the order of the file.
type Stats = Vec<(&'static str, f64)>;

/// A statistic that is a whole number in files.
const COUNT: &str = "count";

fn get(stats: &Stats, name: &str) -> Option<f64> {
    stats.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

/// A metric of a JSON export: its unit, then its statistics; those that are infinite are `null`.
fn statistics(unit: &str, stats: &Stats) -> Value {
    let numbers = stats.iter().map(|(name, value)| match *name {
        COUNT => (COUNT.to_owned(), json!(*value as u64)),
        name => (name.to_owned(), json!(value)),
    });
    std::iter::once(("unit".to_owned(), json!(unit))).chain(numbers).collect()
}

/// The gaps between the chunks of a request, in units of so many µs.
struct ChunkGaps<'a> {
    chunks_us: &'a [u64],
    unit_us: f64,
}

impl Serialize for ChunkGaps<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pairs = self.chunks_us.iter().zip(self.chunks_us.iter().skip(1));
        serializer.collect_seq(pairs.map(|(from, to)| to.saturating_sub(*from) as f64 / self.unit_us))
    }
}

/// The SLOs by AIPerf's and genai-perf's names of the metrics, ms.
fn objectives(point: &LoadPoint) -> Value {
    let slos = [
        ("time_to_first_token", point.slo.ttft_ms),
        ("inter_token_latency", point.slo.itl_ms),
        ("request_latency", point.slo.e2e_ms),
    ];
    let set = slos.into_iter().filter_map(|(tag, bound)| Some((tag.to_owned(), json!(bound?))));
    Value::Object(set.collect())
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
