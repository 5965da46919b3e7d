//! Ordered teardown: TERM, grace, KILL; nothing is left behind.
//!
//! An srun that gets SIGTERM kills its tasks outright, so inside an allocation the signal goes to the step, by the
//! step's own id. Steps started at one moment get their numbers in any order: the id is looked up by name.
//! Arrow: `executor`, `place`, `spawn` → here → `deploy`.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Place;
use super::spawn::Running;

/// Stops `processes` role by role, in the order given; those of one role end side by side, so that a hundred stubborn
/// workers take one grace and not a hundred. Returns the names of those that had to be killed. Once `hurry` is
/// cancelled nobody gets any grace.
pub async fn all(
    processes: Vec<Running>,
    place: &Place,
    grace: Duration,
    hurry: &CancellationToken,
) -> Vec<String> {
    let mut killed = Vec::new();
    let mut processes = processes.into_iter().peekable();
    while let Some(first) = processes.next() {
        let role = first.role.clone();
        let mut stopping = JoinSet::new();
        stopping.spawn(one(first, place.clone(), grace, hurry.clone()));
        while let Some(next) = processes.next_if(|next| next.role == role) {
            stopping.spawn(one(next, place.clone(), grace, hurry.clone()));
        }
        killed.extend(stopping.join_all().await.into_iter().flatten());
    }
    killed
}

/// Stops one process. Returns its name when it had to be killed.
async fn one(
    mut process: Running,
    place: Place,
    grace: Duration,
    hurry: CancellationToken,
) -> Option<String> {
    let mut killed = None;
    if !*process.ended.borrow() {
        signal(&process, &place, Signal::SIGTERM).await;
        let ended = tokio::select! {
            ended = ended_within(&mut process, grace) => ended,
            () = hurry.cancelled() => false,
        };
        if !ended {
            killed = Some(process.name.clone());
            signal(&process, &place, Signal::SIGKILL).await;
            ended_within(&mut process, Duration::from_secs(5)).await;
        }
    }
    // The child is gone; what it left in its process group goes too, and a stuck srun with it.
    let _gone = killpg(group(&process), Signal::SIGKILL);
    group_gone(&process).await;
    killed
}

fn group(process: &Running) -> Pid {
    Pid::from_raw(i32::try_from(process.pid).unwrap_or(i32::MAX))
}

async fn ended_within(process: &mut Running, limit: Duration) -> bool {
    tokio::time::timeout(limit, process.ended.wait_for(|ended| *ended)).await.is_ok()
}

/// Waits until no process of the group is left, for at most two seconds.
async fn group_gone(process: &Running) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while killpg(group(process), None).is_ok() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sends a signal to the tasks of a process: to its group here, to its step in an allocation.
async fn signal(process: &Running, place: &Place, signal: Signal) {
    if let Place::Allocation(allocation) = place {
        let steps = allocation.slurm.steps(&allocation.job).await.unwrap_or_default();
        if let Some(step) = steps.iter().rev().find(|step| step.name == process.name) {
            let name = signal.as_str().trim_start_matches("SIG");
            if allocation.slurm.signal_step(&step.id, name).await.is_ok() {
                return;
            }
        }
        // No step yet, or Slurm does not answer: srun itself is all there is to stop.
    }
    let _gone = killpg(group(process), signal);
}
