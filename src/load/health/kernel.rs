//! Figures of the kernel, read from its files. A file that is missing or in another format gives no figure.
//!
//! Sources: proc(5), Documentation: filesystems/proc.rst, accounting/psi.rst, scheduler/sched-stats.rst.

use crate::node::figures::read;

/// Open descriptors of this process. `quick`: `None` where all of them would have to be listed (before Linux 6.2).
pub(super) fn open_files(quick: bool) -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    match std::fs::metadata(FOLDER).ok()?.len() {
        0 if quick => None,
        // One of them reads the folder.
        0 => Some((std::fs::read_dir(FOLDER).ok()?.count() as u64).saturating_sub(1)),
        count => Some(count),
    }
}

/// The number behind `key` in the two lines that begin with `section`, as in `/proc/net/snmp` and `/proc/net/netstat`:
/// one of names, one of values.
pub(super) fn paired(text: &str, section: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(section)?.strip_prefix(':'));
    let (names, values) = (lines.next()?, lines.next()?);
    let found = names.split_whitespace().zip(values.split_whitespace()).find(|(name, _)| *name == key);
    found.and_then(|(_, value)| value.parse().ok())
}

/// A thread's scheduler counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Schedstat {
    /// Time ready to run without a core, ns.
    pub(super) waited_ns: u64,
    pub(super) slices: u64,
}

impl Schedstat {
    pub(super) fn of_this_thread() -> Option<Self> {
        Self::parse(&read("/proc/thread-self/schedstat")?)
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self {
            waited_ns: self.waited_ns.saturating_sub(before.waited_ns),
            slices: self.slices.saturating_sub(before.slices),
        }
    }

    /// `ns on a core, ns waiting for one, time slices`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_whitespace().skip(1).map(str::parse);
        match (numbers.next()?, numbers.next()?) {
            (Ok(waited_ns), Ok(slices)) => Some(Self { waited_ns, slices }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_in_pairs_of_lines() {
        let netstat = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 7 9\n\
                       IpExt: InNoRoutes ListenDrops\nIpExt: 4 5\n";
        assert_eq!(paired(netstat, "TcpExt", "ListenDrops"), Some(9));
        assert_eq!(paired(netstat, "IpExt", "InNoRoutes"), Some(4));
        assert_eq!(paired(netstat, "TcpExt", "InNoRoutes"), None);
        assert_eq!(paired("Tcp: MaxConn RetransSegs\nTcp: -1 6\n", "Tcp", "RetransSegs"), Some(6));
        assert_eq!(
            paired("Tcp: MaxConn RetransSegs\nTcp: -1 6\n", "Tcp", "MaxConn"),
            None,
            "no limit is no count"
        );
        assert_eq!(paired("Tcp: RetransSegs\n", "Tcp", "RetransSegs"), None, "cut off");
    }

    #[test]
    fn waits_for_a_core() {
        let read = Schedstat::parse("55851792 58665985 92\n");
        assert_eq!(read, Some(Schedstat { waited_ns: 58_665_985, slices: 92 }));
        assert_eq!(Schedstat::parse("55851792\n"), None);
        assert_eq!(Schedstat::parse("a b c\n"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[ -~\n]{0,200}", key in "[a-z]{0,4}") {
            paired(&text, &key, &key);
            Schedstat::parse(&text);
        }
    }
}
