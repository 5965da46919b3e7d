//! `telemetry/client.jsonl`: CPU, memory and descriptors of tokmark itself, and the progress of the load.
//!
//! Source of the process figures: proc(5).

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::json;

use super::{Ticks, append};
use crate::load::LiveCounters;

pub(super) async fn sample(file: std::fs::File, point: String, progress: LiveCounters, mut ticks: Ticks) {
    loop {
        let more = ticks.next().await;
        let snapshot = progress.snapshot();
        append(
            &file,
            &json!({
                "at": jiff::Timestamp::now(),
                "point": point,
                "cpu_s": cpu_s(),
                "rss_mib": rss_mib(),
                "open_files": open_files(),
                "sent": snapshot.sent,
                "done": snapshot.done,
                "failed": snapshot.failed,
                "in_flight": snapshot.in_flight,
            }),
        );
        if !more {
            return;
        }
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

fn open_files() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count())
}
