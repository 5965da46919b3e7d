//! The gaps between chunks of all requests, pooled: every gap counted at its µs, in memory that does not grow with them.
//!
//! Gaps are whole µs, so that the billion of a long run share some ten thousand values. Exact: no bucket is wider than the
//! clock's µs.

use super::stats::Distribution;
use std::collections::BTreeMap;

/// Gaps shorter than this, about an eighth of a second, are counted in an array; the rare longer ones in a map.
const DENSE_US: usize = 1 << 17;

/// How often each gap occurred.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gaps {
    /// By µs; as long as the longest gap below [`DENSE_US`] made it, at most 1 MiB.
    dense: Vec<u64>,
    sparse: BTreeMap<u64, u64>,
    count: u64,
    sum_us: u128,
}

impl Gaps {
    /// Counts one gap, µs.
    pub fn add(&mut self, gap_us: u64) {
        self.count += 1;
        self.sum_us += u128::from(gap_us);
        match usize::try_from(gap_us).ok().and_then(|index| self.dense.get_mut(index)) {
            Some(count) => *count += 1,
            None => self.add_beyond(gap_us),
        }
    }

    #[cold]
    fn add_beyond(&mut self, gap_us: u64) {
        match usize::try_from(gap_us) {
            Ok(index) if index < DENSE_US => {
                self.dense.resize((index + 1).next_power_of_two().max(1 << 10), 0);
                self.dense[index] += 1;
            }
            _ => *self.sparse.entry(gap_us).or_default() += 1,
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// `(gap in µs, how often)`, ascending.
    fn counts(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let dense = self.dense.iter().enumerate().map(|(gap, count)| (gap as u64, *count));
        dense.filter(|(_, count)| *count > 0).chain(self.sparse.iter().map(|(gap, count)| (*gap, *count)))
    }

    /// Their distribution, ms; `None` without a gap.
    pub fn distribution_ms(&self) -> Option<Distribution> {
        let counts: Vec<(f64, u64)> = self.counts().map(|(gap, often)| (in_ms(gap), often)).collect();
        let (min, max) = (counts.first()?.0, counts.last()?.0);
        let count = self.count as f64;
        let sum = self.sum_us as f64 / 1e3;
        // The clamp takes back what rounding adds: the mean of equal values is that value.
        let avg = (self.sum_us as f64 / (count * 1e3)).clamp(min, max);
        let squares: f64 = counts.iter().map(|(gap, often)| *often as f64 * (gap - avg).powi(2)).sum();
        let std = (squares / count).sqrt();
        let range = Distribution { avg, min, max, std, count: self.count, sum, ..Distribution::default() };
        Some(range.with_percentiles(|percent| percentile(&counts, self.count, percent)))
    }
}

/// numpy's linear percentile, as [`super::stats::percentile`] of the `total` values that `counts`, ascending, stands for.
fn percentile(counts: &[(f64, u64)], total: u64, percent: f64) -> f64 {
    let rank = percent / 100.0 * total.saturating_sub(1) as f64;
    let (low, part) = (rank.floor() as u64, rank.fract());
    let mut seen = 0;
    let mut values = counts.iter().peekable();
    while let Some((below, often)) = values.next() {
        seen += often;
        if low < seen {
            let above = if low + 1 < seen { below } else { values.peek().map_or(below, |(next, _)| next) };
            return (below + part * (above - below)).clamp(*below, *above);
        }
    }
    counts.last().map_or(0.0, |(last, _)| *last)
}

fn in_ms(us: u64) -> f64 {
    us as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(gaps_us: &[u64]) -> Gaps {
        let mut gaps = Gaps::default();
        gaps_us.iter().for_each(|gap| gaps.add(*gap));
        gaps
    }

    #[test]
    fn nothing_has_no_distribution() {
        assert_eq!(Gaps::default().distribution_ms(), None);
    }

    #[test]
    fn worked_by_hand() {
        // Sorted, ms: 10 10 10 2000. Rank of p75 = 3 · 0.75 = 2.25 → 10 + 0.25 · 1990.
        let four = of(&[10_000, 2_000_000, 10_000, 10_000]).distribution_ms().expect("gaps");
        assert_eq!((four.count, four.sum, four.avg, four.min, four.max), (4, 2_030.0, 507.5, 10.0, 2_000.0));
        assert_eq!((four.p50, four.p75), (10.0, 507.5));
        // Deviations: three of −497.5 and one of 1492.5.
        let variance = (3.0 * 497.5_f64.powi(2) + 1492.5_f64.powi(2)) / 4.0;
        assert!((four.std - variance.sqrt()).abs() < 1e-9, "{}", four.std);
    }

    #[test]
    fn memory_is_bounded_by_the_distinct_gaps() {
        let mut gaps = Gaps::default();
        (0..3_000_000_u64).for_each(|i| gaps.add(i % 20_000));
        assert_eq!((gaps.dense.len(), gaps.sparse.len()), (1 << 15, 0));
        [DENSE_US as u64 - 1, DENSE_US as u64, u64::MAX, u64::MAX].iter().for_each(|gap| gaps.add(*gap));
        assert_eq!((gaps.dense.len(), gaps.sparse.len(), gaps.count()), (DENSE_US, 2, 3_000_004));
        assert!(gaps.distribution_ms().expect("gaps").std.is_finite());
    }

    proptest! {
        #[test]
        fn agrees_with_every_gap_kept(
            gaps in prop::collection::vec(prop_oneof![0..2_000_u64, 0..5_000_000_u64], 1..200),
        ) {
            let got = of(&gaps).distribution_ms().expect("gaps");
            let want = Distribution::of(&mut gaps.iter().map(|gap| in_ms(*gap)).collect()).expect("gaps");
            prop_assert_eq!(&got.named()[1..12], &want.named()[1..12], "bit by bit");
            prop_assert_eq!(got.count, want.count);
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-12 * b.abs().max(1.0);
            prop_assert!(close(got.avg, want.avg) && close(got.sum, want.sum), "{:?} {:?}", got, want);
            prop_assert!((got.std - want.std).abs() <= 1e-9, "{:?} {:?}", got, want);
        }
    }
}
