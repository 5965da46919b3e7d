//! Prometheus histograms: differences over a window, and percentiles from their buckets.

use serde::{Deserialize, Serialize};

/// A histogram of durations in seconds: cumulative counts by upper bound, ascending; the last bound is infinite.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    pub(super) buckets: Vec<(f64, f64)>,
    pub(super) sum: f64,
    pub(super) count: f64,
}

/// Latencies of a window as a server's histogram has them, ms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Latency {
    /// Number of values in the window.
    pub count: u64,
    /// Their mean: exact.
    pub avg: f64,
    /// Median. Percentiles are interpolated in their bucket, as Prometheus' `histogram_quantile` does; one beyond the last bound is
    /// that bound. `null` without buckets.
    pub p50: Option<f64>,
    /// 90th percentile.
    pub p90: Option<f64>,
    /// 95th percentile.
    pub p95: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
    /// Lower bound of the bucket that holds the median: the median is not below it.
    pub p50_from: Option<f64>,
}

impl Histogram {
    /// Adds up the histograms of several label sets or servers. Without common bounds only sum and count are left.
    pub(super) fn add(&mut self, other: &Self) {
        let bounds = |of: &Self| of.buckets.iter().map(|(bound, _)| bound.to_bits()).collect::<Vec<_>>();
        if self.count == 0.0 && self.buckets.is_empty() {
            self.buckets.clone_from(&other.buckets);
        } else if bounds(self) == bounds(other) {
            for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
                bucket.1 += more.1;
            }
        } else {
            self.buckets.clear();
        }
        self.sum += other.sum;
        self.count += other.count;
    }

    /// What was added since `before`; `None` if the counts fell, as those of a server that was restarted do.
    pub(super) fn since(&self, before: &Self) -> Option<Self> {
        let count = self.count - before.count;
        if count < 0.0 || self.sum < before.sum {
            return None;
        }
        let same = self.buckets.len() == before.buckets.len()
            && self
                .buckets
                .iter()
                .zip(&before.buckets)
                .all(|(now, then)| now.0.to_bits() == then.0.to_bits());
        let buckets = match before.buckets.is_empty() && before.count == 0.0 {
            true => self.buckets.clone(),
            false if same => {
                self.buckets.iter().zip(&before.buckets).map(|(now, then)| (now.0, now.1 - then.1)).collect()
            }
            false => Vec::new(),
        };
        Some(Self { buckets, sum: self.sum - before.sum, count })
    }

    /// `None` if nothing was counted.
    pub(super) fn latency(&self) -> Option<Latency> {
        let share = |percent: f64| self.percentile(percent).map(|(_, value)| value * 1e3);
        (self.count > 0.0).then(|| Latency {
            count: self.count as u64,
            avg: self.sum / self.count * 1e3,
            p50: share(50.0),
            p90: share(90.0),
            p95: share(95.0),
            p99: share(99.0),
            p50_from: self.percentile(50.0).map(|(from, _)| from * 1e3),
        })
    }

    /// The lower bound of the bucket of a percentile, and the percentile interpolated in it.
    fn percentile(&self, percent: f64) -> Option<(f64, f64)> {
        let all = self.buckets.last().map(|(_, count)| *count).filter(|all| *all > 0.0)?;
        let rank = percent / 100.0 * all;
        let at = self.buckets.iter().position(|(_, count)| *count >= rank)?;
        let (bound, count) = *self.buckets.get(at)?;
        let (from, before) =
            at.checked_sub(1).and_then(|at| self.buckets.get(at)).copied().unwrap_or_default();
        let inside = count - before;
        let value = match () {
            () if bound.is_infinite() => from,
            () if inside > 0.0 => from + (bound - from) * (rank - before) / inside,
            () => bound,
        };
        Some((from, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(buckets: &[(f64, f64)], sum: f64) -> Histogram {
        let count = buckets.last().unwrap().1;
        Histogram { buckets: buckets.to_vec(), sum, count }
    }

    /// 10 values up to 0.125 s, 30 more up to 0.25 s, 10 beyond.
    fn some() -> Histogram {
        histogram(&[(0.125, 10.0), (0.25, 40.0), (f64::INFINITY, 50.0)], 9.0)
    }

    #[test]
    fn percentiles_are_interpolated_in_their_bucket() {
        let latency = some().latency().unwrap();
        assert_eq!((latency.count, latency.avg), (50, 180.0));
        // Rank 25 of 10 to 40: half of the bucket.
        assert_eq!((latency.p50, latency.p50_from), (Some(187.5), Some(125.0)));
        assert_eq!(latency.p99, Some(250.0), "beyond the last bound: at least that");
    }

    #[test]
    fn a_window_is_a_difference_and_a_restart_is_none() {
        let before = histogram(&[(0.125, 4.0), (0.25, 10.0), (f64::INFINITY, 10.0)], 1.0);
        let window = some().since(&before).unwrap();
        assert_eq!(window, histogram(&[(0.125, 6.0), (0.25, 30.0), (f64::INFINITY, 40.0)], 8.0));
        assert_eq!(before.since(&some()), None);
        assert_eq!(some().since(&Histogram::default()), Some(some()), "a series that appeared in the window");
    }

    #[test]
    fn sums_of_other_bounds_keep_the_mean_alone() {
        let mut sum = some();
        sum.add(&some());
        assert_eq!(sum.latency().unwrap().p50, Some(187.5));
        sum.add(&histogram(&[(0.3, 1.0), (f64::INFINITY, 1.0)], 0.2));
        let latency = sum.latency().unwrap();
        assert_eq!((latency.count, latency.p50), (101, None));
        assert!((latency.avg - 18.2 / 101.0 * 1e3).abs() < 1e-9);
    }
}
