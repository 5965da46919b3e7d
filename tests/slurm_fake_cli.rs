//! The built binary's `submit` and `jobs` against fake Slurm tools: banners, refusals, laggards, and no Slurm at all.
#![expect(clippy::unwrap_used, reason = "a test that cannot prepare its ground has failed")]

mod support;

use std::path::PathBuf;
use std::process::{Command, Output};

use support::FakeSlurm;

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
fn without_slurm_jobs_still_tells_what_the_directories_say() {
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
