//! Down-sampling that keeps extremes.

/// Most points of a series. docs and report state the rule of [`sampled`].
pub const KEPT: usize = 2_000;

/// Of points in order of x, at most about `most`: the range of x is cut into `most / 2` equal parts, and of each part the lowest and the
/// highest point stay, and so do the first and the last of all.
pub fn sampled(points: Vec<(f64, f64)>, most: usize) -> Vec<(f64, f64)> {
    let (Some(first), Some(last)) = (points.first().copied(), points.last().copied()) else { return points };
    let parts = (most / 2).max(1);
    if points.len() <= most || last.0 <= first.0 {
        return points;
    }
    let part = |x: f64| (((x - first.0) / (last.0 - first.0) * parts as f64) as usize).min(parts - 1);
    let mut kept = vec![first];
    for part in points.chunk_by(|a, b| part(a.0) == part(b.0)) {
        let (mut low, mut high) = (0, 0);
        for (at, point) in part.iter().enumerate() {
            low = if point.1 < part[low].1 { at } else { low };
            high = if point.1 > part[high].1 { at } else { high };
        }
        kept.push(part[low.min(high)]);
        if low != high {
            kept.push(part[low.max(high)]);
        }
    }
    kept.push(last);
    kept.dedup();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_points_stay_as_they_are() {
        let points = vec![(0.0, 1.0), (1.0, 3.0), (2.0, 2.0)];
        assert_eq!(sampled(points.clone(), 3), points);
        assert_eq!(sampled(Vec::new(), 3), []);
    }

    #[test]
    fn of_each_part_the_lowest_and_the_highest_stay_and_both_ends() {
        // Two parts: x 0 to 4 and 5 to 10 (10 lies on the end).
        let ys = [5.0, 9.0, 6.0, 1.0, 5.0, 5.0, 2.0, 3.0, 8.0, 4.0, 5.0];
        let points: Vec<(f64, f64)> = ys.iter().enumerate().map(|(x, y)| (x as f64, *y)).collect();
        let expected = [(0.0, 5.0), (1.0, 9.0), (3.0, 1.0), (6.0, 2.0), (8.0, 8.0), (10.0, 5.0)];
        assert_eq!(sampled(points, 4), expected);
    }

    #[test]
    fn one_slow_request_of_a_million_stays() {
        let mut points: Vec<(f64, f64)> = (0..1_000_000).map(|x| (f64::from(x), 1.0)).collect();
        points[654_321].1 = 99.0;
        let kept = sampled(points, KEPT);
        assert!(kept.len() <= KEPT + 2, "{}", kept.len());
        assert!(kept.contains(&(654_321.0, 99.0)));
    }
}
