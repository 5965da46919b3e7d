//! Checks `[search]`.

use super::parsed::Parsed;
use crate::document::{InputError, InputErrors};
use crate::plan::search::{Figure, Goal, Search};
use crate::plan::{Arrival, Level, LoadPoint};
use crate::recipe::search::SearchSection;

/// Without `min` a rate is halved down to this share of the recipe's.
const LOWEST_RATE: f64 = 1.0 / 64.0;

/// The search on these points; `None` if the recipe has none.
pub(super) fn search(parsed: &Parsed<'_>, points: &[LoadPoint]) -> Result<Option<Search>, InputErrors> {
    let recipe = &parsed.resolved.recipe;
    let SearchSection { goal, min, max, tolerance, points: most, time, repeats } = &recipe.search;
    if recipe.search == SearchSection::default() {
        return Ok(None);
    }
    let wrong = |key: &str, problem: String, expected: &str| parsed.at(key, problem).expected(expected);
    let goals = goal.clone().unwrap_or_default();
    let mut errors = mistakes(parsed, &goals, points);
    let is_rate = points.first().is_some_and(|point| point.request_rate().is_some());
    let from = points.iter().filter_map(LoadPoint::request_rate).fold(f64::INFINITY, f64::min);
    let least = if is_rate { from * LOWEST_RATE } else { 1.0 };
    let (min, max) = (min.unwrap_or(least), max.unwrap_or(1024.0));
    if !(min > 0.0 && min <= max)
        || !is_rate && (min.fract() != 0.0 || max.fract() != 0.0 || max > f64::from(u32::MAX))
    {
        let expected =
            if is_rate { "rates above 0, min up to max" } else { "whole numbers from 1, min up to max" };
        errors.push(wrong("search.max", format!("found {min} to {max}"), expected));
    }
    let tolerance = tolerance.unwrap_or(0.05);
    if !(0.001..=0.5).contains(&tolerance) {
        errors.push(wrong("search.tolerance", format!("found {tolerance}"), "a share from 0.001 to 0.5"));
    }
    for (key, value) in [("search.points", most), ("search.repeats", repeats)] {
        if *value == Some(0) {
            errors.push(wrong(key, "found 0".into(), "1 or more"));
        }
    }
    InputErrors::check(errors)?;
    let load = &recipe.load;
    Ok(Some(Search {
        goals,
        is_rate,
        min,
        max,
        tolerance,
        points: most.unwrap_or(30),
        time_s: time.map(|time| time.seconds()),
        repeats: repeats.unwrap_or(3),
        grows: (
            load.requests_per_concurrency.is_some() && load.requests.is_none(),
            load.warmup_per_concurrency.is_some(),
        ),
    }))
}

/// What is wrong with the goals, and with the load beside them.
fn mistakes(parsed: &Parsed<'_>, goals: &[Goal], points: &[LoadPoint]) -> Vec<InputError> {
    let wrong = |key: &str, problem: String, expected: &str| parsed.at(key, problem).expected(expected);
    let mut errors: Vec<InputError> = Vec::new();
    if goals.is_empty() {
        errors.push(wrong(
            "search.goal",
            "missing".into(),
            "objectives such as [\"ttft.p99 < 500ms\"], or [\"throughput\"]",
        ));
    }
    if goals.len() > 1 && goals.contains(&Goal::Throughput) {
        errors.push(wrong("search.goal", "found \"throughput\" beside objectives".into(), "one of them"));
    }
    let is_goodput =
        goals.iter().any(|goal| matches!(goal, Goal::Keep(objective) if objective.figure == Figure::Goodput));
    if is_goodput && points.iter().any(|point| point.slo.is_empty()) {
        errors.push(wrong(
            "search.goal",
            "found a goodput without load.slo".into(),
            "the objectives of a request in [load.slo]",
        ));
    }
    let constant = |point: &LoadPoint| {
        matches!(
            point.arrival,
            Arrival::Closed { concurrency: Level::Constant(_) }
                | Arrival::Open { rate: Level::Constant(_), .. }
        )
    };
    if let Some(point) = points.iter().find(|point| !constant(point)) {
        errors.push(wrong(
            "search",
            format!("found beside {}, which has no constant load", point.id),
            "a concurrency or a rate",
        ));
    }
    let series: Vec<String> = points.iter().map(LoadPoint::series).collect();
    if let Some((_, twice)) = series.iter().enumerate().find(|(at, name)| series[..*at].contains(name)) {
        errors.push(wrong(
            "search",
            format!("found beside several loads of {twice}"),
            "one concurrency or rate, where the search begins",
        ));
    }
    if points.iter().any(|point| point.repeat.is_some()) {
        errors.push(wrong(
            "load.repeats",
            "found beside a search".into(),
            "search.repeats, for the loads at the limit",
        ));
    }
    errors
}
