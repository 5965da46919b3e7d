//! The AIPerf export against AIPerf itself: records are rebuilt from a `profile_export.jsonl` that AIPerf 0.13.0 wrote, and
//! what we export from them is compared with the CSV and JSON it wrote beside it.
//!
//! AIPerf's clock is ns, that of our records µs. To compare figures exactly, nanoseconds are fed in as if they were
//! microseconds: every time then is 1000 times too long and every rate 1000 times too low, which [`unscale`] takes back.

use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::PathBuf;
use tokmark::internals::metrics::dialects::aiperf::{self, ExportContext, SummaryFiles};
use tokmark::internals::metrics::{
    ClientHealth, CountSource, Outcome, Phase, PointRun, RequestRecord, Usage,
};
use tokmark::internals::plan::{Arrival, AtEnd, Endpoint, Length, LoadPoint, Slo, Stop};

const CAPTURES: [&str; 4] = ["vllm-chat", "dynamo-chat", "vllm-chat-rate", "vllm-completions-servercount"];

const CONTEXT: ExportContext<'static> = ExportContext {
    model: "tiny-llama",
    url: "http://127.0.0.1:8100",
    version: "0.0.0",
    simulated: false,
    benchmark_id: "oracle",
};

/// How the clock of a capture is turned into that of our records.
#[derive(Clone, Copy, PartialEq)]
enum Clock {
    /// ns pass as µs; see above.
    NsAsUs,
    /// Rounded to µs, as our load engine would have measured.
    Us,
}

struct Capture {
    name: &'static str,
    lines: Vec<Value>,
    clock: Clock,
    /// Earliest instant, wall-clock ns; a whole µs.
    zero_ns: i64,
}

impl Capture {
    fn read(name: &'static str, clock: Clock) -> Self {
        let lines: Vec<Value> = fixture(name, "profile_export.jsonl")
            .lines()
            .map(|line| serde_json::from_str(line).expect("a JSON line"))
            .collect();
        let issued = lines.iter().map(|line| line["metadata"]["credit_issued_ns"].as_i64().expect("ns"));
        let zero_ns = issued.min().expect("lines") / 1_000_000_000 * 1_000_000_000;
        Self { name, lines, clock, zero_ns }
    }

    fn at(&self, ns: i64) -> u64 {
        let ns = u64::try_from(ns - self.zero_ns).expect("after zero");
        match self.clock {
            Clock::NsAsUs => ns,
            Clock::Us => (ns + 500) / 1_000,
        }
    }

    fn records(&self) -> Vec<RequestRecord> {
        self.lines.iter().map(|line| self.record(line)).collect()
    }

    fn run(&self) -> PointRun {
        let (start, end) = if self.has_summary() { self.window() } else { (0, 0) };
        PointRun {
            started_at: jiff::Timestamp::from_nanosecond(i128::from(self.zero_ns)).expect("instant"),
            window_start_us: start,
            window_end_us: end,
            client: ClientHealth::default(),
            interrupted: false,
            aborted: None,
            arrivals: None,
            prefix_cache: None,
            servers: None,
            gpus: None,
            processes: Vec::new(),
        }
    }

    fn has_summary(&self) -> bool {
        self.name != "vllm-unknown-model"
    }

    /// AIPerf's observation window: start to end of the phase, which the JSON states in UTC.
    fn window(&self) -> (u64, u64) {
        let json = self.json();
        let instant = |key: &str| {
            let text = format!("{}Z", json[key].as_str().expect("time"));
            let instant: jiff::Timestamp = text.parse().expect("time");
            self.at(i64::try_from(instant.as_nanosecond()).expect("ns"))
        };
        (instant("start_time"), instant("end_time"))
    }

    fn json(&self) -> Value {
        serde_json::from_str(&fixture(self.name, "profile_export_aiperf.json")).expect("JSON")
    }

    /// The two summary files, and `profile_export.jsonl`.
    fn files(&self) -> (SummaryFiles, String) {
        let (point, run) = (self.point(), self.run());
        let mut export = aiperf::Export::new(&point, run.started_at, Vec::new());
        self.records().iter().for_each(|record| export.add(record).expect("line"));
        let (files, lines) = export.finish(&run, &CONTEXT).expect("files");
        (files, String::from_utf8(lines).expect("UTF-8"))
    }

    fn exported(&self) -> SummaryFiles {
        self.files().0
    }

    fn exported_json(&self) -> Value {
        serde_json::from_str(&self.exported().json).expect("JSON")
    }

    fn record(&self, line: &Value) -> RequestRecord {
        let (metadata, metrics) = (&line["metadata"], &line["metrics"]);
        let instant = |key: &str| metadata[key].as_i64();
        let count = |tag: &str| metrics[tag]["value"].as_u64();
        let start = instant("request_start_ns").expect("start");
        let after = |ms: f64| start + (ms * 1e6).round() as i64;
        let first = metrics["time_to_first_token"]["value"].as_f64();
        let gaps = metrics["inter_chunk_latency"]["value"].as_array().cloned().unwrap_or_default();
        let chunks = first.map(|first| {
            let mut ms = vec![first];
            gaps.iter().for_each(|gap| ms.push(ms[ms.len() - 1] + gap.as_f64().expect("gap")));
            ms.into_iter().map(|ms| self.at(after(ms))).collect()
        });
        let usage = count("usage_prompt_tokens").zip(count("usage_completion_tokens"));
        let by_client = metrics.get("usage_prompt_tokens_diff_pct").is_some();
        let source = if by_client { CountSource::Tokenizer } else { CountSource::Usage };
        let status = line["error"]["code"].as_u64().map(|code| u16::try_from(code).expect("status"));
        RequestRecord {
            id: metadata["session_num"].as_u64().expect("number"),
            phase: if metadata["benchmark_phase"] == "warmup" { Phase::Warmup } else { Phase::Measure },
            stage: None,
            worker: 0,
            scheduled_us: self.at(instant("credit_issued_ns").expect("issued")),
            sent_us: self.at(start),
            headers_us: instant("request_ack_ns").map(|ns| self.at(ns)),
            chunks_us: chunks.unwrap_or_default(),
            first_output_us: metrics["time_to_first_output_token"]["value"]
                .as_f64()
                .map(|ms| self.at(after(ms))),
            end_us: self.at(instant("request_end_ns").expect("end")),
            isl_planned: 64,
            osl_requested: 32,
            usage: usage.map(|(prompt_tokens, completion_tokens)| Usage {
                prompt_tokens,
                completion_tokens,
                reasoning_tokens: count("usage_reasoning_tokens"),
                cached_tokens: count("usage_prompt_cache_read_tokens"),
            }),
            isl: count("input_sequence_length").unwrap_or(0),
            isl_source: source,
            osl: count("output_sequence_length").unwrap_or(0),
            osl_source: source,
            outcome: status.map_or(Outcome::Ok, Outcome::Http),
            status,
            error: line["error"]["message"].as_str().map(str::to_owned),
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

    fn point(&self) -> LoadPoint {
        let factor = if self.clock == Clock::NsAsUs { 1e3 } else { 1.0 };
        let slo = match self.name {
            "vllm-chat-rate" => {
                Slo { ttft_ms: Some(200.0 * factor), itl_ms: Some(20.0 * factor), e2e_ms: None }
            }
            _ => Slo::default(),
        };
        let completions = self.name.contains("completions");
        LoadPoint {
            id: "oracle".to_owned(),
            repeat: None,
            isl: Length::fixed(64),
            osl: Length::fixed(32),
            arrival: Arrival::closed(4),
            stop: Stop::Requests(20),
            warmup_requests: 0,
            warmup_duration_s: None,
            at_end: AtEnd::default(),
            endpoint: if completions { Endpoint::Completions } else { Endpoint::Chat },
            streaming: true,
            ignore_eos: true,
            seed: 1,
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
            extra_body: Map::new(),
        }
    }
}

fn fixture(name: &str, file: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/fixtures/aiperf", name, file].iter().collect();
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A value of [`Clock::NsAsUs`] in its true size.
fn unscale(value: f64, unit: &str) -> f64 {
    match unit {
        "ms" | "sec" => value / 1e3,
        unit if unit.contains("/sec") => value * 1e3,
        _ => value,
    }
}

/// Whether AIPerf computed the metric from wall-clock instants in f64, which rounds them to 256 ns.
fn rounded_by_aiperf(tag: &str) -> bool {
    let curves = ["effective_", "active_", "tokens_in_flight", "credit_to_start_latency"];
    curves.iter().any(|prefix| tag.starts_with(prefix))
}

/// Rounded to 256 ns, the gap between one chunk and the next opens for an instant in which nothing is generated, and AIPerf's
/// minimum of an active rate is 0. From exact instants its own code gives our value.
fn rounded_to_idle(tag: &str, minimum: f64) -> bool {
    tag.starts_with("active_decode_throughput") && minimum == 0.0
}

fn close(got: f64, want: f64, relative: f64, absolute: f64) -> bool {
    (got - want).abs() <= absolute + relative * want.abs()
}

/// Compares two objects of metrics: same tags, same keys in the same order, same numbers.
fn compare(name: &str, ours: &Map<String, Value>, theirs: &Map<String, Value>, skip: fn(&str) -> bool) {
    let tags = |metrics: &Map<String, Value>| -> BTreeSet<String> {
        let metric = |(tag, value): (&String, &Value)| value.get("unit").is_some().then(|| tag.clone());
        metrics.iter().filter_map(metric).filter(|tag| !tag.starts_with("http_req_")).collect()
    };
    assert_eq!(tags(ours), tags(theirs), "{name}: metrics");
    for tag in tags(theirs).into_iter().filter(|tag| !skip(tag)) {
        let (got, want) =
            (ours[&tag].as_object().expect("metric"), theirs[&tag].as_object().expect("metric"));
        assert!(got.keys().eq(want.keys()), "{name} {tag}: {:?} {:?}", got.keys(), want.keys());
        assert_eq!(got["unit"], want["unit"], "{name} {tag}");
        let unit = want["unit"].as_str().expect("unit");
        for (key, want) in want.iter().filter(|(key, _)| *key != "unit") {
            assert_eq!(got[key].is_u64(), want.is_u64(), "{name} {tag}.{key}: integer or not");
            let (got, want) = (got[key].as_f64().expect("number"), want.as_f64().expect("number"));
            let got = if key == "count" { got } else { unscale(got, unit) };
            if key == "min" && rounded_to_idle(&tag, want) {
                continue;
            }
            let relative = if rounded_by_aiperf(&tag) { 1e-3 } else { 1e-6 };
            assert!(close(got, want, relative, 1e-6), "{name} {tag}.{key}: {got}, AIPerf has {want}");
        }
    }
}

#[test]
fn every_metric_of_the_json_is_aiperfs() {
    for name in CAPTURES {
        let capture = Capture::read(name, Clock::NsAsUs);
        let ours = capture.exported_json();
        let theirs = capture.json();
        compare(name, ours.as_object().expect("object"), theirs.as_object().expect("object"), |_| false);
        if let Some(warmup) = theirs["warmup_metrics"].as_object() {
            // AIPerf's warm-up window is that of the phase, ours that of its requests: no rates, no curves.
            let by_window =
                |tag: &str| tag.contains("throughput") || tag == "goodput" || rounded_by_aiperf(tag);
            compare(name, ours["warmup_metrics"].as_object().expect("warm-up"), warmup, by_window);
        }
    }
}

#[test]
fn the_json_has_aiperfs_shape() {
    for name in CAPTURES {
        let capture = Capture::read(name, Clock::Us);
        let ours = capture.exported_json();
        let theirs = capture.json();
        let keys =
            |json: &Value| -> Vec<String> { json.as_object().expect("object").keys().cloned().collect() };
        // Up to end_time AIPerf's model fixes the order; what follows comes in the order of arrival.
        let fixed = |keys: Vec<String>| -> Vec<String> {
            let end = keys.iter().position(|key| key == "end_time").expect("end_time");
            keys.into_iter().take(end + 1).collect()
        };
        assert_eq!(fixed(keys(&ours)), fixed(keys(&theirs)), "{name}");
        for key in ["schema_version", "aiperf_version", "was_cancelled", "is_complete", "error_summary"] {
            assert_eq!(ours[key], theirs[key], "{name} {key}");
        }
        for key in ["start_time", "end_time", "telemetry_data"] {
            let strip = |value: &Value| value.to_string().replace(|c: char| c.is_ascii_digit(), "0");
            assert_eq!(strip(&ours[key]), strip(&theirs[key]), "{name} {key}");
        }
        assert_eq!(ours["start_time"], theirs["start_time"], "{name}");
        for key in ["models", "endpoint", "datasets", "phases"] {
            assert!(ours["input_config"].get(key).is_some(), "{name} {key}");
        }
    }
}

#[test]
fn the_csv_has_aiperfs_rows_and_numbers() {
    for name in CAPTURES {
        let capture = Capture::read(name, Clock::Us);
        let ours = capture.exported().csv;
        let theirs = fixture(name, "profile_export_aiperf.csv");
        let theirs: Vec<&str> = theirs.split("\r\n").filter(|line| !line.starts_with("HTTP ")).collect();
        let ours: Vec<&str> = ours.split("\r\n").collect();
        let names = |lines: &[&str]| -> Vec<String> {
            lines.iter().map(|line| line.split(',').next().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(names(&ours), names(&theirs), "{name}: rows, sections and blank lines");
        for (got, want) in ours.iter().zip(&theirs) {
            compare_row(name, got, want);
        }
    }
}

fn compare_row(name: &str, got: &str, want: &str) {
    let (got_cells, want_cells): (Vec<&str>, Vec<&str>) =
        (got.split(',').collect(), want.split(',').collect());
    assert_eq!(got_cells.len(), want_cells.len(), "{name}: {got}");
    for (column, (cell, wanted)) in got_cells.iter().zip(&want_cells).enumerate() {
        let idle = *wanted == "0.00" && got.starts_with("Active Decode Throughput");
        match (cell.parse::<f64>(), wanted.parse::<f64>()) {
            (Ok(number), Ok(wanted_number)) => {
                // Two decimals, and instants rounded to µs.
                let right = close(number, wanted_number, 2e-3, 0.011) || (column == 2 && idle);
                assert!(right, "{name}: {got}\nAIPerf: {want}");
                assert_eq!(
                    cell.split('.').nth(1).map(str::len),
                    wanted.split('.').nth(1).map(str::len),
                    "{got}"
                );
            }
            _ => assert_eq!(cell, wanted, "{name}: {got}"),
        }
    }
}

fn jsonl(capture: &Capture) -> Vec<Value> {
    let text = capture.files().1;
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
}

#[test]
fn every_line_of_the_jsonl_is_aiperfs() {
    for name in CAPTURES {
        let capture = Capture::read(name, Clock::NsAsUs);
        let ours = jsonl(&capture);
        assert_eq!(ours.len(), capture.lines.len());
        for (got, want) in ours.iter().zip(&capture.lines) {
            let (got, want) = (&got["metrics"], &want["metrics"]);
            let tags = |line: &Value| -> BTreeSet<String> {
                // Good requests are a total of the run; AIPerf lists the flag by the way.
                let tags = line.as_object().expect("metrics").keys().cloned();
                tags.filter(|tag| tag != "good_request_count").collect()
            };
            assert_eq!(tags(got), tags(want), "{name}");
            for tag in tags(want) {
                let unit = want[&tag]["unit"].as_str().expect("unit");
                assert_eq!(got[&tag]["unit"], unit);
                let numbers = |value: &Value| match value.as_array() {
                    Some(list) => list.clone(),
                    None => vec![value.clone()],
                };
                let (got, want) = (numbers(&got[&tag]["value"]), numbers(&want[&tag]["value"]));
                assert_eq!(got.len(), want.len(), "{name} {tag}");
                for (got, want) in got.iter().zip(&want) {
                    assert_eq!(got.is_u64(), want.is_u64(), "{name} {tag}: integer or not");
                    let (got, want) = (got.as_f64().expect("number"), want.as_f64().expect("number"));
                    assert!(close(unscale(got, unit), want, 1e-9, 2e-6), "{name} {tag}: {got} {want}");
                }
            }
        }
    }
}

#[test]
fn the_metadata_of_the_jsonl_is_aiperfs() {
    for name in CAPTURES.into_iter().chain(["vllm-unknown-model"]) {
        let capture = Capture::read(name, Clock::Us);
        for (got, want) in jsonl(&capture).iter().zip(&capture.lines) {
            assert!(
                got.as_object().expect("line").keys().eq(want.as_object().expect("line").keys()),
                "{name}"
            );
            assert_eq!(got["error"], want["error"], "{name}");
            let (got, want) = (&got["metadata"], want["metadata"].as_object().expect("metadata"));
            assert!(got.as_object().expect("metadata").keys().eq(want.keys()), "{name}: {got}");
            for (key, want) in want {
                match (key.ends_with("_ns"), key.ends_with("_id")) {
                    (true, _) => {
                        let apart = got[key].as_i64().expect("ns").abs_diff(want.as_i64().expect("ns"));
                        assert!(apart <= 500, "{name} {key}: {apart} ns apart");
                    }
                    (_, true) => assert!(got[key].is_string(), "{name} {key}"),
                    _ => assert_eq!(&got[key], want, "{name} {key}"),
                }
            }
        }
    }
}

#[test]
fn inputs_are_written_as_aiperf_writes_them() {
    let theirs = fixture("vllm-chat", "inputs.json");
    let file: Value = serde_json::from_str(&theirs).expect("JSON");
    let sessions = file["data"]
        .as_array()
        .expect("sessions")
        .iter()
        .map(|session| (session["session_id"].as_str().expect("id").to_owned(), &session["payloads"][0]));
    let mut ours = Vec::new();
    aiperf::write_inputs(&mut ours, sessions).expect("write");
    assert_eq!(String::from_utf8(ours).expect("UTF-8"), theirs);
}

#[test]
fn a_run_without_a_success_still_exports_why() {
    let capture = Capture::read("vllm-unknown-model", Clock::Us);
    let json = capture.exported_json();
    assert_eq!(json["error_summary"][0]["count"], 3);
    assert_eq!(json["error_summary"][0]["error_details"]["code"], 404);
    assert_eq!(json["error_summary"][0]["error_details"]["type"], "Not Found");
    assert_eq!(json["error_request_count"]["avg"], 3.0);
    assert_eq!(json["request_error_rate"]["avg"], 100.0);
    assert!(json.get("request_latency").is_none());
    let csv = capture.exported().csv;
    assert!(csv.contains("Metric,Value\r\nCompleted Requests (Success + Error),3.00\r\n"), "{csv}");
}
