//! The exports as a whole: worked small, streaming off, failures, one request, none, and whatever proptest thinks of.

use super::{Export, ExportContext, SummaryFiles, session_id};
use crate::metrics::fixtures::{Ran, any_record, failed, held_back, point, record, run, sound};
use crate::metrics::record::{Outcome, Phase, Usage};
use crate::plan::{LoadPoint, Slo, Stop};
use proptest::prelude::*;
use serde_json::Value;

const CONTEXT: ExportContext<'static> = ExportContext {
    model: "m",
    url: "http://localhost:8000",
    version: "1.2.3",
    simulated: true,
    benchmark_id: "b",
};

fn exported(point: &LoadPoint, ran: &Ran) -> (SummaryFiles, Vec<u8>) {
    let mut export = Export::new(point, ran.run.started_at, Vec::new());
    ran.records.iter().for_each(|record| export.add(record).expect("line"));
    export.finish(&ran.run, &CONTEXT).expect("files")
}

fn csv(point: &LoadPoint, ran: &Ran) -> String {
    exported(point, ran).0.csv
}

fn parsed(point: &LoadPoint, ran: &Ran) -> Value {
    serde_json::from_str(&exported(point, ran).0.json).expect("JSON")
}

fn lines(point: &LoadPoint, ran: &Ran) -> Vec<Value> {
    let lines = String::from_utf8(exported(point, ran).1).expect("UTF-8");
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The cells of the row `name`.
fn row<'a>(csv: &'a str, name: &str) -> Option<Vec<&'a str>> {
    csv.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(','))
        .map(|cells| cells.split(',').collect())
}

#[test]
fn worked_by_hand() {
    // TTFT 50 and 100 ms, E2E 140 and 190 ms, both sent at 1 s; window 1–1.19 s.
    let mut slow = record(1, 1_000_000);
    slow.chunks_us.iter_mut().for_each(|at| *at += 50_000);
    slow.end_us += 50_000;
    let both = run(vec![record(0, 1_000_000), slow]);
    let csv = csv(&point(), &both);
    let ttft = "75.00,50.00,100.00,150.00,50.50,52.50,55.00,62.50,75.00,87.50,95.00,97.50,99.50,25.00";
    assert_eq!(row(&csv, "Time to First Token (ms)").expect("row").join(","), ttft);
    assert_eq!(row(&csv, "Benchmark Duration (sec)").expect("row"), ["0.19"]);
    assert_eq!(row(&csv, "Output Token Throughput (tokens/sec)").expect("row"), ["105.26"]); // 20 / 0.19
    // 2 requests for 140 ms, 1 for 50 ms: (2 · 140 + 50) / 190
    let concurrency = row(&csv, "Effective Concurrency").expect("row");
    assert_eq!(
        (concurrency[0], concurrency[1], concurrency[3], concurrency[8]),
        ("1.74", "1.00", "", "2.00")
    );
    assert!(
        csv.lines().all(|line| !line.contains('"') && !line.contains(",-")),
        "nothing to quote, nothing negative"
    );
    let json = parsed(&point(), &both);
    assert_eq!(json["inter_token_latency"]["avg"], 10.0);
    assert_eq!(json["prefill_throughput_per_user"]["max"], 2000.0);
    assert_eq!((&json["generator"], &json["simulated"]), (&"tokmark 1.2.3".into(), &true.into()));
}

#[test]
fn streaming_off_has_no_streaming_metric() {
    let point = LoadPoint { streaming: false, ..point() };
    let mut records = sound();
    for record in &mut records {
        record.chunks_us = vec![record.end_us];
        record.first_output_us = Some(record.end_us);
    }
    let run = run(records);
    let json = parsed(&point, &run);
    let names: Vec<&String> = json.as_object().expect("object").keys().collect();
    for word in ["time_to", "inter_", "decode", "prefill", "per_user", "in_flight", "active_"] {
        assert!(!names.iter().any(|name| name.contains(word)), "{word} in {names:?}");
    }
    assert_eq!(json["request_latency"]["avg"], 140.0);
    assert!(json.get("effective_concurrency").is_some());
    let csv = csv(&point, &run);
    assert!(!csv.contains("Token Latency") && csv.contains("Request Latency (ms),140.00"));
    let metrics = &lines(&point, &run)[0]["metrics"];
    assert_eq!(metrics.get("time_to_first_token"), None);
    assert_eq!(metrics["request_latency"]["value"], 140.0);
}

#[test]
fn failures_are_counted_and_kept_out_of_the_figures() {
    let mut records = sound();
    records[0] = failed(0, 1_000_000, Outcome::Cancelled);
    records[1] = failed(1, 1_200_000, Outcome::Http(503));
    let run = run(records);
    let json = parsed(&point(), &run);
    assert_eq!(json["request_count"]["avg"], 18.0);
    assert_eq!(json["request_latency"]["count"], 18);
    assert_eq!(json["request_error_rate"]["avg"], 10.0);
    assert_eq!(json["error_isl"]["sum"], 200.0);
    assert_eq!(json["error_summary"][1]["error_details"]["type"], "Service Unavailable");
    // The view in which a failure never ends: 18 of 140 ms and two infinite ones, nearest rank.
    let adjusted = &json["adj_request_latency"];
    assert_eq!(
        (&adjusted["count"], &adjusted["p50"], &adjusted["p90"]),
        (&20.into(), &140.0.into(), &140.0.into())
    );
    assert_eq!((&adjusted["p95"], &adjusted["avg"], adjusted.get("std")), (&Value::Null, &Value::Null, None));
    let csv = csv(&point(), &run);
    let adjusted = row(&csv, "Request Latency (error-adjusted) (ms)").expect("row");
    assert_eq!((adjusted[0], adjusted[8], adjusted[11]), ("", "140.00", ""));
    let lines = lines(&point(), &run);
    assert_eq!(lines[0]["metadata"]["was_cancelled"], true);
    assert_eq!(lines[0]["error"]["code"], 499);
    assert_eq!(lines[0]["metrics"].as_object().expect("metrics").len(), 1, "only error_isl");
}

#[test]
fn a_run_without_a_single_request() {
    let run = run(vec![]);
    let csv = csv(&point(), &run);
    assert!(csv.starts_with("\r\n\r\nEndpoint,GPU_Index,"), "{csv}");
    let json = parsed(&point(), &run);
    assert_eq!(json.get("request_count"), None);
    assert_eq!(json["error_summary"], serde_json::json!([]));
    assert_eq!(lines(&point(), &run), Vec::<Value>::new());
}

#[test]
fn one_request() {
    let run = run(vec![record(0, 1_000_000)]);
    let csv = csv(&point(), &run);
    let latency = row(&csv, "Request Latency (ms)").expect("row");
    assert!(latency[..13].iter().all(|cell| *cell == "140.00"), "{latency:?}");
    assert_eq!(latency[13], "0.00");
    assert_eq!(parsed(&point(), &run)["request_throughput"]["avg"], 1.0 / 0.14);
}

#[test]
fn reasoning_and_cached_tokens() {
    let mut record = record(0, 0);
    let (reasoning_tokens, cached_tokens) = (Some(4), Some(25));
    record.usage = record.usage.map(|usage| Usage { reasoning_tokens, cached_tokens, ..usage });
    let json = parsed(&point(), &run(vec![record]));
    assert_eq!(
        (&json["output_token_count"]["avg"], &json["reasoning_token_count"]["avg"]),
        (&6.0.into(), &4.0.into())
    );
    assert_eq!(json["total_reasoning_tokens"]["avg"], 4.0);
    assert_eq!(json["overall_usage_prompt_cache_read_pct"]["avg"], 25.0);
}

#[test]
fn objectives_give_goodput() {
    let point = LoadPoint { slo: Slo { ttft_ms: Some(50.0), ..Slo::default() }, ..point() };
    let mut records = sound();
    records[3].chunks_us[0] += 1;
    let json = parsed(&point, &run(records));
    assert_eq!(json["good_request_count"]["avg"], 19.0);
    assert_eq!(json["good_request_fraction"]["avg"], 0.95);
    assert_eq!(json["goodput"]["avg"], 19.0 / 3.94);
    assert_eq!(json["input_config"]["slos"], serde_json::json!({"time_to_first_token": 50.0}));
}

#[test]
fn answers_that_were_all_held_back_have_no_token_times() {
    let point = LoadPoint { slo: Slo { itl_ms: Some(20.0), ..Slo::default() }, ..point() };
    let held = parsed(&point, &run(vec![held_back(0, 1_000_000), held_back(1, 1_200_000)]));
    for tag in ["inter_token_latency", "output_token_throughput_per_user", "decode_duration"] {
        assert_eq!(held.get(tag), None, "{tag}");
    }
    assert_eq!(held["good_request_count"]["avg"], 0.0, "what is not applicable is not met");
    // As soon as one has them, the file is what AIPerf would have written.
    let mixed = parsed(&point, &run(vec![record(0, 1_000_000), held_back(1, 1_200_000)]));
    assert_eq!(
        (&mixed["inter_token_latency"]["avg"], &mixed["good_request_count"]["avg"]),
        (&5.0.into(), &2.0.into())
    );
}

#[test]
fn warm_up_requests_have_a_place_of_their_own() {
    let mut records = sound();
    records[0].phase = Phase::Warmup;
    let point = LoadPoint { warmup_requests: 1, ..point() };
    let run = run(records);
    let json = parsed(&point, &run);
    assert_eq!(
        (&json["request_count"]["avg"], &json["warmup_metrics"]["request_count"]["avg"]),
        (&19.0.into(), &1.0.into())
    );
    let lines = lines(&point, &run);
    assert_eq!(lines[0]["metadata"]["conversation_id"], "warmup_000000");
    assert_eq!(lines[1]["metadata"]["x_request_id"], "tokmark-isl100_osl10_con2-measure-1");
    assert_eq!(lines[1]["metadata"]["phase_index"], 1);
    assert_eq!(session_id(Phase::Measure, 1), lines[1]["metadata"]["conversation_id"]);
}

#[test]
fn an_interrupted_run_does_not_look_complete() {
    let mut cut = run(sound());
    cut.interrupted = true;
    let json = parsed(&LoadPoint { stop: Stop::DurationS(3.0), ..point() }, &cut);
    assert_eq!((&json["was_cancelled"], &json["is_complete"]), (&true.into(), &false.into()));
    assert_eq!(json["input_config"]["phases"][0]["duration"], 3.0);
}

proptest! {
    #[test]
    fn no_record_breaks_the_exports(
        records in prop::collection::vec(any_record(), 0..12),
        streaming in any::<bool>(),
        window in (any::<u64>(), any::<u64>()),
    ) {
        let point = LoadPoint { streaming, slo: Slo { itl_ms: Some(5.0), ..Slo::default() }, ..point() };
        let mut run = run(records);
        for (start, end) in [(run.window_start_us, run.window_end_us), window] {
            (run.window_start_us, run.window_end_us) = (start, end);
            let csv = csv(&point, &run);
            for word in ["NaN", "nan", "inf"] {
                prop_assert!(!csv.contains(word), "{}", csv);
            }
            let json = parsed(&point, &run);
            for (tag, metric) in json.as_object().expect("object").iter().filter(|(tag, _)| !tag.starts_with("adj_")) {
                let nulls = metric.as_object().is_some_and(|metric| metric.values().any(Value::is_null));
                prop_assert!(!nulls, "{} {}", tag, metric);
            }
            prop_assert_eq!(lines(&point, &run).len(), run.records.len());
            let summary = crate::metrics::summary::summarize(&point, &run, &run.fold(), &Default::default());
            let text = serde_json::to_string(&summary).expect("JSON");
            prop_assert!(serde_json::from_str::<crate::metrics::Summary>(&text).is_ok(), "{}", text);
        }
    }
}
