//! How the requests of a load point arrive and when it ends, from the keys of `[load]`.
//!
//! Arrow: `recipe` → here → `build`.

use super::build::Blame;
use super::load_point::GAMMA_SHAPES;
use super::{Arrival, AtEnd, OpenLoop, Spacing, Stop};
use crate::document::InputError;
use crate::recipe::units::OneOrMany;
use crate::recipe::{ArrivalSection, AtEndWord, LoadSection};

/// How long an open loop lasts when nothing says so, seconds: the shortest time that shows a queue that grows.
const OPEN_LOOP_S: f64 = 60.0;

/// Requests per unit of concurrency of a closed loop when nothing says so.
const REQUESTS_PER_CONCURRENCY: u32 = 8;

/// The arrivals of one combination of axis values.
pub(super) fn arrival(load: &LoadSection, blame: &Blame<'_>) -> Result<Arrival, Vec<InputError>> {
    let rate = load.rate.as_ref().map(|rates| rates.0.as_slice());
    match (rate, load.concurrency.as_ref()) {
        (Some(_), Some(_)) => Err(vec![
            blame
                .at("load.rate", "found beside load.concurrency")
                .expected("one of them: a rate (open loop) or a concurrency (closed loop)")
                .next("remove one; use max_concurrency to limit an open loop"),
        ]),
        (Some([rate]), None) => open(*rate, load, blame),
        (None, Some(OneOrMany(list))) if list.len() == 1 => closed(list[0], load, blame),
        _ => Err(vec![
            blame
                .at("load.concurrency", "missing")
                .expected("concurrency (closed loop) or rate (open loop), a number or a list"),
        ]),
    }
}

fn closed(concurrency: u32, load: &LoadSection, blame: &Blame<'_>) -> Result<Arrival, Vec<InputError>> {
    let open_only = [
        ("arrival", load.arrival.is_some()),
        ("max_concurrency", load.max_concurrency.is_some()),
        ("when_full", load.when_full.is_some()),
    ];
    let errors: Vec<InputError> = open_only
        .into_iter()
        .filter(|(_, set)| *set)
        .map(|(key, _)| {
            blame
                .at(&format!("load.{key}"), "found in a closed loop")
                .expected("an open loop: load.rate in place of load.concurrency")
        })
        .collect();
    if errors.is_empty() { Ok(Arrival::Closed { concurrency }) } else { Err(errors) }
}

fn open(rate: f64, load: &LoadSection, blame: &Blame<'_>) -> Result<Arrival, Vec<InputError>> {
    let mut errors = Vec::new();
    let spacing = spacing(load.arrival.as_ref(), blame).unwrap_or_else(|error| {
        errors.push(error);
        Spacing::Poisson
    });
    if load.max_concurrency == Some(0) {
        errors.push(blame.at("load.max_concurrency", "found 0").expected("1 or more"));
    }
    if load.when_full.is_some() && load.max_concurrency.is_none() {
        errors.push(
            blame
                .at("load.when_full", "found without load.max_concurrency")
                .expected("a limit to be full at"),
        );
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Arrival::Open(OpenLoop {
        rate,
        spacing,
        max_concurrency: load.max_concurrency,
        when_full: load.when_full.unwrap_or_default(),
    }))
}

fn spacing(section: Option<&ArrivalSection>, blame: &Blame<'_>) -> Result<Spacing, InputError> {
    let Some(section) = section else { return Ok(Spacing::Poisson) };
    match (section.constant, section.poisson, section.gamma) {
        (Some(_), None, None) => Ok(Spacing::Constant),
        (None, Some(_), None) => Ok(Spacing::Poisson),
        (None, None, Some(gamma)) if GAMMA_SHAPES.contains(&gamma.shape) => {
            Ok(Spacing::Gamma { shape: gamma.shape })
        }
        (None, None, Some(gamma)) => Err(blame
            .at("load.arrival.gamma.shape", format!("found {}", gamma.shape))
            .expected(format!("a number from {} to {}", GAMMA_SHAPES.start(), GAMMA_SHAPES.end()))),
        (constant, poisson, gamma) => {
            let tables = [
                ("constant", constant.is_some()),
                ("poisson", poisson.is_some()),
                ("gamma", gamma.is_some()),
            ];
            let found: Vec<&str> = tables.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect();
            let found = if found.is_empty() { "no table".to_owned() } else { found.join(" and ") };
            Err(blame.at("load.arrival", format!("found {found}")).expected(
                "exactly one of [load.arrival.constant], [load.arrival.poisson], [load.arrival.gamma]",
            ))
        }
    }
}

/// When a load point ends, and what comes before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ends {
    pub(super) stop: Stop,
    pub(super) warmup_requests: u64,
    pub(super) warmup_duration_s: Option<f64>,
    pub(super) at_end: AtEnd,
}

pub(super) fn ends(
    load: &LoadSection,
    arrival: &Arrival,
    blame: &Blame<'_>,
) -> Result<Ends, Vec<InputError>> {
    let mut errors = Vec::new();
    let concurrency = match arrival {
        Arrival::Closed { concurrency } => Some(u64::from(*concurrency)),
        Arrival::Open(_) => None,
    };
    let per = |count: u32| concurrency.map(|concurrency| u64::from(count) * concurrency);
    let per_concurrency = [
        ("requests_per_concurrency", load.requests_per_concurrency.is_some()),
        ("warmup_per_concurrency", load.warmup_per_concurrency.is_some()),
    ];
    for (key, _) in per_concurrency.into_iter().filter(|(_, set)| *set && concurrency.is_none()) {
        errors.push(
            blame
                .at(&format!("load.{key}"), "found in an open loop")
                .expected("a number of requests or a duration"),
        );
    }
    let stop = match (load.requests, load.duration) {
        (Some(requests), _) => Stop::Requests(requests),
        (None, Some(span)) => Stop::DurationS(span.seconds()),
        (None, None) => per(load.requests_per_concurrency.unwrap_or(REQUESTS_PER_CONCURRENCY))
            .map_or(Stop::DurationS(OPEN_LOOP_S), Stop::Requests),
    };
    let (key, empty) = match stop {
        Stop::Requests(requests) => ("load.requests", requests == 0),
        Stop::DurationS(seconds) => ("load.duration", seconds <= 0.0),
    };
    if empty {
        errors.push(blame.at(key, "the load point sends nothing").expected("at least one request"));
    }
    let at_end = match (load.at_end.unwrap_or_default(), load.drain_timeout) {
        (AtEndWord::Drain, limit) => AtEnd::Drain { limit_s: limit.map(|span| span.seconds()) },
        (AtEndWord::Cut, None) => AtEnd::Cut,
        (AtEndWord::Cut, Some(_)) => {
            errors.push(
                blame
                    .at("load.drain_timeout", "found beside at_end = \"cut\"")
                    .expected("at_end = \"drain\""),
            );
            AtEnd::Cut
        }
    };
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Ends {
        stop,
        warmup_requests: load
            .warmup_per_concurrency
            .and_then(per)
            .unwrap_or_else(|| load.warmup_requests.unwrap_or(0)),
        warmup_duration_s: load.warmup_duration.map(|span| span.seconds()).filter(|seconds| *seconds > 0.0),
        at_end,
    })
}
