//! Shared by `run` and `exec`: events to files and terminal, signals, the session, the exit code.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::json;

use super::allocation::variable;
use super::interruption::{Activity, Limit};
use crate::commands::planning;
use crate::commands::printer::Printer;
use crate::commands::progress::Display;
use crate::commands::results;
use crate::deploy::Place;
use crate::error;
use crate::experiment::event::Listener;
use crate::experiment::event_text::TextLogs;
use crate::experiment::manifest::hostname;
use crate::experiment::{Event, EventLog, Experiment};
use crate::history;
use crate::metrics::Summary;
use crate::plan::Plan;
use crate::report::{PointResult, closing, repeats, search, unmeasured};
use crate::run::{RunError, Session, Signals};

/// An ended run.
pub(crate) struct Conducted {
    plan: Plan,
    experiment: Experiment,
    rows: Vec<PointResult>,
    /// How it ended. The error, if any, carries the exit code.
    pub(crate) end: anyhow::Result<()>,
}

impl Conducted {
    /// Shows the results; with `--json` the summaries, a single one by itself unless `is_list`.
    pub(crate) fn show(self, printer: Printer, is_list: bool) -> anyhow::Result<()> {
        let means = if repeats::are_in(&self.rows) { repeats::means(&self.rows) } else { Vec::new() };
        let summaries: Vec<&Summary> = self.rows.iter().chain(&means).map(|row| &row.summary).collect();
        match search::json(&self.plan, &self.rows) {
            Some(found) => printer.json(&json!({"search": found, "points": summaries}))?,
            None => printer.json_list(&summaries, is_list)?,
        }
        if !self.experiment.is_kept() {
            let unmeasured = unmeasured::read(self.experiment.dir(), &self.plan, &self.rows);
            let table = closing::table(&self.rows, &unmeasured, printer.width());
            let found = results::found(Some(&self.plan), &self.rows);
            printer.prose(&format!("{table}{found}results: not kept (--no-out)\n"))?;
        } else if !self.rows.is_empty() {
            results::show(printer, Some(&self.plan), &self.rows, self.experiment.dir())?;
        }
        self.end.map_err(|failure| match failure.downcast_ref::<RunError>() {
            Some(_) => failure.context(format!("experiment {}", self.experiment.dir().display())),
            None => failure,
        })
    }
}

/// Runs a plan in a place.
pub(crate) fn conduct(
    printer: Printer,
    plan: Plan,
    place: Place,
    experiment: Experiment,
) -> anyhow::Result<Conducted> {
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let lost = history::at(experiment.dir()).and_then(|entry| history::cut_off::cause(&entry, None));
    let display = Display::new(printer);
    let (logs, shown) = (TextLogs::open(&experiment)?, display.clone());
    let activity = Arc::new(Mutex::new(Activity::default()));
    let seen = Arc::clone(&activity);
    let listener: Listener = Box::new(move |stamped| {
        seen.lock().unwrap_or_else(PoisonError::into_inner).see(&stamped.event);
        shown.event(&stamped.event);
        logs.write(stamped);
    });
    let events = Arc::new(EventLog::open(experiment.dir(), listener)?);
    let session = Session::new(plan, place, experiment, planning::this_binary()?, Arc::clone(&events));
    events.emit(started(&session.place));
    if let Some(cause) = lost {
        events.emit(Event::AttemptLost { cause });
    }
    let outcome = runtime.block_on(async {
        let shown = tokio::spawn(display.follow(session.live()));
        let outcome = session.run(Signals::listen()?).await;
        shown.abort();
        std::io::Result::Ok(outcome)
    })?;
    // An abandoned check of weights may still be reading.
    runtime.shutdown_background();
    let end = match outcome.failure {
        Some(RunError::Interrupted) => {
            let activity = activity.lock().unwrap_or_else(PoisonError::into_inner);
            Err(activity.told(limit(&session, began), &session.experiment.server_logs()).into())
        }
        Some(failure) => Err(failure.into()),
        None => results::gate(&session.plan, &outcome.rows),
    };
    let code = match &end {
        Ok(()) => error::OK,
        Err(failure) => {
            events.emit(Event::Failed { message: format!("{failure:#}") });
            error::exit_code(failure)
        }
    };
    events.emit(Event::Finished { exit_code: code });
    Ok(Conducted { plan: session.plan, experiment: session.experiment, rows: outcome.rows, end })
}

/// The time limit of the run's own job, by what the plan asked for: a run begins seconds after its job. A run within an allocation that
/// someone else made does not know it.
fn limit(session: &Session, began: Instant) -> Option<Limit> {
    session.place.allocation().filter(|allocation| allocation.run.is_none())?;
    let limit_s = session.plan.job.time_s;
    let own = || i64::try_from(limit_s).ok()?.checked_sub(i64::try_from(began.elapsed().as_secs()).ok()?);
    // Newer Slurm says when the job ends.
    let told = || {
        variable("SLURM_JOB_END_TIME")?.parse::<i64>().ok()?.checked_sub(jiff::Timestamp::now().as_second())
    };
    Some(Limit { limit_s, left_s: told().or_else(own)? })
}

fn started(place: &Place) -> Event {
    let allocation = place.allocation();
    Event::Started {
        job: place.job().map(ToString::to_string),
        pid: std::process::id(),
        host: hostname(),
        nodes: place.nodes().to_vec(),
        restarts: allocation.map_or(0, |allocation| allocation.restarts),
        cluster: allocation.and_then(|allocation| allocation.cluster.clone()),
        submitted: allocation.and_then(|allocation| allocation.submitted),
    }
}
