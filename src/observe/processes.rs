//! The samples of the servers' processes over time, and what they say of a measured window.

use std::collections::BTreeMap;

use crate::metrics::processes::{MemoryUse, ProcessView};
use crate::node::usage::{Machine, Sample, Usage};

/// Rates over less than this tell little: the kernel counts CPU time in steps of 10 ms.
const SHORTEST_S: f64 = 0.5;

const MIB: f64 = (1 << 20) as f64;

/// The samples of one process on one node, in the order of time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Track {
    process: String,
    node: String,
    /// Cgroups that the looks speak of, each once.
    cgroups: Vec<String>,
    looks: Vec<Look>,
}

/// One sample, small because a long load point has many.
#[derive(Debug, Clone, Default, PartialEq)]
struct Look {
    /// µs since 1970.
    at: i64,
    /// Since the look before; 0 at the first one.
    since_s: f64,
    cpu_s: f64,
    busiest_thread: Option<f64>,
    rss_mib: f64,
    threads: u64,
    open_files: u64,
    open_files_limit: Option<u64>,
    sockets: u64,
    /// The memory nearest to its limit: place of its cgroup, of a machine `None`; in use, and limit, bytes.
    memory: Option<(Option<usize>, u64, u64)>,
    oom_kills: Option<u64>,
    /// Place of a cgroup, periods and seconds so far.
    throttled: Vec<(usize, u64, f64)>,
}

/// The samples of the processes of a deployment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tracks {
    all: BTreeMap<(String, String), Track>,
    /// Cgroups and node of this process, which local servers share.
    own: (Vec<String>, Option<String>),
}

impl Tracks {
    /// No samples yet. `own`: cgroups of this process, and its node if servers may be there.
    pub fn new(own: Vec<String>, node: Option<String>) -> Self {
        Self { all: BTreeMap::new(), own: (own, node) }
    }

    /// Takes in a sample that came at `at`, µs since 1970.
    pub fn add(&mut self, at: i64, node: &str, sample: &Sample) {
        let own: &[String] = if self.own.1.as_deref() == Some(node) { &self.own.0 } else { &[] };
        for (name, usage) in &sample.processes {
            let track = self.all.entry((name.clone(), node.to_owned())).or_insert_with(|| Track {
                process: name.clone(),
                node: node.to_owned(),
                ..Track::default()
            });
            let mut look = track.look(at, sample.since_s.unwrap_or(0.0), usage, &sample.machine);
            // What stops or kills the load generator is told of it.
            look.throttled
                .retain(|(place, ..)| track.cgroups.get(*place).is_some_and(|of| !own.contains(of)));
            look.oom_kills =
                look.oom_kills.filter(|_| !usage.memory.iter().any(|of| own.contains(&of.cgroup)));
            track.looks.push(look);
        }
    }

    /// Drops what came before `at`, except for the last sample before it.
    pub fn forget_before(&mut self, at: i64) {
        for track in self.all.values_mut() {
            let keep = track.looks.partition_point(|look| look.at < at).saturating_sub(1);
            track.looks.drain(..keep);
        }
    }

    /// What they say of a window, µs since 1970.
    pub fn views(&self, window: (i64, i64)) -> Vec<ProcessView> {
        self.all.values().filter_map(|track| track.view(window, &self.own)).collect()
    }
}

impl Track {
    fn place(&mut self, cgroup: &str) -> usize {
        let known = self.cgroups.iter().position(|known| known == cgroup);
        known.unwrap_or_else(|| {
            self.cgroups.push(cgroup.to_owned());
            self.cgroups.len() - 1
        })
    }

    fn look(&mut self, at: i64, since_s: f64, usage: &Usage, machine: &Machine) -> Look {
        let mut memory = machine
            .available_mib
            .zip(machine.total_mib)
            .map(|(free, total)| (None, total.saturating_sub(free) << 20, total << 20));
        for account in &usage.memory {
            let Some((used, limit)) = account.used.zip(account.limit) else { continue };
            let share = |used: u64, limit: u64| used as f64 / limit.max(1) as f64;
            if memory.is_none_or(|(_, most, of)| share(used, limit) >= share(most, of)) {
                memory = Some((Some(self.place(&account.cgroup)), used, limit));
            }
        }
        let throttled = usage.cpu.iter();
        let throttled = throttled.map(|one| (self.place(&one.cgroup), one.periods, one.throttled_s));
        Look {
            at,
            since_s,
            cpu_s: usage.cpu_s,
            busiest_thread: usage.front.iter().filter_map(|front| front.busiest_thread).reduce(f64::max),
            rss_mib: usage.rss_mib,
            threads: usage.threads,
            open_files: usage.open_files,
            open_files_limit: usage.open_files_limit,
            sockets: usage.sockets,
            memory,
            // Those of the cgroups above may be of other processes.
            oom_kills: usage.memory.first().and_then(|account| account.oom_kills),
            throttled: throttled.collect(),
        }
    }

    /// `None` without a sample.
    fn view(&self, window: (i64, i64), own: &(Vec<String>, Option<String>)) -> Option<ProcessView> {
        let first = self.looks.iter().position(|look| overlap_s(look, window) > 0.0)?;
        let inside: Vec<&Look> =
            self.looks.get(first..)?.iter().take_while(|look| overlap_s(look, window) > 0.0).collect();
        let rates = self.rates(window);
        let weighed = |values: &[(f64, f64)]| {
            let time: f64 = values.iter().map(|(time, _)| time).sum();
            (time > 0.0).then(|| values.iter().map(|(time, value)| time * value).sum::<f64>() / time)
        };
        let busy = inside.iter().filter_map(|look| Some((overlap_s(look, window), look.busiest_thread?)));
        let cores: Vec<(f64, f64)> = rates.iter().map(|(overlap_s, rate, _)| (*overlap_s, *rate)).collect();
        let long = rates
            .iter()
            .filter(|(overlap_s, _, since_s)| *since_s >= SHORTEST_S && *overlap_s >= since_s / 2.0);
        let cpu_avg_cores = weighed(&cores);
        let most = |figure: fn(&Look) -> u64| inside.iter().map(|look| figure(look)).max().unwrap_or(0);
        let files = inside.iter().max_by(|a, b| share_of_files(a).total_cmp(&share_of_files(b)))?;
        let before = self.looks.get(first.saturating_sub(1))?;
        let last = inside.last()?;
        let (throttled_s, throttled_periods) = throttled_since(before, last).unzip();
        Some(ProcessView {
            process: self.process.clone(),
            node: self.node.clone(),
            samples: inside.len(),
            cpu_avg_cores,
            cpu_max_cores: long.map(|(_, rate, _)| *rate).reduce(f64::max).or(cpu_avg_cores),
            front_busy: weighed(&busy.collect::<Vec<_>>()),
            rss_max_mib: inside.iter().map(|look| look.rss_mib).fold(0.0, f64::max),
            memory: self.memory(&inside, own),
            open_files_max: files.open_files,
            open_files_limit: files.open_files_limit,
            sockets_max: most(|look| look.sockets),
            threads_max: most(|look| look.threads),
            throttled_s,
            throttled_periods,
            oom_kills: last
                .oom_kills
                .zip(before.oom_kills)
                .and_then(|(after, before)| after.checked_sub(before))
                .filter(|kills| *kills > 0),
        })
    }

    /// Of each pair of looks: seconds within the window, cores in use, seconds in all. A counter that fell tells nothing: a process
    /// ended.
    fn rates(&self, window: (i64, i64)) -> Vec<(f64, f64, f64)> {
        let pairs = self.looks.iter().zip(self.looks.iter().skip(1));
        pairs
            .filter(|(before, after)| after.since_s > 0.0 && after.cpu_s >= before.cpu_s)
            .map(|(before, after)| {
                let rate = (after.cpu_s - before.cpu_s) / after.since_s;
                (overlap_s(after, window), rate, after.since_s)
            })
            .filter(|(overlap_s, ..)| *overlap_s > 0.0)
            .collect()
    }

    fn memory(&self, inside: &[&Look], own: &(Vec<String>, Option<String>)) -> Option<MemoryUse> {
        let share = |memory: &(Option<usize>, u64, u64)| memory.1 as f64 / memory.2.max(1) as f64;
        let looks = inside.iter().filter_map(|look| look.memory);
        let (place, used, limit) = looks.max_by(|a, b| share(a).total_cmp(&share(b)))?;
        let cgroup = place.and_then(|place| self.cgroups.get(place));
        let is_clients = match cgroup {
            Some(cgroup) => own.1.as_ref() == Some(&self.node) && own.0.contains(cgroup),
            None => own.1.as_ref() == Some(&self.node),
        };
        let of = cgroup.cloned().unwrap_or_else(|| "machine".into());
        Some(MemoryUse { of, used_mib: used as f64 / MIB, limit_mib: limit as f64 / MIB, is_clients })
    }
}

/// Seconds of a window that the interval before a look covers.
fn overlap_s(look: &Look, (from, to): (i64, i64)) -> f64 {
    let began = look.at - (look.since_s * 1e6) as i64;
    (look.at.min(to) - began.max(from)).max(0) as f64 / 1e6
}

fn share_of_files(look: &Look) -> f64 {
    look.open_files_limit.map_or(0.0, |limit| look.open_files as f64 / limit.max(1) as f64)
}

/// Seconds and periods between two looks, of the cgroup that was stopped for longest.
fn throttled_since(before: &Look, after: &Look) -> Option<(f64, u64)> {
    let grown = after.throttled.iter().map(|(place, periods, seconds)| {
        let known = before.throttled.iter().find(|(known, ..)| known == place);
        let (_, periods_then, seconds_then) = known.copied().unwrap_or((0, 0, 0.0));
        (seconds - seconds_then, periods.saturating_sub(periods_then))
    });
    grown.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(seconds, _)| *seconds > 0.0)
}

#[cfg(test)]
#[path = "processes_tests.rs"]
mod tests;
