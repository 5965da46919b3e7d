//! The process of a server that answers its clients, and how busy the busiest of its threads is.
//!
//! It is the process that has a connection with a port of the endpoint open. Its child processes, such as an engine that polls its
//! GPU, have none. Sources: proc_pid_net(5), proc_pid_task(5).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::figures::read;
use super::processes;

/// Two looks that are nearer than this tell nothing of a thread: the kernel counts in steps of 10 ms.
const SHORTEST_S: f64 = 0.2;

/// A process that answers clients.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Front {
    pub pid: u32,
    /// Share of the time since the look before in which the busiest of its threads ran; absent at the first look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busiest_thread: Option<f64>,
}

/// The processes that have answered clients so far.
#[derive(Debug, Default)]
pub struct Fronts {
    /// Sockets of the connections at this look.
    connections: BTreeSet<u64>,
    /// CPU time of each thread, by id and start of the process; seconds.
    known: BTreeMap<(u32, u64), BTreeMap<u32, f64>>,
}

impl Fronts {
    /// A new look at the connections of these ports.
    pub fn look(&mut self, ports: &[u16]) {
        self.connections = processes::connections(ports);
    }

    /// What a process is to its clients; `since_s`: time since the look before. `None` if it has never had a connection.
    pub fn of(&mut self, key: (u32, u64), sockets: &BTreeSet<u64>, since_s: Option<f64>) -> Option<Front> {
        let before = self.known.get(&key);
        if before.is_none() && self.connections.is_disjoint(sockets) {
            return None;
        }
        let now = threads(key.0);
        let since_s = since_s.filter(|since_s| *since_s >= SHORTEST_S);
        let busiest_thread = before.zip(since_s).and_then(|(before, since_s)| busiest(before, &now, since_s));
        self.known.insert(key, now);
        Some(Front { pid: key.0, busiest_thread })
    }
}

/// The largest share of a core that a thread used between two looks; a thread that has begun since counts from 0.
fn busiest(before: &BTreeMap<u32, f64>, now: &BTreeMap<u32, f64>, since_s: f64) -> Option<f64> {
    let used = now.iter().map(|(thread, cpu_s)| cpu_s - before.get(thread).copied().unwrap_or(0.0));
    used.reduce(f64::max).map(|most| (most / since_s).clamp(0.0, 1.0))
}

/// User and system time of each thread so far, seconds.
fn threads(pid: u32) -> BTreeMap<u32, f64> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(|id: u32| {
        let stat = read(format!("/proc/{pid}/task/{id}/stat"))?;
        Some((id, processes::cpu_s(&stat, 2)))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_thread_is_the_one_that_used_most_between_two_looks() {
        let before = BTreeMap::from([(1, 100.0), (2, 3.0)]);
        let now = BTreeMap::from([(1, 100.5), (2, 3.98), (3, 0.25)]);
        let share = busiest(&before, &now, 1.0).unwrap();
        assert!((share - 0.98).abs() < 1e-9, "{share}");
        assert_eq!(busiest(&before, &BTreeMap::from([(3, 0.25)]), 0.5), Some(0.5), "a new thread");
        assert_eq!(busiest(&before, &BTreeMap::from([(2, 9.0)]), 1.0), Some(1.0), "never more than one core");
        assert_eq!(busiest(&before, &BTreeMap::new(), 1.0), None);
    }

    #[test]
    fn a_process_with_a_connection_of_the_port_answers_clients() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (own, mut fronts) = ((std::process::id(), 1), Fronts::default());
        fronts.look(&[port]);
        assert_eq!(fronts.of(own, &processes::sockets(own.0), None), None, "it only listens");
        let _client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let _served = listener.accept().unwrap();
        fronts.look(&[port]);
        let first = fronts.of(own, &processes::sockets(own.0), Some(1.0)).expect("a connection");
        assert_eq!((first.pid, first.busiest_thread), (own.0, None));
        fronts.look(&[]);
        let later = fronts.of(own, &BTreeSet::new(), Some(1e9)).expect("it is remembered");
        assert!(later.busiest_thread.is_some_and(|share| share < 1e-3));
    }
}
