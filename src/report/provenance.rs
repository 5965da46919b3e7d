//! What a report says of the run itself: when, where, by which command, and what the servers were started with.

use std::collections::BTreeMap;

use itertools::Itertools;
use jiff::{SignedDuration, Timestamp};

use super::{Header, PointResult, search, unmeasured};
use crate::analyze::published::Figures;
use crate::analyze::verify::verify;
use crate::experiment::event::{self, Event};
use crate::experiment::{Experiment, Manifest};
use crate::plan::Plan;

impl Header {
    /// The head of the report of an experiment. Everything comes from files that no longer change, so that a report can be rebuilt.
    pub fn of_run(experiment: &Experiment, plan: &Plan, rows: &[PointResult]) -> Self {
        let mut header = Self::of(plan);
        header.facts.extend(measured(rows));
        if let Ok(manifest) = Manifest::read(experiment.dir()) {
            header.facts.extend(identity(&manifest));
        }
        let engines = rows.iter().filter_map(|row| row.summary.engine_version.as_deref()).unique().join(", ");
        header.facts.extend((!engines.is_empty()).then_some(("engine version", engines)));
        let events = event::read(experiment.dir());
        let nodes: Vec<String> = events.iter().flat_map(|stamped| nodes(&stamped.event)).unique().collect();
        header.facts.extend((!nodes.is_empty()).then(|| ("nodes", nodes.join(", "))));
        for stamped in events {
            if let Event::Suspected { process, line, .. } = stamped.event {
                header.facts.push(("suspected", format!("{process} logged, and went on or ended: {line}")));
            }
        }
        header.commands = fs_err::read_to_string(experiment.path("commands.sh")).ok();
        header.unmeasured = unmeasured::read(experiment.dir(), plan, rows);
        header.search = (search::lines(plan, rows), search::json(plan, rows));
        header.reproduced = reproduced(plan, rows);
        header
    }
}

/// When load was driven, and for how long.
fn measured(rows: &[PointResult]) -> Vec<(&'static str, String)> {
    let started = |row: &PointResult| Some((row.summary.started_at?, row.summary.duration_s));
    let spans: Vec<(Timestamp, f64)> = rows.iter().filter_map(started).collect();
    let Some(first) = spans.iter().map(|(at, _)| *at).min() else { return Vec::new() };
    let seconds: f64 = spans.iter().map(|(_, seconds)| seconds).sum();
    let end = |(at, seconds): &(Timestamp, f64)| {
        at.checked_add(SignedDuration::try_from_secs_f64(*seconds).unwrap_or_default()).unwrap_or(*at)
    };
    let last = spans.iter().map(end).max().unwrap_or(first);
    let shown = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M:%S").to_string();
    vec![
        ("date", format!("{} to {} UTC", shown(first), last.strftime("%H:%M:%S"))),
        ("duration", format!("{seconds:.1} s of measured load in {} load points", rows.len())),
    ]
}

fn identity(manifest: &Manifest) -> Vec<(&'static str, String)> {
    let words = manifest.command.iter().map(String::as_str);
    let command = shlex::try_join(words).unwrap_or_else(|_| manifest.command.join(" "));
    let mut facts = vec![("host", manifest.host.clone())];
    facts.extend(manifest.job.as_ref().map(|job| ("job", job.clone())));
    facts.push(("command to repeat", command));
    facts.extend(manifest.plan.as_ref().map(|digest| ("digest of the plan", digest.clone())));
    facts
}

fn nodes(event: &Event) -> Vec<String> {
    match event {
        Event::Started { nodes, .. } => nodes.clone(),
        _ => Vec::new(),
    }
}

/// `Published figures: 3 reproduced, 1 not reproduced`; `None` if nobody published any for this GPU.
fn reproduced(plan: &Plan, rows: &[PointResult]) -> Option<String> {
    let figures = Figures::in_plan(plan).ok()?;
    let summaries: BTreeMap<_, _> = rows.iter().map(|row| (row.point.clone(), row.summary.clone())).collect();
    let verification = verify(&figures, plan, &summaries);
    let counted = verification.counts.iter().filter(|(_, count)| **count > 0);
    let counted = counted.map(|(outcome, count)| format!("{count} {}", outcome.words())).join(", ");
    (!counted.is_empty()).then(|| format!("Published figures: {counted}; `tokmark verify` shows each."))
}
