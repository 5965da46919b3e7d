//! Finds the experiments in a folder: directories with a manifest.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Standing;
use crate::document::InputError;
use crate::error;
use crate::experiment::event::{self, Event, Stamped};
use crate::experiment::{Experiment, Manifest, manifest};
use crate::slurm::JobId;

/// An experiment on disk.
#[derive(Debug, Clone)]
pub struct Entry {
    pub dir: PathBuf,
    pub manifest: Manifest,
    pub events: Vec<Stamped>,
}

/// How far a run got, according to its own events only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Nothing ran yet.
    NotStarted,
    /// It runs, or never wrote its end.
    Running {
        /// The step it last began.
        doing: String,
        /// Host of tokmark.
        host: String,
        /// Process id of tokmark.
        pid: u32,
    },
    /// It ended with this exit code.
    Ended(u8),
}

impl Entry {
    /// Last part of its directory's path.
    pub fn name(&self) -> String {
        self.dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Its directory as an [`Experiment`].
    pub fn experiment(&self) -> Experiment {
        Experiment::at(&self.dir)
    }

    /// The Slurm job that runs only this experiment. A number that came again belongs to its newest experiment.
    pub fn own_job(&self) -> Option<JobId> {
        let job = self.manifest.own_job()?;
        let (name, own) = (self.name(), format!("_{job}"));
        let (first, number) = match name.rsplit_once('-').filter(|(first, _)| first.ends_with(&own)) {
            Some((first, number)) => (first, number.parse().unwrap_or(1_u32)),
            None => (name.as_str(), 1),
        };
        let next = self.dir.with_file_name(format!("{first}-{}", number + 1));
        if next.join("manifest.json").exists() { None } else { job.parse().ok() }
    }

    /// The same, unless the experiment's files already record a final end.
    pub fn open_job(&self) -> Option<JobId> {
        self.own_job().filter(|_| self.may_change())
    }

    /// Whether Slurm may know more than the experiment's files. An interrupted job may have been requeued, and Slurm
    /// knows why it was interrupted.
    pub fn may_change(&self) -> bool {
        !matches!(self.progress(), Progress::Ended(code) if code != error::INTERRUPTED)
    }

    /// Path of the log of this name, with or without `.log`; `slurm` is the output of its job.
    pub fn log(&self, name: &str) -> Result<PathBuf, InputError> {
        let (logs, slurm) = (self.dir.join("server_logs"), self.dir.join("slurm.out"));
        let log = if name == "slurm" { slurm.clone() } else { logs.join(format!("{name}.log")) };
        if let Some(path) = [log, logs.join(name)].into_iter().find(|path| path.is_file()) {
            return Ok(path);
        }
        let files = std::fs::read_dir(&logs).into_iter().flatten().filter_map(Result::ok);
        let files = files.map(|file| file.file_name().to_string_lossy().trim_end_matches(".log").to_owned());
        let mut known: Vec<String> = files.collect();
        known.sort();
        known.extend(slurm.is_file().then(|| "slurm".to_owned()));
        let expected = match known.join(", ") {
            none if none.is_empty() => "no log exists yet".to_owned(),
            known => format!("one of {known}"),
        };
        Err(InputError::new(self.dir.display().to_string(), format!("no log {name:?}")).expected(expected))
    }

    /// How far it got.
    pub fn progress(&self) -> Progress {
        let mut progress = Progress::NotStarted;
        for stamped in &self.events {
            progress = match (&stamped.event, progress) {
                (Event::Started { host, pid, .. }, _) => {
                    Progress::Running { doing: "starting".into(), host: host.clone(), pid: *pid }
                }
                (Event::Finished { exit_code }, _) => Progress::Ended(*exit_code),
                (event, Progress::Running { host, pid, doing }) => {
                    Progress::Running { doing: doing_now(event).unwrap_or(doing), host, pid }
                }
                (_, other) => other,
            };
        }
        progress
    }

    /// Name, process id and start of the processes that the last attempt started on this machine and did not see end.
    pub(super) fn started_here(&self) -> Vec<(&str, u32, u64)> {
        let here = manifest::hostname();
        let mut open: Vec<(&str, u32, u64)> = Vec::new();
        let mut on_host = false;
        for stamped in &self.events {
            match &stamped.event {
                Event::Started { host, .. } => {
                    open.clear();
                    on_host = *host == here;
                }
                Event::ProcessStarted { process, pid, started: Some(started), .. } if on_host => {
                    open.push((process, *pid, *started));
                }
                Event::ProcessEnded { process, .. } => open.retain(|(name, ..)| name != process),
                _ => {}
            }
        }
        open
    }

    /// Message of the failure that ended it. A failure before a restart does not count.
    pub fn failure(&self) -> Option<&str> {
        let last = self.events.iter().rev();
        let attempt = last.take_while(|stamped| !matches!(stamped.event, Event::Started { .. }));
        attempt
            .filter_map(|stamped| match &stamped.event {
                Event::Failed { message } => Some(message.as_str()),
                _ => None,
            })
            .next()
    }

    /// The object that `jobs --json` prints.
    pub fn as_json(&self, standing: &Standing) -> Value {
        let manifest = &self.manifest;
        let (done, all) = self.points();
        json!({
            "job": manifest.job,
            "state": standing.state,
            "recipe": manifest.recipe,
            "gpu": manifest.gpu,
            "model": manifest.model,
            "simulated": manifest.simulated,
            "rehearsal": manifest.rehearsal,
            "points_done": done,
            "points": all,
            "created_at": manifest.created_at,
            "experiment": self.dir,
            "failure": self.failure().or(standing.failure.as_deref()),
            "exit_code": match self.progress() { Progress::Ended(code) => Some(code), _ => None },
        })
    }

    /// Finished points and all points.
    pub fn points(&self) -> (usize, usize) {
        // A point that is measured again after a requeue is still one point.
        let finished = self.events.iter().filter_map(|stamped| match &stamped.event {
            Event::PointFinished { point, .. } => Some(point),
            _ => None,
        });
        let done = finished.collect::<BTreeSet<_>>().len();
        let of = self.events.iter().rev().find_map(|stamped| match stamped.event {
            Event::PointStarted { of, .. } => Some(of),
            _ => None,
        });
        let skipped: BTreeSet<&String> = self
            .events
            .iter()
            .filter_map(|stamped| match &stamped.event {
                Event::PointSkipped { point, .. } => Some(point),
                _ => None,
            })
            .collect();
        let planned = || Some(self.experiment().plan().ok()?.points().count());
        (done, of.or_else(planned).map_or(done, |of| of.saturating_sub(skipped.len())))
    }
}

fn doing_now(event: &Event) -> Option<String> {
    match event {
        Event::Deploying { .. } => Some("starting servers".into()),
        Event::Ready { .. } => Some("ready".into()),
        Event::PointStarted { point, number, of } => Some(format!("{point} ({number}/{of})")),
        Event::Stopping { .. } => Some("stopping servers".into()),
        _ => None,
    }
}

/// Every experiment in `folder`, newest first; empty if the folder does not exist.
pub fn all(folder: &Path) -> Vec<Entry> {
    let mut entries: Vec<Entry> = walkdir::WalkDir::new(folder)
        .min_depth(1)
        .max_depth(1)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|found| found.file_type().is_dir())
        .filter_map(|found| at(found.path()))
        .collect();
    entries.sort_by(|a, b| b.manifest.created_at.cmp(&a.manifest.created_at).then(b.dir.cmp(&a.dir)));
    entries
}

/// The experiment in `dir`, if there is one.
pub fn at(dir: &Path) -> Option<Entry> {
    let manifest = Manifest::read(dir).ok()?;
    Some(Entry { dir: dir.to_path_buf(), manifest, events: event::read(dir) })
}

/// The experiment that a user named by directory, last part of its path, job id, or `last` for the newest.
pub(super) fn named(folder: &Path, name: &str) -> Option<Entry> {
    if name == "last" {
        return all(folder).into_iter().next();
    }
    at(Path::new(name)).or_else(|| {
        all(folder).into_iter().find(|entry| {
            entry.manifest.job.as_deref() == Some(name)
                || entry.name() == name
                || entry.name().ends_with(&format!("_{name}"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_that_was_measured_twice_counts_once() {
        let finished = |point: &str| Event::PointFinished {
            point: point.into(),
            verdict: "valid".into(),
            completed: 1,
            total: 1,
            output_tokens_per_s: 1.0,
        };
        let started = |number| Event::PointStarted { point: "a".into(), number, of: 2 };
        let manifest = json!({
            "schema": 1, "tokmark": "", "commit": "", "recipe": "r", "gpu": "h100", "model": "m", "launcher": "sim",
            "simulated": false, "job": "7", "created_by": "exec", "created_at": "2026-01-02T03:04:05Z",
            "host": "node", "command": [],
        });
        let at = jiff::Timestamp::UNIX_EPOCH;
        let events = [started(1), finished("a"), started(1), finished("a"), started(2), finished("b")];
        let events = events.into_iter().map(|event| Stamped { at, event }).collect();
        let manifest = serde_json::from_value(manifest).unwrap();
        assert_eq!(Entry { dir: "/e/r_7".into(), manifest, events }.points(), (2, 2));
    }

    #[test]
    fn a_number_that_came_again_belongs_to_the_newest_experiment() {
        let folder = tempfile::tempdir().unwrap();
        let made = |name: &str| {
            let dir = folder.path().join(name);
            std::fs::create_dir(&dir).unwrap();
            let manifest = json!({
                "schema": 1, "tokmark": "", "commit": "", "recipe": "r", "gpu": "h100", "model": "m", "launcher": "sim",
                "simulated": false, "job": "7", "created_by": "exec", "created_at": "2026-01-02T03:04:05Z",
                "host": "node", "command": [],
            });
            std::fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
            dir
        };
        let first = made("m-8b_7");
        assert_eq!(at(&first).unwrap().own_job().unwrap().as_str(), "7");
        let second = made("m-8b_7-2");
        assert_eq!(at(&first).unwrap().own_job(), None);
        assert_eq!(at(&second).unwrap().own_job().unwrap().as_str(), "7");
        let third = made("m-8b_7-3");
        assert_eq!(at(&second).unwrap().own_job(), None);
        assert_eq!(at(&third).unwrap().own_job().unwrap().as_str(), "7");
    }
}
