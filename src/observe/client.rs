//! `telemetry/client.jsonl`: CPU, memory, descriptors and cgroups of tokmark itself, and the progress of the load. After a death
//! that leaves no other trace they are the evidence.
//!
//! Source of the process figures: proc(5).

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use serde_json::json;

use super::{Ticks, append};
use crate::load::LiveCounters;
use crate::node::cgroup::Cgroups;
use crate::node::{processes, usage};

pub(super) async fn sample(file: std::fs::File, point: String, progress: LiveCounters, mut ticks: Ticks) {
    let cgroups = Cgroups::of_this_process();
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or_default();
    let mut more = true;
    loop {
        let snapshot = progress.snapshot();
        let descriptors = processes::descriptors(std::process::id());
        append(
            &file,
            &json!({
                "at": jiff::Timestamp::now(),
                "point": point,
                "pid": std::process::id(),
                "cpu_s": cpu_s(),
                "rss_mib": rss_mib(),
                "open_files": descriptors.map(|(open, _)| open),
                "open_files_limit": soft,
                "sockets": descriptors.map(|(_, sockets)| sockets),
                "memory": cgroups.accounts(),
                "machine_oom_kills": usage::oom_kills(),
                "sent": snapshot.sent,
                "done": snapshot.done,
                "failed": snapshot.failed,
                "in_flight": snapshot.in_flight,
            }),
        );
        if !more {
            return;
        }
        more = ticks.next().await;
    }
}

/// User and system time of this process so far, seconds.
fn cpu_s() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Some(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// Resident memory now, MiB.
fn rss_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}
