//! Inside the allocation: starts the servers of a deployment, watches them from the first second, waits until one
//! generates a token, and stops them in order.

pub mod connection;
pub mod container;
pub mod error;
pub mod log;
pub mod place;
pub mod placement;
pub mod ports;
pub mod ready;
pub mod secrets;
pub mod spawn;
pub mod step;
pub mod stop;
pub mod watch;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;

use crate::experiment::Event;
use crate::launcher::{Ready, Role};
use crate::load::Target;
use crate::plan::Process;
use crate::plan::{Deployment, Plan};
use container::JobImage;
pub use error::DeployError;
pub use place::Place;
use placement::Placement;
use spawn::Running;
use watch::{StartProgress, Watcher};

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
    /// The container image of the job.
    pub container: JobImage,
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
    /// Version that its engine says it has.
    pub engine_version: Option<String>,
    /// Pages with its servers' metrics: those of the endpoint first.
    pub metrics_urls: Vec<String>,
    processes: Vec<Running>,
    _leases: Arc<ports::Leases>,
    scratch: PathBuf,
    death: channel::Receiver<Option<Arc<DeployError>>>,
    progress: Arc<StartProgress>,
    stopping: Arc<AtomicBool>,
    grace: Duration,
}

/// What the last probe of a start gets at least.
const LAST_LOOK: Duration = Duration::from_millis(500);

/// How long a start may take.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    /// When it is over, whatever the logs say.
    at: Instant,
    /// What every sign of progress gives it from then on.
    after_progress: Duration,
}

impl Deadline {
    /// The moment as of now, the key of the recipe that decides it, and the last sign of progress.
    fn now(&self, progress: &StartProgress) -> (Instant, &'static str, Option<String>) {
        match progress.last() {
            Some((when, sign)) if when + self.after_progress > self.at => {
                (when + self.after_progress, "deploy.progress_timeout", Some(sign))
            }
            last => (self.at, "deploy.startup_timeout", last.map(|(_, sign)| sign)),
        }
    }
}

impl Deployed {
    /// Whether its servers were started here, and so have served nobody else before.
    pub fn is_own(&self) -> bool {
        !self.processes.is_empty()
    }

    /// Starts all processes in the launcher's order and returns once the endpoint has generated a token. Whatever was
    /// started is stopped again when this fails. A port that was taken after it was found free is chosen anew, once.
    pub async fn start(
        plan: &Plan,
        deployment: &Deployment,
        around: &Surroundings<'_>,
    ) -> Result<Self, DeployError> {
        let began = Instant::now();
        let mut avoid = BTreeSet::new();
        loop {
            let placement = placement::decide(plan, deployment, around, &avoid).await?;
            match Self::attempt(plan, deployment, around, &placement, began).await {
                Ok(mut deployed) => {
                    let seconds = began.elapsed().as_secs_f64();
                    deployed.engine_version = ready::version(&deployed.target, &plan.launcher.endpoint).await;
                    (around.emit)(Event::Ready { url: deployed.url.clone(), seconds });
                    return Ok(deployed);
                }
                Err(error) if error.wants_new_ports() && avoid.is_empty() => {
                    (around.emit)(Event::PortsTaken { problem: error.to_string() });
                    let all = placement
                        .addresses
                        .processes
                        .values()
                        .flat_map(|address| address.ports.values().copied());
                    avoid.extend(all.filter(|port| deployment.port != Some(*port)));
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn attempt(
        plan: &Plan,
        deployment: &Deployment,
        around: &Surroundings<'_>,
        placement: &Placement,
        began: Instant,
    ) -> Result<Self, DeployError> {
        let mut urls = placement.placed(plan, deployment).endpoint_urls()?;
        let metrics_urls = metrics_urls(plan, deployment, placement, &urls);
        urls.extend(deployment.more_urls.iter().cloned());
        let url = urls.first().cloned().unwrap_or_default();
        let target = connection::target(urls, &plan.model.served_name, &deployment.connection)
            .map_err(DeployError::Input)?;
        let (sender, death) = channel::channel(None);
        let mut deployed = Self {
            url,
            target,
            simulated: plan.simulated,
            engine_version: None,
            metrics_urls,
            processes: Vec::new(),
            _leases: Arc::clone(&placement.leases),
            scratch: PathBuf::from(&placement.addresses.scratch_dir),
            death,
            progress: Arc::default(),
            stopping: Arc::new(AtomicBool::new(false)),
            grace: Duration::from_secs_f64(deployment.stop_grace_s),
        };
        let deadline = Deadline {
            at: began + Duration::from_secs_f64(deployment.startup_timeout_s),
            after_progress: Duration::from_secs_f64(deployment.progress_timeout_s),
        };
        let started = deployed.bring_up(plan, deployment, around, placement, &sender, deadline).await;
        match started {
            Ok(()) => Ok(deployed),
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
        placement: &Placement,
        death: &channel::Sender<Option<Arc<DeployError>>>,
        deadline: Deadline,
    ) -> Result<(), DeployError> {
        let (progress, stopping) = (Arc::clone(&self.progress), Arc::clone(&self.stopping));
        let watcher =
            Watcher::new(&plan.launcher, death.clone(), progress, stopping, Arc::clone(&around.emit))?;
        let roles = &plan.launcher.roles;
        let mut ready: BTreeSet<&str> = BTreeSet::new();
        for (index, role) in roles.iter().enumerate() {
            let of_role = || deployment.processes.iter().filter(|process| process.role == role.name);
            let waits: Vec<&Role> = match &role.after {
                Some(names) => names.iter().filter_map(|name| plan.launcher.role(name)).collect(),
                None => roles[..index].iter().filter(|earlier| !earlier.gpus).collect(),
            };
            for earlier in waits.into_iter().filter(|_| of_role().next().is_some()) {
                if ready.insert(&earlier.name) {
                    self.until_ready(plan, deployment, around, placement, earlier, deadline).await?;
                }
            }
            for process in of_role() {
                let spawn = placement.placed(plan, deployment).process(process)?;
                let place = around.place;
                let start = step::Start { plan, deployment, role, process, spawn: &spawn, placement, place };
                self.processes.push(spawn::start(&start, around, &watcher)?);
            }
        }
        for role in roles.iter().filter(|role| !ready.contains(role.name.as_str())) {
            self.until_ready(plan, deployment, around, placement, role, deadline).await?;
        }
        let point = deployment.points.first();
        let endpoint = point.map_or(crate::plan::Endpoint::Chat, |point| point.endpoint);
        let target = self.target.clone();
        let spec = &plan.launcher.endpoint;
        let simulated = self.until(around, deadline, ready::endpoint(&target, spec, endpoint)).await?;
        self.simulated |= simulated;
        Ok(())
    }

    /// Waits until every process of a role that does not follow another is ready by the role's rule.
    async fn until_ready(
        &mut self,
        plan: &Plan,
        deployment: &Deployment,
        around: &Surroundings<'_>,
        placement: &Placement,
        role: &Role,
        deadline: Deadline,
    ) -> Result<(), DeployError> {
        let Some(rule) = &role.ready else { return Ok(()) };
        let leads = |process: &&Process| process.role == role.name && !process.follows;
        for process in deployment.processes.iter().filter(leads) {
            let rule = placement.placed(plan, deployment).ready(process, rule)?;
            let running = self.processes.iter().find(|running| running.name == process.name);
            let logs = running.map(|running| running.logs.clone()).unwrap_or_default();
            let asked = match &rule {
                Ready::Http { role: Some(other), .. } => {
                    deployment.processes.iter().find(|process| process.role == *other).unwrap_or(process)
                }
                _ => process,
            };
            let Some(address) = placement.addresses.processes.get(&asked.name) else { continue };
            let subject = ready::Probed { name: &process.name, address, logs: &logs };
            self.until(around, deadline, async || ready::look(&rule, &subject).await).await?;
        }
        Ok(())
    }

    /// Runs a probe until it succeeds, the deadline passes, a process dies, or the run must end.
    async fn until<T>(
        &mut self,
        around: &Surroundings<'_>,
        deadline: Deadline,
        mut probe: impl ready::Probe<T>,
    ) -> Result<T, DeployError> {
        let mut pause = Duration::from_millis(50);
        let mut waiting = "nothing answered in time".to_owned();
        loop {
            let (at, ..) = deadline.now(&self.progress);
            // A probe that hangs must not outlive the deadline, and the last one has a moment.
            let at = at.max(Instant::now() + LAST_LOOK);
            tokio::select! {
                biased;
                error = died(&mut self.death) => return Err(error),
                () = around.stop.cancelled() => return Err(DeployError::Interrupted),
                answer = tokio::time::timeout_at(at.into(), probe.attempt()) => match answer {
                    Ok(Ok(value)) => return Ok(value),
                    Ok(Err(problem)) => waiting = problem,
                    Err(_) => {}
                },
            }
            let (at, key, sign) = deadline.now(&self.progress);
            if Instant::now() >= at {
                return Err(DeployError::NotReady { waiting, deadline: key, sign, logs: self.excerpts() });
            }
            tokio::select! {
                biased;
                error = died(&mut self.death) => return Err(error),
                () = around.stop.cancelled() => return Err(DeployError::Interrupted),
                // The last look is at the deadline itself.
                () = tokio::time::sleep_until((Instant::now() + pause).min(at).into()) => {
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
            }
        }
    }

    fn excerpts(&self) -> Vec<(String, String)> {
        self.processes
            .iter()
            .filter_map(|process| Some((process.name.clone(), log::tail(&process.logs.last()?.0, 10))))
            .collect()
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
        let killed = stop::all(processes, around.place, self.grace, &around.hurry).await;
        // Of this node; head roles on another one leave theirs to that node's own tidying.
        let _none = std::fs::remove_dir_all(&self.scratch);
        killed
    }
}

async fn died(death: &mut channel::Receiver<Option<Arc<DeployError>>>) -> DeployError {
    loop {
        if let Some(error) = death.borrow_and_update().clone() {
            return DeployError::Shared(error);
        }
        if death.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Pages with the metrics of the endpoint's servers, and of roles that have their own.
fn metrics_urls(plan: &Plan, deployment: &Deployment, placement: &Placement, urls: &[String]) -> Vec<String> {
    let path = plan.launcher.endpoint.metrics.as_ref();
    let of_endpoint = urls.iter().filter_map(|url| Some(format!("{url}{}", path?)));
    let own = deployment.processes.iter().filter_map(|process| {
        let page = plan.launcher.role(&process.role)?.metrics.as_ref()?;
        placement.placed(plan, deployment).has_page(process, page).ok().filter(|has| *has)?;
        let address = placement.addresses.processes.get(&process.name)?;
        Some(format!("http://{}:{}{}", address.host, address.ports.get(&page.port)?, page.path))
    });
    of_endpoint.chain(own).collect()
}
