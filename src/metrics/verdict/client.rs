//! The client's part of the verdict: tokmark itself or its machine was the limit, or something of the machine's got in the
//! way.

use super::{ERROR_RATE_SUSPECT, Rating, share};
use crate::metrics::added_error::{AddedError, AddedErrorSource};
use crate::metrics::record::{ClientHealth, MachineHealth};
use crate::metrics::stats::percentile;
use std::fmt;

/// Above this utilisation of the driving threads, requests and chunks queue inside the client.
pub const CLIENT_CPU_SUSPECT: f64 = 0.90;
/// Timers later than this shift ITLs of tens of milliseconds by a visible part.
pub const LOOP_LAG_SUSPECT_MS: f64 = 5.0;
/// Timers later than this are of the size of a TTFT: the client was measured, not the server.
pub const LOOP_LAG_INVALID_MS: f64 = 50.0;
/// Above this share of the window spent ready to run without a core, one chunk in ten meets a thread that is kept from it.
pub const RUN_QUEUE_SUSPECT: f64 = 0.10;
/// Waits for a core shorter than this on average are the scheduler's own grain and hide in every latency alike.
pub const RUN_QUEUE_WAIT_SUSPECT_MS: f64 = 0.1;
/// Less waiting than this in all, summed over threads, is the start of a short window.
pub const RUN_QUEUE_MIN_S: f64 = 0.1;
/// An added error below this does not show in any latency of an LLM server.
pub const ADDED_ERROR_SUSPECT_MS: f64 = 1.0;
/// An added error of more than this part of the median gap between chunks widens the tail of ICL visibly.
pub const ADDED_ERROR_SUSPECT_GAP: f64 = 0.10;
/// A CPU limit that stops the client for this share of the window reaches the p99; each stop lasts tens of milliseconds.
pub const THROTTLED_SUSPECT: f64 = 0.01;
/// Beyond this share of a limit a load point only a little larger fails; of memory, the kernel already searches for pages.
pub const NEAR_LIMIT_SUSPECT: f64 = 0.90;
/// Tasks that stand still for memory for this share of the window reach the p99.
pub const MEMORY_STALL_SUSPECT: f64 = 0.01;
/// A dropped connection request is sent again after 1 s; more than this share of the requests reach the p99 of TTFT.
pub const LISTEN_DROPS_SUSPECT: f64 = 0.01;
/// A segment that is sent again comes 200 ms late or more. Data centres lose fewer than one in ten thousand.
pub const RESENT_SUSPECT: f64 = 0.01;
/// Fewer than this are noise whatever their share.
pub const RESENT_MIN: u64 = 10;

/// Why the client, or the machine under it, makes a load point less than valid. Shares are 0–1.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientReason {
    /// The driving threads were busy.
    Cpu {
        /// CPU time / (window × threads).
        utilisation: f64,
        /// Driving threads.
        threads: u32,
    },
    /// Timers fired late.
    LoopLag {
        /// 99th percentile, ms.
        p99_ms: f64,
    },
    /// The driving threads were kept from running.
    RunQueue {
        /// Time ready to run without a core / (window × threads).
        share: f64,
        /// Mean wait each time, ms.
        mean_ms: f64,
    },
    /// Bytes lay in the socket before they were stamped.
    Added {
        /// 99th percentile, ms.
        p99_ms: f64,
        /// Median gap between chunks, ms.
        gap_ms: f64,
    },
    /// The cgroup's CPU limit stopped the client.
    Throttled {
        /// Periods in which it did.
        periods: u64,
        /// For how long, seconds, summed over CPUs.
        stopped_s: f64,
    },
    /// Nearly all descriptors were in use.
    OpenFiles {
        /// Most at once.
        used: u64,
        /// The soft limit.
        limit: u64,
    },
    /// Connections failed for want of a descriptor.
    NoDescriptor {
        /// Such requests.
        failed: u64,
        /// Measured requests.
        total: u64,
    },
    /// Nearly all source ports were in use.
    SourcePorts {
        /// Most at once.
        used: u64,
        /// Source ports there are.
        available: u64,
    },
    /// Connections failed for want of a source port.
    NoSourcePort {
        /// Such requests.
        failed: u64,
        /// Measured requests.
        total: u64,
    },
    /// Nearly all memory was in use.
    Memory {
        /// MiB in use.
        used_mib: f64,
        /// MiB there are.
        limit_mib: f64,
    },
    /// Tasks stood still for want of memory.
    MemoryStall {
        /// For how long, seconds.
        stalled_s: f64,
        /// The measured window, seconds.
        window_s: f64,
    },
    /// The cgroup ran out of memory, nothing was killed.
    OutOfMemory {
        /// How often.
        times: u64,
    },
    /// The kernel killed processes of the cgroup.
    OomKilled {
        /// Processes.
        killed: u64,
    },
    /// Accept queues on this host were full.
    ListenDrops {
        /// Connection requests turned away.
        dropped: u64,
        /// Measured requests.
        requests: u64,
    },
    /// This host sent segments again.
    Resent {
        /// Segments sent again.
        resent: u64,
        /// All segments sent.
        sent: u64,
    },
    /// The system clock was set.
    ClockStep {
        /// By this, ms.
        step_ms: f64,
    },
}

impl ClientReason {
    /// How bad the reason is.
    pub fn rating(&self) -> Rating {
        let is_invalid = match self {
            Self::LoopLag { p99_ms } | Self::Added { p99_ms, .. } => *p99_ms > LOOP_LAG_INVALID_MS,
            // They count as failures of the server, which never saw them.
            Self::NoDescriptor { failed, total } | Self::NoSourcePort { failed, total } => {
                share(*failed, *total) > ERROR_RATE_SUSPECT
            }
            Self::OomKilled { .. } => true,
            Self::Cpu { .. }
            | Self::RunQueue { .. }
            | Self::Throttled { .. }
            | Self::OpenFiles { .. }
            | Self::SourcePorts { .. }
            | Self::Memory { .. }
            | Self::MemoryStall { .. }
            | Self::OutOfMemory { .. }
            | Self::ListenDrops { .. }
            | Self::Resent { .. }
            | Self::ClockStep { .. } => false,
        };
        if is_invalid { Rating::Invalid } else { Rating::Suspect }
    }
}

impl fmt::Display for ClientReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu { utilisation, threads } => write!(
                f,
                "the client was saturated: {threads} driving threads were {:.0} % busy",
                100.0 * utilisation
            ),
            Self::LoopLag { p99_ms } => write!(f, "the client was late: p99 of its timers {p99_ms:.1} ms"),
            Self::RunQueue { share, mean_ms } => write!(
                f,
                "the machine was too busy: the driving threads waited for a core {:.0} % of the time, {mean_ms:.2} ms each; run the client where nothing else runs",
                100.0 * share
            ),
            Self::Added { p99_ms, gap_ms } => write!(
                f,
                "the client added {p99_ms:.1} ms (p99) to its time stamps, the median gap between chunks is {gap_ms:.1} ms: ICL and TTFT are too wide; give it more cores"
            ),
            Self::Throttled { periods, stopped_s } => write!(
                f,
                "the CPU limit of the client's cgroup stopped it in {periods} periods, for {stopped_s:.2} s in all; raise the limit (Slurm: more --cpus-per-task)"
            ),
            Self::OpenFiles { used, limit } => {
                write!(f, "the client had {used} of {limit} descriptors open; raise the limit (ulimit -n)")
            }
            Self::NoDescriptor { failed, total } => write!(
                f,
                "{failed} of {total} requests failed because the client had no descriptor left; raise the limit (ulimit -n)"
            ),
            Self::SourcePorts { used, available } => write!(
                f,
                "{used} of {available} source ports towards the server were in use; widen net.ipv4.ip_local_port_range or keep connections alive"
            ),
            Self::NoSourcePort { failed, total } => write!(
                f,
                "{failed} of {total} requests failed because no source port was free; widen net.ipv4.ip_local_port_range or keep connections alive"
            ),
            Self::Memory { used_mib, limit_mib } => write!(
                f,
                "memory was nearly full: {used_mib:.0} of {limit_mib:.0} MiB in the client's cgroup or on its machine; give the job more memory"
            ),
            Self::MemoryStall { stalled_s, window_s } => write!(
                f,
                "processes in the client's cgroup stood still for {stalled_s:.2} of {window_s:.1} s for want of memory; give the job more"
            ),
            Self::OutOfMemory { times } => {
                write!(f, "the client's cgroup ran out of memory {times} times; give the job more")
            }
            Self::OomKilled { killed } => write!(
                f,
                "the kernel killed {killed} processes in the client's cgroup for want of memory; give the job more"
            ),
            Self::ListenDrops { dropped, requests } => write!(
                f,
                "{dropped} connection requests met a full accept queue on this host, whichever process they were for ({requests} requests were sent): each costs 1 s or more of TTFT"
            ),
            Self::Resent { resent, sent } => write!(
                f,
                "{resent} of {sent} TCP segments had to be sent again by this host, all processes ({:.1} %): packets are lost, or acknowledged late by a machine that is too busy",
                100.0 * share(*resent, *sent)
            ),
            Self::ClockStep { step_ms } => write!(
                f,
                "the system clock was set by {step_ms:+.0} ms, or the machine slept: latencies stand, but do not join the records with logs by time"
            ),
        }
    }
}

/// Every reason on the client's side. `window_s` is the measured window, `requests` the number of measured requests;
/// `gap_p50_ms`, the median gap between chunks, is only computed when it matters.
pub fn reasons(
    health: &ClientHealth,
    window_s: f64,
    requests: u64,
    gap_p50_ms: impl FnOnce() -> Option<f64>,
) -> Vec<ClientReason> {
    let capacity_s = window_s * f64::from(health.threads);
    let machine = &health.machine;
    let own = [
        cpu(health, capacity_s),
        loop_lag(health),
        added(health, gap_p50_ms),
        // Threads that are throttled wait in the run queue as well.
        throttled(machine, window_s).or_else(|| run_queue(machine, capacity_s)),
    ];
    let limits = [
        descriptors(machine, requests),
        ports(machine, requests),
        memory(machine),
        memory_stall(machine, window_s),
        out_of_memory(machine),
        listen_drops(machine, requests),
        resent(machine),
        clock_step(machine),
    ];
    own.into_iter().chain(limits).flatten().collect()
}

/// `part / whole`, 0 when there is no whole.
fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn cpu(health: &ClientHealth, capacity_s: f64) -> Option<ClientReason> {
    let utilisation = ratio(health.cpu_s, capacity_s);
    (utilisation > CLIENT_CPU_SUSPECT).then_some(ClientReason::Cpu { utilisation, threads: health.threads })
}

fn loop_lag(health: &ClientHealth) -> Option<ClientReason> {
    let mut lags: Vec<f64> = health.loop_lag_us.iter().map(|lag| f64::from(*lag) / 1e3).collect();
    lags.sort_unstable_by(f64::total_cmp);
    let p99_ms = percentile(&lags, 99.0);
    (p99_ms > LOOP_LAG_SUSPECT_MS).then_some(ClientReason::LoopLag { p99_ms })
}

/// The loop lag has its own reason, and about 1 ms of it is the rounding of timers: only read delays are judged.
fn added(health: &ClientHealth, gap_p50_ms: impl FnOnce() -> Option<f64>) -> Option<ClientReason> {
    let error = AddedError::of(health).filter(|error| error.source == AddedErrorSource::ReadDelay)?;
    let p99_ms = error.p99;
    if p99_ms <= ADDED_ERROR_SUSPECT_MS {
        return None;
    }
    let gap_ms = gap_p50_ms()?;
    (p99_ms > ADDED_ERROR_SUSPECT_GAP * gap_ms).then_some(ClientReason::Added { p99_ms, gap_ms })
}

fn run_queue(machine: &MachineHealth, capacity_s: f64) -> Option<ClientReason> {
    let (waited_s, slices) = (machine.run_queue_wait_s?, machine.time_slices?);
    let (share, mean_ms) = (ratio(waited_s, capacity_s), ratio(1e3 * waited_s, slices as f64));
    let waits = share > RUN_QUEUE_SUSPECT && mean_ms > RUN_QUEUE_WAIT_SUSPECT_MS;
    (waits && waited_s > RUN_QUEUE_MIN_S).then_some(ClientReason::RunQueue { share, mean_ms })
}

fn throttled(machine: &MachineHealth, window_s: f64) -> Option<ClientReason> {
    let (periods, stopped_s) = (machine.throttled_periods?, machine.throttled_s?);
    (ratio(stopped_s, window_s) > THROTTLED_SUSPECT).then_some(ClientReason::Throttled { periods, stopped_s })
}

fn descriptors(machine: &MachineHealth, total: u64) -> Option<ClientReason> {
    let failed = machine.open_files_refused;
    if failed > 0 {
        return Some(ClientReason::NoDescriptor { failed, total });
    }
    let (used, limit) = (machine.open_files?, machine.open_files_limit?);
    (share(used, limit) > NEAR_LIMIT_SUSPECT).then_some(ClientReason::OpenFiles { used, limit })
}

fn ports(machine: &MachineHealth, total: u64) -> Option<ClientReason> {
    let failed = machine.source_ports_refused;
    if failed > 0 {
        return Some(ClientReason::NoSourcePort { failed, total });
    }
    let (used, available) = (machine.source_ports_used?, machine.source_ports?);
    (share(used, available) > NEAR_LIMIT_SUSPECT).then_some(ClientReason::SourcePorts { used, available })
}

fn memory(machine: &MachineHealth) -> Option<ClientReason> {
    let (used_mib, limit_mib) = (machine.memory_used_mib?, machine.memory_limit_mib?);
    (ratio(used_mib, limit_mib) > NEAR_LIMIT_SUSPECT).then_some(ClientReason::Memory { used_mib, limit_mib })
}

fn memory_stall(machine: &MachineHealth, window_s: f64) -> Option<ClientReason> {
    let stalled_s = machine.memory_stall_s?;
    (ratio(stalled_s, window_s) > MEMORY_STALL_SUSPECT)
        .then_some(ClientReason::MemoryStall { stalled_s, window_s })
}

fn out_of_memory(machine: &MachineHealth) -> Option<ClientReason> {
    match (machine.oom_kills, machine.ooms) {
        (Some(killed), _) if killed > 0 => Some(ClientReason::OomKilled { killed }),
        (_, Some(times)) if times > 0 => Some(ClientReason::OutOfMemory { times }),
        _ => None,
    }
}

fn listen_drops(machine: &MachineHealth, requests: u64) -> Option<ClientReason> {
    let dropped = machine.listen_drops?;
    (share(dropped, requests) > LISTEN_DROPS_SUSPECT)
        .then_some(ClientReason::ListenDrops { dropped, requests })
}

fn resent(machine: &MachineHealth) -> Option<ClientReason> {
    let (resent, sent) = (machine.segments_resent?, machine.segments_sent?);
    (resent >= RESENT_MIN && share(resent, sent) > RESENT_SUSPECT)
        .then_some(ClientReason::Resent { resent, sent })
}

/// Steps too small to matter are 0 already.
fn clock_step(machine: &MachineHealth) -> Option<ClientReason> {
    let step_ms = machine.clock_step_ms?;
    (step_ms != 0.0).then_some(ClientReason::ClockStep { step_ms })
}

#[cfg(test)]
mod tests;
