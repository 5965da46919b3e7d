//! `tokmark export` on what a run left: the same files as the run, further formats, incomplete records, bad usage.

use std::path::{Path, PathBuf};

use crate::support::house::{House, free_port, house_json};

/// Runs two load points and gives the experiment's directory.
fn experiment(house: &House) -> PathBuf {
    let port = free_port();
    house.recipe(&format!(
        "summary = \"a test\"\n[model]\nname = \"org/m\"\n[deploy]\nlauncher = \"sim\"\nport = {port}\nstop_grace = \"3s\"\n\
         [deploy.engine]\nspeed = 20\n[load]\nisl = 8\nosl = 6\nconcurrency = [1, 2]\nrequests = 6\nwarmup_requests = 2\n\
         slo = {{ ttft = \"9s\" }}\n"
    ));
    house.run(["run", "./r.toml", "--export", "vllm-bench"]).succeeds();
    house.experiment()
}

/// The file in `dir` whose name starts so.
#[track_caller]
fn starting(dir: &Path, start: &str) -> PathBuf {
    let mut entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.find(|entry| entry.file_name().to_string_lossy().starts_with(start)).unwrap().path()
}

const AIPERF: [&str; 3] = ["profile_export_aiperf.csv", "profile_export_aiperf.json", "profile_export.jsonl"];

#[test]
fn export_writes_what_the_run_wrote_and_further_formats() {
    let house = House::new();
    let dir = experiment(&house);
    let point = dir.join("benchmark_logs/isl8_osl6_con2");
    starting(&point, "chat-cc2-");
    starting(&dir.join("benchmark_logs/isl8_osl6_con1"), "chat-cc1-");
    let by_the_run = AIPERF.map(|name| std::fs::read(point.join(name)).unwrap());
    AIPERF.iter().for_each(|name| std::fs::remove_file(point.join(name)).unwrap());
    let end = house.run(["export", "last", "--as", "aiperf"]).succeeds();
    assert_eq!(end.stdout.lines().count(), 6, "{end:?}");
    assert_eq!(AIPERF.map(|name| std::fs::read(point.join(name)).unwrap()), by_the_run);

    let name = dir.to_str().unwrap();
    let end = house.run(["export", name, "isl8_osl6_con2", "--as", "genai-perf,vllm", "--json"]).succeeds();
    let written = end.json()[0]["written"].as_array().unwrap().len();
    assert_eq!((end.json().as_array().unwrap().len(), written), (1, 3));
    let genai = house_json(&point.join("profile_export_genai_perf.json"));
    assert_eq!(
        (&genai["request_count"]["avg"], &genai["input_config"]["tokmark"]["is_complete"]),
        (&6.0.into(), &true.into())
    );
    assert!(!dir.join("benchmark_logs/isl8_osl6_con1/profile_export_genai_perf.json").exists());
    let vllm = house_json(&starting(&point, "openai-chat-"));
    assert_eq!(
        (&vllm["completed"], &vllm["model_id"], &vllm["simulated"]),
        (&6.into(), &"org/m".into(), &"true".into())
    );
    assert!(vllm["request_goodput"].as_f64().unwrap() > 0.0);
}

#[test]
fn records_and_summary_alone_are_enough_and_a_torn_line_is_marked() {
    let house = House::new();
    let from = experiment(&house).join("benchmark_logs/isl8_osl6_con2");
    let alone = house.path().join("alone");
    std::fs::create_dir(&alone).unwrap();
    for name in ["records.jsonl", "summary.json"] {
        std::fs::copy(from.join(name), alone.join(name)).unwrap();
    }
    house.run(["export", "alone", "--as", "vllm-bench", "--as", "aiperf"]).succeeds();
    let csv = starting(&from, "chat-cc2-");
    assert_eq!(std::fs::read(&csv).unwrap(), std::fs::read(alone.join(csv.file_name().unwrap())).unwrap());

    let records = std::fs::read(alone.join("records.jsonl")).unwrap();
    std::fs::write(alone.join("records.jsonl"), &records[..records.len() - 9]).unwrap();
    let whole = std::fs::read(alone.join("profile_export_aiperf.json")).unwrap();
    let end = house.run(["export", "alone", "--as", "aiperf,genai-perf"]).succeeds();
    assert!(end.stderr.contains("incomplete: the last line of records.jsonl is torn"), "{end:?}");
    assert!(end.stderr.contains("warning: kept "), "{end:?}");
    assert_eq!(std::fs::read(alone.join("profile_export_aiperf.json")).unwrap(), whole);
    let genai = house_json(&alone.join("profile_export_genai_perf.json"));
    assert_eq!(
        (&genai["request_count"]["avg"], &genai["input_config"]["tokmark"]["is_complete"]),
        (&5.0.into(), &false.into())
    );

    let end = house.run(["export", "alone", "isl8_osl6_con3", "--as", "vllm"]).fails(2);
    assert!(end.stderr.contains("isl8_osl6_con3: no such load point in the experiment"), "{end:?}");
}

#[test]
fn a_directory_without_experiment_is_bad_usage() {
    let house = House::new();
    std::fs::create_dir(house.path().join("empty")).unwrap();
    let end = house.run(["export", "empty", "--as", "vllm"]).fails(2);
    assert!(end.stderr.contains("empty: no records.jsonl in it or below it"), "{end:?}");
    let end = house.run(["export", "nothing", "--as", "vllm"]).fails(2);
    assert!(end.stderr.contains("nothing: no such job or experiment in"), "{end:?}");
    let bad = house.path().join("bad");
    std::fs::create_dir(&bad).unwrap();
    std::fs::write(bad.join("records.jsonl"), "{}\n").unwrap();
    let end = house.run(["export", "bad", "--as", "vllm"]).fails(2);
    assert!(end.stderr.contains("nothing describes the load point of these records"), "{end:?}");
}
