//! Which port each process gets: the preferred one, or the next that is free, never one that another process has.
//!
//! Pure: what is free comes in as a function.

use std::collections::{BTreeMap, BTreeSet};

use super::process::{PortNeed, Process};

/// How far from the preferred port a free one is looked for.
pub const SEARCH: u16 = 500;

/// Ports of each process, by process name and port name.
pub type PortMap = BTreeMap<String, BTreeMap<String, u16>>;

/// No port was free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoPort {
    pub process: String,
    pub port: String,
    /// Its node, as a number within the allocation.
    pub node: u32,
    /// First and last number that was tried.
    pub tried: (u16, u16),
    /// Consecutive ports that were needed.
    pub count: u16,
}

/// A port that the user fixed: process, port name, number.
pub type Fixed<'a> = (&'a str, &'a str, u16);

/// Assigns ports in the order of the processes. `spread` is added to the preferred numbers.
///
/// # Errors
/// The first process for which none was free.
pub fn assign(
    processes: &[Process],
    fixed: Option<Fixed<'_>>,
    spread: u16,
    free: &mut dyn FnMut(u32, u16) -> bool,
) -> Result<PortMap, NoPort> {
    let mut taken: BTreeSet<(u32, u16)> = BTreeSet::new();
    if let Some((process, _, port)) = fixed
        && let Some(process) = processes.iter().find(|known| known.name == process)
    {
        taken.extend(process.nodes.iter().map(|node| (*node, port)));
    }
    let mut map = PortMap::new();
    for process in processes {
        let node = process.nodes.first().copied().unwrap_or_default();
        let mut ports = BTreeMap::new();
        for (name, need) in &process.ports {
            let number = match fixed {
                Some((of, port, number)) if of == process.name && port == name => number,
                _ => pick(*need, spread, &mut |port| !taken.contains(&(node, port)) && free(node, port))
                    .ok_or_else(|| NoPort {
                        process: process.name.clone(),
                        port: name.clone(),
                        node,
                        tried: (
                            need.base.saturating_add(spread),
                            need.base.saturating_add(spread).saturating_add(SEARCH),
                        ),
                        count: need.count,
                    })?,
            };
            taken.extend((0..need.count).map(|more| (node, number.saturating_add(more))));
            ports.insert(name.clone(), number);
        }
        map.insert(process.name.clone(), ports);
    }
    Ok(map)
}

/// The first start, in steps of the stride, with all its ports free.
fn pick(need: PortNeed, spread: u16, free: &mut dyn FnMut(u16) -> bool) -> Option<u16> {
    let first = need.base.checked_add(spread)?;
    // A wide stride gets as many tries as it needs to pass a few neighbours.
    let last = first.saturating_add(SEARCH.max(need.stride.saturating_mul(16)));
    (first..=last)
        .step_by(usize::from(need.stride.max(1)))
        .find(|start| (0..need.count).all(|more| start.checked_add(more).is_some_and(&mut *free)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(name: &str, node: u32, ports: &[(&str, PortNeed)]) -> Process {
        Process {
            name: name.into(),
            role: "r".into(),
            pool: None,
            index: 0,
            replica: 0,
            rank: 0,
            ranks: 1,
            follows: false,
            dp_rank: 0,
            dp_local: 1,
            nodes: vec![node],
            tasks: 1,
            gpus: Vec::new(),
            ports: ports.iter().map(|(name, need)| ((*name).to_owned(), *need)).collect(),
        }
    }

    const HTTP: PortNeed = PortNeed { base: 8000, count: 1, stride: 1 };
    const EVENTS: PortNeed = PortNeed { base: 5200, count: 4, stride: 8 };

    #[test]
    fn neighbours_on_a_node_stand_apart_and_other_nodes_start_anew() {
        let ports = [("events", EVENTS), ("http", HTTP)];
        let processes = [process("a", 0, &ports), process("b", 0, &ports), process("c", 1, &ports)];
        let map = assign(&processes, None, 0, &mut |_, _| true).unwrap();
        let seen: Vec<_> = map.values().map(|ports| (ports["events"], ports["http"])).collect();
        assert_eq!(seen, [(5200, 8000), (5208, 8001), (5200, 8000)]);
    }

    #[test]
    fn a_taken_port_moves_the_whole_range_by_its_stride() {
        let processes = [process("a", 0, &[("events", EVENTS)])];
        let map = assign(&processes, None, 10, &mut |_, port| port != 5213).unwrap();
        assert_eq!(map["a"]["events"], 5218, "5210 to 5213 are not all free");
        let none = assign(&processes, None, 0, &mut |_, _| false).unwrap_err();
        assert_eq!((none.process.as_str(), none.tried, none.count), ("a", (5200, 5700), 4));
    }

    #[test]
    fn a_fixed_port_is_kept_from_the_others() {
        let processes = [process("a", 0, &[("http", HTTP)]), process("b", 0, &[("http", HTTP)])];
        let map = assign(&processes, Some(("b", "http", 8000)), 0, &mut |_, _| true).unwrap();
        assert_eq!((map["a"]["http"], map["b"]["http"]), (8001, 8000));
    }

    #[test]
    fn the_end_of_the_numbers_is_an_error() {
        let need = PortNeed { base: 65530, count: 10, stride: 10 };
        assert!(assign(&[process("a", 0, &[("x", need)])], None, 0, &mut |_, _| true).is_err());
    }
}
