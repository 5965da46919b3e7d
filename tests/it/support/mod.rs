//! What the tests share: a house of its own for each test, the fake Slurm's folder and PATH, a small model, and waiting
//! for a condition.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub(crate) mod house;
mod wait;
pub(crate) mod weights;

pub(crate) use wait::{eventually, eventually_within};

/// A folder that drives the tools in `tests/it/support/fake-slurm`; its files are described in `fake.bash` there.
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
        let fakes = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/fake-slurm");
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
