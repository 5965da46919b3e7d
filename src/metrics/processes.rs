//! What the processes of the servers used in the measured window of a load point.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

/// A process of the plan, with its descendants, on one node. The samples are those whose interval overlaps the measured window.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct ProcessView {
    /// Its name in the plan.
    pub process: String,
    /// Its node.
    pub node: String,
    /// Samples.
    pub samples: usize,
    /// Cores in use on average.
    pub cpu_avg_cores: Option<f64>,
    /// Cores in use between two samples, the most.
    pub cpu_max_cores: Option<f64>,
    /// Share of the window in which the busiest thread of the process that answers the clients ran, from one sample to the next; absent
    /// for processes that answer no clients.
    pub front_busy: Option<f64>,
    /// Most resident memory, MiB; pages that several of its processes share count for each.
    pub rss_max_mib: f64,
    /// The memory that was nearest to its limit.
    pub memory: Option<MemoryUse>,
    /// Most open descriptors of the one of its processes that is nearest to its limit.
    pub open_files_max: u64,
    /// The limit of that one.
    pub open_files_limit: Option<u64>,
    /// Most open sockets.
    pub sockets_max: u64,
    /// Most threads.
    pub threads_max: u64,
    /// For how long the CPU limit of its cgroup stopped it, seconds, summed over CPUs; absent if it never did.
    pub throttled_s: Option<f64>,
    /// In how many periods.
    pub throttled_periods: Option<u64>,
    /// Processes that the kernel killed in its cgroup for want of memory; absent without any.
    pub oom_kills: Option<u64>,
}

/// Memory of a cgroup or a machine, when it was nearest to its limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct MemoryUse {
    /// The folder of the cgroup, or `machine`.
    pub of: String,
    /// Memory in use but for file pages that can be dropped at once, MiB.
    pub used_mib: f64,
    /// Its limit, MiB.
    pub limit_mib: f64,
    /// The load generator is in it, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_clients: bool,
}

impl ProcessView {
    /// The highest figures of each process, of several load points.
    pub fn highest<'a>(views: impl IntoIterator<Item = &'a Self>) -> Vec<Self> {
        let mut all: BTreeMap<(&str, &str), Self> = BTreeMap::new();
        for view in views {
            let known = all.entry((&view.process, &view.node)).or_insert_with(|| Self {
                process: view.process.clone(),
                node: view.node.clone(),
                ..Self::default()
            });
            known.raise(view);
        }
        all.into_values().collect()
    }

    fn raise(&mut self, other: &Self) {
        let most = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::max);
        let files =
            |view: &Self| view.open_files_max as f64 / view.open_files_limit.unwrap_or(u64::MAX) as f64;
        if files(other) >= files(self) {
            (self.open_files_max, self.open_files_limit) = (other.open_files_max, other.open_files_limit);
        }
        let share = |memory: &Option<MemoryUse>| memory.as_ref().map_or(-1.0, MemoryUse::share);
        if share(&other.memory) > share(&self.memory) {
            self.memory.clone_from(&other.memory);
        }
        self.samples += other.samples;
        self.cpu_avg_cores = most(self.cpu_avg_cores, other.cpu_avg_cores);
        self.cpu_max_cores = most(self.cpu_max_cores, other.cpu_max_cores);
        self.front_busy = most(self.front_busy, other.front_busy);
        self.rss_max_mib = self.rss_max_mib.max(other.rss_max_mib);
        self.sockets_max = self.sockets_max.max(other.sockets_max);
        self.threads_max = self.threads_max.max(other.threads_max);
        self.throttled_s = most(self.throttled_s, other.throttled_s);
        self.throttled_periods = self.throttled_periods.max(other.throttled_periods);
        self.oom_kills = self.oom_kills.max(other.oom_kills);
    }
}

impl MemoryUse {
    /// Memory in use over the limit.
    pub fn share(&self) -> f64 {
        if self.limit_mib > 0.0 { self.used_mib / self.limit_mib } else { 0.0 }
    }
}
