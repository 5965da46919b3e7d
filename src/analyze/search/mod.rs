//! A search for a load: which one to measure next, and what the measured ones tell.
//!
//! Pure and without memory: the same measurements lead to the same next step, so a search that was interrupted goes on.
//! Doubling, or halving, finds a load on each side of the limit; bisection brings them together; both are repeated.

pub mod growth;
pub mod hopeless;
#[cfg(test)]
mod tests;
mod told;

use serde::Serialize;

use told::significant;
pub use told::{json, sentence};

use super::metric;
use crate::document::{InputError, InputErrors};
use crate::metrics::student::{LEVEL, half_width, quantile, spread};
use crate::metrics::{Rating, Summary};
use crate::plan::Plan;
use crate::plan::search::{Figure, Objective, Search, Unit};

/// Throughput that grows by less than this share when the load doubles no longer grows.
const PLATEAU: f64 = 0.05;

/// A difference of throughput beyond this share is one, however far repeats scatter.
const MOST_NOISE: f64 = 0.5;

/// One measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluated {
    pub load: f64,
    /// It keeps every objective.
    pub keeps: bool,
    /// Output tokens per second.
    pub throughput: f64,
    pub seconds: f64,
    /// What it does not keep, with its figure: `ttft.p99 is 540 ms`.
    pub broken: Option<String>,
}

/// What follows on the measurements so far.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Measure this load, for the `number`th time.
    Measure {
        load: f64,
        number: u32,
    },
    Done(Found),
}

/// Where the limit lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// The largest load that keeps the goal and the next one that does not. Of the throughput: the largest load that is too small
    /// for the highest throughput, and the smallest that reaches it.
    Between(f64, f64),
    /// Every load up to this one keeps the goal.
    NotReached(f64),
    /// Not even this smallest load keeps the goal.
    Nowhere(f64),
}

/// Why a search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Converged,
    /// The most measurements were made.
    Points,
    /// The longest time was measured.
    Time,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    pub limit: Limit,
    pub end: End,
}

/// All measurements of one load.
struct Level {
    load: f64,
    all: u32,
    /// How many of them are below the limit.
    below: u32,
    /// Of each of them.
    throughputs: Vec<f64>,
}

impl Level {
    /// By majority; a tie is not below.
    fn is_below(&self) -> bool {
        2 * self.below > self.all
    }

    /// Output tokens per second on average.
    fn throughput(&self) -> f64 {
        self.throughputs.iter().sum::<f64>() / f64::from(self.all)
    }

    /// Half of the interval of that mean; `None` of a single measurement.
    fn half_width(&self) -> Option<f64> {
        half_width(&self.throughputs, LEVEL)
    }
}

/// The levels from the lowest load.
fn levels(search: &Search, seen: &[Evaluated]) -> Vec<Level> {
    let mut levels: Vec<Level> = Vec::new();
    let mut loads: Vec<f64> = seen.iter().map(|one| one.load).collect();
    loads.sort_unstable_by(f64::total_cmp);
    loads.dedup();
    for load in loads {
        let of = || seen.iter().filter(|one| one.load == load);
        let all = of().count() as u32;
        let below = of().filter(|one| one.keeps).count() as u32;
        levels.push(Level { load, all, below, throughputs: of().map(|one| one.throughput).collect() });
    }
    if search.is_for_throughput() {
        let below = below_the_ceiling(search, &levels);
        for (level, is_below) in levels.iter_mut().zip(below) {
            level.below = if is_below { level.all } else { 0 };
        }
    }
    levels
}

/// Which levels are below the highest throughput: by more than the tolerance, and by more than noise. The highest load is while
/// throughput still grows there.
fn below_the_ceiling(search: &Search, levels: &[Level]) -> Vec<bool> {
    let noise = Noise::of(levels);
    let Some(peak) = peak(levels) else { return Vec::new() };
    let mut best: Option<&Level> = None;
    let mut below: Vec<bool> = Vec::new();
    for level in levels {
        let lacks =
            level.throughput() < peak.throughput() * (1.0 - search.tolerance.max(noise.between(level, peak)));
        let grows = best.map_or(level.throughput() > 0.0, |best| {
            level.throughput() > best.throughput() * (1.0 + PLATEAU.max(noise.between(level, best)))
        });
        if best.is_none_or(|best| level.throughput() > best.throughput()) {
            best = Some(level);
        }
        below.push(if below.len() + 1 == levels.len() { grows } else { lacks });
    }
    below
}

/// How far the throughput of repeats scatters: one deviation, as a share, from the repeats of all loads together.
struct Noise {
    deviation: f64,
    degrees_of_freedom: f64,
}

impl Noise {
    fn of(levels: &[Level]) -> Self {
        let spreads =
            levels.iter().filter_map(|level| spread(&level.throughputs).zip(Some(level.throughputs.len())));
        let (squares, degrees_of_freedom) =
            spreads.fold((0.0, 0.0), |(squares, freedom), ((mean, of), n)| {
                (squares + if mean > 0.0 { of / (mean * mean) } else { 0.0 }, freedom + n as f64 - 1.0)
            });
        let deviation = if degrees_of_freedom > 0.0 { (squares / degrees_of_freedom).sqrt() } else { 0.0 };
        Self { deviation, degrees_of_freedom }
    }

    /// Half of the interval of the difference of two means, as a share; 0 without repeats.
    fn between(&self, a: &Level, b: &Level) -> f64 {
        if self.deviation == 0.0 {
            return 0.0;
        }
        let of = |level: &Level| 1.0 / f64::from(level.all);
        let margin =
            quantile((1.0 + LEVEL) / 2.0, self.degrees_of_freedom) * self.deviation * (of(a) + of(b)).sqrt();
        margin.min(MOST_NOISE)
    }
}

/// The level with the highest throughput.
fn peak(levels: &[Level]) -> Option<&Level> {
    levels.iter().max_by(|a, b| a.throughput().total_cmp(&b.throughput()))
}

/// The lowest load that is not below the limit, and the highest below it.
fn bracket(levels: &[Level]) -> (Option<&Level>, Option<&Level>) {
    let above = levels.iter().find(|level| !level.is_below());
    let below =
        levels.iter().rfind(|level| level.is_below() && above.is_none_or(|above| level.load < above.load));
    (below, above)
}

/// The next step of a search that begins at the load `from`.
pub fn next(search: &Search, from: f64, seen: &[Evaluated]) -> Step {
    let levels = levels(search, seen);
    let limit = match bracket(&levels) {
        (None, None) => return Step::Measure { load: from, number: 1 },
        (Some(below), None) => Limit::NotReached(below.load),
        (None, Some(above)) => Limit::Nowhere(above.load),
        (Some(below), Some(above)) => Limit::Between(below.load, above.load),
    };
    let measured: f64 = seen.iter().map(|one| one.seconds).sum();
    if seen.len() >= search.points as usize {
        return Step::Done(Found { limit, end: End::Points });
    }
    if search.time_s.is_some_and(|most| measured >= most) {
        return Step::Done(Found { limit, end: End::Time });
    }
    let further = match limit {
        Limit::NotReached(load) => (load < search.max).then(|| (load * 2.0).min(search.max)),
        Limit::Nowhere(load) => (load > search.min).then(|| rounded(search, load / 2.0).max(search.min)),
        Limit::Between(below, above) => between(search, below, above),
    };
    if let Some(load) = further {
        return Step::Measure { load, number: 1 };
    }
    let mut ends = match limit {
        Limit::NotReached(load) | Limit::Nowhere(load) => vec![load],
        Limit::Between(below, above) => vec![below, above],
    };
    if search.is_for_throughput() {
        // The highest of many is high by chance, too.
        ends.extend(peak(&levels).map(|level| level.load));
    }
    let again = levels.iter().find(|level| ends.contains(&level.load) && level.all < search.repeats);
    match again {
        Some(level) => Step::Measure { load: level.load, number: level.all + 1 },
        None => Step::Done(Found { limit, end: End::Converged }),
    }
}

/// A load between two others; `None` if they are as close as the tolerance.
fn between(search: &Search, below: f64, above: f64) -> Option<f64> {
    let is_close = above - below <= search.tolerance * below;
    let middle = rounded(search, (below + above) / 2.0);
    (!is_close && middle > below && middle < above).then_some(middle)
}

/// A whole concurrency, or a rate with three significant digits.
fn rounded(search: &Search, load: f64) -> f64 {
    if !search.is_rate {
        return load.floor();
    }
    format!("{load:.2e}").parse().unwrap_or(load)
}

/// What a measurement tells about the goal.
pub fn evaluated(search: &Search, load: f64, summary: &Summary, gpus: u32) -> Evaluated {
    let invalid = || {
        let is_invalid = summary.verdict.result == Rating::Invalid;
        let reason = summary.verdict.reasons.first().map_or("the result is invalid", String::as_str);
        is_invalid.then(|| reason.to_owned())
    };
    let grows = || {
        let cut = summary.cut_short.as_ref().filter(|cut| cut.over_saturated);
        cut.map(|_| "its queue grows without bound".to_owned())
    };
    let broken = search.objectives().find_map(|objective| broken(objective, summary, gpus));
    let broken = broken.or_else(grows).or_else(invalid);
    Evaluated {
        load,
        keeps: broken.is_none(),
        throughput: summary.throughput.output_tokens_per_s,
        seconds: summary.duration_s,
        broken,
    }
}

fn broken(objective: &Objective, summary: &Summary, gpus: u32) -> Option<String> {
    let requests = &summary.requests;
    let value = match &objective.figure {
        Figure::ErrorRate => {
            let ended = requests.completed + requests.failed;
            (ended > 0).then(|| requests.failed as f64 / ended as f64)
        }
        Figure::Goodput => {
            let all = summary.throughput.requests_per_s;
            summary.throughput.goodput_per_s.filter(|_| all > 0.0).map(|good| good / all)
        }
        figure => figure.path().and_then(|path| metric::value(summary, &path, gpus)),
    };
    let name = objective.name();
    let Some(value) = value else { return Some(format!("{name} is not known")) };
    let shown = match objective.figure.unit() {
        Unit::Share => format!("{:.2} %", value * 100.0),
        Unit::Ms => format!("{} ms", significant(value)),
        Unit::Plain => significant(value),
    };
    (!objective.is_kept(value)).then(|| format!("{name} is {shown}"))
}

/// Checks that the figures of the objectives are in `summary.json`.
pub fn check(plan: &Plan) -> Result<(), InputErrors> {
    let known = metric::paths();
    let objectives = plan.search.iter().flat_map(Search::objectives);
    let wrong = objectives.filter_map(|objective| match &objective.figure {
        Figure::Path(path) if !metric::is_known(path, &known) => {
            let problem = format!("found {:?}, and summary.json has no number {path:?}", objective.name());
            let error = plan.locate(InputError::new("", problem).key("search.goal"));
            Some(match metric::meant(path, &known) {
                Some(near) => error.next(format!("did you mean `{near}`?")),
                None => error.next("`tokmark schema summary` shows all of them"),
            })
        }
        _ => None,
    });
    InputErrors::check(wrong.collect())
}
