//! The readers of other tools' summaries on files those tools wrote.

use std::path::PathBuf;
use tokmark::internals::metrics::dialects::read::{ForeignSummary, Tool, parse};

fn read(path: &str) -> ForeignSummary {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path);
    let bytes = std::fs::read(&path).expect("fixture");
    parse(&path, &bytes).expect("summary")
}

/// The CSV holds the JSON's figures to two decimals; a row that the JSON does not have is an error in our table of names.
fn agree(json: &ForeignSummary, csv: &ForeignSummary, name: &str) {
    assert!(csv.metrics.len() > 5, "{name}");
    for (tag, metric) in &csv.metrics {
        // The fixtures' JSON was shortened by the HTTP trace.
        if tag.starts_with("http_req_") {
            continue;
        }
        let other = json.metrics.get(tag).expect(tag);
        assert!(metric.unit.is_empty() || metric.unit == other.unit, "{name} {tag}: {}", metric.unit);
        for (statistic, value) in &metric.stats {
            let exact = other.stats.get(statistic).expect(statistic);
            assert!((exact - value).abs() <= 0.005 + 1e-9, "{name} {tag}.{statistic}: {exact} {value}");
        }
    }
}

#[test]
fn aiperf() {
    for run in ["vllm-chat", "dynamo-chat", "vllm-chat-rate", "vllm-completions-servercount"] {
        let json = read(&format!("aiperf/{run}/profile_export_aiperf.json"));
        let csv = read(&format!("aiperf/{run}/profile_export_aiperf.csv"));
        assert_eq!((json.tool, csv.tool), (Tool::AiPerf, Tool::AiPerf));
        assert_eq!(json.version.as_deref(), Some("0.13.0"));
        agree(&json, &csv, run);
    }
    let json = read("aiperf/vllm-chat/profile_export_aiperf.json");
    assert!(
        json.get("time_to_first_token", "p99").expect("p99")
            > json.get("time_to_first_token", "p50").expect("p50")
    );
    assert_eq!(json.get("request_count", "avg"), Some(20.0));
}

#[test]
fn genai_perf() {
    for run in ["streaming", "goodput", "unary"] {
        let json = read(&format!("genai_perf/{run}/profile_export_genai_perf.json"));
        let csv = read(&format!("genai_perf/{run}/profile_export_genai_perf.csv"));
        assert_eq!((json.tool, csv.tool, &json.version), (Tool::GenAiPerf, Tool::GenAiPerf, &None));
        agree(&json, &csv, run);
        assert_eq!(csv.get("request_count", "avg"), Some(23.0));
    }
}
