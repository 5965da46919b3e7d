//! What the integration tests share: a house of its own for each test, the fake Slurm's folder and PATH, and waiting for
//! a condition.
#![expect(clippy::unwrap_used, reason = "a test that cannot prepare its ground has failed")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) mod house;

/// Each test crate uses a part of this file; naming the rest here keeps the compiler from calling it dead.
const _: fn() = || {
    eventually("", || Some(()));
    eventually_within(Duration::ZERO, "", || Some(()));
    _ = (FakeSlurm::new, FakeSlurm::dir, FakeSlurm::path, FakeSlurm::env, FakeSlurm::write, FakeSlurm::job);
    _ = (FakeSlurm::calls, FakeSlurm::tools);
};

/// Asks until `look` has an answer; panics with `what` after ten seconds without one.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    eventually_within(Duration::from_secs(10), what, look)
}

/// [`eventually`] with another limit.
#[track_caller]
pub(crate) fn eventually_within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(begin.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A folder that drives the tools in `tests/support/fake-slurm`; its files are described in `fake.bash` there.
pub(crate) struct FakeSlurm {
    dir: tempfile::TempDir,
}

impl FakeSlurm {
    /// A cluster without jobs.
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// Its folder, `$FAKE_SLURM_DIR`.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// PATH with the fakes first, and the system's own tools.
    pub(crate) fn path() -> OsString {
        let fakes = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/fake-slurm");
        std::env::join_paths([fakes, PathBuf::from("/usr/bin"), PathBuf::from("/bin")]).unwrap()
    }

    /// The variables that point the fakes at the folder.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        vec![("FAKE_SLURM_DIR".to_owned(), self.dir().display().to_string())]
    }

    /// Writes one of the files that drive the fakes.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Puts a job there: `facts` are files of `jobs/ID/` and their text.
    pub(crate) fn job(&self, id: &str, facts: &[(&str, &str)]) {
        for (name, text) in facts {
            self.write(&format!("jobs/{id}/{name}"), text);
        }
    }

    /// The argv of each call so far, the tool's name first.
    pub(crate) fn calls(&self) -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(self.dir().join("calls.jsonl")).unwrap_or_default();
        let argv = |line: &str| {
            let call: serde_json::Value = serde_json::from_str(line).unwrap();
            let args = call["argv"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap());
            std::iter::once(call["tool"].as_str().unwrap()).chain(args).map(str::to_owned).collect()
        };
        text.lines().map(argv).collect()
    }

    /// The tools called so far, in order.
    pub(crate) fn tools(&self) -> Vec<String> {
        self.calls().into_iter().map(|argv| argv[0].clone()).collect()
    }
}
