//! Power over time: energy, average and peak of a window.

use super::Track;

/// A series: instants in µs, in order, and values.
pub(super) type Series = Vec<(i64, f64)>;

/// The power of a GPU over time.
pub(super) fn power(track: &Track) -> Series {
    track.samples.iter().filter_map(|(at, reading)| Some((*at, reading.power_w?))).collect()
}

/// The value at an instant, on the straight line between the samples around it; before the first and after the last one their own.
pub(super) fn value_at(series: &[(i64, f64)], at: i64) -> Option<f64> {
    let next = series.partition_point(|(known, _)| *known < at);
    let after = series.get(next);
    let before = next.checked_sub(1).and_then(|last| series.get(last));
    match (before, after) {
        (Some((t0, v0)), Some((t1, v1))) => {
            let share = if t1 > t0 { (at - t0) as f64 / (t1 - t0) as f64 } else { 1.0 };
            Some(v0 + (v1 - v0) * share)
        }
        (Some((_, value)), None) | (None, Some((_, value))) => Some(*value),
        (None, None) => None,
    }
}

/// The integral over a window by trapezoids, value × seconds.
pub(super) fn integral(series: &[(i64, f64)], (from, to): (i64, i64)) -> Option<f64> {
    let inside = series.iter().filter(|(at, _)| (from + 1..to).contains(at)).copied();
    let ends = [(from, value_at(series, from)?), (to, value_at(series, to)?)];
    let all: Series = std::iter::once(ends[0]).chain(inside).chain([ends[1]]).collect();
    let area = |pair: &[(i64, f64)]| match pair {
        [(t0, v0), (t1, v1)] => (v0 + v1) / 2.0 * seconds(t1 - t0),
        _ => 0.0,
    };
    Some(all.windows(2).map(area).sum())
}

/// The energy of a window by the GPU's own counter, J; `None` unless samples with it stand on both sides of the window, or if it
/// stood still or began anew.
pub(super) fn counted(track: &Track, (from, to): (i64, i64)) -> Option<f64> {
    let series: Series =
        track.samples.iter().filter_map(|(at, reading)| Some((*at, reading.energy_j?))).collect();
    let (first, last) = (series.first()?.0, series.last()?.0);
    let covers = first <= from && last >= to;
    let rises = series.windows(2).all(|pair| pair[0].1 <= pair[1].1);
    let risen = value_at(&series, to)? - value_at(&series, from)?;
    (covers && rises && risen > 0.0).then_some(risen)
}

/// The highest sum over GPUs at any instant of a window.
pub(super) fn peak(all: &[Series], (from, to): (i64, i64)) -> Option<f64> {
    let mut instants: Vec<i64> = all.iter().flatten().map(|(at, _)| *at).collect();
    instants.extend([from, to]);
    instants.retain(|at| (from..=to).contains(at));
    instants.sort_unstable();
    instants.dedup();
    let sum = |at: &i64| all.iter().map(|series| value_at(series, *at)).sum::<Option<f64>>();
    instants.iter().map(sum).collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::max)
}

/// The longest time within a window without a sample, seconds. Samples on both sides of the window count.
pub(super) fn longest_gap(series: &[(i64, f64)], (from, to): (i64, i64)) -> f64 {
    let begins = |at: &i64| (*at).max(from);
    let before = series.iter().map(|(at, _)| *at).rfind(|at| *at <= from);
    let after = series.iter().map(|(at, _)| *at).find(|at| *at >= to);
    let inside = series.iter().map(|(at, _)| *at).filter(|at| (from..=to).contains(at));
    let all: Vec<i64> =
        std::iter::once(before.unwrap_or(from)).chain(inside).chain([after.unwrap_or(to)]).collect();
    // A gap that reaches out of the window hides only its part within, unless nothing stands on the other side.
    let longest =
        all.windows(2).map(|pair| if pair[1] > from { pair[1].min(to) - begins(&pair[0]) } else { 0 });
    seconds(longest.max().unwrap_or(0))
}

/// Seconds of a number of µs.
pub(super) fn seconds(us: i64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::super::Reading;
    use super::*;

    const S: i64 = 1_000_000;

    #[test]
    fn a_constant_power_is_power_times_time() {
        let series = vec![(0, 300.0), (S, 300.0), (2 * S, 300.0)];
        assert_eq!(integral(&series, (S / 2, 3 * S / 2)), Some(300.0));
        assert_eq!(integral(&series, (-S, 3 * S)), Some(1200.0), "the ends hold");
        assert_eq!(integral(&[], (0, S)), None);
    }

    /// 100 W at 0 s, 300 W at 2 s: 150 W at 0.5 s and 250 W at 1.5 s, so 200 J in that second.
    #[test]
    fn power_between_samples_lies_on_a_line() {
        let series = vec![(0, 100.0), (2 * S, 300.0)];
        assert_eq!(value_at(&series, S / 2), Some(150.0));
        assert_eq!(integral(&series, (S / 2, 3 * S / 2)), Some(200.0));
        assert_eq!(peak(&[series.clone(), series], (0, S)), Some(400.0));
    }

    #[test]
    fn a_counter_counts_only_what_it_covers() {
        let track = |counts: &[(i64, f64)]| Track {
            samples: counts
                .iter()
                .map(|(at, energy)| (at * S, Reading { energy_j: Some(*energy), ..Reading::default() }))
                .collect(),
            ..Track::default()
        };
        let whole = track(&[(0, 1000.0), (2, 1600.0), (4, 2200.0)]);
        assert_eq!(counted(&whole, (S, 3 * S)), Some(600.0));
        assert_eq!(counted(&whole, (S, 5 * S)), None, "no sample behind the window");
        assert_eq!(
            counted(&track(&[(0, 1000.0), (2, 10.0), (4, 2000.0)]), (S, 3 * S)),
            None,
            "it began anew"
        );
        assert_eq!(counted(&track(&[(0, 5.0), (4, 5.0)]), (S, 3 * S)), None, "it stood still");
    }

    #[test]
    fn gaps_count_within_the_window() {
        let series = |at: &[i64]| at.iter().map(|at| (at * S, 1.0)).collect::<Series>();
        assert_eq!(longest_gap(&series(&[0, 1, 2, 7, 8]), (S, 8 * S)), 5.0);
        assert_eq!(longest_gap(&series(&[0, 20]), (5 * S, 8 * S)), 3.0);
        assert_eq!(longest_gap(&series(&[0, 1]), (0, 10 * S)), 9.0, "the samples ended");
        assert_eq!(longest_gap(&[], (0, 4 * S)), 4.0);
    }
}
