use super::table;
use super::*;
use std::path::Path;

/// The table of the EKS document (gpt-oss-20b on one A10G).
const EKS: &str = "concurrency,requests_per_s,output_tokens_per_s,latency_avg_ms,latency_p99_ms
10,1.91,236.62,5040,9900
20,4.42,554.70,4310,5350
40,6.15,766.65,6090,9270
80,6.58,828.76,9580,20920
120,7.80,1007.91,9950,20000
200,6.14,771.25,17850,30230
";

fn judged(text: &str) -> Zones {
    let read = table::parse(Path::new("t.csv"), text.as_bytes()).unwrap();
    assert_eq!(read.series.len(), 1, "{read:?}");
    judge(&read.series[0], Thresholds::default(), &[])
}

/// A table of concurrency and output tokens per second; latency by Little's law at 100 tokens a request.
fn rising(levels: &[(f64, f64)]) -> Zones {
    let row = |(load, throughput): &(f64, f64)| {
        format!("{load},{throughput},{}\n", load / (throughput / 100.0) * 1e3)
    };
    let rows: String = levels.iter().map(row).collect();
    judged(&format!("concurrency,output_tokens_per_s,latency_avg_ms\n{rows}"))
}

fn zone(zones: &Zones, load: f64) -> Zone {
    zones.points.iter().find(|judged| judged.level.load == load).unwrap().zone
}

fn efficiency(zones: &Zones, load: f64) -> Option<Efficiency> {
    zones.points.iter().find(|judged| judged.level.load == load).unwrap().efficiency
}

#[test]
fn the_table_of_the_eks_document() {
    let zones = judged(EKS);
    assert_eq!(zones.operating.optimal_latency, Some(20.0));
    assert_eq!(zones.operating.peak_throughput, Some(120.0));
    assert_eq!(zones.operating.sweet_spot, Some((20.0, 40.0)));
    assert_eq!(zones.saturation_beyond, Some(120.0));
    assert_eq!(efficiency(&zones, 80.0), Some(Efficiency::Poor));
    assert_eq!(efficiency(&zones, 120.0), Some(Efficiency::Good));
    let kinds: Vec<Zone> = zones.points.iter().map(|judged| judged.zone).collect();
    use Zone::{EarlyDegradation, OverSaturated, Safe};
    assert_eq!(kinds, [Safe, Safe, Safe, EarlyDegradation, EarlyDegradation, OverSaturated]);
    let first = zones.first_signal().unwrap();
    assert_eq!((first.name, first.at, first.value), (SignalName::Latency, 80.0, 9580.0));
}

#[test]
fn rows_out_of_order_and_repeats_change_nothing() {
    let mut rows: Vec<&str> = EKS.lines().collect();
    rows[1..].reverse();
    rows.push(rows[2]);
    let mut zones = judged(&rows.join("\n"));
    assert_eq!(std::mem::take(&mut zones.points[4].level.more), 1);
    assert_eq!(zones, judged(EKS));
}

#[test]
fn saturation_that_is_not_in_sight_is_not_invented() {
    let zones = rising(&[(1.0, 100.0), (2.0, 195.0), (4.0, 380.0), (8.0, 700.0)]);
    assert_eq!(zones.saturation_beyond, None);
    assert_eq!(zones.operating.peak_throughput, Some(8.0));
    assert!(zones.points.iter().all(|judged| judged.zone == Zone::Safe), "{zones:?}");
    assert_eq!(zones.first_signal(), None);
    assert_eq!(zones.json()["saturation_beyond"], Value::Null);
}

#[test]
fn flat_throughput_is_saturated_from_the_lowest_level_on() {
    let zones = rising(&[(10.0, 1000.0), (20.0, 1004.0), (40.0, 997.0), (80.0, 1001.0)]);
    assert_eq!(zones.saturation_beyond, Some(10.0));
    assert_eq!(zones.operating.peak_throughput, Some(10.0));
    assert_eq!(zones.operating.sweet_spot, Some((10.0, 10.0)));
    assert_eq!(zone(&zones, 80.0), Zone::Saturated);
    assert_eq!(efficiency(&zones, 20.0), Some(Efficiency::Poor));
}

#[test]
fn noise_is_no_signal() {
    // Growth with 1.5 % of noise, and a plateau with the same.
    let zones = rising(&[
        (8.0, 800.0),
        (16.0, 1580.0),
        (32.0, 3230.0),
        (64.0, 3190.0),
        (128.0, 3220.0),
        (256.0, 3250.0),
    ]);
    assert_eq!(zones.saturation_beyond, Some(32.0));
    assert_eq!(zones.operating.peak_throughput, Some(32.0));
    assert_eq!(zone(&zones, 256.0), Zone::Saturated);
    // Steps too small to tell.
    let zones = rising(&[(100.0, 1000.0), (102.0, 1010.0), (104.0, 1030.0)]);
    assert_eq!(zones.saturation_beyond, None);
    // One slow level in the middle does not stay.
    let bump =
        "concurrency,output_tokens_per_s,latency_avg_ms\n1,100,1000\n2,195,2500\n4,390,1020\n8,770,1030\n";
    assert_eq!(judged(bump).first_signal(), None);
}

#[test]
fn a_slow_plateau_is_a_plateau() {
    let zones = rising(&[
        (1.0, 100.0),
        (2.0, 190.0),
        (4.0, 340.0),
        (8.0, 500.0),
        (16.0, 560.0),
        (32.0, 583.0),
        (64.0, 600.0),
    ]);
    assert_eq!(zones.saturation_beyond, Some(16.0));
    assert_eq!(zones.operating.peak_throughput, Some(64.0));
    assert_eq!(
        zones.operating.sweet_spot,
        Some((4.0, 8.0)),
        "tok/s² over concurrency: 28,900 and 31,250, next 19,600"
    );
}

#[test]
fn one_level_tells_little() {
    let zones = rising(&[(8.0, 800.0)]);
    assert_eq!((zones.saturation_beyond, zones.operating.sweet_spot), (None, None));
    assert_eq!(zone(&zones, 8.0), Zone::Safe);
}

#[test]
fn a_failed_level_is_neither_a_peak_nor_a_fall() {
    for failed in ["64,,,,,", "64,0,0,0,0,1", "64,0.2,20,9000,9000,97%"] {
        let text = format!(
            "concurrency,requests_per_s,output_tokens_per_s,latency_avg_ms,latency_p99_ms,error_rate
8,1,100,8000,9000,0\n16,2,195,8100,9100,0\n32,4,390,8200,9200,0.0\n{failed}\n"
        );
        let zones = judged(&text);
        assert_eq!((zone(&zones, 64.0), efficiency(&zones, 64.0)), (Zone::Failed, None), "{failed}");
        assert_eq!((zones.saturation_beyond, zones.operating.peak_throughput), (None, Some(32.0)));
    }
    let middle = "concurrency,output_tokens_per_s,latency_avg_ms\n8,100,8000\n16,,\n32,390,8200\n";
    assert_eq!(zone(&judged(middle), 32.0), Zone::Safe);
}

#[test]
fn the_earliest_signal_is_the_queue_where_the_server_tells_it() {
    // The KServe document: queues from 800 on, saturation beyond 1,200.
    let text = "concurrency,output_tokens_per_s,latency_avg_ms,ttft_p50_ms,waiting,kv_cache,error_rate
200,4000,5000,100,0,0.2,0\n400,7800,5100,110,0,0.4,0\n800,11000,7300,400,60,0.8,0
1200,13000,9200,1500,500,0.99,0\n1500,13100,11500,4000,800,99%,0.02\n";
    let zones = judged(text);
    let names: Vec<(SignalName, f64)> = zones.signals.iter().map(|signal| (signal.name, signal.at)).collect();
    use SignalName::{Errors, KvCache, Latency, QueueGrowth, ThroughputPlateau, Ttft};
    assert_eq!(
        names,
        [
            (QueueGrowth, 800.0),
            (Ttft, 800.0),
            (KvCache, 1200.0),
            (Latency, 1500.0),
            (ThroughputPlateau, 1500.0),
            (Errors, 1500.0)
        ]
    );
    assert_eq!(zones.saturation_beyond, Some(1200.0));
    assert_eq!((zone(&zones, 400.0), zone(&zones, 800.0)), (Zone::Safe, Zone::EarlyDegradation));
    assert_eq!(zone(&zones, 1500.0), Zone::Saturated);
}

#[test]
fn request_rates_are_loads_too() {
    let zones =
        judged("request_rate,requests_per_s,latency_avg_ms\n2,2,1000\n4,4,1100\n8,6.1,9000\n16,6.0,40000\n");
    assert_eq!((zones.axis, zones.saturation_beyond), (Axis::RequestRate, Some(4.0)));
    assert_eq!(zones.json()["points"][0]["request_rate"], 2);
    assert_eq!((zone(&zones, 4.0), zone(&zones, 8.0)), (Zone::Safe, Zone::Saturated), "8/s was not reached");
}

#[test]
fn the_json_is_the_contract() {
    let json = judged(EKS).json();
    assert_eq!(
        json["points"][5],
        serde_json::json!({
            "concurrency": 200, "zone": "over_saturated", "efficiency": "poor", "output_tokens_per_s": 771.25,
            "requests_per_s": 6.14, "latency_avg_ms": 17850.0,
        })
    );
    assert_eq!(
        json["operating_points"],
        serde_json::json!({"optimal_latency": 20, "peak_throughput": 120, "sweet_spot": [20, 40]})
    );
    assert_eq!(json["saturation_beyond"], 120);
    assert_eq!(json["first_signal"], serde_json::json!({"name": "latency", "at": 80, "value": 9580.0}));
}

#[test]
fn ttft_stability_of_the_documents_examples() {
    use stability::{Stability, grades};
    let level = |(load, p50, p95): (f64, f64, f64)| Level {
        load,
        output_tokens_per_s: Some(1.0),
        ttft_p50_ms: Some(p50),
        ttft_p95_ms: Some(p95),
        ..Level::default()
    };
    let good = [(8.0, 120.0, 180.0), (16.0, 135.0, 210.0), (32.0, 160.0, 280.0)].map(level);
    assert_eq!(grades(&good), [None, Some(Stability::Stable), Some(Stability::Acceptable)]);
    let bad = [(8.0, 120.0, 180.0), (16.0, 450.0, 890.0), (32.0, 1200.0, 2500.0)].map(level);
    assert_eq!(grades(&bad), [None, Some(Stability::Unstable), Some(Stability::Severe)]);
    let falls = [(8.0, 220.0, 300.0), (16.0, 120.0, 180.0)].map(level);
    assert_eq!(grades(&falls), [None, Some(Stability::Stable)]);
}

#[test]
fn own_summaries_and_other_tools_results_are_tables() {
    let own = "point,isl,osl,concurrency,request_rate,streaming,verdict,requests,failed,requests_per_s,output_tokens_per_s,e2e_avg_ms
a,128,64,8,,true,valid,100,2,1,100,8000\nb,128,64,16,,true,invalid,100,0,2,190,8100\nc,512,64,8,,true,valid,100,0,1,90,9000\n";
    let read = table::parse(Path::new("summary.csv"), own.as_bytes()).unwrap();
    let names: Vec<&str> = read.series.iter().map(|series| series.name.as_str()).collect();
    assert_eq!(names, ["isl 128", "isl 512"]);
    assert_eq!(read.series[0].levels[0].error_rate, Some(0.02));
    assert!(read.series[0].levels[1].failed);
    assert_eq!(read.unread, ["point"]);
    let fixture = |path: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path);
        let bytes = std::fs::read(&path).unwrap();
        table::parse(&path, &bytes).map(|read| read.series[0].clone())
    };
    let of = fixture("genai_perf/streaming/profile_export_genai_perf.json").unwrap();
    assert!(of.levels[0].throughput().is_some() && of.levels[0].load >= 1.0, "{of:?}");
}

#[test]
fn what_is_wrong_with_a_table_is_named() {
    let error = |text: &str| table::parse(Path::new("t.csv"), text.as_bytes()).unwrap_err().to_string();
    for (text, words) in [
        ("", "t.csv: the table is empty"),
        ("concurrency,output_tokens_per_s\n", "the table is empty"),
        ("concurency,output_tokens_per_s\n8,1\n", "did you mean `concurrency`?"),
        ("concurrency,latency_avg_ms\n8,1\n", "t.csv:1: no column `output_tokens_per_s` or `requests_per_s`"),
        (
            "concurrency,output_tokens_per_s\n8,1\n16,5.04s\n",
            "t.csv:3: column \"output_tokens_per_s\": found \"5.04s\"",
        ),
        ("concurrency,output_tokens_per_s\n8,-1\n", "a number from 0 on"),
        ("concurrency,output_tokens_per_s\n,1\n", "t.csv:2: no load"),
        ("concurrency,output_tokens_per_s\n8\n", "t.csv:2: 1 cells, its header has 2"),
        ("concurrency,output_tokens_per_s,error_rate\n8,1,5\n", "a share from 0 to 1"),
        ("concurrency,concurrency,requests_per_s\n1,1,1\n", "column \"concurrency\" stands twice"),
    ] {
        assert!(error(text).contains(words), "{text:?}: {}", error(text));
    }
}

#[test]
fn tables_of_any_hand_are_read() {
    let same = judged(EKS);
    let loads = |zones: &Zones| (zones.operating, zones.saturation_beyond, zones.first_signal().copied());
    // The document's own table, as it stands there.
    let markdown = "
| Concurrency | Req/sec | Tokens/sec | Avg Latency | P99 Latency | Optimal Use Case |
|-------------|---------|:----------:|-------------|-------------|------------------|
| 10          | 1.91    | 236.62     | 5.04s       | 9.90s       | Development/Testing |
| 20          | 4.42    | 554.70     | 4.31s       | 5.35s       | **Production (Low Latency)** |
| 40          | 6.15    | 766.65     | 6.09s       | 9.27s       | Balanced Workloads |
| 80          | 6.58    | 828.76     | 9.58s       | 20.92s      | Avoid (Poor Efficiency) |
| 120         | 7.80    | **1,007.91** | 9.95s     | 20.00s      | **Maximum Throughput** |
| 200         | 6.14    | 771.25     | 17.85s      | 30.23s      | Over-Saturated |
";
    // A spreadsheet's, with a byte order mark, semicolons, decimal commas, CRLF and quotes.
    let rows = "10;1,91;236,62;5,04;9,90\r\n\"20\";4,42;554,70;4,31;5,35\r\n40;6,15;766,65;6,09;9,27\r\n80;6,58;828,76;9,58;20,92\r\n\
                120;7,80;1.007,91;9,95;20,00\r\n200;6,14;771,25;17,85;30,23\r\n";
    let semicolons = format!("\u{feff}concurrency;req/s;tok/s;latency_avg_s;\"latency p99 (s)\"\r\n{rows}");
    let tabs = EKS.replace(',', "\t");
    for text in [markdown, &semicolons, &tabs] {
        assert_eq!(loads(&judged(text)), loads(&same), "{text}");
    }
    let units = "Concurrency,Tokens/sec,Mean TTFT (s),p95_ttft_ms,error_rate\n8,100,0.05,90ms,2 %\n16,190,50ms,0.1s,0.02\n";
    let levels = table::parse(Path::new("t.csv"), units.as_bytes()).unwrap().series.remove(0).levels;
    let read = |level: &Level| (level.ttft_avg_ms, level.ttft_p95_ms, level.error_rate);
    assert_eq!(
        levels.iter().map(read).collect::<Vec<_>>(),
        [(Some(50.0), Some(90.0), Some(0.02)), (Some(50.0), Some(100.0), Some(0.02))]
    );
}

/// The highest load with these objectives on a table of concurrency, tokens, average latency and p99 of TTFT.
fn sustained(rows: &str, slos: &[&str]) -> Sustained {
    let text = format!("concurrency,output_tokens_per_s,latency_avg_ms,ttft_p99_ms,error_rate\n{rows}");
    let series = table::parse(Path::new("t.csv"), text.as_bytes()).unwrap().series.remove(0);
    let objectives: Vec<Objective> = slos.iter().map(|slo| objective(slo).unwrap()).collect();
    judge(&series, Thresholds::default(), &objectives).sustained.unwrap()
}

#[test]
fn the_highest_load_that_keeps_an_objective() {
    let rows = "8,800,1000,100,0\n16,1500,1060,300,0\n32,2500,1280,700,0.001\n64,2600,2460,2500,0.2\n";
    let found = sustained(rows, &["ttft.p99 < 500ms"]);
    assert_eq!((found.outcome, found.load, found.broken.unwrap().at), (Outcome::Bounded, Some(16.0), 32.0));
    // 300 ms at 16, 700 ms at 32: 500 ms lies half-way.
    assert_eq!(found.interpolated, Some(24.0));
    for (slos, outcome, load) in [
        (&["ttft.p99 < 1s", "e2e.avg <= 1060ms"][..], Outcome::Bounded, Some(16.0)),
        (&["ttft.p99 < 1s", "latency.avg < 1060ms"], Outcome::Bounded, Some(8.0)),
        (&["error_rate < 1%"], Outcome::Bounded, Some(32.0)),
        (&["ttft.p99 < 10s"], Outcome::NotReached, Some(64.0)),
        (&["ttft.p99 < 50ms"], Outcome::None, None),
        (&["output_tokens_per_s >= 800"], Outcome::NotReached, Some(64.0)),
        (&["itl.p95 < 25ms"], Outcome::Unknown, None),
    ] {
        let found = sustained(rows, slos);
        assert_eq!((found.outcome, found.load), (outcome, load), "{slos:?}");
    }
    // A failed level keeps nothing; one without the figure says nothing; a later one that keeps it again is no answer.
    assert_eq!(sustained("8,800,1000,100,0\n16,1500,1060,,0\n32,,,,1\n", &["ttft.p99 < 1s"]).load, Some(8.0));
    let again =
        sustained("8,800,1000,100,0\n16,1500,1060,900,0\n32,2500,1280,200,0\n", &["ttft.p99 < 500ms"]);
    assert_eq!((again.load, again.kept_again), (Some(8.0), vec![32.0]));
}

#[test]
fn an_objective_of_levels_bounds_a_figure_that_levels_have() {
    for (text, words) in [
        ("ttft.p99", "--slo \"ttft.p99\": no `<`"),
        ("tfft.p99 < 1s", "next: did you mean `ttft.p99`?"),
        ("client.loop_lag_ms.p99 < 1s", "no figure \"client.loop_lag_ms.p99\"\n  expected: ttft, itl"),
        ("ttft.p99 < 500", "a time with its unit"),
    ] {
        let error = objective(text).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
}
