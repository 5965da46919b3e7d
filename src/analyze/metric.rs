//! Metrics by their path in `summary.json`: which paths exist, their values, and whether higher is better.
//!
//! The paths come from the schema of the file, so this list cannot drift from it.

use serde_json::Value;

use crate::document::nearest;
use crate::metrics::Summary;

/// TPOT and its path in `summary.json`: vLLM's name for the same figure.
const TPOT: (&str, &str) = ("tpot_ms", "itl_ms");

/// Suffix of figures that are divided by the number of GPUs.
const PER_GPU: &str = "_per_gpu";

/// Whether higher values are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Throughput, speed per user.
    Higher,
    /// Latencies, failures, durations.
    Lower,
    /// Lengths and counts: any deviation is bad.
    Neither,
}

/// Every path in `summary.json` that leads to a number, in file order; `*` matches any name.
pub fn paths() -> Vec<String> {
    let schema = schemars::schema_for!(Summary).to_value();
    let mut found = Vec::new();
    walk(&schema, &schema["$defs"], "", &mut found);
    found.retain(|path| path != "schema");
    found.dedup();
    found
}

/// Collects paths below `path`. Skips lists: their items have no name.
fn walk(schema: &Value, definitions: &Value, path: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        return walk(&definitions[name], definitions, path, found);
    }
    for choices in ["anyOf", "allOf", "oneOf"].iter().filter_map(|key| schema[*key].as_array()) {
        choices.iter().for_each(|choice| walk(choice, definitions, path, found));
    }
    let is = |word: &str| {
        schema["type"] == word
            || schema["type"].as_array().is_some_and(|types| types.iter().any(|kind| kind == word))
    };
    if is("number") || is("integer") {
        found.push(path.to_owned());
    }
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        walk(inner, definitions, &below(name), found);
    }
    if schema["additionalProperties"].is_object() {
        walk(&schema["additionalProperties"], definitions, &below("*"), found);
    }
}

/// The path in `summary.json`: TPOT is stored as ITL.
fn written(path: &str) -> String {
    match path.strip_prefix(TPOT.0) {
        Some(rest) if rest.starts_with('.') => format!("{}{rest}", TPOT.1),
        _ => path.to_owned(),
    }
}

/// Whether `summary.json` has a number at this path.
pub fn is_known(path: &str, known: &[String]) -> bool {
    let path = written(path);
    let parts: Vec<&str> = path.split('.').collect();
    known.iter().any(|known| {
        let names: Vec<&str> = known.split('.').collect();
        names.len() == parts.len()
            && names.iter().zip(&parts).all(|(name, part)| name == part || *name == "*" && !part.is_empty())
    })
}

/// The path that the user probably meant.
pub fn meant<'a>(path: &str, known: &'a [String]) -> Option<&'a str> {
    let names = || known.iter().map(String::as_str);
    names()
        .find(|name| !path.is_empty() && name.ends_with(&format!(".{path}")))
        .or_else(|| nearest(path, names()))
        .or_else(|| names().find(|name| !path.is_empty() && name.starts_with(path)))
}

/// Whether the figure is per GPU.
pub fn is_per_gpu(path: &str) -> bool {
    path.ends_with(PER_GPU)
}

pub fn better(path: &str) -> Better {
    let first = path.split('.').next().unwrap_or_default();
    match first {
        "throughput" | "tps_per_user" => Better::Higher,
        "duration_s" => Better::Lower,
        _ if path.split('.').any(|part| part.ends_with("_ms")) => Better::Lower,
        _ if path == "requests.completed" => Better::Higher,
        _ if path == "requests.failed" => Better::Lower,
        _ => Better::Neither,
    }
}

/// The value; `None` if it does not apply. Computes a missing per-GPU figure from `gpus`.
pub fn value(summary: &Summary, path: &str, gpus: u32) -> Option<f64> {
    let written = written(path);
    let file = serde_json::to_value(summary).ok()?;
    let at = |path: &str| path.split('.').try_fold(&file, |value, name| value.get(name))?.as_f64();
    at(&written).or_else(|| {
        let all = at(written.strip_suffix(PER_GPU)?)?;
        (gpus > 0).then(|| all / f64::from(gpus))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{point, run, sound};
    use crate::metrics::summary::{Context, summarize};

    fn summary(gpus: Option<u32>) -> Summary {
        let ran = run(sound());
        summarize(&point(), &ran, &ran.fold(), &Context { gpus, ..Context::default() })
    }

    #[test]
    fn every_figure_of_the_published_tables_has_a_path() {
        let known = paths();
        for path in [
            "throughput.output_tokens_per_s",
            "throughput.output_tokens_per_s_per_gpu",
            "throughput.output_tokens_per_s_per_user",
            "throughput.total_tokens_per_s",
            "throughput.total_tokens_per_s_per_gpu",
            "throughput.requests_per_s",
            "ttft_ms.avg",
            "ttft_ms.p50",
            "tpot_ms.p99",
            "itl_ms.p90",
            "e2e_ms.avg",
            "duration_s",
            "isl.avg",
            "requests.completed",
            "requests.by_outcome.http_503",
        ] {
            assert!(is_known(path, &known), "{path} in {known:#?}");
        }
        for path in [
            "",
            "schema",
            "simulated",
            "ttft_ms",
            "ttft_ms.p51",
            "throughput",
            "stages",
            "tpot_ms",
            "tpot_msavg",
        ] {
            assert!(!is_known(path, &known), "{path}");
        }
    }

    #[test]
    fn the_path_that_was_meant() {
        let known = paths();
        for (found, expected) in [
            ("ttft_ms.p51", Some("ttft_ms.p1")),
            ("throughput.output_token_per_s", Some("throughput.output_tokens_per_s")),
            ("total_tokens_per_s", Some("throughput.total_tokens_per_s")),
            ("ttft", Some("ttft_ms.avg")),
            ("power.watts_of_everything", None),
            ("", None),
        ] {
            assert_eq!(meant(found, &known), expected, "{found}");
        }
    }

    #[test]
    fn values_by_path() {
        // 20 answers of 10 tokens in 3.94 s: the last one starts at 3.8 s and takes 140 ms.
        let with = summary(Some(4));
        assert_eq!(value(&with, "throughput.output_tokens_per_s_per_gpu", 9), Some(200.0 / 3.94 / 4.0));
        assert_eq!(value(&with, "tpot_ms.avg", 1), Some(10.0));
        assert_eq!(value(&with, "requests.by_outcome.ok", 1), Some(20.0));
        assert_eq!(value(&with, "requests.by_outcome.http_503", 1), None);
        assert_eq!(value(&with, "throughput.goodput_per_s", 1), None);
        let without = summary(None);
        assert_eq!(value(&without, "throughput.output_tokens_per_s_per_gpu", 2), Some(200.0 / 3.94 / 2.0));
        assert_eq!(value(&without, "throughput.output_tokens_per_s_per_gpu", 0), None);
    }

    #[test]
    fn which_way_is_better() {
        for (path, expected) in [
            ("throughput.output_tokens_per_s", Better::Higher),
            ("tps_per_user.p50", Better::Higher),
            ("ttft_ms.p99", Better::Lower),
            ("tpot_ms.avg", Better::Lower),
            ("offered.schedule_lag_ms.avg", Better::Lower),
            ("duration_s", Better::Lower),
            ("osl.avg", Better::Neither),
        ] {
            assert_eq!(better(path), expected, "{path}");
        }
    }
}
