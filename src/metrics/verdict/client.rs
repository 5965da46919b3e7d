//! The client's part of the verdict: tokmark itself or its machine was the limit, or something of the machine's got in the
//! way.

use super::{ERROR_RATE_SUSPECT, FEW_REQUESTS, Reason, share};
use crate::metrics::record::{ClientHealth, MachineHealth};
use crate::metrics::stats::highest_standing;

/// Above this utilisation of the driving threads, requests and chunks queue inside the client.
pub const CLIENT_CPU_SUSPECT: f64 = 0.90;
/// Less CPU time than this in all is the start of the client: threads, connections, the first answers.
pub const CLIENT_CPU_MIN_S: f64 = 0.5;
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
/// Less than this in all, seconds, is a few pages that the kernel had to look for.
pub const MEMORY_STALL_LEAST_S: f64 = 0.05;
/// A dropped connection request is sent again after 1 s; more than this share of the requests reach the p99 of TTFT.
pub const LISTEN_DROPS_SUSPECT: f64 = 0.01;
/// Of fewer requests a single one, which may have been another program's, is above that share.
pub const LISTEN_DROPS_MIN_REQUESTS: u64 = 100;
/// A segment that is sent again comes 200 ms late or more. Data centres lose fewer than one in ten thousand.
pub const RESENT_SUSPECT: f64 = 0.01;
/// Fewer than this are noise whatever their share.
pub const RESENT_MIN: u64 = 10;

/// Every reason on the client's side. Percentiles are the highest that stand on their samples. `window_s` is the measured window, `requests` the number of measured requests;
/// `gap_p50_ms`, the median gap between chunks, is only computed when it matters.
pub fn reasons(
    health: &ClientHealth,
    window_s: f64,
    requests: u64,
    gap_p50_ms: impl FnOnce() -> Option<f64>,
) -> Vec<Reason> {
    let capacity_s = window_s * f64::from(health.threads);
    let machine = &health.machine;
    // Of fewer requests no latency stands, and the client has hardly begun.
    let enough = requests >= FEW_REQUESTS;
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
    own.into_iter().filter(|_| enough).chain(limits).flatten().collect()
}

/// `part / whole`, 0 when there is no whole.
fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn cpu(health: &ClientHealth, capacity_s: f64) -> Option<Reason> {
    let (threads, utilisation) = (health.threads, ratio(health.cpu_s, capacity_s));
    let percent = 100.0 * utilisation;
    let noun = if threads == 1 { "thread was" } else { "threads were" };
    Reason::suspect_if(
        utilisation > CLIENT_CPU_SUSPECT && health.cpu_s >= CLIENT_CPU_MIN_S,
        format!("the client was saturated: {threads} driving {noun} {percent:.0} % busy"),
    )
}

fn loop_lag(health: &ClientHealth) -> Option<Reason> {
    let (percent, lag_ms) = highest_standing(in_ms(&health.loop_lag_us))?;
    let text = format!(
        "the client was late: p{percent} of its timers {lag_ms:.1} ms; latencies may be too long by as much"
    );
    Reason::above(lag_ms, [LOOP_LAG_SUSPECT_MS, LOOP_LAG_INVALID_MS], text)
}

/// The loop lag has its own reason: only read delays are judged.
fn added(health: &ClientHealth, gap_p50_ms: impl FnOnce() -> Option<f64>) -> Option<Reason> {
    let (percent, added_ms) = highest_standing(in_ms(&health.read_delay_us))?;
    if added_ms <= ADDED_ERROR_SUSPECT_MS {
        return None;
    }
    let gap_ms = gap_p50_ms()?;
    let text = format!(
        "the client added {added_ms:.1} ms (p{percent}) to its time stamps, the median gap between chunks is {gap_ms:.1} ms: TTFT and the gaps between chunks (ICL) look wider than they are; give it more cores"
    );
    Reason::above(added_ms, [ADDED_ERROR_SUSPECT_GAP * gap_ms, LOOP_LAG_INVALID_MS], text)
}

fn in_ms(samples_us: &[u32]) -> Vec<f64> {
    samples_us.iter().map(|sample| f64::from(*sample) / 1e3).collect()
}

fn run_queue(machine: &MachineHealth, capacity_s: f64) -> Option<Reason> {
    let (waited_s, slices) = (machine.run_queue_wait_s?, machine.time_slices?);
    let (share, mean_ms) = (ratio(waited_s, capacity_s), ratio(1e3 * waited_s, slices as f64));
    let waits = share > RUN_QUEUE_SUSPECT && mean_ms > RUN_QUEUE_WAIT_SUSPECT_MS;
    let percent = 100.0 * share;
    Reason::suspect_if(
        waits && waited_s > RUN_QUEUE_MIN_S,
        format!(
            "the machine was too busy: the driving threads waited for a core {percent:.0} % of the time, {mean_ms:.2} ms each; run the client where nothing else runs"
        ),
    )
}

fn throttled(machine: &MachineHealth, window_s: f64) -> Option<Reason> {
    let (periods, stopped_s) = (machine.throttled_periods?, machine.throttled_s?);
    Reason::suspect_if(
        ratio(stopped_s, window_s) > THROTTLED_SUSPECT,
        format!(
            "the CPU limit of the client's cgroup stopped it in {periods} periods, for {stopped_s:.2} s in all; raise the limit (Slurm: more --cpus-per-task)"
        ),
    )
}

/// Requests that failed for want of something on this host count as failures of the server, which never saw them.
fn refused(failed: u64, total: u64, why: &str) -> Option<Reason> {
    let text = format!("{failed} of {total} requests failed because {why}");
    Reason::above(share(failed, total), [0.0, ERROR_RATE_SUSPECT], text)
}

fn descriptors(machine: &MachineHealth, total: u64) -> Option<Reason> {
    let why = "the client had no descriptor left; raise the limit (ulimit -n)";
    refused(machine.open_files_refused, total, why).or_else(|| {
        let (used, limit) = (machine.open_files?, machine.open_files_limit?);
        Reason::suspect_if(
            share(used, limit) > NEAR_LIMIT_SUSPECT,
            format!("the client had {used} of {limit} descriptors open; raise the limit (ulimit -n)"),
        )
    })
}

fn ports(machine: &MachineHealth, total: u64) -> Option<Reason> {
    const REMEDY: &str = "widen net.ipv4.ip_local_port_range or keep connections alive";
    let why = format!("no source port was free; {REMEDY}");
    refused(machine.source_ports_refused, total, &why).or_else(|| {
        let (used, available) = (machine.source_ports_used?, machine.source_ports?);
        Reason::suspect_if(
            share(used, available) > NEAR_LIMIT_SUSPECT,
            format!("{used} of {available} source ports towards the server were in use; {REMEDY}"),
        )
    })
}

fn memory(machine: &MachineHealth) -> Option<Reason> {
    let (used_mib, limit_mib) = (machine.memory_used_mib?, machine.memory_limit_mib?);
    Reason::suspect_if(
        ratio(used_mib, limit_mib) > NEAR_LIMIT_SUSPECT,
        format!(
            "memory was nearly full: {used_mib:.0} of {limit_mib:.0} MiB in the client's cgroup or on its machine; give the job more memory"
        ),
    )
}

fn memory_stall(machine: &MachineHealth, window_s: f64) -> Option<Reason> {
    let stalled_s = machine.memory_stall_s?;
    Reason::suspect_if(
        ratio(stalled_s, window_s) > MEMORY_STALL_SUSPECT && stalled_s >= MEMORY_STALL_LEAST_S,
        format!(
            "processes in the client's cgroup stood still for {stalled_s:.2} of {window_s:.1} s for want of memory; give the job more"
        ),
    )
}

fn out_of_memory(machine: &MachineHealth) -> Option<Reason> {
    match (machine.oom_kills, machine.ooms) {
        (Some(killed), _) if killed > 0 => Some(Reason::invalid(format!(
            "the kernel killed {killed} processes in the client's cgroup for want of memory; give the job more"
        ))),
        (_, Some(times)) if times > 0 => Some(Reason::suspect(format!(
            "the client's cgroup ran out of memory {times} times; give the job more"
        ))),
        _ => None,
    }
}

fn listen_drops(machine: &MachineHealth, requests: u64) -> Option<Reason> {
    let dropped = machine.listen_drops?;
    Reason::suspect_if(
        share(dropped, requests) > LISTEN_DROPS_SUSPECT && requests >= LISTEN_DROPS_MIN_REQUESTS,
        format!(
            "{dropped} connection requests met a full accept queue on this host, whichever process they were for ({requests} requests were sent): each costs 1 s or more of TTFT"
        ),
    )
}

fn resent(machine: &MachineHealth) -> Option<Reason> {
    let (resent, sent) = (machine.segments_resent?, machine.segments_sent?);
    let part = share(resent, sent);
    let percent = 100.0 * part;
    Reason::suspect_if(
        resent >= RESENT_MIN && part > RESENT_SUSPECT,
        format!(
            "{resent} of {sent} TCP segments had to be sent again by this host, all processes ({percent:.1} %): packets are lost, or acknowledged late by a machine that is too busy"
        ),
    )
}

/// Steps too small to matter are 0 already.
fn clock_step(machine: &MachineHealth) -> Option<Reason> {
    let step_ms = machine.clock_step_ms.filter(|step_ms| *step_ms != 0.0)?;
    Some(Reason::suspect(format!(
        "the system clock was set by {step_ms:+.0} ms, or the machine slept: latencies stand, but do not join the records with logs by time"
    )))
}

#[cfg(test)]
mod tests;
