//! The exports as a whole: worked small, streaming off, failures, one request, none, and whatever proptest thinks of.
//! Against genai-perf itself: `tests/it/genai_perf_oracle.rs`.

use super::{ExportContext, summary_files};
use crate::metrics::fixtures::{Ran, any_record, failed, held_back, point, record, run, sound};
use crate::metrics::record::{Outcome, Phase, RequestRecord};
use crate::plan::{LoadPoint, Slo};
use proptest::prelude::*;
use serde_json::Value;

const CONTEXT: ExportContext<'static> = ExportContext {
    model: "m",
    url: "http://localhost:8000",
    version: "1.2.3",
    simulated: true,
    benchmark_id: "b",
};

fn csv(point: &LoadPoint, ran: &Ran) -> String {
    summary_files(point, &ran.run, &ran.fold(), &CONTEXT).csv
}

fn json(point: &LoadPoint, ran: &Ran) -> Value {
    serde_json::from_str(&summary_files(point, &ran.run, &ran.fold(), &CONTEXT).json).expect("JSON")
}

fn names(csv: &str) -> Vec<&str> {
    csv.lines().filter_map(|line| line.split(',').next()).collect()
}

#[test]
fn worked_by_hand() {
    // TTFT 50 and 1,100 ms, E2E 140 and 1,190 ms, both sent at 1 s: duration 1.19 s.
    let mut slow = record(1, 1_000_000);
    slow.chunks_us.iter_mut().for_each(|at| *at += 1_050_000);
    slow.end_us += 1_050_000;
    let both = run(vec![record(0, 1_000_000), slow]);
    let text = csv(&point(), &both);
    let ttft = "Time To First Token (ms),575.00,50.00,\"1,100.00\",\"1,089.50\",\"1,047.50\",995.00,837.50,575.00,312.50,\
                155.00,102.50,60.50\r\n";
    assert!(text.contains(ttft), "{text}");
    assert!(text.ends_with(
        "\r\n\r\nMetric,Value\r\nOutput Token Throughput (tokens/sec),16.81\r\nRequest Throughput (per sec),1.68\r\n\
         Request Count (count),2.00\r\n"
    ));
    let json = json(&point(), &both);
    assert_eq!(json["inter_token_latency"]["avg"], 10.0);
    assert_eq!(json["output_token_throughput_per_user"]["max"], 100.0);
    assert_eq!(json["input_config"]["tokmark"]["simulated"], true);
    assert_eq!(json["input_config"]["perf_analyzer"]["stimulus"]["concurrency"], 2);
}

#[test]
fn the_itl_is_a_whole_number_of_nanoseconds() {
    // 90,001 µs over 9 gaps: 10,000,111.1 ns.
    let mut one = record(0, 0);
    one.chunks_us[9] += 1;
    let itl = json(&point(), &run(vec![one]))["inter_token_latency"]["avg"].as_f64().expect("ITL");
    assert!((itl - 10.000111).abs() < 1e-12, "{itl}");
}

#[test]
fn streaming_off_has_no_streaming_row() {
    let unary = LoadPoint { streaming: false, ..point() };
    let text = csv(&unary, &run(sound()));
    let expected = [
        "Metric",
        "Request Latency (ms)",
        "Output Sequence Length (tokens)",
        "Input Sequence Length (tokens)",
        "",
        "Metric",
        "Output Token Throughput (tokens/sec)",
        "Request Throughput (per sec)",
        "Request Count (count)",
    ];
    assert_eq!(names(&text), expected);
    let json = json(&unary, &run(sound()));
    for name in ["time_to_first_token", "inter_token_latency", "output_token_throughput_per_user"] {
        assert_eq!(json.get(name), None, "{name}");
    }
}

#[test]
fn empty_answers_count_in_the_request_throughput_alone() {
    let mut records = sound();
    records[0] = failed(0, 1_000_000, Outcome::Empty);
    records[1] = failed(1, 1_200_000, Outcome::Http(503));
    let json = json(&point(), &run(records));
    assert_eq!(json["request_count"]["avg"], 18.0);
    // First good request sent at 1.4 s, last content at 4.94 s; 18 good ones and the empty one.
    assert!((json["request_throughput"]["avg"].as_f64().expect("figure") - 19.0 / 3.54).abs() < 1e-9);
    assert!((json["output_token_throughput"]["avg"].as_f64().expect("figure") - 180.0 / 3.54).abs() < 1e-9);
}

#[test]
fn objectives_add_the_goodput() {
    let with = LoadPoint { slo: Slo { ttft_ms: Some(50.0), ..Slo::default() }, ..point() };
    let mut records = sound();
    records[3].chunks_us[0] += 1;
    let json = json(&with, &run(records));
    assert_eq!(json["request_goodput"]["avg"], 19.0 / 3.94);
    assert_eq!(json["input_config"]["input"]["goodput"], serde_json::json!({"time_to_first_token": 50.0}));
    assert!(csv(&with, &run(sound())).contains("Request Goodput (per sec),5.08\r\n"));
    assert!(!csv(&point(), &run(sound())).contains("Goodput"));
}

#[test]
fn nothing_measured_is_not_available() {
    let warmup = RequestRecord { phase: Phase::Warmup, ..record(0, 0) };
    let text = csv(&point(), &run(vec![warmup]));
    assert!(
        text.contains("Request Latency (ms),N/A,N/A,N/A,N/A,N/A,N/A,N/A,N/A,N/A,N/A,N/A,N/A\r\n"),
        "{text}"
    );
    assert!(text.contains("Request Throughput (per sec),N/A\r\nRequest Count (count),0.00\r\n"), "{text}");
    let json = json(&point(), &run(vec![]));
    assert_eq!(
        json.as_object().expect("object").keys().collect::<Vec<_>>(),
        ["request_count", "input_config"]
    );
}

#[test]
fn answers_that_were_all_held_back_have_no_itl() {
    // Chunks a moment apart, because genai-perf has no ITL for one chunk, nor when every ITL is 0.
    let held = |id, sent_us| {
        let mut held = held_back(id, sent_us);
        held.chunks_us.push(held.chunks_us[0] + 9);
        held
    };
    let point = LoadPoint { slo: Slo { itl_ms: Some(20.0), ..Slo::default() }, ..point() };
    let all = run(vec![held(0, 1_000_000), held(1, 1_200_000)]);
    assert!(csv(&point, &all).contains("Inter Token Latency (ms),N/A,"));
    let all = json(&point, &all);
    assert_eq!(
        (all.get("output_token_throughput_per_user"), &all["request_goodput"]["avg"]),
        (None, &0.0.into())
    );
    // As soon as one has an ITL, the file is what genai-perf would have written.
    let mixed = json(&point, &run(vec![record(0, 1_000_000), held(1, 1_200_000)]));
    assert_eq!(
        (&mixed["inter_token_latency"]["min"], &mixed["inter_token_latency"]["max"]),
        (&0.001.into(), &10.0.into())
    );
}

#[test]
fn one_token_has_no_itl() {
    let mut one = record(0, 0);
    one.osl = 1;
    one.chunks_us.truncate(1);
    let text = csv(&point(), &run(vec![one]));
    assert!(text.contains("Inter Token Latency (ms),N/A,"), "{text}");
    assert!(text.contains("Time To Second Token (ms),N/A,") && text.contains("Request Latency (ms),50.00,"));
}

proptest! {
    #[test]
    fn no_record_breaks_the_exports(
        records in prop::collection::vec(any_record(), 0..12),
        streaming in any::<bool>(),
    ) {
        let point = LoadPoint { streaming, slo: Slo { itl_ms: Some(5.0), ..Slo::default() }, ..point() };
        let run = run(records);
        let csv = csv(&point, &run);
        for word in ["NaN", "nan", "inf"] {
            prop_assert!(!csv.contains(word), "{}", csv);
        }
        let json = json(&point, &run);
        for (tag, metric) in json.as_object().expect("object") {
            let nulls = metric.as_object().is_some_and(|metric| metric.values().any(Value::is_null));
            prop_assert!(!nulls, "{} {}", tag, metric);
        }
    }
}
