//! Searches on the simulated engine, whose capacity follows from its constants. At 8 sequences a step of
//! the profile `quick` takes 4,000 + 8 × 20 µs, an answer of 50 tokens 50 of them, 0.208 s. 8 slots serve 38.5 answers or
//! 1,923 tokens a second. A ninth request in flight waits for a slot, up to a whole answer.

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
        ("", "goal = [\"ttft.p51 < 5ms\"]", "no number \"ttft_ms.p51\""),
        ("", "goal = [\"ttft.p99 < 5\"]", "has no unit"),
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
