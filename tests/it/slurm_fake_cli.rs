//! The built binary's `submit` and `jobs` against fake Slurm tools: banners, refusals, laggards, and no Slurm at all.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::support::FakeSlurm;

const TINY: &str = r#"
schema = 1
name = "tiny"
summary = "never run"
[model]
name = "m/tiny"
[deploy]
launcher = "sim"
[load]
isl = 16
osl = 4
concurrency = 1
requests = 2
"#;

/// A folder with a recipe, and a fake cluster.
struct Desk {
    dir: tempfile::TempDir,
    fake: FakeSlurm,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tiny.toml"), TINY).unwrap();
        Self { dir, fake: FakeSlurm::new() }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokmark"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("PATH", FakeSlurm::path())
            .envs(self.fake.env())
            .env("HOME", self.dir.path())
            .env("TOKMARK_SLURM_POLL_MS", "5")
            .env_remove("TOKMARK_SITE")
            .env_remove("XDG_CONFIG_HOME");
        command
    }

    fn experiments(&self) -> PathBuf {
        self.dir.path().join("experiments")
    }
}

/// Exit code, stdout, stderr.
fn said(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn a_job_id_is_found_among_banners_and_names_the_directory() {
    let desk = Desk::new();
    let mut submit = desk.command(&["submit", "tiny.toml", "--slurm-arg=--nice=5"]);
    let (code, out, err) = said(submit.env("FAKE_SLURM_BANNER", "1"));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let dir = desk.experiments().join("tiny_16_4_auto_1_1");
    let next = "next: tokmark jobs wait 1 | tokmark jobs log 1";
    assert_eq!(out, format!("submitted job 1\nresults: {}\n{next}\n", dir.display()));
    for name in ["manifest.json", "plan.json", "recipe.toml", "job.sbatch"] {
        assert!(dir.join(name).is_file(), "{name}");
    }
    let calls = desk.fake.calls();
    assert_eq!(
        (calls.len(), &calls[0][..3]),
        (1, &["sbatch", "--parsable", "--nice=5"].map(str::to_owned)[..])
    );
    let script = PathBuf::from(&calls[0][3]);
    assert!(!script.exists(), "Slurm has its copy, and the directory another");
}

#[test]
fn a_refusal_advises_and_leaves_nothing() {
    let desk = Desk::new();
    desk.fake.write("sbatch.stderr", "sbatch: error: invalid partition specified: nope\n");
    desk.fake.write("sbatch.rc", "1");
    let (code, out, err) = said(&mut desk.command(&["submit", "tiny.toml"]));
    assert_eq!((code, out.as_str()), (3, ""), "{err}");
    for part in ["invalid partition specified: nope", "`[slurm] partition`", "site.toml"] {
        assert!(err.contains(part), "{part} in {err}");
    }
    assert!(!desk.experiments().exists());
}

#[test]
fn a_folder_that_was_there_stays_when_sbatch_refuses() {
    let desk = Desk::new();
    std::fs::create_dir(desk.experiments()).unwrap();
    desk.fake.write("sbatch.rc", "1");
    let (code, _, err) = said(&mut desk.command(&["submit", "tiny.toml"]));
    assert_eq!(code, 3, "{err}");
    assert_eq!(std::fs::read_dir(desk.experiments()).unwrap().count(), 0);
}

#[test]
fn without_slurm_submit_advises_run_and_leaves_nothing() {
    let desk = Desk::new();
    let empty = tempfile::tempdir().unwrap();
    let (code, out, err) = said(desk.command(&["submit", "tiny.toml"]).env("PATH", empty.path()));
    assert_eq!((code, out.as_str()), (3, ""), "{err}");
    assert!(err.contains("no Slurm on PATH") && err.contains("`tokmark run`"), "{err}");
    assert!(!desk.experiments().exists());
}

#[test]
fn jobs_lists_experiment_directories_without_slurm() {
    let desk = Desk::new();
    let (code, _, err) = said(&mut desk.command(&["submit", "tiny.toml"]));
    assert_eq!(code, 0, "{err}");
    let empty = tempfile::tempdir().unwrap();
    let (code, out, err) = said(desk.command(&["jobs", "list"]).env("PATH", empty.path()));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("UNKNOWN") && out.contains("tiny_16_4_auto_1_1"), "{out}");
}

#[test]
fn a_wait_follows_the_job_through_its_states() {
    let desk = Desk::new();
    assert_eq!(said(&mut desk.command(&["submit", "tiny.toml"])).0, 0);
    desk.fake.job("1", &[("state", "CANCELLED"), ("reason", "None"), ("exit", "0:15"), ("end", "200")]);
    desk.fake.write("sacct.hide", "1\n");
    let (code, out, err) = said(&mut desk.command(&["jobs", "wait", "1", "--json"]));
    assert_eq!(code, 130, "{err}");
    assert!(err.contains("job 1: CANCELLED") && err.contains("slurm.out"), "{err}");
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((told["state"].as_str(), told["job"].as_str()), (Some("CANCELLED"), Some("1")));
}

#[test]
fn an_interrupted_wait_leaves_the_job_running_with_a_message() {
    use std::io::{BufRead, BufReader, Read};
    let desk = Desk::new();
    let mut submit = desk.command(&["submit", "tiny.toml", "--wait"]);
    let mut child =
        submit.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    stderr.read_line(&mut said).unwrap();
    assert_eq!(said, "job 1: PENDING (Resources)\n");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    said.clear();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(said, "job 1 goes on: tokmark jobs wait 1 | tokmark jobs cancel 1\n");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!desk.fake.tools().iter().any(|tool| tool == "scancel"));
}

/// A requeued job says INTERRUPTED in its own events and PENDING in Slurm's: Slurm is right.
#[test]
fn an_interrupted_job_in_the_queue_again_is_pending() {
    let desk = Desk::new();
    assert_eq!(said(&mut desk.command(&["submit", "tiny.toml"])).0, 0);
    let event = |rest: &str| format!("{{\"at\":\"2026-01-01T00:00:00Z\",{rest}}}\n");
    let events = event(
        "\"event\":\"started\",\"job\":\"1\",\"pid\":1,\"host\":\"n\",\"nodes\":[\"n\"],\"restarts\":0",
    ) + &event("\"event\":\"finished\",\"exit_code\":130");
    std::fs::write(desk.experiments().join("tiny_16_4_auto_1_1/events.jsonl"), events).unwrap();
    let state = |desk: &Desk| {
        let (code, out, err) = said(&mut desk.command(&["jobs", "show", "1", "--json"]));
        assert_eq!(code, 0, "{err}");
        serde_json::from_str::<serde_json::Value>(&out).unwrap()["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state(&desk), "PENDING");
    let (_, out, _) = said(&mut desk.command(&["jobs", "cancel", "1"]));
    assert_eq!(out, "cancelled job 1\n");
    desk.fake.job("1", &[("state", "FAILED"), ("exit", "130:0")]);
    assert_eq!(state(&desk), "INTERRUPTED");
    desk.fake.job("1", &[("state", "TIMEOUT"), ("exit", "0:0")]);
    assert_eq!(state(&desk), "TIMEOUT");
}

const KNOBS: &str = "[knobs]\nSTREAMING = \"load.streaming\"\nISL = \"load.isl\"\n";

/// Ends of lines that must be there, in order.
fn endings<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.strip_prefix(start)).collect()
}

#[test]
fn several_jobs_are_a_call_and_a_line_each_and_a_list_in_json() {
    let desk = Desk::new();
    let args =
        ["submit", "tiny.toml", "-r", "2", "--nice", "-5", "--nodelist", "a,b", "--slurm-arg", "comment=x y"];
    let (code, out, err) = said(&mut desk.command(&args));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_eq!(endings(&out, "submitted job "), ["1: tiny, 1 GPU, 1/2", "2: tiny, 1 GPU, 2/2"]);
    let calls = desk.fake.calls();
    let options: Vec<&[String]> = calls.iter().map(|call| &call[2..call.len() - 1]).collect();
    let wanted = ["--nice=-5", "--nodelist=a,b", "--comment=x y"].map(str::to_owned);
    assert_eq!(options, [&wanted[..], &wanted[..]]);
    let (_, out, _) = said(&mut desk.command(&["submit", "tiny.toml", "-r", "2", "--json"]));
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((told[0]["job"].as_str(), told[1]["repeat"].as_u64()), (Some("3"), Some(2)));
}

#[test]
fn nothing_is_submitted_when_one_of_several_jobs_is_wrong() {
    let desk = Desk::new();
    let (code, out, err) = said(&mut desk.command(&["submit", "tiny.toml", "--scale", "1,2"]));
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    assert!(err.contains("no scale 2") && desk.fake.calls().is_empty(), "{err}");
}

#[test]
fn a_refusal_half_way_lists_what_is_in_the_queue() {
    let desk = Desk::new();
    // The fake cluster has one node.
    std::fs::write(
        desk.dir.path().join("wide.toml"),
        TINY.replace("launcher = \"sim\"", "launcher = \"sim\"\n[slurm]\ndirectives = [\"--nodes=9\"]"),
    )
    .unwrap();
    std::fs::write(
        desk.dir.path().join("jobs.toml"),
        "[[job]]\nrecipe = \"./tiny.toml\"\n[[job]]\nrecipe = \"./wide.toml\"\n",
    )
    .unwrap();
    let (code, out, err) = said(&mut desk.command(&["submit", "-f", "jobs.toml"]));
    assert_eq!((code, endings(&out, "submitted job ")), (3, vec!["1: tiny, 1 GPU"]), "{err}");
    assert!(err.contains("1 of 2 jobs are submitted: 1") && err.contains("Node count"), "{err}");
}

#[test]
fn a_knob_of_the_job_is_planned_in_the_job() {
    let desk = Desk::new();
    std::fs::write(desk.dir.path().join("tiny.toml"), format!("{TINY}{KNOBS}")).unwrap();
    assert_eq!(said(&mut desk.command(&["render", "tiny.toml", "-o", "job.sh"])).0, 0);
    desk.fake.write("run_jobs", "");
    let sbatch = |value: &str| {
        let mut sbatch = Command::new("sbatch");
        sbatch.args(["--parsable", "job.sh"]).current_dir(desk.dir.path()).env("PATH", FakeSlurm::path());
        said(sbatch.envs(desk.fake.env()).env("HOME", desk.dir.path()).env("ISL", value)).1.trim().to_owned()
    };
    let end = |id: &str| {
        crate::support::eventually("the job ends", || {
            std::fs::read_to_string(desk.fake.dir().join(format!("jobs/{id}/exit")))
                .ok()
                .filter(|code| code.ends_with('\n') || code.contains(':'))
        })
    };
    let (good, bad) = (sbatch("32"), sbatch("long"));
    assert_eq!(
        end(&good).trim(),
        "0:0",
        "{:?}",
        std::fs::read_to_string(desk.experiments().join(format!("slurm-{good}.out")))
    );
    assert!(
        desk.experiments().join(format!("tiny_32_4_auto_1_{good}/benchmark_logs/summary.json")).is_file()
    );
    assert_eq!(end(&bad).trim(), "2:0");
    let output = std::fs::read_to_string(desk.experiments().join(format!("slurm-{bad}.out"))).unwrap();
    assert!(output.contains("$ISL (job): `load.isl`: found string \"long\""), "{output}");
}

#[test]
fn only_a_run_inside_an_allocation_starts_steps() {
    let desk = Desk::new();
    desk.fake.job("7", &[("state", "RUNNING"), ("nodes", "localhost")]);
    let inside = |args: &[&str]| {
        let mut command = desk.command(args);
        command
            .env("SLURM_JOB_ID", "7")
            .env("SLURM_JOB_NODELIST", "localhost")
            .env("SLURMD_NODENAME", "localhost");
        said(&mut command)
    };
    let (code, _, err) = inside(&["run", "tiny.toml"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("inside job 7: the servers run on localhost"), "{err}");
    assert_eq!(desk.fake.tools().iter().filter(|tool| *tool == "srun").count(), 1);
    let (code, out, err) = inside(&["run", "tiny.toml", "--local"]);
    assert_eq!((code, desk.fake.tools().iter().filter(|tool| *tool == "srun").count()), (0, 1), "{out}{err}");
    // The run is not the job: it has ended though the job goes on, and cancelling it does not end the job.
    let (_, out, _) = said(&mut desk.command(&["jobs", "show", "7", "--json"]));
    let shown: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((shown["state"].as_str(), shown["job"].as_str()), (Some("COMPLETED"), Some("7")));
    said(&mut desk.command(&["jobs", "cancel", "7"]));
    let whole_job = ["scancel", "7"].map(str::to_owned);
    assert!(!desk.fake.calls().contains(&whole_job.to_vec()), "only steps were signalled");
    let (code, _, err) = inside(&["submit", "tiny.toml"]);
    assert!(code == 0 && err.contains("this is inside job 7, which `tokmark run` would use"), "{err}");
    let mut stale = desk.command(&["run", "tiny.toml"]);
    let (code, _, err) = said(stale.env("SLURM_JOB_ID", "99").env("SLURM_JOB_NODELIST", "gone1"));
    assert!(code == 3 && err.contains("inside job 99") && err.contains("--local"), "{code}: {err}");
}

/// Three deployments.
fn sweep() -> String {
    format!("{TINY}[sweep.server]\n\"engine.max_num_seqs\" = [2, 4, 8]\n")
}

#[test]
fn a_parallel_sweep_is_a_job_for_each_deployment_in_lanes() {
    let desk = Desk::new();
    std::fs::write(desk.dir.path().join("sweep.toml"), sweep()).unwrap();
    let (code, out, err) =
        said(&mut desk.command(&["submit", "sweep.toml", "--parallel", "2", "--slurm-arg=--nice=5"]));
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("submitted job 3: tiny, 1 GPU, ") && out.contains("next: tokmark jobs wait tiny_"),
        "{out}"
    );
    let options: Vec<Vec<String>> =
        desk.fake.calls().iter().map(|call| call[2..call.len() - 1].to_vec()).collect();
    let third = ["--nice=5", "--dependency=afterany:1"].map(str::to_owned).to_vec();
    assert_eq!(options, [vec!["--nice=5".to_owned()], vec!["--nice=5".to_owned()], third], "two lanes");
    // Each job has a plan of its own deployment, and a directory of its own.
    let dirs: Vec<PathBuf> = walkdir::WalkDir::new(desk.experiments())
        .max_depth(1)
        .into_iter()
        .map(|dir| dir.unwrap().into_path())
        .collect();
    let ids = |dir: &PathBuf| {
        let plan: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(dir.join("plan.json")).ok()?).unwrap();
        Some(
            plan["deployments"]
                .as_array()?
                .iter()
                .map(|one| one["id"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>(),
        )
    };
    let mut deployments: Vec<Vec<String>> = dirs.iter().filter_map(ids).collect();
    deployments.sort();
    assert_eq!(deployments, [["max_num_seqs2"], ["max_num_seqs4"], ["max_num_seqs8"]]);
    let (code, shown, err) = said(&mut desk.command(&["jobs", "show", "last-suite"]));
    assert_eq!(code, 0, "{err}");
    assert!(shown.contains("suite tiny, 0 of 3 ended") && shown.contains("max_num_seqs8"), "{shown}");
    let (_, repeated, _) =
        said(&mut desk.command(&["submit", "sweep.toml", "--parallel", "1", "-r", "2", "--json"]));
    let told: serde_json::Value = serde_json::from_str(&repeated).unwrap();
    assert_eq!(told.as_array().unwrap().len(), 6);
    assert!(desk.fake.calls().last().unwrap().contains(&"--dependency=afterany:8".to_owned()), "a chain");
}

#[test]
fn a_parallel_sweep_shows_its_lanes_before_and_needs_deployments() {
    let desk = Desk::new();
    std::fs::write(desk.dir.path().join("sweep.toml"), sweep()).unwrap();
    let (code, _, err) = said(&mut desk.command(&["submit", "sweep.toml", "--parallel", "1", "--dry-run"]));
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("job 3: would call: sbatch --parsable --dependency=afterany:JOB_2 SCRIPT"), "{err}");
    let (code, _, err) = said(&mut desk.command(&["submit", "tiny.toml", "--parallel", "2"]));
    assert_eq!(code, 2);
    assert!(err.contains("--parallel: every recipe has one deployment"), "{err}");
    let twice = ["submit", "sweep.toml", "--parallel", "2", "--slurm-arg", "dependency=afterok:9"];
    let (code, _, err) = said(&mut desk.command(&twice));
    assert_eq!(code, 2);
    assert!(err.contains("--parallel sets it"), "{err}");
    assert!(!desk.experiments().exists());
}
