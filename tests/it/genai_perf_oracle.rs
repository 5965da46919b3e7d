//! The genai-perf export against genai-perf itself: the requests its parser was given, as records, and what its exporters
//! wrote for them. See `tests/fixtures/genai_perf/README.md`.

use serde_json::Value;
use std::path::PathBuf;
use tokmark::internals::metrics::dialects::ExportContext;
use tokmark::internals::metrics::dialects::genai_perf::{SummaryFiles, summary_files};
use tokmark::internals::metrics::{ClientHealth, CountSource, Fold, Outcome, Phase, PointRun, RequestRecord};
use tokmark::internals::plan::{Arrival, AtEnd, Endpoint, Length, LoadPoint, Slo, Stop};

const CONTEXT: ExportContext<'static> = ExportContext {
    model: "m",
    url: "http://127.0.0.1:8000",
    version: "0.0.0",
    simulated: false,
    benchmark_id: "oracle",
};

fn fixture(run: &str, file: &str) -> String {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/genai_perf").join(run).join(file);
    std::fs::read_to_string(&path).expect(file)
}

/// A request as genai-perf saw it; one without a response left is what we call empty.
fn record(id: usize, request: &Value) -> RequestRecord {
    let us = |ns: &Value| ns.as_u64().expect("ns") / 1_000;
    let chunks_us: Vec<u64> = request["chunks_ns"].as_array().expect("chunks").iter().map(us).collect();
    let sent_us = us(&request["sent_ns"]);
    RequestRecord {
        id: id as u64,
        phase: Phase::Measure,
        stage: None,
        worker: 0,
        scheduled_us: sent_us,
        sent_us,
        headers_us: None,
        first_output_us: chunks_us.first().copied(),
        end_us: chunks_us.last().map_or(sent_us, |last| last + 50),
        outcome: if chunks_us.is_empty() { Outcome::Empty } else { Outcome::Ok },
        chunks_us,
        isl_planned: 0,
        osl_requested: 0,
        usage: None,
        isl: request["isl"].as_u64().expect("isl"),
        isl_source: CountSource::Tokenizer,
        osl: request["osl"].as_u64().expect("osl"),
        osl_source: CountSource::Tokenizer,
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
}

fn exported(requests: &str, streaming: bool, slo: Slo) -> SummaryFiles {
    let requests: Vec<Value> = serde_json::from_str(&fixture(requests, "requests.json")).expect("requests");
    let records: Vec<RequestRecord> =
        requests.iter().enumerate().map(|(id, request)| record(id, request)).collect();
    let length = Length::fixed(1);
    let point = LoadPoint {
        id: "oracle".to_owned(),
        repeat: None,
        isl: length,
        osl: length,
        arrival: Arrival::closed(1),
        stop: Stop::Requests(24),
        warmup_requests: 0,
        warmup_duration_s: None,
        at_end: AtEnd::default(),
        endpoint: Endpoint::Chat,
        streaming,
        ignore_eos: false,
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
    let run = PointRun {
        started_at: jiff::Timestamp::UNIX_EPOCH,
        window_start_us: 0,
        window_end_us: 0,
        client: ClientHealth::default(),
        interrupted: false,
        aborted: None,
        arrivals: None,
        prefix_cache: None,
        servers: None,
        gpus: None,
        processes: Vec::new(),
    };
    summary_files(&point, &run, &Fold::of(&records), &CONTEXT)
}

/// Both files, cell by cell and key by key; `extra` are keys that the export leaves out on purpose.
fn compare(run: &str, ours: &SummaryFiles, extra: &[&str]) {
    assert_eq!(ours.csv, fixture(run, "profile_export_genai_perf.csv"), "{run}");
    let ours: Value = serde_json::from_str(&ours.json).expect("our JSON");
    let theirs: Value =
        serde_json::from_str(&fixture(run, "profile_export_genai_perf.json")).expect("their JSON");
    let (ours, theirs) = (ours.as_object().expect("object"), theirs.as_object().expect("object"));
    let expected: Vec<&String> = theirs.keys().filter(|key| !extra.contains(&key.as_str())).collect();
    assert_eq!(ours.keys().collect::<Vec<_>>(), expected, "{run}");
    for (name, metric) in ours.iter().filter(|(name, _)| *name != "input_config") {
        let (metric, other) =
            (metric.as_object().expect("metric"), theirs[name].as_object().expect("metric"));
        assert_eq!(metric.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>(), "{run} {name}");
        for (statistic, value) in metric {
            match (value.as_f64(), other[statistic].as_f64()) {
                (Some(a), Some(b)) => {
                    assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{run} {name}.{statistic}: {a} {b}");
                }
                _ => assert_eq!(value, &other[statistic], "{run} {name}.{statistic}"),
            }
        }
    }
    let shared = ["model_names", "subcommand"];
    for key in shared {
        assert_eq!(ours["input_config"][key], theirs["input_config"][key], "{run} {key}");
    }
}

#[test]
fn streamed() {
    compare("streaming", &exported("streaming", true, Slo::default()), &[]);
}

#[test]
fn with_objectives() {
    let slo = Slo { ttft_ms: Some(1_500.0), e2e_ms: Some(2_000.0), itl_ms: None };
    compare("goodput", &exported("streaming", true, slo), &[]);
}

#[test]
fn not_streamed() {
    compare("unary", &exported("unary", false, Slo::default()), &["time_to_first_token"]);
}
