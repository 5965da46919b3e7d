//! Searches on the simulated engine, whose capacity follows from its constants. At 8 sequences a step of
//! the profile `quick` takes 4,000 + 8 × 20 µs, an answer of 50 tokens 50 of them, 0.208 s. 8 slots serve 38.5 answers or
//! 1,923 tokens a second. A ninth request in flight waits for a slot, up to a whole answer.

use std::path::Path;

use serde_json::Value;

use crate::support::house::{House, house_json};

/// The answer of `run --json` with these goals and this `[load]` on 8 slots.
fn found(house: &House, goals: &[&str], load: &str, search: &str) -> Value {
    house.recipe(&format!(
        "summary = \"a test\"\n[model]\nname = \"org/m\"\n[deploy]\nlauncher = \"sim\"\n[deploy.engine]\nmax_num_seqs = 8\n\
         [load]\nisl = 16\nosl = 50\n{load}\n[search]\n{search}\n"
    ));
    let args =
        ["run", "./r.toml", "--json"].into_iter().chain(goals.iter().flat_map(|goal| ["--search", goal]));
    house.run(args).succeeds().json()
}

#[test]
fn the_largest_concurrency_that_keeps_an_objective_is_the_number_of_slots() {
    let house = House::new();
    let answer = found(&house, &["ttft.p95 < 100ms", "errors < 1%"], "", "max = 64\nrepeats = 2");
    let search = &answer["search"][0];
    assert_eq!((&search["result"], &search["ended"]), (&"found".into(), &"converged".into()), "{search:#}");
    assert_eq!((&search["keeps"], &search["fails"]), (&8.0.into(), &9.0.into()), "{search:#}");
    assert_eq!(search["confidence"]["keeps"]["of"], 2);
    let sentence = search["sentence"].as_str().unwrap();
    assert!(
        sentence.starts_with(
            "The largest concurrency that keeps ttft.p95 < 100ms and errors < 1% is 8 (9 does not"
        ),
        "{sentence}"
    );
    // Every evaluated point is a point: a folder, a summary, a row.
    let dir = house.experiment();
    let evaluated = search["evaluated"].as_array().unwrap().len();
    let folders = std::fs::read_dir(dir.join("benchmark_logs")).unwrap().count();
    assert_eq!(
        (
            folders,
            answer["points"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|point| !point["point"]["repeat"].is_null())
                .count()
        ),
        (evaluated, evaluated)
    );
    let beyond = house_json(&dir.join("benchmark_logs/isl16_osl50_con16_r1/summary.json"));
    assert!(beyond["verdict"]["reasons"].to_string().contains("cut short after"), "{:#}", beyond["verdict"]);
    assert!(beyond["requests"]["total"].as_u64().unwrap() < 128);
    assert_eq!(&house_json(&dir.join("analysis.json"))["search"], &answer["search"]);
    assert!(house.read(dir.join("summary.md")).contains(sentence));
    assert!(house.read(dir.join("report.html")).contains("The largest concurrency that keeps"));
    house.assert_empty();
}

#[test]
fn the_ceiling_of_throughput_is_reached_by_as_many_requests_as_slots() {
    let house = House::new();
    let answer = found(&house, &["throughput"], "requests_per_concurrency = 6", "max = 64\nrepeats = 1");
    let search = &answer["search"][0];
    let highest = search["highest_output_tokens_per_s"].as_f64().unwrap();
    assert!((1800.0..=2000.0).contains(&highest), "{search:#}");
    assert_eq!((&search["result"], &search["fails"]), (&"found".into(), &8.0.into()), "{search:#}");
}

#[test]
fn the_largest_rate_is_that_of_the_slots() {
    let house = House::new();
    let load = "rate = 10\nduration = \"4s\"\nat_end = \"cut\"\n[load.arrival.constant]";
    let answer = found(&house, &["ttft.p90 < 100ms"], load, "max = 100\nrepeats = 1");
    let search = &answer["search"][0];
    let keeps = search["keeps"].as_f64().unwrap();
    assert!((34.0..=42.0).contains(&keeps), "{search:#}");
}

/// ITL does not tell of a queue, which grows without bound above 38.5 requests a second: at 64 a second 25 more arrive than complete.
#[test]
fn an_over_saturated_rate_is_cut_short_and_is_no_throughput() {
    let house = House::new();
    let load = "rate = 64\nduration = \"10s\"\nat_end = \"cut\"\n[load.arrival.constant]";
    let answer = found(&house, &["itl.p90 < 50ms"], load, "max = 64\nrepeats = 1\npoints = 2");
    let search = &answer["search"][0];
    assert_eq!((&search["keeps"], &search["fails"]), (&32.0.into(), &64.0.into()), "{search:#}");
    assert!(search["sentence"].as_str().unwrap().contains("64 does not: its queue grows without bound"));
    let dir = house.experiment();
    let summary = house_json(&dir.join("benchmark_logs/isl16_osl50_rate64/summary.json"));
    assert_eq!(
        (&summary["cut_short"]["over_saturated"], &summary["cut_short"]["planned_requests"]),
        (&true.into(), &742.into())
    );
    assert!(summary["duration_s"].as_f64().unwrap() < 9.0);
    assert!(summary["verdict"]["reasons"].to_string().contains("over-saturated: of the "), "{summary:#}");
    let zones = house.run(["zones", "last", "--json"]).succeeds().json();
    let point = &zones["points"][1];
    assert_eq!(
        (&point["zone"], &point["output_tokens_per_s"], &point["cut_short"]),
        (&"saturated".into(), &Value::Null, &true.into()),
        "{zones:#}"
    );
    assert_eq!(
        (&zones["saturation_beyond"], &zones["operating_points"]["peak_throughput"]),
        (&32.into(), &32.into())
    );
    // What was evaluated is exported like any other point.
    let exported = house.run(["export", "last", "--as", "vllm", "--json"]).succeeds().json();
    assert_eq!(exported.as_array().unwrap().len(), 2, "{exported:#}");
}

#[test]
fn a_search_is_told_before_it_runs() {
    let house = House::new();
    house.recipe(
        "summary = \"s\"\n[model]\nname = \"m\"\n[deploy]\nlauncher = \"sim\"\n[load]\nisl = 8\nosl = 4\nconcurrency = 4\n\
         duration = \"60s\"\n[search]\ngoal = [\"ttft.p99 < 500ms\"]\nmax = 64\n[slurm]\ntime = \"10m\"\n",
    );
    let words = "search: largest concurrency that keeps ttft.p99 < 500ms, from 4 within 1 to 64, 30 load points at most, 30m of load";
    for args in [&["check", "./r.toml"][..], &["show", "./r.toml"], &["render", "./r.toml", "--explain"]] {
        let end = house.run(args).succeeds();
        let shown = end.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(shown.contains(words), "{args:?}: {}", end.stdout);
        let warned = end.stderr.contains("slurm.time is 10m, and the load may last 30m");
        assert_eq!(warned, args[0] != "show", "{args:?}: {}", end.stderr);
    }
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/search.toml");
    let end = house.run(["check", example.to_str().unwrap()]).succeeds();
    assert!(end.stdout.contains("ttft.p95 < 300ms and errors < 1%, from 4 within 1 to 64"), "{}", end.stdout);
    let checked = house.run(["check", "./r.toml", "--json"]).succeeds().json();
    assert_eq!(checked[0]["search"]["max"], 64.0);
}

#[test]
fn a_goal_that_no_load_keeps_fails_the_gate() {
    let house = House::new();
    house.recipe(
        "summary = \"a test\"\n[model]\nname = \"org/m\"\n[deploy]\nlauncher = \"sim\"\n[load]\nisl = 16\nosl = 5\nconcurrency = 2\n\
         [search]\ngoal = [\"ttft.p50 < 0.01ms\"]\nrepeats = 1\n",
    );
    let end = house.run(["run", "./r.toml"]).fails(5);
    let sentence =
        "Not even concurrency 1, the smallest that was measured, keeps ttft.p50 < 0.01ms: ttft.p50 is";
    assert!(end.stdout.contains(sentence), "{}", end.stdout);
}

#[test]
fn mistakes_in_a_search_name_their_key() {
    let house = House::new();
    for (load, search, expected) in [
        ("concurrency = [1, 2]", "goal = [\"throughput\"]", "beside several loads of isl8_osl4"),
        ("", "max = 4", "`search.goal`"),
        ("", "goal = [\"ttft.p51 < 5ms\"]", "no figure \"ttft.p51\""),
        ("", "goal = [\"ttft.p99 < 5\"]", "a time with its unit"),
        ("", "goal = [\"tfft.p99 < 50ms\"]", "next: did you mean `ttft.p99`?"),
        ("", "goal = [\"energy.jouls > 5\"]", "summary.json has no number"),
        ("", "goal = [\"throughput\", \"errors < 1%\"]", "beside objectives"),
        ("", "goal = [\"goodput > 95%\"]", "without load.slo"),
        ("", "goal = [\"throughput\"]\nmin = 8\nmax = 4", "found 8 to 4"),
        ("repeats = 2", "goal = [\"throughput\"]", "search.repeats"),
    ] {
        house.recipe(&format!(
            "summary = \"s\"\n[model]\nname = \"m\"\n[deploy]\nlauncher = \"sim\"\n[load]\nisl = 8\nosl = 4\n{load}\n[search]\n{search}\n"
        ));
        let error = house.fails(["check", "./r.toml"]);
        assert!(error.contains(expected), "{search}: {error}");
    }
}
