//! The load points of one deployment: which are measured, and how.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::deployments::Deployments;
use super::point::{self, Cut, Measure, PointError, Seen};
use super::supervisor::Activity;
use super::{Failure, LivePoint, RunError, Session, repeats};
use crate::deploy::Deployed;
use crate::deploy::deployment_config::deployment_config;
use crate::experiment::Event;
use crate::load::LiveCounters;
use crate::metrics::summary::{Context, Summary};
use crate::observe::{Observed, Observers};
use crate::plan::{Deployment, LoadPoint};
use crate::prompts::drawn_salt;
use crate::report::{Pictures, PointResult};

impl Deployments<'_> {
    /// Measures the load points that have no figures yet.
    pub(super) async fn points(
        &mut self,
        deployment: &Deployment,
        deployed: &Deployed<'_>,
    ) -> Result<(), RunError> {
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

    /// Measures a load point unless it has figures or is not needed. One that cannot be driven is recorded.
    pub(super) async fn one(
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
