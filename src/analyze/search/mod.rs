//! A search for a load: which one to measure next, and what the measured ones tell.
//!
//! Pure and without memory: the same measurements lead to the same next step, so a search that was interrupted goes on.
//! Doubling, or halving, finds a load on each side of the limit; bisection brings them together; both are repeated.

pub mod hopeless;
#[cfg(test)]
mod tests;

use serde::Serialize;
use serde_json::{Value, json};

use super::metric;
use crate::document::{InputError, InputErrors};
use crate::metrics::{Rating, Summary};
use crate::plan::Plan;
use crate::plan::search::{Figure, Goal, Objective, Search};

/// Throughput that grows by less than this share when the load doubles no longer grows.
const PLATEAU: f64 = 0.05;

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
    throughput: f64,
}

impl Level {
    /// By majority; a tie is not below.
    fn is_below(&self) -> bool {
        2 * self.below > self.all
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
        let throughput = of().map(|one| one.throughput).sum::<f64>() / f64::from(all);
        let below = of().filter(|one| one.keeps).count() as u32;
        levels.push(Level { load, all, below, throughput });
    }
    if search.is_for_throughput() {
        let highest = levels.iter().map(|level| level.throughput).fold(0.0, f64::max);
        let mut best_so_far = 0.0_f64;
        let top = levels.len().saturating_sub(1);
        for (at, level) in levels.iter_mut().enumerate() {
            let grows = level.throughput > best_so_far * (1.0 + PLATEAU);
            best_so_far = best_so_far.max(level.throughput);
            let is_below =
                if at == top { grows } else { level.throughput < highest * (1.0 - search.tolerance) };
            level.below = if is_below { level.all } else { 0 };
        }
    }
    levels
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
    let ends = match limit {
        Limit::NotReached(load) | Limit::Nowhere(load) => vec![load],
        Limit::Between(below, above) => vec![below, above],
    };
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
    let broken = search.objectives().find_map(|objective| broken(objective, summary, gpus)).or_else(invalid);
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
        Figure::Errors => {
            let ended = requests.completed + requests.failed;
            (ended > 0).then(|| requests.failed as f64 / ended as f64)
        }
        Figure::Goodput => {
            let all = summary.throughput.requests_per_s;
            summary.throughput.goodput_per_s.filter(|_| all > 0.0).map(|good| good / all)
        }
        Figure::Path(path) => metric::value(summary, path, gpus),
    };
    let name = objective.name();
    let Some(value) = value else { return Some(format!("{name} is not known")) };
    let keeps = if objective.below { value < objective.bound } else { value > objective.bound };
    let shown = match &objective.figure {
        Figure::Errors | Figure::Goodput => format!("{:.2} %", value * 100.0),
        Figure::Path(path) if path.contains("_ms.") => format!("{} ms", significant(value)),
        Figure::Path(_) => significant(value),
    };
    (!keeps).then(|| format!("{name} is {shown}"))
}

/// Three significant digits, without losing whole ones.
fn significant(value: f64) -> String {
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

/// What a search found, as one sentence.
pub fn sentence(search: &Search, found: &Found, seen: &[Evaluated]) -> String {
    let axis = search.axis();
    let goal = search.goals.iter().map(Goal::to_string).collect::<Vec<_>>().join(" and ");
    let levels = levels(search, seen);
    let agree = |load: f64, below: bool| {
        let level = levels.iter().find(|level| level.load == load);
        level.map_or((0, 0), |level| (if below { level.below } else { level.all - level.below }, level.all))
    };
    let why = |load: f64| {
        let broken = seen.iter().filter(|one| one.load == load).find_map(|one| one.broken.clone());
        broken.map(|broken| format!(": {broken}")).unwrap_or_default()
    };
    let tokens =
        |load: f64| levels.iter().find(|level| level.load == load).map_or(0.0, |level| level.throughput);
    let mut text = match (found.limit, search.is_for_throughput()) {
        (Limit::Between(below, above), false) => {
            let repeats = match (agree(below, true), agree(above, false)) {
                ((1, 1), (1, 1)) => "each measured once".to_owned(),
                ((kept, all), (broken, of)) => {
                    format!("{kept} of {all} repeats agree at {below}, {broken} of {of} at {above}")
                }
            };
            format!(
                "The largest {axis} that keeps {goal} is {below} ({above} does not{}); {repeats}.",
                why(above)
            )
        }
        (Limit::NotReached(load), false) => {
            format!("Not reached: {axis} {load}, the largest that was measured, still keeps {goal}.")
        }
        (Limit::Nowhere(load), false) => {
            format!("Not even {axis} {load}, the smallest that was measured, keeps {goal}{}.", why(load))
        }
        (Limit::Between(below, above), true) => format!(
            "The highest throughput is {} tok/s, reached from {axis} {above} ({below} gives {} tok/s).",
            significant(levels.iter().map(|level| level.throughput).fold(0.0, f64::max)),
            significant(tokens(below)),
        ),
        (Limit::NotReached(load), true) => format!(
            "Not reached: throughput still grows at {axis} {load}, the largest that was measured ({} tok/s).",
            significant(tokens(load))
        ),
        (Limit::Nowhere(load), true) => {
            format!(
                "Throughput does not grow with the {axis}: {load} gives {} tok/s.",
                significant(tokens(load))
            )
        }
    };
    if let Limit::Between(_, above) = found.limit {
        let odd: Vec<String> = levels
            .iter()
            .filter(|level| level.load > above && level.is_below())
            .map(|level| level.load.to_string())
            .collect();
        if !odd.is_empty() && !search.is_for_throughput() {
            text.push_str(&format!(" Noise: {} keeps it, although {above} does not.", odd.join(", ")));
        }
    }
    match found.end {
        End::Converged => {}
        End::Points => text.push_str(&format!(
            " The search ended at its {} measurements, before the limit was exact.",
            search.points
        )),
        End::Time => text.push_str(" The search ended at its time limit, before the limit was exact."),
    }
    text
}

/// What a search found, for programs. Without `found` it is not over.
pub fn json(search: &Search, found: Option<&Found>, seen: &[Evaluated]) -> Value {
    let (keeps, fails) = match found.map(|found| found.limit) {
        Some(Limit::Between(below, above)) => (Some(below), Some(above)),
        Some(Limit::NotReached(load)) => (Some(load), None),
        Some(Limit::Nowhere(load)) => (None, Some(load)),
        None => (None, None),
    };
    let count = |load: Option<f64>, keeps: bool| {
        load.map(|load| {
            let of = || seen.iter().filter(move |one| one.load == load);
            json!({"agree": of().filter(|one| one.keeps == keeps).count(), "of": of().count()})
        })
    };
    let highest = seen.iter().map(|one| one.throughput).fold(0.0, f64::max);
    let confidence = (!search.is_for_throughput())
        .then(|| json!({"keeps": count(keeps, true), "fails": count(fails, false)}));
    json!({
        "goal": search.goals,
        "axis": if search.is_rate { "request_rate" } else { "concurrency" },
        "result": found.map(|found| match found.limit {
            Limit::Between(..) => "found",
            Limit::NotReached(_) => "not_reached",
            Limit::Nowhere(_) => "nowhere",
        }),
        "ended": found.map(|found| found.end),
        "keeps": keeps,
        "fails": fails,
        "highest_output_tokens_per_s": highest,
        "confidence": confidence,
        "evaluated": seen.iter().map(|one| json!({
            "load": one.load,
            "keeps": (!search.is_for_throughput()).then_some(one.keeps),
            "output_tokens_per_s": one.throughput,
            "broken": one.broken,
        })).collect::<Vec<_>>(),
        "sentence": found.map(|found| sentence(search, found, seen)),
    })
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
