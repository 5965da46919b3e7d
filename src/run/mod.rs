//! Runs one plan from start to end: starts each deployment, drives its load points, stops everything, writes the report.
//!
//! Allocations and local runs take the same path; only the [`Place`] differs.

mod calibration;
mod deployments;
mod kept;
pub mod point;
mod points;
pub mod preflight;
mod records;
mod refusals;
mod repeats;
pub mod rescue;
#[cfg(test)]
mod resume_tests;
mod search;
mod server_pages;
pub mod signals;
mod space;
mod supervisor;
#[cfg(test)]
mod testing;

use std::sync::Arc;

use tokio::sync::watch;

use crate::deploy::{DeployError, Place, container};
use crate::experiment::{EventLog, Experiment};
use crate::load::LiveCounters;
use crate::plan::{Deployment, LoadPoint, Plan};
use crate::prompts::TokenizerCache;
use crate::report::{self, Measured, Pictures, PointResult};
use deployments::Deployments;
use point::PointError;
use rescue::Unwritten;
pub use signals::Signals;
use supervisor::Supervisor;

#[derive(Debug, Clone)]
pub struct LivePoint {
    pub point: String,
    /// Number within the whole plan, from 1, and how many there are.
    pub number: (usize, usize),
    pub load: LoadPoint,
    pub progress: LiveCounters,
}

pub struct Session {
    pub plan: Plan,
    pub place: Place,
    pub experiment: Experiment,
    /// Path of this binary.
    pub tokmark: String,
    pub events: Arc<EventLog>,
    live: watch::Sender<Option<LivePoint>>,
    tokenizers: TokenizerCache,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Deploy(#[from] DeployError),
    #[error(transparent)]
    Point(#[from] PointError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("interrupted; what was measured until then is kept")]
    Interrupted,
    /// The same, with what interrupted what, and the ends of the logs of servers that were starting.
    #[error("{cause}; what was measured until then is kept{logs}")]
    InterruptedWhile { cause: String, logs: String },
    /// The run went on after these, and is over.
    #[error("{}", listed(.0))]
    Incomplete(Vec<Failure>),
}

/// A deployment that was given up, or a load point that could not be driven.
#[derive(Debug)]
pub struct Failure {
    /// Its name.
    pub what: String,
    pub error: RunError,
}

fn listed(failures: &[Failure]) -> String {
    let lines = failures.iter().map(|Failure { what, error }| format!("\n{what}: {error}"));
    let count = failures.len();
    format!("{count} failures, after each of which the run went on{}", lines.collect::<String>())
}

#[derive(Debug)]
pub struct RunEnd {
    /// Every point with figures, in plan order.
    pub rows: Vec<PointResult>,
    pub failure: Option<RunError>,
}

impl Session {
    /// A run of `plan` in `place` with its results in `experiment`.
    pub fn new(
        plan: Plan,
        place: Place,
        experiment: Experiment,
        tokmark: String,
        events: Arc<EventLog>,
    ) -> Self {
        let (live, _) = watch::channel(None);
        Self { plan, place, experiment, tokmark, events, live, tokenizers: TokenizerCache::default() }
    }

    pub fn live(&self) -> watch::Receiver<Option<LivePoint>> {
        self.live.subscribe()
    }

    /// Runs the plan until it is done, fails, or a signal arrives. A failure comes with everything measured before it.
    pub async fn run(&self, signals: Signals) -> RunEnd {
        let supervisor = Supervisor::new(self.place.job().is_some(), Arc::clone(&self.events));
        let forwarding = supervisor.forward(signals);
        let mut deployments = Deployments::new(self, supervisor);
        let end = deployments.run().await.err();
        let Deployments { mut supervisor, mut rows, mut failures, prepared, .. } = deployments;
        if let Some(RunError::Point(PointError::Unwritten(unwritten))) = &end {
            rows.extend(self.unwritten(unwritten));
        }
        if prepared && !supervisor.hurry.is_cancelled() {
            let logs = self.experiment.server_logs();
            supervisor.stopping(container::remove(&self.plan, &self.place, &logs)).await;
        }
        let failure = match end {
            Some(end) => Some(supervisor.conclude(end).await),
            None if failures.len() > 1 => Some(RunError::Incomplete(failures)),
            None => failures.pop().map(|failure| failure.error),
        };
        forwarding.abort();
        let reported = self.report(&rows, Pictures::All).err();
        let rows = report::repeats::in_plan_order(&self.plan, &rows);
        RunEnd { rows, failure: failure.or(reported.map(RunError::from)) }
    }

    /// The row of a load point whose files could not be written.
    fn unwritten(&self, unwritten: &Unwritten) -> Option<PointResult> {
        let is_it = |(deployment, point): &(&Deployment, &LoadPoint)| {
            let folder = self.plan.point_folder(deployment, point);
            self.experiment.point_dir(folder.as_deref()) == unwritten.dir
        };
        let (deployment, point) = self.plan.points().find(is_it)?;
        Some(PointResult::of(&self.plan, deployment, point, *unwritten.summary.clone()?))
    }

    /// Rewrites the reports at the top of the directory after every point, so that a crash loses nothing.
    fn report(&self, rows: &[PointResult], pictures: Pictures) -> std::io::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let rows = report::repeats::in_plan_order(&self.plan, rows);
        let measured = Measured { experiment: self.experiment.clone(), plan: self.plan.clone(), rows };
        report::write(self.experiment.dir(), &[measured], pictures, false)
    }
}
