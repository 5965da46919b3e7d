//! Why a server ended, as far as its cgroups, the kernel and Slurm tell.

use crate::node::cgroup::MemoryAccount;
use crate::slurm::oom;

/// Beyond this share of its limit a cgroup's peak speaks for want of memory.
const NEAR_LIMIT: f64 = 0.97;

/// What is known about the machine and the cgroups of a process that ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// Its cgroups, each with the kills that were counted before it started.
    pub memory: Vec<(MemoryAccount, u64)>,
    /// Kills for want of memory on its machine since the servers were started.
    pub machine_kills: u64,
    /// The kernel's own words about its processes.
    pub kernel: Vec<String>,
    /// Most resident memory in any sample, MiB.
    pub max_rss_mib: Option<f64>,
}

/// The cause of an end that a status alone does not explain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    pub is_memory: bool,
    pub text: String,
}

/// Whether a status is that of SIGKILL: the process's own, or as a shell and srun report it.
pub fn is_killed(status: &str) -> bool {
    matches!(status, "signal 9" | "exit 137")
}

impl Evidence {
    /// The cause; `None` if the process ended by itself and nothing speaks for another reason.
    pub fn cause(&self, status: &str, log: &str) -> Option<Cause> {
        let mut found: Vec<String> = self.kernel.iter().map(|text| format!("the kernel: {text}")).collect();
        let grown =
            |(account, before): &&(MemoryAccount, u64)| account.oom_kills.is_some_and(|now| now > *before);
        if let Some((account, before)) = self.memory.iter().find(grown) {
            let kills = account.oom_kills.unwrap_or_default() - before;
            found
                .push(format!("its cgroup counts {kills} OOM kill(s) since its start ({})", account.words()));
        }
        found.extend(oom::line(log).map(str::to_owned));
        if found.is_empty() && is_killed(status) && self.machine_kills > 0 {
            found.push(format!("its machine counts {} OOM kill(s) since its start", self.machine_kills));
        }
        if !found.is_empty() {
            return Some(Cause { is_memory: true, text: format!("out of memory: {}", found.join("; ")) });
        }
        is_killed(status).then(|| self.without_kills())
    }

    fn without_kills(&self) -> Cause {
        let is_full = |account: &MemoryAccount| {
            let (Some(peak), Some(limit)) = (account.peak, account.limit) else { return false };
            peak as f64 > NEAR_LIMIT * limit as f64
        };
        if let Some((account, _)) = self.memory.iter().find(|(account, _)| is_full(account)) {
            let text =
                format!("most likely out of memory: its cgroup was at its limit ({})", account.words());
            return Cause { is_memory: true, text };
        }
        let rss = self.max_rss_mib.map(|rss| format!(", it had {rss:.0} MiB at most")).unwrap_or_default();
        let counted = self.memory.iter().any(|(account, _)| account.oom_kills.is_some());
        let text = match counted {
            true => format!("no OOM kill is counted in its cgroup{rss}: another process sent the signal"),
            false => format!("most likely out of memory, or another process sent the signal{rss}"),
        };
        Cause { is_memory: false, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn account(peak: u64, limit: Option<u64>, oom_kills: Option<u64>) -> MemoryAccount {
        let limit = limit.map(|limit| limit * MIB);
        MemoryAccount { cgroup: "/job_7/step_1".into(), used: None, peak: Some(peak * MIB), limit, oom_kills }
    }

    fn cause(evidence: &Evidence, status: &str, log: &str) -> Option<(bool, String)> {
        evidence.cause(status, log).map(|cause| (cause.is_memory, cause.text))
    }

    #[test]
    fn a_kill_that_the_cgroup_counts_is_want_of_memory_whatever_the_status() {
        let memory = vec![(account(64, Some(64), Some(3)), 2)];
        let evidence = Evidence { memory, ..Evidence::default() };
        let text = "out of memory: its cgroup counts 1 OOM kill(s) since its start (/job_7/step_1: peak 64 MiB, limit 64 MiB)";
        for status in ["signal 9", "exit 137", "exit 1"] {
            assert_eq!(cause(&evidence, status, ""), Some((true, text.into())), "{status}");
        }
        let before = Evidence { memory: vec![(account(64, None, Some(2)), 2)], ..Evidence::default() };
        assert_eq!(cause(&before, "exit 1", ""), None);
    }

    #[test]
    fn the_kernel_and_slurm_are_quoted() {
        let kernel = "Memory cgroup out of memory: Killed process 7 (vllm)";
        let evidence = Evidence { kernel: vec![kernel.into()], ..Evidence::default() };
        assert_eq!(
            cause(&evidence, "signal 9", ""),
            Some((true, format!("out of memory: the kernel: {kernel}")))
        );
        let srun = "srun: error: node1: task 0: Out Of Memory";
        let found = cause(&Evidence::default(), "exit 137", &format!("loading\n{srun}\n"));
        assert_eq!(found, Some((true, format!("out of memory: {srun}"))));
    }

    #[test]
    fn a_machine_that_kills_explains_only_a_killed_process() {
        let evidence = Evidence { machine_kills: 2, ..Evidence::default() };
        let text = "out of memory: its machine counts 2 OOM kill(s) since its start";
        assert_eq!(cause(&evidence, "signal 9", ""), Some((true, text.into())));
        assert_eq!(cause(&evidence, "exit 1", ""), None);
    }

    #[test]
    fn without_a_counted_kill_the_peak_decides() {
        let of = |account: MemoryAccount| Evidence {
            memory: vec![(account, 0)],
            max_rss_mib: Some(30.0),
            ..Evidence::default()
        };
        let full = cause(&of(account(63, Some(64), Some(0))), "signal 9", "").unwrap();
        assert!(
            full.0 && full.1.starts_with("most likely out of memory: its cgroup was at its limit"),
            "{full:?}"
        );
        let roomy = cause(&of(account(30, Some(64), Some(0))), "signal 9", "").unwrap();
        let text =
            "no OOM kill is counted in its cgroup, it had 30 MiB at most: another process sent the signal";
        assert_eq!(roomy, (false, text.into()));
        let unknown = cause(&Evidence::default(), "exit 137", "").unwrap();
        assert_eq!(unknown.1, "most likely out of memory, or another process sent the signal");
        assert_eq!(cause(&Evidence::default(), "signal 11", ""), None);
    }
}
