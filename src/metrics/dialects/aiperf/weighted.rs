//! Time-weighted statistics of the parts of a curve: `compute_time_weighted_stats` of AIPerf 0.13, without sorting all parts.

/// Time-weighted statistics of a curve over a window.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Weighted {
    pub avg: f64,
    pub min: f64,
    pub max: f64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    pub std: f64,
}

/// Values are sorted into so many ranges; only those that hold a percentile are put in order.
const RANGES: usize = 1 << 10;

impl Weighted {
    /// From `(value, duration)` parts.
    pub(super) fn of(parts: &[(f64, f64)]) -> Self {
        let (mut min, mut max, mut total, mut sum) = (f64::INFINITY, f64::NEG_INFINITY, 0.0, 0.0);
        for (value, duration) in parts {
            (min, max) = (min.min(*value), max.max(*value));
            (total, sum) = (total + duration, sum + value * duration);
        }
        if parts.is_empty() {
            return Self::default();
        }
        let avg = sum / total;
        let scale = if max > min { RANGES as f64 / (max - min) } else { 0.0 };
        // `as` saturates.
        let range = |value: f64| (((value - min) * scale) as usize).min(RANGES - 1);
        let (mut squares, mut durations) = (0.0, vec![0.0; RANGES]);
        for (value, duration) in parts {
            squares += duration * (value - avg) * (value - avg);
            if let Some(sum) = durations.get_mut(range(*value)) {
                *sum += duration;
            }
        }
        let [p50, p90, p95, p99] = percentiles(parts, total, &durations, range);
        Self { avg, min, max, p50, p90, p95, p99, std: (squares / total).sqrt() }
    }
}

/// The first value, in order, at which the share of time so far reaches the percentile (searchsorted, left): p50, p90, p95,
/// p99. `durations` is the time in each range, `range` the range of a value.
fn percentiles(
    parts: &[(f64, f64)],
    total: f64,
    durations: &[f64],
    range: impl Fn(f64) -> usize,
) -> [f64; 4] {
    const SHARES: [f64; 4] = [0.50, 0.90, 0.95, 0.99];
    let last = durations.iter().rposition(|duration| *duration > 0.0).unwrap_or(0);
    // The range in which each share is reached, and the time below it.
    let reached = SHARES.map(|share| {
        let mut below = 0.0;
        for (index, duration) in durations.iter().enumerate().take(last) {
            if (below + duration) / total >= share {
                return (index, below);
            }
            below += duration;
        }
        (last, below)
    });
    let mut is_near = vec![false; durations.len()];
    reached.iter().for_each(|(index, _)| is_near[*index] = true);
    let mut near: Vec<(f64, f64)> =
        parts.iter().copied().filter(|(value, _)| is_near.get(range(*value)) == Some(&true)).collect();
    near.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    std::array::from_fn(|number| {
        let (share, (index, mut elapsed)) = (SHARES[number], reached[number]);
        let mut found = 0.0;
        for (value, duration) in near.iter().filter(|(value, _)| range(*value) == index) {
            (found, elapsed) = (*value, elapsed + duration);
            if elapsed / total >= share {
                break;
            }
        }
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// AIPerf's own way: all parts in order of their values.
    fn sorted(mut parts: Vec<(f64, f64)>) -> Weighted {
        parts.sort_by(|a, b| a.0.total_cmp(&b.0));
        let total: f64 = parts.iter().map(|(_, duration)| duration).sum();
        let avg = parts.iter().map(|(value, duration)| value * duration).sum::<f64>() / total;
        let squares: f64 = parts.iter().map(|(value, duration)| duration * (value - avg).powi(2)).sum();
        let percentile = |share: f64| {
            let mut elapsed = 0.0;
            let reached = parts.iter().find(|(_, duration)| {
                elapsed += duration;
                elapsed / total >= share
            });
            reached.map_or(parts[parts.len() - 1].0, |(value, _)| *value)
        };
        let (p50, p90, p95, p99) = (percentile(0.50), percentile(0.90), percentile(0.95), percentile(0.99));
        let (min, max) = (parts[0].0, parts[parts.len() - 1].0);
        Weighted { avg, min, max, p50, p90, p95, p99, std: (squares / total).sqrt() }
    }

    proptest! {
        #[test]
        fn statistics_are_those_of_the_sorted_parts(
            parts in prop::collection::vec((0..2_000_u32, 1..50_u32), 1..400),
            scale in prop::sample::select(vec![1.0, 1e-7, 1e9]),
        ) {
            let parts: Vec<(f64, f64)> =
                parts.iter().map(|(value, duration)| (f64::from(*value) * scale, f64::from(*duration))).collect();
            let (got, want) = (Weighted::of(&parts), sorted(parts));
            prop_assert_eq!((got.min, got.max), (want.min, want.max));
            prop_assert_eq!([got.p50, got.p90, got.p95, got.p99], [want.p50, want.p90, want.p95, want.p99]);
            prop_assert!((got.avg - want.avg).abs() <= 1e-9 * want.avg && (got.std - want.std).abs() <= 1e-6 * want.avg);
        }
    }
}
