//! `[load]`: what is sent, how requests arrive, when the load ends.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};
use serde_with::skip_serializing_none;

use super::connection::MaxTokensField;
use super::is_default;
use super::precision::Precision;
use super::prompts::{MixSection, PromptSection, RangeSection};
use super::units::{MAX_RATE, OneOrMany, Span};

/// `[load]`
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoadSection {
    /// Prompt length, tokens.
    pub isl: Option<OneOrMany<u32>>,
    /// Standard deviation of the prompt length, tokens.
    pub isl_stddev: Option<u32>,
    /// Output length, tokens.
    pub osl: Option<OneOrMany<u32>>,
    /// Standard deviation of the output length, tokens.
    pub osl_stddev: Option<u32>,
    /// Lengths drawn uniformly around `isl` and `osl`; set exactly one key.
    pub length_range: Option<RangeSection>,
    /// Several shapes in one load; instead of `isl` and `osl`.
    pub mix: Option<Vec<MixSection>>,
    /// Where prompts come from and what they share.
    #[serde(skip_serializing_if = "is_default")]
    pub prompts: PromptSection,
    /// Requests in flight (closed loop).
    pub concurrency: Option<OneOrMany<u32>>,
    /// Arrivals per second (open loop); instead of `concurrency`.
    pub rate: Option<OneOrMany<f64>>,
    /// Stages of a ramp, in order; instead of `concurrency` and `rate`.
    pub stages: Option<Vec<StageSection>>,
    /// Ramp: requests in flight at its start. Default: 0.
    pub start_concurrency: Option<u32>,
    /// Ramp: arrivals per second at its start. Default: 0.
    #[serde(deserialize_with = "rate_or_none")]
    pub start_rate: Option<f64>,
    /// Open loop: how arrivals are spaced; set exactly one table. Default: `poisson`.
    pub arrival: Option<ArrivalSection>,
    /// Open loop: limit of requests in flight.
    pub max_concurrency: Option<u32>,
    /// Open loop, at `max_concurrency`: queue the arrival or drop it. Default: `queue`.
    pub when_full: Option<WhenFull>,
    /// Stop after this many requests; in an open loop after this many arrivals.
    pub requests: Option<u64>,
    /// Stop after this many requests per unit of concurrency.
    pub requests_per_concurrency: Option<u32>,
    /// Send for this long. Default in an open loop: 60 s.
    pub duration: Option<Span>,
    /// What happens to requests in flight at the end: `drain` (default) or `cut`.
    pub at_end: Option<AtEndWord>,
    /// Cut requests still in flight after draining this long. Default: drain until each request's time limit.
    pub drain_timeout: Option<Span>,
    /// Requests before the measured window.
    pub warmup_requests: Option<u64>,
    /// Warm-up requests per unit of concurrency.
    pub warmup_per_concurrency: Option<u32>,
    /// Length of the warm-up; instead of a number of requests.
    pub warmup_duration: Option<Span>,
    /// Measure each load point this many times on its deployment, in shuffled order. Default: 1.
    pub repeats: Option<u32>,
    /// Repeat only until half the 95 % confidence interval of a figure is at most this share of it, `repeats` times at most:
    /// `"ci 2%"` of the output throughput, `"ci 5% of ttft_ms.p99"`.
    pub until: Option<Precision>,
    /// Whether answers are streamed.
    pub streaming: Option<bool>,
    /// `chat` or `completions`.
    pub endpoint: Option<Endpoint>,
    /// Request exactly the output length.
    pub ignore_eos: Option<bool>,
    /// Seed of prompts and lengths.
    pub seed: Option<u64>,
    /// Total time limit of one request.
    pub request_timeout: Option<Span>,
    /// Longest silence within an answer.
    pub stall_timeout: Option<Span>,
    /// Longest wait for a connection, name resolution and TLS included. Default: 30 s.
    pub connect_timeout: Option<Span>,
    /// Longest wait from sending to the first content chunk. Default: only `request_timeout` limits it.
    pub first_token_timeout: Option<Span>,
    /// Field that bounds the output length: `auto` (default), `max_tokens` or `max_completion_tokens`.
    pub max_tokens_field: Option<MaxTokensField>,
    /// Ask for `usage` in every chunk of a stream, not only in the last (`stream_options.continuous_usage_stats`).
    pub continuous_usage_stats: Option<bool>,
    /// Objectives for goodput.
    #[serde(skip_serializing_if = "is_default")]
    pub slo: SloSection,
    /// Formats of other tools to write results in, besides AIPerf's, which is always written.
    pub exports: Option<Vec<ExportFormat>>,
    /// Fields merged into every request body: a table, or JSON text if a field must be `null`.
    #[schemars(schema_with = "extra_body_schema")]
    #[serde(deserialize_with = "extra_body", skip_serializing_if = "Map::is_empty")]
    pub extra_body: Map<String, Value>,
}

/// `[load.slo]`
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SloSection {
    /// Upper bound of TTFT, with its unit: `"500ms"`, `"10s"`.
    #[serde(deserialize_with = "objective")]
    #[schemars(schema_with = "objective_schema")]
    pub ttft: Option<Span>,
    /// Upper bound of the per-request ITL, with its unit.
    #[serde(deserialize_with = "objective")]
    #[schemars(schema_with = "objective_schema")]
    pub itl: Option<Span>,
    /// Upper bound of the E2E latency, with its unit.
    #[serde(deserialize_with = "objective")]
    #[schemars(schema_with = "objective_schema")]
    pub e2e: Option<Span>,
}

/// `[load.arrival]`: set exactly one of these tables.
#[skip_serializing_none]
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ArrivalSection {
    /// Every gap is 1 / rate.
    pub constant: Option<NoOptions>,
    /// Exponentially distributed gaps, as from independent users.
    pub poisson: Option<NoOptions>,
    /// Gamma-distributed gaps.
    pub gamma: Option<GammaSection>,
}

/// A table without keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoOptions {}

/// `[load.arrival.gamma]`
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GammaSection {
    /// Burstier than Poisson below 1, more even above.
    pub shape: f64,
}

/// What happens to requests in flight when the load ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AtEndWord {
    /// Wait until they finish.
    #[default]
    Drain,
    /// Cut them and record them as `cancelled`.
    Cut,
}

/// What happens to an arrival at the limit of requests in flight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// It waits for a free slot, in order of arrival; scheduled latencies include the wait.
    #[default]
    Queue,
    /// It is not sent and counts as dropped.
    Drop,
}

/// How the load gets to the target of a stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// In a straight line from where the last stage ended.
    #[default]
    Linear,
    /// At once, and stays there for the whole stage.
    Hold,
}

/// `[[load.stages]]`: one part of a ramp.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StageSection {
    /// Name in the report. Default: its number.
    pub name: Option<String>,
    /// Length of the stage, above 0.
    #[serde(deserialize_with = "some_time")]
    pub duration: Span,
    /// Requests in flight at its end (closed loop).
    pub concurrency: Option<u32>,
    /// Arrivals per second at its end (open loop); instead of `concurrency`.
    #[serde(default, deserialize_with = "rate_or_none")]
    pub rate: Option<f64>,
    /// How the load gets there. Default: `linear`.
    #[serde(default)]
    pub shape: Shape,
    /// Run and record this stage but leave it out of the figures; only at the end of the ramp. Default: false.
    #[serde(default)]
    pub cool_down: bool,
}

fn objective<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Span>, D::Error> {
    let text = match Value::deserialize(deserializer)? {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Span::with_unit(&text).map(Some).map_err(de::Error::custom)
}

fn objective_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string"})
}

fn some_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
    let span = Span::deserialize(deserializer)?;
    if span.seconds() > 0.0 && span.seconds().is_finite() {
        return Ok(span);
    }
    let found = de::Unexpected::Float(span.seconds());
    Err(de::Error::invalid_value(found, &"a length of time above 0; a jump is shape = \"hold\""))
}

/// A rate per second that may be 0.
pub(crate) fn rate_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let rate = f64::deserialize(deserializer)?;
    if (0.0..=MAX_RATE).contains(&rate) {
        return Ok(Some(rate));
    }
    Err(de::Error::invalid_value(
        de::Unexpected::Float(rate),
        &"a rate of 0 or more and at most 1000000 per second",
    ))
}

/// The OpenAI-compatible endpoint that receives the load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `/v1/chat/completions`
    #[default]
    Chat,
    /// `/v1/completions`
    Completions,
}

impl Endpoint {
    /// The path on the server.
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
        }
    }

    /// The word used in files and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
        }
    }
}

/// Another tool's result files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ExportFormat {
    /// AIPerf: `profile_export_aiperf.csv`, `profile_export_aiperf.json`, `profile_export.jsonl`.
    Aiperf,
    /// genai-perf: `profile_export_genai_perf.csv`, `profile_export_genai_perf.json`.
    GenaiPerf,
    /// `vllm bench serve --save-result --save-detailed`: one JSON file.
    Vllm,
    /// vllm-bench: a CSV file with a row per request.
    VllmBench,
}

/// Reads `load.extra_body`: a table, or JSON text, because TOML has no `null`.
pub(crate) fn extra_body<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    let expected = &"a table, or the text of a JSON object";
    let value = match Value::deserialize(deserializer)? {
        Value::String(text) => serde_json::from_str(&text)
            .map_err(|_| de::Error::invalid_value(de::Unexpected::Str(&text), expected))?,
        value => value,
    };
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(de::Error::invalid_type(de::Unexpected::Other("something else"), expected)),
    }
}

fn extra_body_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["object", "string"], "additionalProperties": true})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_objective_names_its_unit() {
        let slo = |text: &str| toml::from_str::<SloSection>(text).map(|slo| slo.ttft.map(Span::millis));
        for (text, ms) in
            [("ttft = \"10ms\"", 10.0), ("ttft = \"10s\"", 10_000.0), ("ttft = \"0.5s\"", 500.0)]
        {
            assert_eq!(slo(text).unwrap(), Some(ms), "{text}");
        }
        assert_eq!(slo("").unwrap(), None);
        for bare in ["ttft = 10", "ttft = \"10\"", "ttft = 0.5", "ttft = \" 1e3 \""] {
            let error = slo(bare).unwrap_err().to_string();
            assert!(
                error.contains("has no unit: write ") && error.contains("other tools mean ms"),
                "{error}"
            );
        }
        assert!(slo("ttft = true").unwrap_err().to_string().contains("not a length of time"));
    }

    #[test]
    fn a_table_or_json_text() {
        let body = |text: &str| toml::from_str::<LoadSection>(text).map(|load| load.extra_body);
        let table = body("[extra_body]\na = 1\nb.c = \"x\"").unwrap();
        assert_eq!(Value::from(table), serde_json::json!({"a": 1, "b": {"c": "x"}}));
        let text = body("extra_body = '{\"min_tokens\": null}'").unwrap();
        assert_eq!(Value::from(text), serde_json::json!({"min_tokens": null}));
        for wrong in ["extra_body = '[1]'", "extra_body = 'x'", "extra_body = 3"] {
            assert!(body(wrong).unwrap_err().to_string().contains("JSON object"), "{wrong}");
        }
    }
}
