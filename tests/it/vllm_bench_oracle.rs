//! The vLLM export against `vllm bench serve` itself: records are rebuilt from the arrays of results it wrote with
//! `--save-detailed`, and what we export from them is compared with those results, key by key.
//!
//! Its clock is seconds in f64, ours µs; figures may differ by what that rounding does.

use serde_json::Value;
use std::path::PathBuf;
use tokmark::internals::metrics::dialects::vllm_bench;
use tokmark::internals::metrics::dialects::{ExportContext, Results, in_order_of_sending};
use tokmark::internals::metrics::{ClientHealth, CountSource, Outcome, Phase, PointRun, RequestRecord};
use tokmark::internals::plan::{Arrival, AtEnd, Endpoint, Length, LoadPoint, Slo, Stop};

const CAPTURES: [&str; 4] =
    ["vllm-chat-c4", "dynamo-chat-c4", "vllm-completions-rate10", "vllm-unknown-model"];

/// Keys whose value is not measured: what was asked for, and text.
const GIVEN: [&str; 11] = [
    "date",
    "endpoint_type",
    "backend",
    "model_id",
    "tokenizer_id",
    "request_rate",
    "max_concurrency",
    "start_times",
    "queue_times",
    "generated_texts",
    "label",
];

/// The keys of ours, which stand where `--metadata` puts keys of the user.
const METADATA: [&str; 2] = ["generator", "simulated"];

fn fixture(name: &str) -> Value {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/vllm_bench/{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).expect(name)).expect("JSON")
}

fn us(seconds: f64) -> u64 {
    (seconds * 1e6).round() as u64
}

fn numbers(values: &Value) -> Vec<f64> {
    values.as_array().expect("array").iter().map(|value| value.as_f64().expect("number")).collect()
}

/// The records a result stands for, on a clock that starts with the first request.
fn records(result: &Value) -> Vec<RequestRecord> {
    let column = |key: &str| numbers(&result[key]);
    let (starts, ttfts, inputs, outputs) =
        (column("start_times"), column("ttfts"), column("input_lens"), column("output_lens"));
    let zero = starts.iter().copied().fold(f64::INFINITY, f64::min);
    let record = |id: usize| {
        let sent = starts[id] - zero;
        let error = result["errors"][id].as_str().expect("error");
        let mut at = sent + ttfts[id];
        let mut chunks_us = Vec::new();
        if error.is_empty() {
            chunks_us.push(us(at));
            for gap in numbers(&result["itls"][id]) {
                at += gap;
                chunks_us.push(us(at));
            }
        }
        RequestRecord {
            id: id as u64,
            phase: Phase::Measure,
            stage: None,
            worker: 0,
            scheduled_us: us(sent),
            sent_us: us(sent),
            headers_us: None,
            first_output_us: None,
            end_us: us(at),
            chunks_us,
            isl_planned: inputs[id] as u64,
            osl_requested: 32,
            usage: None,
            isl: inputs[id] as u64,
            isl_source: CountSource::Usage,
            osl: outputs[id] as u64,
            osl_source: CountSource::Usage,
            outcome: if error.is_empty() { Outcome::Ok } else { Outcome::Http(404) },
            status: Some(200),
            error: None,
            finish_reason: None,
            bytes_sent: 0,
            turn: None,
            isl_shared: 0,
            osl_counted: None,
            text_bytes: None,
            first_text_bytes: None,
            unknown_content: None,
            bytes_received: 0,
        }
    };
    (0..starts.len()).map(record).collect()
}

fn exported(theirs: &Value, slo: Slo) -> Value {
    let mut records = records(theirs);
    // Records come in order of ending, not of sending.
    records.sort_by_key(|record| record.end_us);
    let records = in_order_of_sending(&records);
    let run = PointRun {
        started_at: jiff::Timestamp::UNIX_EPOCH,
        window_start_us: 0,
        window_end_us: us(theirs["duration"].as_f64().expect("duration")),
        client: ClientHealth::default(),
        interrupted: false,
        aborted: None,
        arrivals: None,
        prefix_cache: None,
        servers: None,
        gpus: None,
        processes: Vec::new(),
    };
    let length = Length::fixed(1);
    let point = LoadPoint {
        id: "oracle".to_owned(),
        repeat: None,
        isl: length,
        osl: length,
        arrival: Arrival::closed(4),
        stop: Stop::Requests(20),
        warmup_requests: 0,
        warmup_duration_s: None,
        at_end: AtEnd::default(),
        endpoint: Endpoint::Chat,
        streaming: true,
        ignore_eos: true,
        seed: 0,
        slo,
        request_timeout_s: 600.0,
        stall_timeout_s: 120.0,
        connect_timeout_s: 30.0,
        first_token_timeout_s: None,
        max_tokens_field: Default::default(),
        continuous_usage_stats: false,
        left_out: Vec::new(),
        scaled: None,
        prompts: tokmark::internals::plan::PromptSpec::default(),
        exports: Vec::new(),
        extra_body: serde_json::Map::new(),
    };
    let context =
        ExportContext { model: "tiny-llama", url: "u", version: "0", simulated: false, benchmark_id: "b" };
    let mut out = Vec::new();
    let results = Results { point: &point, run: &run, records: &records };
    vllm_bench::write(&mut out, &results, &context).expect("write");
    serde_json::from_slice(&out).expect("JSON")
}

/// Within the rounding of instants to µs, in s or in ms; a throughput within its share of the duration.
fn close(key: &str, ours: &Value, theirs: &Value) {
    match (ours.as_f64(), theirs.as_f64()) {
        (Some(a), Some(b)) => {
            let allowed = if key.ends_with("_ms") { 2e-3 } else { 2e-6_f64.max(b.abs() * 1e-4) };
            assert!((a - b).abs() <= allowed, "{key}: {a} {b}");
        }
        (None, None) if ours.is_array() => {
            let (ours, theirs) = (ours.as_array().expect("array"), theirs.as_array().expect("array"));
            assert_eq!(ours.len(), theirs.len(), "{key}");
            ours.iter().zip(theirs).for_each(|(ours, theirs)| close(key, ours, theirs));
        }
        _ => assert_eq!(ours, theirs, "{key}"),
    }
}

#[test]
fn every_key_in_its_place_and_every_figure() {
    for name in CAPTURES {
        let theirs = fixture(name);
        // The goodput of the capture that has one was asked for with these.
        let slo = match theirs["request_goodput"].is_null() {
            true => Slo::default(),
            false => Slo { ttft_ms: Some(200.0), itl_ms: Some(20.0), e2e_ms: None },
        };
        let ours = exported(&theirs, slo);
        let (ours, theirs) = (ours.as_object().expect("object"), theirs.as_object().expect("object"));
        let keys: Vec<&String> = ours.keys().filter(|key| !METADATA.contains(&key.as_str())).collect();
        assert_eq!(keys, theirs.keys().collect::<Vec<_>>(), "{name}");
        for (key, value) in theirs.iter().filter(|(key, _)| !GIVEN.contains(&key.as_str())) {
            close(&format!("{name} {key}"), &ours[key], value);
        }
        let texts = ours["generated_texts"].as_array().expect("texts");
        assert!(
            texts.iter().all(|text| text == "")
                && texts.len() == theirs["generated_texts"].as_array().expect("texts").len()
        );
    }
}
