//! The export as a whole: worked small, streaming off, failures, none, and whatever proptest thinks of. Against vLLM
//! itself: `tests/it/vllm_bench_oracle.rs`.

use super::{file_name, write};
use crate::metrics::dialects::{ExportContext, Results, in_order_of_sending};
use crate::metrics::fixtures::{Ran, any_record, failed, held_back, point, record, run, sound};
use crate::metrics::record::{Outcome, Phase, RequestRecord};
use crate::plan::{Endpoint, LoadPoint, Slo};
use proptest::prelude::*;
use serde_json::{Value, json};

const CONTEXT: ExportContext<'static> = ExportContext {
    model: "org/mödel",
    url: "http://localhost:8000",
    version: "1.2.3",
    simulated: true,
    benchmark_id: "b",
};

fn text(point: &LoadPoint, ran: &Ran) -> String {
    let mut out = Vec::new();
    let records = in_order_of_sending(&ran.records);
    let results = Results { point, run: &ran.run, records: &records };
    write(&mut out, &results, &CONTEXT).expect("write");
    String::from_utf8(out).expect("UTF-8")
}

fn parsed(point: &LoadPoint, ran: &Ran) -> Value {
    serde_json::from_str(&text(point, ran)).expect("JSON")
}

#[test]
fn the_name_is_vllms() {
    let name = |point: &LoadPoint, model: &str| file_name(point, &run(sound()), model);
    assert_eq!(
        name(&point(), "meta-llama/Llama-3.1-8B"),
        "openai-chat-infqps-concurrency2-Llama-3.1-8B-19700101-000000.json"
    );
    let completions = LoadPoint { endpoint: Endpoint::Completions, ..point() };
    assert_eq!(name(&completions, "a b/"), "openai-infqps-concurrency2-a_b-19700101-000000.json");
    assert_eq!(name(&point(), ""), "openai-chat-infqps-concurrency2-unnamed-19700101-000000.json");
}

#[test]
fn worked_by_hand() {
    let result = parsed(&point(), &run(vec![record(1, 1_100_000), record(0, 1_000_000)]));
    assert_eq!(result["duration"], 0.24);
    assert_eq!(result["output_throughput"], 20.0 / 0.24);
    assert_eq!((&result["mean_ttft_ms"], &result["mean_tpot_ms"]), (&json!(50.0), &json!(10.0)));
    assert_eq!((&result["p99_itl_ms"], &result["median_e2el_ms"]), (&json!(10.0), &json!(140.0)));
    assert_eq!(result["start_times"], json!([1.0, 1.1]), "in the order of sending");
    assert_eq!(result["queue_times"], json!([0.0, 0.1]), "a closed loop waits for its turn");
    assert_eq!(result["itls"][0].as_array().expect("gaps").len(), 9);
    assert_eq!(
        (&result["max_output_tokens_per_s"], &result["max_concurrent_requests"]),
        (&json!(20.0), &json!(2))
    );
    assert_eq!((&result["generator"], &result["simulated"]), (&json!("tokmark 1.2.3"), &json!("true")));
    assert_eq!(result["request_goodput"], Value::Null);
}

#[test]
fn the_text_is_pythons() {
    let text = text(&point(), &run(vec![record(0, 0)]));
    assert!(
        text.starts_with("{\"date\": \"19700101-000000\", \"endpoint_type\": \"openai-chat\", "),
        "{text}"
    );
    assert!(text.contains("\"model_id\": \"org/m\\u00f6del\", "), "{text}");
    assert!(text.contains("\"ttfts\": [0.05], \"itls\": [[0.01, 0.01, "), "{text}");
    assert!(!text.contains('\n') && text.ends_with('}'));
}

#[test]
fn failures_keep_their_place() {
    let mut cut = record(1, 1_000_000);
    (cut.outcome, cut.error) = (Outcome::Disconnected, Some("closed".to_owned()));
    let records = vec![
        record(0, 1_000_000),
        cut,
        failed(2, 1_000_000, Outcome::Http(404)),
        failed(3, 1_000_000, Outcome::Empty),
    ];
    let result = parsed(&point(), &run(records));
    assert_eq!(
        (&result["completed"], &result["failed"], &result["num_prompts"]),
        (&json!(1), &json!(3), &json!(4))
    );
    assert_eq!(result["output_lens"], json!([10, 0, 0, 0]));
    assert_eq!(result["latencies"], json!([0.14, 0.0, 0.0, 0.0]));
    assert_eq!(result["ttfts"], json!([0.05, 0.05, 0.0, 0.0]), "what arrived before the failure stays");
    assert_eq!((&result["errors"][1], &result["errors"][2]), (&json!("closed"), &json!("Not Found")));
    assert_eq!((&result["mean_ttft_ms"], &result["total_input_tokens"]), (&json!(50.0), &json!(100)));
}

#[test]
fn goodput_takes_one_token_for_tpot_0() {
    let goodput = |slo: Slo, streaming: bool| {
        let mut one = record(1, 0);
        one.osl = 1;
        let point = LoadPoint { slo, streaming, ..point() };
        parsed(&point, &run(vec![record(0, 0), one]))["request_goodput"].as_f64().expect("goodput") * 0.14
    };
    let itl = |bound| Slo { itl_ms: Some(bound), ..Slo::default() };
    assert_eq!(goodput(itl(9.0), true).round(), 1.0);
    assert_eq!(goodput(itl(10.0), true).round(), 2.0);
    assert_eq!(goodput(itl(10.0), false), 0.0);
}

#[test]
fn answers_that_were_all_held_back_have_no_tpot() {
    let point = LoadPoint { slo: Slo { itl_ms: Some(20.0), ..Slo::default() }, ..point() };
    let held = parsed(&point, &run(vec![held_back(0, 1_000_000)]));
    assert_eq!((&held["mean_tpot_ms"], &held["p99_tpot_ms"]), (&Value::Null, &Value::Null));
    assert_eq!((&held["request_goodput"], &held["mean_ttft_ms"]), (&json!(0.0), &json!(140.0)));
    // As soon as one has a TPOT, the file is what vLLM would have written.
    let mixed = parsed(&point, &run(vec![record(0, 1_000_000), held_back(1, 1_200_000)]));
    assert_eq!((&mixed["mean_tpot_ms"], &mixed["request_goodput"]), (&json!(5.0), &json!(2.0 / 0.34)));
}

#[test]
fn streaming_off_has_the_latency_alone() {
    let unary = LoadPoint { streaming: false, ..point() };
    let result = parsed(&unary, &run(sound()));
    let keys: Vec<&String> = result.as_object().expect("object").keys().collect();
    for word in ["_ttft_", "_tpot_", "_itl_"] {
        assert!(!keys.iter().any(|key| key.contains(word)), "{word} in {keys:?}");
    }
    assert_eq!((&result["mean_e2el_ms"], &result["max_output_tokens_per_s"]), (&json!(140.0), &json!(0.0)));
    assert_eq!((&result["ttfts"][0], &result["itls"][0]), (&json!(0.0), &json!([])));
}

#[test]
fn nothing_measured_is_zero() {
    let warmup = RequestRecord { phase: Phase::Warmup, ..record(0, 0) };
    let result = parsed(&point(), &run(vec![warmup]));
    assert_eq!(
        (&result["completed"], &result["duration"], &result["itls"]),
        (&json!(0), &json!(0.0), &json!([]))
    );
    assert_eq!((&result["mean_ttft_ms"], &result["p99_itl_ms"]), (&json!(0.0), &json!(0.0)));
    assert_eq!(result["request_throughput"], 0.0);
}

proptest! {
    #[test]
    fn no_record_breaks_the_export(
        records in prop::collection::vec(any_record(), 0..12),
        streaming in any::<bool>(),
        window in (any::<u64>(), any::<u64>()),
    ) {
        let point = LoadPoint { streaming, slo: Slo { itl_ms: Some(5.0), ..Slo::default() }, ..point() };
        let mut run = run(records);
        for (start, end) in [(run.window_start_us, run.window_end_us), window] {
            (run.window_start_us, run.window_end_us) = (start, end);
            let result = parsed(&point, &run);
            let measured = run.records.iter().filter(|record| record.phase == Phase::Measure).count();
            for (key, value) in result.as_object().expect("object") {
                let may_be_null = key == "label" || key.ends_with("_tpot_ms");
                prop_assert!(!value.is_null() || may_be_null, "{}", key);
                if let Some(values) = value.as_array() {
                    prop_assert_eq!(values.len(), measured, "{}", key);
                }
            }
        }
    }
}
