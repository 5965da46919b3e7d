//! The readers: our own exports, every header AIPerf has had, faults by name, and bytes of any kind. Real files:
//! `tests/it/foreign_summaries.rs`.

use super::{Tool, parse};
use crate::metrics::dialects::{ExportContext, aiperf, genai_perf};
use crate::metrics::fixtures::{failed, point, run, sound};
use crate::metrics::record::Outcome;
use crate::plan::{LoadPoint, Slo};
use proptest::prelude::*;
use std::path::Path;

const CONTEXT: ExportContext<'static> =
    ExportContext { model: "m", url: "u", version: "1", simulated: false, benchmark_id: "b" };

fn fault(text: &str) -> String {
    parse(Path::new("dir/f.csv"), text.as_bytes()).expect_err("a fault").to_string()
}

#[test]
fn our_own_exports_say_the_same_in_both_formats() {
    let point = LoadPoint { slo: Slo { ttft_ms: Some(50.0), ..Slo::default() }, ..point() };
    let mut records = sound();
    records[3] = failed(3, 1_600_000, Outcome::Timeout);
    let run = run(records);
    let mut export = aiperf::Export::new(&point, run.started_at, Vec::new());
    run.records.iter().for_each(|record| export.add(record).expect("line"));
    let ai = export.finish(&run, &CONTEXT).expect("files").0;
    let genai = genai_perf::summary_files(&point, &run, &run.fold(), &CONTEXT);
    for (json, csv, tool) in [(ai.json, ai.csv, Tool::AiPerf), (genai.json, genai.csv, Tool::GenAiPerf)] {
        let json = parse(Path::new("a"), json.as_bytes()).expect("JSON");
        let csv = parse(Path::new("b"), csv.as_bytes()).expect("CSV");
        assert_eq!((json.tool, csv.tool), (tool, tool));
        let tags = |keys: &super::ForeignSummary| keys.metrics.keys().cloned().collect::<Vec<_>>();
        assert_eq!(tags(&json), tags(&csv), "{tool}");
        for (tag, metric) in &csv.metrics {
            for (statistic, value) in &metric.stats {
                let exact = json.get(tag, statistic).expect(tag);
                assert!((exact - value).abs() <= 0.005 + 1e-9, "{tag}.{statistic}: {exact} {value}");
            }
        }
    }
}

#[test]
fn every_header_aiperf_has_had() {
    let headers = [
        "avg,min,max,p1,p5,p25,p50,p75,p90,p95,p99,std",
        "avg,min,max,p1,p5,p10,p25,p50,p75,p90,p95,p99,std",
        "avg,min,max,sum,p1,p5,p10,p25,p50,p75,p90,p95,p99,std",
        "avg,sum,min,max,p1,p5,p10,p25,p50,p75,p90,p95,p99,std",
    ];
    for header in headers {
        let cells: Vec<String> = (0..header.split(',').count()).map(|at| format!("{at}.50")).collect();
        let text = format!("Metric,{header}\nTime to First Token (ms),{}\n", cells.join(","));
        let read = parse(Path::new("x"), text.as_bytes()).expect("CSV");
        assert_eq!(read.tool, Tool::AiPerf);
        for (at, column) in header.split(',').enumerate() {
            assert_eq!(read.get("time_to_first_token", column), Some(at as f64 + 0.5), "{header}: {column}");
        }
    }
}

#[test]
fn thousands_quotes_and_gpu_sections() {
    let text = "\u{feff}Metric,avg,p99,p1\r\nRequest Latency (ms),\"13,060.68\",N/A,inf\r\n\r\nMetric,Value\r\n\
                Request Throughput (per sec),0.57\r\n\r\nMetric,GPU,avg\r\nGPU Power Usage (W),0,310.00\r\n";
    let read = parse(Path::new("x"), text.as_bytes()).expect("CSV");
    assert_eq!(read.tool, Tool::GenAiPerf);
    assert_eq!(read.get("request_latency", "avg"), Some(13_060.68));
    assert_eq!((read.get("request_latency", "p99"), read.get("request_latency", "p1")), (None, None));
    assert_eq!(read.metrics["request_throughput"].unit, "requests/sec");
    assert_eq!(read.metrics.len(), 2);
}

#[test]
fn a_fault_names_file_line_and_key() {
    let table = [
        ("Metric,avg,p1,p99\nA (ms),1,2\n", "dir/f.csv:2: \"A (ms)\" has 3 cells, its header 4"),
        ("Metric,Value\n\nA,1\n", "dir/f.csv:3: \"A\" stands below no header"),
        (
            "Metric,Value\nA (s),fast\n",
            "dir/f.csv:2: \"A (s)\", column \"avg\": found \"fast\", expected a number",
        ),
        ("Metric,Value\nA,\"1\n2\n", "dir/f.csv:2: a quoted cell starts here"),
        ("{\n  \"a\": x\n}", "dir/f.csv:2:8: expected value"),
        ("[1]", "dir/f.csv:1:"),
        ("", "dir/f.csv: neither AIPerf's nor genai-perf's"),
        ("{}", "dir/f.csv: neither AIPerf's nor genai-perf's"),
        (
            "{\"schema_version\":\"1\",\"a\":{\"unit\":\"ms\",\"p99\":\"x\"}}",
            "dir/f.csv: a.p99: found \"x\", expected a number",
        ),
        ("{\"schema_version\":\"1\",\"a\":{\"unit\":3}}", "dir/f.csv: a.unit: found 3, expected a string"),
    ];
    for (text, expected) in table {
        let found = fault(text);
        assert!(found.starts_with(expected), "{text:?}: {found}");
    }
    let error = parse(Path::new("f"), b"Metric\n\xff").expect_err("bytes");
    assert_eq!(error.to_string(), "f:2: not UTF-8 text");
}

#[test]
fn the_name_decides_where_the_content_does_not() {
    let text = b"Metric,Value\nRequest Throughput (x),1\n";
    assert!(parse(Path::new("a.csv"), text).is_err());
    let of = |name: &str| parse(Path::new(name), text).expect("CSV").tool;
    assert_eq!(of("profile_export_aiperf.csv"), Tool::AiPerf);
    assert_eq!(of("profile_export_genai_perf.csv"), Tool::GenAiPerf);
}

/// Text that is almost a summary.
fn almost() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("Metric,"),
        Just("avg"),
        Just(",p1,p99"),
        Just("Value"),
        Just("\n"),
        Just("\r\n"),
        Just("\""),
        Just("A (ms)"),
        Just("1,"),
        Just("N/A"),
        Just("inf"),
        Just("(error-adjusted)"),
        Just("HTTP "),
        Just("é"),
        Just("{\"schema_version\":1,"),
        Just("\"a\":{\"unit\":\"ms\","),
        Just("\"p1\":1e999"),
        Just("}"),
        Just(" ("),
        Just(")"),
        Just("Endpoint,"),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_bytes_break_the_readers(bytes in prop::collection::vec(any::<u8>(), 0..300), text in almost()) {
        for bytes in [bytes.as_slice(), text.as_bytes()] {
            match parse(Path::new("profile_export_aiperf.csv"), bytes) {
                Ok(read) => {
                    let finite = |m: &super::ForeignMetric| m.stats.values().all(|value| value.is_finite());
                    prop_assert!(read.metrics.values().all(finite));
                }
                Err(error) => prop_assert!(error.to_string().starts_with("profile_export_aiperf.csv:")),
            }
        }
    }
}
