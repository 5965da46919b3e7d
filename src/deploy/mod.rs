//! Runs inside the allocation: starts the servers of a deployment, watches them from the first second, waits until one generates
//! a token, and stops them in order.
//!
//! This room waits neither for signals nor for a server's death: watchers report through a [`Report`], and the caller drops the
//! future it was waiting for.

pub mod census;
pub mod connection;
pub mod container;
mod deadline;
mod death;
pub mod deployment_config;
pub mod error;
pub mod explain;
pub mod keeper;
mod listener;
pub mod log;
pub mod no_api;
pub mod place;
pub mod placement;
pub mod ports;
pub mod ready;
pub mod sampler;
pub mod secrets;
pub mod spawn;
pub mod step;
pub mod stop;
mod suspicion;
mod views;
mod watch;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::experiment::{Event, EventLog};
use crate::launcher::{EndpointSpec, PoolName, Ready, Role};
use crate::load::{LiveCounters, Target};
use crate::metrics::processes::ProcessView;
use crate::plan::{Deployment, Endpoint, MetricsPage, Plan, Process};
use crate::render;
use census::Sampling;
use container::JobImage;
use deadline::{Deadline, ProbeFailure};
pub use error::{DeployError, Remedy};
pub use place::Place;
use placement::Placement;
use spawn::Running;
use suspicion::Life;
use watch::Watcher;
pub use watch::{Notice, Report};

/// Time until a start that goes on says what it waits for.
const FIRST_WORD: Duration = Duration::from_secs(2);

/// Time until it says so again.
const NEXT_WORD: Duration = Duration::from_secs(10);
/// How long a server that this run started may list other models before its own.
const LATE_LIST: Duration = Duration::from_secs(20);

/// Where a deployment keeps its files.
#[derive(Debug, Clone)]
pub struct Folders {
    /// Rendered config files and scratch space.
    pub run: PathBuf,
    /// Logs of the processes.
    pub logs: PathBuf,
    /// File that collects the start commands, ready to paste.
    pub commands: PathBuf,
    /// Samples of servers, GPUs and the client.
    pub telemetry: PathBuf,
    /// Prefix of log names, to keep the deployments of one experiment apart.
    pub prefix: String,
}

impl Folders {
    /// The files of a deployment in an experiment's directory.
    pub fn of(deployment: &Deployment, experiment: &Path, logs: PathBuf) -> Self {
        let id = deployment.id.as_str();
        let (name, prefix) =
            if id.is_empty() { ("deployment", String::new()) } else { (id, format!("{id}.")) };
        let run = experiment.join("run").join(name);
        let (commands, telemetry) = (experiment.join("commands.sh"), experiment.join("telemetry"));
        Self { run, logs, commands, telemetry, prefix }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{}{name}", self.prefix))
    }
}

/// Everything a start needs.
pub struct Setup<'a> {
    pub plan: &'a Plan,
    pub deployment: &'a Deployment,
    pub place: &'a Place,
    pub folders: Folders,
    pub image: JobImage,
    /// Path of this binary.
    pub tokmark: &'a str,
    /// Where starts are recorded.
    pub events: &'a EventLog,
}

/// A deployment whose processes are running or starting.
pub struct Deployed<'a> {
    /// Target of the load: all URLs of the endpoint.
    pub target: Target,
    /// The plan or the endpoint declares itself simulated.
    pub simulated: bool,
    pub engine_version: Option<String>,
    /// The servers' metrics pages, those of the endpoint first.
    pub metrics_pages: Vec<MetricsPage>,
    placement: Placement<'a>,
    watcher: Watcher,
    deadline: Arc<Deadline>,
    life: Arc<Life>,
    sampling: Sampling,
    processes: Vec<Running>,
    began: Instant,
    /// Since when every path has been unknown.
    unknown_since: Mutex<Option<Instant>>,
    /// Since when an address answers on which nobody is seen listening.
    unseen_since: Mutex<Option<Instant>>,
}

impl<'a> Deployed<'a> {
    /// A deployment at its placement, before any process starts. `began`: when its first attempt began.
    pub fn new(placement: Placement<'a>, began: Instant, report: Report) -> Result<Self, DeployError> {
        let Setup { plan, deployment, .. } = placement.setup;
        let mut urls = placement.placed().endpoint_urls()?;
        urls.extend(deployment.more_urls.iter().cloned());
        let target = connection::target(urls, &plan.model.served_name, &deployment.connection)
            .map_err(DeployError::Input)?;
        let metrics_pages = metrics_pages(&placement, &target);
        let (deadline, life) = (Arc::new(Deadline::new(deployment, began)), Arc::new(Life::default()));
        let every = Duration::from_secs_f64(plan.telemetry.interval_s);
        let sampling = census::start(&placement, ports(&target), every);
        let known = (Arc::clone(&deadline), Arc::clone(&life), Arc::clone(&sampling.census));
        Ok(Self {
            target,
            simulated: plan.simulated,
            engine_version: None,
            metrics_pages,
            placement,
            watcher: Watcher::new(plan.launcher(), known, report)?,
            deadline,
            life,
            sampling,
            processes: Vec::new(),
            began,
            unknown_since: Mutex::default(),
            unseen_since: Mutex::default(),
        })
    }

    /// Tells those who watch the processes which load runs, if any.
    pub fn under_load(&self, load: Option<LiveCounters>) {
        self.sampling.census.under_load(load.is_some());
        self.life.load(load);
    }

    /// What the processes of the servers used in a window that has just ended, µs since 1970.
    pub async fn processes(&self, window: (i64, i64)) -> Vec<ProcessView> {
        self.sampling.census.views(window).await
    }

    /// URL of the endpoint.
    pub fn url(&self) -> String {
        self.target.base_urls.first().cloned().unwrap_or_default()
    }

    /// Whether this run started the servers, so that nobody else has used them before.
    pub fn is_own(&self) -> bool {
        !self.processes.is_empty()
    }

    /// Ports that tokmark chose, without the one that the user fixed.
    pub fn chosen_ports(&self) -> BTreeSet<u16> {
        let all =
            self.placement.addresses.processes.values().flat_map(|address| address.ports.values().copied());
        all.filter(|port| self.placement.setup.deployment.port != Some(*port)).collect()
    }

    /// Starts all processes in the launcher's order and returns once the endpoint has generated a token. If this fails or is
    /// dropped, started processes keep running until [`Self::stop`].
    pub async fn start(&mut self) -> Result<(), DeployError> {
        let Setup { plan, deployment, .. } = self.placement.setup;
        let roles = &plan.launcher().roles;
        let mut ready: BTreeSet<&str> = BTreeSet::new();
        for (index, role) in roles.iter().enumerate() {
            let of_role = || deployment.processes.iter().filter(|process| process.role == role.name);
            let waits: Vec<&Role> = match &role.after {
                Some(names) => names.iter().filter_map(|name| plan.launcher().role(name)).collect(),
                None => roles[..index].iter().filter(|earlier| !earlier.gpus).collect(),
            };
            for earlier in waits.into_iter().filter(|_| of_role().next().is_some()) {
                if ready.insert(&earlier.name) {
                    self.until_ready(earlier).await?;
                }
            }
            for process in of_role() {
                self.processes.push(spawn::start(&self.placement, role, process, &self.watcher)?);
            }
        }
        for role in roles.iter().filter(|role| !ready.contains(role.name.as_str())) {
            self.until_ready(role).await?;
        }
        let endpoint = deployment.points.first().map_or(Endpoint::Chat, |point| point.endpoint);
        let spec = &plan.launcher().endpoint;
        self.simulated |= match deployment.is_awaited() {
            true => {
                let what = format!("a first token from {}", self.url());
                self.until(&what, async || self.endpoint_ready(spec, endpoint).await).await?
            }
            false => {
                self.until("a list of models", async || ready::lists_model(&self.target).await).await?;
                ready::is_simulated(&self.target).await
            }
        };
        self.life.ready();
        let seconds = self.began.elapsed().as_secs_f64();
        self.engine_version = ready::version(&self.target, spec).await;
        self.placement.setup.events.emit(Event::Ready { url: self.url(), seconds });
        Ok(())
    }

    /// Waits until every process of a role is ready by the role's rule; processes that follow another one are skipped.
    async fn until_ready(&self, role: &Role) -> Result<(), DeployError> {
        let Some(rule) = &role.ready else { return Ok(()) };
        let all = &self.placement.setup.deployment.processes;
        let leads = |process: &&Process| process.role == role.name && !process.follows;
        for process in all.iter().filter(leads) {
            let rule = self.placement.placed().ready(process, rule)?;
            let running = self.processes.iter().find(|running| running.name == process.name);
            let logs = running.map(|running| running.logs.as_slice()).unwrap_or_default();
            let probed = match &rule {
                Ready::Http { role: Some(other), .. } => {
                    all.iter().find(|process| process.role == *other).unwrap_or(process)
                }
                _ => process,
            };
            let Some(address) = self.placement.addresses.processes.get(&probed.name) else { continue };
            let probed = ready::Probed { name: &process.name, address, logs };
            let what = format!("{} to be ready", process.name);
            self.until(&what, async || Ok(ready::check(&rule, &probed).await?)).await?;
            self.life.sign();
        }
        Ok(())
    }

    /// Whether the endpoint is ready, and served by this run's own processes. Our own servers may list their model late.
    async fn endpoint_ready(&self, spec: &EndpointSpec, endpoint: Endpoint) -> Result<bool, ProbeFailure> {
        let ready = ready::endpoint(&self.target, spec, endpoint).await;
        if self.is_own() && matches!(ready, Ok(_) | Err(ProbeFailure::Unlisted { .. })) {
            let found =
                listener::must_be_ours(&self.target, &self.placement.addresses, &self.sampling.census);
            self.while_unseen(found.await?)?;
        }
        match ready {
            Err(ProbeFailure::Unlisted { url, model, listed })
                if self.is_own() && self.began.elapsed() < LATE_LIST =>
            {
                let listed = listed.join(", ");
                Err(format!("{url} does not list {model:?} yet (it lists: {listed})").into())
            }
            ready => self.while_unknown(ready),
        }
    }

    /// Waits for a while for a sample that shows the listener of an address that answers: samples of other nodes come late.
    fn while_unseen(&self, address: Option<String>) -> Result<(), ProbeFailure> {
        let Ok(mut since) = self.unseen_since.lock() else { return Ok(()) };
        let Some(address) = address else {
            *since = None;
            return Ok(());
        };
        match since.get_or_insert_with(Instant::now).elapsed() < listener::LATE {
            true => Err(format!("{address} answers, and nobody is seen listening there yet").into()),
            false => Ok(()),
        }
    }

    /// Waits for a while for a server that knows no path.
    fn while_unknown(&self, ready: Result<bool, ProbeFailure>) -> Result<bool, ProbeFailure> {
        let Ok(mut since) = self.unknown_since.lock() else { return ready };
        let Err(ProbeFailure::NoApi(tried)) = ready else {
            *since = None;
            return ready;
        };
        let patience = if self.is_own() { no_api::PATIENCE_WITH_OWN } else { no_api::PATIENCE };
        if since.get_or_insert_with(Instant::now).elapsed() >= patience {
            return Err(ProbeFailure::NoApi(tried));
        }
        let answers: Vec<String> = tried.iter().map(ToString::to_string).collect();
        Err(format!("nothing is served there yet: {}", answers.join("; ")).into())
    }

    /// Retries a probe until it succeeds, fails for good, or the start's deadline passes, and says what it waits for: `what`, or what the last try
    /// lacked.
    async fn until<T>(
        &self,
        what: &str,
        mut probe: impl AsyncFnMut() -> Result<T, ProbeFailure>,
    ) -> Result<T, DeployError> {
        let missing = Mutex::new(what.to_owned());
        let probing = self.deadline.until(async || {
            let answer = probe().await;
            if let (Err(ProbeFailure::NotYet(problem)), Ok(mut missing)) = (&answer, missing.lock()) {
                missing.clone_from(problem);
            }
            answer
        });
        let answer = tokio::select! {
            answer = probing => answer,
            never = self.say_waiting(&missing) => match never {},
        };
        answer.map_err(|failure| match failure {
            ProbeFailure::NotYet(waiting) => {
                let deadline::DeadlineState { key, sign, .. } = self.deadline.state();
                DeployError::NotReady { waiting, deadline: key, sign, logs: self.excerpts() }
            }
            ProbeFailure::Unlisted { url, model, listed } => DeployError::Unlisted { url, model, listed },
            ProbeFailure::NoApi(tried) => {
                DeployError::NoApi { url: self.url(), own: self.is_own(), tried, logs: self.excerpts() }
            }
            ProbeFailure::Foreign { address, process } => {
                DeployError::Foreign { address, process, logs: self.excerpts() }
            }
        })
    }

    /// Reports what is missing after a moment and then again and again.
    async fn say_waiting(&self, missing: &Mutex<String>) -> Infallible {
        let mut pause = FIRST_WORD;
        loop {
            tokio::time::sleep(pause).await;
            pause = NEXT_WORD;
            let what = missing.lock().map(|missing| missing.clone()).unwrap_or_default();
            let at_most = self.deadline.state().at.saturating_duration_since(self.began).as_secs_f64();
            let seconds = self.began.elapsed().as_secs_f64();
            self.placement.setup.events.emit(Event::Waiting { what, seconds, at_most });
        }
    }

    fn excerpts(&self) -> Vec<(String, String)> {
        self.processes
            .iter()
            .filter_map(|process| Some((process.name.clone(), log::tail(&process.logs.last()?.0, 10))))
            .collect()
    }

    /// The error for an endpoint that stopped listening although no process was seen to end.
    pub fn gone(&self) -> DeployError {
        DeployError::Gone { url: self.url(), logs: self.excerpts() }
    }

    /// Stops everything in reverse order: TERM, grace, KILL. Returns the names of killed processes. Cancelling `hurry` skips the
    /// grace.
    pub async fn stop(mut self, hurry: &CancellationToken) -> Vec<String> {
        self.sampling.census.stopping();
        let mut processes = std::mem::take(&mut self.processes);
        processes.reverse();
        let grace = Duration::from_secs_f64(self.placement.setup.deployment.stop_grace_s);
        let place = self.placement.setup.place;
        let killed = stop::all(processes, place, grace, hurry).await;
        stop::all(self.sampling.step.take().into_iter().collect(), place, grace, hurry).await;
        // Removes the folder on this node; a head role elsewhere leaves its folder to that node's own cleanup.
        let _ = std::fs::remove_dir_all(&self.placement.addresses.scratch_dir);
        killed
    }
}

/// Ports of the servers that the load reaches.
fn ports(target: &Target) -> Vec<u16> {
    let urls = target.base_urls.iter().filter_map(|url| reqwest::Url::parse(url).ok());
    let ports: BTreeSet<u16> = urls.filter_map(|url| url.port_or_known_default()).collect();
    ports.into_iter().collect()
}

/// Metrics pages of the endpoint's servers and of roles that have their own.
fn metrics_pages(placement: &Placement<'_>, target: &Target) -> Vec<MetricsPage> {
    let setup = placement.setup;
    let launcher = setup.plan.launcher();
    let path = launcher.endpoint.metrics.as_ref().filter(|_| setup.deployment.metrics_urls.is_empty());
    let of_endpoint = path.and_then(|path| target.urls(path).ok()).into_iter().flatten().map(String::from);
    let of_endpoint = of_endpoint.chain(setup.deployment.metrics_urls.iter().cloned());
    let mut serving = render::serving(setup.plan, setup.deployment).into_iter();
    let of_endpoint = of_endpoint.map(|url| match serving.next() {
        Some(process) => of_process(url, process),
        None => MetricsPage { process: host_and_port(&url), url, pool: None },
    });
    let own = setup.deployment.processes.iter().filter_map(|process| {
        let page = launcher.role(&process.role)?.metrics.as_ref()?;
        placement.placed().has_page(process, page).ok().filter(|has| *has)?;
        let address = placement.addresses.processes.get(&process.name)?;
        let url = format!("http://{}:{}{}", address.host, address.ports.get(&page.port)?, page.path);
        Some(of_process(url, process))
    });
    of_endpoint.chain(own).collect()
}

fn of_process(url: String, process: &Process) -> MetricsPage {
    let pool = process.pool.filter(|pool| *pool != PoolName::Aggregated).map(PoolName::as_str);
    MetricsPage { url, process: process.name.clone(), pool }
}

fn host_and_port(url: &str) -> String {
    let parsed = reqwest::Url::parse(url).ok();
    let name = parsed.as_ref().and_then(|url| {
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Some(format!("{}{port}", url.host_str()?))
    });
    name.unwrap_or_else(|| url.to_owned())
}
