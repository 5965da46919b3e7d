//! `analysis.json`: what the load points of an experiment tell together, for programs.

use serde_json::{Map, Value, json};

use super::{Header, PointResult, best, load_of, repeats};
use crate::metrics::Summary;
use crate::metrics::intervals::{Bounds, IntervalKind, PercentileIntervals};
use crate::metrics::repeats::FIGURES;
use crate::metrics::student::LEVEL;

/// Version of the file.
pub const SCHEMA: u32 = 1;

/// The whole file.
pub fn json(header: &Header, rows: &[PointResult]) -> Value {
    let cold = repeats::cold(rows).into_iter().map(|(unit, cold)| {
        json!({"point": cold.point, "unit": unit, "first": cold.first, "later": cold.later, "later_repeats": cold.n})
    });
    let mut file = json!({
        "schema": SCHEMA,
        "simulated": rows.iter().any(|row| row.summary.simulated),
        "points": repeats::means(rows).iter().map(point).collect::<Vec<_>>(),
        "cold_starts": cold.collect::<Vec<_>>(),
        "best": best::json(rows),
    });
    if let Some(search) = &header.search.1 {
        file["search"] = search.clone();
    }
    file
}

/// A load point with each figure and its interval.
fn point(row: &PointResult) -> Value {
    let summary = &row.summary;
    let figures: Map<String, Value> = FIGURES
        .iter()
        .filter_map(|(path, figure)| {
            Some(((*path).to_owned(), with_interval(summary, path, figure(summary)?)))
        })
        .collect();
    json!({
        "point": row.point,
        "deployment": row.deployment,
        "axes": axes(row),
        "load": load_of(summary),
        "verdict": summary.verdict.result,
        "repeats": summary.repeats.as_ref().map(|repeats| json!({"n": repeats.n, "left_out": repeats.left_out})),
        "figures": figures,
    })
}

/// Name and value of each server axis.
pub(super) fn axes(row: &PointResult) -> Map<String, Value> {
    row.axes.iter().map(|(name, value)| (name.clone(), Value::from(value.clone()))).collect()
}

/// A value, with the interval that it has: over repeats that of the mean, of one run that of a percentile.
fn with_interval(summary: &Summary, path: &str, value: f64) -> Value {
    let interval = match &summary.repeats {
        Some(repeats) => repeats.half_width.get(path).map(|half| {
            let bounds = Bounds { low: Some(value - half), high: Some(value + half) };
            interval(IntervalKind::Student, repeats.n, bounds)
        }),
        None => {
            percentile(summary, path).map(|(n, bounds)| interval(IntervalKind::OrderStatistics, n, bounds))
        }
    };
    json!({"value": value, "interval": interval})
}

fn interval(kind: IntervalKind, n: u64, bounds: Bounds) -> Value {
    json!({"kind": kind, "level": LEVEL, "n": n, "low": bounds.low, "high": bounds.high})
}

/// The interval of a percentile of one run, and the number of requests it is from.
fn percentile(summary: &Summary, path: &str) -> Option<(u64, Bounds)> {
    let (metric, percentile) = path.split_once('.')?;
    let intervals = summary.intervals?;
    let of: PercentileIntervals = match metric {
        "ttft_ms" => intervals.ttft_ms?,
        "itl_ms" => intervals.itl_ms?,
        "e2e_ms" => intervals.e2e_ms?,
        _ => return None,
    };
    let bounds = match percentile {
        "p50" => of.p50,
        "p95" => of.p95,
        "p99" => of.p99,
        _ => return None,
    };
    Some((of.n, bounds))
}
