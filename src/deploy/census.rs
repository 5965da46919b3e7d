//! Watches the processes of a deployment on all of its nodes: what they use, and who listens on their ports.
//!
//! The node that tokmark runs on is sampled by tokmark, the others by one Slurm step. Every sample is a line of
//! `telemetry/server_processes.jsonl`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::json;
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::death::{Cause, Evidence};
use super::log;
use super::placement::Placement;
use super::spawn::{self, Running};
use crate::experiment::files;
use crate::metrics::processes::ProcessView;
use crate::node::cgroup::{Cgroups, MemoryAccount};
use crate::node::usage::{Holder, Sample, Watch, Watched};
use crate::observe::processes::Tracks;
use crate::plan::Deployment;
use crate::slurm::srun;

/// How often the output of the step is read.
const READ: Duration = Duration::from_millis(200);

/// How long a sample may take to come when one is wanted at once.
const PATIENCE: Duration = Duration::from_millis(1800);

/// Name of the step.
const STEP: &str = "tokmark-watch";

/// The samples so far.
#[derive(Debug, Default)]
pub struct Census {
    /// Nodes of each process.
    homes: BTreeMap<String, Vec<String>>,
    nodes: Mutex<BTreeMap<String, Seen>>,
    /// The samples since the load point began.
    tracks: Mutex<Tracks>,
    under_load: AtomicBool,
    file: Option<std::fs::File>,
    arrived: Notify,
    wanted: Notify,
    /// The servers are being stopped, so that their ends need no cause.
    stopping: AtomicBool,
}

/// What was seen on one node.
#[derive(Debug, Default)]
struct Seen {
    last: Sample,
    at: Option<Instant>,
    first_machine_kills: Option<u64>,
    /// Kills that a cgroup counted when it was first seen.
    first_kills: BTreeMap<String, u64>,
    max_rss_mib: BTreeMap<String, f64>,
}

impl Census {
    fn new(deployment: &Deployment, nodes: &[String], file: Option<std::fs::File>) -> Self {
        let homes = deployment.processes.iter().map(|process| {
            let at = process.nodes.iter().filter_map(|node| nodes.get(*node as usize).cloned());
            (process.name.clone(), at.collect())
        });
        Self { homes: homes.collect(), file, ..Self::default() }
    }

    fn add(&self, node: &str, sample: Sample) {
        let now = jiff::Timestamp::now();
        let mut tracks = self.tracks.lock();
        tracks.add(now.as_microsecond(), node, &sample);
        if !self.under_load.load(Relaxed) {
            tracks.forget_before(now.as_microsecond());
        }
        drop(tracks);
        if let Some(file) = &self.file {
            use std::io::Write;
            let mut line = json!({"at": now, "node": node});
            if let (Some(line), Ok(serde_json::Value::Object(figures))) =
                (line.as_object_mut(), serde_json::to_value(&sample))
            {
                line.extend(figures.into_iter().filter(|(key, _)| key != "node"));
            }
            // A full disk must not end the run.
            let _ = (&*file).write_all(format!("{line}\n").as_bytes());
        }
        let mut nodes = self.nodes.lock();
        let seen = nodes.entry(node.to_owned()).or_default();
        seen.first_machine_kills = seen.first_machine_kills.or(sample.machine.oom_kills);
        for (name, usage) in &sample.processes {
            let most = seen.max_rss_mib.entry(name.clone()).or_default();
            *most = most.max(usage.rss_mib);
            for account in &usage.memory {
                // A step's cgroup is as new as its processes.
                let before =
                    if account.cgroup.contains("/step_") { 0 } else { account.oom_kills.unwrap_or(0) };
                seen.first_kills.entry(account.cgroup.clone()).or_insert(before);
            }
        }
        (seen.last, seen.at) = (sample, Some(Instant::now()));
        drop(nodes);
        self.arrived.notify_waiters();
    }

    /// Kills that the cgroups of this process, which local servers share, have counted before.
    fn counted_before(&self, node: &str, accounts: Vec<MemoryAccount>) {
        let mut nodes = self.nodes.lock();
        let first = &mut nodes.entry(node.to_owned()).or_default().first_kills;
        first.extend(accounts.into_iter().filter_map(|account| Some((account.cgroup, account.oom_kills?))));
    }

    /// Waits for a sample of these nodes that is newer than now; not for long.
    async fn refresh(&self, nodes: &[String]) {
        let since = Instant::now();
        let is_new = || {
            let seen = self.nodes.lock();
            nodes.iter().all(|node| seen.get(node).and_then(|seen| seen.at).is_none_or(|at| at > since))
        };
        self.wanted.notify_one();
        let waiting = async {
            loop {
                let arrived = self.arrived.notified();
                if is_new() {
                    return;
                }
                arrived.await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, waiting).await;
    }

    /// Why a process ended, if its status alone does not say it.
    pub(super) async fn cause(&self, process: &str, status: &str, log: &str) -> Option<Cause> {
        if self.stopping.load(Relaxed) || status == "exit 0" {
            return None;
        }
        let homes = self.homes.get(process).cloned().unwrap_or_default();
        self.refresh(&homes).await;
        let mut evidence = Evidence::default();
        let nodes = self.nodes.lock();
        for seen in homes.iter().filter_map(|home| nodes.get(home)) {
            let memory =
                seen.last.processes.get(process).map(|usage| usage.memory.clone()).unwrap_or_default();
            let counted = |account: MemoryAccount| {
                let before = seen.first_kills.get(&account.cgroup).copied().unwrap_or(0);
                (account, before)
            };
            evidence.memory.extend(memory.into_iter().map(counted));
            let kills = seen.last.machine.oom_kills.unwrap_or(0);
            evidence.machine_kills += kills.saturating_sub(seen.first_machine_kills.unwrap_or(kills));
            evidence.kernel.extend(seen.last.kills.get(process).cloned().unwrap_or_default());
            let rss = seen.max_rss_mib.get(process).copied();
            evidence.max_rss_mib = evidence.max_rss_mib.into_iter().chain(rss).reduce(f64::max);
        }
        drop(nodes);
        evidence.cause(status, log)
    }

    /// A load point begins, or has ended and been judged: only samples of load points are kept.
    pub(super) fn under_load(&self, is_loaded: bool) {
        self.under_load.store(is_loaded, Relaxed);
    }

    /// What the processes used in a window that has just ended, µs since 1970.
    pub(super) async fn views(&self, window: (i64, i64)) -> Vec<ProcessView> {
        let nodes: Vec<String> = self.nodes.lock().keys().cloned().collect();
        self.refresh(&nodes).await;
        self.tracks.lock().views(window)
    }

    /// The servers are about to be stopped.
    pub(super) fn stopping(&self) {
        self.stopping.store(true, Relaxed);
    }

    /// The first node of a process.
    pub(super) fn home(&self, process: &str) -> Option<&str> {
        self.homes.get(process)?.first().map(String::as_str)
    }

    /// Who listens on the ports of a node now; `None` if no sample of it has come since the question.
    pub(super) async fn holders(&self, node: &str) -> Option<Vec<Holder>> {
        let since = Instant::now();
        self.refresh(&[node.to_owned()]).await;
        let nodes = self.nodes.lock();
        let seen = nodes.get(node).filter(|seen| seen.at.is_some_and(|at| at > since))?;
        Some(seen.last.listeners.clone())
    }
}

/// The samplers of a deployment.
#[derive(Debug)]
pub(super) struct Sampling {
    pub(super) census: Arc<Census>,
    tasks: Vec<JoinHandle<()>>,
    /// The step on the other nodes.
    pub(super) step: Option<Running>,
}

impl Drop for Sampling {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Begins to sample, before any server starts. Without a sampler nothing but evidence is lost.
pub(super) fn start(placement: &Placement<'_>, ports: Vec<u16>, every: Duration) -> Sampling {
    let setup = placement.setup;
    let nodes = &placement.addresses.nodes;
    let telemetry = &setup.folders.telemetry;
    let file = || {
        std::fs::create_dir_all(telemetry)?;
        files::append(&telemetry.join("server_processes.jsonl"))
    };
    let has_processes = !setup.deployment.processes.is_empty();
    let file = if has_processes { file().ok() } else { None };
    let census = Arc::new(Census::new(setup.deployment, nodes, file));
    let watched = Watched {
        run: placement.addresses.run_id.clone(),
        ports,
        job: setup.place.job().map(ToString::to_string),
        every_ms: u64::try_from(every.as_millis()).unwrap_or(u64::MAX),
    };
    let (here, others): (Vec<String>, Vec<String>) =
        nodes.iter().cloned().partition(|node| setup.place.is_here(node));
    let mut tasks = Vec::new();
    if !has_processes {
        return Sampling { census, tasks, step: None };
    }
    for node in here {
        let own = Cgroups::of_this_process();
        *census.tracks.lock() = Tracks::new(own.paths(), Some(node.clone()));
        census.counted_before(&node, own.accounts());
        tasks.push(tokio::spawn(sample_here(Arc::clone(&census), node, watched.clone(), every)));
    }
    let step = if others.is_empty() { None } else { start_step(placement, &others, &watched).ok() };
    let step = step.map(|(step, output)| {
        tasks.push(tokio::spawn(read_step(Arc::clone(&census), output)));
        step
    });
    Sampling { census, tasks, step }
}

async fn sample_here(census: Arc<Census>, node: String, watched: Watched, every: Duration) {
    let mut watch = Watch::new(watched);
    loop {
        let look = tokio::task::spawn_blocking(move || {
            let sample = watch.sample();
            (watch, sample)
        });
        let Ok((again, sample)) = look.await else { return };
        watch = again;
        census.add(&node, sample);
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = census.wanted.notified() => {}
        }
    }
}

/// One step on these nodes that prints samples into a file.
fn start_step(
    placement: &Placement<'_>,
    nodes: &[String],
    watched: &Watched,
) -> std::io::Result<(Running, PathBuf)> {
    let setup = placement.setup;
    let attempt = std::process::id();
    let output = setup.folders.run.join(format!("watch-{attempt}-{}.jsonl", placement.addresses.run_id));
    let errors = setup.folders.run.join(format!("watch-{attempt}.log"));
    let query = serde_json::to_string(watched).map_err(std::io::Error::other)?;
    let argv = [setup.tokmark.to_owned(), "node".into(), "--watch".into(), query];
    let name = setup.place.step_name(STEP);
    let step = srun::Step::new(&name, nodes, srun::StepOutput::Shared(output.clone()), &argv);
    let step = srun::Step { error: Some(errors), extra: setup.plan.job.srun.clone(), ..step };
    let mut command = Command::new(setup.tokmark);
    command.args(["keep", "--"]).args(step.to_argv()).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    spawn::clear(&mut command, &setup.plan.job.clear_env);
    let mut child = command.spawn()?;
    let (pid, lifeline) = (child.id().unwrap_or_default(), child.stdin.take());
    let watching = tokio::spawn(async move { drop(child.wait().await) });
    let running = Running { name: STEP.into(), role: STEP.into(), pid, lifeline, logs: Vec::new(), watching };
    Ok((running, output))
}

async fn read_step(census: Arc<Census>, output: PathBuf) {
    let mut offset = 0;
    loop {
        let text = log::since(&output, offset);
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        offset += whole as u64;
        for line in text.get(..whole).unwrap_or_default().lines() {
            let Ok(sample) = serde_json::from_str::<Sample>(line) else { continue };
            if let Some(node) = sample.node.clone() {
                census.add(&node, sample);
            }
        }
        tokio::time::sleep(READ).await;
    }
}
