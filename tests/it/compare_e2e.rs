//! `tokmark compare` and `history` through the binary: the same, a slower one, other lengths, and bad usage.

use crate::support::house::House;

/// A recipe on the simulated engine, ten times as fast as it says, with so many sequences at once.
fn recipe(house: &House, max_num_seqs: u32, osl: u32) {
    house.recipe(&format!(
        "[model]\nname = \"m\"\n[deploy]\nlauncher = \"sim\"\n[deploy.engine]\nprofile = \"quick\"\nmax_num_seqs = {max_num_seqs}\n\
         [load]\nisl = 8\nosl = {osl}\nconcurrency = 8\nrequests = 64\n"
    ));
}

fn measured(house: &House, folder: &str, max_num_seqs: u32, osl: u32) -> String {
    recipe(house, max_num_seqs, osl);
    house.run(["run", "./r.toml", "--experiments", folder]).succeeds();
    let entry = std::fs::read_dir(house.path().join(folder)).unwrap().next().unwrap().unwrap();
    entry.path().display().to_string()
}

#[test]
fn the_same_is_within_noise_and_a_server_with_a_quarter_of_the_batch_is_worse() {
    let house = House::new();
    let (all, quarter) = (measured(&house, "a", 8, 8), measured(&house, "b", 2, 8));
    let same = house.run(["compare", &all, &all, "--fail-if", "output_tokens_per_s < -1%"]).succeeds().stdout;
    assert!(same.contains("The configuration is the same.\n"), "{same}");
    assert!(
        same.contains("B is not different from A beyond noise: of 8 figures 8 within noise.\n"),
        "{same}"
    );

    let end = house.run(["compare", &all, &quarter, "--fail-if", "output_tokens_per_s < -20%"]).fails(5);
    assert!(end.stdout.contains("One variable: deploy.engine.max_num_seqs 8 → 2\n"), "{}", end.stdout);
    assert!(end.stdout.contains("FAILED output_tokens_per_s < -20%: -"), "{}", end.stdout);
    assert!(end.stderr.contains("1 figure failed --fail-if"), "{}", end.stderr);
    assert!(
        end.stdout
            .lines()
            .all(|line| line.chars().count() <= 80 || line.contains("against A: ") || line.contains("B: ")),
        "{}",
        end.stdout
    );
    let json = house.run(["compare", &all, &quarter, "--json"]).succeeds().json();
    let figure = &json["points"][0]["figures"][0];
    assert_eq!(
        (&figure["figure"], &figure["verdict"]),
        (&"throughput.output_tokens_per_s".into(), &"worse".into())
    );
    assert!(figure["difference"].as_f64().unwrap() < -0.2, "{figure}");
    // The other way round it is better.
    let page = house.run(["compare", &quarter, &all, "--markdown"]).succeeds().stdout;
    assert!(page.contains("\n| isl8_osl8_con8 | tok/s |") && page.contains("| better |"), "{page}");
}

#[test]
fn other_lengths_are_compared_only_when_asked() {
    let house = House::new();
    let (short, long) = (measured(&house, "a", 8, 8), measured(&house, "b", 8, 16));
    let end = house.run(["compare", &short, &long]).fails(2);
    assert!(end.stdout.contains("other lengths: ISL 8"), "{}", end.stdout);
    assert!(end.stderr.contains("--anyway compares other models and lengths"), "{}", end.stderr);
    let end = house.run(["compare", &short, &long, "--anyway"]).succeeds();
    assert!(end.stdout.contains("E2E p50"), "{}", end.stdout);
}

#[test]
fn bad_usage_is_named() {
    let house = House::new();
    std::fs::create_dir(house.path().join("empty")).unwrap();
    for (args, words) in [
        (&["nothing", "nowhere"][..], "no such job or experiment"),
        (&["empty", "empty"], "empty"),
        (&["x", "y", "--fail-if", "ttft_ms.p99"], "no `<` or `>`"),
        (&["x", "y", "--fail-if", "tfft_ms.p99 > 1%"], "did you mean `ttft_ms.p99`?"),
        (&["x", "y", "--figure", "speed"], "no figure \"speed\""),
        (&["x"], "required"),
    ] {
        let end = house.run(["compare"].iter().chain(args)).fails(2);
        assert!(end.stderr.contains(words), "{args:?}: {}", end.stderr);
    }
}

#[test]
fn history_holds_the_newest_run_against_those_before_it() {
    let house = House::new();
    assert!(house.run(["history"]).succeeds().stderr.contains("no measured load point in "));
    for max_num_seqs in [8, 2] {
        recipe(&house, max_num_seqs, 8);
        house.run(["run", "./r.toml", "--experiments", "e"]).succeeds();
    }
    let history = ["history", "--experiments", "e"];
    let text = house.run(history).succeeds().stdout;
    assert!(text.contains("isl8_osl8_con8 (simulated)\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let rows = house.run(history.iter().chain(&["--csv"])).succeeds().stdout;
    assert_eq!(rows.lines().count(), 3, "{rows}");
    let gate = ["--fail-if", "output_tokens_per_s < -20%", "--junit", "j.xml", "--json"];
    let end = house.run(history.iter().chain(&gate)).fails(5);
    assert!(
        end.stderr.contains("FAILED") && end.stderr.contains("1 of the load points regressed"),
        "{}",
        end.stderr
    );
    assert!(house.read("j.xml").contains("tests=\"1\" failures=\"1\""), "{}", house.read("j.xml"));
    let earlier = &end.json()[0]["runs"][1]["figures"]["throughput.output_tokens_per_s"]["earlier"];
    assert!(earlier["difference"].as_f64().unwrap() < -0.2, "{earlier}");
    for nobody in [["--recipe", "none"], ["--gpu", "none"], ["--since", "2999-01-01"], ["--engine", "none"]] {
        let rows = house.run(history.iter().chain(&["--csv"]).chain(&nobody)).succeeds().stdout;
        // A GPU type that nobody named is called so.
        let expected = if nobody[0] == "--gpu" { 3 } else { 1 };
        assert_eq!(rows.lines().count(), expected, "{nobody:?}: {rows}");
    }
    house.run(["history", "--since", "yesterday"]).fails(2);
}
