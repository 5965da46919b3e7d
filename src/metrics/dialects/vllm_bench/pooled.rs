//! The gaps between chunks of all requests, pooled: exact, in memory that grows with the distinct gaps, not with the gaps.
//!
//! Gaps are whole µs, so that the sixteen million of a long run share some ten thousand values.
//! Arrow: `record` → here → `totals`.

use super::totals::{PERCENTS, Statistics};
use crate::metrics::record::RequestRecord;
use std::collections::HashMap;

/// The statistics of the gaps between consecutive chunks, ms. All 0 when there is none.
pub(super) fn gaps<'a>(records: impl Iterator<Item = &'a RequestRecord>) -> Statistics {
    let mut counts: HashMap<u64, u64> = HashMap::new();
    for record in records {
        for pair in record.chunks_us.windows(2) {
            if let [before, after] = pair {
                *counts.entry(after.saturating_sub(*before)).or_default() += 1;
            }
        }
    }
    let mut counts: Vec<(u64, u64)> = counts.into_iter().collect();
    counts.sort_unstable();
    statistics(&counts)
}

/// The statistics of `(gap in µs, how often)`, ascending.
fn statistics(counts: &[(u64, u64)]) -> Statistics {
    let total: u64 = counts.iter().map(|(_, count)| count).sum();
    if total == 0 {
        return Statistics::default();
    }
    let weighted = |value: &dyn Fn(f64) -> f64| {
        counts.iter().map(|(gap, count)| value(*gap as f64) * *count as f64).sum::<f64>() / total as f64
    };
    let mean = weighted(&|gap| gap);
    let std = weighted(&|gap| (gap - mean).powi(2)).sqrt();
    let at = |percent: f64| percentile(counts, total, percent) / 1e3;
    Statistics { mean: mean / 1e3, median: at(50.0), std: std / 1e3, percentiles: PERCENTS.map(at) }
}

/// numpy's linear percentile of the values that `counts` stands for.
fn percentile(counts: &[(u64, u64)], total: u64, percent: f64) -> f64 {
    let rank = percent / 100.0 * (total - 1) as f64;
    let (low, part) = (rank.floor() as u64, rank.fract());
    let mut seen = 0;
    let mut values = counts.iter().peekable();
    while let Some((gap, count)) = values.next() {
        seen += count;
        if low < seen {
            let above = if low + 1 < seen { gap } else { values.peek().map_or(gap, |(next, _)| next) };
            return *gap as f64 + part * (*above - *gap) as f64;
        }
    }
    counts.last().map_or(0.0, |(gap, _)| *gap as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::samples::record;
    use crate::metrics::stats::Distribution;
    use proptest::prelude::*;

    #[test]
    fn nothing_is_zero() {
        assert_eq!(gaps(std::iter::empty()), Statistics::default());
    }

    proptest! {
        #[test]
        fn agrees_with_every_gap_kept(gaps_us in prop::collection::vec(0..2_000_u64, 1..200)) {
            let mut one = record(0, 0);
            let mut at = 5;
            one.chunks_us = std::iter::once(at).chain(gaps_us.iter().map(|gap| { at += gap; at })).collect();
            let got = gaps([&one].into_iter());
            let want = Distribution::of(&mut one.icl_ms().collect()).expect("gaps");
            let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
            prop_assert!(close(got.mean, want.avg) && close(got.std, want.std), "{:?} {:?}", got, want);
            let [p50, p90, p95, p99] = got.percentiles;
            prop_assert!(close(got.median, want.p50) && close(p50, want.p50) && close(p90, want.p90));
            prop_assert!(close(p95, want.p95) && close(p99, want.p99), "{:?} {:?}", got, want);
        }
    }
}
