//! Repeats of a load point: whether another is needed, and whether the first ones found the servers warm.

use serde::Serialize;

use super::metric;
use crate::document::{InputError, InputErrors};
use crate::metrics::student::{LEVEL, half_width, quantile, spread};
use crate::plan::Plan;
use crate::plan::load_point::{MIN_UNTIL, Until};

/// Checks that the figure of `until` is one of `summary.json`.
pub fn check(plan: &Plan) -> Result<(), InputErrors> {
    let until = plan.points().find_map(|(_, point)| point.repeat.as_ref()?.until.as_ref());
    let Some(until) = until else { return Ok(()) };
    let known = metric::paths();
    if metric::is_known(&until.figure, &known) {
        return Ok(());
    }
    let problem = format!("found the figure {:?}, and summary.json has no number there", until.figure);
    let error = plan.locate(InputError::new("", problem).key("load.until"));
    let error = error.expected("a path such as throughput.output_tokens_per_s or ttft_ms.p99");
    Err(match metric::meant(&until.figure, &known) {
        Some(near) => error.next(format!("did you mean `{near}`?")),
        None => error.next("`tokmark schema summary` shows all of them"),
    }
    .into())
}

/// Whether another repeat is needed after those with these values of the figure. The interval is Student's; looking at it after
/// each repeat makes it a little optimistic, which `docs/statistics.md` says.
pub fn wants_another(values: &[f64], until: &Until) -> bool {
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    let is_exact = |half: f64| half <= until.share * mean.abs();
    values.len() < MIN_UNTIL as usize || !half_width(values, LEVEL).is_some_and(is_exact)
}

/// Differences of the first repeat up to this share are none, however small the noise.
const COLD: f64 = 0.02;

/// Confidence of the sentence that servers were not warm: it is looked for at every point.
const COLD_LEVEL: f64 = 0.99;

/// The values of a figure at one point, the first repeat apart.
#[derive(Debug, Clone, PartialEq)]
pub struct FirstAndLater {
    pub point: String,
    pub first: f64,
    pub later: Vec<f64>,
}

/// A first repeat that differs from the later ones beyond noise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ColdStart {
    pub point: String,
    pub first: f64,
    /// Mean of the later repeats.
    pub later: f64,
    /// How many later ones there are.
    pub n: usize,
}

/// The points of a deployment whose first repeat lies outside the interval in which one more of the later ones is expected:
/// mean ± t · s · √(1 + 1 / n). The noise s is relative to the mean and that of the later repeats of all points together.
///
/// Source: the prediction interval of one observation, G. J. Hahn, W. Q. Meeker, "Statistical Intervals", 4.8, with a pooled s.
pub fn cold_starts(points: &[FirstAndLater]) -> Vec<ColdStart> {
    let relative = points.iter().filter_map(|point| {
        let (mean, squares) = spread(&point.later).filter(|(mean, _)| *mean > 0.0)?;
        Some((squares / (mean * mean), point.later.len() - 1))
    });
    let (squares, freedom) = relative.fold((0.0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1));
    if freedom == 0 {
        return Vec::new();
    }
    let freedom = freedom as f64;
    let noise = quantile(f64::midpoint(1.0, COLD_LEVEL), freedom) * (squares / freedom).sqrt();
    let is_cold = |point: &FirstAndLater| {
        let n = point.later.len();
        let later = point.later.iter().sum::<f64>() / n as f64;
        let off = (point.first / later - 1.0).abs();
        let is = n > 0 && later > 0.0 && off > COLD.max(noise * (1.0 + 1.0 / n as f64).sqrt());
        is.then(|| ColdStart { point: point.point.clone(), first: point.first, later, n })
    };
    points.iter().filter_map(is_cold).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_end_when_the_interval_is_narrow_enough() {
        let until = Until { share: 0.05, figure: "x".into() };
        for (values, expected) in [
            (vec![], true),
            // Two equal ones are chance.
            (vec![100.0, 100.0], true),
            // 4.968 of 100 is within 5 %, 5.466 (deviations ±2.2) is not.
            (vec![98.0, 100.0, 102.0], false),
            (vec![97.8, 100.0, 102.2], true),
            // A figure of 0 has no share.
            (vec![0.0, 0.0, 0.0], false),
            (vec![-1.0, 0.0, 1.0], true),
        ] {
            assert_eq!(wants_another(&values, &until), expected, "{values:?}");
        }
    }

    fn point(first: f64, later: &[f64]) -> FirstAndLater {
        FirstAndLater { point: format!("{first}"), first, later: later.to_vec() }
    }

    #[test]
    fn a_first_repeat_that_differs_beyond_noise_found_the_servers_cold() {
        // Two points, later ones 99 and 101: relative squares 2 · 2 / 100² over 2 degrees, s = 0.01414; t(0.995; 2) = 9.925:
        // the bound is 9.925 · 0.01414 · √1.5 = 17.2 %.
        let near = [point(83.0, &[99.0, 101.0]), point(100.0, &[99.0, 101.0])];
        assert_eq!(cold_starts(&near), []);
        let cold = [point(82.0, &[99.0, 101.0]), point(100.0, &[99.0, 101.0])];
        assert_eq!(cold_starts(&cold), [ColdStart { point: "82".into(), first: 82.0, later: 100.0, n: 2 }]);
    }

    #[test]
    fn without_noise_two_percent_are_none_and_one_later_repeat_tells_nothing() {
        assert_eq!(cold_starts(&[point(98.1, &[100.0, 100.0])]), []);
        assert_eq!(cold_starts(&[point(97.9, &[100.0, 100.0])]).len(), 1);
        assert_eq!(cold_starts(&[point(50.0, &[100.0])]), []);
        assert_eq!(cold_starts(&[point(50.0, &[])]), []);
        assert_eq!(cold_starts(&[]), []);
    }
}
