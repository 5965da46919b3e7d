//! Processes of this machine, and the sockets on which they listen, as `/proc` shows them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::unistd::{SysconfVar, sysconf};

/// A living process. Source of the fields: proc_pid_stat(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    pub group: u32,
    /// When it started, clock ticks since boot. With the id it names one process for ever.
    pub started: u64,
}

impl Process {
    /// The living process with this id; `None` for a zombie.
    pub fn of(pid: u32) -> Option<Self> {
        Self::parse(pid, &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// `PID (COMMAND) STATE PARENT GROUP …`, and a command may hold parentheses.
    fn parse(pid: u32, stat: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        let alive = !matches!(*fields.first()?, "Z" | "X");
        let [parent, group] = [fields.get(1)?.parse().ok()?, fields.get(2)?.parse().ok()?];
        alive.then_some(Self { pid, parent, group, started: fields.get(19)?.parse().ok()? })
    }

    /// Every living process of this machine.
    pub fn all() -> Vec<Self> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        ids.filter_map(Self::of).collect()
    }

    /// Every living descendant of a process.
    pub fn descendants(ancestor: u32) -> Vec<Self> {
        let all = Self::all();
        let mut known = BTreeSet::from([ancestor]);
        while all.iter().any(|process| known.contains(&process.parent) && known.insert(process.pid)) {}
        all.into_iter().filter(|process| process.pid != ancestor && known.contains(&process.pid)).collect()
    }
}

/// What the descendants of a process have done: clock ticks of CPU time, those of their ended children included, and pages that
/// they read from storage.
pub fn work_below(ancestor: u32) -> u64 {
    let stat = |process: Process| std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).ok();
    Process::descendants(ancestor).into_iter().filter_map(stat).map(|stat| work(&stat)).sum()
}

/// majflt, cmajflt, utime, stime, cutime and cstime together. Source: proc_pid_stat(5).
fn work(stat: &str) -> u64 {
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(9).take(6).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// A socket that waits for connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    pub address: IpAddr,
    pub uid: u32,
    pub inode: u64,
}

impl Listener {
    /// Every listener on a port.
    pub fn on(port: u16) -> Vec<Self> {
        let table = |name: &str| std::fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
        [table("tcp"), table("tcp6")].iter().flat_map(|text| Self::parse(text, port)).collect()
    }

    /// Source of the columns: proc_pid_net(5). Addresses are words of 32 bits, each in the byte order of the machine.
    fn parse(table: &str, port: u16) -> Vec<Self> {
        let line = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (address, local_port) = fields.get(1)?.split_once(':')?;
            let listens = *fields.get(3)? == "0A" && u16::from_str_radix(local_port, 16).ok()? == port;
            let word =
                |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
            let address = match address.len() {
                8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
                _ => {
                    let words = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
                    IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?))
                }
            };
            let (uid, inode) = (fields.get(7)?.parse().ok()?, fields.get(9)?.parse().ok()?);
            listens.then_some(Self { address: address.to_canonical(), uid, inode })
        };
        table.lines().filter_map(line).collect()
    }
}

/// Inodes of established connections whose end here has one of these ports.
pub fn connections(ports: &[u16]) -> BTreeSet<u64> {
    if ports.is_empty() {
        return BTreeSet::new();
    }
    let table = |name: &str| std::fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
    [table("tcp"), table("tcp6")].iter().flat_map(|text| established(text, ports)).collect()
}

fn established(table: &str, ports: &[u16]) -> Vec<u64> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let port = u16::from_str_radix(fields.next()?.split_once(':')?.1, 16).ok()?;
        let is_one = fields.nth(1)? == "01" && ports.contains(&port);
        if is_one { fields.nth(5)?.parse().ok() } else { None }
    };
    table.lines().filter_map(line).collect()
}

/// CPU time in a line of `stat`, seconds: of the process or thread itself (`kinds` 2), and of its ended children (4).
pub fn cpu_s(stat: &str, kinds: usize) -> f64 {
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100).max(1) as f64;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks = fields.skip(11).take(kinds).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
    ticks as f64 / per_second
}

/// Inodes of the sockets that a process has open; none if they cannot be read.
pub fn sockets(pid: u32) -> BTreeSet<u64> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
    let targets = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    let inode = |target: std::path::PathBuf| {
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    targets.filter_map(inode).collect()
}

/// Open descriptors of a process, and how many of them are sockets.
pub fn descriptors(pid: u32) -> Option<(usize, usize)> {
    let files: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.filter_map(Result::ok).collect();
    let targets = files.iter().filter_map(|file| std::fs::read_link(file.path()).ok());
    let sockets = targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count();
    Some((files.len(), sockets))
}

/// The process that listens on a port, as far as this user may see it.
pub fn holder(port: u16) -> Option<u32> {
    let inodes: BTreeSet<u64> = Listener::on(port).iter().map(|listener| listener.inode).collect();
    let holds = |process: &Process| !inodes.is_disjoint(&sockets(process.pid));
    if inodes.is_empty() { None } else { Process::all().into_iter().find(holds).map(|process| process.pid) }
}

/// The command line of a process, cut to 200 characters.
pub fn command(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
    text.trim_end().chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_parentheses_does_not_shift_the_fields() {
        let rest = "1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 9 9";
        let process = Process::parse(9, &format!("9 (a) b) S {rest}")).unwrap();
        assert_eq!(process, Process { pid: 9, parent: 1, group: 7, started: 4242 });
        assert_eq!(Process::parse(9, &format!("9 (a) Z {rest}")), None);
        assert_eq!(Process::parse(9, "9 (a) S 1"), None);
    }

    #[test]
    fn the_work_of_a_process_is_its_cpu_time_and_its_reads_from_storage() {
        assert_eq!(work("9 (a) b) S 1 7 7 0 -1 4194560 1 0 3 4 50 60 700 800 20 0 1 0 4242 9 9"), 1617);
        assert_eq!(work(""), 0);
    }

    #[test]
    fn listeners_are_found_by_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 777 1 0\n   \
                     1: 0100007F:1F90 0100007F:AAAA 01 00000000:00000000 00:00000000 00000000  1000 0 778 1 0\n   \
                     2: 00000000000000000000000000000000:1F90 00:0 0A 0:0 00:0 0 0 0 779 1 0\n";
        let found = Listener::parse(table, 8080);
        let addresses: Vec<(String, u32, u64)> =
            found.iter().map(|found| (found.address.to_string(), found.uid, found.inode)).collect();
        assert_eq!(addresses, [("127.0.0.1".into(), 1000, 777), ("::".into(), 0, 779)]);
        assert_eq!(Listener::parse(table, 8081), []);
        assert_eq!(established(table, &[1, 8080]), [778]);
        assert_eq!(established(table, &[8081]), [0; 0]);
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(holder(socket.local_addr().unwrap().port()), Some(std::process::id()));
    }

    #[test]
    fn this_process_descends_from_its_parent() {
        let own = Process::of(std::process::id()).unwrap();
        assert!(Process::descendants(own.parent).contains(&own));
        assert!(!Process::descendants(own.pid).contains(&own));
    }
}
