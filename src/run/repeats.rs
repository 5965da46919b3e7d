//! Whether another repeat of a load point is needed.

use crate::analyze::metric;
use crate::analyze::repeats::wants_another;
use crate::metrics::Rating;
use crate::metrics::student::{LEVEL, half_width};
use crate::plan::{Deployment, LoadPoint};
use crate::report::PointResult;

/// Why this repeat is not needed: the `rows` of its load are exact enough. `None` if it is.
pub(super) fn enough(rows: &[PointResult], deployment: &Deployment, point: &LoadPoint) -> Option<String> {
    let until = point.repeat.as_ref()?.until.as_ref()?;
    let name = deployment.named(point.load_id());
    let is_usable =
        |row: &&PointResult| row.load_name() == name && row.summary.verdict.result != Rating::Invalid;
    let value = |row: &PointResult| metric::value(&row.summary, &until.figure, deployment.gpus);
    let values: Vec<f64> = rows.iter().filter(is_usable).filter_map(value).collect();
    if wants_another(&values, until) {
        return None;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let percent = if mean == 0.0 { 0.0 } else { 100.0 * half_width(&values, LEVEL)? / mean.abs() };
    Some(format!("{} repeats are enough: {} is {mean:.3} ± {percent:.2} %", values.len(), until.figure))
}
