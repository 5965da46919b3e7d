//! Ramps end to end with the simulated engine: what a recipe and `bench` leave behind, that the figures of the stages follow
//! from the records, and what is refused.

use std::path::Path;

use crate::support::house::{House, free_port, house_json};
use serde_json::{Value, json};
use tokmark::internals::metrics::Fold;
use tokmark::internals::metrics::RequestRecord;
use tokmark::internals::plan::{LoadPoint, Plan};

fn records(path: &Path) -> Vec<RequestRecord> {
    let text = fs_err::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The requests of a phase.
fn of_phase<'a>(records: &'a [RequestRecord], phase: &str) -> Vec<&'a RequestRecord> {
    records.iter().filter(|record| record.phase.as_str() == phase).collect()
}

fn recipe(house: &House, load: &str) {
    let port = free_port();
    house.recipe(&format!(
        "summary = \"a ramp\"\n[model]\nname = \"org/m\"\n[deploy]\nlauncher = \"sim\"\nport = {port}\n\
         stop_grace = \"3s\"\n[deploy.engine]\nspeed = 20\n[load]\nisl = 8\nosl = 6\n{load}\n"
    ));
}

fn point(dir: &Path) -> LoadPoint {
    let plan: Plan = serde_json::from_value(house_json(&dir.join("plan.json"))).unwrap();
    plan.deployments[0].points[0].clone()
}

#[test]
fn a_ramp_in_a_recipe_leaves_its_stages() {
    let house = House::new();
    recipe(
        &house,
        "warmup_requests = 2\nstart_concurrency = 1\n\
         [[load.stages]]\nname = \"climb\"\nduration = \"400ms\"\nconcurrency = 4\n\
         [[load.stages]]\nduration = \"400ms\"\nconcurrency = 4\n\
         [[load.stages]]\nname = \"calm\"\nduration = \"400ms\"\nconcurrency = 1\nshape = \"hold\"\ncool_down = true\n\
         [load.slo]\ne2e = \"10s\"",
    );
    let end = house.run(["run", "./r.toml"]).succeeds();
    let dir = house.experiment();
    assert!(dir.file_name().unwrap().to_str().unwrap().contains("_ramp4_"), "{}", dir.display());
    let logs = dir.join("benchmark_logs");
    let (summary, records) = (house_json(&logs.join("summary.json")), records(&logs.join("records.jsonl")));
    assert_eq!(
        (&summary["point"]["id"], &summary["point"]["concurrency"]),
        (&json!("isl8_osl6_ramp4"), &json!(4))
    );
    let names: Vec<&Value> =
        summary["stages"].as_array().unwrap().iter().map(|stage| &stage["name"]).collect();
    assert_eq!(names, ["climb", "2"]);
    // The plan and the records give the same figures again.
    let mut fold = Fold::new(&point(&dir));
    records.iter().for_each(|record| fold.add(record));
    let again = serde_json::to_string(&fold.stages().unwrap()).unwrap();
    assert_eq!(summary["stages"], serde_json::from_str::<Value>(&again).unwrap());
    let (warm, measured) = (of_phase(&records, "warmup"), of_phase(&records, "measure"));
    let cool = of_phase(&records, "cool_down");
    assert_eq!(warm.len() + measured.len() + cool.len(), records.len());
    assert!(warm.len() == 2 && warm.iter().all(|record| record.stage.is_none()));
    assert!(measured.iter().all(|record| record.stage.unwrap().index < 2));
    assert!(cool.iter().all(|record| record.stage.unwrap().index == 2));
    assert_eq!(summary["requests"]["total"], measured.len());
    assert!(measured.len() > 20 && !cool.is_empty(), "{} {}", measured.len(), cool.len());
    let sum = |key: &str| (0..2).map(|stage| summary["stages"][stage][key].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("requests"), sum("good")), (measured.len() as u64, sum("completed")));
    // Exports hold the measured requests, and AIPerf's lines the warm-up too.
    let lines = house.read(logs.join("profile_export.jsonl"));
    assert_eq!(lines.lines().count(), warm.len() + measured.len());
    for text in [&end.stdout, &house.read(dir.join("summary.md")), &house.read(dir.join("report.html"))] {
        assert!(text.contains("climb") && text.contains("1 → 4") && !text.contains("calm |"), "{text}");
    }
    house.assert_empty();
}

#[test]
fn a_ramp_of_the_rate_by_bench() {
    let house = House::new();
    let sim = house.sim(&[]);
    let args = ["bench", "--url", sim.url(), "--isl", "8", "--osl", "4", "--json", "--out", "o"];
    let ramp = ["--rate-stages", "500ms:100,500ms:100,200ms:0:cool-down", "--arrival", "constant"];
    // On a busy machine the verdict may be invalid; the arrivals are the same.
    let summary = house.run(args.iter().chain(&ramp)).json();
    assert_eq!(summary["point"]["id"], "isl8_osl4_ramprate100");
    // 25 arrivals while the rate rises, 50 at its height; 10 belong to the cool-down.
    assert_eq!((&summary["offered"]["arrivals"], &summary["requests"]["total"]), (&json!(75), &json!(75)));
    let requests: Vec<&Value> =
        summary["stages"].as_array().unwrap().iter().map(|stage| &stage["requests"]).collect();
    assert_eq!(requests, [25, 50]);
    let records = records(&house.path().join("o/records.jsonl"));
    assert_eq!(records.len(), 85);
    let reasons = summary["verdict"]["reasons"].to_string();
    assert!(!reasons.contains("offered") && !reasons.contains("arrivals"), "{reasons}");
}

#[test]
fn a_ramp_shows_what_it_will_do() {
    let house = House::new();
    recipe(&house, "[[load.stages]]\nduration = \"1m\"\nrate = 2.5\n[[load.stages]]\nduration = 5\nrate = 1");
    let shown = house.run(["show", "./r.toml"]).succeeds().stdout;
    assert!(shown.contains("0 → 2.5 in 60s, 2.5 → 1 in 5s /s poisson"), "{shown}");
    house.run(["check", "./r.toml"]).succeeds();
    let end = house.run(["run", "./r.toml", "--set", "load.duration=5"]).fails(2);
    assert!(end.stderr.contains("--set: `load.duration`: found beside load.stages"), "{}", end.stderr);
    let end = house.run(["bench", "--url", "http://127.0.0.1:1", "--stages", "5s:0"]).fails(2);
    assert!(end.stderr.contains("--stages: found a concurrency of 0 in every stage"), "{}", end.stderr);
    house.assert_empty();
}

#[test]
fn the_example_is_a_sound_recipe() {
    let house = House::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/ramp.toml");
    let shown = house.run(["show", example.to_str().unwrap()]).succeeds().stdout;
    assert!(shown.contains("isl512_osl64_ramp256"), "{shown}");
}
