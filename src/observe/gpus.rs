//! `telemetry/gpu.csv`: the GPUs of a deployment, from before its servers start until after they end.
//!
//! One sampler per node (`tokmark node --gpus`) prints what it reads. Samples keep the clock of their node; the difference to this
//! machine's clock is measured by questions and answers over the sampler's stdin and stdout, as NTP does it.

mod file;
mod state;

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::gpu::{Line, unix_ns};
use crate::metrics::gpus::Watch;
use file::GpuFile;
use state::{Shared, State};

/// Longest wait for the first sample of every node, which a Slurm step takes seconds to give.
const FIRST: Duration = Duration::from_secs(15);
/// Longest wait for a sample with the servers ready and without load.
const IDLE: Duration = Duration::from_secs(3);
/// Longest wait for a sampler to end after its stdin has.
const END: Duration = Duration::from_secs(5);
/// Questions about the clock of a node; the quickest answer counts.
const QUESTIONS: usize = 8;

/// A sampler to start.
#[derive(Debug)]
pub struct SamplerCommand {
    pub node: String,
    /// Its clock is that of this machine.
    pub is_here: bool,
    /// The GPUs that it is asked for.
    pub gpus: Vec<String>,
    pub command: Command,
}

/// The samplers of a deployment. Dropping it ends them.
#[derive(Debug)]
pub struct GpuTelemetry {
    shared: Arc<Shared>,
    samplers: Vec<(Child, JoinHandle<()>)>,
}

impl GpuTelemetry {
    /// Starts sampling into `folder/gpu.csv`.
    pub fn start(folder: &Path, interval_s: f64, commands: Vec<SamplerCommand>) -> std::io::Result<Self> {
        fs_err::create_dir_all(folder)?;
        let nodes = commands.iter().map(|sampler| (sampler.node.clone(), sampler.gpus.clone()));
        let shared =
            Arc::new(Shared::new(State::new(interval_s, nodes), GpuFile::of(&folder.join("gpu.csv"))));
        let mut samplers = Vec::new();
        for (node, SamplerCommand { is_here, mut command, .. }) in commands.into_iter().enumerate() {
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                // A Ctrl-C is for the run; the samplers go on until the servers have ended.
                .process_group(0)
                .kill_on_drop(true);
            match command.spawn() {
                Ok(mut child) => {
                    let ends = (child.stdin.take(), child.stdout.take());
                    let errors = child.stderr.take();
                    let (Some(stdin), Some(stdout)) = ends else { continue };
                    let complaint = tokio::spawn(last_line(errors));
                    let follow = follow(Arc::clone(&shared), node, is_here, stdin, stdout, complaint);
                    samplers.push((child, tokio::spawn(follow)));
                }
                Err(error) => shared.change(|state| state.ended(node, Some(error.to_string()))),
            }
        }
        Ok(Self { shared, samplers })
    }

    /// Waits until every node has given a sample, or none will come.
    pub async fn first(&self) {
        self.shared.until(FIRST, State::all_began).await;
    }

    /// What there is to say of the sources: which they are, or why there is none. `None` on machines without GPUs.
    pub fn sources(&self) -> Option<Result<String, String>> {
        self.shared.look(State::sources)
    }

    /// The servers are about to start.
    pub fn servers_start(&self) {
        self.shared.change(|state| state.servers_start(now_us()));
    }

    /// The servers are ready. Waits for a sample without load.
    pub async fn servers_ready(&self) {
        let now = now_us();
        self.shared.change(|state| state.ready_us = Some(now));
        self.shared.until(IDLE, move |state| state.have_reached(now)).await;
    }

    /// What was sampled up to the end of a load. `began` and `ended`: instant 0 of its records and the end of its window, µs since 1970.
    pub async fn watch(&self, began: i64, ended: i64) -> Watch {
        let interval = self.shared.look(|state| state.interval_s);
        // A program that prints tables completes one when it begins the next.
        let patience = Duration::from_secs_f64(2.0 * interval) + Duration::from_secs(2);
        self.shared.until(patience, move |state| state.have_reached(ended)).await;
        let watch = self.shared.look(|state| state.watch(began));
        self.shared.change(|state| state.forget(began, ended));
        watch
    }

    /// Ends the samplers.
    pub async fn finish(mut self) {
        self.shared.stop();
        for (mut child, following) in self.samplers.drain(..) {
            if tokio::time::timeout(END, child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
            following.abort();
        }
    }
}

/// µs since 1970.
fn now_us() -> i64 {
    unix_ns() / 1000
}

/// The last line that a sampler, or its srun, printed on stderr.
async fn last_line(errors: Option<tokio::process::ChildStderr>) -> Option<String> {
    let mut lines = BufReader::new(errors?).lines();
    let mut last = None;
    while let Ok(Some(line)) = lines.next_line().await {
        last = Some(line).filter(|line| !line.trim().is_empty()).or(last);
    }
    last
}

/// Takes in what a sampler says, until it ends.
async fn follow(
    shared: Arc<Shared>,
    node: usize,
    is_here: bool,
    mut stdin: ChildStdin,
    stdout: ChildStdout,
    complaint: JoinHandle<Option<String>>,
) {
    let stop = shared.stopped();
    let mut lines = BufReader::new(stdout).lines();
    let mut questions = if is_here { 0 } else { QUESTIONS };
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line,
            // Dropping stdin ends the sampler.
            () = stop.cancelled() => return,
        };
        let Ok(Some(line)) = line else { break };
        // Other lines are banners of the node.
        let Ok(line) = serde_json::from_str::<Line>(&line) else { continue };
        let asks = matches!(line, Line::Hello(_) | Line::Clock { .. }) && questions > 0;
        shared.take_in(node, is_here, line);
        if asks {
            questions -= 1;
            let _ = stdin.write_all(format!("{}\n", unix_ns()).as_bytes()).await;
            let _ = stdin.flush().await;
        }
    }
    let complaint = complaint.await.ok().flatten();
    shared.change(|state| state.ended(node, complaint));
}
