//! `tokmark zones`: of an experiment, of a bench, of a table, of result files; bad usage.

use crate::support::house::House;

const EKS: &str = "Concurrency,Req/sec,Tokens/sec,latency_avg_ms,latency_p99_ms
200,6.14,771.25,17850,30230
10,1.91,236.62,5040,9900
20,4.42,554.70,4310,5350
40,6.15,766.65,6090,9270
80,6.58,828.76,9580,20920
120,7.80,\"1,007.91\",9950,20000
";

#[test]
fn a_table_is_judged_as_json_and_within_80_columns() {
    let house = House::new();
    house.file("eks.csv", EKS);
    let json = house.run(["zones", "--table", "eks.csv", "--json"]).succeeds().json();
    assert_eq!(json["operating_points"]["sweet_spot"], serde_json::json!([20, 40]));
    assert_eq!((&json["saturation_beyond"], &json["points"][0]["concurrency"]), (&120.into(), &10.into()));
    let text = house.run(["zones", "--table", "eks.csv"]).succeeds().stdout;
    assert!(text.contains("Saturated beyond concurrency 120"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let end = house.run(["zones", "--table", "eks.csv", "--threshold", "plateau=0.2"]).succeeds();
    assert!(
        end.stdout.contains("Saturated beyond concurrency 40"),
        "a fifth more a doubling is flat: {}",
        end.stdout
    );
}

#[test]
fn bad_tables_and_thresholds_are_named() {
    let house = House::new();
    house.file("eks.csv", EKS);
    house.file("bad.csv", "users,tokens\n1,2\n");
    for (args, words) in [
        (&["--table", "eks.csv", "--threshold", "latncy=3"][..], "did you mean `latency`?"),
        (&["--table", "eks.csv", "--threshold", "latency=-1"], "a number from 0 on"),
        (&["--table", "none.csv"], "none.csv: there is no such file"),
        (&["--table", "bad.csv"], "bad.csv:1: no column `concurrency` or `request_rate`"),
        (&["nothing"], "no such job or experiment"),
    ] {
        let end = house.run(["zones"].iter().chain(args)).fails(2);
        assert!(end.stderr.contains(words), "{args:?}: {}", end.stderr);
    }
}

#[test]
fn a_bench_over_several_loads_has_zones_and_one_load_has_none() {
    let house = House::new();
    let sim = house.sim(&[]);
    let bench = ["bench", "--url", sim.url(), "--isl", "8", "--osl", "4", "--requests-per-concurrency", "5"];
    house.run(bench.iter().chain(&["--concurrency", "1,2,4", "--out", "o"])).succeeds();
    let page = house.read("o/capacity-zones.md");
    assert!(page.contains("# ") && page.contains("SIMULATED") && page.contains("| zone |"), "{page}");
    let json = house.run(["zones", "o", "--json"]).succeeds().json();
    let loads: Vec<u64> =
        json["points"].as_array().unwrap().iter().map(|p| p["concurrency"].as_u64().unwrap()).collect();
    assert_eq!(loads, [1, 2, 4]);
    let csv = house.run(["zones", "--table", "o/summary.csv", "--json"]).succeeds().json();
    assert_eq!(
        (&csv["operating_points"], &csv["points"][1]["zone"]),
        (&json["operating_points"], &json["points"][1]["zone"])
    );
    house.run(bench.iter().chain(&["--concurrency", "2", "--out", "one"])).succeeds();
    assert!(!house.path().join("one/capacity-zones.md").exists());
    let end = house.run(["zones", "one"]).fails(2);
    assert!(
        end.stderr.contains("1 finished load points, none of which differ in load alone"),
        "{}",
        end.stderr
    );
    // The files of other formats, one for each load.
    let files = [1, 2, 4].map(|load| format!("o/isl8_osl4_con{load}/profile_export_aiperf.json"));
    let tables: Vec<&str> = files.iter().flat_map(|file| ["--table", file]).collect();
    let aiperf = house.run(["zones", "--json"].iter().chain(&tables)).succeeds().json();
    assert_eq!(aiperf["points"].as_array().unwrap().len(), 3);
}
