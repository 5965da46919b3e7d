//! Runs the deployments of a plan and their load points, one after the other.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::point::{self, Cut, Measure, PointError, Seen};
use super::supervisor::{Activity, Next, Supervisor};
use super::{Failure, LivePoint, RunError, Session, kept, preflight, repeats};
use crate::analyze::search::Step;
use crate::deploy::container::{self, JobImage};
use crate::deploy::deployment_config::deployment_config;
use crate::deploy::placement::{self, Placement};
use crate::deploy::{Deployed, Folders, Setup, sampler};
use crate::experiment::Event;
use crate::load::LiveCounters;
use crate::metrics::summary::{Context, Summary};
use crate::observe::gpus::GpuTelemetry;
use crate::observe::{Observed, Observers};
use crate::plan::search::Search;
use crate::plan::{Deployment, LoadPoint};
use crate::prompts::drawn_salt;
use crate::report::{self, Pictures, PointResult};

pub(super) struct Deployments<'a> {
    session: &'a Session,
    pub(super) supervisor: Supervisor,
    pub(super) rows: Vec<PointResult>,
    /// What failed while the run went on.
    pub(super) failures: Vec<Failure>,
    /// Whether the last row is of a point that was cut short.
    is_cut: bool,
    image: Option<JobImage>,
    /// Whether its preparation began, and may have left something on the nodes.
    pub(super) prepared: bool,
    /// The samplers of the GPUs of the deployment that runs.
    gpus: Option<GpuTelemetry>,
}

impl<'a> Deployments<'a> {
    pub(super) fn new(session: &'a Session, supervisor: Supervisor) -> Self {
        Self {
            session,
            supervisor,
            rows: Vec::new(),
            failures: Vec::new(),
            is_cut: false,
            image: None,
            prepared: false,
            gpus: None,
        }
    }

    pub(super) async fn run(&mut self) -> Result<(), RunError> {
        let session = self.session;
        let of = session.plan.deployments.len();
        for (deployment, number) in session.plan.deployments.iter().zip(1..) {
            if self.supervisor.is_interrupted() {
                return Err(RunError::Interrupted);
            }
            if let Some(kept) = self.all_kept(deployment) {
                kept.into_iter().for_each(|row| self.keep(row));
                continue;
            }
            if self.image.is_none() {
                self.supervisor.during(Activity::Preparing, preflight::weights(session)).await?;
            }
            // An endpoint that runs elsewhere needs no start.
            if !deployment.processes.is_empty() {
                session.events.emit(Event::Deploying { deployment: deployment.id.clone(), number, of });
            }
            let image = match &self.image {
                Some(image) => image.clone(),
                None => {
                    let logs = session.experiment.server_logs();
                    self.prepared = true;
                    let preparing = container::prepare(&session.plan, &session.place, &logs, &session.events);
                    let image = self.supervisor.during(Activity::Preparing, preparing).await?;
                    self.image.insert(image).clone()
                }
            };
            self.deployment(deployment, image).await?;
        }
        Ok(())
    }

    /// The row of a point that an earlier attempt has finished.
    fn kept(&self, deployment: &Deployment, point: &LoadPoint) -> Option<PointResult> {
        let Session { plan, experiment, .. } = self.session;
        let folder = plan.point_folder(deployment, point);
        let summary = report::summary_in(&experiment.point_dir(folder.as_deref()))?;
        if kept::is_due_again(&summary) {
            return None;
        }
        Some(PointResult::of(plan, deployment, point, summary))
    }

    /// The rows of a deployment that an earlier attempt has finished; `None` if a point is left to measure.
    fn all_kept(&self, deployment: &Deployment) -> Option<Vec<PointResult>> {
        let kept = |point: &LoadPoint| self.kept(deployment, point);
        match &self.session.plan.search {
            Some(search) => report::search::finished(search, deployment, kept),
            None => repeats::finished(deployment, kept),
        }
    }

    fn keep(&mut self, row: PointResult) {
        self.session.events.emit(Event::PointKept { point: row.point.clone() });
        self.rows.push(row);
    }

    /// Measures on one deployment, whose servers start once more if they failed and that may help. Then it is given up, and the run
    /// goes on.
    async fn deployment(&mut self, deployment: &Deployment, image: JobImage) -> Result<(), RunError> {
        let Session { plan, place, experiment, tokmark, events, .. } = self.session;
        let folders = Folders::of(deployment, experiment.dir(), experiment.server_logs());
        fs_err::create_dir_all(&folders.run)?;
        let setup = Setup { plan, deployment, place, folders, image, tokmark, events };
        setup.link_logs();
        self.supervisor.new_deployment();
        let ended = loop {
            let Err(error) = self.attempt(&setup).await else { break Ok(()) };
            let error = self.supervisor.conclude(error).await;
            match self.supervisor.next(&error) {
                Next::End => break Err(error),
                Next::Restart => {
                    let (deployment, reason) = (deployment.id.clone(), error.to_string());
                    events.emit(Event::Restarting { deployment, reason });
                    // What was cut short is measured again.
                    self.rows.truncate(
                        self.rows.len().saturating_sub(usize::from(std::mem::take(&mut self.is_cut))),
                    );
                }
                Next::GiveUp => {
                    self.give_up(deployment, error)?;
                    break Ok(());
                }
            }
        };
        setup.collect_logs()?;
        ended
    }

    /// Starts the servers of a deployment, measures, and stops them.
    async fn attempt(&mut self, setup: &Setup<'_>) -> Result<(), RunError> {
        let (deployment, events) = (setup.deployment, setup.events);
        let deployed = match self.start(setup).await {
            Ok(deployed) => deployed,
            Err(error) => {
                self.end_gpus().await;
                return Err(error);
            }
        };
        if let Some(gpus) = &self.gpus {
            gpus.servers_ready().await;
        }
        let measured = self.points(deployment, &deployed).await;
        events.emit(Event::Stopping { deployment: deployment.id.clone() });
        let began = Instant::now();
        let killed = self.stop(deployed).await;
        self.end_gpus().await;
        let seconds = began.elapsed().as_secs_f64();
        events.emit(Event::Stopped { deployment: deployment.id.clone(), seconds, killed });
        measured
    }

    /// Records that a deployment failed for good.
    fn give_up(&mut self, deployment: &Deployment, error: RunError) -> std::io::Result<()> {
        let cut = self.rows.last().filter(|_| self.is_cut).map(|row| row.point.clone());
        let is_measured = |name: &String| self.has_row(name) && Some(name) != cut.as_ref();
        let names = deployment.points.iter().map(|point| self.session.plan.point_name(deployment, point));
        let points = names.filter(|name| !is_measured(name)).collect();
        let (id, reason) = (deployment.id.clone(), error.to_string());
        self.session.events.emit(Event::GivenUp { deployment: id.clone(), reason, points });
        let what = if id.is_empty() { self.session.plan.name.clone() } else { id };
        self.failures.push(Failure { what, error });
        self.is_cut = false;
        self.session.report(&self.rows, Pictures::SvgAlone)
    }

    fn has_row(&self, name: &str) -> bool {
        self.rows.iter().any(|row| row.point == name)
    }

    /// Starts the servers of a deployment. If another process takes a chosen port in the meantime, chooses new ports once.
    async fn start<'s>(&mut self, setup: &'s Setup<'s>) -> Result<Deployed<'s>, RunError> {
        let began = Instant::now();
        let mut avoid = BTreeSet::new();
        loop {
            let placing = placement::decide(setup, &avoid);
            let placement = self.supervisor.during(Activity::Preparing, placing).await?;
            self.start_gpus(&placement).await?;
            let report = self.supervisor.new_attempt(!setup.deployment.processes.is_empty());
            let mut deployed = Deployed::new(placement, began, report)?;
            let Err(error) = self.supervisor.during(Activity::Preparing, deployed.start()).await else {
                return Ok(deployed);
            };
            let chosen = deployed.chosen_ports();
            self.stop(deployed).await;
            match error {
                RunError::Deploy(error) if error.wants_new_ports() && avoid.is_empty() => {
                    self.session.events.emit(Event::PortsTaken { problem: error.to_string() });
                    avoid = chosen;
                }
                error => return Err(error),
            }
        }
    }

    /// Starts to sample the GPUs of the deployment, unless an earlier attempt has, and says what came of it.
    async fn start_gpus(&mut self, placement: &Placement<'_>) -> Result<(), RunError> {
        let commands = if self.gpus.is_none() { sampler::commands(placement) } else { Vec::new() };
        if commands.is_empty() {
            return Ok(());
        }
        let Session { plan, experiment, events, .. } = self.session;
        let gpus = GpuTelemetry::start(&experiment.path("telemetry"), plan.telemetry.interval_s, commands)?;
        let first = async {
            gpus.first().await;
            Ok::<(), RunError>(())
        };
        self.supervisor.during(Activity::Preparing, first).await?;
        match gpus.sources() {
            Some(Ok(sources)) => events.emit(Event::GpusSampled { sources }),
            Some(Err(reason)) => events.emit(Event::GpusNotSampled { reason }),
            None => {}
        }
        gpus.servers_start();
        self.gpus = Some(gpus);
        Ok(())
    }

    async fn end_gpus(&mut self) {
        if let Some(gpus) = self.gpus.take() {
            gpus.finish().await;
        }
    }

    /// Stops servers; returns the names of killed processes.
    async fn stop(&mut self, deployed: Deployed<'_>) -> Vec<String> {
        let hurry = self.supervisor.hurry.clone();
        self.supervisor.stopping(deployed.stop(&hurry)).await.unwrap_or_default()
    }

    /// Measures the load points that have no figures yet.
    async fn points(&mut self, deployment: &Deployment, deployed: &Deployed<'_>) -> Result<(), RunError> {
        let plan = &self.session.plan;
        let in_order = plan
            .deployments
            .iter()
            .flat_map(|of| of.in_order().into_iter().map(move |point| plan.point_name(of, point)));
        let names: Vec<String> = in_order.collect();
        for point in deployment.in_order() {
            if let Some(search) = &plan.search {
                self.search(search, deployment, deployed, point).await?;
                continue;
            }
            let name = plan.point_name(deployment, point);
            let number = names.iter().position(|known| *known == name).map_or(1, |at| at + 1);
            self.one(deployment, deployed, point, (number, names.len())).await?;
        }
        Ok(())
    }

    /// Measures one load after the other until the search from a point of the plan ends.
    async fn search(
        &mut self,
        search: &Search,
        deployment: &Deployment,
        deployed: &Deployed<'_>,
        template: &LoadPoint,
    ) -> Result<(), RunError> {
        let plan = &self.session.plan;
        loop {
            let row = |point: &LoadPoint| {
                let name = plan.point_name(deployment, point);
                self.rows.iter().find(|row| row.point == name).map(|row| row.summary.clone())
            };
            let progress = report::search::replay(search, deployment, template, row, |_, _| {});
            let Step::Measure { load, number } = progress.next else { return Ok(()) };
            let point = search.point(template, load, number);
            let place = (progress.seen.len() + 1, search.points as usize);
            self.one(deployment, deployed, &point, place).await?;
            if !self.has_row(&plan.point_name(deployment, &point)) {
                // It cannot be driven, which is recorded.
                return Ok(());
            }
        }
    }

    /// Measures a load point unless it has figures or is not needed. One that cannot be driven is recorded.
    async fn one(
        &mut self,
        deployment: &Deployment,
        deployed: &Deployed<'_>,
        point: &LoadPoint,
        number: (usize, usize),
    ) -> Result<(), RunError> {
        if self.supervisor.is_interrupted() {
            return Err(RunError::Interrupted);
        }
        let name = self.session.plan.point_name(deployment, point);
        if self.has_row(&name) {
            return Ok(());
        }
        if let Some(kept) = self.kept(deployment, point) {
            self.keep(kept);
            return Ok(());
        }
        if let Some(reason) = repeats::enough(&self.rows, deployment, point) {
            self.session.events.emit(Event::PointSkipped { point: name, reason });
            return Ok(());
        }
        match self.measured(deployment, deployed, point, number).await {
            Err(RunError::Point(error @ (PointError::Input(_) | PointError::Load(_))))
                if !self.supervisor.is_over() =>
            {
                let reason = error.to_string();
                self.session.events.emit(Event::PointFailed { point: name.clone(), reason });
                self.failures.push(Failure { what: name, error: error.into() });
            }
            measured => measured?,
        }
        if self.supervisor.is_interrupted() { Err(RunError::Interrupted) } else { Ok(()) }
    }

    /// Measures one load point, and reports it.
    async fn measured(
        &mut self,
        deployment: &Deployment,
        deployed: &Deployed<'_>,
        point: &LoadPoint,
        number: (usize, usize),
    ) -> Result<(), RunError> {
        let Session { plan, experiment, events, .. } = self.session;
        let folder = plan.point_folder(deployment, point);
        let dir = experiment.point_dir(folder.as_deref());
        let name = plan.point_name(deployment, point);
        point::set_aside(&dir, folder.is_some())?;
        events.emit(Event::PointStarted { point: name.clone(), number: number.0, of: number.1 });
        let measure = self.measure(deployment, deployed, point, &dir);
        let progress = LiveCounters::default();
        deployed.under_load(Some(progress.clone()));
        let driven = self.point(&name, number, measure, (progress, deployed)).await;
        deployed.under_load(None);
        let (summary, cut) = driven?;
        let (completed, total) = (summary.requests.completed, summary.requests.total);
        events.emit(if cut.is_some() {
            Event::PointCut { point: name, completed, total }
        } else {
            Event::PointFinished {
                point: name,
                verdict: summary.verdict.result.to_string(),
                completed,
                total,
                output_tokens_per_s: summary.throughput.output_tokens_per_s,
            }
        });
        self.rows.push(PointResult::of(plan, deployment, point, summary));
        self.is_cut = cut.is_some();
        self.session.report(&self.rows, Pictures::SvgAlone)?;
        match cut {
            Some(cut) => Err(self.supervisor.failure_after(cut, || deployed.gone())),
            None => Ok(()),
        }
    }

    fn measure(
        &self,
        deployment: &Deployment,
        deployed: &Deployed<'_>,
        point: &LoadPoint,
        dir: &Path,
    ) -> Measure {
        let Session { plan, experiment, tokenizers, .. } = self.session;
        Measure {
            target: deployed.target.clone(),
            point: point.clone(),
            dir: experiment.is_kept().then(|| dir.to_path_buf()),
            context: Context {
                simulated: deployed.simulated,
                gpus: (deployment.gpus > 0).then_some(deployment.gpus),
                engine_version: deployed.engine_version.clone(),
                speculation: deployment.speculation.clone(),
            },
            benchmark_id: experiment.name(),
            salt: if deployed.is_own() { 0 } else { drawn_salt() },
            tokenizers: tokenizers.clone(),
            search: plan.search.clone(),
            metrics_pages: deployed.metrics_pages.clone(),
            deployment: Some(deployment_config(plan, deployment, point)),
        }
    }

    async fn point(
        &mut self,
        name: &str,
        number: (usize, usize),
        measure: Measure,
        (progress, deployed): (LiveCounters, &Deployed<'_>),
    ) -> Result<(Summary, Option<Cut>), RunError> {
        let (point, load) = (name.to_owned(), measure.point.clone());
        let live = LivePoint { point, number, load, progress: progress.clone() };
        let telemetry = self.session.experiment.path("telemetry");
        let interval = Duration::from_secs_f64(self.session.plan.telemetry.interval_s);
        let observed = Observed { target: &measure.target, pages: &measure.metrics_pages, interval };
        let observers = Observers::start(&telemetry, name, observed, progress.clone())?;
        self.session.live.send_replace(Some(live));
        let stop = self.supervisor.new_load();
        let (events, at) = (Arc::clone(&self.session.events), name.to_owned());
        let driving = on_a_thread(move || {
            let mut number = 0;
            measure.drive(&progress, &stop, &mut |failure| {
                number += 1;
                events.emit(Event::RequestFailed { point: at.clone(), number, what: failure.to_string() });
            })
        });
        let driven = self.supervisor.during(Activity::Measuring, driving).await;
        self.session.live.send_replace(None);
        let servers = observers.finish().await;
        let driven = driven?;
        let cut = self.supervisor.cut(driven.end()).await;
        let death = self.supervisor.death();
        let processes = deployed.processes(driven.window_us()).await;
        let gpus = match &self.gpus {
            Some(gpus) => {
                let (began, ended) = driven.load_us();
                Some(gpus.watch(began, ended).await)
            }
            None => None,
        };
        let seen = Seen { servers, processes, gpus };
        let writing = on_a_thread(move || driven.finish(cut, death.as_deref(), seen));
        let summary = self.supervisor.during(Activity::Writing, writing).await?;
        Ok((summary, cut))
    }
}

/// Runs blocking work on its own thread, so that the watching task continues.
async fn on_a_thread<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, RunError>
where
    RunError: From<E>,
{
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| std::io::Error::other(error.to_string()))?.map_err(RunError::from)
}
