//! Load points of a recipe: the product of its lists, each point checked.

use std::path::Path;

use toml::{Table, Value};

use super::arrival;
use super::matrix::{combination_id, product};
use super::parsed::Parsed;
use super::prompts::{self, PromptKeys, ResolvedPrompts};
use super::sections::RequestKeys;
use crate::document::{InputError, InputErrors};
use crate::plan::{Endpoint, LoadPoint, MaxTokensField, Slo, point_id};
use crate::recipe::LoadSection;
use crate::recipe::units::OneOrMany;

/// Load points: every list of lengths and concurrencies, and every axis of `[sweep.load]`.
pub(super) fn load_points(
    parsed: &Parsed<'_>,
    model_folder: Option<String>,
) -> Result<Vec<LoadPoint>, InputErrors> {
    let recipe = &parsed.resolved.recipe;
    let base = parsed.section("load");
    let mut axes = Table::new();
    let mut list = |key: &str, value: &Option<OneOrMany<u32>>| {
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
        return Err(parsed
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
    for combination in product(&axes, "sweep.load").map_err(|error| parsed.resolved.locate(error))? {
        let load: LoadSection = parsed.typed(&base, &combination, "sweep.load")?;
        let request: RequestKeys = parsed.typed(&base, &combination, "sweep.load")?;
        let others = combination
            .into_iter()
            .filter(|(key, value)| extra.contains_key(key) && !is_one_shape(key, value))
            .collect();
        let suffix = combination_id(&others);
        let mut point = point(&load, &request, parsed, model_folder.clone())?;
        if !suffix.is_empty() {
            point.id = format!("{}_{suffix}", point.id);
        }
        if points.iter().any(|known| known.id == point.id) {
            return Err(parsed
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

fn point(
    load: &LoadSection,
    request: &RequestKeys,
    parsed: &Parsed<'_>,
    model_folder: Option<String>,
) -> Result<LoadPoint, InputErrors> {
    let sent =
        prompts::resolve_prompts(&prompt_keys(load, request, parsed, model_folder), &|key, problem| {
            parsed.at(&format!("load.{key}"), problem)
        });
    let arrival = arrival::arrival(load, parsed);
    let ends = arrival.as_ref().ok().map(|arrival| arrival::ends(load, arrival, parsed));
    let (Ok(ResolvedPrompts { isl, osl, prompts }), Ok(arrival), Some(Ok(ends))) = (&sent, &arrival, &ends)
    else {
        let errors = sent.err().into_iter().chain(arrival.err()).chain(ends.and_then(Result::err));
        return Err(InputErrors(errors.flatten().collect()));
    };
    let max_tokens_field = max_tokens_field(request, parsed)?;
    time_limits(load, parsed)?;
    Ok(LoadPoint {
        id: point_id(*isl, *osl, prompts, arrival),
        isl: *isl,
        osl: *osl,
        arrival: arrival.clone(),
        stop: ends.stop,
        warmup_requests: ends.warmup_requests,
        warmup_duration_s: ends.warmup_duration_s,
        at_end: ends.at_end,
        endpoint: request.endpoint,
        streaming: request.streaming,
        ignore_eos: request.ignore_eos,
        seed: request.seed,
        slo: Slo {
            ttft_ms: request.slo.ttft.map(|span| span.millis()),
            itl_ms: request.slo.itl.map(|span| span.millis()),
            e2e_ms: request.slo.e2e.map(|span| span.millis()),
        },
        request_timeout_s: request.request_timeout.seconds(),
        stall_timeout_s: request.stall_timeout.seconds(),
        connect_timeout_s: request.connect_timeout.seconds(),
        first_token_timeout_s: request.first_token_timeout.map(|span| span.seconds()),
        max_tokens_field,
        continuous_usage_stats: request.continuous_usage_stats,
        left_out: Vec::new(),
        scaled: None,
        prompts: prompts.clone(),
        exports: load.exports.clone().unwrap_or_default(),
        extra_body: load.extra_body.clone(),
    })
}

/// A limit of 0 would fail every request.
fn time_limits(load: &LoadSection, parsed: &Parsed<'_>) -> Result<(), InputError> {
    let limits = [
        ("request_timeout", load.request_timeout),
        ("connect_timeout", load.connect_timeout),
        ("first_token_timeout", load.first_token_timeout),
        ("stall_timeout", load.stall_timeout),
    ];
    match limits.into_iter().find(|(_, limit)| limit.is_some_and(|limit| limit.seconds() <= 0.0)) {
        Some((key, _)) => Err(parsed
            .at(&format!("load.{key}"), "found 0: every request would fail")
            .expected("more than 0")),
        None => Ok(()),
    }
}

/// The keys about lengths and prompts.
fn prompt_keys<'a>(
    load: &'a LoadSection,
    request: &RequestKeys,
    parsed: &'a Parsed<'_>,
    model_folder: Option<String>,
) -> PromptKeys<'a> {
    let one = |value: &Option<OneOrMany<u32>>| value.as_ref().and_then(|many| many.0.first().copied());
    PromptKeys {
        isl: one(&load.isl),
        isl_stddev: load.isl_stddev.unwrap_or(0),
        osl: one(&load.osl),
        osl_stddev: load.osl_stddev.unwrap_or(0),
        range: load.length_range,
        mix: load.mix.as_deref().unwrap_or_default(),
        prompts: load.prompts.clone(),
        endpoint: Some(request.endpoint),
        folder: Some(Path::new(&parsed.input.folder)),
        model_folder,
    }
}

/// The recipe's choice; with `auto` the launcher's.
fn max_tokens_field(request: &RequestKeys, parsed: &Parsed<'_>) -> Result<MaxTokensField, InputError> {
    match (request.max_tokens_field, request.endpoint) {
        (MaxTokensField::MaxCompletionTokens, Endpoint::Completions) => Err(parsed
            .at("load.max_tokens_field", "found max_completion_tokens with the endpoint `completions`")
            .expected("max_tokens or auto: the completions endpoint knows no other")),
        (MaxTokensField::Auto, Endpoint::Chat) => Ok(parsed.launcher().endpoint.max_tokens_field),
        (field, _) => Ok(field),
    }
}
