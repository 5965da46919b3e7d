//! Ports: the one the user fixed, and where a job starts looking for free ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

use nix::fcntl::{Flock, FlockArg};

use super::{DeployError, Place};
use crate::document::InputError;
use crate::plan::Plan;
use crate::plan::port_map::SEARCH;

/// How far above the preferred ports this job looks. Jobs that share nodes start at different ports, because ports of other nodes
/// cannot be reserved, and on this one two jobs may find the same port free.
pub(super) fn spread(plan: &Plan, place: &Place) -> u16 {
    const JOBS: u64 = 50;
    // `--exclusive=user` and similar still share the node, as do two runs in one allocation.
    let exclusive = |directive: &String| directive == "--exclusive";
    let Place::Allocation(allocation) = place else { return 0 };
    let number = match allocation.run {
        Some(pid) => pid.to_string(),
        None if plan.job.directives.iter().any(exclusive) => return 0,
        None => allocation.job.base().to_owned(),
    };
    let number = number.bytes().filter(u8::is_ascii_digit);
    let number = number.fold(0_u64, |number, digit| (number * 10 + u64::from(digit - b'0')) % JOBS);
    u16::try_from(number * u64::from(SEARCH) / JOBS).unwrap_or(0)
}

/// Ports of this machine that this process has reserved, each by a lock file. Without it another tokmark could find the same port
/// free before the server listens, and measure the wrong server. The kernel releases the lock when the process ends. The file
/// name holds only the port, because a job knows the machine by node name and a local run by address.
#[derive(Debug, Default)]
pub struct Leases(BTreeMap<u16, Option<Flock<File>>>);

impl Leases {
    /// Reserves a port; `false` if another process holds it. Without a writable lock folder it always succeeds.
    pub fn take(&mut self, port: u16) -> bool {
        if self.0.contains_key(&port) {
            return true;
        }
        let lease = match file(port).map(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock)) {
            Some(Ok(lock)) => Some(lock),
            Some(Err((_, nix::errno::Errno::EWOULDBLOCK))) => return false,
            Some(Err(_)) | None => None,
        };
        self.0.insert(port, lease);
        true
    }

    /// Releases all other ports.
    pub fn keep(&mut self, ports: &BTreeSet<u16>) {
        self.0.retain(|port, _| ports.contains(port));
    }
}

/// Opens the lock file of a port, in a folder that every user may write to.
fn file(port: u16) -> Option<File> {
    let folder = std::env::temp_dir().join("tokmark-ports");
    if std::fs::DirBuilder::new().mode(0o1777).create(&folder).is_ok() {
        // The umask removed bits.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
        let _ = std::fs::set_permissions(&folder, open);
    }
    let path = folder.join(port.to_string());
    // Open another user's file for reading, which suffices for a lock: in a sticky folder the kernel refuses to open it for
    // writing.
    File::open(&path)
        .or_else(|_| OpenOptions::new().create_new(true).append(true).mode(0o644).open(&path))
        .or_else(|_| File::open(&path))
        .ok()
}

/// Checks that the port the user fixed is free.
pub fn must_be_free(host: &str, port: u16) -> Result<u16, DeployError> {
    match TcpListener::bind((host, port)) {
        Ok(_) => Ok(port),
        Err(error) => Err(DeployError::Input(
            InputError::new(format!("{host}:{port}"), format!("the port cannot be used: {error}"))
                .key("deploy.port")
                .expected("a free port")
                .next("stop what listens there, choose another port, or leave out deploy.port and let tokmark pick one"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_reserved_until_it_is_given_back() {
        // Ports that no test looks for.
        let [a, b, c] = [3, 4, 5];
        let (mut one, mut other) = (Leases::default(), Leases::default());
        assert!(one.take(a) && one.take(a) && one.take(b));
        assert!(!other.take(a) && !other.take(b) && other.take(c));
        one.keep(&BTreeSet::from([a]));
        assert!(!other.take(a) && other.take(b));
        drop(one);
        assert!(other.take(a));
    }

    #[test]
    fn a_taken_port_is_refused() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = holder.local_addr().unwrap().port();
        let error = must_be_free("127.0.0.1", port).unwrap_err().to_string();
        assert!(error.contains("deploy.port") && error.contains(&port.to_string()), "{error}");
    }
}
