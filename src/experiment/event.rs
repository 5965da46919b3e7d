//! What happens during a run, as typed events: the contract between the run and everyone who watches it.
//!
//! `events.jsonl` holds every event; the terminal shows the same ones.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::files;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// tokmark took over: in a job, or on this machine.
    Started {
        /// Slurm job id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<String>,
        /// Process id of tokmark.
        pid: u32,
        /// Host it runs on.
        host: String,
        /// Nodes of the allocation.
        nodes: Vec<String>,
        /// How often Slurm requeued the job before.
        restarts: u32,
    },
    /// The model's folder was looked through: its shards are whole, or what is wrong was forgiven.
    WeightsExamined {
        /// The folder, as this machine sees it.
        folder: String,
        /// `15 shards, 60.8 GiB, whole`
        found: String,
        /// Seconds it took.
        seconds: f64,
        /// What may be wrong, and what was not looked at.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        remarks: Vec<String>,
    },
    /// The model's folder cannot be looked through from here.
    WeightsSkipped {
        /// The folder.
        folder: String,
        /// Why.
        reason: String,
    },
    /// A container image is imported from its registry.
    ImageImporting {
        /// The image.
        image: String,
        /// The file it becomes.
        file: String,
    },
    /// A container is unpacked on the nodes.
    ContainerPreparing {
        /// The image.
        image: String,
        /// How many nodes.
        nodes: usize,
    },
    /// A port was taken between looking and listening: the servers are started once more with other ports.
    PortsTaken {
        /// Who found its port taken, and how it said so.
        problem: String,
    },
    /// Servers of a deployment are being started.
    Deploying {
        /// Deployment, empty for the only one.
        deployment: String,
        /// Deployment number from 1, and how many there are.
        number: usize,
        /// How many deployments there are.
        of: usize,
    },
    /// A process was started.
    ProcessStarted {
        /// Its name.
        process: String,
        /// Where.
        host: String,
        /// Process id of the child, or of its srun.
        pid: u32,
        /// Its log, within the experiment.
        log: String,
    },
    /// A process ended.
    ProcessEnded {
        /// Its name.
        process: String,
        /// `exit 3`, `signal 9`.
        status: String,
        /// It ended because it was stopped.
        expected: bool,
    },
    /// The endpoint generated a token.
    Ready {
        /// URL of the endpoint.
        url: String,
        /// Seconds since the servers were started.
        seconds: f64,
    },
    /// A load point begins.
    PointStarted {
        /// Its folder or id.
        point: String,
        /// Number from 1 over the whole plan.
        number: usize,
        /// How many there are.
        of: usize,
    },
    /// A load point was finished by an earlier attempt.
    PointKept {
        /// Its folder or id.
        point: String,
    },
    /// A load point ended and its files are written.
    PointFinished {
        /// Its folder or id.
        point: String,
        /// `valid`, `suspect`, `invalid`.
        verdict: String,
        /// Requests that ended well, and all.
        completed: u64,
        /// All requests.
        total: u64,
        /// Output tokens per second.
        output_tokens_per_s: f64,
    },
    /// A load point was cut short, by a signal or a dead server; it will be measured again.
    PointCut {
        /// Its folder or id.
        point: String,
        /// Requests that ended well, and all.
        completed: u64,
        /// All requests.
        total: u64,
    },
    /// Servers are being stopped.
    Stopping {
        /// Deployment, empty for the only one.
        deployment: String,
    },
    /// All servers are gone.
    Stopped {
        /// Deployment, empty for the only one.
        deployment: String,
        /// Seconds it took.
        seconds: f64,
        /// Processes that had to be killed.
        killed: Vec<String>,
    },
    /// A signal asked to wrap up.
    Interrupted {
        /// Which one.
        signal: String,
    },
    /// The run ends here because of this.
    Failed {
        /// The whole message.
        message: String,
    },
    /// The end.
    Finished {
        /// Exit code of tokmark.
        exit_code: u8,
    },
}

/// An event and when it happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// UTC.
    pub at: jiff::Timestamp,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// Told of every event.
pub type Listener = Box<dyn Fn(&Stamped) + Send + Sync>;

/// Writes `events.jsonl` and tells a listener.
pub struct EventLog {
    file: std::fs::File,
    listener: Listener,
}

impl EventLog {
    /// Opens `events.jsonl` in `dir`.
    pub fn open(dir: &Path, listener: Listener) -> std::io::Result<Self> {
        Ok(Self { file: files::append(&dir.join("events.jsonl"))?, listener })
    }

    /// Records one event. A full disk must not end the run, so a failed write only reaches the listener.
    pub fn emit(&self, event: Event) {
        let stamped = Stamped { at: jiff::Timestamp::now(), event };
        if let Ok(mut line) = serde_json::to_string(&stamped) {
            line.push('\n');
            let _ = (&self.file).write_all(line.as_bytes());
        }
        (self.listener)(&stamped);
    }
}

/// Events of an experiment; lines that are not events (a torn last line) are skipped.
pub fn read(dir: &Path) -> Vec<Stamped> {
    let text = std::fs::read_to_string(dir.join("events.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_the_file_and_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let log = EventLog::open(folder.path(), Box::new(|_| {})).unwrap();
        log.emit(Event::Ready { url: "http://h:1".into(), seconds: 1.5 });
        log.emit(Event::Finished { exit_code: 0 });
        let path = folder.path().join("events.jsonl");
        let mut text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("{\"at\":"), "{text}");
        text.push_str("{\"at\":\"2026");
        std::fs::write(&path, text).unwrap();
        let events: Vec<Event> = read(folder.path()).into_iter().map(|stamped| stamped.event).collect();
        assert_eq!(
            events,
            [Event::Ready { url: "http://h:1".into(), seconds: 1.5 }, Event::Finished { exit_code: 0 }]
        );
    }
}
