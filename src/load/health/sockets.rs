//! Source ports towards the server, and losses of the host's TCP.
//!
//! Sources: ip(7), Documentation/networking: ip-sysctl.rst, proc_net_tcp.rst, snmp_counter.rst. All figures are those of the
//! network namespace. A connection that ended keeps its source port for a minute (TIME-WAIT).

use std::collections::HashMap;
use std::io;

use super::kernel::paired;
use crate::node::figures::read;

const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// While the open sockets can use at most this share of the source ports, they are not counted by address, which would take
/// reading all of them.
const PLAUSIBLE: f64 = 0.5;

pub(super) fn source_ports() -> Option<u64> {
    count_ports(&read(RANGE)?, &read(RESERVED).unwrap_or_default())
}

/// `32768 60999` without the reserved `8080,9000-9010`.
fn count_ports(range: &str, reserved: &str) -> Option<u64> {
    let mut bounds = range.split_whitespace().map(str::parse::<u16>);
    let (low, high) = (bounds.next()?.ok()?, bounds.next()?.ok()?);
    let reserved: u64 = reserved
        .trim()
        .split(',')
        .filter_map(|ports| {
            let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
            let (first, last) = (first.parse::<u16>().ok()?.max(low), last.parse::<u16>().ok()?.min(high));
            Some((u64::from(last) + 1).saturating_sub(u64::from(first)))
        })
        .sum();
    (u64::from(high) + 1).saturating_sub(u64::from(low)).checked_sub(reserved)
}

/// Source ports in use towards the busiest address whose port is `server_port`. `None` while it cannot be many of
/// `available`.
pub(super) fn source_ports_used(server_port: u16, available: u64) -> Option<u64> {
    let sockets = tcp_sockets(&read("/proc/net/sockstat")?)?;
    if (sockets as f64) < PLAUSIBLE * available as f64 {
        return None;
    }
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().filter_map(read);
    tables.map(|table| busiest(&table, server_port)).max()
}

/// TCP sockets of the namespace, TIME-WAIT included: the most that any count by address can be.
fn tcp_sockets(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let value = |name: &str| words.chunks_exact(2).find(|pair| pair[0] == name)?[1].parse::<u64>().ok();
    Some(value("inuse")? + value("tw").unwrap_or(0))
}

/// Most sockets towards one address with this port, in a table of `/proc/net/tcp` or `tcp6`.
fn busiest(table: &str, server_port: u16) -> u64 {
    let port = format!("{server_port:04X}");
    let mut sockets: HashMap<&str, u64> = HashMap::new();
    for line in table.lines().skip(1) {
        let remote = line.split_whitespace().nth(2).unwrap_or_default();
        if let Some((address, of_remote)) = remote.split_once(':')
            && of_remote == port
        {
            *sockets.entry(address).or_default() += 1;
        }
    }
    sockets.into_values().max().unwrap_or(0)
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TcpCounters {
    /// Connection requests dropped at a listening socket; those that met a full accept queue are among them.
    pub(super) listen_drops: Option<u64>,
    pub(super) sent: Option<u64>,
    pub(super) resent: Option<u64>,
}

impl TcpCounters {
    pub(super) fn now() -> Self {
        let (netstat, snmp) = (read("/proc/net/netstat"), read("/proc/net/snmp"));
        let (netstat, snmp) = (netstat.unwrap_or_default(), snmp.unwrap_or_default());
        Self {
            listen_drops: paired(&netstat, "TcpExt", "ListenDrops"),
            sent: paired(&snmp, "Tcp", "OutSegs"),
            resent: paired(&snmp, "Tcp", "RetransSegs"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// `EADDRNOTAVAIL`.
    SourcePort,
    /// `EMFILE`, `ENFILE`.
    Descriptor,
}

impl Refused {
    /// Reads the error of a record whose connection failed. The record keeps errors as text, so they are compared as the
    /// standard library writes them.
    pub(super) fn of(error: &str) -> Option<Self> {
        use nix::errno::Errno;
        let says = |errno: Errno| error.contains(&io::Error::from(errno).to_string());
        if says(Errno::EADDRNOTAVAIL) {
            return Some(Self::SourcePort);
        }
        (says(Errno::EMFILE) || says(Errno::ENFILE)).then_some(Self::Descriptor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ports_of_the_range_but_for_the_reserved() {
        assert_eq!(count_ports("32768\t60999\n", "\n"), Some(28_232));
        assert_eq!(
            count_ports("32768 60999", "8080,40000,50000-50009,60990-62000\n"),
            Some(28_232 - 1 - 10 - 10)
        );
        assert_eq!(count_ports("1000 1000", ""), Some(1));
        assert_eq!(count_ports("9 1", ""), Some(0));
        assert_eq!(count_ports("", ""), None);
    }

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1070 1 0 100 0 0 10 0\n\
   1: 0100007F:BBC4 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0 20 4 1 78 -1\n\
   2: 0100007F:1F90 0100007F:BBC4 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 1 78 -1\n\
   3: 0100007F:BBC5 0100007F:1F90 06 00000000:00000000 03:00000A3B 00000000     0        0 0 3 0\n\
   4: 0100007F:BBC6 0200007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 20 4 1 78 -1\n";

    #[test]
    fn sockets_towards_the_busiest_address() {
        assert_eq!(busiest(TABLE, 8080), 2, "TIME-WAIT counts, the server's own side does not");
        assert_eq!(busiest(TABLE, 0xBBC4), 1);
        assert_eq!(busiest(TABLE, 9999), 0);
    }

    #[test]
    fn sockets_in_sum() {
        let text = "sockets: used 21\nTCP: inuse 12 orphan 0 tw 30 alloc 13 mem 341\nUDP: inuse 0 mem 0\n";
        assert_eq!(tcp_sockets(text), Some(42));
        assert_eq!(tcp_sockets("sockets: used 21\n"), None);
    }

    /// An unassigned address (RFC 5737) cannot be bound, which fails as a connection without a free source port does.
    #[test]
    fn errors_of_this_side() {
        let unavailable = std::net::TcpListener::bind("192.0.2.1:0").expect_err("not our address");
        assert_eq!(Refused::of(&unavailable.to_string()), Some(Refused::SourcePort));
        let full = io::Error::from(nix::errno::Errno::EMFILE).to_string();
        assert_eq!(Refused::of(&format!("tcp open error: {full}")), Some(Refused::Descriptor));
        let theirs = io::Error::from(nix::errno::Errno::ECONNREFUSED).to_string();
        assert_eq!(Refused::of(&theirs), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[0-9A-F:,\\- \nTCPinusetw]{0,200}") {
            count_ports(&text, &text);
            tcp_sockets(&text);
            busiest(&text, 8080);
        }
    }
}
