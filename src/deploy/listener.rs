//! Whether the servers that answer are those that this run started.

use std::net::IpAddr;
use std::time::Duration;

use nix::unistd::getuid;
use reqwest::Url;

use super::census::Census;
use super::deadline::ProbeFailure;
use crate::load::Target;
use crate::node::usage::Holder;
use crate::render::Addresses;

/// How late a sample may show a listener. Beyond it, connections are passed on by something that no sample shows.
pub(super) const LATE: Duration = Duration::from_secs(10);

/// Programs that listen for a container and pass the connections on, so that they are nobody's children.
const FORWARDERS: [&str; 6] =
    ["docker-proxy", "rootlessport", "slirp4netns", "pasta", "conmon", "containerd"];

/// Checks who listens at the URLs of the endpoint, on whichever node they lead to. Returns a URL whose listener nobody sees: as
/// behind rules of the kernel that pass connections on, or on a node that no sample has come from yet.
///
/// # Errors
/// A process that this run did not start listens there.
pub(super) async fn must_be_ours(
    target: &Target,
    addresses: &Addresses,
    census: &Census,
) -> Result<Option<String>, ProbeFailure> {
    let mut unseen = None;
    for url in target.base_urls.iter().filter_map(|url| Url::parse(url).ok()) {
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { continue };
        let host_only = host.trim_matches(['[', ']']);
        let mut processes = addresses.processes.iter();
        let found = processes.find(|(_, address)| address.host == host_only);
        let Some((name, address)) = found else { continue };
        let Some(node) = census.home(name) else { continue };
        let Some(holders) = census.holders(node).await else {
            unseen.get_or_insert(format!("{host}:{port}"));
            continue;
        };
        let holders: Vec<Holder> = holders.into_iter().filter(|holder| holder.port == port).collect();
        let reached = reached(&address.ip, &holders);
        if let Some(process) = reached.iter().find_map(foreign) {
            return Err(ProbeFailure::Foreign { address: format!("{host}:{port}"), process });
        }
        if reached.is_empty() {
            unseen.get_or_insert(format!("{host}:{port}"));
        }
    }
    Ok(unseen)
}

/// The process that a holder names, unless it is ours or passes connections on.
fn foreign(holder: &Holder) -> Option<String> {
    match &holder.process {
        _ if holder.is_ours => None,
        Some(process) if FORWARDERS.iter().any(|name| process.contains(name)) => None,
        Some(process) => Some(process.clone()),
        // A forwarder that runs as root.
        None if holder.uid == 0 && !getuid().is_root() => None,
        None => Some(format!("a process of user {}", holder.uid)),
    }
}

/// The listeners that a connection to a host may reach: those on its address, else those on any address. For a host without a known
/// address all of them, or ours if there are any.
fn reached(host: &str, all: &[Holder]) -> Vec<Holder> {
    let Ok(host) = host.trim_matches(['[', ']']).parse::<IpAddr>().map(|host| host.to_canonical()) else {
        let ours: Vec<Holder> = all.iter().filter(|holder| holder.is_ours).cloned().collect();
        return if ours.is_empty() { all.to_vec() } else { ours };
    };
    let at = |address: IpAddr| -> Vec<Holder> {
        all.iter().filter(|listener| listener.address == address).cloned().collect()
    };
    let any = all.iter().filter(|listener| listener.address.is_unspecified()).cloned().collect();
    let exact = at(host);
    if exact.is_empty() { any } else { exact }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(address: &str, uid: u32, process: Option<&str>) -> Holder {
        let process = process.map(str::to_owned);
        Holder { port: 1, address: address.parse().unwrap(), is_ours: false, uid, process }
    }

    #[test]
    fn the_listener_on_the_address_itself_is_reached_first() {
        let all = [holder("0.0.0.0", 1, None), holder("127.0.0.1", 2, None), holder("10.0.0.1", 3, None)];
        let users = |host| reached(host, &all).iter().map(|found| found.uid).collect::<Vec<_>>();
        assert_eq!(
            (users("127.0.0.1"), users("127.0.0.2"), users("node1")),
            (vec![2], vec![1], vec![1, 2, 3])
        );
        let mut with_ours = all.to_vec();
        with_ours[2].is_ours = true;
        let found = reached("node1", &with_ours);
        assert_eq!(found.iter().map(|found| found.uid).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn a_listener_of_another_process_is_not_ours() {
        let found = |holder: Holder| foreign(&holder);
        let nginx = holder("::", 7, Some("pid 9: nginx: worker"));
        assert_eq!(found(nginx.clone()).as_deref(), Some("pid 9: nginx: worker"));
        assert_eq!(found(Holder { is_ours: true, ..nginx }), None);
        assert_eq!(found(holder("::", 0, Some("pid 3: /usr/bin/docker-proxy -proto tcp"))), None);
        assert_eq!(found(holder("::", 7, None)).as_deref(), Some("a process of user 7"));
    }
}
