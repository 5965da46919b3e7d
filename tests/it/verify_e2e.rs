//! `tokmark verify` through the binary: what a simulated run is told, what a measured one is, and how each ends.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::support::house::{House, house_json};
use serde_json::{Value, json};

const POINT: &str = "isl8_osl6_con2";

/// A recipe for the simulated engine with a published figure of 100 tokens/s.
fn recipe(more: &str) -> String {
    format!(
        "schema = 1\nname = \"r\"\nsource = \"a paper\"\n[model]\nname = \"org/m\"\n[deploy]\nlauncher = \"sim\"\n\
         [deploy.engine]\nspeed = 20\n[load]\nisl = 8\nosl = 6\nconcurrency = 2\nrequests = 20\n{more}"
    )
}

fn figure() -> String {
    format!(
        "[[published]]\ngpu = \"h100\"\npoint = \"{POINT}\"\nmetric = \"throughput.output_tokens_per_s\"\nvalue = 100\n\
         software = \"engine 1\"\nsource = \"its table 3\"\n"
    )
}

/// Runs the recipe; gives the experiment.
fn run(house: &House, more: &str) -> PathBuf {
    house.file("r.toml", &recipe(more));
    let end = house.run(["run", "./r.toml", "--gpu", "h100"]).succeeds();
    assert!(!end.stdout.contains("tokmark verify"), "{}", end.stdout);
    house.all().pop().unwrap()
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = house_json(path);
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

/// Makes an experiment look as a measured one with this throughput.
fn measured(dir: &Path, tokens_per_s: f64) {
    edit(&dir.join("plan.json"), |plan| {
        plan["simulated"] = json!(false);
        plan["input"]["version"] = json!("9.9.9");
    });
    edit(&dir.join("benchmark_logs/summary.json"), |summary| {
        summary["simulated"] = json!(false);
        summary["throughput"]["output_tokens_per_s"] = json!(tokens_per_s);
        (summary["isl"]["avg"], summary["osl"]["avg"]) = (json!(8.0), json!(6.0));
        summary["verdict"] = json!({"result": "valid", "reasons": []});
    });
}

/// `text` with `EXPERIMENT` for its directory, which has a line of its own where it is long.
fn plain(dir: &Path, text: &str) -> String {
    text.replace(&dir.display().to_string(), "EXPERIMENT").replace(":\nEXPERIMENT", ": EXPERIMENT")
}

#[test]
fn a_simulated_run_is_never_compared() {
    let house = House::new();
    let dir = run(&house, &figure());
    let end = house.run(["verify"]).succeeds();
    assert_eq!(end.stderr, "");
    assert_eq!(
        plain(&dir, &end.stdout),
        "r on h100: EXPERIMENT\n\
         SIMULATED: these figures come from a simulated engine, not from a GPU.\n\
         \n\
         throughput.output_tokens_per_s\n\
         LOAD POINT      PUBLISHED  MEASURED  DIFFERENCE  OUTCOME\n\
         isl8_osl6_con2        100         -           -  not comparable\n\
         \n\
         not comparable: the result is simulated, which is never compared with a\n  \
         published figure\n\
         source: its table 3\n\
         \n\
         1 not comparable\n"
    );
    // Even when nothing but the summary says so.
    edit(&dir.join("plan.json"), |plan| plan["simulated"] = json!(false));
    let told = house.run(["verify", "--json"]).succeeds().json();
    assert_eq!(
        (&told["simulated"], &told["figures"][0]["outcome"]),
        (&json!(true), &json!("not_comparable"))
    );
    assert_eq!(
        (&told["figures"][0]["measured"], &told["counts"]["not_comparable"]),
        (&Value::Null, &json!(1))
    );
}

#[test]
fn a_measured_run_reproduces_a_figure_or_does_not() {
    let house = House::new();
    let dir = run(&house, &figure());
    measured(&dir, 95.0);
    let end = house.run(["verify", "last"]).succeeds();
    assert!(
        end.stdout.contains(&format!("{POINT}        100      95.0      -5.0 %  reproduced\n")),
        "{}",
        end.stdout
    );
    assert!(end.stdout.ends_with("\n1 reproduced\n"), "{}", end.stdout);
    measured(&dir, 50.0);
    let end = house.run(["verify", dir.file_name().unwrap().to_str().unwrap()]).fails(5);
    assert_eq!(
        plain(&dir, &end.stdout),
        format!(
            "r on h100: EXPERIMENT\n\
         \n\
         throughput.output_tokens_per_s\n\
         LOAD POINT      PUBLISHED  MEASURED  DIFFERENCE  OUTCOME\n\
         isl8_osl6_con2        100      50.0     -50.0 %  not reproduced\n\
         \n\
         ! not reproduced: throughput.output_tokens_per_s of isl8_osl6_con2\n    \
             50.0 % below the published figure, tolerance 10 %\n    \
             software: published engine 1; here no container, launcher sim (engine\n      \
             tokmark-sim-{}), tokmark 9.9.9\n\
         source: its table 3\n\
         \n\
         1 not reproduced\n",
            env!("CARGO_PKG_VERSION")
        )
    );
    assert_eq!(end.stderr, "error: 1 of 1 published figures not reproduced\n");
    let told = house.run(["verify", "--json"]).fails(5).json();
    let line = &told["figures"][0];
    assert_eq!(
        (&line["outcome"], &line["published"], &line["measured"], &line["difference_percent"]),
        (&json!("not_reproduced"), &json!(100.0), &json!(50.0), &json!(-50.0))
    );
    assert_eq!((&told["experiment"], &told["source"]), (&json!(dir), &json!("a paper")));

    let mut unread = house.tokmark(["verify"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(unread.stdout.take());
    assert_eq!(unread.wait().unwrap().code(), Some(5), "a reader that goes away hides no failure");
    // Whoever waits for its end is told that there is something to verify.
    let end = house.run(["jobs", "wait", "last"]).succeeds();
    let told = plain(&dir, &end.stdout);
    assert!(told.ends_with("results: EXPERIMENT\npublished figures: tokmark verify EXPERIMENT\n"), "{told}");
}

#[test]
fn verify_takes_several_experiments_and_the_worst_decides() {
    let house = House::new();
    let first = run(&house, &figure());
    measured(&first, 100.0);
    let second = run(&house, &figure());
    assert_ne!(first, second);
    measured(&second, 10.0);
    let both = [Path::new("verify"), &first, &second];
    let end = house.run(both).fails(5);
    assert!(end.stdout.contains("\n1 reproduced\n\nr on h100:"), "{}", end.stdout);
    assert_eq!(end.stderr, "error: 1 of 2 published figures not reproduced\n");
    let told = house.run([both[0], both[1], both[2], Path::new("--json")]).fails(5).json();
    let outcomes: Vec<&Value> =
        told.as_array().unwrap().iter().map(|one| &one["figures"][0]["outcome"]).collect();
    assert_eq!(outcomes, ["reproduced", "not_reproduced"]);
}

#[test]
fn figures_of_another_recipe_and_none_at_all() {
    let house = House::new();
    let dir = run(&house, "");
    measured(&dir, 100.0);
    let end = house.run(["verify"]).succeeds();
    assert_eq!(plain(&dir, &end.stdout), "r on h100: EXPERIMENT\nnone published (source: a paper)\n");
    house.file("later.toml", &recipe(&figure()).replace("name = \"r\"", "name = \"later\""));
    let end = house.run(["verify", "last", "--recipe", "./later.toml"]).succeeds();
    assert!(
        end.stdout.starts_with("later on h100:") && end.stdout.ends_with("\n1 reproduced\n"),
        "{}",
        end.stdout
    );
}

#[test]
fn not_an_experiment() {
    let house = House::new();
    let message = house.fails(["verify"]);
    assert!(
        message.starts_with("error: last: no such job or experiment in HOUSE/experiments\n"),
        "{message}"
    );
    house.file("results/summary.json", "{}");
    let message = house.fails(["verify", "results"]);
    assert!(message.starts_with("error: results: results without an experiment"), "{message}");
}

#[test]
fn a_figure_that_cannot_be_is_found_before_anything_runs() {
    let house = House::new();
    house.file("r.toml", &recipe(&figure().replace("output_tokens_per_s", "output_token_per_s")));
    for verb in ["check", "run"] {
        let message = house.fails([verb, "./r.toml", "--gpu", "h100"]);
        let expected = "error: ./r.toml:18: `published[1].metric`: found \"throughput.output_token_per_s\", and summary.json has no number there\n  \
            expected: a path such as throughput.output_tokens_per_s_per_gpu or ttft_ms.p99\n  \
            next: did you mean `throughput.output_tokens_per_s`?\n";
        assert_eq!(message, expected);
    }
}

#[test]
fn show_prints_the_conditions_of_a_published_figure() {
    let house = House::new();
    let more = "isl = 8\nosl = 6\nconcurrency = 2\nstreaming = true\ngpus = 4\noffline = true\ntolerance = \"5%\"\nnote = \"by hand\"\n";
    house.file("r.toml", &recipe(&format!("{}{more}", figure())));
    let end = house.run(["show", "./r.toml", "--gpu", "h100"]).succeeds();
    let expected = "published for h100 isl8_osl6_con2, offline:\n  \
        measured with ISL 8, OSL 6, concurrency 2, streaming on, 4 GPUs, engine 1\n  \
        by hand\n  \
        source: its table 3\n\
        METRIC                          VALUE\n\
        throughput.output_tokens_per_s  100 ± 5%\n";
    assert!(end.stdout.ends_with(expected), "{}", end.stdout);
}

#[test]
fn an_accepted_run_is_the_reference_of_the_next() {
    let house = House::new();
    let dir = run(&house, "");
    // A simulated run is no reference.
    let refused = house.run(["verify", "--accept"]).fails(5);
    assert!(
        refused.stderr.contains("not accepted") && !house.path().join("references.toml").exists(),
        "{}",
        refused.stderr
    );
    measured(&dir, 100.0);
    let end = house.run(["verify", "--accept"]).succeeds();
    assert!(
        end.stdout.contains(&format!("{POINT} throughput.output_tokens_per_s: 100 tok/s ±5%")),
        "{}",
        end.stdout
    );
    assert!(end.stdout.contains("4 references in references.toml"), "{}", end.stdout);
    // The run itself reproduces them, and a slower one does not.
    let end = house.run(["verify"]).succeeds();
    assert!(
        end.stdout.contains("none published (source: a paper)\n\nreferences of r on h100"),
        "{}",
        end.stdout
    );
    assert!(end.stdout.contains("4 reproduced"), "{}", end.stdout);
    measured(&dir, 90.0);
    let end = house.run(["verify"]).fails(5);
    assert!(
        end.stdout.contains("LOAD POINT      REFERENCE  MEASURED  DIFFERENCE  OUTCOME"),
        "{}",
        end.stdout
    );
    assert!(end.stdout.contains("10.0 % below the reference, tolerance 5 %"), "{}", end.stdout);
    assert!(end.stderr.contains("1 of 4 references not reproduced"), "{}", end.stderr);
    let told = house.run(["verify", "--json"]).fails(5).json();
    assert_eq!(told["references"]["counts"]["not_reproduced"], 1, "{told:#}");
    // A mistake in the file is named with its line.
    let text = std::fs::read_to_string(house.path().join("references.toml")).unwrap();
    house.file("references.toml", &text.replace("ttft_ms.p50", "ttft_ms.median"));
    assert!(house.run(["verify"]).fails(2).stderr.contains("reference[2].metric"));
}
