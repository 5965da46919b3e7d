//! Watches one process from its start: its end, fatal log lines, signs of progress.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use regex::Regex;
use tokio::process::Child;

use super::DeployError;
use super::census::Census;
use super::deadline::Deadline;
use super::death::{self, Cause};
use super::log::{self, Follow};
use super::suspicion::{Life, Meaning, Reading, Suspicion};
use crate::launcher::{Fatal, Launcher};
use crate::node::processes;

/// How often logs are read.
const LOG_PERIOD: Duration = Duration::from_millis(200);

/// What a watcher reports.
#[derive(Debug)]
pub enum Notice {
    /// A line in a log that looks fatal; the process may survive it.
    Suspected { process: String, line: String, advice: String },
    /// After such a line the process stopped getting on, although it lives.
    Fatal(Box<DeployError>),
    Ended {
        process: String,
        /// `exit 3`, `signal 9`.
        status: String,
        /// The end as an error, unless a failure was already reported.
        error: Option<Box<DeployError>>,
    },
}

/// Where watchers report to.
pub type Report = Arc<dyn Fn(Notice) + Send + Sync>;

/// What watching the processes of a deployment needs.
#[derive(Clone)]
pub(super) struct Watcher {
    fatal: Arc<Vec<(Regex, Fatal)>>,
    signs: Arc<Vec<Regex>>,
    deadline: Arc<Deadline>,
    life: Arc<Life>,
    census: Arc<Census>,
    report: Report,
}

impl Watcher {
    /// A watcher for the launcher's patterns.
    pub(super) fn new(
        launcher: &Launcher,
        (deadline, life, census): (Arc<Deadline>, Arc<Life>, Arc<Census>),
        report: Report,
    ) -> Result<Self, DeployError> {
        let wrong = |error: regex::Error| std::io::Error::other(error.to_string());
        let fatal: Result<Vec<_>, _> = launcher
            .fatal
            .iter()
            .map(|fatal| Regex::new(&fatal.pattern).map(|pattern| (pattern, fatal.clone())))
            .collect();
        let signs: Result<Vec<_>, _> = launcher.progress.iter().map(|sign| Regex::new(sign)).collect();
        Ok(Self {
            fatal: Arc::new(fatal.map_err(wrong)?),
            signs: Arc::new(signs.map_err(wrong)?),
            deadline,
            life,
            census,
            report,
        })
    }

    /// Watches a child until it has ended and its last log lines are read.
    pub(super) async fn watch(self, mut child: Child, watched: Watched) {
        let mut logs = watched.follow();
        let (mut suspicion, mut failed) = (None, false);
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                () = tokio::time::sleep(LOG_PERIOD) => {
                    self.read(&mut logs, false, &watched, &mut suspicion);
                    failed |= self.judge(&watched, &mut suspicion, Instant::now());
                }
            }
        };
        // A dying process's last output may reach the file a moment later.
        tokio::time::sleep(LOG_PERIOD).await;
        self.read(&mut logs, true, &watched, &mut suspicion);
        let status = status.map_or_else(|error| error.to_string(), describe);
        let reason = suspicion.filter(|suspicion| !suspicion.is_caught);
        let error = match reason {
            Some(reason) if !death::is_killed(&status) => watched.fatal(&reason),
            _ => {
                let tail = watched.tail();
                let cause = self.census.cause(&watched.name, &status, &tail.0).await;
                watched.died(&status, cause, tail)
            }
        };
        let error = (!failed).then(|| Box::new(error));
        (self.report)(Notice::Ended { process: watched.name, status, error });
    }

    /// Reads new lines. The first fatal one becomes the suspicion.
    fn read(&self, logs: &mut [Log], last: bool, watched: &Watched, suspicion: &mut Option<Suspicion>) {
        for log in logs {
            for line in log.follow.lines(last) {
                for sign in self.signs.iter().filter_map(|sign| sign.find(&line)) {
                    if self.deadline.note(&watched.name, sign.as_str(), Instant::now()) {
                        self.life.sign();
                    }
                }
                let matches =
                    self.fatal.iter().find_map(|(pattern, fatal)| Some((pattern.find(&line)?, fatal)));
                match log.reading.meaning(&line, matches.map(|(found, _)| found.start())) {
                    Meaning::Life => self.life.sign(),
                    Meaning::Nothing => {}
                    meaning if suspicion.as_ref().is_none_or(|known| known.is_caught) => {
                        let Some((_, fatal)) = matches else { continue };
                        let is_caught = meaning == Meaning::Caught;
                        let advice = fatal.advice.clone();
                        (self.report)(Notice::Suspected {
                            process: watched.name.clone(),
                            line: line.clone(),
                            advice,
                        });
                        *suspicion = Some(Suspicion::new(line, fatal, log.path.clone(), is_caught));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Reports a suspicion once it is confirmed, and drops it once it is refuted. Returns whether it reported one.
    fn judge(&self, watched: &Watched, suspicion: &mut Option<Suspicion>, now: Instant) -> bool {
        let work = watched.keeper.filter(|_| suspicion.is_some()).map(processes::work_below);
        let confirmed =
            suspicion.as_mut().is_some_and(|suspicion| suspicion.is_confirmed(&self.life, work, now));
        if let Some(found) = suspicion.take_if(|found| confirmed || found.is_refuted(&self.life, now))
            && confirmed
        {
            (self.report)(Notice::Fatal(Box::new(watched.fatal(&found))));
        }
        confirmed
    }
}

/// A log that is read as it grows.
struct Log {
    path: PathBuf,
    follow: Follow,
    reading: Reading,
}

/// A process that is watched.
pub(super) struct Watched {
    pub(super) name: String,
    pub(super) host: String,
    /// The process above it, if it runs on this machine.
    pub(super) keeper: Option<u32>,
    /// Its logs, each with its length when the process was started: its own or srun's first, then one for each task.
    pub(super) logs: Vec<(PathBuf, u64)>,
}

impl Watched {
    fn follow(&self) -> Vec<Log> {
        let log = |(path, start): &(PathBuf, u64)| Log {
            path: path.clone(),
            follow: Follow::new(path, *start),
            reading: Reading::default(),
        };
        self.logs.iter().map(log).collect()
    }

    /// The error of a fatal line that was confirmed.
    fn fatal(&self, Suspicion { line, fatal, log, .. }: &Suspicion) -> DeployError {
        DeployError::Fatal {
            process: self.name.clone(),
            host: self.host.clone(),
            line: line.clone(),
            advice: fatal.advice.clone(),
            new_ports: fatal.retry_with_new_ports,
            permanent: fatal.permanent,
            excerpt: log::tail(log, 20),
            log: log.display().to_string(),
        }
    }

    /// The error of an unexpected end, with the tail of the most informative log: of several tasks, the one that wrote last.
    fn died(&self, status: &str, cause: Option<Cause>, (excerpt, log): (String, String)) -> DeployError {
        DeployError::Died {
            process: self.name.clone(),
            host: self.host.clone(),
            status: status.to_owned(),
            cause,
            excerpt,
            log,
        }
    }

    /// The end of that log, with the last words of srun, and its path.
    fn tail(&self) -> (String, String) {
        let written = |path: &PathBuf| std::fs::metadata(path).ok().filter(|m| m.len() > 0)?.modified().ok();
        let tasks = self.logs.iter().skip(1).map(|(path, _)| path);
        let last = tasks.filter_map(|path| Some((written(path)?, path))).max();
        let own = self.logs.first().map(|(path, _)| path);
        let shown = last.map(|(_, path)| path).or(own);
        let mut excerpt = shown.map(|shown| log::tail(shown, 20)).unwrap_or_default();
        if let Some(own) = own.filter(|own| Some(*own) != shown) {
            excerpt = format!("{excerpt}\n{}", log::tail(own, 5));
        }
        let path = shown.map(|shown| shown.display().to_string()).unwrap_or_default();
        (excerpt.trim_end().to_owned(), path)
    }
}

/// `exit 3` or `signal 9`.
fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown status".into(),
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
