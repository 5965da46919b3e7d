//! `tokmark run --file SUITE`: its recipes here, one after the other. One that fails is a row of the table; an interruption
//! ends all.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::session::Shown;
use super::tasks::Job;
use super::{output, planning, run, session, suites, tasks};
use crate::deploy::Place;
use crate::document::{Document, InputErrors};
use crate::error::{self, Ended};
use crate::experiment::{Event, EventLog, Experiment};
use crate::flags::Global;
use crate::plan::choices::Choices;
use crate::workload::file;

/// An experiment that has its directory and its place, and has not begun.
struct Next {
    job: Job,
    place: Place,
    experiment: Experiment,
}

/// Runs a suite. What can be known to fail is found before the first directory is made.
pub(super) fn run(
    global: &Global,
    path: &Path,
    local: bool,
    no_weights_check: bool,
    json: bool,
) -> anyhow::Result<()> {
    let (file, orders) = file::parse(&Document::read(path)?)?;
    let base = Choices { no_weights_check, ..planning::chosen(global) };
    let planned = tasks::plan(global, &orders, &base)?;
    let mut errors = Vec::new();
    for task in &planned {
        if let Err(InputErrors(problems)) = run::check(global, &task.plan) {
            errors.extend(problems);
        }
    }
    tasks::each_once(errors)?;
    let mut placed = Vec::new();
    let mut said = Vec::new();
    for job in tasks::each(global, planned) {
        let (place, note) = run::place(local, &job.plan)?;
        let new = note.filter(|note| !global.quiet && !said.contains(note));
        said.extend(new.inspect(|note| output::note(note)));
        placed.push((job, place));
    }
    let stopped = heed_signals()?;
    let nexts = prepare(placed)?;
    let place =
        |next: &Next| (next.place.job().map(ToString::to_string), next.experiment.dir().to_path_buf());
    let jobs: Vec<&Job> = nexts.iter().map(|next| &next.job).collect();
    let members = suites::members(&jobs, nexts.iter().map(place).collect());
    let folder = nexts.first().map(|next| next.job.plan.experiments.clone()).unwrap_or_default();
    let suite = suites::keep(&file, Path::new(&folder), members, "run")
        .with_context(|| format!("cannot make the suite's directory in {folder}"))?;
    let of = nexts.len();
    let mut ends = Vec::new();
    for (number, next) in (1..).zip(nexts) {
        if stopped.load(Ordering::SeqCst) {
            ends.push(Err(leave_out(&next.experiment)));
            continue;
        }
        if !global.quiet {
            output::note(&format!("[{number}/{of}] {}", next.job.words()));
        }
        let end = session::conduct(global, next.job.plan, next.place, next.experiment, Shown::Nothing);
        if let Err(failure) = &end {
            if error::exit_code(failure) == error::INTERRUPTED {
                stopped.store(true, Ordering::SeqCst);
            } else if !global.quiet {
                let text = format!("{failure:#}");
                output::note(&format!("[{number}/{of}] failed: {}", text.lines().next().unwrap_or_default()));
            }
        }
        ends.push(end);
    }
    suites::conclude_here(&suite, &ends, json)
}

/// Makes every directory, so that whoever looks finds what is still to come.
fn prepare(placed: Vec<(Job, Place)>) -> anyhow::Result<Vec<Next>> {
    let now = jiff::Timestamp::now();
    let make = |(job, place): (Job, Place)| {
        let experiment = run::make(&job.plan, &place, now)?;
        Ok(Next { job, place, experiment })
    };
    placed.into_iter().map(make).collect()
}

/// What a suite that was stopped did not come to: interrupted, also where its directory cannot say so any more.
fn leave_out(experiment: &Experiment) -> anyhow::Error {
    let mut message = "not run: the suite was interrupted before".to_owned();
    match EventLog::open(experiment.dir(), Box::new(|_| {})) {
        Ok(events) => {
            events.emit(Event::Failed { message: message.clone() });
            events.emit(Event::Finished { exit_code: error::INTERRUPTED });
        }
        Err(failure) => message.push_str(&format!("; its directory does not say so: {failure}")),
    }
    Ended { code: error::INTERRUPTED, message }.into()
}

/// Becomes true with the first signal that asks for an end, also between two experiments. A session that runs obeys it itself.
fn heed_signals() -> std::io::Result<Arc<AtomicBool>> {
    let stopped = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate, mut warning) = runtime.block_on(async {
        let of = |kind| signal(kind);
        std::io::Result::Ok((
            of(SignalKind::interrupt())?,
            of(SignalKind::terminate())?,
            of(SignalKind::user_defined1())?,
        ))
    })?;
    let seen = Arc::clone(&stopped);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = warning.recv() => {}
            }
        });
        seen.store(true, Ordering::SeqCst);
    });
    Ok(stopped)
}
