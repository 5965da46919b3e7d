//! A job whose tokmark is killed with SIGKILL in mid-measurement and that runs again, as Slurm does when it requeues it: what was
//! finished is kept, and at most the load point that ran is measured again.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::house::{House, house_json};
use crate::support::{FakeSlurm, eventually};

/// Job 7 on this machine, with the frozen plan of `r.toml`.
struct Job {
    house: House,
    fake: FakeSlurm,
}

impl Job {
    /// 8 slots of the simulated engine; an answer of 50 tokens takes 0.2 s, as in `search_e2e`.
    fn new(load: &str) -> Self {
        let (house, fake) = (House::new(), FakeSlurm::new());
        house.recipe(&format!(
            "summary = \"a test\"\n[model]\nname = \"org/m\"\n[deploy]\nlauncher = \"sim\"\n[deploy.engine]\nmax_num_seqs = 8\n\
             [load]\nisl = 16\nosl = 50\n{load}"
        ));
        fake.job("7", &[("state", "RUNNING"), ("nodes", "localhost")]);
        let script = house.run(["render", "./r.toml"]).succeeds().stdout;
        let plan =
            script.split("TOKMARK_PLAN'\n").nth(1).and_then(|rest| rest.split("\nTOKMARK_PLAN").next());
        house.file("plan.json", plan.unwrap());
        Self { house, fake }
    }

    /// The last line of its script, after so many restarts.
    fn script(&self, restarts: &str) -> Command {
        let mut command = self.house.tokmark(["exec", "--plan", "plan.json"]);
        command
            .env("PATH", FakeSlurm::path())
            .envs(self.fake.env())
            .envs([
                ("SLURM_JOB_ID", "7"),
                ("SLURM_JOB_NODELIST", "localhost"),
                ("SLURMD_NODENAME", "localhost"),
            ])
            .env("SLURM_RESTART_COUNT", restarts);
        command
    }

    /// Kills it under the load of the point of this number, and runs it again to its end. The experiment.
    fn killed_under(&self, number: usize) -> PathBuf {
        let mut first = self.script("0").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let dir = eventually("the point under which it is killed has requests", || {
            let dir = self.house.all().pop()?;
            let started = points(&dir, "point_started");
            let records = dir.join("benchmark_logs").join(started.get(number - 1)?).join("records.jsonl");
            (records.metadata().ok()?.len() > 0).then_some(dir)
        });
        kill(Pid::from_raw(i32::try_from(first.id()).unwrap()), Signal::SIGKILL).unwrap();
        first.wait().unwrap();
        assert_eq!(points(&dir, "point_finished").len(), number - 1, "it is killed under the point");
        let second = self.script("1").output().unwrap();
        assert!(second.status.success(), "{}", String::from_utf8_lossy(&second.stderr));
        assert_eq!(self.house.all(), std::slice::from_ref(&dir), "one directory");
        dir
    }
}

/// The points of the events of a kind, in order.
fn points(dir: &Path, kind: &str) -> Vec<String> {
    let text = fs_err::read_to_string(dir.join("events.jsonl")).unwrap_or_default();
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events
        .filter(|event| event["event"] == kind)
        .map(|event| event["point"].as_str().unwrap().to_owned())
        .collect()
}

/// Every finished point was finished once, those before the kill were kept, and the one that ran was measured again.
fn assert_only_the_running_one_is_lost(dir: &Path, number: usize) {
    let (started, finished) = (points(dir, "point_started"), points(dir, "point_finished"));
    let (before, running) = (&started[..number - 1], &started[number - 1]);
    assert_eq!(points(dir, "point_kept"), before);
    assert_eq!(&started[number], running, "it is measured again");
    assert_eq!([before, &started[number..]].concat(), finished, "each once");
    assert!(dir.join(format!("benchmark_logs/{running}.interrupted-1/records.jsonl")).is_file());
}

#[test]
fn a_search_that_is_killed_goes_on_and_ends_with_the_same_statement() {
    let job = Job::new(
        "requests_per_concurrency = 6\n[search]\ngoal = [\"ttft.p95 < 100ms\"]\nmax = 16\nrepeats = 1\n",
    );
    // 1, 2, 4, 8 double; 16 does not keep it.
    let dir = job.killed_under(4);
    assert_only_the_running_one_is_lost(&dir, 4);
    let search = &house_json(&dir.join("analysis.json"))["search"][0];
    assert_eq!((&search["keeps"], &search["fails"]), (&8.0.into(), &9.0.into()), "{search:#}");
    let evaluated: Vec<f64> =
        search["evaluated"].as_array().unwrap().iter().map(|one| one["load"].as_f64().unwrap()).collect();
    assert_eq!(evaluated, [1.0, 2.0, 4.0, 8.0, 16.0, 12.0, 10.0, 9.0]);
    let said = "The largest concurrency that keeps ttft.p95 < 100ms is 8 (9 does not: ttft.p95 is";
    assert!(search["sentence"].as_str().unwrap().starts_with(said), "{search:#}");
    job.house.assert_empty();
}

#[test]
fn repeats_that_are_killed_go_on_in_the_order_of_the_plan() {
    let job = Job::new("concurrency = [1, 2]\nrequests = 8\nrepeats = 3\n");
    let dir = job.killed_under(4);
    assert_only_the_running_one_is_lost(&dir, 4);
    let deployment = &house_json(&dir.join("plan.json"))["deployments"][0];
    let planned = deployment["order"].as_array().unwrap().iter().map(|place| {
        let place = usize::try_from(place.as_u64().unwrap()).unwrap();
        deployment["points"][place]["id"].as_str().unwrap().to_owned()
    });
    assert_eq!(points(&dir, "point_finished"), planned.collect::<Vec<_>>());
    // Two loads: a mean of three each.
    let csv = job.house.read(dir.join("summary.csv"));
    assert_eq!(csv.lines().filter(|row| row.contains(",mean,3,")).count(), 2, "{csv}");
}
