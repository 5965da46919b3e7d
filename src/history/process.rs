//! Checks and stops the tokmark process of a local run or suite.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::experiment::manifest::hostname;

/// Whether the process lives. On another host this is unknown and counts as alive.
pub fn is_alive(host: &str, pid: u32) -> bool {
    host != hostname() || kill(process(pid), None).is_ok()
}

/// Sends SIGTERM, on which a run wraps up.
pub fn stop(pid: u32) -> std::io::Result<()> {
    kill(process(pid), Signal::SIGTERM).map_err(std::io::Error::from)
}

fn process(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))
}
