//! Figures with their intervals, and the interval of a difference.
//!
//! Source of the latter: G. Y. Zou, A. Donner, "Construction of confidence limits about effect measures: a general approach", Statistics in
//! Medicine 27 (2008): from two separate intervals, which need not be symmetric, by recovering their variances (MOVER).

use serde::Serialize;

use crate::analyze::metric;
use crate::metrics::Summary;
use crate::metrics::intervals::Bounds;
use crate::metrics::stats::Distribution;
use crate::metrics::student::{LEVEL, half_width, quantile};

/// Both ends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// A figure of one side: the mean of its runs, or that of its only run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub value: f64,
    /// Of 95 % confidence; `None` where the figure has none.
    pub interval: Option<Interval>,
}

impl Estimate {
    /// The figure at a path; `None` if no run has it. Of several runs the interval is Student's over them; of one run it is that of the
    /// order statistics for a percentile, that of the mean over its requests for an average, and for throughput that of the mean E2E
    /// latency, which in a closed loop throughput follows (Little's law).
    pub fn of(runs: &[Summary], path: &str, gpus: u32) -> Option<Self> {
        let values: Vec<f64> = runs.iter().filter_map(|run| metric::value(run, path, gpus)).collect();
        let value = (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)?;
        let around = |half: f64| Interval { low: value - half, high: value + half };
        let interval = match (half_width(&values, LEVEL), runs.first()) {
            (Some(half), _) => Some(around(half)),
            (None, Some(run)) => within_run(run, path, value),
            (None, None) => None,
        };
        Some(Self { value, interval })
    }
}

/// What the requests of one run say of a figure of it.
fn within_run(run: &Summary, path: &str, value: f64) -> Option<Interval> {
    let around = |share: f64| Interval { low: value * (1.0 - share), high: value * (1.0 + share) };
    let (name, statistic) = path.split_once('.')?;
    let name = if name == "tpot_ms" { "itl_ms" } else { name };
    let distribution = match name {
        "ttft_ms" => run.ttft_ms,
        "itl_ms" => run.itl_ms,
        "e2e_ms" => run.e2e_ms,
        "throughput" => return mean_error(&run.e2e_ms?, run.requests.completed).map(around),
        _ => return None,
    };
    let intervals = run.intervals.as_ref();
    let percentiles = match name {
        "ttft_ms" => intervals.and_then(|all| all.ttft_ms),
        "itl_ms" => intervals.and_then(|all| all.itl_ms),
        _ => intervals.and_then(|all| all.e2e_ms),
    };
    let bounds = |bounds: Bounds| Some(Interval { low: bounds.low?, high: bounds.high? });
    match statistic {
        "avg" => mean_error(&distribution?, run.requests.completed).map(around),
        "p50" => bounds(percentiles?.p50),
        "p90" => bounds(percentiles?.p90),
        "p95" => bounds(percentiles?.p95),
        "p99" => bounds(percentiles?.p99),
        _ => None,
    }
}

/// Half the interval of the mean over the completed requests, as a share of it.
fn mean_error(distribution: &Distribution, completed: u64) -> Option<f64> {
    let n = completed as f64;
    let half = || quantile(f64::midpoint(1.0, LEVEL), n - 1.0) * distribution.std / (n - 1.0).sqrt();
    (n >= 2.0 && distribution.avg > 0.0).then(|| half() / distribution.avg)
}

/// The interval of B − A.
pub(super) fn difference(a: &Estimate, b: &Estimate) -> Option<Interval> {
    let (of_a, of_b) = (a.interval?, b.interval?);
    let difference = b.value - a.value;
    Some(Interval {
        low: difference - (b.value - of_b.low).hypot(of_a.high - a.value),
        high: difference + (of_b.high - b.value).hypot(a.value - of_a.low),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(low: f64, value: f64, high: f64) -> Estimate {
        Estimate { value, interval: Some(Interval { low, high }) }
    }

    #[test]
    fn the_interval_of_a_difference_joins_the_ends_that_lie_apart() {
        // 110 − 100 = 10. Low: 10 − √((110 − 106)² + (103 − 100)²) = 10 − 5. High: 10 + √((118 − 110)² + (100 − 94)²) = 10 + 10.
        let found = difference(&estimate(94.0, 100.0, 103.0), &estimate(106.0, 110.0, 118.0));
        assert_eq!(found, Some(Interval { low: 5.0, high: 20.0 }));
        let without = Estimate { value: 1.0, interval: None };
        assert_eq!(difference(&without, &estimate(1.0, 2.0, 3.0)), None);
    }
}
