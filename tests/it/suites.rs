//! Suites end to end: `run -f` here with the simulated engine, `submit -f` with the fake Slurm, `jobs` on both. What a file
//! of jobs plans is in `workloads`, the same on a real cluster in `slurm`.

use std::path::{Path, PathBuf};

use crate::support::house::{End, House, Running, house_json};
use crate::support::{FakeSlurm, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

/// A recipe on the simulated engine, over in a moment.
fn recipe(house: &House, name: &str, engine: &str, load: &str) {
    let text = format!(
        "schema = 1\nname = \"{name}\"\nsummary = \"a test\"\n[model]\nname = \"org/m\"\n[deploy]\nlauncher = \"sim\"\n\
         stop_grace = \"3s\"\n[deploy.engine]\nspeed = 20\n{engine}\n[load]\nisl = 8\nosl = 6\n{load}\n"
    );
    house.file(&format!("{name}.toml"), &text);
}

/// Directories of the experiments folder: the suite's, and the others.
fn split(house: &House) -> (PathBuf, Vec<PathBuf>) {
    let (mut suites, rest): (Vec<PathBuf>, Vec<PathBuf>) =
        house.all().into_iter().partition(|dir| dir.join("suite.json").exists());
    assert_eq!(suites.len(), 1, "{suites:?}");
    (suites.remove(0), rest)
}

/// Cells of the line of a table that starts with a name.
#[track_caller]
fn cells(text: &str, name: &str) -> Vec<String> {
    let line = text.lines().find(|line| line.trim_start().starts_with(name));
    let line = line.unwrap_or_else(|| panic!("{name:?} in {text}"));
    line.split_whitespace().map(str::to_owned).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const FILE: &str = "name = \"pair\"\nsummary = \"one that starts and one that does not\"\n\
                    [[job]]\nrecipe = \"broken.toml\"\n[[job]]\nrecipe = \"good.toml\"\nset = { \"load.isl\" = [8, 9] }\n";

/// The suite of [`FILE`], run here.
fn ran() -> (House, End) {
    let house = House::new();
    recipe(&house, "good", "", "concurrency = [1, 2]\nrequests = 4");
    recipe(&house, "broken", "crash_after = 1", "concurrency = 1\nrequests = 4");
    house.file("suite.toml", FILE);
    let end = house.run(["run", "-f", "suite.toml"]).fails(4);
    (house, end)
}

#[test]
fn a_recipe_that_does_not_start_is_a_row_beside_those_that_ran() {
    let (house, end) = ran();
    assert_eq!(end.stdout.matches("RECIPE").count(), 1, "one table: {}", end.stdout);
    assert!(end.stdout.contains("SIMULATED"), "{}", end.stdout);
    let heads: Vec<&str> =
        end.stdout.lines().filter(|line| line.starts_with("good") || line.starts_with("broken")).collect();
    assert_eq!(heads.len(), 3, "{heads:?}");
    assert_eq!(cells(heads[0], "broken"), ["broken", "-", "-", "-", "-", "-", "-", "FAILED"]);
    assert_eq!(heads[1..], ["good load.isl=8", "good load.isl=9"]);
    let points: Vec<Vec<String>> = end
        .stdout
        .lines()
        .filter(|line| line.trim_start().starts_with("isl"))
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect();
    let of = |row: &Vec<String>| (row[0].clone(), row[1].clone(), row.len());
    let point = |name: &str, load: &str| (name.to_owned(), load.to_owned(), 8);
    assert_eq!(
        points.iter().map(of).collect::<Vec<_>>(),
        [point("isl8_osl6", "1"), point("isl8_osl6", "2"), point("isl9_osl6", "1"), point("isl9_osl6", "2")]
    );
    let table = end.stdout.lines().take_while(|line| *line != "latencies in ms");
    assert!(table.into_iter().all(|line| line.chars().count() <= 80), "{}", end.stdout);
    let reason = end.stdout.lines().find(|line| line.starts_with("! broken: ")).unwrap();
    assert!(reason.contains("server-0") && !reason.contains("experiment"), "{reason}");
    assert!(
        end.stderr.contains("1 of 3 jobs did not end well") && end.stderr.contains("crash"),
        "{}",
        end.stderr
    );
    house.assert_empty();
}

#[test]
fn a_suite_writes_a_receipt_and_a_table() {
    let (house, end) = ran();
    let (suite, experiments) = split(&house);
    assert_eq!(experiments.len(), 3);
    let id = suite.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(regex::Regex::new(r"^pair_\d{8}T\d{6}Z$").unwrap().is_match(&id), "{id}");
    assert!(end.stdout.ends_with(&format!("suite: {}\n", suite.display())), "{}", end.stdout);
    assert_eq!(names(&suite), ["suite.json", "suite.toml", "summary.csv", "summary.md"]);
    assert_eq!(house.read(suite.join("suite.toml")), FILE);
    let receipt = house_json(&suite.join("suite.json"));
    assert_eq!((&receipt["schema"], &receipt["name"]), (&1.into(), &"pair".into()));
    let jobs = receipt["jobs"].as_array().unwrap();
    let told: Vec<(&str, bool, usize)> = jobs
        .iter()
        .map(|job| {
            let dir = house.experiments().join(job["experiment"].as_str().unwrap());
            let differs = job["differs"].as_array().map_or(0, Vec::len);
            (job["recipe"].as_str().unwrap(), dir.join("manifest.json").exists(), differs)
        })
        .collect();
    assert_eq!(told, [("broken", true, 0), ("good", true, 1), ("good", true, 1)]);
    let page = house.read(suite.join("summary.md"));
    assert!(page.starts_with("# pair\n\none that starts and one that does not\n\n**SIMULATED"), "{page}");
    let csv = house.read(suite.join("summary.csv"));
    assert_eq!(csv.lines().count(), 1 + 1 + 4, "{csv}");
    assert_eq!(csv.matches(",COMPLETED,").count(), 4, "{csv}");

    let listed = house.run(["jobs", "list", "--json"]).succeeds().json();
    assert_eq!(listed.as_array().unwrap().len(), 3, "the suite is no experiment");
    let table = &end.stdout[end.stdout.find("SIMULATED").unwrap()..end.stdout.find("\nsuite: ").unwrap()];
    for name in ["pair", id.as_str(), "last-suite", &suite.display().to_string()] {
        let shown = house.run(["jobs", "show", name]).succeeds().stdout;
        assert!(shown.starts_with("suite pair, 3 of 3 ended\n") && shown.ends_with(table), "{name}: {shown}");
        assert!(house.run(["jobs", "wait", name]).fails(4).stdout.contains(table), "{name}");
    }
    // They are derived: whoever finds all ended writes them.
    std::fs::remove_file(suite.join("summary.md")).unwrap();
    let json = house.run(["jobs", "show", "pair", "--json"]).succeeds().json();
    let states: Vec<(&Value, usize)> = json
        .as_array()
        .unwrap()
        .iter()
        .map(|job| (&job["state"], job["results"].as_array().unwrap().len()))
        .collect();
    let completed = Value::from("COMPLETED");
    assert_eq!(states, [(&"FAILED".into(), 0), (&completed, 2), (&completed, 2)]);
    assert_eq!(house.read(suite.join("summary.md")), page);
    let end = house.run(["jobs", "cancel", "pair"]).succeeds();
    assert_eq!(end.stdout.matches("has ended already").count(), 3, "{}", end.stdout);
    let end = house.run(["jobs", "log", "pair"]).fails(2);
    assert!(end.stderr.contains("is a suite") && end.stderr.contains("one of its jobs: "), "{}", end.stderr);
    assert!(house.run(["jobs", "show", "pairs"]).fails(2).stderr.contains("an experiment or a suite"));
}

/// A suite whose first experiment goes on for ten minutes; once that runs.
fn long_suite(house: &House) -> Running {
    recipe(house, "long", "", "concurrency = 2\nduration = \"600s\"");
    recipe(house, "good", "", "requests = 4");
    house.file("suite.toml", "[[job]]\nrecipe = \"long.toml\"\n[[job]]\nrecipe = \"good.toml\"\n");
    let running = house.start(["run", "--file", "suite.toml", "--json"]);
    eventually("the first point", || {
        let logs = house.all().into_iter().map(|dir| dir.join("benchmark_logs/records.jsonl"));
        logs.into_iter().find(|path| std::fs::metadata(path).is_ok_and(|file| file.len() > 0))
    });
    running
}

#[test]
fn an_interruption_ends_the_whole_suite() {
    let house = House::new();
    let running = long_suite(&house);
    let shown = house.run(["jobs", "show", "suite"]).succeeds().stdout;
    assert!(shown.starts_with("suite suite, 0 of 2 ended\n"), "{shown}");
    assert_eq!(
        (cells(&shown, "long")[7].as_str(), cells(&shown, "good").last().unwrap().as_str()),
        ("RUNNING", "STARTED")
    );
    let (suite, _) = split(&house);
    assert_eq!(names(&suite), ["suite.json", "suite.toml"], "no summary before the end");
    running.signal(Signal::SIGINT);
    let told = running.finish().fails(130).json();
    let of = |key: &str| told.as_array().unwrap().iter().map(|job| job[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("state"), ["INTERRUPTED", "INTERRUPTED"]);
    assert!(of("failure")[1].as_str().unwrap().starts_with("not run: "), "{told}");
    assert!(names(&suite).contains(&"summary.md".to_owned()));
    house.assert_empty();
}

/// Removes the experiment of a job of a suite.
fn lose(house: &House, suite: &Path, number: usize) {
    let receipt = house_json(&suite.join("suite.json"));
    let name = receipt["jobs"][number]["experiment"].as_str().unwrap().to_owned();
    std::fs::remove_dir_all(house.experiments().join(name)).unwrap();
}

#[test]
fn a_job_lost_while_the_suite_runs_fails_the_suite() {
    let house = House::new();
    recipe(&house, "slow", "", "concurrency = 2\nduration = \"4s\"");
    recipe(&house, "good", "", "requests = 4");
    house.file("suite.toml", "[[job]]\nrecipe = \"slow.toml\"\n[[job]]\nrecipe = \"good.toml\"\n");
    let running = house.start(["run", "-f", "suite.toml"]);
    let suite =
        eventually("the receipt", || house.all().into_iter().find(|dir| dir.join("suite.json").exists()));
    lose(&house, &suite, 1);
    let end = running.finish().fails(3);
    assert_eq!(cells(&end.stdout, "good").pop().unwrap(), "LOST", "{}", end.stdout);
    assert!(end.stdout.contains("\n! good: ") && !end.stdout.contains("\n! slow: "), "{}", end.stdout);
    assert!(end.stderr.contains("[2/2] failed: "), "{}", end.stderr);
    assert!(end.stderr.contains("1 of 2 jobs did not end well\nm_8_6_"), "{}", end.stderr);
    assert!(house.read(suite.join("summary.md")).contains("LOST"));
    house.assert_empty();
}

#[test]
fn an_interrupted_suite_writes_its_table_without_a_lost_directory() {
    let house = House::new();
    let running = long_suite(&house);
    let (suite, _) = split(&house);
    lose(&house, &suite, 1);
    running.signal(Signal::SIGINT);
    let told = running.finish().fails(130).json();
    let states: Vec<&Value> = told.as_array().unwrap().iter().map(|job| &job["state"]).collect();
    assert_eq!(states, ["INTERRUPTED", "LOST"]);
    assert!(told[1]["failure"].as_str().unwrap().starts_with("not run: "), "{told}");
    assert_eq!(names(&suite), ["suite.json", "suite.toml", "summary.csv", "summary.md"]);
    house.assert_empty();
}

#[test]
fn verify_names_the_missing_experiments_of_a_suite() {
    let house = House::new();
    recipe(&house, "good", "", "requests = 4");
    house.file("suite.toml", "[[job]]\nrecipe = \"good.toml\"\nset = { \"load.isl\" = [8, 9] }\n");
    house.run(["run", "-f", "suite.toml"]);
    let (suite, _) = split(&house);
    assert_eq!(house.run(["verify", "suite"]).succeeds().stderr, "");
    lose(&house, &suite, 1);
    let end = house.run(["verify", "suite"]).succeeds();
    assert_eq!(end.stdout.matches("none published").count(), 1, "{}", end.stdout);
    assert!(end.stderr.contains("good load.isl=9: it left no experiment in "), "{}", end.stderr);
    assert!(!end.stderr.contains("load.isl=8"), "{}", end.stderr);
    lose(&house, &suite, 0);
    let end = house.run(["verify", "suite"]).fails(2);
    assert!(end.stdout.is_empty() && end.stderr.contains("a suite without experiments"), "{end:?}");
}

#[test]
fn jobs_cancel_ends_a_suite_that_runs_here() {
    let house = House::new();
    let running = long_suite(&house);
    let waiting = house.start(["jobs", "wait", "suite"]);
    let end = house.run(["jobs", "cancel", "suite"]).succeeds();
    assert!(end.stdout.starts_with("asked suite_") && end.stdout.ends_with(" to stop\n"), "{}", end.stdout);
    running.finish().fails(130);
    waiting.finish().fails(130);
    house.assert_empty();
}

#[test]
fn all_mistakes_of_a_suite_are_reported_before_anything_is_made() {
    let house = House::new();
    recipe(&house, "good", "", "requests = 4");
    house.file(
        "suite.toml",
        "[[job]]\nrecipe = \"good.toml\"\n[[job]]\nrecipe = \"nothing\"\n[[job]]\nrecipe = \"./none.toml\"\n\
         [[job]]\nrecipe = \"good.toml\"\nset = { \"load.ols\" = 4 }\n",
    );
    for verb in ["run", "submit"] {
        let error = house.fails([verb, "-f", "suite.toml"]);
        for part in [
            "suite.toml:3: `recipe`: \"nothing\": no recipe of this name",
            "suite.toml:5: `recipe`: \"./none.toml\": there is no such file",
            "suite.toml:7: --set load.ols=4",
            "did you mean `osl`",
        ] {
            assert!(error.contains(part), "{verb}: {part} in {error}");
        }
    }
    house.file("suite.toml", "[[jobs]]\nrecipe = \"good.toml\"\n");
    assert!(house.fails(["run", "-f", "suite.toml"]).contains("suite.toml:1:3: `jobs`: unknown key `jobs`"));
    house.fails(["run", "-f", "suite.toml", "good.toml"]);
    house.fails(["run", "-f", "suite.toml", "--scale", "2"]);
    house.fails(["run"]);
}

#[test]
fn the_shipped_example_runs() {
    let house = House::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/suite.toml");
    let example = example.display().to_string();
    let few = ["--set", "load.requests_per_concurrency=2", "--set", "load.osl=4"];
    let end = house.run([&["run", "-f", &example][..], &few].concat()).succeeds();
    let rows =
        end.stdout.lines().filter(|line| line.starts_with("  isl128_osl4") || line.starts_with("quickstart"));
    assert_eq!(rows.count(), (1 + 2) + 2 * (1 + 1), "{}", end.stdout);
    let heads: Vec<&str> = end.stdout.lines().filter(|line| line.starts_with("quickstart")).collect();
    assert_eq!(
        heads,
        [
            "quickstart load.concurrency=1,4",
            "quickstart STREAMING=false load.concurrency=8",
            "quickstart STREAMING=false load.concurrency=16"
        ],
        "what differs is told across [[job]] tables, what they share is not"
    );
    let (suite, experiments) = split(&house);
    assert_eq!(experiments.len(), 3);
    assert_eq!(house_json(&suite.join("suite.json"))["name"], "quickstart-twice");
}

/// The fake Slurm, and `tokmark` in a house that sees it.
struct Cluster {
    house: House,
    fake: FakeSlurm,
}

impl Cluster {
    fn new() -> Self {
        let cluster = Self { house: House::new(), fake: FakeSlurm::new() };
        recipe(&cluster.house, "good", "", "requests = 4");
        recipe(&cluster.house, "broken", "crash_after = 1", "requests = 4");
        cluster.house.file(
            "suite.toml",
            "[[job]]\nrecipe = \"good.toml\"\n[[job]]\nrecipe = \"broken.toml\"\nrepeats = 2\n",
        );
        cluster
    }

    fn run(&self, args: &[&str]) -> End {
        self.run_with(args, &[])
    }

    fn run_with(&self, args: &[&str], more: &[(&str, &str)]) -> End {
        let path = FakeSlurm::path().into_string().unwrap();
        let mut env = vec![("PATH", path.as_str()), ("TOKMARK_SLURM_POLL_MS", "20")];
        let of_fake = self.fake.env();
        env.extend(of_fake.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        env.extend(more);
        self.house.run_with(args, &env)
    }
}

#[test]
fn a_submitted_suite_ends_in_one_table_of_its_jobs() {
    let cluster = Cluster::new();
    cluster.fake.write("run_jobs", "");
    let end = cluster.run(&["submit", "-f", "suite.toml", "--wait"]).fails(4);
    let (suite, experiments) = split(&cluster.house);
    assert_eq!(experiments.len(), 3, "one a job: {experiments:?}");
    assert!(end.stdout.contains(&format!("suite: {}\n", suite.display())), "{}", end.stdout);
    assert_eq!(end.stdout.matches("RECIPE").count(), 1, "{}", end.stdout);
    let verdict = cells(&end.stdout, "good").pop().unwrap();
    assert!(["valid", "suspect"].contains(&verdict.as_str()), "a busy machine may be late: {}", end.stdout);
    assert_eq!(cells(&end.stdout, "broken 1/2")[2..].last().unwrap(), "FAILED");
    assert_eq!(cells(&end.stdout, "broken 2/2")[2..].last().unwrap(), "FAILED");
    assert!(end.stderr.contains("2 of 3 jobs did not end well\njob 2: "), "{}", end.stderr);
    let receipt = house_json(&suite.join("suite.json"));
    let jobs: Vec<&str> =
        receipt["jobs"].as_array().unwrap().iter().map(|job| job["job"].as_str().unwrap()).collect();
    assert_eq!((jobs, &receipt["pid"]), (vec!["1", "2", "3"], &Value::Null));
    assert!(suite.join("summary.csv").is_file());
}

#[test]
fn a_suite_in_the_queue_is_shown_and_cancelled_by_its_name() {
    let cluster = Cluster::new();
    let end = cluster.run(&["submit", "-f", "suite.toml"]).succeeds();
    let (suite, experiments) = split(&cluster.house);
    let id = suite.file_name().unwrap().to_str().unwrap();
    assert!(end.stdout.ends_with(&format!("next: tokmark jobs wait {id}\n      tokmark jobs show {id}\n")));
    let shown = cluster.run(&["jobs", "show", "suite"]).succeeds().stdout;
    assert!(
        shown.starts_with("suite suite, 0 of 3 ended\n") && shown.matches("PENDING").count() == 3,
        "{shown}"
    );
    assert!(!suite.join("summary.md").exists());
    // A directory that is lost does not keep its job from being cancelled.
    std::fs::remove_dir_all(experiments.iter().find(|dir| dir.ends_with("m_8_6_auto_1_3")).unwrap()).unwrap();
    let end = cluster.run(&["jobs", "cancel", "suite"]).succeeds();
    let mut lines: Vec<&str> = end.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["cancelled job 1", "cancelled job 2", "cancelled job 3"]);
    let end = cluster.run(&["jobs", "wait", "suite"]).fails(3);
    assert!(end.stdout.contains("\n! broken 2/2: it left no experiment in "), "{}", end.stdout);
    let rows = end.stdout.lines().filter(|line| line.ends_with("  CANCELLED"));
    assert_eq!(rows.count(), 3, "{}", end.stdout);
    assert!(cluster.house.read(suite.join("summary.md")).contains("CANCELLED"));
}

#[test]
fn what_could_not_be_submitted_stays_a_part_of_the_suite() {
    let cluster = Cluster::new();
    cluster.fake.write("run_jobs", "");
    // The fake cluster has one node.
    let wide = cluster.house.read("good.toml").replace("\"good\"", "\"wide\"");
    cluster.house.file("wide.toml", &format!("{wide}[slurm]\ndirectives = [\"--nodes=9\"]\n"));
    let jobs = ["good", "wide", "broken"].map(|name| format!("[[job]]\nrecipe = \"{name}.toml\"\n"));
    cluster.house.file("suite.toml", &jobs.concat());
    let end = cluster.run(&["submit", "-f", "suite.toml"]).fails(3);
    assert!(end.stderr.contains("1 of 3 jobs are submitted: 1 (suite "), "{}", end.stderr);
    let end = cluster.run(&["jobs", "wait", "suite"]).fails(3);
    for name in ["wide", "broken"] {
        assert!(cells(&end.stdout, name).ends_with(&["NOT".into(), "SUBMITTED".into()]), "{}", end.stdout);
        assert!(end.stdout.contains(&format!("\n! {name}: it was not submitted\n")), "{}", end.stdout);
        assert!(end.stderr.contains(&format!("\n{name}: it was not submitted")), "{}", end.stderr);
    }
    let shown = cluster.run(&["jobs", "show", "suite"]).succeeds().stdout;
    assert!(shown.starts_with("suite suite, 3 of 3 ended\n"), "{shown}");
    let told = cluster.run(&["jobs", "show", "suite", "--json"]).succeeds().json();
    assert_eq!((&told[1]["state"], &told[1]["experiment"]), (&"NOT SUBMITTED".into(), &Value::Null));
    let end = cluster.run(&["verify", "suite"]).succeeds();
    assert!(end.stderr.contains("wide: it was not submitted"), "{}", end.stderr);
    let end = cluster.run(&["jobs", "log", "suite"]).fails(2);
    assert!(end.stderr.contains("one of its jobs: 1\n"), "{}", end.stderr);
}

#[test]
fn a_dry_run_makes_no_suite() {
    let cluster = Cluster::new();
    let end = cluster.run(&["submit", "-f", "suite.toml", "--dry-run"]).succeeds();
    assert!(end.stdout.starts_with("# job 1 of 3: good, 1 GPU\n"), "{}", end.stdout);
    cluster.house.is_untouched();
}

#[test]
fn a_suite_inside_an_allocation_runs_in_it_and_is_not_the_job() {
    let cluster = Cluster::new();
    cluster.fake.job("7", &[("state", "RUNNING"), ("nodes", "localhost")]);
    let inside =
        [("SLURM_JOB_ID", "7"), ("SLURM_JOB_NODELIST", "localhost"), ("SLURMD_NODENAME", "localhost")];
    let end = cluster.run_with(&["run", "-f", "suite.toml"], &inside).fails(4);
    assert_eq!(end.stderr.matches("inside job 7: the servers run on localhost").count(), 1, "{}", end.stderr);
    assert_eq!(end.stdout.matches("FAILED\n").count(), 2, "{}", end.stdout);
    let (suite, experiments) = split(&cluster.house);
    let receipt = house_json(&suite.join("suite.json"));
    std::fs::remove_dir_all(&experiments[0]).unwrap();
    assert!(receipt["jobs"].as_array().unwrap().iter().all(|job| job["job"] == "7"), "{receipt}");
    let end = cluster.run(&["jobs", "cancel", "suite"]).succeeds();
    assert_eq!(end.stdout.matches("has ended already").count(), 2, "{}", end.stdout);
    assert!(!cluster.fake.calls().contains(&["scancel", "7"].map(str::to_owned).to_vec()));
}
