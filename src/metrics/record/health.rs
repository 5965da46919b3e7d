//! What the client found of its machine while it drove one load point: limits it came near to, and what the machine kept
//! from it.

use serde::{Deserialize, Serialize};

/// Limits and losses over the measured window. `null` where the machine does not report it (no cgroup, an old kernel).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct MachineHealth {
    /// Most descriptors tokmark had open at once.
    pub open_files: Option<u64>,
    /// How many it may have open: the soft limit.
    pub open_files_limit: Option<u64>,
    /// Connections that failed for want of a descriptor.
    pub open_files_refused: u64,
    /// Memory in use where it was scarcest, MiB: of one of the cgroups tokmark runs in, or of the machine. File pages that can
    /// be dropped at once are not counted.
    pub memory_used_mib: Option<f64>,
    /// The limit of that cgroup, or the machine's memory, MiB.
    pub memory_limit_mib: Option<f64>,
    /// How often a cgroup's memory limit was reached and pages had to be reclaimed. Reading model files does so too.
    pub memory_limit_hits: Option<u64>,
    /// Time in which a task of the cgroup stood still for want of memory (PSI, *some*), seconds.
    pub memory_stall_s: Option<f64>,
    /// Times the cgroup ran out of memory.
    pub ooms: Option<u64>,
    /// Processes the kernel killed in the cgroup for want of memory; not always tokmark's own.
    pub oom_kills: Option<u64>,
    /// Periods in which the cgroup's CPU limit stopped its tasks.
    pub throttled_periods: Option<u64>,
    /// For how long it did, seconds, summed over CPUs.
    pub throttled_s: Option<f64>,
    /// Time the driving threads were ready to run and had no core, seconds, summed over threads.
    pub run_queue_wait_s: Option<f64>,
    /// How often they were given a core.
    pub time_slices: Option<u64>,
    /// Most source ports in use towards the server, connections that have just ended included. `null` while few sockets are
    /// open.
    pub source_ports_used: Option<u64>,
    /// Source ports there are towards one address.
    pub source_ports: Option<u64>,
    /// Connections that failed for want of a source port.
    pub source_ports_refused: u64,
    /// Connection requests that a full accept queue on this host turned away, whichever process they were for.
    pub listen_drops: Option<u64>,
    /// TCP segments that this host sent, all processes.
    pub segments_sent: Option<u64>,
    /// TCP segments that this host sent again, all processes.
    pub segments_resent: Option<u64>,
    /// The largest jump of the system clock against the monotonic clock, ms; negative: set back. 0: none.
    pub clock_step_ms: Option<f64>,
}
