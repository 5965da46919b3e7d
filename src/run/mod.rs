//! One plan from start to end: each deployment brought up, its load points driven, everything stopped, the report made.
//!
//! The same path inside an allocation and on this machine; only the [`Place`] differs.

mod calibration;
mod exports;
pub mod point;
mod preflight;
mod records;
mod refusals;
#[cfg(test)]
mod resume_tests;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::deploy::container::{self, JobImage};
use crate::deploy::{DeployError, Deployed, Folders, Place, Surroundings, step};
use crate::experiment::{Event, EventLog, Experiment, files};
use crate::launcher::{LogView, PoolName};
use crate::load::LiveCounters;
use crate::metrics::summary::{Context, Summary};
use crate::observe::Observers;
use crate::plan::{Deployment, LoadPoint, Plan};
use crate::prompts::{TokenizerCache, fnv1a};
use crate::report::{self, Row, Subject};
use point::{Measure, PointError};

/// What is being measured right now, for a display.
#[derive(Debug, Clone)]
pub struct LivePoint {
    /// Its folder or id.
    pub point: String,
    /// The point.
    pub load: LoadPoint,
    /// Live counters.
    pub progress: LiveCounters,
}

/// A run.
pub struct Session {
    /// What to do.
    pub plan: Plan,
    /// Where.
    pub place: Place,
    /// Where the results go.
    pub experiment: Experiment,
    /// Path of this binary.
    pub tokmark: String,
    /// Everything that happens.
    pub events: Arc<EventLog>,
    /// Cancelled to wrap up.
    pub stop: CancellationToken,
    /// Cancelled to kill the servers instead of waiting for them.
    pub hurry: CancellationToken,
    /// What is being measured right now.
    pub current: watch::Sender<Option<LivePoint>>,
    /// Tokenizers that were loaded.
    pub tokenizers: TokenizerCache,
}

/// Why a run ended before its plan did.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The servers.
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// The load.
    #[error(transparent)]
    Point(#[from] PointError),
    /// Files.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A signal.
    #[error("interrupted; what was measured until then is kept")]
    Interrupted,
}

/// What a run came to.
#[derive(Debug)]
pub struct RunEnd {
    /// Every point with figures, in plan order.
    pub rows: Vec<Row>,
    /// Why it ended early.
    pub failure: Option<RunError>,
}

impl Session {
    /// Runs the plan. Failures end up in the outcome together with everything measured before.
    pub async fn run(&self) -> RunEnd {
        let mut rows = Vec::new();
        let mut image = None;
        let mut failure = self.deployments(&mut image, &mut rows).await.err();
        if let Some(prepared) = image.filter(|_| !self.hurry.is_cancelled()) {
            container::remove(&self.plan, &self.place, &prepared, &self.experiment.server_logs()).await;
        }
        if matches!(failure, Some(RunError::Deploy(_))) && self.is_being_ended().await {
            failure = Some(RunError::Interrupted);
        }
        if let Err(error) = self.report(&rows) {
            return RunEnd { rows, failure: failure.or(Some(error.into())) };
        }
        RunEnd { rows, failure }
    }

    /// Whether servers died because the whole job ends: Slurm signals the steps, and the job's own script a moment later.
    async fn is_being_ended(&self) -> bool {
        let patience = if self.place.job().is_some() { Duration::from_secs(1) } else { Duration::ZERO };
        tokio::time::timeout(patience, self.stop.cancelled()).await.is_ok()
    }

    /// `image` is the container image once it is ready.
    async fn deployments(&self, image: &mut Option<JobImage>, rows: &mut Vec<Row>) -> Result<(), RunError> {
        let of = self.plan.deployments.len();
        for (index, deployment) in self.plan.deployments.iter().enumerate() {
            if self.stop.is_cancelled() {
                return Err(RunError::Interrupted);
            }
            if let Some(kept) = self.kept(deployment) {
                rows.extend(kept);
                continue;
            }
            if image.is_none() {
                preflight::weights(self).await?;
            }
            self.events.emit(Event::Deploying { deployment: deployment.id.clone(), number: index + 1, of });
            let container = match &*image {
                Some(prepared) => prepared.clone(),
                None => image.insert(self.prepare().await?).clone(),
            };
            self.deployment(deployment, container, rows).await?;
        }
        Ok(())
    }

    /// Rows of a deployment all of whose points an earlier attempt finished.
    fn kept(&self, deployment: &Deployment) -> Option<Vec<Row>> {
        let rows = deployment.points.iter().map(|point| {
            let folder = self.plan.point_folder(deployment, point);
            let summary = report::summary_in(&self.experiment.point_dir(folder.as_deref()))?;
            Some(Row::of(&self.plan, deployment, point, summary))
        });
        let rows: Vec<Row> = rows.collect::<Option<_>>()?;
        for row in &rows {
            self.events.emit(Event::PointKept { point: row.point.clone() });
        }
        Some(rows)
    }

    /// Makes the container image ready, once for all deployments.
    async fn prepare(&self) -> Result<JobImage, DeployError> {
        let (logs, events) = (self.experiment.server_logs(), &self.events);
        container::prepare(&self.plan, &self.place, &logs, &|event| events.emit(event), &self.stop).await
    }

    async fn deployment(
        &self,
        deployment: &Deployment,
        container: JobImage,
        rows: &mut Vec<Row>,
    ) -> Result<(), RunError> {
        let around = self.surroundings(deployment, container)?;
        let mut deployed = Deployed::start(&self.plan, deployment, &around).await?;
        let measured = self.points(deployment, &mut deployed, rows).await;
        self.events.emit(Event::Stopping { deployment: deployment.id.clone() });
        let began = Instant::now();
        let killed = deployed.stop(&around).await;
        self.collect_logs(deployment, &around.folders)?;
        self.events.emit(Event::Stopped {
            deployment: deployment.id.clone(),
            seconds: began.elapsed().as_secs_f64(),
            killed,
        });
        measured
    }

    fn surroundings(
        &self,
        deployment: &Deployment,
        container: JobImage,
    ) -> Result<Surroundings<'_>, RunError> {
        let prefix = if deployment.id.is_empty() { String::new() } else { format!("{}.", deployment.id) };
        let run = self.experiment.path("run").join(if deployment.id.is_empty() {
            "deployment"
        } else {
            &deployment.id
        });
        fs_err::create_dir_all(&run)?;
        let events = Arc::clone(&self.events);
        let folders = Folders {
            run,
            logs: self.experiment.server_logs(),
            commands: self.experiment.path("commands.sh"),
            prefix,
        };
        self.link_logs(deployment, &folders)?;
        Ok(Surroundings {
            place: &self.place,
            folders,
            container,
            tokmark: self.tokmark.clone(),
            emit: Arc::new(move |event| events.emit(event)),
            stop: self.stop.clone(),
            hurry: self.hurry.clone(),
        })
    }

    async fn points(
        &self,
        deployment: &Deployment,
        deployed: &mut Deployed,
        rows: &mut Vec<Row>,
    ) -> Result<(), RunError> {
        let of = self.plan.points().count();
        for point in &deployment.points {
            if self.stop.is_cancelled() {
                return Err(RunError::Interrupted);
            }
            let folder = self.plan.point_folder(deployment, point);
            let dir = self.experiment.point_dir(folder.as_deref());
            let name = self.plan.point_name(deployment, point);
            if let Some(summary) = report::summary_in(&dir) {
                self.events.emit(Event::PointKept { point: name });
                rows.push(Row::of(&self.plan, deployment, point, summary));
                continue;
            }
            point::set_aside(&dir, folder.is_some())?;
            self.events.emit(Event::PointStarted { point: name.clone(), number: rows.len() + 1, of });
            let summary = self.point(deployment, deployed, point, &dir, &name).await;
            let (summary, cut) = summary?;
            let (completed, total) = (summary.requests.completed, summary.requests.total);
            self.events.emit(if cut.is_some() {
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
            rows.push(Row::of(&self.plan, deployment, point, summary));
            self.report(rows)?;
            if let Some(error) = cut {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Drives one point while watching the servers. Gives the summary and, when it was cut short, by what.
    async fn point(
        &self,
        deployment: &Deployment,
        deployed: &mut Deployed,
        point: &LoadPoint,
        dir: &Path,
        name: &str,
    ) -> Result<(Summary, Option<RunError>), RunError> {
        let simulated = self.plan.simulated || deployed.simulated;
        let measure = Measure {
            target: deployed.target.clone(),
            point: point.clone(),
            dir: Some(dir.to_path_buf()),
            context: Context {
                simulated,
                gpus: (deployment.gpus > 0).then_some(deployment.gpus),
                engine_version: deployed.engine_version.clone(),
            },
            benchmark_id: self.experiment.name(),
            salt: if deployed.is_own() { 0 } else { drawn_salt() },
            tokenizers: self.tokenizers.clone(),
            metrics_urls: deployed.metrics_urls.clone(),
            deployment: Some(deployment_config(&self.plan, deployment, point)),
        };
        let progress = LiveCounters::default();
        let current = LivePoint { point: name.to_owned(), load: point.clone(), progress: progress.clone() };
        self.current.send_replace(Some(current));
        let observers = Observers::start(
            &self.experiment.path("telemetry"),
            name,
            &deployed.metrics_urls,
            progress.clone(),
        )?;
        let cancel = self.stop.child_token();
        let (cut, cut_now) = watch::channel(None::<String>);
        let task = {
            let cancel = cancel.clone();
            tokio::task::spawn_blocking(move || {
                measure.run(&progress, &cancel, &|lost| cut_reason(cut_now.clone(), &cancel, lost))
            })
        };
        tokio::pin!(task);
        let mut death = None;
        let joined = tokio::select! {
            joined = &mut task => joined,
            error = deployed.died() => {
                cut.send_replace(Some("a server died during the measurement".into()));
                cancel.cancel();
                death = Some(RunError::Deploy(error));
                task.await
            }
        };
        self.current.send_replace(None);
        observers.finish().await;
        let measured = joined.map_err(|error| std::io::Error::other(error.to_string()))??;
        if measured.unreachable && death.is_none() {
            death = Some(RunError::Deploy(deployed.gone().await));
        }
        let interrupted = self.stop.is_cancelled().then_some(RunError::Interrupted);
        Ok((measured.summary, death.or(interrupted)))
    }

    /// Reports at the top of the directory, made anew after every point so that a crash loses nothing.
    fn report(&self, rows: &[Row]) -> std::io::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        report::write(self.experiment.dir(), &Subject::of(&self.plan), rows)
    }

    /// `output_server.log` and `output_workers.log` point to the log they would repeat, while there is just one.
    fn link_logs(&self, deployment: &Deployment, folders: &Folders) -> Result<(), RunError> {
        for (view, name) in VIEWS {
            let processes = self.shown_in(deployment, view);
            let link = folders.logs.join(format!("{}{name}", folders.prefix));
            if let ([only], false) = (processes.as_slice(), link.is_symlink()) {
                let _taken = std::os::unix::fs::symlink(format!("{}{only}", folders.prefix), &link);
            }
        }
        Ok(())
    }

    /// With several processes in a view, it is put together when they have ended.
    fn collect_logs(&self, deployment: &Deployment, folders: &Folders) -> Result<(), RunError> {
        use std::io::Write;
        for (view, name) in VIEWS {
            let processes = self.shown_in(deployment, view);
            if processes.len() < 2 {
                continue;
            }
            let mut out = files::append(&folders.logs.join(format!("{}{name}", folders.prefix)))?;
            for process in processes {
                let log = folders.logs.join(format!("{}{process}", folders.prefix));
                writeln!(out, "==> {} <==", process.trim_end_matches(".log"))?;
                if let Ok(mut source) = std::fs::File::open(log) {
                    std::io::copy(&mut source, &mut out)?;
                }
            }
        }
        Ok(())
    }

    /// Names of the logs a view shows.
    fn shown_in(&self, deployment: &Deployment, view: LogView) -> Vec<String> {
        let shows = |role: &str| self.plan.launcher.role(role).is_some_and(|role| role.logs.contains(&view));
        let shown = deployment.processes.iter().filter(|process| shows(&process.role));
        let in_steps = self.place.job().is_some();
        shown.flat_map(|process| step::log_names(process, in_steps)).collect()
    }
}

/// A salt for prompts to servers that may have been asked before: no run begins its prompts as another did.
pub fn drawn_salt() -> u64 {
    let now = jiff::Timestamp::now().as_nanosecond().to_le_bytes();
    let whole = fnv1a(&[now.as_slice(), &std::process::id().to_le_bytes()].concat());
    // 32 bits survive every JSON reader, and can be typed.
    (whole ^ (whole >> 32)) & u64::from(u32::MAX)
}

/// What cut a point short. When requests lost their connection, the servers may have died, or Slurm may be ending the
/// whole job, a moment before this process gets to know.
fn cut_reason(
    mut cut: watch::Receiver<Option<String>>,
    stop: &CancellationToken,
    lost: bool,
) -> Option<String> {
    if lost {
        tokio::runtime::Handle::current().block_on(async {
            tokio::select! {
                _known = cut.wait_for(Option::is_some) => {}
                () = stop.cancelled() => {}
                () = tokio::time::sleep(Duration::from_secs(3)) => {}
            }
        });
    }
    cut.borrow().clone()
}

const VIEWS: [(LogView, &str); 2] =
    [(LogView::Server, "output_server.log"), (LogView::Workers, "output_workers.log")];

/// `deployment_config.json` in the form of Dynamo's `benchmarks/llm/perf.sh`, which its plotting tools read.
fn deployment_config(plan: &Plan, deployment: &Deployment, point: &LoadPoint) -> Value {
    let parallel = deployment.parallel;
    let of = |name: PoolName| deployment.pool(name).map(|pool| pool.parallel);
    let tp = |name| of(name).map_or(0, |sizes| sizes.tp);
    let dp = |name| of(name).map_or(0, |sizes| sizes.dp * sizes.replicas);
    let apart = deployment.is_disaggregated();
    json!({
        "kind": plan.launcher.name,
        "model": plan.model.name,
        "input_sequence_length": point.isl.mean,
        "output_sequence_length": point.osl.mean,
        "tensor_parallelism": if apart { 0 } else { parallel.tp },
        "data_parallelism": if apart { 0 } else { parallel.dp * parallel.replicas },
        "prefill_tensor_parallelism": tp(PoolName::Prefill),
        "prefill_data_parallelism": dp(PoolName::Prefill),
        "decode_tensor_parallelism": tp(PoolName::Decode),
        "decode_data_parallelism": dp(PoolName::Decode),
        "mode": if apart { "disaggregated" } else { "aggregated" },
        "pipeline_parallelism": parallel.pp,
        "expert_parallelism": parallel.ep,
        "attention_dp": parallel.attention_dp,
        "gpus": deployment.gpus,
        "gpu_type": plan.gpu.kind,
        "simulated": plan.simulated,
        "concurrency": point.concurrency(),
        "request_rate": point.request_rate(),
        "streaming": point.streaming,
        "engine": deployment.engine,
        "pools": deployment.pools,
    })
}
