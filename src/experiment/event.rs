//! Typed events of a run: the contract between the run and its observers.
//!
//! `events.jsonl` holds every event; the terminal shows the same events.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::files;

/// One event. A `point` is its folder or id; a `deployment` is empty if it is the only one; numbers count from 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// tokmark took over: in a job, or on this machine.
    Started {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<String>,
        pid: u32,
        host: String,
        nodes: Vec<String>,
        /// How often Slurm has requeued the job.
        restarts: u32,
        /// Slurm's name of the cluster.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cluster: Option<String>,
        /// When the job was submitted or last requeued, Unix seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        submitted: Option<i64>,
    },
    /// An earlier attempt at this experiment is gone without having written its end.
    AttemptLost {
        /// `the load generator was killed …`
        cause: String,
    },
    /// The weights folder was checked: its shards are complete, or the user chose to ignore problems.
    WeightsExamined {
        folder: String,
        /// `15 shards, 60.8 GiB, whole`
        found: String,
        seconds: f64,
        /// Possible problems, and what was not checked.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        remarks: Vec<String>,
    },
    /// The weights folder cannot be checked from this machine.
    WeightsSkipped { folder: String, reason: String },
    /// A container image is imported from its registry.
    ImageImporting { image: String, file: String },
    /// A container is unpacked on the nodes.
    ContainerPreparing { image: String, nodes: usize },
    /// Another process took a port before a server listened on it: the servers start once more, on other ports.
    PortsTaken {
        /// Which process found its port taken, and its message.
        problem: String,
    },
    /// The GPUs of a deployment are sampled.
    GpusSampled {
        /// `8 GPUs by NVML`
        sources: String,
    },
    /// The GPUs of a deployment, or some of them, cannot be sampled.
    GpusNotSampled { reason: String },
    /// Servers of a deployment are being started.
    Deploying { deployment: String, number: usize, of: usize },
    /// A process was started.
    ProcessStarted {
        process: String,
        host: String,
        /// Process id and group of the keeper of the child, or of its srun.
        pid: u32,
        /// When that process started, clock ticks since boot.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        started: Option<u64>,
        /// Its log, relative to the experiment.
        log: String,
    },
    /// A line in a log looks fatal. The run goes on as long as the process does.
    Suspected { process: String, line: String, advice: String },
    /// A process ended.
    ProcessEnded {
        process: String,
        /// `exit 3`, `signal 9`.
        status: String,
        /// Whether tokmark stopped it.
        expected: bool,
    },
    /// The servers are not ready yet.
    Waiting {
        /// What is waited for, as the last try found it.
        what: String,
        /// Seconds since the servers were started.
        seconds: f64,
        /// Seconds after which the start fails.
        at_most: f64,
    },
    /// A server that an earlier run left behind holds a port.
    LeftBehind { port: u16, pid: u32, command: String, experiment: String },
    /// The endpoint generated a token.
    Ready {
        url: String,
        /// Seconds since the servers were started.
        seconds: f64,
    },
    /// A load point begins.
    PointStarted {
        point: String,
        /// Number within the whole plan, from 1.
        number: usize,
        of: usize,
    },
    /// An earlier attempt already finished this load point.
    PointKept { point: String },
    /// A repeat of a load point is not needed.
    PointSkipped {
        point: String,
        /// Which figure is exact enough.
        reason: String,
    },
    /// A request failed in a way that none before it had at this load point.
    RequestFailed {
        point: String,
        /// Number of the way, from 1.
        number: usize,
        /// Status or outcome, and what the server said.
        what: String,
    },
    /// A load point ended, and its files are written.
    PointFinished {
        point: String,
        /// `valid`, `suspect`, `invalid`.
        verdict: String,
        completed: u64,
        total: u64,
        output_tokens_per_s: f64,
    },
    /// A signal or a dead server cut a load point short; it will be measured again.
    PointCut { point: String, completed: u64, total: u64 },
    /// A load point cannot be driven; the run goes on with the next one.
    PointFailed { point: String, reason: String },
    /// The servers failed and are stopped; they start once more.
    Restarting { deployment: String, reason: String },
    /// A deployment failed for good; the run goes on with the next one.
    GivenUp {
        deployment: String,
        reason: String,
        /// Its load points without figures.
        points: Vec<String>,
    },
    /// Servers are being stopped.
    Stopping { deployment: String },
    /// All servers are gone.
    Stopped {
        deployment: String,
        seconds: f64,
        /// Processes that needed a KILL.
        killed: Vec<String>,
    },
    /// A signal asked to wrap up.
    Interrupted { signal: String },
    /// An error ends the run.
    Failed { message: String },
    /// The run ended.
    Finished { exit_code: u8 },
}

/// An event with its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    pub at: jiff::Timestamp,
    #[serde(flatten)]
    pub event: Event,
}

/// Callback that receives every event.
pub type Listener = Box<dyn Fn(&Stamped) + Send + Sync>;

/// Writes `events.jsonl` and calls a listener.
pub struct EventLog {
    file: std::fs::File,
    listener: Listener,
}

impl EventLog {
    /// Opens `events.jsonl` in `dir`. Ends a last line that an earlier attempt could not finish.
    pub fn open(dir: &Path, listener: Listener) -> std::io::Result<Self> {
        let path = dir.join("events.jsonl");
        let mut file = files::append(&path)?;
        if std::fs::read(&path).is_ok_and(|text| text.last().is_some_and(|last| *last != b'\n')) {
            file.write_all(b"\n")?;
        }
        Ok(Self { file, listener })
    }

    /// Records one event. A failed write still reaches the listener, because a full disk must not end the run.
    pub fn emit(&self, event: Event) {
        let stamped = Stamped { at: jiff::Timestamp::now(), event };
        if let Ok(mut line) = serde_json::to_string(&stamped) {
            line.push('\n');
            let _ = (&self.file).write_all(line.as_bytes());
        }
        (self.listener)(&stamped);
    }
}

/// Reads the events of an experiment. Skips lines that are not events, such as a torn last line.
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
        let log = EventLog::open(folder.path(), Box::new(|_| {})).unwrap();
        log.emit(Event::Finished { exit_code: 5 });
        let events: Vec<Event> = read(folder.path()).into_iter().map(|stamped| stamped.event).collect();
        let ready = Event::Ready { url: "http://h:1".into(), seconds: 1.5 };
        assert_eq!(events, [ready, Event::Finished { exit_code: 0 }, Event::Finished { exit_code: 5 }]);
    }
}
