//! Ordered teardown: TERM, grace, KILL; leaves nothing behind.
//!
//! An srun that gets SIGTERM kills its tasks outright, so inside an allocation the signal goes to the step, by step id. Slurm
//! numbers steps started at one moment in any order, and two runs may name theirs alike, so the id is looked up by the process id
//! of the srun that we started.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::spawn::Running;
use super::{Place, keeper};
use crate::node::processes;
use crate::slurm::StepInfo;

/// Stops `processes` role by role, in the given order. Processes of one role stop in parallel, so that a hundred stubborn workers
/// take one grace. Returns the names of killed processes. Cancelling `hurry` skips the grace.
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

/// Stops one process. Returns its name if it had to be killed.
async fn one(
    mut process: Running,
    place: Place,
    grace: Duration,
    hurry: CancellationToken,
) -> Option<String> {
    let mut killed = None;
    if !process.watching.is_finished() {
        let softly = async {
            signal(&process, &place, Signal::SIGTERM).await;
            ended_within(&mut process, grace).await
        };
        let ended = tokio::select! {
            biased;
            () = hurry.cancelled() => false,
            ended = softly => ended,
        };
        if !ended {
            killed = Some(process.name.clone());
            if hurry.is_cancelled() && matches!(place, Place::Allocation(_)) {
                // Slurm does not signal steps of a job that it is ending, but srun kills its tasks when signalled.
                let _ = killpg(group(&process), Signal::SIGTERM);
                ended_within(&mut process, Duration::from_secs(1)).await;
            } else {
                kill(&mut process, &place).await;
                ended_within(&mut process, Duration::from_secs(5)).await;
            }
        }
    }
    // The child has ended; kill what it left in its process group, and a stuck srun.
    let _ = killpg(group(&process), Signal::SIGKILL);
    group_gone(&process).await;
    killed
}

/// Kills the tasks of a process, with all that they started.
async fn kill(process: &mut Running, place: &Place) {
    if let (Place::Local, Some(lifeline)) = (place, &mut process.lifeline)
        && lifeline.write_all(&[keeper::KILL]).await.is_ok()
    {
        return;
    }
    signal(process, place, Signal::SIGKILL).await;
}

fn group(process: &Running) -> Pid {
    Pid::from_raw(i32::try_from(process.pid).unwrap_or(i32::MAX))
}

async fn ended_within(process: &mut Running, limit: Duration) -> bool {
    process.watching.is_finished() || tokio::time::timeout(limit, &mut process.watching).await.is_ok()
}

/// Waits until no process of the group lives, for at most two seconds. Zombies may stay in the process table longer, until their
/// new parent collects them.
async fn group_gone(process: &Running) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while killpg(group(process), None).is_ok() && group_lives(process.pid) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn group_lives(group: u32) -> bool {
    processes::Process::all().iter().any(|process| process.group == group)
}

/// The step of a process's srun, which runs below its keeper.
fn own_step<'a>(steps: &'a [StepInfo], process: &Running, name: &str) -> Option<&'a StepInfo> {
    let below: BTreeSet<u32> =
        processes::Process::descendants(process.pid).iter().map(|process| process.pid).collect();
    let is_own = |step: &&StepInfo| step.name == name && step.srun.is_some_and(|pid| below.contains(&pid));
    steps.iter().find(is_own)
}

/// Signals the tasks of a process: its group on this machine, its step in an allocation.
async fn signal(process: &Running, place: &Place, signal: Signal) {
    if let Place::Allocation(allocation) = place {
        let steps = allocation.slurm.steps(&allocation.job).await.unwrap_or_default();
        if let Some(step) = own_step(&steps, process, &place.step_name(&process.name)) {
            let name = signal.as_str().trim_start_matches("SIG");
            if allocation.slurm.signal_step(&step.id, name).await.is_ok() {
                return;
            }
        }
        // The step does not exist yet, or Slurm does not answer: only srun itself can be stopped.
    }
    let _ = killpg(group(process), signal);
}
