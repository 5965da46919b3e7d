//! Jobs whose load generator was killed in mid-run: what `jobs` says of them, and the attempt after a requeue.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::house::House;
use crate::support::{FakeSlurm, eventually};

const POINT: &str = "isl8_osl30000_con1";

/// A job that answers one request for minutes.
fn endless(house: &House) {
    house.recipe(
        "summary = \"a test\"\n[model]\nname = \"org/m\"\n[deploy]\nlauncher = \"sim\"\nstop_grace = \"2s\"\n\
         engine = { profile = \"quick\" }\n[telemetry]\ninterval = \"100ms\"\n[load]\nisl = 8\nosl = 30000\nconcurrency = 1\nrequests = 1\n",
    );
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The process of attempt `number` once it has sent its request.
fn under_load(dir: &Path, number: usize) -> Pid {
    let pid = eventually("a load", || {
        let started =
            lines(&dir.join("events.jsonl")).into_iter().filter(|event| event["event"] == "started");
        let pid = started.collect::<Vec<_>>().get(number)?["pid"].as_u64()?;
        let last = lines(&dir.join("telemetry/client.jsonl")).pop()?;
        (last["pid"].as_u64() == Some(pid) && last["sent"].as_u64() > Some(0)).then_some(pid)
    });
    Pid::from_raw(i32::try_from(pid).unwrap())
}

/// A fake cluster that runs jobs, and a command on it.
struct Cluster {
    house: House,
    fake: FakeSlurm,
}

impl Cluster {
    fn new() -> Self {
        let cluster = Self { house: House::new(), fake: FakeSlurm::new() };
        cluster.fake.write("run_jobs", "");
        endless(&cluster.house);
        cluster
    }

    fn env(&self) -> Vec<(String, String)> {
        let path = FakeSlurm::path().to_string_lossy().into_owned();
        let own = [("PATH".to_owned(), path), ("TOKMARK_SLURM_POLL_MS".to_owned(), "20".to_owned())];
        own.into_iter().chain(self.fake.env()).collect()
    }

    fn run(&self, args: &[&str]) -> String {
        let env = self.env();
        let env: Vec<(&str, &str)> =
            env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.house.run_with(args, &env).succeeds().stdout
    }

    /// What `jobs` prints, its lines joined.
    fn told(&self, args: &[&str]) -> String {
        self.run(args).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Submits the job, and gives its experiment.
    fn submit(&self) -> PathBuf {
        self.run(&["submit", "./r.toml"]);
        eventually("the experiment", || self.house.all().pop())
    }

    fn state(&self) -> String {
        std::fs::read_to_string(self.fake.dir().join("jobs/1/state")).unwrap_or_default()
    }
}

#[test]
fn a_job_that_slurm_ended_for_want_of_memory_names_the_load_generator_and_the_next_attempt_says_so() {
    let cluster = Cluster::new();
    let dir = cluster.submit();
    kill(under_load(&dir, 0), Signal::SIGKILL).unwrap();
    eventually("the job has ended", || (cluster.state() == "FAILED").then_some(()));
    // What Slurm makes of a batch step in whose cgroup the kernel killed a task.
    cluster.fake.job(
        "1",
        &[("state", "OUT_OF_MEMORY"), ("exit", "0:125"), ("reason", "OutOfMemory"), ("nodes", "localhost")],
    );
    // It is in the accounting alone.
    cluster.fake.write("squeue.hide", "1\n");
    let killed = format!("the load generator was killed in the middle of {POINT}, out of memory: ");
    let list = cluster.told(&["jobs", "list"]);
    assert!(list.contains("1 OUT_OF_MEMORY 0/1") && list.contains(&killed), "{list}");
    assert!(!list.contains("last sample"), "the evidence is in `jobs show`: {list}");
    let show = cluster.told(&["jobs", "show", "1"]);
    assert!(
        show.contains(&killed) && show.contains("Slurm found an OOM kill in its step; last sample"),
        "{show}"
    );
    let json: Value = serde_json::from_str(&cluster.run(&["jobs", "show", "1", "--json"])).unwrap();
    assert_eq!(json["state"], "OUT_OF_MEMORY", "{json}");
    assert!(json["failure"].as_str().unwrap().starts_with("the job ended OUT_OF_MEMORY"), "{json}");

    // Slurm runs the same script again with the same job id.
    std::fs::remove_file(cluster.fake.dir().join("squeue.hide")).unwrap();
    cluster.fake.job("1", &[("state", "RUNNING"), ("reason", "None"), ("nodes", "localhost")]);
    let script = cluster.fake.dir().join("jobs/1/slurm_script");
    let mut again = Command::new(script);
    let output = std::fs::File::create(cluster.house.path().join("again.out")).unwrap();
    again.current_dir(cluster.house.path()).envs(cluster.env()).stdin(Stdio::null());
    again.stdout(output.try_clone().unwrap()).stderr(output);
    let job = [
        ("SLURM_JOB_ID", "1"),
        ("SLURM_JOB_NODELIST", "localhost"),
        ("SLURM_JOB_NUM_NODES", "1"),
        ("SLURMD_NODENAME", "localhost"),
        ("SLURM_CLUSTER_NAME", "fake"),
        ("SLURM_RESTART_COUNT", "1"),
    ];
    let mut again = again.envs(job).spawn().unwrap();
    let second = under_load(&dir, 1);
    let events = lines(&dir.join("events.jsonl"));
    let lost: Vec<&Value> = events.iter().filter(|event| event["event"] == "attempt_lost").collect();
    let [lost] = lost.as_slice() else { panic!("{events:?}") };
    let cause = lost["cause"].as_str().unwrap();
    assert!(cause.starts_with(&format!("the load generator was killed in the middle of {POINT}")), "{cause}");
    assert!(cause.contains("last sample"), "{cause}");
    let text = std::fs::read_to_string(cluster.house.path().join("again.out")).unwrap();
    assert!(text.contains("the attempt before: the load generator was killed"), "{text}");
    kill(second, Signal::SIGTERM).unwrap();
    again.wait().unwrap();
}

#[test]
fn a_job_whose_load_generator_got_signal_9_says_so_without_a_word_of_memory() {
    let cluster = Cluster::new();
    let dir = cluster.submit();
    kill(under_load(&dir, 0), Signal::SIGKILL).unwrap();
    eventually("the job has ended", || (cluster.state() == "FAILED").then_some(()));
    let list = cluster.told(&["jobs", "list"]);
    assert!(list.contains("1 FAILED 0/1"), "{list}");
    assert!(
        list.contains(&format!("the load generator was killed in the middle of {POINT} (kill -9")),
        "{list}"
    );
    let json: Value = serde_json::from_str(&cluster.run(&["jobs", "list", "--json"])).unwrap();
    let failure = json[0]["failure"].as_str().unwrap();
    assert!(failure.contains("no OOM kill is counted since") && failure.contains("last sample"), "{failure}");
}
