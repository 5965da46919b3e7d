//! The Pareto front of throughput per GPU against speed per user: load levels of which no other is better in both.

use serde_json::{Value, json};

use super::zones::{self, Axis, Level, Series};

/// A load level with the figures of the fronts. It names its configuration, because a front spans several.
#[derive(Debug, Clone, PartialEq)]
pub struct ParetoPoint {
    /// What was sent; only points of one workload are held against each other.
    pub workload: String,
    /// What it was sent to; empty if there is only one.
    pub configuration: String,
    pub axis: Axis,
    /// Requests in flight, or requests per second.
    pub load: f64,
    /// Output tokens per second and GPU.
    pub output_tokens_per_s_per_gpu: f64,
    /// Output tokens per second that one user sees once the answer has begun: the mean over requests of 1 / ITL. `None` without
    /// streaming.
    pub tokens_per_s_per_user: Option<f64>,
    /// E2E-normalized interactivity, see [`e2e_interactivity`].
    pub e2e_tokens_per_s_per_user: Option<f64>,
    /// No other point has more tokens per second both per GPU and per user.
    pub on_front: bool,
    /// The same with the E2E-normalized interactivity.
    pub on_e2e_front: bool,
    /// The verdict of the figures is `suspect`.
    pub suspect: bool,
}

impl ParetoPoint {
    /// The JSON of `tokmark zones --pareto --json`; what was not measured is `null`.
    pub fn json(&self) -> Value {
        json!({
            "workload": self.workload,
            "configuration": self.configuration,
            self.axis.key(): zones::load_json(self.load),
            "output_tokens_per_s_per_gpu": self.output_tokens_per_s_per_gpu,
            "tokens_per_s_per_user": self.tokens_per_s_per_user,
            "e2e_tokens_per_s_per_user": self.e2e_tokens_per_s_per_user,
            "on_front": self.on_front,
            "on_e2e_front": self.on_e2e_front,
            "suspect": self.suspect,
        })
    }
}

/// E2E-normalized interactivity: 1 / P90(E2E latency ÷ OSL), output tokens per second and user, from the percentile in ms per
/// token. Unlike 1 / ITL it counts the wait for the first token. The percentile is taken over the requests, before the
/// inversion; it is no ratio of percentiles.
///
/// Source: SemiAnalysisAI/InferenceX, MODELS.md, "E2E normalized interactivity and Pareto-frontier policy" (default P90).
pub fn e2e_interactivity(p90_ms_per_token: f64) -> Option<f64> {
    (p90_ms_per_token > 0.0).then(|| 1e3 / p90_ms_per_token)
}

/// The points of all series by workload, each from the fastest per user to the slowest. Levels that failed or were cut
/// short, and those whose number of GPUs is not known, are left out.
pub fn points(series: &[Series], failed: f64) -> Vec<ParetoPoint> {
    let of = |series: &Series| {
        let levels = series.ordered(failed);
        let point = |level: &Level| point(series, level);
        levels.iter().filter(|level| level.is_whole()).filter_map(point).collect::<Vec<_>>()
    };
    let mut points: Vec<ParetoPoint> = series.iter().flat_map(of).collect();
    let on_front = front(&points, |point| point.tokens_per_s_per_user);
    let on_e2e_front = front(&points, |point| point.e2e_tokens_per_s_per_user);
    for (point, (plain, e2e)) in points.iter_mut().zip(on_front.into_iter().zip(on_e2e_front)) {
        (point.on_front, point.on_e2e_front) = (plain, e2e);
    }
    let speed = |point: &ParetoPoint| point.e2e_tokens_per_s_per_user.or(point.tokens_per_s_per_user);
    points.sort_by(|a, b| {
        let faster = speed(b).unwrap_or_default().total_cmp(&speed(a).unwrap_or_default());
        a.workload.cmp(&b.workload).then(faster)
    });
    points
}

fn point(series: &Series, level: &Level) -> Option<ParetoPoint> {
    Some(ParetoPoint {
        workload: series.workload.clone(),
        configuration: series.configuration.clone(),
        axis: series.axis,
        load: level.load,
        output_tokens_per_s_per_gpu: level.per_gpu()?,
        tokens_per_s_per_user: level.per_user.filter(|speed| *speed > 0.0),
        e2e_tokens_per_s_per_user: level.figures.get(P90).copied().and_then(e2e_interactivity),
        on_front: false,
        on_e2e_front: false,
        suspect: level.suspect,
    })
}

/// The figure of a level that [`e2e_interactivity`] reads.
const P90: &str = "e2e_per_token.p90";

/// Whether each point is on the front of its throughput per GPU and this speed per user: no other point of its workload is as
/// good in both and better in one. A point without the speed is on none.
fn front(points: &[ParetoPoint], speed: fn(&ParetoPoint) -> Option<f64>) -> Vec<bool> {
    let place = |point: &ParetoPoint| Some((speed(point)?, point.output_tokens_per_s_per_gpu));
    let beats = |other: (f64, f64), own: (f64, f64)| other.0 >= own.0 && other.1 >= own.1 && other != own;
    let is_on = |point: &ParetoPoint| {
        let rivals = || points.iter().filter(|other| other.workload == point.workload).filter_map(place);
        place(point).is_some_and(|own| !rivals().any(|other| beats(other, own)))
    };
    points.iter().map(is_on).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A level with 2 GPUs: load, tokens per second, tokens per second and user, p90 of E2E ÷ OSL in ms.
    fn level((load, tokens, user, per_token): (f64, f64, f64, f64)) -> Level {
        Level {
            load,
            output_tokens_per_s: Some(tokens),
            gpus: Some(2.0),
            per_user: Some(user),
            figures: [("e2e_per_token.p90".to_owned(), per_token)].into(),
            ..Level::default()
        }
    }

    fn series(configuration: &str, levels: &[(f64, f64, f64, f64)]) -> Series {
        let levels = levels.iter().copied().map(level).collect();
        Series { configuration: configuration.into(), levels, ..Series::default() }
    }

    fn named(points: &[ParetoPoint], is_on: fn(&ParetoPoint) -> bool) -> Vec<String> {
        let name = |point: &ParetoPoint| format!("{}{}", point.configuration, point.load);
        points.iter().filter(|point| is_on(point)).map(name).collect()
    }

    #[test]
    fn a_front_spans_loads_and_configurations() {
        // tp 2 is faster for one user, tp 1 makes more per GPU; at 8 tp 1 is beaten by tp 2 in both.
        let all = [
            series(
                "tp1 ",
                &[(1.0, 100.0, 60.0, 20.0), (8.0, 500.0, 45.0, 25.0), (64.0, 2400.0, 20.0, 100.0)],
            ),
            series("tp2 ", &[(1.0, 150.0, 90.0, 12.5), (8.0, 600.0, 70.0, 16.0), (64.0, 2000.0, 25.0, 80.0)]),
        ];
        let points = points(&all, 0.5);
        assert_eq!(named(&points, |point| point.on_front), ["tp2 1", "tp2 8", "tp2 64", "tp1 64"]);
        assert_eq!(points[0].output_tokens_per_s_per_gpu, 75.0);
        assert_eq!(points[0].e2e_tokens_per_s_per_user, Some(80.0), "1 / 12.5 ms");
    }

    #[test]
    fn a_long_wait_for_the_first_token_is_seen_by_the_second_front_alone() {
        // At 32 the tokens come as fast as at 16, but after a queue.
        let all = [series(
            "",
            &[(16.0, 1600.0, 100.0, 12.5), (32.0, 1610.0, 100.0, 25.0), (64.0, 1605.0, 100.0, 50.0)],
        )];
        let points = points(&all, 0.5);
        assert_eq!(named(&points, |point| point.on_front), ["32"]);
        assert_eq!(named(&points, |point| point.on_e2e_front), ["16", "32"]);
    }

    #[test]
    fn other_workloads_failed_levels_and_unknown_gpus_beat_nobody() {
        let slow = series("", &[(1.0, 10.0, 1.0, 1000.0)]);
        let other = Series { workload: "ISL 9".into(), ..series("", &[(1.0, 100.0, 100.0, 10.0)]) };
        let mut failed = series("", &[(2.0, 100.0, 100.0, 10.0), (4.0, 100.0, 100.0, 10.0)]);
        failed.levels[0].failed = true;
        failed.levels[1].gpus = None;
        let points = points(&[slow, other, failed], 0.5);
        assert_eq!(points.len(), 2);
        assert!(points.iter().all(|point| point.on_front && point.on_e2e_front), "{points:?}");
    }

    #[test]
    fn without_streaming_one_front_is_left_and_equal_points_share_it() {
        let mut twins = series("", &[(1.0, 10.0, 0.0, 20.0), (2.0, 10.0, 0.0, 20.0)]);
        twins.levels.iter_mut().for_each(|level| level.per_user = None);
        let points = points(&[twins], 0.5);
        assert_eq!(named(&points, |point| point.on_front), Vec::<String>::new());
        assert_eq!(named(&points, |point| point.on_e2e_front), ["1", "2"]);
    }
}
