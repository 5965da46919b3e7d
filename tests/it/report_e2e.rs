//! `tokmark report`: of one experiment, of several, of none.

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::house::House;

/// What a report consists of: the files at the top and the pictures.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    const TOP: [&str; 5] =
        ["report.html", "summary.md", "summary.csv", "latency-ttft-summary.md", "limitations.md"];
    let mut files: BTreeMap<String, Vec<u8>> =
        TOP.iter().map(|name| ((*name).to_owned(), std::fs::read(dir.join(name)).unwrap())).collect();
    for entry in std::fs::read_dir(dir.join("plots")).unwrap() {
        let entry = entry.unwrap();
        files.insert(entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap());
    }
    files
}

#[test]
fn a_report_is_written_again_byte_for_byte_and_of_several_experiments_together() {
    let house = House::new();
    let sim = house.sim(&[]);
    let bench = ["bench", "--url", sim.url(), "--isl", "8", "--osl", "4", "--requests-per-concurrency", "5"];
    house.run(bench.iter().chain(&["--concurrency", "1,2,4", "--out", "o"])).succeeds();
    let dir = house.path().join("o");
    let before = files(&dir);
    assert!(
        before.contains_key("throughput.svg") && before.contains_key("throughput.png"),
        "{:?}",
        before.keys()
    );
    std::fs::remove_dir_all(dir.join("plots")).unwrap();
    std::fs::remove_file(dir.join("report.html")).unwrap();
    let json = house.run(["report", "o", "--json"]).succeeds().json();
    assert!(json["report"].as_str().unwrap().ends_with("o/report.html"), "{json}");
    let after = files(&dir);
    for (name, bytes) in &before {
        assert!(after[name] == *bytes, "{name} differs");
    }
    assert_eq!(before.len(), after.len());

    house.run(bench.iter().chain(&["--concurrency", "2,3", "--out", "p"])).succeeds();
    house.run(["report", "o", "p", "--out", "both"]).succeeds();
    let page = house.read("both/summary.md");
    assert!(page.contains("2 experiments together") && page.contains("#1") && page.contains("#2"), "{page}");
    // Nothing of the two changed.
    assert!(files(&dir) == before);
}

#[test]
fn what_is_no_experiment_is_named() {
    let house = House::new();
    std::fs::create_dir(house.path().join("empty")).unwrap();
    house.run(["report", "empty"]).fails(2);
    let end = house.run(["report", "nothing"]).fails(2);
    assert!(end.stderr.contains("no such job or experiment"), "{}", end.stderr);
    let page = house.run(["report"]).fails(2).stderr;
    assert!(!page.contains("panicked"), "{page}");
}
