//! Runs the deployments of a plan, one after the other: starts the servers, has the load points measured, stops the servers.

use std::collections::BTreeSet;
use std::time::Instant;

use super::supervisor::{Activity, Next, Supervisor};
use super::{Failure, RunError, Session, kept, preflight, repeats, search};
use crate::deploy::container::{self, JobImage};
use crate::deploy::placement::{self, Placement};
use crate::deploy::{Deployed, Folders, Setup, sampler};
use crate::experiment::Event;
use crate::observe::gpus::GpuTelemetry;
use crate::plan::{Deployment, LoadPoint};
use crate::report::{self, Pictures, PointResult};

pub(super) struct Deployments<'a> {
    pub(super) session: &'a Session,
    pub(super) supervisor: Supervisor,
    pub(super) rows: Vec<PointResult>,
    /// What failed while the run went on.
    pub(super) failures: Vec<Failure>,
    /// Whether the last row is of a point that was cut short.
    pub(super) is_cut: bool,
    image: Option<JobImage>,
    /// Whether its preparation began, and may have left something on the nodes.
    pub(super) prepared: bool,
    /// The samplers of the GPUs of the deployment that runs.
    pub(super) gpus: Option<GpuTelemetry>,
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
    pub(super) fn kept(&self, deployment: &Deployment, point: &LoadPoint) -> Option<PointResult> {
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
            Some(search) => search::finished(search, deployment, kept),
            None => repeats::finished(deployment, kept),
        }
    }

    pub(super) fn keep(&mut self, row: PointResult) {
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

    pub(super) fn has_row(&self, name: &str) -> bool {
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
}
