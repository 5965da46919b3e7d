//! Load points of a recipe: the product of its lists, each point checked.

use toml::{Table, Value};

use super::arrival;
use super::connection::named_endpoint;
use super::matrix::{combination_id, product};
use super::parsed::{Mistakes, Parsed};
use super::prompts::{ResolvedPrompts, resolve_prompts};
use super::sections::Load;
use crate::document::InputErrors;
use crate::plan::{Endpoint, LoadPoint, MaxTokensField, Slo, point_id};
use crate::recipe::units::Span;

/// Load points: every list of lengths and concurrencies, and every axis of `[sweep.load]`.
pub(super) fn load_points(
    parsed: &Parsed<'_>,
    model_folder: Option<&str>,
) -> Result<Vec<LoadPoint>, InputErrors> {
    let mut swept = parsed.resolved.recipe.sweep.load.clone();
    if let Some(key) = ["repeats", "until"].into_iter().find(|key| swept.contains_key(*key)) {
        return Err(parsed
            .at(&format!("sweep.load.{key}"), "found a list")
            .expected(format!("one value for all points, load.{key}"))
            .into());
    }
    if swept.contains_key("stages") {
        return Err(parsed
            .at("sweep.load.stages", "found a list of ramps")
            .expected("one ramp a recipe, in [[load.stages]]")
            .into());
    }
    let load = parsed.resolved.table.get("load");
    let mut axis = |key: &str| {
        let listed = |value: &Value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        let values = swept.remove(key).or_else(|| Some(listed(load?.get(key)?).into()))?;
        Some((key.to_owned(), values))
    };
    let mut axes: Table = ["isl", "osl"].into_iter().filter_map(&mut axis).collect();
    let arrivals: Table = ["concurrency", "rate"].into_iter().filter_map(&mut axis).collect();
    // The load varies fastest, whatever else is swept.
    axes.extend(swept.clone().into_iter().chain(arrivals));
    let mut points: Vec<LoadPoint> = Vec::new();
    for combination in product(&axes, "sweep.load").map_err(|error| parsed.resolved.locate(error))? {
        let (table, mut load): (Table, Load) = parsed.section("load", "sweep.load", &combination)?;
        load.endpoint = named_endpoint(parsed).unwrap_or(load.endpoint);
        let others = combination
            .into_iter()
            .filter(|(key, value)| swept.contains_key(key) && !is_one_shape(key, value))
            .collect();
        let suffix = combination_id(&others);
        let mut point = point(&table, load, parsed, model_folder)?;
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

/// The point of one combination; `table` is `load` as it is written.
fn point(
    table: &Table,
    load: Load,
    parsed: &Parsed<'_>,
    model_folder: Option<&str>,
) -> Result<LoadPoint, InputErrors> {
    let mut mistakes = Mistakes::of(parsed, "load");
    let ResolvedPrompts { isl, osl, prompts } = resolve_prompts(&load, model_folder, &mut mistakes);
    let Some(arrival) = arrival::arrival(&load, table, &mut mistakes) else {
        return Err(InputErrors(mistakes.found));
    };
    let of_each = |count: Option<u32>| arrival::of_each(count?, &arrival);
    let stop = arrival::stop(&load, &arrival, &mut mistakes);
    let at_end = arrival::at_end(&load, &mut mistakes);
    check_time_limits(&load, &mut mistakes);
    let max_tokens_field = max_tokens_field(&load, &mut mistakes);
    let warmup = of_each(load.warmup_per_concurrency).or(load.warmup_requests);
    InputErrors::check(mistakes.found)?;
    Ok(LoadPoint {
        id: point_id(isl, osl, &prompts, &arrival),
        repeat: None,
        isl,
        osl,
        prompts,
        stop,
        warmup_requests: warmup.unwrap_or_default(),
        warmup_duration_s: load.warmup_duration.map(Span::seconds).filter(|seconds| *seconds > 0.0),
        at_end,
        arrival,
        endpoint: load.endpoint,
        streaming: load.streaming,
        ignore_eos: load.ignore_eos,
        seed: load.seed,
        slo: Slo {
            ttft_ms: load.slo.ttft.map(Span::millis),
            itl_ms: load.slo.itl.map(Span::millis),
            e2e_ms: load.slo.e2e.map(Span::millis),
        },
        request_timeout_s: load.request_timeout.seconds(),
        stall_timeout_s: load.stall_timeout.seconds(),
        connect_timeout_s: load.connect_timeout.seconds(),
        first_token_timeout_s: load.first_token_timeout.map(Span::seconds),
        max_tokens_field,
        continuous_usage_stats: load.continuous_usage_stats,
        left_out: Vec::new(),
        scaled: None,
        exports: load.exports,
        extra_body: load.extra_body,
    })
}

/// A limit of 0 would fail every request.
fn check_time_limits(load: &Load, mistakes: &mut Mistakes<'_>) {
    let limits = [
        ("request_timeout", Some(load.request_timeout)),
        ("connect_timeout", Some(load.connect_timeout)),
        ("first_token_timeout", load.first_token_timeout),
        ("stall_timeout", Some(load.stall_timeout)),
    ];
    for (key, limit) in limits {
        if limit.is_some_and(|limit| limit.seconds() <= 0.0) {
            mistakes.add(key, "found 0: every request would fail", "more than 0");
        }
    }
}

/// The recipe's choice; with `auto` the launcher's.
fn max_tokens_field(load: &Load, mistakes: &mut Mistakes<'_>) -> MaxTokensField {
    match (load.max_tokens_field, load.endpoint) {
        (MaxTokensField::MaxCompletionTokens, Endpoint::Completions) => {
            let found = "found max_completion_tokens with the endpoint `completions`";
            let expected = "max_tokens or auto: the completions endpoint knows no other";
            mistakes.add("max_tokens_field", found, expected);
            MaxTokensField::MaxCompletionTokens
        }
        (MaxTokensField::Auto, Endpoint::Chat) => mistakes.parsed.launcher().endpoint.max_tokens_field,
        (field, _) => field,
    }
}
