//! One tokmark at a time in an experiment: `running.json` says which, and a lock of the file system on `events.jsonl` holds it.
//!
//! The kernel drops the lock with its process, however that ends, so a file without a lock is stale. Where the file system has no
//! locks, the process that the file names decides.

use std::path::{Path, PathBuf};

use fs_err as fs;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::{Experiment, files};

/// The tokmark that runs an experiment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its Slurm job.
    pub job: Option<String>,
    /// How often Slurm requeued the job.
    pub restarts: u32,
    pub host: String,
    pub pid: u32,
    /// When the process started, clock ticks since boot. With the id it names one process.
    pub started: u64,
    pub since: jiff::Timestamp,
}

impl Holder {
    /// Whether it is known to have ended, as seen by `own`: Slurm restarted its job, or its process on this host is another one or
    /// none. `start_of` tells when a process of this host started.
    fn is_gone(&self, own: &Self, start_of: impl Fn(u32) -> Option<u64>) -> bool {
        let restarted = self.job.is_some() && self.job == own.job && self.restarts < own.restarts;
        restarted || (self.host == own.host && start_of(self.pid) != Some(self.started))
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(job) = &self.job {
            write!(f, "job {job}, restart {}, ", self.restarts)?;
        }
        write!(f, "pid {} on {}, since {}", self.pid, self.host, self.since.strftime("%F %T UTC"))
    }
}

/// Holds an experiment until it is dropped.
#[derive(Debug)]
pub struct Lock {
    file: PathBuf,
    _flock: Option<Flock<std::fs::File>>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

impl Experiment {
    /// Locks the directory against another tokmark. Never waits.
    ///
    /// # Errors
    /// Another tokmark runs there, which the error names.
    pub fn lock(&self, own: &Holder, start_of: impl Fn(u32) -> Option<u64>) -> std::io::Result<Lock> {
        let events = files::append(&self.path("events.jsonl"))?;
        match Flock::lock(events, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => self.held(own, Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Err(self.refusal(read(&self.running()).as_ref())),
            // A file system without locks.
            Err(_) => match read(&self.running()) {
                Some(other) if !other.is_gone(own, start_of) => Err(self.refusal(Some(&other))),
                _ => self.held(own, None),
            },
        }
    }

    fn running(&self) -> PathBuf {
        self.path("running.json")
    }

    fn held(&self, own: &Holder, flock: Option<Flock<std::fs::File>>) -> std::io::Result<Lock> {
        let text = serde_json::to_string(own).map_err(std::io::Error::other)?;
        files::replace(&self.running(), format!("{text}\n").as_bytes())?;
        Ok(Lock { file: self.running(), _flock: flock })
    }

    fn refusal(&self, other: Option<&Holder>) -> std::io::Error {
        let who = other.map(|other| format!(": {other}")).unwrap_or_default();
        std::io::Error::other(format!(
            "{}: another tokmark runs this experiment right now{who}; wait until it has ended, or cancel it with `tokmark jobs \
             cancel {}`",
            self.dir.display(),
            self.name()
        ))
    }
}

fn read(path: &Path) -> Option<Holder> {
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(job: Option<&str>, restarts: u32, host: &str, pid: u32) -> Holder {
        let since = "2026-12-01T09:30:00Z".parse().unwrap();
        Holder { job: job.map(str::to_owned), restarts, host: host.into(), pid, started: 500, since }
    }

    #[test]
    fn a_second_process_is_refused_and_told_which_one_runs() {
        let dir = tempfile::tempdir().unwrap();
        let experiment = Experiment::at(dir.path().join("x_7"));
        std::fs::create_dir(experiment.dir()).unwrap();
        let (first, second) = (holder(Some("7"), 1, "n1", 41), holder(Some("7"), 1, "n1", 42));
        let held = experiment.lock(&first, |_| None).unwrap();
        let refused = experiment.lock(&second, |_| None).unwrap_err().to_string();
        assert!(
            refused.contains("right now: job 7, restart 1, pid 41 on n1, since 2026-12-01 09:30:00 UTC;"),
            "{refused}"
        );
        drop(held);
        assert!(!experiment.path("running.json").exists());
        // What a killed process leaves behind is no lock.
        std::fs::write(experiment.path("running.json"), serde_json::to_string(&first).unwrap()).unwrap();
        drop(experiment.lock(&second, |_| Some(500)).unwrap());
    }

    #[test]
    fn without_locks_of_the_file_system_a_stale_holder_is_known_by_restart_or_process() {
        let own = holder(Some("7"), 1, "n1", 42);
        let alive = |_| Some(500);
        let table = [
            ("an earlier attempt of the job", holder(Some("7"), 0, "n2", 41), Some(500), true),
            ("the same attempt on another node", holder(Some("7"), 1, "n2", 41), Some(500), false),
            ("a process of this node", holder(Some("7"), 1, "n1", 41), Some(500), false),
            ("its id belongs to another process by now", holder(Some("7"), 1, "n1", 41), Some(900), true),
            ("its process has ended", holder(Some("7"), 1, "n1", 41), None, true),
            ("another job", holder(Some("6"), 0, "n2", 41), Some(500), false),
        ];
        for (case, other, started, gone) in table {
            assert_eq!(other.is_gone(&own, |_| started), gone, "{case}");
        }
        assert!(!holder(None, 0, "n1", 41).is_gone(&holder(None, 1, "n1", 42), alive));
    }
}
