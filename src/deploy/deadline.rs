//! The deadline of a start: a fixed moment, extended by each new sign of progress in the logs.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::no_api::Tried;
use crate::plan::Deployment;

/// Least time that the last probe of a start gets.
const LAST_PROBE: Duration = Duration::from_millis(500);

/// Why a probe did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ProbeFailure {
    /// It may succeed later.
    NotYet(String),
    /// The server does not list the model, but others.
    Unlisted { url: String, model: String, listed: Vec<String> },
    /// The server knows none of the paths of an API.
    NoApi(Vec<Tried>),
    /// A process that is none of ours listens where our server should.
    Foreign { address: String, process: String },
}

impl From<String> for ProbeFailure {
    fn from(problem: String) -> Self {
        Self::NotYet(problem)
    }
}

/// The deadline of a start; the watchers of the processes extend it.
#[derive(Debug)]
pub(super) struct Deadline {
    at: Instant,
    after_progress: Duration,
    signs: Mutex<Signs>,
}

#[derive(Debug, Default)]
struct Signs {
    seen: HashSet<String>,
    last: Option<(Instant, String)>,
}

/// A snapshot of the deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeadlineState {
    pub(super) at: Instant,
    /// Recipe key that sets the deadline.
    pub(super) key: &'static str,
    pub(super) sign: Option<String>,
}

impl Deadline {
    /// The deadline of a deployment whose first process started at `began`.
    pub(super) fn new(deployment: &Deployment, began: Instant) -> Self {
        let at = began + Duration::from_secs_f64(deployment.startup_timeout_s);
        Self::of(at, Duration::from_secs_f64(deployment.progress_timeout_s))
    }

    /// A deadline at a fixed moment, or this long after the last sign of progress, whichever is later.
    pub(super) fn of(at: Instant, after_progress: Duration) -> Self {
        Self { at, after_progress, signs: Mutex::default() }
    }

    /// Extends the deadline after a sign of progress; the same text of the same process counts once. Returns whether it counts.
    pub(super) fn note(&self, process: &str, sign: &str, now: Instant) -> bool {
        let Ok(mut signs) = self.signs.lock() else { return false };
        let is_new = signs.seen.insert(format!("{process}\0{sign}"));
        if is_new {
            signs.last = Some((now, format!("{process}: {sign}")));
        }
        is_new
    }

    /// The deadline, extended by all progress so far.
    pub(super) fn state(&self) -> DeadlineState {
        let last = self.signs.lock().ok().and_then(|signs| signs.last.clone());
        match last {
            Some((when, sign)) if when + self.after_progress > self.at => DeadlineState {
                at: when + self.after_progress,
                key: "deploy.progress_timeout",
                sign: Some(sign),
            },
            last => {
                DeadlineState { at: self.at, key: "deploy.startup_timeout", sign: last.map(|(_, sign)| sign) }
            }
        }
    }

    /// Retries a probe until it succeeds, or fails for good. If the deadline passes first, returns what was still missing at the
    /// last try.
    pub(super) async fn until<T>(
        &self,
        mut probe: impl AsyncFnMut() -> Result<T, ProbeFailure>,
    ) -> Result<T, ProbeFailure> {
        let mut pause = Duration::from_millis(50);
        let mut last: Option<String> = None;
        loop {
            // A probe that hangs must not outlive the deadline.
            let (limit, asked) = (self.state().at.max(Instant::now() + LAST_PROBE), Instant::now());
            match tokio::time::timeout_at(limit.into(), probe()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(ProbeFailure::NotYet(problem))) => last = Some(problem),
                Ok(Err(failure)) => return Err(failure),
                // What an earlier probe missed may be there by now.
                Err(_) => {
                    let seconds = asked.elapsed().as_secs_f64();
                    let hung = |last| {
                        format!("no answer to the last probe within {seconds:.1} s; before it: {last}")
                    };
                    last = last.map(hung);
                }
            }
            let at = self.state().at;
            if Instant::now() >= at {
                let missing = last.unwrap_or_else(|| "nothing answered in time".to_owned());
                return Err(ProbeFailure::NotYet(missing));
            }
            // The last probe begins at the deadline itself.
            tokio::time::sleep_until((Instant::now() + pause).min(at).into()).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deadline(startup: Duration, progress: Duration, began: Instant) -> Deadline {
        Deadline::of(began + startup, progress)
    }

    #[test]
    fn a_new_sign_extends_the_deadline_and_a_repeated_one_does_not() {
        let began = Instant::now();
        let second = Duration::from_secs(1);
        let deadline = deadline(10 * second, 5 * second, began);
        let state = |at, key, sign: Option<&str>| DeadlineState {
            at: began + at * second,
            key,
            sign: sign.map(str::to_owned),
        };
        assert_eq!(deadline.state(), state(10, "deploy.startup_timeout", None));
        deadline.note("a", "10%", began + 4 * second);
        assert_eq!(deadline.state(), state(10, "deploy.startup_timeout", Some("a: 10%")));
        deadline.note("a", "20%", began + 8 * second);
        assert_eq!(deadline.state(), state(13, "deploy.progress_timeout", Some("a: 20%")));
        deadline.note("a", "20%", began + 12 * second);
        assert_eq!(deadline.state(), state(13, "deploy.progress_timeout", Some("a: 20%")));
        deadline.note("b", "20%", began + 12 * second);
        assert_eq!(deadline.state(), state(17, "deploy.progress_timeout", Some("b: 20%")));
    }

    #[tokio::test]
    async fn a_probe_is_tried_until_it_succeeds() {
        let mut attempts = 0;
        let deadline = deadline(Duration::from_secs(600), Duration::ZERO, Instant::now());
        let probe = async || {
            attempts += 1;
            if attempts < 3 { Err(format!("attempt {attempts}").into()) } else { Ok(attempts) }
        };
        assert_eq!(deadline.until(probe).await, Ok(3));
    }

    #[tokio::test]
    async fn a_deadline_that_has_passed_leaves_one_probe_and_its_answer() {
        let deadline = deadline(Duration::ZERO, Duration::ZERO, Instant::now());
        let mut attempts = 0;
        let probe = async || {
            attempts += 1;
            Err::<(), _>("no token yet".to_owned().into())
        };
        assert_eq!(deadline.until(probe).await, Err("no token yet".to_owned().into()));
        assert_eq!(attempts, 1);
        let hangs = async || std::future::pending::<Result<(), ProbeFailure>>().await;
        let nothing = "nothing answered in time".to_owned().into();
        assert_eq!(deadline.until(hangs).await, Err(nothing));
    }

    #[tokio::test]
    async fn a_probe_that_hangs_is_told_and_not_only_what_an_earlier_one_missed() {
        let deadline = deadline(Duration::from_millis(100), Duration::ZERO, Instant::now());
        let mut attempts = 0;
        let probe = async || {
            attempts += 1;
            if attempts > 1 {
                std::future::pending::<()>().await;
            }
            Err::<(), _>("connection refused".to_owned().into())
        };
        let Err(ProbeFailure::NotYet(missing)) = deadline.until(probe).await else { panic!("it succeeds") };
        assert!(missing.starts_with("no answer to the last probe within "), "{missing}");
        assert!(missing.ends_with(" s; before it: connection refused"), "{missing}");
    }

    #[tokio::test]
    async fn what_cannot_pass_ends_the_wait_at_once() {
        let deadline = deadline(Duration::from_secs(600), Duration::ZERO, Instant::now());
        let failure = ProbeFailure::Foreign { address: "h:1".into(), process: "pid 7".into() };
        let probe = async || Err::<(), _>(failure.clone());
        assert_eq!(deadline.until(probe).await, Err(failure.clone()));
    }
}
