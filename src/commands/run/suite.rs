//! `tokmark run --file SUITE`: runs its recipes one after the other. A failed one becomes a row of the table; an interruption
//! ends the suite.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tokio::time::timeout;

use super::{make, name_outside, place, session};
use crate::commands::jobs::suite;
use crate::commands::planning::Planning;
use crate::commands::printer::Printer;
use crate::commands::submit;
use crate::deploy::Place;
use crate::document::{Document, InputErrors};
use crate::error::{self, ExitError};
use crate::experiment::{Event, EventLog, Experiment};
use crate::plan::choices::Choices;
use crate::run::{Signals, preflight};
use crate::workload::{Job, file};

/// An experiment that has its directory and place, and has not started.
struct Next {
    job: Job,
    place: Place,
    experiment: Experiment,
}

/// Runs a suite. Reports every foreseeable failure before creating the first directory.
pub(super) fn run(
    printer: Printer,
    planning: &Planning,
    path: &Path,
    local: bool,
    base: &Choices,
) -> anyhow::Result<()> {
    let (file, orders) = file::parse(&Document::read(path)?)?;
    let planned = submit::plan(planning, &orders, base)?;
    name_outside(printer, planned.iter().map(|task| &task.plan));
    InputErrors::collect(planned.iter().map(|task| preflight::check(&task.plan)))?;
    let mut placed = Vec::new();
    let mut notes = Vec::new();
    for job in submit::jobs(printer, planned) {
        let (place, note) = place(local, &job.plan)?;
        notes.extend(note.filter(|note| !notes.contains(note)).inspect(|note| printer.note(note)));
        placed.push((job, place));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut stopped = false;
    let mut signals = runtime.block_on(async { Signals::listen() })?;
    // Every directory exists before the first run starts, so that `jobs` shows what is still to come.
    let now = jiff::Timestamp::now();
    let next = |(job, place): (Job, Place)| {
        let experiment = make(&job.plan, &place, now)?;
        Ok(Next { job, place, experiment })
    };
    let nexts: Vec<Next> = placed.into_iter().map(next).collect::<anyhow::Result<_>>()?;
    let id_and_dir =
        |next: &Next| (next.place.job().map(ToString::to_string), next.experiment.dir().to_path_buf());
    let jobs: Vec<&Job> = nexts.iter().map(|next| &next.job).collect();
    let suite = suite::create(&file, &jobs, &nexts.iter().map(id_and_dir).collect::<Vec<_>>(), "run", None)
        .context("cannot make the suite's directory")?;
    let all = nexts.len();
    let mut ends = Vec::new();
    for (number, next) in (1..).zip(nexts) {
        // A session handles the signals that arrive during it; these arrived between two sessions.
        stopped |=
            runtime.block_on(async { timeout(Duration::from_millis(1), signals.next()).await.is_ok() });
        if stopped {
            ends.push(Err(leave_out(&next.experiment)));
            continue;
        }
        printer.note(format!("[{number}/{all}] {}", next.job.describe()));
        let end = session::conduct(printer, next.job.plan, next.place, next.experiment)
            .and_then(|conducted| conducted.end);
        if let Err(failure) = &end {
            if error::exit_code(failure) == error::INTERRUPTED {
                stopped = true;
            } else {
                let text = format!("{failure:#}");
                let first = text.lines().next().unwrap_or_default();
                printer.note(format!("[{number}/{all}] failed: {first}"));
            }
        }
        ends.push(end);
    }
    suite::conclude_here(printer, &suite, &ends)
}

/// The end of an experiment that a stopped suite did not reach: interrupted, even if its directory can no longer record it.
fn leave_out(experiment: &Experiment) -> anyhow::Error {
    let mut message = "not run: the suite was interrupted before".to_owned();
    match EventLog::open(experiment.dir(), Box::new(|_| {})) {
        Ok(events) => {
            events.emit(Event::Failed { message: message.clone() });
            events.emit(Event::Finished { exit_code: error::INTERRUPTED });
        }
        Err(failure) => message.push_str(&format!("; its directory does not record it: {failure}")),
    }
    ExitError { code: error::INTERRUPTED, message }.into()
}
