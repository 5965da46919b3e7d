//! A house of its own for each test: a folder with recipes, a home, experiments, and `tokmark` run in it with nothing
//! of the surroundings let in. Every process started from it carries the house's mark, so that none can be forgotten.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{eventually, eventually_within};

/// A test's own folder and the tokmark in it.
pub(crate) struct House {
    dir: tempfile::TempDir,
}

/// How a `tokmark` ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl End {
    /// Itself, when the exit code is 0.
    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// Itself, when the exit code is this one.
    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// The whole of stdout as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// A JSON file.
#[track_caller]
pub(crate) fn house_json(path: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}\n{text}", path.display()))
}

/// A port nobody listens on. The kernel hands out others before it comes back to this one.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl House {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("tokmark-house-").tempdir().unwrap();
        std::fs::create_dir(dir.path().join("home")).unwrap();
        Self { dir }
    }

    /// Its folder.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file in it.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Writes `r.toml`, a recipe, with the first lines every recipe needs above `text`.
    pub(crate) fn recipe(&self, text: &str) -> PathBuf {
        self.file("r.toml", &format!("schema = 1\nname = \"r\"\n{text}"))
    }

    /// Reads a file in it.
    #[track_caller]
    pub(crate) fn read(&self, name: impl AsRef<Path>) -> String {
        let path = self.path().join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// `tokmark` in it, with an environment of its own.
    pub(crate) fn tokmark<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tokmark"));
        command
            .args(args)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.path().join("home"))
            .env("COLUMNS", "80")
            .env("TOKMARK_TEST_HOUSE", self.path())
            .stdin(Stdio::null());
        // Where a coverage run wants its data.
        for (name, value) in std::env::vars().filter(|(name, _)| name.starts_with("LLVM_PROFILE")) {
            command.env(name, value);
        }
        command
    }

    /// Runs `tokmark` to its end.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> End {
        self.run_with(args, &[])
    }

    /// The same with environment variables.
    pub(crate) fn run_with<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        env: &[(&str, &str)],
    ) -> End {
        let mut command = self.tokmark(args);
        command.envs(env.iter().copied());
        // Whole measurements are among them, which take minutes on a busy machine.
        Running::of(command).finish_within(Duration::from_secs(600))
    }

    /// Runs a `tokmark` that must end with exit code 2 and leave nothing behind; gives its stderr with `HOUSE` for the
    /// house's folder.
    #[track_caller]
    pub(crate) fn fails<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let end = self.run(args).fails(2);
        assert_eq!(end.stdout, "", "{}", end.stderr);
        self.is_untouched();
        self.plain(&end.stderr)
    }

    /// `text` with `HOUSE` for the house's folder.
    pub(crate) fn plain(&self, text: &str) -> String {
        text.replace(&self.path().display().to_string(), "HOUSE")
    }

    /// Starts `tokmark` and goes on.
    pub(crate) fn start<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Running {
        Running::of(self.tokmark(args))
    }

    /// Starts the simulated engine on a free port and waits until it listens.
    pub(crate) fn sim(&self, args: &[&str]) -> Sim {
        let command = ["sim", "--port", "0", "--speed", "20"].iter().chain(args);
        let running = self.start(command);
        let url = eventually("the simulated engine listens", || {
            let text = std::fs::read_to_string(running.out.path()).unwrap();
            let line = text.lines().next().filter(|_| text.contains('\n'))?;
            Some(line.split_whitespace().find(|word| word.starts_with("http://"))?.to_owned())
        });
        Sim { url, _running: running }
    }

    /// The folder of the experiments.
    pub(crate) fn experiments(&self) -> PathBuf {
        self.path().join("experiments")
    }

    /// Every experiment, by name.
    pub(crate) fn all(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.experiments()).into_iter().flatten().map(|e| e.unwrap().path());
        let mut found: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
        found.sort();
        found
    }

    /// The only experiment.
    #[track_caller]
    pub(crate) fn experiment(&self) -> PathBuf {
        let mut all = self.all();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// Nothing was left behind: no experiments, no process.
    #[track_caller]
    pub(crate) fn is_untouched(&self) {
        let left: Vec<PathBuf> = walk(&self.experiments());
        assert!(left.is_empty(), "{left:?}");
        self.assert_empty();
    }

    /// Processes of this house that live, by process id: those with its mark in their environment.
    pub(crate) fn processes(&self) -> BTreeMap<u32, String> {
        let mark = format!("TOKMARK_TEST_HOUSE={}", self.path().display());
        let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let marked = entries.filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let environ = std::fs::read(entry.path().join("environ")).ok()?;
            let ours = environ.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes());
            let command = std::fs::read(entry.path().join("cmdline")).ok()?;
            // A zombie has no command line any more: it has ended, and waits for its parent to ask.
            (ours && !command.is_empty()).then(|| (pid, String::from_utf8_lossy(&command).replace('\0', " ")))
        });
        marked.collect()
    }

    /// No process of this house is left. The kernel may need a moment for the last ones.
    #[track_caller]
    pub(crate) fn assert_empty(&self) {
        let mut left = BTreeMap::new();
        eventually("no process left", || {
            left = self.processes();
            left.is_empty().then_some(())
        });
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

/// A `tokmark` that runs; killed when dropped. Its output goes to files, which never fill up and never hold anyone.
pub(crate) struct Running {
    child: Child,
    out: tempfile::NamedTempFile,
    err: tempfile::NamedTempFile,
}

impl Running {
    fn of(mut command: Command) -> Self {
        let (out, err) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
        command.stdout(out.reopen().unwrap()).stderr(err.reopen().unwrap());
        Self { child: command.spawn().unwrap(), out, err }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Waits for its end, which is near.
    #[track_caller]
    pub(crate) fn finish(self) -> End {
        self.finish_within(Duration::from_secs(120))
    }

    #[track_caller]
    fn finish_within(mut self, limit: Duration) -> End {
        let status = eventually_within(limit, "the end of a tokmark", || self.child.try_wait().unwrap());
        End {
            code: status.code(),
            stdout: std::fs::read_to_string(self.out.path()).unwrap(),
            stderr: std::fs::read_to_string(self.err.path()).unwrap(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A simulated engine that runs.
pub(crate) struct Sim {
    url: String,
    _running: Running,
}

impl Sim {
    /// Its base URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

/// Whether a signal ends these tests, and so the tokmark that they start: under `nohup` both ignore SIGHUP.
pub(crate) fn is_heard(signal: nix::sys::signal::Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(ignored.trim(), 16).unwrap() >> (signal as u32 - 1) & 1 == 0
}
