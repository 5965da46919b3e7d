//! What a signal interrupted, in words: the time limit or another reason, and what the run was doing.

use std::path::Path;

use crate::deploy::log;
use crate::experiment::Event;
use crate::run::RunError;

/// Slurm warns this long before the time limit ([`crate::planner`]), and looks at limits once a minute: seconds.
const WARNED_BEFORE_S: i64 = 120 + 60;
/// Lines of each server's log that are shown.
const LINES: usize = 8;

/// What a run does, by its events.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Activity {
    doing: Doing,
    /// Logs of the servers that are starting, in `server_logs`.
    logs: Vec<String>,
    /// The signal that ended it. What follows is no longer what was interrupted.
    signal: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
enum Doing {
    #[default]
    Other,
    Starting {
        /// What was waited for, and for how long.
        waiting: Option<(String, f64)>,
    },
    Measuring {
        point: String,
    },
}

/// The limit of the job's time, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limit {
    /// The job's time limit, seconds.
    pub(super) limit_s: u64,
    /// Seconds until it, when the run has ended.
    pub(super) left_s: i64,
}

impl Activity {
    pub(super) fn see(&mut self, event: &Event) {
        if self.signal.is_some() {
            return;
        }
        match event {
            Event::Deploying { .. } => {
                (self.doing, self.logs) = (Doing::Starting { waiting: None }, Vec::new());
            }
            Event::ProcessStarted { log, .. } => self.logs.push(log.clone()),
            Event::Waiting { what, seconds, .. } => {
                self.doing = Doing::Starting { waiting: Some((what.clone(), *seconds)) };
            }
            Event::PointStarted { point, .. } => self.doing = Doing::Measuring { point: point.clone() },
            Event::Ready { .. } | Event::PointFinished { .. } | Event::Stopping { .. } => {
                self.doing = Doing::Other
            }
            Event::Interrupted { signal } => self.signal = Some(signal.clone()),
            _ => {}
        }
    }

    /// `the time limit of 00:10:00 was reached while the servers were starting`, with the ends of their logs.
    pub(super) fn told(&self, limit: Option<Limit>, server_logs: &Path) -> RunError {
        let Some(signal) = &self.signal else { return RunError::Interrupted };
        let is_near = |limit: &Limit| signal.starts_with("SIGUSR1") && limit.left_s <= WARNED_BEFORE_S;
        let cause = match limit.filter(is_near) {
            Some(Limit { limit_s, .. }) => format!("the time limit of {} was reached", clock(limit_s)),
            None => format!("interrupted by {signal}"),
        };
        let (doing, logs) = match &self.doing {
            Doing::Other => (String::new(), String::new()),
            Doing::Measuring { point } => (format!(" while {point} was measured"), String::new()),
            Doing::Starting { waiting } => {
                let waiting = waiting.as_ref().map_or_else(String::new, |(what, seconds)| {
                    format!(" ({seconds:.0} s; waiting: {what})")
                });
                (format!(" while the servers were starting{waiting}"), self.excerpts(server_logs))
            }
        };
        RunError::InterruptedWhile { cause: format!("{cause}{doing}"), logs }
    }

    /// The ends of the logs of the servers that were starting.
    fn excerpts(&self, server_logs: &Path) -> String {
        let texts = self.logs.iter().map(|name| (name, log::tail(&server_logs.join(name), LINES)));
        let texts = texts.filter(|(_, text)| !text.is_empty());
        let excerpt = |(name, text): (&String, String)| {
            let lines: String = text.lines().map(|line| format!("\n  | {line}")).collect();
            format!("\n  server_logs/{name}:{lines}")
        };
        texts.map(excerpt).collect()
    }
}

/// `01:30:00`
fn clock(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(events: &[Event]) -> Activity {
        let mut activity = Activity::default();
        events.iter().for_each(|event| activity.see(event));
        activity
    }

    fn warned() -> Event {
        Event::Interrupted { signal: "SIGUSR1 (the time limit is near, or tokmark jobs cancel)".into() }
    }

    fn deploying() -> Event {
        Event::Deploying { deployment: String::new(), number: 1, of: 1 }
    }

    fn waiting() -> Event {
        Event::Waiting {
            what: "http://n1:8000/health: connection refused".into(),
            seconds: 41.6,
            at_most: 600.0,
        }
    }

    fn cause(error: RunError) -> String {
        match error {
            RunError::InterruptedWhile { cause, .. } => cause,
            _ => String::new(),
        }
    }

    const NEAR: Option<Limit> = Some(Limit { limit_s: 600, left_s: 118 });

    #[test]
    fn the_time_limit_is_named_with_what_it_interrupted() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("server-0.log"), "loading\nloading shard 3 of 7\n").unwrap();
        let started = Event::ProcessStarted {
            process: "server-0".into(),
            host: "n1".into(),
            pid: 7,
            started: None,
            log: "server-0.log".into(),
        };
        let told = after(&[deploying(), started, waiting(), warned()]).told(NEAR, folder.path());
        assert_eq!(
            told.to_string(),
            "the time limit of 00:10:00 was reached while the servers were starting (42 s; waiting: http://n1:8000/health: \
             connection refused); what was measured until then is kept\n  server_logs/server-0.log:\n  | loading\n  \
             | loading shard 3 of 7"
        );
        let point = Event::PointStarted { point: "con8".into(), number: 2, of: 3 };
        let measuring = after(&[deploying(), waiting(), point, warned()]).told(NEAR, folder.path());
        assert_eq!(cause(measuring), "the time limit of 00:10:00 was reached while con8 was measured");
    }

    #[test]
    fn another_signal_is_not_taken_for_the_time_limit() {
        let told = |events: &[Event], limit| cause(after(events).told(limit, Path::new("/nowhere")));
        let term = Event::Interrupted { signal: "SIGTERM".into() };
        assert_eq!(told(&[term], NEAR), "interrupted by SIGTERM");
        // `jobs cancel` sends the same signal as the time limit does, long before it.
        let early = Some(Limit { left_s: 400, ..NEAR.unwrap() });
        assert_eq!(
            told(&[deploying(), warned()], early),
            "interrupted by SIGUSR1 (the time limit is near, or tokmark jobs cancel) while the servers were starting"
        );
        assert_eq!(told(&[deploying()], NEAR), "", "no signal");
        // What happens after the signal is not what it interrupted.
        let point = Event::PointStarted { point: "con8".into(), number: 2, of: 3 };
        assert!(told(&[point, warned(), deploying()], NEAR).ends_with("while con8 was measured"));
    }
}
