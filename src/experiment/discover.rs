//! Experiments there are: directories with a manifest, below an experiments folder.

use std::path::{Path, PathBuf};

use super::event::{self, Event, Stamped};
use super::manifest::Manifest;

/// An experiment found on disk.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its directory.
    pub dir: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its events.
    pub events: Vec<Stamped>,
}

/// How far a run came, by its own events alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Nothing ran yet.
    NotStarted,
    /// It runs, or its end was never written.
    Running {
        /// Last thing it said.
        doing: String,
        /// Host and process id of tokmark.
        host: String,
        /// Process id.
        pid: u32,
    },
    /// It ended with this exit code.
    Ended(u8),
}

impl Found {
    /// How far it came.
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

    /// Message of the failure that ended it.
    pub fn failure(&self) -> Option<&str> {
        self.events.iter().rev().find_map(|stamped| match &stamped.event {
            Event::Failed { message } => Some(message.as_str()),
            _ => None,
        })
    }

    /// Points finished, of how many.
    pub fn points(&self) -> (usize, usize) {
        let done =
            self.events.iter().filter(|stamped| matches!(stamped.event, Event::PointFinished { .. })).count();
        let of = self.events.iter().rev().find_map(|stamped| match stamped.event {
            Event::PointStarted { of, .. } => Some(of),
            _ => None,
        });
        (done, of.unwrap_or(done))
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

/// Every experiment below `folder`, newest first; none when the folder is not there.
pub fn all(folder: &Path) -> Vec<Found> {
    let mut found: Vec<Found> = walkdir::WalkDir::new(folder)
        .min_depth(1)
        .max_depth(1)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_dir())
        .filter_map(|entry| at(entry.path()))
        .collect();
    found.sort_by(|a, b| b.manifest.created_at.cmp(&a.manifest.created_at).then(b.dir.cmp(&a.dir)));
    found
}

/// The experiment in `dir`, when it is one.
pub fn at(dir: &Path) -> Option<Found> {
    let manifest = Manifest::read(dir).ok()?;
    Some(Found { dir: dir.to_path_buf(), manifest, events: event::read(dir) })
}

/// The experiment a user named: a directory, the last part of its path, a job id, or `last` for the newest.
pub fn named(folder: &Path, name: &str) -> Option<Found> {
    if name == "last" {
        return all(folder).into_iter().next();
    }
    at(Path::new(name)).or_else(|| {
        all(folder).into_iter().find(|found| {
            found.manifest.job.as_deref() == Some(name)
                || found.dir.file_name().is_some_and(|last| last.to_string_lossy() == name)
                || found
                    .dir
                    .file_name()
                    .is_some_and(|last| last.to_string_lossy().ends_with(&format!("_{name}")))
        })
    })
}
