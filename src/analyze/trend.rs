//! A figure over time: the newest run against the band of those before it.

use serde::Serialize;

use super::compare::Gate;
use super::metric;
use crate::metrics::Summary;

/// Earlier runs that make the band, at most.
pub const WINDOW: usize = 10;

/// Earlier runs from which on a value within their band is no regression.
pub const BAND_FROM: usize = 3;

/// Where a value stands among those before it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Place {
    /// Median of the earlier runs.
    pub baseline: f64,
    /// The lowest and the highest of them.
    pub low: f64,
    pub high: f64,
    /// How many there are.
    pub n: usize,
    /// Value − baseline as a share of the baseline.
    pub difference: f64,
}

impl Place {
    /// Whether a gate fails: the difference is beyond its bound, and the value is outside of the band, where there is one.
    pub fn fails(&self, gate: &Gate, value: f64) -> bool {
        let is_inside = self.n >= BAND_FROM && (self.low..=self.high).contains(&value);
        gate.is_beyond(self.difference) && !is_inside
    }
}

/// The place of a value among the last [`WINDOW`] of the earlier ones, which are in order of time. `None` without one, or when their median
/// is 0.
pub fn place(earlier: &[f64], value: f64) -> Option<Place> {
    let mut known: Vec<f64> = earlier.iter().rev().take(WINDOW).copied().collect();
    known.sort_by(f64::total_cmp);
    let n = known.len();
    let (low, high) = (*known.first()?, *known.last()?);
    let baseline = f64::midpoint(known[(n - 1) / 2], known[n / 2]);
    (baseline > 0.0).then(|| Place { baseline, low, high, n, difference: value / baseline - 1.0 })
}

/// The values of a figure of the runs of one load point, in order of time, each with its place. A run that is invalid, or
/// that a search cut short, has neither, and is in no band.
pub fn places(runs: &[(&Summary, u32)], figure: &str) -> Vec<(Option<f64>, Option<Place>)> {
    let mut earlier = Vec::new();
    let of = |(run, gpus): &(&Summary, u32)| {
        let value = metric::value(run, figure, *gpus).filter(|_| run.is_whole());
        let place = value.and_then(|value| place(&earlier, value));
        earlier.extend(value);
        (value, place)
    };
    runs.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stands_against_the_median_of_the_last_ten() {
        // Median of 90, 100, 110, 120 is 105.
        let found = place(&[100.0, 120.0, 90.0, 110.0], 84.0).unwrap();
        assert_eq!((found.baseline, found.low, found.high, found.n), (105.0, 90.0, 120.0, 4));
        assert!((found.difference + 0.2).abs() < 1e-12);
        let many: Vec<f64> = (0..20).map(f64::from).collect();
        // 10 to 19.
        assert_eq!(place(&many, 29.0).map(|place| (place.baseline, place.difference)), Some((14.5, 1.0)));
        assert_eq!((place(&[], 1.0), place(&[0.0], 1.0)), (None, None));
    }

    #[test]
    fn what_lies_within_the_band_fails_no_gate() {
        let gate = Gate::parse("output_tokens_per_s < -5%").unwrap();
        let fails = |earlier: &[f64], value: f64| place(earlier, value).unwrap().fails(&gate, value);
        let noisy = [100.0, 80.0, 102.0];
        assert!(!fails(&noisy, 90.0), "10 % below the median, and there was 80");
        assert!(fails(&noisy, 79.0));
        assert!(fails(&[100.0, 80.0], 84.0), "two runs are no band: 84 of 90");
        assert!(!fails(&[100.0], 96.0) && !fails(&[100.0], 130.0));
    }
}
