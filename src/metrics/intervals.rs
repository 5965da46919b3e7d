//! Confidence intervals of the percentiles of one run, from order statistics: no distribution is assumed, and the ranks are
//! exact for any number of requests.
//!
//! Source: H. A. David, H. N. Nagaraja, "Order Statistics", 3rd ed., 7.1: the number of values below the true percentile is
//! binomial. The values count as independent, which requests that share a batch are not quite, so an interval is rather too
//! narrow; and it says nothing about another run.

use serde::{Deserialize, Serialize};

use super::student::{LEVEL, ln_gamma};

/// The intervals of a summary.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Intervals {
    /// How they are made.
    pub kind: IntervalKind,
    /// Confidence, as a share.
    pub level: f64,
    /// Of the TTFT percentiles, ms. `null` without streaming.
    pub ttft_ms: Option<PercentileIntervals>,
    /// Of the ITL percentiles, ms. `null` without streaming.
    pub itl_ms: Option<PercentileIntervals>,
    /// Of the E2E latency percentiles, ms.
    pub e2e_ms: Option<PercentileIntervals>,
}

/// Where an interval comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IntervalKind {
    /// Ranks among the requests of one run.
    OrderStatistics,
    /// Student's t over the repeats of a point.
    Student,
}

/// The intervals of the percentiles of one metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PercentileIntervals {
    /// Requests they are from.
    pub n: u64,
    pub p50: Bounds,
    pub p90: Bounds,
    pub p95: Bounds,
    pub p99: Bounds,
}

/// The ends of an interval; `null` where there are too few values for a bound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Bounds {
    pub low: Option<f64>,
    pub high: Option<f64>,
}

impl Intervals {
    /// The intervals of the TTFT, ITL and E2E latency of requests, each list in any order; `None` without a value.
    pub fn of(ttft_ms: Vec<f64>, itl_ms: Vec<f64>, e2e_ms: Vec<f64>) -> Option<Self> {
        let [ttft_ms, itl_ms, e2e_ms] = [ttft_ms, itl_ms, e2e_ms].map(PercentileIntervals::of);
        (ttft_ms.is_some() || e2e_ms.is_some()).then_some(Self {
            kind: IntervalKind::OrderStatistics,
            level: LEVEL,
            ttft_ms,
            itl_ms,
            e2e_ms,
        })
    }
}

impl PercentileIntervals {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.retain(|value| value.is_finite());
        values.sort_unstable_by(f64::total_cmp);
        let n = values.len() as u64;
        let [p50, p90, p95, p99] = [50.0, 90.0, 95.0, 99.0].map(|percent| {
            let at = |rank: u64| values.get(usize::try_from(rank).ok()?.checked_sub(1)?).copied();
            let (low, high) = ranks(n, percent, LEVEL);
            Bounds { low: low.and_then(at), high: high.and_then(at) }
        });
        (n > 0).then_some(Self { n, p50, p90, p95, p99 })
    }
}

/// The ranks, from 1, of the values between which the true percentile lies with confidence `level`, half of the rest on either
/// side. `None` where no value is a bound: the highest of `n` values is above p99 with confidence 1 − 0.99ⁿ alone.
pub fn ranks(n: u64, percent: f64, level: f64) -> (Option<u64>, Option<u64>) {
    let (share, tail) = (percent / 100.0, (1.0 - level) / 2.0);
    let (count, deviation) = (n as f64, (n as f64 * share * (1.0 - share)).sqrt());
    // What lies further below the mean has no weight.
    let start = (count * share - 30.0 * deviation - 1.0).floor().max(0.0);
    let chosen = ln_gamma(count + 1.0) - ln_gamma(start + 1.0) - ln_gamma(count - start + 1.0);
    let mut weight = (chosen + start * share.ln() + (count - start) * (1.0 - share).ln()).exp();
    let (mut below, mut low, mut k) = (0.0, None, start as u64);
    while k <= n {
        below += weight;
        if low.is_none() && below > tail {
            low = Some(k);
        }
        if below >= 1.0 - tail {
            break;
        }
        let here = k as f64;
        weight *= (count - here) / (here + 1.0) * share / (1.0 - share);
        k += 1;
    }
    (low.filter(|rank| *rank > 0), Some(k + 1).filter(|rank| *rank <= n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_of_the_median_are_those_of_the_tables() {
        // Of 10 values P(B ≤ 1) = 11 / 1024 = 0.0107 and P(B ≤ 2) = 56 / 1024 = 0.0547: ranks 2 and 9, 97.85 % together.
        // Others: Conover, "Practical Nonparametric Statistics", table A3 at p = 0.5.
        for (n, expected) in [
            (0, (None, None)),
            (5, (None, None)),
            (6, (Some(1), Some(6))),
            (10, (Some(2), Some(9))),
            (15, (Some(4), Some(12))),
            (20, (Some(6), Some(15))),
        ] {
            assert_eq!(ranks(n, 50.0, 0.95), expected, "{n}");
        }
    }

    #[test]
    fn a_percentile_has_an_upper_bound_from_enough_requests_on() {
        // The highest of n values bounds p from above with confidence 1 − pⁿ: n ≥ ln 0.025 / ln p.
        for (percent, enough) in [(50.0, 6), (90.0, 36), (95.0, 72), (99.0, 368)] {
            assert_eq!(ranks(enough - 1, percent, 0.95).1, None, "p{percent}");
            assert_eq!(ranks(enough, percent, 0.95).1, Some(enough), "p{percent}");
        }
    }

    #[test]
    fn the_second_highest_of_662_requests_bounds_p99_and_of_64_p90() {
        // One-sided at 99 %, as the mark `~` in the tables has it.
        for (percent, enough) in [(99.0, 662), (90.0, 64)] {
            assert_eq!(ranks(enough, percent, 0.98).1, Some(enough - 1), "p{percent}");
            assert_eq!(ranks(enough - 1, percent, 0.98).1, Some(enough - 1), "p{percent}: the highest");
        }
    }

    #[test]
    fn ranks_of_many_requests_are_those_of_the_normal_distribution() {
        // 100,000 values: 99,000 ± 1.96 · √(100,000 · 0.99 · 0.01) = 99,000 ± 61.7.
        let (low, high) = ranks(100_000, 99.0, 0.95);
        assert!(
            low.unwrap().abs_diff(98_938) <= 1 && high.unwrap().abs_diff(99_063) <= 1,
            "{low:?} {high:?}"
        );
        assert!(ranks(10_000_000, 50.0, 0.95).0.unwrap().abs_diff(4_996_901) <= 1);
    }

    #[test]
    fn bounds_are_values_of_the_run() {
        let of = PercentileIntervals::of((1..=20).rev().map(f64::from).collect()).expect("values");
        assert_eq!((of.n, of.p50), (20, Bounds { low: Some(6.0), high: Some(15.0) }));
        assert_eq!(of.p99, Bounds { low: Some(19.0), high: None });
        assert_eq!(PercentileIntervals::of(vec![f64::NAN]), None);
    }
}
