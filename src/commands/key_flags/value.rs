//! Parsers of the values of flags: each gives the value that its key gets.

use clap::builder::{BoolValueParser, PossibleValuesParser, StringValueParser, TypedValueParser};
use toml::Value;

use crate::commands::flags::whole_number;
use crate::document::nearest;
use crate::plan::load_point::GAMMA_SHAPES;
use crate::plan::{Ramp, Stage};
use crate::recipe::StageSection;
use crate::recipe::objective::{Mistake, latency};
use crate::recipe::search::Goal;
use crate::recipe::secret::is_reference;
use crate::recipe::units::{MAX_RATE, Span};

/// The value that a flag without one sets.
pub(super) fn sets(value: impl Into<Value>) -> impl TypedValueParser<Value = Value> {
    let value = value.into();
    BoolValueParser::new().map(move |_| value.clone())
}

/// Whole numbers from `low` that fit 32 bits.
pub(super) fn count(low: i64) -> impl TypedValueParser<Value = Value> {
    move |text: &str| whole_number(text, low, u32::MAX.into()).map(Value::Integer)
}

/// Whole numbers from `low` that fit TOML.
pub(super) fn whole(low: i64) -> impl TypedValueParser<Value = Value> {
    move |text: &str| whole_number(text, low, i64::MAX).map(Value::Integer)
}

pub(super) fn number(text: &str) -> Result<Value, std::num::ParseFloatError> {
    text.parse().map(Value::Float)
}

pub(super) fn text() -> impl TypedValueParser<Value = Value> {
    StringValueParser::new().map(Value::String)
}

pub(super) fn time(text: &str) -> Result<Value, String> {
    text.parse::<Span>().map(|span| Value::String(span.to_string()))
}

pub(super) fn one_of<const N: usize>(words: [&'static str; N]) -> impl TypedValueParser<Value = Value> {
    PossibleValuesParser::new(words).map(Value::String)
}

pub(super) const ENDPOINT: &str = "load.endpoint";

/// Path of the requests, where an endpoint is not named but given by its path.
pub(super) const PATH: &str = "deploy.connection.path";

/// An endpoint by its name, or by its path as vLLM and AIPerf do: [`super::load::key`] tells them apart.
pub(super) fn endpoint(text: &str) -> Result<Value, String> {
    match text {
        "chat" | "completions" => Ok(text.into()),
        path if path.contains('/') && !path.contains("://") => {
            Ok(format!("/{}", path.trim_start_matches('/')).into())
        }
        _ => Err("expected chat, completions or a path such as /v1beta/openai/chat/completions".into()),
    }
}

fn table<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    Value::Table(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

pub(super) const BY_REFERENCE: &str = "a secret is given as env:NAME or file:PATH, not written out";

/// Accepts only references, because a secret on the command line would show in the process list.
pub(super) fn reference(text: &str) -> Result<Value, String> {
    if is_reference(text) { Ok(text.into()) } else { Err(BY_REFERENCE.into()) }
}

/// A goal of a search.
pub(super) fn goal(text: &str) -> Result<Value, String> {
    let goal: Goal = text.parse().map_err(|mistake: Mistake| mistake.to_string())?;
    Ok(goal.to_string().into())
}

pub(super) fn trimmed(text: &str) -> Result<Value, std::convert::Infallible> {
    Ok(text.trim().into())
}

pub(super) fn absolute(text: &str) -> std::io::Result<Value> {
    Ok(std::path::absolute(text)?.display().to_string().into())
}

/// Checks the text of a JSON object. It stays text because TOML has no `null`.
pub(super) fn object(text: &str) -> Result<Value, String> {
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text) {
        Ok(_) => Ok(text.into()),
        Err(error) => Err(format!("not a JSON object: {error}")),
    }
}

pub(super) fn rate(text: &str) -> Result<Value, String> {
    let wrong = || {
        let closed = if text.trim() == "inf" { "; --concurrency N keeps N requests in flight" } else { "" };
        format!("{text:?} is not a rate above 0 and at most {MAX_RATE} per second{closed}")
    };
    let rate = text.trim().parse().ok().filter(|rate| *rate > 0.0 && *rate <= MAX_RATE);
    rate.map(Value::Float).ok_or_else(wrong)
}

/// A rate or a concurrency. A fraction stays one, so that the recipe rejects it as a concurrency.
pub(super) fn start(text: &str) -> Result<Value, String> {
    match text.trim().parse::<f64>() {
        Ok(whole) if whole.fract() == 0.0 && (0.0..=MAX_RATE).contains(&whole) => Ok((whole as i64).into()),
        _ => rate(text),
    }
}

pub(super) fn concurrency_stages(text: &str) -> Result<Value, String> {
    let ramp: Ramp = text.parse()?;
    match ramp.stages.iter().find(|stage| stage.target.fract() != 0.0) {
        Some(stage) => Err(format!("{} is not a number of requests; rates are --rate-stages", stage.target)),
        None => stages(&ramp, |stage| (Some(stage.target as u32), None)),
    }
}

pub(super) fn rate_stages(text: &str) -> Result<Value, String> {
    stages(&text.parse()?, |stage| (None, Some(stage.target)))
}

/// `load.stages`; `target` gives the concurrency or the rate of a stage.
fn stages(ramp: &Ramp, target: fn(&Stage) -> (Option<u32>, Option<f64>)) -> Result<Value, String> {
    let section = |stage: &Stage| {
        let (concurrency, rate) = target(stage);
        let Stage { name, duration_s, shape, cool_down, .. } = stage.clone();
        StageSection { name, duration: Span(duration_s), concurrency, rate, shape, cool_down }
    };
    let sections: Vec<StageSection> = ramp.stages.iter().map(section).collect();
    Value::try_from(sections).map_err(|error| error.to_string())
}

pub(super) fn spacing(text: &str) -> Result<Value, String> {
    match text.split_once(':') {
        None if ["constant", "poisson"].contains(&text) => Ok(table([(text, table([]))])),
        Some(("gamma", shape)) => {
            let shape: Option<f64> = shape.parse().ok().filter(|shape| GAMMA_SHAPES.contains(shape));
            let (low, high) = GAMMA_SHAPES.into_inner();
            shape
                .map(|shape| table([("gamma", table([("shape", shape.into())]))]))
                .ok_or_else(|| format!("the shape in {text:?} is not a number from {low} to {high}"))
        }
        _ => Err(format!("unknown spacing {text:?}; expected constant, poisson or gamma:SHAPE")),
    }
}

/// Latencies that `load.slo` bounds.
const OBJECTIVES: [&str; 3] = ["ttft", "itl", "e2e"];

pub(super) fn objective(text: &str) -> Result<Value, String> {
    let (name, limit) =
        text.split_once(':').ok_or_else(|| format!("{text:?} is not name:limit, e.g. ttft:500ms"))?;
    match latency(name.trim()) {
        Some(name) if OBJECTIVES.contains(&name) => {
            Ok(table([(name, Span::with_unit(limit)?.to_string().into())]))
        }
        _ => {
            let meant = nearest(name.trim(), OBJECTIVES.into_iter());
            let meant = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
            Err(format!("unknown objective {name:?}, expected ttft, itl or e2e{meant}"))
        }
    }
}

/// `KIND:PATH`, where the kind is one of `kinds`.
pub(super) fn kind_and_path(text: &str, kinds: &[&str]) -> Result<Value, String> {
    match text.split_once(':') {
        Some((kind, path)) if kinds.contains(&kind) && !path.is_empty() => {
            Ok(table([("kind", kind.into()), ("path", path.into())]))
        }
        _ => Err(format!("expected KIND:PATH, KIND one of {}", kinds.join(", "))),
    }
}

pub(super) fn range(text: &str) -> Result<Value, String> {
    let range = text.split_once(':').and_then(|(kind, ratio)| Some((kind, ratio.parse::<f64>().ok()?)));
    match range {
        Some(("vllm", ratio)) => Ok(table([("vllm", ratio.into())])),
        Some(("sa-bench", ratio)) => Ok(table([("sa_bench", ratio.into())])),
        _ => Err("expected vllm:R or sa-bench:R, R a number".into()),
    }
}
