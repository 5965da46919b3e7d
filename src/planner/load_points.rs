//! Load points of a recipe: the product of its lists, each point checked.

use toml::{Table, Value};

use super::arrival;
use super::build::{Blame, Input, section, typed};
use super::matrix::{combination_id, product};
use super::prompts::{self, Asked, Said};
use crate::document::{InputError, InputErrors};
use crate::plan::load_point::CONNECT_TIMEOUT_S;
use crate::plan::{Endpoint, LoadPoint, MaxTokensField, Slo, point_id};
use crate::recipe::units::OneOrMany;
use crate::recipe::{LoadSection, Recipe};

/// Load points: every list of lengths and concurrencies, and every axis of `[sweep.load]`.
pub(super) fn points(
    input: &Input<'_>,
    recipe: &Recipe,
    blame: &Blame<'_>,
) -> Result<Vec<LoadPoint>, InputErrors> {
    let base = section(input, "load");
    let mut axes = Table::new();
    let mut list = |key: &str, value: &Option<OneOrMany>| {
        let values =
            value.iter().flat_map(|many| many.0.iter().map(|n| Value::Integer(i64::from(*n)))).collect();
        if value.is_some() {
            axes.insert(key.into(), Value::Array(values));
        }
    };
    list("isl", &recipe.load.isl);
    list("osl", &recipe.load.osl);
    let mut extra = recipe.sweep.load.clone();
    if extra.contains_key("stages") {
        return Err(blame
            .at("sweep.load.stages", "found a list of ramps")
            .expected("one ramp a recipe, in [[load.stages]]")
            .into());
    }
    list("concurrency", &recipe.load.concurrency);
    if let Some(rates) = &recipe.load.rate {
        let values = rates.0.iter().map(|rate| Value::Float(*rate)).collect();
        axes.insert("rate".into(), Value::Array(values));
    }
    for key in ["isl", "osl", "concurrency", "rate"] {
        if let Some(values) = extra.remove(key) {
            axes.insert(key.into(), values);
        }
    }
    // The load varies fastest, whatever else is swept.
    let load: Vec<_> = ["concurrency", "rate"].into_iter().filter_map(|key| axes.remove_entry(key)).collect();
    axes.extend(extra.clone());
    axes.extend(load);
    let mut points: Vec<LoadPoint> = Vec::new();
    for combination in product(&axes, "sweep.load").map_err(|error| blame.locate(error))? {
        let load: LoadSection = typed(&base, &combination, "sweep.load", blame)?;
        let others = combination
            .into_iter()
            .filter(|(key, value)| extra.contains_key(key) && !is_one_shape(key, value))
            .collect();
        let suffix = combination_id(&others);
        let mut point = point(&load, blame)?;
        if !suffix.is_empty() {
            point.id = format!("{}_{suffix}", point.id);
        }
        if points.iter().any(|known| known.id == point.id) {
            return Err(blame
                .at("load", format!("two load points would be called {}", point.id))
                .next("choose values of the axes that differ as file names")
                .into());
        }
        points.push(point);
    }
    Ok(points)
}

/// A mix of one shape, whose lengths are in the name of the point already.
fn is_one_shape(key: &str, value: &Value) -> bool {
    key == "mix" && value.as_array().is_some_and(|shapes| shapes.len() == 1)
}

fn point(load: &LoadSection, blame: &Blame<'_>) -> Result<LoadPoint, InputErrors> {
    let said = prompts::said(&asked(load, blame), &|key, problem| blame.at(&format!("load.{key}"), problem));
    let arrival = arrival::arrival(load, blame);
    let ends = arrival.as_ref().ok().map(|arrival| arrival::ends(load, arrival, blame));
    let (Ok(Said { isl, osl, prompts }), Ok(arrival), Some(Ok(ends))) = (&said, &arrival, &ends) else {
        let errors = said.err().into_iter().chain(arrival.err()).chain(ends.and_then(Result::err));
        return Err(InputErrors(errors.flatten().collect()));
    };
    let endpoint = load.endpoint.unwrap_or(Endpoint::Chat);
    let max_tokens_field = max_tokens_field(load, endpoint, blame)?;
    time_limits(load, blame)?;
    Ok(LoadPoint {
        id: point_id(*isl, *osl, prompts, arrival),
        isl: *isl,
        osl: *osl,
        arrival: arrival.clone(),
        stop: ends.stop,
        warmup_requests: ends.warmup_requests,
        warmup_duration_s: ends.warmup_duration_s,
        at_end: ends.at_end,
        endpoint,
        streaming: load.streaming.unwrap_or(true),
        ignore_eos: load.ignore_eos.unwrap_or(true),
        seed: load.seed.unwrap_or(0),
        slo: Slo {
            ttft_ms: load.slo.ttft.map(|span| span.millis()),
            itl_ms: load.slo.itl.map(|span| span.millis()),
            e2e_ms: load.slo.e2e.map(|span| span.millis()),
        },
        request_timeout_s: load.request_timeout.map_or(600.0, |span| span.seconds()),
        stall_timeout_s: load.stall_timeout.map_or(120.0, |span| span.seconds()),
        connect_timeout_s: load.connect_timeout.map_or(CONNECT_TIMEOUT_S, |span| span.seconds()),
        first_token_timeout_s: load.first_token_timeout.map(|span| span.seconds()),
        max_tokens_field,
        continuous_usage_stats: load.continuous_usage_stats.unwrap_or(false),
        left_out: Vec::new(),
        scaled: None,
        prompts: prompts.clone(),
        exports: load.exports.clone().unwrap_or_default(),
        extra_body: load.extra_body.clone(),
    })
}

/// A limit of 0 would fail every request.
fn time_limits(load: &LoadSection, blame: &Blame<'_>) -> Result<(), InputError> {
    let limits = [
        ("request_timeout", load.request_timeout),
        ("connect_timeout", load.connect_timeout),
        ("first_token_timeout", load.first_token_timeout),
        ("stall_timeout", load.stall_timeout),
    ];
    match limits.into_iter().find(|(_, limit)| limit.is_some_and(|limit| limit.seconds() <= 0.0)) {
        Some((key, _)) => {
            Err(blame.at(&format!("load.{key}"), "found 0: every request would fail").expected("more than 0"))
        }
        None => Ok(()),
    }
}

/// What is said of lengths and prompts.
fn asked<'a>(load: &'a LoadSection, blame: &'a Blame<'_>) -> Asked<'a> {
    let one = |value: &Option<OneOrMany>| value.as_ref().and_then(|many| many.0.first().copied());
    Asked {
        isl: one(&load.isl),
        isl_stddev: load.isl_stddev.unwrap_or(0),
        osl: one(&load.osl),
        osl_stddev: load.osl_stddev.unwrap_or(0),
        range: load.length_range,
        mix: load.mix.as_deref().unwrap_or_default(),
        prompts: load.prompts.clone(),
        endpoint: load.endpoint,
        folder: blame.folder(),
        model_folder: blame.model_folder(),
    }
}

/// What the recipe says, else what the launcher knows of its engine.
fn max_tokens_field(
    load: &LoadSection,
    endpoint: Endpoint,
    blame: &Blame<'_>,
) -> Result<MaxTokensField, InputError> {
    let said = load.max_tokens_field.unwrap_or_default();
    match (said, endpoint) {
        (MaxTokensField::MaxCompletionTokens, Endpoint::Completions) => Err(blame
            .at("load.max_tokens_field", "found max_completion_tokens with the endpoint `completions`")
            .expected("max_tokens or auto: the completions endpoint knows no other")),
        (MaxTokensField::Auto, Endpoint::Chat) => Ok(blame.launcher().endpoint.max_tokens_field),
        (said, _) => Ok(said),
    }
}
