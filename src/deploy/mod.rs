//! Inside the allocation: starts the servers of a deployment, watches them from the first second, waits until one
//! generates a token, and stops them in order.
//!
//! Arrow: `plan`, `render`, `slurm`/`executor` (steps), `load` (probe) → here → `run`.

pub mod connection;
pub mod error;
pub mod log;
pub mod place;
pub mod ports;
pub mod ready;
pub mod secrets;
pub mod spawn;
pub mod stop;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::experiment::Event;
use crate::load::Target;
use crate::plan::{Deployment, Plan};
use crate::render::{self, Scene};
pub use error::DeployError;
pub use place::Place;
use spawn::Running;

/// Where a deployment keeps its files.
#[derive(Debug, Clone)]
pub struct Folders {
    /// Rendered config files and scratch space.
    pub run: PathBuf,
    /// Logs of the processes.
    pub logs: PathBuf,
    /// File that collects what was started, as lines a person may paste.
    pub commands: PathBuf,
    /// Prefix of log names, to keep the deployments of one experiment apart.
    pub prefix: String,
}

/// What a deployment needs of its surroundings.
pub struct Surroundings<'a> {
    /// Local machine or allocation.
    pub place: &'a Place,
    /// Files.
    pub folders: Folders,
    /// Path of this binary.
    pub tokmark: String,
    /// Told of everything that happens.
    pub emit: Arc<dyn Fn(Event) + Send + Sync>,
    /// Cancelled when the run must end.
    pub stop: CancellationToken,
    /// Cancelled when it must end without waiting for anyone.
    pub hurry: CancellationToken,
}

/// A live deployment.
pub struct Deployed {
    /// URL of its endpoint.
    pub url: String,
    /// What the load is sent to: the endpoint, all its URLs.
    pub target: Target,
    /// The endpoint says of itself that it is simulated.
    pub simulated: bool,
    processes: Vec<Running>,
    death: watch::Receiver<Option<Arc<DeployError>>>,
    stopping: Arc<AtomicBool>,
    grace: Duration,
}

impl Deployed {
    /// Whether its servers were started here, and so have served nobody else before.
    pub fn is_own(&self) -> bool {
        !self.processes.is_empty()
    }

    /// Starts all processes in the launcher's order and returns once the endpoint has generated a token. Whatever was
    /// started is stopped again when this fails.
    pub async fn start(
        plan: &Plan,
        deployment: &Deployment,
        around: &Surroundings<'_>,
    ) -> Result<Self, DeployError> {
        let began = Instant::now();
        let scene = scene(plan, deployment, around)?;
        let url = render::endpoint_url(plan, deployment, &scene)?;
        let urls = std::iter::once(url.clone()).chain(deployment.more_urls.iter().cloned()).collect();
        let target = connection::target(urls, &plan.model.served_name, &deployment.connection)
            .map_err(DeployError::Input)?;
        let (sender, death) = watch::channel(None);
        let mut deployed = Self {
            url,
            target,
            simulated: plan.simulated,
            processes: Vec::new(),
            death,
            stopping: Arc::new(AtomicBool::new(false)),
            grace: Duration::from_secs_f64(deployment.stop_grace_s),
        };
        let deadline = began + Duration::from_secs_f64(deployment.startup_timeout_s);
        let started = deployed.bring_up(plan, deployment, around, &scene, &sender, deadline).await;
        match started {
            Ok(()) => {
                (around.emit)(Event::Ready {
                    url: deployed.url.clone(),
                    seconds: began.elapsed().as_secs_f64(),
                });
                Ok(deployed)
            }
            Err(error) => {
                deployed.stop(around).await;
                Err(error)
            }
        }
    }

    async fn bring_up(
        &mut self,
        plan: &Plan,
        deployment: &Deployment,
        around: &Surroundings<'_>,
        scene: &Scene,
        death: &watch::Sender<Option<Arc<DeployError>>>,
        deadline: Instant,
    ) -> Result<(), DeployError> {
        let watcher =
            spawn::Watcher::new(plan, death.clone(), Arc::clone(&self.stopping), Arc::clone(&around.emit))?;
        for role in &plan.launcher.roles {
            for process in deployment.processes.iter().filter(|process| process.role == role.name) {
                let spawn = render::process(plan, deployment, process, scene)?;
                self.processes.push(spawn::start(plan, role, process, &spawn, scene, around, &watcher)?);
            }
            if let Some(ready) = &role.ready {
                let first = deployment.processes.iter().find(|process| process.role == role.name);
                let seat = first.and_then(|process| scene.seats.get(&process.name));
                if let Some(seat) = seat {
                    self.until(around, deadline, ready::role(&role.name, ready, seat)).await?;
                }
            }
        }
        let point = deployment.points.first();
        let endpoint = point.map_or(crate::plan::Endpoint::Chat, |point| point.endpoint);
        let target = self.target.clone();
        let simulated = self
            .until(
                around,
                deadline,
                ready::endpoint(&target, plan.launcher.endpoint.health.as_deref(), endpoint),
            )
            .await?;
        self.simulated |= simulated;
        Ok(())
    }

    /// Runs a probe until it succeeds, the deadline passes, a process dies, or the run must end.
    async fn until<T>(
        &mut self,
        around: &Surroundings<'_>,
        deadline: Instant,
        mut probe: impl ready::Probe<T>,
    ) -> Result<T, DeployError> {
        let mut pause = Duration::from_millis(50);
        let mut waiting = "nothing answered in time".to_owned();
        loop {
            tokio::select! {
                biased;
                error = died(&mut self.death) => return Err(error),
                () = around.stop.cancelled() => return Err(DeployError::Interrupted),
                // A probe that hangs must not outlive the deadline.
                answer = tokio::time::timeout_at(deadline.into(), probe.attempt()) => match answer {
                    Ok(Ok(value)) => return Ok(value),
                    Ok(Err(problem)) => waiting = problem,
                    Err(_) => {}
                },
            }
            if Instant::now() >= deadline {
                return Err(DeployError::NotReady { waiting, logs: self.excerpts() });
            }
            tokio::select! {
                biased;
                error = died(&mut self.death) => return Err(error),
                () = around.stop.cancelled() => return Err(DeployError::Interrupted),
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(2)),
            }
        }
    }

    fn excerpts(&self) -> Vec<(String, String)> {
        self.processes.iter().map(|process| (process.name.clone(), log::tail(&process.log, 10))).collect()
    }

    /// Resolves when a process dies that was not asked to.
    pub async fn died(&mut self) -> DeployError {
        died(&mut self.death).await
    }

    /// Why nobody listens any more. A dying server closes its port some time before it is gone, so the reason is waited
    /// for a little.
    pub async fn gone(&mut self) -> DeployError {
        match tokio::time::timeout(Duration::from_secs(10), self.died()).await {
            Ok(error) => error,
            Err(_) => DeployError::Gone { url: self.url.clone(), logs: self.excerpts() },
        }
    }

    /// Stops everything in reverse order: TERM, grace, KILL. Returns the names of those that had to be killed.
    pub async fn stop(mut self, around: &Surroundings<'_>) -> Vec<String> {
        self.stopping.store(true, std::sync::atomic::Ordering::SeqCst);
        let mut processes = std::mem::take(&mut self.processes);
        processes.reverse();
        stop::all(processes, around.place, self.grace, &around.hurry).await
    }
}

async fn died(death: &mut watch::Receiver<Option<Arc<DeployError>>>) -> DeployError {
    loop {
        if let Some(error) = death.borrow_and_update().clone() {
            return DeployError::Shared(error);
        }
        if death.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Decides addresses and ports.
fn scene(plan: &Plan, deployment: &Deployment, around: &Surroundings<'_>) -> Result<Scene, DeployError> {
    let nodes = around.place.nodes();
    if nodes.len() < deployment.nodes as usize {
        return Err(DeployError::TooFewNodes { have: nodes.len(), need: deployment.nodes });
    }
    let seats = ports::seats(plan, deployment, around.place)?;
    Ok(Scene {
        tokmark: around.tokmark.clone(),
        run_dir: around.folders.run.display().to_string(),
        log_dir: around.folders.logs.display().to_string(),
        nodes: nodes.to_vec(),
        seats,
    })
}
