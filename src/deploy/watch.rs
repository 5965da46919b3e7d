//! Watches one process from its start: its end, fatal log lines, signs of progress.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use regex::Regex;
use tokio::process::Child;

use super::DeployError;
use super::deadline::Deadline;
use super::log::{self, Follow};
use crate::launcher::{Fatal, Launcher};

/// How often logs are read.
const LOG_PERIOD: Duration = Duration::from_millis(200);

/// What a watcher reports.
#[derive(Debug)]
pub enum Notice {
    /// A fatal line in a log; the process may live on.
    Fatal(Box<DeployError>),
    Ended {
        process: String,
        /// `exit 3`, `signal 9`.
        status: String,
        /// The end as an error, unless a fatal line was already reported.
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
    report: Report,
}

impl Watcher {
    /// A watcher for the launcher's patterns.
    pub(super) fn new(
        launcher: &Launcher,
        deadline: Arc<Deadline>,
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
            report,
        })
    }

    /// Watches a child until it has ended and its last log lines are read.
    pub(super) async fn watch(self, mut child: Child, watched: Watched) {
        let mut logs = watched.follow();
        let mut failed = false;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                () = tokio::time::sleep(LOG_PERIOD) => failed |= self.read(&mut logs, false, &watched, failed),
            }
        };
        // A dying process's last output may reach the file a moment later.
        tokio::time::sleep(LOG_PERIOD).await;
        failed |= self.read(&mut logs, true, &watched, failed);
        let status = status.map_or_else(|error| error.to_string(), describe);
        let error = (!failed).then(|| Box::new(watched.died(&status)));
        (self.report)(Notice::Ended { process: watched.name, status, error });
    }

    /// Reads new lines and reports the first fatal one, unless one was already `reported`. Returns whether it reported one.
    fn read(&self, logs: &mut [Follow], last: bool, watched: &Watched, mut reported: bool) -> bool {
        let before = reported;
        for (follow, (path, _)) in logs.iter_mut().zip(&watched.logs) {
            for line in follow.lines(last) {
                for sign in self.signs.iter().filter_map(|sign| sign.find(&line)) {
                    self.deadline.note(&watched.name, sign.as_str(), Instant::now());
                }
                let fatal = || self.fatal.iter().find(|(pattern, _)| pattern.is_match(&line));
                if !reported && let Some((_, fatal)) = fatal() {
                    reported = true;
                    (self.report)(Notice::Fatal(Box::new(DeployError::Fatal {
                        process: watched.name.clone(),
                        host: watched.host.clone(),
                        line,
                        advice: fatal.advice.clone(),
                        new_ports: fatal.retry_with_new_ports,
                        excerpt: log::tail(path, 20),
                        log: path.display().to_string(),
                    })));
                }
            }
        }
        reported && !before
    }
}

/// A process that is watched.
pub(super) struct Watched {
    pub(super) name: String,
    pub(super) host: String,
    /// Its logs, each with its length when the process was started: its own or srun's first, then one for each task.
    pub(super) logs: Vec<(PathBuf, u64)>,
}

impl Watched {
    fn follow(&self) -> Vec<Follow> {
        self.logs.iter().map(|(path, start)| Follow::new(path, *start)).collect()
    }

    /// The error of an unexpected end, with the tail of the most informative log: of several tasks, the one that wrote last.
    fn died(&self, status: &str) -> DeployError {
        let written = |path: &PathBuf| std::fs::metadata(path).ok().filter(|m| m.len() > 0)?.modified().ok();
        let tasks = self.logs.iter().skip(1).map(|(path, _)| path);
        let last = tasks.filter_map(|path| Some((written(path)?, path))).max();
        let own = self.logs.first().map(|(path, _)| path);
        let shown = last.map(|(_, path)| path).or(own);
        let mut excerpt = shown.map(|shown| log::tail(shown, 20)).unwrap_or_default();
        if let Some(own) = own.filter(|own| Some(*own) != shown) {
            excerpt = format!("{excerpt}\n{}", log::tail(own, 5));
        }
        DeployError::Died {
            process: self.name.clone(),
            host: self.host.clone(),
            status: status.to_owned(),
            excerpt: excerpt.trim_end().to_owned(),
            log: shown.map(|shown| shown.display().to_string()).unwrap_or_default(),
        }
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
