//! Why a run is gone that did not write its end: what the last samples of the load generator, its cgroups and the kernel say.

use serde::Deserialize;

use super::{Entry, Progress};
use crate::experiment::manifest::hostname;
use crate::node::cgroup::MemoryAccount;
use crate::node::usage;
use crate::slurm::JobState;

/// Beyond this share of its limit the last sample speaks for want of memory.
const NEAR_LIMIT: f64 = 0.9;

/// A line of `telemetry/client.jsonl`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
struct Line {
    at: Option<jiff::Timestamp>,
    point: Option<String>,
    pid: Option<u32>,
    rss_mib: Option<f64>,
    #[serde(default)]
    memory: Vec<MemoryAccount>,
    machine_oom_kills: Option<u64>,
}

/// What its machine says now.
#[derive(Debug, Clone, Default, PartialEq)]
struct Now {
    /// The cgroups of the last sample, as far as they still exist.
    memory: Vec<MemoryAccount>,
    machine_oom_kills: Option<u64>,
    /// The kernel's words about this process.
    kernel: Option<String>,
}

/// Why the load generator of the last attempt is gone; `None` unless it began and wrote no end. Only for a process that does not live.
/// `state` is how Slurm says its job ended.
pub fn cause(entry: &Entry, state: Option<&JobState>) -> Option<String> {
    let Progress::Running { host, pid, .. } = entry.progress() else { return None };
    let text = std::fs::read_to_string(entry.dir.join("telemetry/client.jsonl")).unwrap_or_default();
    let line = text.lines().rev().find_map(|line| serde_json::from_str::<Line>(line).ok());
    let line = line.filter(|line| line.pid == Some(pid));
    let now = (host == hostname()).then(|| Now::of(line.as_ref(), pid));
    Some(words(line.as_ref(), now.as_ref(), state))
}

impl Now {
    fn of(line: Option<&Line>, pid: u32) -> Self {
        let memory = line.map(|line| line.memory.as_slice()).unwrap_or_default();
        let kernel =
            usage::kernel_kills().into_iter().rfind(|kill| kill.pid == pid && kill.text.contains("(tokmark"));
        Self {
            memory: memory.iter().filter_map(MemoryAccount::now).collect(),
            machine_oom_kills: usage::oom_kills(),
            kernel: kernel.map(|kill| kill.text),
        }
    }
}

fn words(line: Option<&Line>, now: Option<&Now>, state: Option<&JobState>) -> String {
    let where_ = line.and_then(|line| line.point.as_ref()).map(|point| format!(" in the middle of {point}"));
    let where_ = where_.unwrap_or_default();
    let last = line.map(last_sample).unwrap_or_default();
    let default = Line::default();
    let line = line.unwrap_or(&default);
    let of_slurm = || {
        let is_oom = state == Some(&JobState::OutOfMemory);
        is_oom.then(|| "Slurm found an OOM kill in its step".to_owned())
    };
    let reason = proof(line, now).or_else(of_slurm).map(|proof| format!(", out of memory: {proof}"));
    let reason =
        reason.or_else(|| near_limit(line).map(|near| format!(", most likely out of memory: {near}")));
    let reason = reason.unwrap_or_else(|| match now {
        Some(_) => " (kill -9, or its machine went down); no OOM kill is counted since".to_owned(),
        None => " (kill -9, out of memory, or its machine went down); its host can tell more".to_owned(),
    });
    format!("the load generator was killed{where_}{reason}{last}")
}

/// `; last sample 2026-01-02T03:04:05Z: RSS 31 MiB`
fn last_sample(line: &Line) -> String {
    let at = line.at.map(|at| format!(" {}", at.strftime("%FT%TZ"))).unwrap_or_default();
    let rss = line.rss_mib.map(|rss| format!(": RSS {rss:.0} MiB")).unwrap_or_default();
    let cgroup = line.memory.iter().find(|account| account.limit.is_some());
    let cgroup = cgroup.map(|account| format!(", cgroup {}", account.words())).unwrap_or_default();
    format!("; last sample{at}{rss}{cgroup}")
}

/// Kills that were counted after the last sample.
fn proof(line: &Line, now: Option<&Now>) -> Option<String> {
    let now = now?;
    if let Some(kernel) = &now.kernel {
        return Some(format!("the kernel: {kernel}"));
    }
    for account in &now.memory {
        let before = line.memory.iter().find(|before| before.cgroup == account.cgroup)?;
        let kills = account.oom_kills?.checked_sub(before.oom_kills?)?;
        if kills > 0 {
            return Some(format!("its cgroup counts {kills} OOM kill(s) since ({})", account.words()));
        }
    }
    // The count starts again when the machine does.
    let kills = now.machine_oom_kills?.checked_sub(line.machine_oom_kills?)?;
    (kills > 0).then(|| format!("its machine counts {kills} OOM kill(s) since"))
}

fn near_limit(line: &Line) -> Option<String> {
    let share = |account: &&MemoryAccount| {
        let (Some(used), Some(limit)) = (account.used, account.limit) else { return false };
        used as f64 > NEAR_LIMIT * limit as f64
    };
    line.memory.iter().find(share).map(|account| format!("its cgroup was nearly full ({})", account.words()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn line(used: u64, oom_kills: u64) -> Line {
        let account = MemoryAccount {
            cgroup: "/job_7".into(),
            used: Some(used * MIB),
            peak: None,
            limit: Some(100 * MIB),
            oom_kills: Some(oom_kills),
        };
        Line {
            at: "2026-01-02T03:04:05Z".parse().ok(),
            point: Some("isl8_osl4_con2".into()),
            pid: Some(7),
            rss_mib: Some(31.4),
            memory: vec![account],
            machine_oom_kills: Some(4),
        }
    }

    fn now(oom_kills: u64, machine: u64) -> Now {
        Now { memory: line(0, oom_kills).memory, machine_oom_kills: Some(machine), kernel: None }
    }

    #[test]
    fn counted_kills_are_proof() {
        let text = words(Some(&line(50, 1)), Some(&now(2, 5)), None);
        assert_eq!(
            text,
            "the load generator was killed in the middle of isl8_osl4_con2, out of memory: its cgroup counts 1 OOM kill(s) since \
             (/job_7: 0 MiB used, limit 100 MiB); last sample 2026-01-02T03:04:05Z: RSS 31 MiB, cgroup /job_7: 50 MiB used, limit 100 MiB"
        );
        let machine = words(Some(&line(50, 1)), Some(&now(1, 6)), None);
        assert!(machine.contains("out of memory: its machine counts 2 OOM kill(s) since"), "{machine}");
        let restarted = words(Some(&line(50, 1)), Some(&now(1, 0)), None);
        assert!(restarted.contains("no OOM kill is counted since"), "{restarted}");
        let kernel = Now { kernel: Some("Out of memory: Killed process 7 (tokmark)".into()), ..now(1, 4) };
        assert!(
            words(None, Some(&kernel), None)
                .contains("out of memory: the kernel: Out of memory: Killed process 7")
        );
    }

    #[test]
    fn without_a_count_the_last_sample_decides() {
        let near = words(Some(&line(95, 0)), None, None);
        assert!(
            near.contains("most likely out of memory: its cgroup was nearly full (/job_7: 95 MiB used"),
            "{near}"
        );
        let plain = words(Some(&line(50, 0)), Some(&now(0, 4)), None);
        assert!(
            plain.contains("(kill -9, or its machine went down); no OOM kill is counted since; last sample"),
            "{plain}"
        );
        let elsewhere = words(None, None, None);
        assert_eq!(
            elsewhere,
            "the load generator was killed (kill -9, out of memory, or its machine went down); its host can tell more"
        );
    }

    #[test]
    fn slurms_state_is_proof_where_nothing_was_counted() {
        let text = words(Some(&line(50, 0)), None, Some(&JobState::OutOfMemory));
        let said = "the load generator was killed in the middle of isl8_osl4_con2, out of memory: Slurm found an OOM kill in its step;";
        assert!(text.starts_with(said), "{text}");
        let failed = words(Some(&line(50, 0)), None, Some(&JobState::NodeFail));
        assert!(failed.contains("(kill -9, out of memory, or its machine went down)"), "{failed}");
        let counted = words(Some(&line(50, 1)), Some(&now(2, 5)), Some(&JobState::OutOfMemory));
        assert!(counted.contains("its cgroup counts 1 OOM kill(s) since"), "the nearer evidence: {counted}");
    }

    #[test]
    fn lines_of_earlier_versions_are_read() {
        let old = r#"{"at":"2026-01-02T03:04:05Z","point":"a","cpu_s":1.0,"rss_mib":20.0,"open_files":9}"#;
        let line: Line = serde_json::from_str(old).unwrap();
        assert_eq!((line.pid, line.rss_mib, line.memory.len()), (None, Some(20.0), 0));
    }
}
