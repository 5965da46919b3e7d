//! `tokmark prompts`, and what reaches a server: the simulated engine counts words, so prompts counted in words must come out
//! exactly, and what is shown before is what is sent.

use std::path::Path;

use crate::support::house::{House, free_port, house_json};
use serde_json::Value;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

/// A recipe on a fast simulated engine with this `[load]`.
fn recipe(house: &House, load: &str) {
    let port = free_port();
    house.recipe(&format!(
        "summary = \"a test\"\n[model]\nname = \"org/m\"\n[deploy]\nlauncher = \"sim\"\nport = {port}\nstop_grace = \"3s\"\n\
         [deploy.engine]\nspeed = 20\n[load]\n{load}\n"
    ));
}

fn records(dir: &Path) -> Vec<Value> {
    let text = fs_err::read_to_string(dir.join("records.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every record's planned prompt length is the server's.
#[track_caller]
fn assert_planned(records: &[Value]) {
    assert!(!records.is_empty());
    for record in records {
        assert_eq!(record["isl_planned"], record["usage"]["prompt_tokens"], "{record}");
    }
}

#[test]
fn what_is_shown_is_what_is_sent() {
    let house = House::new();
    recipe(&house, "isl = 20\nosl = 4\nconcurrency = 2\nrequests = 7");
    house.run(["prompts", "./r.toml", "--save", "p.json"]).succeeds();
    house.run(["run", "./r.toml"]);
    let sent = fs_err::read(house.experiment().join("benchmark_logs/inputs.json")).unwrap();
    assert_eq!(String::from_utf8(sent).unwrap(), house.read("p.json"));
    assert_planned(&records(&house.experiment().join("benchmark_logs")));
}

#[test]
fn prompts_are_shown_counted_and_saved() {
    let house = House::new();
    let tiny = format!("{FIXTURES}/tokenizer");
    let shown = house.run(["prompts", "--tokenizer", &tiny, "--isl", "40", "--show", "2"]).succeeds();
    assert!(shown.stdout.starts_with("--- 0: 40 tokens, 3 shared, asks for 128\n"), "{}", shown.stdout);
    assert_eq!(shown.stdout.matches("--- ").count(), 2);
    let counted = house.run(["prompts", "--isl", "10", "--requests", "30", "--count"]).succeeds();
    assert_eq!(counted.stdout, "30 prompts, 300 prompt tokens, 3840 output tokens asked for\n");
    assert!(counted.stderr.contains("lengths are in words"), "{}", counted.stderr);
    let stats = ["prompts", "--isl", "200", "--isl-stddev", "20", "--stats", "--plot", "h.svg"];
    let stats = house.run(stats).succeeds();
    assert!(stats.stdout.contains("prompts by length") && stats.stdout.contains('#'), "{}", stats.stdout);
    assert!(stats.stdout.lines().all(|line| line.chars().count() <= 80), "{}", stats.stdout);
    assert!(house.read("h.svg").starts_with("<svg"));
    house.run(["prompts", "--requests", "3", "--save", "p.jsonl"]).succeeds();
    assert_eq!(house.read("p.jsonl").lines().count(), 3);
    house.run(["prompts", "--requests", "3", "--save", "p.txt"]).succeeds();
    let json = house.run(["prompts", "--requests", "3", "--json"]).succeeds().json();
    assert_eq!((&json["count"], &json["isl"]["p50"]), (&3.into(), &128.0.into()));
    assert!(house.fails(["prompts", "--requests", "3", "--save", "p.txt"]).contains("p.txt exists"));
    assert!(house.fails(["prompts", "--save", "p.csv"]).contains(".txt, .jsonl or .json"));
}

#[test]
fn bench_draws_a_salt_and_prints_it() {
    let house = House::new();
    let sim = house.sim(&[]);
    let bench = |out: &str, more: &[&str]| {
        let args =
            ["bench", "--url", sim.url(), "--isl", "16", "--osl", "4", "--requests", "8", "--out", out];
        house.run(args.iter().chain(more));
        let summary = house_json(&house.path().join(out).join("summary.json"));
        (summary["prompts"]["salt"].as_u64().unwrap(), house.read(format!("{out}/inputs.json")))
    };
    let (one, two) = (bench("a", &[]), bench("b", &[]));
    assert!(one.0 != two.0 && one.1 != two.1);
    let again = bench("c", &["--salt", &one.0.to_string()]);
    assert_eq!(again, one);
}

#[test]
fn conversations_are_turns_with_the_answers_in_them() {
    let house = House::new();
    let load = "isl = 12\nosl = 5\nconcurrency = 2\nrequests = 4\n[load.prompts.conversation]\nturns = 3\nturn_isl = 6\nthink_time = \"20ms\"";
    recipe(&house, load);
    house.run(["run", "./r.toml"]);
    let dir = house.experiment().join("benchmark_logs");
    let records = records(&dir);
    assert_eq!(records.len(), 12);
    assert_planned(&records);
    for conversation in 0..4 {
        let mut turns: Vec<&Value> =
            records.iter().filter(|record| record["turn"]["conversation"] == conversation).collect();
        turns.sort_by_key(|record| record["turn"]["turn"].as_u64());
        let lengths: Vec<u64> = turns.iter().map(|turn| turn["isl"].as_u64().unwrap()).collect();
        // Each prompt is the last one, its answer of 5 words and 6 words more.
        assert_eq!(lengths, [12, 23, 34]);
        let gap = turns[1]["sent_us"].as_u64().unwrap() - turns[0]["end_us"].as_u64().unwrap();
        assert!(gap >= 20_000, "{gap}");
    }
    let summary = house_json(&dir.join("summary.json"));
    assert_eq!((&summary["requests"]["total"], &summary["conversations"]), (&12.into(), &4.into()));
    assert_eq!(summary["turns"].as_array().unwrap().len(), 3);
    let ids: std::collections::HashSet<u64> =
        records.iter().map(|record| record["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), 12, "each turn has a number of its own");
}

#[test]
fn a_trace_is_replayed_on_its_own_clock() {
    let house = House::new();
    let load = format!(
        "[load.prompts.trace]\nkind = \"mooncake\"\npath = \"{FIXTURES}/prompts/mooncake.jsonl\"\nspeedup = 20\nmax_osl = 8"
    );
    recipe(&house, &load);
    // A busy machine may make the verdict invalid; what was sent is the same.
    house.run(["run", "./r.toml"]);
    assert!(house.experiment().display().to_string().contains("/m_mooncake_mooncake_"));
    let dir = house.experiment().join("benchmark_logs");
    let mut records = records(&dir);
    assert_planned(&records);
    records.sort_by_key(|record| record["id"].as_u64());
    let start = records[0]["scheduled_us"].as_u64().unwrap();
    let at: Vec<u64> =
        records.iter().map(|record| record["scheduled_us"].as_u64().unwrap() - start).collect();
    assert_eq!(at, [0, 150_000, 150_000, 450_000]);
    let lengths: Vec<u64> = records.iter().map(|record| record["isl"].as_u64().unwrap()).collect();
    assert_eq!(lengths, [1100, 1024, 513, 700]);
    let summary = house_json(&dir.join("summary.json"));
    assert_eq!((&summary["point"]["isl"], &summary["point"]["osl"]), (&834.into(), &6.into()));
}

#[test]
fn real_prompts_of_every_kind_reach_the_server() {
    let house = House::new();
    let sim = house.sim(&[]);
    let files = [
        ("dolly", "dolly.jsonl"),
        ("sharegpt", "sharegpt.json"),
        ("openassistant", "oasst.trees.jsonl"),
        ("jsonl", "prompts.jsonl"),
    ];
    for (kind, file) in files {
        let dataset = format!("{kind}:{FIXTURES}/prompts/{file}");
        let args = [
            "bench",
            "--url",
            sim.url(),
            "--dataset",
            &dataset,
            "--osl",
            "4",
            "--requests",
            "4",
            "--out",
            kind,
        ];
        house.run(args);
        assert_planned(&records(&house.path().join(kind)));
    }
}

#[test]
fn bad_prompts_are_named_before_anything_is_started() {
    let house = House::new();
    recipe(&house, "osl = 4\n[load.prompts.dataset]\nkind = \"dolly\"\npath = \"no.jsonl\"");
    let message = house.fails(["run", "./r.toml"]);
    assert!(message.contains("no.jsonl"), "{message}");
    assert!(!house.experiments().exists());
    let says = |args: &[&str], words: &[&str]| {
        let message = house.fails(["prompts"].iter().chain(args));
        for word in words {
            assert!(message.contains(word), "{args:?}: {message}");
        }
    };
    says(&["--dataset", "doly:x"], &["--dataset", "dolly, sharegpt, openassistant, jsonl"]);
    says(&["--token-ids"], &["--token-ids: ", "with the endpoint `chat`"]);
    says(&["--length-range", "vllm:1.5"], &["--length-range", "0 to below 1"]);
    says(&["--isl", "5", "--tokenizer", &format!("{FIXTURES}/tokenizer")], &["--isl: ", "chat template"]);
    says(&["./r.toml", "--isl", "5"], &["--set load.KEY=VALUE"]);
    says(&["--prefix-pool", "2"], &["--prefix-tokens"]);
    let sharegpt = format!("dolly:{FIXTURES}/prompts/sharegpt.json");
    says(&["--dataset", &sharegpt], &["sharegpt"]);
    let both = "isl = 4\nosl = 4\n[load.prompts.trace]\nkind = \"azure\"\npath = \"x.csv\"";
    recipe(&house, both);
    let message = house.fails(["check", "./r.toml"]);
    assert!(message.contains("`load.isl`") && message.contains("beside prompts.trace"), "{message}");
}
