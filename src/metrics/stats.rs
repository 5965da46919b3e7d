//! Exact statistics of a set of values: every value is kept and sorted, nothing is sketched.
//!
//! Percentiles are numpy-linear and the standard deviation is the population's (DESIGN §2), which is what AIPerf, vLLM and
//! genai-perf use as well.

use serde::{Deserialize, Serialize};

/// A distribution, in the unit of its values. Written as the 13 keys of `summary.json`; `count` and `sum` are for exports
/// only, are not written and read back as 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Distribution {
    /// Arithmetic mean.
    pub avg: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Population standard deviation (divisor n).
    pub std: f64,
    /// 1st percentile.
    pub p1: f64,
    /// 5th percentile.
    pub p5: f64,
    /// 10th percentile.
    pub p10: f64,
    /// 25th percentile.
    pub p25: f64,
    /// Median.
    pub p50: f64,
    /// 75th percentile.
    pub p75: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// How many values.
    #[serde(skip)]
    pub count: u64,
    /// Their sum.
    #[serde(skip)]
    pub sum: f64,
}

impl Distribution {
    /// The distribution of `values`, which are left sorted. Values that are not finite are dropped first; `None` when
    /// nothing is left. Every field of the result is finite.
    pub fn of(values: &mut Vec<f64>) -> Option<Self> {
        values.retain(|value| value.is_finite());
        values.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let sum = clamp_finite(values.iter().sum());
        // The clamp takes back what rounding adds: the mean of equal values is that value.
        let avg = (sum / values.len() as f64).clamp(min, max);
        let std = deviation(values, avg);
        let range = Self { avg, min, max, std, count: values.len() as u64, sum, ..Self::default() };
        Some(range.with_percentiles(|percent| percentile(values, percent)))
    }

    /// The same with these percentiles (0–100).
    pub(super) fn with_percentiles(self, of: impl Fn(f64) -> f64) -> Self {
        let [p1, p5, p10, p25, p50, p75, p90, p95, p99] =
            [1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0].map(of);
        Self { p1, p5, p10, p25, p50, p75, p90, p95, p99, ..self }
    }

    /// Name and value of each statistic in the unit of the values, in the order of other tools' files.
    pub fn named(&self) -> [(&'static str, f64); 13] {
        [
            ("avg", self.avg),
            ("p1", self.p1),
            ("p5", self.p5),
            ("p10", self.p10),
            ("p25", self.p25),
            ("p50", self.p50),
            ("p75", self.p75),
            ("p90", self.p90),
            ("p95", self.p95),
            ("p99", self.p99),
            ("min", self.min),
            ("max", self.max),
            ("std", self.std),
        ]
    }

    /// The statistic of this name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.named().into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

/// The `percent`-th percentile (0–100) of `sorted`, ascending: linear interpolation at rank `(n − 1) · percent / 100`,
/// numpy's default. 0 for an empty slice.
pub fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let rank = (percent / 100.0).clamp(0.0, 1.0) * last as f64;
    let low = (rank.floor() as usize).min(last);
    let (below, above) = (sorted[low], sorted[(low + 1).min(last)]);
    let part = rank - low as f64;
    let step = above - below;
    // Between values of opposite sign near the ends of f64 the step overflows; weighting each end does not.
    let value = if step.is_finite() { below + part * step } else { below * (1.0 - part) + above * part };
    value.clamp(below, above)
}

/// The risk that [`stands`] accepts: 99 % confidence.
const RISK: f64 = 0.01;

/// Percentiles that tables show and that speak of the slow end.
pub const SHOWN: [f64; 4] = [50.0, 90.0, 95.0, 99.0];

/// Whether `count` values are enough for a percentile (0–100): with 99 % confidence at least two of them lie above the true
/// one, so that it is bounded from above by an observation that is not the largest. The number above is binomial.
pub fn stands(percent: f64, count: u64) -> bool {
    let (below, n) = (percent / 100.0, count as f64);
    let at_most_one = below.powf(n) + n * (1.0 - below) * below.powf(n - 1.0);
    at_most_one <= RISK
}

/// The highest of the shown percentiles that stands on these values, and its value. `None` for so few that none does.
pub fn highest_standing(mut values: Vec<f64>) -> Option<(f64, f64)> {
    let percent = SHOWN.into_iter().rev().find(|percent| stands(*percent, values.len() as u64))?;
    values.sort_unstable_by(f64::total_cmp);
    Some((percent, percentile(&values, percent)))
}

/// The fewest values for which a percentile stands: 64 for p90, 662 for p99 (as MLPerf's early stopping has them).
pub fn needed(percent: f64) -> u64 {
    let mut enough = 2;
    while !stands(percent, enough) {
        enough += 1;
    }
    enough
}

/// Population standard deviation around `avg`, in two passes. Deviations are scaled by the largest one, so that squaring
/// neither overflows nor vanishes.
fn deviation(values: &[f64], avg: f64) -> f64 {
    let scale = clamp_finite(values.iter().map(|value| (value - avg).abs()).fold(0.0, f64::max));
    if scale == 0.0 {
        return 0.0;
    }
    let squares: f64 = values.iter().map(|value| ((value - avg) / scale).powi(2)).sum();
    clamp_finite(scale * (squares / values.len() as f64).sqrt())
}

fn clamp_finite(value: f64) -> f64 {
    value.clamp(f64::MIN, f64::MAX)
}

/// A decimal number with commas between groups of three digits.
pub fn with_thousands(number: &str) -> String {
    let whole = number.split('.').next().unwrap_or_default();
    let start = usize::from(number.starts_with('-'));
    let mut grouped = String::new();
    for (index, digit) in number.char_indices() {
        if index > start && index < whole.len() && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[f64]) -> Distribution {
        Distribution::of(&mut values.to_vec()).expect("values")
    }

    /// From p1 to p99.
    fn percentiles(of: &Distribution) -> Vec<f64> {
        of.named()[1..10].iter().map(|(_, value)| *value).collect()
    }

    #[test]
    fn nothing_has_no_distribution() {
        assert_eq!(Distribution::of(&mut vec![]), None);
        assert_eq!(Distribution::of(&mut vec![f64::NAN, f64::INFINITY]), None);
        assert_eq!(percentile(&[], 50.0), 0.0);
    }

    #[test]
    fn one_value_is_every_statistic() {
        let one = of(&[7.5]);
        assert_eq!((one.avg, one.min, one.max, one.std, one.count, one.sum), (7.5, 7.5, 7.5, 0.0, 1, 7.5));
        assert_eq!(percentiles(&one), [7.5; 9]);
    }

    #[test]
    fn worked_by_hand() {
        // Sorted: 10 20 30 40. Rank of p25 = 3 · 0.25 = 0.75 → 10 + 0.75 · 10. Deviations −15 −5 5 15 → σ² = 500 / 4.
        let four = of(&[40.0, 10.0, 30.0, 20.0]);
        assert_eq!((four.avg, four.sum, four.count), (25.0, 100.0, 4));
        assert_eq!((four.min, four.max), (10.0, 40.0));
        assert_eq!(four.std, 125.0_f64.sqrt());
        let expected = [10.3, 11.5, 13.0, 17.5, 25.0, 32.5, 37.0, 38.5, 39.7];
        for (got, want) in percentiles(&four).into_iter().zip(expected) {
            assert!((got - want).abs() < 1e-12, "{got} {want}");
        }
    }

    #[test]
    fn percentile_table() {
        // numpy.percentile([1, 2, 3, 4, 10], q)
        let sorted = [1.0, 2.0, 3.0, 4.0, 10.0];
        for (percent, want) in
            [(0.0, 1.0), (25.0, 2.0), (50.0, 3.0), (75.0, 4.0), (90.0, 7.6), (99.0, 9.76), (100.0, 10.0)]
        {
            let got = percentile(&sorted, percent);
            assert!((got - want).abs() < 1e-12, "p{percent}: {got} {want}");
        }
    }

    #[test]
    fn percentiles_stand_on_enough_values() {
        assert_eq!(SHOWN.map(needed), [11, 64, 130, 662]);
        for percent in SHOWN {
            let enough = needed(percent);
            assert!(
                !stands(percent, enough - 1) && stands(percent, enough) && stands(percent, enough + 1_000)
            );
            assert!(!stands(percent, 0) && !stands(percent, 1));
        }
        // By the definition: the chance of none or one of 64 above p90, term by term.
        let (none, one) = (0.9_f64.powi(64), 64.0 * 0.1 * 0.9_f64.powi(63));
        assert!(none + one <= 0.01 && 0.9_f64.powi(63) + 63.0 * 0.1 * 0.9_f64.powi(62) > 0.01);
    }

    #[test]
    fn few_values_are_judged_by_a_percentile_that_stands() {
        let of = |count: u32| highest_standing((1..=count).map(f64::from).collect());
        assert_eq!((of(0), of(10)), (None, None));
        assert_eq!(of(11), Some((50.0, 6.0)));
        // Ranks: 100 · 0.9 and 700 · 0.99.
        assert_eq!(of(101), Some((90.0, 91.0)));
        assert_eq!(of(701), Some((99.0, 694.0)));
    }

    #[test]
    fn rounding_does_not_push_the_mean_out_of_range() {
        let same = of(&[0.1; 3]);
        assert_eq!((same.avg, same.std), (0.1, 0.0));
    }

    #[test]
    fn a_small_spread_on_a_large_offset_keeps_its_deviation() {
        let base = 1e9;
        assert!((of(&[base + 1.0, base + 2.0, base + 3.0]).std - (2.0_f64 / 3.0).sqrt()).abs() < 1e-9);
    }

    #[test]
    fn the_thirteen_keys_in_order() {
        let text = serde_json::to_string(&of(&[1.0])).expect("json");
        let keys: Vec<&str> = text.split('"').skip(1).step_by(2).collect();
        let expected =
            ["avg", "min", "max", "std", "p1", "p5", "p10", "p25", "p50", "p75", "p90", "p95", "p99"];
        assert_eq!(keys, expected);
    }

    proptest! {
        #[test]
        fn agrees_with_a_naive_model(values in prop::collection::vec(-1e6..1e6_f64, 1..200)) {
            let got = of(&values);
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let variance = values.iter().map(|v| v * v).sum::<f64>() / n - mean * mean;
            prop_assert!((got.avg - mean).abs() < 1e-6);
            prop_assert!((got.std.powi(2) - variance).abs() < 1e-2);
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            for (percent, value) in [1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0].into_iter().zip(percentiles(&got)) {
                // Model: as many values are at or below the percentile as its rank says.
                let rank = percent / 100.0 * (n - 1.0);
                prop_assert!(sorted[rank.floor() as usize] <= value + 1e-9);
                prop_assert!(value <= sorted[rank.ceil() as usize] + 1e-9);
            }
        }

        #[test]
        fn every_field_is_finite_and_ordered(values in prop::collection::vec(any::<f64>(), 0..50)) {
            if let Some(d) = Distribution::of(&mut values.clone()) {
                let mut last = d.min;
                for value in percentiles(&d).into_iter().chain([d.max]) {
                    prop_assert!(value.is_finite() && value >= last);
                    last = value;
                }
                prop_assert!(d.avg.is_finite() && d.std.is_finite() && d.sum.is_finite());
                prop_assert!(d.min <= d.avg && d.avg <= d.max && d.std >= 0.0);
            }
        }
    }
}
