//! Checks and stops the tokmark process of a local run or suite, and what it left behind.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Entry;
use crate::experiment::manifest::hostname;
use crate::node::processes::Process;

/// How long processes may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// Whether the process lives. On another host this is unknown and counts as alive.
pub fn is_alive(host: &str, pid: u32) -> bool {
    host != hostname() || kill(process(pid), None).is_ok()
}

/// Sends SIGTERM, on which a run wraps up.
pub fn stop(pid: u32) -> std::io::Result<()> {
    kill(process(pid), Signal::SIGTERM).map_err(std::io::Error::from)
}

/// Processes that an experiment left behind on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftBehind {
    /// Which process of the run.
    pub name: String,
    pub pids: Vec<u32>,
}

impl LeftBehind {
    /// Those of a run whose own process is gone. Processes are recognised by id and start time; a group whose first process has
    /// ended by its id, which no other process can get while the group lives.
    pub fn of(entry: &Entry) -> Vec<Self> {
        let all = Process::all();
        let left = entry.started_here().into_iter().filter_map(|(name, pid, started)| {
            let first = all.iter().find(|process| process.pid == pid);
            let is_same = first.is_none_or(|first| first.started == started);
            let in_group = |process: &&Process| process.group == pid && process.started >= started;
            let mut pids: Vec<u32> =
                all.iter().filter(in_group).filter(|_| is_same).map(|process| process.pid).collect();
            let deeper = pids.iter().flat_map(|pid| Process::descendants(*pid)).map(|process| process.pid);
            pids.extend(deeper.collect::<Vec<_>>());
            pids.sort_unstable();
            pids.dedup();
            (!pids.is_empty()).then(|| Self { name: name.to_owned(), pids })
        });
        left.collect()
    }

    /// Ends them: SIGTERM, SIGKILL to what lives on after a grace. Returns whether all are gone.
    pub fn end(&self) -> bool {
        let signal = |signal: Option<Signal>| {
            let lives = |pid: &&u32| Process::of(**pid).is_some();
            self.pids.iter().filter(lives).filter(|pid| kill(process(**pid), signal).is_ok()).count() > 0
        };
        signal(Some(Signal::SIGTERM));
        let began = Instant::now();
        while began.elapsed() < GRACE + GRACE {
            if !signal((began.elapsed() >= GRACE).then_some(Signal::SIGKILL)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }
}

impl std::fmt::Display for LeftBehind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pids: Vec<String> = self.pids.iter().map(ToString::to_string).collect();
        write!(f, "{} (pid {})", self.name, pids.join(", "))
    }
}

fn process(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))
}
