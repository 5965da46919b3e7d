//! What the processes of the servers say against a result: no memory, no descriptors, no CPU time, or a front end at its limit.

use super::Reason;
use super::client::{NEAR_LIMIT_SUSPECT, THROTTLED_SUSPECT};
use crate::metrics::processes::ProcessView;

/// A server in whose cgroup, or on whose machine, more memory than this share of the limit is in use is about to be killed, and the
/// kernel searches for pages on every allocation.
pub const SERVER_MEMORY_SUSPECT: f64 = 0.95;
/// A thread that runs for this share of the time does nothing else: what it would have to do waits. The rest is the granularity of the
/// samples.
pub const FRONT_BUSY_SUSPECT: f64 = 0.95;
/// Fewer samples tell nothing of a thread over a window.
pub const FEWEST_SAMPLES: usize = 3;

pub(super) fn reasons(views: &[ProcessView], window_s: f64) -> Vec<Reason> {
    let judged = views.iter().flat_map(|view| {
        let found = [oom(view), memory(view), descriptors(view), throttled(view, window_s), front(view)];
        found.into_iter().flatten().map(Reason::suspect)
    });
    let mut found: Vec<Reason> = judged.collect();
    // The processes of a deployment share cgroups and machines.
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|reason| seen.insert(reason.text.clone()));
    found
}

fn called(view: &ProcessView) -> String {
    format!("{} on {}", view.process, view.node)
}

fn oom(view: &ProcessView) -> Option<String> {
    let kills = view.oom_kills?;
    let s = if kills == 1 { "" } else { "es" };
    Some(format!(
        "the kernel killed {kills} process{s} in the cgroup of {} for want of memory during the load point; give it more",
        called(view)
    ))
}

/// What the load generator shares has a reason on its side.
fn memory(view: &ProcessView) -> Option<String> {
    let memory = view.memory.as_ref().filter(|memory| !memory.is_clients)?;
    let share = memory.share();
    let place = match memory.of.as_str() {
        "machine" => format!("the memory of {}", view.node),
        cgroup => format!("the memory of {} in its cgroup {cgroup}", called(view)),
    };
    (share >= SERVER_MEMORY_SUSPECT).then(|| {
        format!(
            "{place} was nearly full: {:.0} of {:.0} MiB ({:.0} %); give the server more",
            memory.used_mib,
            memory.limit_mib,
            100.0 * share
        )
    })
}

fn descriptors(view: &ProcessView) -> Option<String> {
    let (open, limit) = (view.open_files_max, view.open_files_limit?);
    (open as f64 > NEAR_LIMIT_SUSPECT * limit as f64).then(|| {
        format!(
            "{} had {open} of {limit} descriptors open: it soon refuses connections; raise its limit (ulimit -n)",
            called(view)
        )
    })
}

fn throttled(view: &ProcessView, window_s: f64) -> Option<String> {
    let (stopped_s, periods) = (view.throttled_s?, view.throttled_periods?);
    (stopped_s > THROTTLED_SUSPECT * window_s).then(|| {
        format!(
            "the CPU limit of the cgroup of {} stopped it in {periods} periods, for {stopped_s:.2} s in all; raise the limit (Slurm: more --cpus-per-task)",
            called(view)
        )
    })
}

fn front(view: &ProcessView) -> Option<String> {
    let busy = view.front_busy.filter(|_| view.samples >= FEWEST_SAMPLES)?;
    (busy >= FRONT_BUSY_SUSPECT).then(|| {
        format!(
            "the server's front end is CPU-bound, not the GPU: a thread of {} that answers clients was busy {:.0} % of the window; start more front-end processes or replicas, or stream fewer and larger chunks",
            called(view),
            100.0 * busy
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::processes::MemoryUse;

    fn view() -> ProcessView {
        ProcessView { process: "server-0".into(), node: "n1".into(), samples: 10, ..ProcessView::default() }
    }

    fn said(view: ProcessView) -> Vec<String> {
        let found = reasons(&[view], 10.0);
        assert!(found.iter().all(|reason| reason.rating == super::super::Rating::Suspect));
        found.into_iter().map(|reason| reason.text).collect()
    }

    #[test]
    fn a_server_near_its_memory_limit_is_suspect_from_95_percent() {
        let with = |used_mib: f64, is_clients| {
            let memory = MemoryUse { of: "/job_7".into(), used_mib, limit_mib: 1000.0, is_clients };
            said(ProcessView { memory: Some(memory), ..view() })
        };
        assert_eq!(with(949.0, false), [""; 0]);
        let text = "the memory of server-0 on n1 in its cgroup /job_7 was nearly full: 950 of 1000 MiB (95 %); give the server more";
        assert_eq!(with(950.0, false), [text]);
        assert_eq!(with(999.0, true), [""; 0], "the client's own reason says it");
        let memory =
            MemoryUse { of: "machine".into(), used_mib: 990.0, limit_mib: 1000.0, is_clients: false };
        let two = [view(), ProcessView { process: "server-1".into(), ..view() }]
            .map(|view| ProcessView { memory: Some(memory.clone()), ..view });
        assert_eq!(reasons(&two, 10.0).len(), 1, "one machine, one reason");
    }

    #[test]
    fn a_busy_front_end_is_named_when_enough_samples_saw_it() {
        let with = |share, samples| said(ProcessView { front_busy: Some(share), samples, ..view() });
        assert_eq!((with(0.94, 10), with(1.0, 2)), (vec![], vec![]));
        let found = with(0.96, 3);
        assert!(found[0].starts_with("the server's front end is CPU-bound, not the GPU: a thread of server-0 on n1 that answers clients was busy 96 %"), "{found:?}");
    }

    #[test]
    fn descriptors_throttling_and_kills_have_their_thresholds() {
        let files = |open| said(ProcessView { open_files_max: open, open_files_limit: Some(1000), ..view() });
        assert_eq!((files(900).len(), files(901).len()), (0, 1));
        let throttled = |stopped_s| {
            said(ProcessView { throttled_s: Some(stopped_s), throttled_periods: Some(3), ..view() })
        };
        assert_eq!((throttled(0.1).len(), throttled(0.11).len()), (0, 1), "1 % of 10 s");
        let killed = said(ProcessView { oom_kills: Some(2), ..view() });
        assert!(
            killed[0].starts_with("the kernel killed 2 processes in the cgroup of server-0 on n1"),
            "{killed:?}"
        );
    }
}
