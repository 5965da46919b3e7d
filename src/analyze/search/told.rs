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
    let levels = levels(search, seen);
    let mut text = match search.is_for_throughput() {
        true => ceiling(search, found.limit, &levels),
        false => kept(search, found.limit, seen, &levels),
    };
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

/// The largest load that keeps the objectives.
fn kept(search: &Search, limit: Limit, seen: &[Evaluated], levels: &[Level]) -> String {
    let axis = search.axis();
    let goal = search.goals.iter().map(Goal::to_string).collect::<Vec<_>>().join(" and ");
    let agree = |load: f64, below: bool| {
        let level = levels.iter().find(|level| level.load == load);
        level.map_or((0, 0), |level| (if below { level.below } else { level.all - level.below }, level.all))
    };
    let why = |load: f64| {
        let broken = seen.iter().filter(|one| one.load == load).find_map(|one| one.broken.clone());
        broken.map(|broken| format!(": {broken}")).unwrap_or_default()
    };
    let (below, above) = match limit {
        Limit::Between(below, above) => (below, above),
        Limit::NotReached(load) => {
            return format!("Not reached: {axis} {load}, the largest that was measured, still keeps {goal}.");
        }
        Limit::Nowhere(load) => {
            return format!(
                "Not even {axis} {load}, the smallest that was measured, keeps {goal}{}.",
                why(load)
            );
        }
    };
    let repeats = match (agree(below, true), agree(above, false)) {
        ((1, 1), (1, 1)) => "each measured once".to_owned(),
        ((kept, all), (broken, of)) => {
            format!("{kept} of {all} repeats agree at {below}, {broken} of {of} at {above}")
        }
    };
    let odd = levels.iter().filter(|level| level.load > above && level.is_below());
    let odd: Vec<String> = odd.map(|level| level.load.to_string()).collect();
    let noise = match odd.as_slice() {
        [] => String::new(),
        odd => format!(" Noise: {} keeps it, although {above} does not.", odd.join(", ")),
    };
    let fails = why(above);
    format!("The largest {axis} that keeps {goal} is {below} ({above} does not{fails}); {repeats}.{noise}")
}

/// The highest throughput.
fn ceiling(search: &Search, limit: Limit, levels: &[Level]) -> String {
    let axis = search.axis();
    let at = |load: f64| levels.iter().find(|level| level.load == load);
    let tokens = |load: f64| at(load).map(throughput).unwrap_or_default();
    let (below, above) = match limit {
        Limit::Between(below, above) => (below, above),
        Limit::NotReached(load) => {
            let tokens = tokens(load);
            return format!(
                "Not reached: throughput still grows at {axis} {load}, the largest that was measured ({tokens})."
            );
        }
        Limit::Nowhere(load) => {
            return format!("Throughput does not grow with the {axis}: {load} gives {}.", tokens(load));
        }
    };
    let (peak, noise) = (peak(levels), Noise::of(levels));
    // What counts as the highest throughput.
    let margin = at(above).zip(peak).map(|(level, peak)| noise.between(level, peak)).unwrap_or_default();
    let scatter = match margin > search.tolerance {
        true => format!(
            " Repeats scatter by {:.0} %, so that smaller differences are noise.",
            noise.deviation * 100.0
        ),
        false => String::new(),
    };
    format!(
        "The highest throughput is {}, reached within {:.0} % from {axis} {above} ({below} gives {}).{scatter}",
        peak.map(throughput).unwrap_or_default(),
        margin.max(search.tolerance) * 100.0,
        tokens(below),
    )
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
