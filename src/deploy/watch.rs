//! Watching a process from its first moment: its end, fatal lines in its logs, signs of progress.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use regex::Regex;
use tokio::process::Child;
use tokio::sync::watch;

use super::DeployError;
use super::log::{self, Follow};
use crate::experiment::Event;
use crate::launcher::{Fatal, Launcher};

/// How often logs are looked at.
const LOG_PERIOD: Duration = Duration::from_millis(200);

/// When the servers last showed that their start gets on.
#[derive(Debug, Default)]
pub struct StartProgress {
    seen: Mutex<HashSet<String>>,
    last: Mutex<Option<(Instant, String)>>,
}

impl StartProgress {
    /// The last sign, and when.
    pub fn last(&self) -> Option<(Instant, String)> {
        self.last.lock().ok()?.clone()
    }

    /// Takes note of a sign; the same words again are none.
    fn note(&self, process: &str, sign: &str) {
        let fresh = self.seen.lock().is_ok_and(|mut seen| seen.insert(format!("{process}\0{sign}")));
        if let (true, Ok(mut last)) = (fresh, self.last.lock()) {
            *last = Some((Instant::now(), format!("{process}: {sign}")));
        }
    }
}

/// What watching a process needs.
#[derive(Clone)]
pub struct Watcher {
    fatal: Arc<Vec<(Regex, Fatal)>>,
    signs: Arc<Vec<Regex>>,
    progress: Arc<StartProgress>,
    death: watch::Sender<Option<Arc<DeployError>>>,
    stopping: Arc<AtomicBool>,
    emit: Arc<dyn Fn(Event) + Send + Sync>,
}

impl Watcher {
    /// A watcher for the launcher's patterns.
    pub fn new(
        launcher: &Launcher,
        death: watch::Sender<Option<Arc<DeployError>>>,
        progress: Arc<StartProgress>,
        stopping: Arc<AtomicBool>,
        emit: Arc<dyn Fn(Event) + Send + Sync>,
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
            progress,
            death,
            stopping,
            emit,
        })
    }

    fn report(&self, error: DeployError) {
        if !self.stopping.load(Ordering::SeqCst) {
            self.death.send_if_modified(|slot| {
                let first = slot.is_none();
                if first {
                    *slot = Some(Arc::new(error));
                }
                first
            });
        }
    }

    /// Watches a child until it has ended.
    pub async fn watch(self, mut child: Child, subject: Watched, ended: watch::Sender<bool>) {
        let mut follows: Vec<Follow> = subject
            .logs
            .iter()
            .map(|(path, start)| {
                let mut follow = Follow::new(path);
                follow.rewind(*start);
                follow
            })
            .collect();
        let mut told = false;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                () = tokio::time::sleep(LOG_PERIOD) => told = self.look(&mut follows, false, &subject, told),
            }
        };
        // What a dying process wrote last may reach the file a moment after it is gone.
        tokio::time::sleep(LOG_PERIOD).await;
        let told = self.look(&mut follows, true, &subject, told);
        let text = status.map_or_else(|error| error.to_string(), describe);
        let expected = self.stopping.load(Ordering::SeqCst);
        if !told {
            let (log, excerpt) = subject.excerpt();
            self.report(DeployError::Died {
                process: subject.name.clone(),
                host: subject.host.clone(),
                status: text.clone(),
                excerpt,
                log,
            });
        }
        (self.emit)(Event::ProcessEnded { process: subject.name, status: text, expected });
        ended.send_replace(true);
    }

    /// Reads new lines; reports the first fatal one. Returns whether one was ever reported.
    fn look(&self, follows: &mut [Follow], last: bool, subject: &Watched, mut told: bool) -> bool {
        for (follow, (path, _)) in follows.iter_mut().zip(&subject.logs) {
            for line in follow.lines(last) {
                for sign in self.signs.iter().filter_map(|sign| sign.find(&line)) {
                    self.progress.note(&subject.name, sign.as_str());
                }
                if told {
                    continue;
                }
                let Some((_, fatal)) = self.fatal.iter().find(|(pattern, _)| pattern.is_match(&line)) else {
                    continue;
                };
                told = true;
                self.report(DeployError::Fatal {
                    process: subject.name.clone(),
                    host: subject.host.clone(),
                    line,
                    advice: fatal.advice.clone(),
                    new_ports: fatal.retry_with_new_ports,
                    excerpt: log::tail(path, 20),
                    log: path.display().to_string(),
                });
            }
        }
        told
    }
}

/// The process being watched.
pub struct Watched {
    /// Its name.
    pub name: String,
    /// Where it runs.
    pub host: String,
    /// Its logs, each with its length when the process was started: its own or srun's first, then one for each task.
    pub logs: Vec<(PathBuf, u64)>,
}

impl Watched {
    /// Last lines of the logs, and the log that tells most: of several tasks the one that wrote last.
    fn excerpt(&self) -> (String, String) {
        let written = |path: &PathBuf| std::fs::metadata(path).ok().filter(|m| m.len() > 0)?.modified().ok();
        let tasks = self.logs.iter().skip(1).map(|(path, _)| path);
        let last = tasks.filter_map(|path| Some((written(path)?, path))).max();
        let own = self.logs.first().map(|(path, _)| path);
        let Some(shown) = last.map(|(_, path)| path).or(own) else { return Default::default() };
        let mut excerpt = log::tail(shown, 20);
        if let Some(own) = own.filter(|own| *own != shown) {
            excerpt = format!("{excerpt}\n{}", log::tail(own, 5));
        }
        (shown.display().to_string(), excerpt.trim_end().to_owned())
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
mod tests {
    use super::*;

    #[test]
    fn the_same_sign_twice_is_no_progress() {
        let progress = StartProgress::default();
        assert!(progress.last().is_none());
        progress.note("a", "10%");
        let first = progress.last().unwrap();
        progress.note("a", "10%");
        assert_eq!(progress.last().unwrap(), first);
        progress.note("b", "10%");
        assert_eq!(progress.last().unwrap().1, "b: 10%");
    }
}
