//! Whether the servers that answer are those that this run started.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nix::unistd::getuid;

use super::Place;
use super::deadline::ProbeFailure;
use crate::node::processes::{self, Listener, Process};

/// Programs that listen for a container and pass the connections on, so that they are nobody's children.
const FORWARDERS: [&str; 6] =
    ["docker-proxy", "rootlessport", "slirp4netns", "pasta", "conmon", "containerd"];

/// Checks who listens at the URLs. In a job it sees the servers of this node only.
///
/// # Errors
/// A process that this run did not start listens there. What cannot be seen is no error.
pub(super) fn must_be_ours(
    urls: impl Iterator<Item = reqwest::Url>,
    place: &Place,
    keepers: &[u32],
) -> Result<(), ProbeFailure> {
    let Place::Local = place else { return Ok(()) };
    let own: BTreeSet<u64> = keepers
        .iter()
        .flat_map(|keeper| Process::descendants(*keeper))
        .flat_map(|process| processes::sockets(process.pid))
        .collect();
    for url in urls {
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { continue };
        let foreign =
            reached(host, &Listener::on(port)).into_iter().find(|found| !own.contains(&found.inode));
        let Some(foreign) = foreign else { continue };
        let holder =
            Process::all().into_iter().find(|one| processes::sockets(one.pid).contains(&foreign.inode));
        let process = match holder.map(|holder| (holder.pid, processes::command(holder.pid))) {
            Some((_, command)) if FORWARDERS.iter().any(|name| command.contains(name)) => continue,
            Some((pid, command)) => format!("pid {pid}: {command}"),
            // A forwarder that runs as root.
            None if foreign.uid == 0 && !getuid().is_root() => continue,
            None => format!("a process of user {}", foreign.uid),
        };
        return Err(ProbeFailure::Foreign { address: format!("{host}:{port}"), process });
    }
    Ok(())
}

/// The listeners that a connection to a host may reach: those on its address, else those on any address.
fn reached(host: &str, all: &[Listener]) -> Vec<Listener> {
    let Ok(host) = host.trim_matches(['[', ']']).parse::<IpAddr>() else { return Vec::new() };
    let at = |address: IpAddr| -> Vec<Listener> {
        all.iter().copied().filter(|listener| listener.address == address).collect()
    };
    let any = all.iter().copied().filter(|listener| listener.address.is_unspecified()).collect();
    let exact = at(host);
    if exact.is_empty() { any } else { exact }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listener_on_the_address_itself_is_reached_first() {
        let listener = |address: &str, inode| Listener { address: address.parse().unwrap(), uid: 1, inode };
        let all = [listener("0.0.0.0", 1), listener("127.0.0.1", 2), listener("10.0.0.1", 3)];
        let inodes = |host| reached(host, &all).iter().map(|found| found.inode).collect::<Vec<_>>();
        assert_eq!((inodes("127.0.0.1"), inodes("127.0.0.2"), inodes("node1")), (vec![2], vec![1], vec![]));
    }

    #[test]
    fn a_listener_of_another_process_is_not_ours() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = reqwest::Url::parse(&format!("http://{}", socket.local_addr().unwrap())).unwrap();
        let check = |keepers: &[u32]| must_be_ours(std::iter::once(url.clone()), &Place::Local, keepers);
        let Err(ProbeFailure::Foreign { process, .. }) = check(&[]) else { panic!() };
        assert!(process.starts_with(&format!("pid {}: ", std::process::id())), "{process}");
        assert_eq!(check(&[nix::unistd::getppid().as_raw().unsigned_abs()]), Ok(()));
    }
}
