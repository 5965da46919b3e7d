//! Repeats of load points and the best configuration of a grid, end to end with the simulated engine.

use std::path::Path;

use serde_json::Value;

use crate::support::house::{House, house_json};

const RECIPE: &str = "summary = \"a test\"\n[model]\nname = \"org/m\"\n[deploy]\nlauncher = \"sim\"\n";

/// The points of the events of a kind, in order.
fn points(dir: &Path, kind: &str) -> Vec<String> {
    let text = fs_err::read_to_string(dir.join("events.jsonl")).unwrap();
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events
        .filter(|event| event["event"] == kind)
        .map(|event| event["point"].as_str().unwrap().to_owned())
        .collect()
}

fn tokens_per_s(summary: &Value) -> f64 {
    summary["throughput"]["output_tokens_per_s"].as_f64().unwrap()
}

#[test]
fn runs_of_one_plan_are_repeats_of_one_another() {
    let house = House::new();
    house.recipe(
        "summary = \"a test\"\n[model]\nname = \"m\"\n[deploy]\nlauncher = \"sim\"\n[deploy.engine]\nspeed = 50\n\
         [load]\nisl = 8\nosl = 4\nconcurrency = [1, 2]\nrequests = 12\n",
    );
    for _ in 0..3 {
        house.run(["run", "./r.toml"]).succeeds();
    }
    let mut all: Vec<String> = house.all().iter().map(|dir| dir.display().to_string()).collect();
    all.sort();
    assert_eq!(all.len(), 3);
    let words = |first: &[&str], rest: &[&str]| -> Vec<String> {
        first
            .iter()
            .map(|word| (*word).to_owned())
            .chain(all.clone())
            .chain(rest.iter().map(|word| (*word).to_owned()))
            .collect()
    };
    let out = house.path().join("together");
    house.run(words(&["report", "--out", &out.display().to_string()], &[])).succeeds();
    let analysis = house_json(&out.join("analysis.json"));
    let points = analysis["points"].as_array().unwrap();
    let names: Vec<&str> = points.iter().map(|point| point["point"].as_str().unwrap()).collect();
    assert_eq!(names, ["isl8_osl4_con1", "isl8_osl4_con2"]);
    for point in points {
        assert_eq!(point["repeats"]["n"], 3, "{point}");
        let figure = &point["figures"]["throughput.output_tokens_per_s"];
        assert_eq!(
            (&figure["interval"]["kind"], &figure["interval"]["n"]),
            (&"student".into(), &3.into()),
            "{figure}"
        );
    }
    assert_eq!(analysis["cold_starts"].as_array().unwrap().len(), 0, "each had servers of its own");
    let page = std::fs::read_to_string(out.join("summary.md")).unwrap();
    assert!(page.contains("(3 jobs of one plan)") && page.contains("mean of 3 repeats a point"), "{page}");
    assert!(
        page.contains("repeated by jobs with servers of their own") && !page.contains("measured once"),
        "{page}"
    );
    let results = page.split("## Results").nth(1).unwrap().split("##").next().unwrap();
    let rows: Vec<&str> =
        results.lines().filter(|line| line.starts_with("| 1 ") || line.starts_with("| 2 ")).collect();
    assert!(rows.len() == 2 && rows.iter().all(|row| row.contains('±')), "one row a load: {results}");

    let zones = house.run(words(&["zones"], &["--json"])).succeeds().json();
    assert_eq!(zones["points"].as_array().map(Vec::len), Some(2), "one series: {zones}");
    let text = house.run(words(&["zones"], &[])).succeeds().stdout;
    assert!(text.contains("concurrency 1: the mean of 3 results."), "{text}");
}

#[test]
fn points_are_repeated_in_the_order_of_the_plan_and_reported_as_means() {
    let house = House::new();
    let load = "[deploy.engine]\nspeed = 20\n[load]\nisl = 8\nosl = 6\nconcurrency = [1, 2, 3]\nrequests = 12\nrepeats = 2\n";
    house.recipe(&format!("{RECIPE}{load}"));
    let end = house.run(["run", "./r.toml", "--repeats", "3", "--json"]).succeeds();
    let dir = house.experiment();
    let plan = house_json(&dir.join("plan.json"));
    let planned: Vec<&str> = plan["deployments"][0]["order"]
        .as_array()
        .unwrap()
        .iter()
        .map(|place| {
            let place = usize::try_from(place.as_u64().unwrap()).unwrap();
            plan["deployments"][0]["points"][place]["id"].as_str().unwrap()
        })
        .collect();
    assert_eq!(planned.len(), 9, "the option goes before the recipe");
    assert_eq!(points(&dir, "point_started"), planned);
    // The repeats in the order of the recipe, then a mean for each load.
    let all = end.json();
    let ids: Vec<&str> =
        all.as_array().unwrap().iter().map(|of| of["point"]["id"].as_str().unwrap()).collect();
    assert_eq!(
        (ids.len(), ids[1], ids[9], ids[11]),
        (12, "isl8_osl6_con1_r2", "isl8_osl6_con1", "isl8_osl6_con3")
    );
    let mean = (0..3).map(|repeat| tokens_per_s(&all[repeat])).sum::<f64>() / 3.0;
    assert!((tokens_per_s(&all[9]) / mean - 1.0).abs() < 1e-9);
    assert_eq!((&all[9]["repeats"]["n"], &all[9]["repeats"]["kind"]), (&3.into(), &"student".into()));
    assert!(all[0].get("repeats").is_none() && all[0]["intervals"]["kind"] == "order_statistics");
    let csv = house.read(dir.join("summary.csv"));
    let rows: Vec<&str> = csv.lines().collect();
    assert_eq!(rows.len(), 1 + 9 + 3);
    assert_eq!(rows.iter().filter(|row| row.contains(",mean,3,")).count(), 3);
    let page = house.read(dir.join("summary.md"));
    assert!(page.contains("mean of 3 repeats a point") && page.contains("## Repeats"), "{page}");
    let analysis = house_json(&dir.join("analysis.json"));
    let figure = &analysis["points"][0]["figures"]["throughput.output_tokens_per_s"];
    assert_eq!((&figure["interval"]["n"], &figure["interval"]["level"]), (&3.into(), &0.95.into()));
    // Zones read one level per load, from the experiment and from its table.
    let path = dir.join("summary.csv").display().to_string();
    for args in [vec!["zones", "--json"], vec!["zones", "--table", &path, "--json"]] {
        let zones = house.run(&args).succeeds().json();
        assert_eq!(zones["points"].as_array().unwrap().len(), 3, "{args:?}");
        let found = zones["points"][0]["output_tokens_per_s"].as_f64().unwrap();
        assert!((found / mean - 1.0).abs() < 1e-3, "{args:?}: {found}, not {mean}");
    }
}

#[test]
fn repeats_end_when_the_figure_is_exact_enough() {
    let house = House::new();
    // Any three repeats are within 99 % of their mean unless one is several times as fast as another.
    let load = "[deploy.engine]\nspeed = 1\n[load]\nisl = 8\nosl = 6\nconcurrency = [1, 2]\nrequests = 12\nrepeats = 5\nuntil = \"ci 99%\"\n";
    house.recipe(&format!("{RECIPE}{load}"));
    let end = house.run(["run", "./r.toml"]).succeeds();
    let dir = house.experiment();
    assert_eq!(points(&dir, "point_finished").len(), 6, "{}", end.stderr);
    assert_eq!(points(&dir, "point_skipped").len(), 4);
    assert!(end.stderr.contains("3 repeats are enough"), "{}", end.stderr);
    let jobs = house.run(["jobs", "--json"]).succeeds().json();
    assert_eq!(
        (&jobs[0]["points_done"], &jobs[0]["points"]),
        (&6.into(), &6.into()),
        "nothing is left to do"
    );
}

#[test]
fn the_figure_of_until_is_one_of_the_summary() {
    let house = House::new();
    house.recipe(&format!("{RECIPE}[load]\nisl = 8\nosl = 6\nconcurrency = 1\nrepeats = 5\n"));
    let text = house.fails(["run", "./r.toml", "--set", "load.until=ci 2% of ttft_ms.p98"]);
    assert!(text.contains("\"ttft_ms.p98\"") && text.contains("did you mean `ttft_ms.p9"), "{text}");
    house.is_untouched();
}

#[test]
fn the_best_of_a_grid_is_the_one_that_the_profile_implies() {
    let house = House::new();
    // A step takes 4 ms and 20 µs a sequence. At 8 in flight 2 sequences at once make 2 / 4.04 ms = 495 tok/s, 8 make
    // 8 / 4.16 ms = 1,923: nearly 4 times as much. The longest context changes nothing.
    let load = "[deploy.engine]\nprofile = \"quick\"\n[load]\nisl = 8\nosl = 24\nconcurrency = [2, 8]\nrequests_per_concurrency = 5\n\
                [sweep.server]\n\"engine.max_num_seqs\" = [2, 16]\n\"engine.max_model_len\" = [2048, 4096]\n";
    house.recipe(&format!("{RECIPE}{load}"));
    let end = house.run(["run", "./r.toml"]).succeeds();
    assert!(end.stdout.contains("Best for throughput: max_num_seqs 16"), "{}", end.stdout);
    assert!(end.stdout.contains("Nothing was repeated"), "{}", end.stdout);
    let head = end.stdout.lines().find(|line| line.contains("conc")).unwrap();
    assert!(head.contains("max_num_seqs") && head.contains("len"), "an axis has a column: {head}");
    let dir = house.experiment();
    let best = &house_json(&dir.join("analysis.json"))["best"][0];
    assert_eq!((&best["combinations"], &best["with_figures"]), (&4.into(), &4.into()));
    let throughput = &best["objectives"][0];
    assert_eq!(
        (&throughput["objective"], &throughput["noise"]["kind"]),
        (&"throughput".into(), &"within_run".into())
    );
    assert_eq!(throughput["best"]["max_num_seqs"], "16");
    let effect = &throughput["effects"][0];
    assert_eq!((&effect["axis"], &effect["matters"]), (&"max_num_seqs".into(), &true.into()));
    // Half of a factor of 3.9 on either side of the mean: × 1.97, with room for a busy machine.
    let percent = effect["values"][1]["effect"]["percent"].as_f64().unwrap();
    assert!((30.0..150.0).contains(&percent), "{percent}");
    for configuration in throughput["configurations"].as_array().unwrap() {
        if configuration["axes"]["max_num_seqs"] == "2" {
            assert_eq!(configuration["within_noise"], false, "{configuration}");
        }
    }
    let page = house.read(dir.join("summary.md"));
    assert!(page.contains("### Configurations") && page.contains("### Effects of the axes"), "{page}");
}
