//! A folder, the binary, and the cluster it speaks to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde_json::Value;
use tokmark::internals::experiment::event::{self, Event};

use crate::support::eventually;

/// Held for reading by every test, for writing by those that kill a node.
static NODES: RwLock<()> = RwLock::new(());

/// Two points of the simulated engine, over in a second.
pub(crate) const TINY: &str = r#"
schema = 1
name = "tiny"
summary = "two short points"
[model]
name = "m/tiny"
[deploy]
launcher = "sim"
startup_timeout = "60s"
[deploy.engine]
profile = "quick"
[load]
isl = 16
osl = 4
concurrency = [1, 2]
requests_per_concurrency = 3
[slurm]
time = "00:05:00"
exclusive = false
"#;

/// A short point and one whose two requests take some `seconds` each.
pub(crate) fn long(seconds: u32) -> String {
    // The quick profile makes a token every four milliseconds or so.
    let text = TINY.replace("osl = 4", &format!("osl = [4, {}]", seconds * 250));
    text.replace("concurrency = [1, 2]\nrequests_per_concurrency = 3", "concurrency = 1\nrequests = 2")
}

/// Whether a test may run beside others; held to its end.
pub(crate) enum Guard {
    Shared(#[expect(dead_code, reason = "held")] RwLockReadGuard<'static, ()>),
    Alone(#[expect(dead_code, reason = "held")] RwLockWriteGuard<'static, ()>),
}

impl Guard {
    /// Beside other tests; `None` and a remark where there is no cluster to test on.
    pub(crate) fn shared() -> Option<Self> {
        has_cluster().then(|| Self::Shared(NODES.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// The same, once every other test has ended.
    pub(crate) fn alone() -> Option<Self> {
        has_cluster().then(|| Self::Alone(NODES.write().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn has_cluster() -> bool {
    let wanted = std::env::var("TOKMARK_TEST_SLURM").is_ok_and(|value| value == "1");
    let found = wanted && std::env::var_os("SLURM_CONF").is_some();
    if !found {
        println!("skipped: needs TOKMARK_TEST_SLURM=1 and SLURM_CONF");
    }
    found
}

/// A test's folder on a cluster.
pub(crate) struct Lab {
    dir: tempfile::TempDir,
    _guard: Guard,
}

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Fails the test with everything that was said unless the exit code is this one.
    #[track_caller]
    pub(crate) fn code(self, expected: i32) -> Self {
        assert_eq!(self.code, expected, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

impl Lab {
    /// A folder beside other tests; `None` and a remark where there is no cluster to test on.
    pub(crate) fn new() -> Option<Self> {
        Guard::shared().map(Self::with)
    }

    /// The same, once every other test has ended.
    pub(crate) fn alone() -> Option<Self> {
        Guard::alone().map(Self::with)
    }

    fn with(guard: Guard) -> Self {
        // Paths with blanks and percent signs are what sbatch's file name patterns trip over.
        let dir = tempfile::Builder::new().prefix("e2e 50%j ").tempdir().unwrap();
        Self { dir, _guard: guard }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The binary, in this folder, with nothing of the user's.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokmark"));
        command
            .current_dir(self.dir.path())
            .env("HOME", self.dir.path())
            .env("TOKMARK_SLURM_POLL_MS", "100")
            .env_remove("TOKMARK_SITE")
            .env_remove("XDG_CONFIG_HOME");
        command
    }

    pub(crate) fn tokmark(&self, args: &[&str]) -> Said {
        said(self.command().args(args))
    }

    /// Submits a recipe; the job it became.
    #[track_caller]
    pub(crate) fn submit(&self, recipe: &str, args: &[&str]) -> Job {
        let said = self.tokmark(&[&["submit", "--json", recipe], args].concat()).code(0).json();
        let job = said["job"].as_str().unwrap().to_owned();
        Job { id: job, dir: said["experiment"].as_str().unwrap().into() }
    }

    /// Waits for a job's end; the exit code of the wait.
    pub(crate) fn wait(&self, job: &Job) -> Said {
        self.tokmark(&["jobs", "wait", &job.id])
    }

    /// State that `jobs show --json` tells.
    pub(crate) fn state(&self, job: &Job) -> String {
        self.tokmark(&["jobs", "show", &job.id, "--json"]).code(0).json()["state"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

/// Runs a command to its end.
pub(crate) fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs a Slurm tool that must succeed; what it printed.
#[track_caller]
pub(crate) fn slurm(argv: &[&str]) -> String {
    said(Command::new(argv[0]).args(&argv[1..])).code(0).out
}

/// Names of the cluster's nodes, in order.
pub(crate) fn nodes() -> Vec<String> {
    let mut names: Vec<String> =
        slurm(&["sinfo", "-h", "-N", "-p", "gpu", "-o", "%N"]).lines().map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

/// A submitted job.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) dir: PathBuf,
}

impl Job {
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        event::read(&self.dir).into_iter().map(|stamped| stamped.event).collect()
    }

    /// Waits for an event.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, wanted: impl Fn(&Event) -> bool) {
        eventually(what, || {
            let events = self.events();
            let failed = events.iter().any(|event| matches!(event, Event::Failed { .. }));
            assert!(!failed || events.iter().any(&wanted), "{events:#?}");
            events.iter().any(&wanted).then_some(())
        });
    }

    /// Waits until the point with this number is measured.
    #[track_caller]
    pub(crate) fn until_point(&self, number: usize) {
        self.until(
            "the point runs",
            |event| matches!(event, Event::PointStarted { number: n, .. } if *n == number),
        );
    }

    pub(crate) fn exit_code(&self) -> Option<u8> {
        self.events().into_iter().rev().find_map(|event| match event {
            Event::Finished { exit_code } => Some(exit_code),
            _ => None,
        })
    }

    /// Everything below the directory, relative, sorted; volatile scratch left out.
    pub(crate) fn layout(&self) -> Vec<String> {
        let entries = walkdir::WalkDir::new(&self.dir).min_depth(1).into_iter().map(Result::unwrap);
        let time = regex::Regex::new(r"\d{8}-\d{6}").unwrap();
        let names: BTreeSet<String> = entries
            .map(|entry| entry.path().strip_prefix(&self.dir).unwrap().display().to_string())
            // Some tools put the start of a load point into a file's name.
            .map(|name| time.replace(&name, "TIME").into_owned())
            .collect();
        names.into_iter().collect()
    }

    /// Asserts that none of the job's processes outlives it on any node: all nodes are this machine.
    #[track_caller]
    pub(crate) fn left_nothing(&self) {
        let id = format!("SLURM_JOB_ID={}", self.id);
        let conf = format!("SLURM_CONF={}", std::env::var("SLURM_CONF").unwrap());
        let of_job = |pid: &Path| {
            let Ok(environment) = std::fs::read(pid.join("environ")) else { return None };
            let has =
                |wanted: &str| environment.split(|byte| *byte == 0).any(|word| word == wanted.as_bytes());
            let command = std::fs::read_to_string(pid.join("cmdline")).unwrap_or_default().replace('\0', " ");
            (has(&id) && has(&conf)).then_some(command)
        };
        let mut left = Vec::new();
        let gone = || {
            let pids = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).map(|entry| entry.path());
            left = pids.filter_map(|pid| of_job(&pid)).collect();
            left.is_empty().then_some(())
        };
        eventually("the job's processes are gone", gone);
    }
}

/// The cluster's script.
pub(crate) fn cluster(args: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/slurm-cluster");
    said(Command::new(script).args(args)).code(0);
}
