//! What a search found, as a sentence and for programs.

use serde_json::{Value, json};

use super::{End, Evaluated, Found, Level, Limit, Noise, levels, peak};
use crate::plan::search::{Goal, Search};

/// Three significant digits, without losing whole ones.
pub(super) fn significant(value: f64) -> String {
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

/// `1,923 tok/s`, with half of its interval if it was measured several times.
fn throughput(level: &Level) -> String {
    let half = level.half_width().map(|half| format!(" ± {}", significant(half))).unwrap_or_default();
    format!("{}{half} tok/s", significant(level.throughput()))
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
    let at = |load: f64| levels.iter().find(|level| level.load == load);
    let tokens = |load: f64| at(load).map(throughput).unwrap_or_default();
    let peak = peak(&levels);
    let noise = Noise::of(&levels);
    // What counts as the highest throughput.
    let within = |load: f64| {
        let margin = at(load).zip(peak).map(|(level, peak)| noise.between(level, peak));
        margin.unwrap_or_default().max(search.tolerance)
    };
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
            "The highest throughput is {}, reached within {:.0} % from {axis} {above} ({below} gives {}).",
            peak.map(throughput).unwrap_or_default(),
            within(above) * 100.0,
            tokens(below),
        ),
        (Limit::NotReached(load), true) => format!(
            "Not reached: throughput still grows at {axis} {load}, the largest that was measured ({}).",
            tokens(load)
        ),
        (Limit::Nowhere(load), true) => {
            format!("Throughput does not grow with the {axis}: {load} gives {}.", tokens(load))
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
    if let (Limit::Between(_, above), true) = (found.limit, search.is_for_throughput())
        && within(above) > search.tolerance
    {
        text.push_str(&format!(
            " Repeats scatter by {:.0} %, so that smaller differences are noise.",
            noise.deviation * 100.0
        ));
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
    let levels = levels(search, seen);
    let mean = |load: Option<f64>| {
        let level = levels.iter().find(|level| Some(level.load) == load)?;
        Some(
            json!({"output_tokens_per_s": level.throughput(), "half_width": level.half_width(), "of": level.all}),
        )
    };
    let confidence = if search.is_for_throughput() {
        json!({"keeps": mean(keeps), "fails": mean(fails)})
    } else {
        json!({"keeps": count(keeps, true), "fails": count(fails, false)})
    };
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
        "highest_output_tokens_per_s": peak(&levels).map_or(0.0, Level::throughput),
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
