//! The signals that end this process, shared by every verb.

use std::fmt;
use std::future::poll_fn;
use std::task::Poll;

use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM: `scancel`, `tokmark jobs cancel`, a shutdown.
    Terminate,
    /// SIGHUP: the terminal closed. Treated as SIGTERM.
    Hangup,
    /// SIGQUIT: Ctrl-\\. Treated as SIGTERM.
    Quit,
    /// SIGUSR1: Slurm warns that the time limit is near, or `tokmark jobs cancel` of a job with containers.
    TimeLimit,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::Hangup => "SIGHUP",
            Self::Quit => "SIGQUIT",
            Self::TimeLimit => "SIGUSR1 (the time limit is near, or tokmark jobs cancel)",
        })
    }
}

/// Listens for [`Signal`]s until dropped.
#[derive(Debug)]
pub struct Signals(Vec<(Signal, tokio::signal::unix::Signal)>);

impl Signals {
    /// Starts listening; needs a runtime. Under `nohup` SIGHUP stays ignored.
    pub fn listen() -> std::io::Result<Self> {
        let kinds = [
            (Signal::Interrupt, SignalKind::interrupt()),
            (Signal::Terminate, SignalKind::terminate()),
            (Signal::Hangup, SignalKind::hangup()),
            (Signal::Quit, SignalKind::quit()),
            (Signal::TimeLimit, SignalKind::user_defined1()),
        ];
        let heard = kinds.into_iter().filter(|(name, kind)| *name != Signal::Hangup || !is_ignored(*kind));
        let listening = heard.map(|(name, kind)| Ok((name, signal(kind)?)));
        listening.collect::<std::io::Result<_>>().map(Self)
    }

    pub async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            // Poll all of them until one is ready, so that each can wake this task.
            let mut arrived = self
                .0
                .iter_mut()
                .filter_map(|(name, stream)| stream.poll_recv(context).is_ready().then_some(*name));
            arrived.next().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Waits for the first signal. A second one ends this process at once.
    pub async fn first(mut self) -> Signal {
        let first = self.next().await;
        tokio::spawn(async move {
            self.next().await;
            // 130 is what a shell reports after SIGINT.
            std::process::exit(128 + SignalKind::interrupt().as_raw_value());
        });
        first
    }
}

/// Whether this process was started with a signal ignored. Source: `SigIgn` of proc_pid_status(5).
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or_default();
    mask >> (kind.as_raw_value() - 1) & 1 == 1
}
