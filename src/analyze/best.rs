//! Which configuration of a grid is best for what, which differences are noise, and what each axis does.

use serde::Serialize;

use super::effects::{self, AxisEffects, effects};
use crate::metrics::student::{LEVEL, quantile};

/// Differences up to this share are noise when nothing was repeated: the interval within a run knows nothing of other runs.
const FLOOR: f64 = 0.02;

/// Degrees of freedom of what is as good as known.
const MANY: f64 = 1e6;

/// What a configuration may be best for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Criterion {
    /// The highest output throughput at any load.
    Throughput,
    /// The lowest E2E latency on average, at any load.
    Latency,
    /// The highest ratio of throughput to latency at any load: Kleinrock's power, as in the sweet spot of `zones`.
    Balance,
}

impl Criterion {
    pub const ALL: [Self; 3] = [Self::Throughput, Self::Latency, Self::Balance];

    fn of(self, run: &Run) -> f64 {
        match self {
            Self::Throughput => run.throughput,
            Self::Latency => run.latency_ms,
            Self::Balance => run.throughput / run.latency_ms,
        }
    }

    /// The standard error within a run, as a share. In a closed loop throughput is concurrency / latency (Little's law), so
    /// the error of the mean latency is that of the throughput; in an open loop the throughput is the rate.
    fn error(self, run: &Run) -> Option<f64> {
        Some(match (self, run.is_closed) {
            (Self::Latency, _) | (Self::Throughput, true) | (Self::Balance, false) => run.latency_error?,
            (Self::Balance, true) => 2.0 * run.latency_error?,
            (Self::Throughput, false) => 0.0,
        })
    }

    /// Whether the first is better.
    fn is_better(self, a: f64, b: f64) -> bool {
        if self == Self::Latency { a < b } else { a > b }
    }
}

/// One run of one load on one configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// Output tokens per second, of all GPUs or of one.
    pub throughput: f64,
    /// E2E latency on average.
    pub latency_ms: f64,
    /// Standard error of that mean as a share of it, from the requests of the run.
    pub latency_error: Option<f64>,
    /// Closed loop.
    pub is_closed: bool,
}

/// The runs of one load.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadRuns {
    pub load: Option<f64>,
    pub runs: Vec<Run>,
}

/// A cell of the grid, with what was measured on it; nothing if it failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// Name and value of each axis.
    pub axes: Vec<(String, String)>,
    pub loads: Vec<LoadRuns>,
}

/// How good a configuration is by a criterion, at the load that suits it best.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    pub load: Option<f64>,
    /// The mean of the repeats.
    pub value: f64,
    /// How many there are.
    pub n: usize,
    /// The throughput and latency behind it.
    pub throughput: f64,
    pub latency_ms: f64,
    /// Half of its interval.
    pub half_width: f64,
    /// Sum of the squared deviations of the repeats, as shares of the mean.
    squares: f64,
    within: Option<f64>,
    /// Standard error as a share.
    error: f64,
}

/// Where the noise is from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Noise {
    /// The repeats of all cells together: one deviation, as a share, with so many degrees of freedom.
    Student { deviation: f64, degrees_of_freedom: f64 },
    /// The requests within each run; says nothing about other runs.
    WithinRun,
}

/// The ranking for one criterion.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    pub criterion: Criterion,
    pub noise: Noise,
    /// Of each configuration; `None` for one that failed.
    pub scores: Vec<Option<Score>>,
    pub best: usize,
    /// Others whose difference from the best is within noise.
    pub ties: Vec<usize>,
    /// Of each axis; empty where the results do not tell them apart.
    pub effects: Vec<Option<AxisEffects>>,
}

/// What a grid tells.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    pub configurations: Vec<Configuration>,
    /// Name and values of each axis, in order of appearance.
    pub axes: Vec<(String, Vec<String>)>,
    pub rankings: Vec<Ranking>,
}

impl Best {
    /// The grid of these configurations; `None` if fewer than two have figures.
    pub fn of(configurations: Vec<Configuration>) -> Option<Self> {
        let mut axes: Vec<(String, Vec<String>)> = Vec::new();
        for (name, value) in configurations.iter().flat_map(|configuration| &configuration.axes) {
            match axes.iter_mut().find(|(known, _)| known == name) {
                Some((_, values)) if values.contains(value) => {}
                Some((_, values)) => values.push(value.clone()),
                None => axes.push((name.clone(), vec![value.clone()])),
            }
        }
        let rankings: Option<Vec<Ranking>> =
            Criterion::ALL.into_iter().map(|criterion| rank(criterion, &configurations, &axes)).collect();
        Some(Self { rankings: rankings?, configurations, axes })
    }

    /// Cells that the grid of all values has.
    pub fn size(&self) -> usize {
        self.axes.iter().map(|(_, values)| values.len()).product()
    }

    /// Cells with figures.
    pub fn usable(&self) -> usize {
        self.rankings.first().map_or(0, |ranking| ranking.scores.iter().flatten().count())
    }
}

/// The score of a configuration, without its noise; `None` if it has no figures.
fn score(criterion: Criterion, configuration: &Configuration) -> Option<Score> {
    let of = |loaded: &LoadRuns| {
        let is_usable = |run: &&Run| run.throughput > 0.0 && run.latency_ms > 0.0;
        let runs: Vec<&Run> = loaded.runs.iter().filter(is_usable).collect();
        let mean = |figure: &dyn Fn(&Run) -> f64| {
            runs.iter().map(|run| figure(run)).sum::<f64>() / runs.len() as f64
        };
        let value = mean(&|run| criterion.of(run));
        (!runs.is_empty()).then(|| Score {
            load: loaded.load,
            value,
            n: runs.len(),
            throughput: mean(&|run| run.throughput),
            latency_ms: mean(&|run| run.latency_ms),
            half_width: 0.0,
            squares: runs.iter().map(|run| (criterion.of(run) / value - 1.0).powi(2)).sum(),
            within: runs.first().and_then(|run| criterion.error(run)),
            error: 0.0,
        })
    };
    let scores = configuration.loads.iter().filter_map(of);
    scores.reduce(|best, next| if criterion.is_better(next.value, best.value) { next } else { best })
}

fn rank(
    criterion: Criterion,
    configurations: &[Configuration],
    axes: &[(String, Vec<String>)],
) -> Option<Ranking> {
    let mut scores: Vec<Option<Score>> =
        configurations.iter().map(|configuration| score(criterion, configuration)).collect();
    let usable = scores.iter().flatten().count();
    if usable < 2 {
        return None;
    }
    let noise = noise(scores.iter().flatten());
    let (freedom, floor) = match noise {
        Noise::Student { degrees_of_freedom, .. } => (degrees_of_freedom, 0.0),
        Noise::WithinRun => (MANY, FLOOR),
    };
    for score in scores.iter_mut().flatten() {
        score.error = match noise {
            Noise::Student { deviation, .. } => deviation / (score.n as f64).sqrt(),
            Noise::WithinRun => score.within.unwrap_or(0.0),
        };
        score.half_width = quantile(f64::midpoint(1.0, LEVEL), freedom) * score.error * score.value;
    }
    let known = || scores.iter().enumerate().filter_map(|(at, score)| Some((at, score.as_ref()?)));
    let better = |best: (usize, _), next: (usize, _)| {
        let (a, b): (&Score, &Score) = (best.1, next.1);
        if criterion.is_better(b.value, a.value) { next } else { best }
    };
    let (best, top) = known().reduce(better)?;
    // Bonferroni: the chance that any of the others is called worse by noise stays below 5 %.
    let times = quantile(1.0 - (1.0 - LEVEL) / 2.0 / (usable - 1) as f64, freedom);
    let is_tie = |score: &Score| {
        let half = times * score.error.hypot(top.error);
        (score.value / top.value).ln().abs() <= half.max(floor.ln_1p())
    };
    let ties = known().filter(|(at, score)| *at != best && is_tie(score)).map(|(at, _)| at).collect();
    let results: Vec<effects::CellResult> = known()
        .filter_map(|(at, score)| {
            let levels = levels(configurations.get(at)?, axes)?;
            Some(effects::CellResult { levels, log: score.value.ln(), error: score.error })
        })
        .collect();
    let values: Vec<usize> = axes.iter().map(|(_, values)| values.len()).collect();
    let effects = effects(&results, &values, freedom, floor).unwrap_or_default();
    Some(Ranking { criterion, noise, best, ties, effects, scores })
}

/// The place of a configuration's values among those of each axis.
fn levels(configuration: &Configuration, axes: &[(String, Vec<String>)]) -> Option<Vec<usize>> {
    let place = |(name, values): &(String, Vec<String>)| {
        let (_, value) = configuration.axes.iter().find(|(known, _)| known == name)?;
        values.iter().position(|known| known == value)
    };
    axes.iter().map(place).collect()
}

/// One deviation of all repeats, as a share of their means; from within the runs if nothing was repeated.
fn noise<'a>(scores: impl Iterator<Item = &'a Score>) -> Noise {
    let (squares, freedom) =
        scores.fold((0.0, 0), |(squares, freedom), score| (squares + score.squares, freedom + score.n - 1));
    if freedom == 0 {
        return Noise::WithinRun;
    }
    let freedom = freedom as f64;
    Noise::Student { deviation: (squares / freedom).sqrt(), degrees_of_freedom: freedom }
}

#[cfg(test)]
#[path = "best_tests.rs"]
mod tests;
