//! Every event of a run reaches one task through one channel, and one pure function decides what follows.
//!
//! ```text
//! signals ──┐
//! watchers ─┼─ Notice ─▶ Supervisor ─▶ State::decide ─▶ Action: abandon the work, cut the load, kill the servers, set a timer
//! timers ───┘
//! ```
//!
//! `deployments` passes each piece of work to [`Supervisor::during`], which watches until it is done or abandoned.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use super::RunError;
use super::point::{Cut, LoadEnd};
use super::signals::{Signal, Signals};
use crate::deploy::{self, DeployError, Remedy, Report};
use crate::experiment::{Event, EventLog};

#[derive(Debug)]
pub(super) enum Notice {
    Signal(Signal),
    /// A watcher reported about servers started in this attempt.
    Server(u32, deploy::Notice),
    /// A load ended by itself or because it was cut.
    LoadEnded(LoadEnd),
    /// The servers of a deployment, or of the whole run, are stopped.
    ServersStopped {
        /// Whether they failed.
        failed: bool,
    },
    Timer(Timer),
}

/// What a timer limits the wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The reason why connections were lost or servers failed.
    Reason,
    /// The end of the servers after Slurm has ended the whole job.
    Servers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Activity {
    /// Nothing that could be abandoned.
    #[default]
    Between,
    /// Work that can be abandoned at any moment: checks, images, ports, starting servers.
    Preparing,
    /// A load is running; after a cut it ends by itself soon.
    Measuring,
    Writing,
    /// A load lost connections or servers failed, and the reason is still unknown.
    AwaitingReason,
    Stopping,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    Emit(Event),
    Abandon,
    CutLoad,
    KillServers,
    /// Set a timer, in place of an earlier one of its kind.
    Wait(Timer, Duration),
}

/// What follows on a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The same servers start once more; measured points are kept.
    Restart,
    /// The deployment is given up, and the next one starts.
    GiveUp,
    End,
}

/// Grace for the servers once Slurm ends the job. Slurm kills what is left after KillWait (30 s by default, shorter on many
/// sites), and the end must be recorded before that.
const GRACE_OF_CANCELLED_JOB: Duration = Duration::from_secs(2);

/// Slurm signals the steps of a job that it ends, and the job's script a moment later.
const SIGNAL_AFTER_STEPS: Duration = Duration::from_secs(1);

/// A server's end or Slurm's signal becomes known soon after its connections broke.
const END_AFTER_LOST_CONNECTIONS: Duration = Duration::from_secs(3);

/// A dying server closes its port some time before it ends.
const END_AFTER_CLOSED_PORT: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct State {
    in_job: bool,
    activity: Activity,
    /// Number of the current start of servers; reports of earlier ones are ignored.
    attempt: u32,
    has_servers: bool,
    /// Its servers have generated a token.
    was_ready: bool,
    /// The current deployment has had its second start.
    restarted: bool,
    signalled: bool,
    /// How the first server failed, unless a signal came first.
    death: Option<DeployError>,
}

impl State {
    /// Records what happened and decides what to do. The first cause counts: a server's death after a signal changes nothing.
    pub(super) fn decide(&mut self, notice: Notice) -> Vec<Action> {
        match notice {
            Notice::Signal(signal) => self.signal(signal),
            Notice::Server(attempt, deploy::Notice::Fatal(error)) => self.server_failed(attempt, *error),
            Notice::Server(_, deploy::Notice::Suspected { process, line, advice }) => {
                vec![Action::Emit(Event::Suspected { process, line, advice })]
            }
            Notice::Server(attempt, deploy::Notice::Ended { process, status, error }) => {
                let expected = self.activity == Activity::Stopping || attempt != self.attempt;
                let event = Event::ProcessEnded { process, status, expected };
                let failed = error.map(|error| self.server_failed(attempt, *error)).unwrap_or_default();
                std::iter::once(Action::Emit(event)).chain(failed).collect()
            }
            Notice::LoadEnded(end) => {
                let explained = end.is_whole() || self.is_over();
                let can_be_explained = self.has_servers || self.in_job;
                let patience =
                    if end.unreachable { END_AFTER_CLOSED_PORT } else { END_AFTER_LOST_CONNECTIONS };
                self.await_reason((!explained && can_be_explained).then_some(patience))
            }
            Notice::ServersStopped { failed } => {
                let may_be_slurm = failed && self.in_job && !self.signalled;
                self.await_reason(may_be_slurm.then_some(SIGNAL_AFTER_STEPS))
            }
            Notice::Timer(Timer::Reason) => match self.activity {
                Activity::AwaitingReason => vec![Action::Abandon],
                _ => Vec::new(),
            },
            Notice::Timer(Timer::Servers) => vec![Action::KillServers],
        }
    }

    fn signal(&mut self, signal: Signal) -> Vec<Action> {
        let again = std::mem::replace(&mut self.signalled, true);
        let mut actions = vec![Action::Emit(Event::Interrupted { signal: signal.to_string() })];
        let is_terminated = matches!(signal, Signal::Terminate | Signal::Hangup | Signal::Quit);
        if self.in_job && is_terminated {
            actions.push(Action::Wait(Timer::Servers, GRACE_OF_CANCELLED_JOB));
        } else if again && signal != Signal::TimeLimit {
            actions.push(Action::KillServers);
            if !self.has_servers && self.activity == Activity::Writing {
                actions.push(Action::Abandon);
            }
        }
        actions.extend(self.end_of_activity());
        actions
    }

    fn server_failed(&mut self, attempt: u32, error: DeployError) -> Vec<Action> {
        if attempt != self.attempt || self.activity == Activity::Stopping || self.is_over() {
            return Vec::new();
        }
        self.death = Some(error);
        self.end_of_activity().into_iter().collect()
    }

    fn end_of_activity(&self) -> Option<Action> {
        match self.activity {
            Activity::Preparing | Activity::AwaitingReason => Some(Action::Abandon),
            Activity::Measuring => Some(Action::CutLoad),
            Activity::Between | Activity::Writing | Activity::Stopping => None,
        }
    }

    fn await_reason(&mut self, patience: Option<Duration>) -> Vec<Action> {
        self.activity = if patience.is_some() { Activity::AwaitingReason } else { Activity::Between };
        patience.map(|patience| Action::Wait(Timer::Reason, patience)).into_iter().collect()
    }

    fn is_over(&self) -> bool {
        self.signalled || self.death.is_some()
    }

    /// Starts an activity unless the run is over. Stopping servers and writing results always start.
    fn begin(&mut self, activity: Activity) -> bool {
        let may = !self.is_over() || matches!(activity, Activity::Stopping | Activity::Writing);
        if may {
            self.activity = activity;
            self.was_ready |= activity == Activity::Measuring;
        }
        may
    }

    /// What follows on a failure of the current deployment, whose servers are stopped. A server gets one new start, if that may help.
    fn next(&mut self, failure: &RunError) -> Next {
        let RunError::Deploy(error) = failure else { return Next::End };
        match error.remedy(self.was_ready) {
            _ if self.signalled => Next::End,
            Remedy::Nothing => Next::End,
            Remedy::OtherDeployment => Next::GiveUp,
            Remedy::AnotherStart if !self.has_servers => Next::GiveUp,
            Remedy::AnotherStart if std::mem::replace(&mut self.restarted, true) => Next::GiveUp,
            Remedy::AnotherStart => Next::Restart,
        }
    }

    /// What cut a load short, if anything did.
    fn cut(&self, end: LoadEnd) -> Option<Cut> {
        match (end.is_whole(), &self.death) {
            (true, _) => None,
            (false, Some(_)) => Some(Cut::ServerDied),
            (false, None) if self.signalled => Some(Cut::Interrupted),
            (false, None) => end.unreachable.then_some(Cut::Unreachable),
        }
    }

    fn failure(&mut self) -> RunError {
        match self.death.take() {
            Some(error) if !self.signalled => RunError::Deploy(error),
            _ => RunError::Interrupted,
        }
    }
}

/// The task that watches a run.
pub(super) struct Supervisor {
    state: State,
    sender: UnboundedSender<Notice>,
    notices: UnboundedReceiver<Notice>,
    timers: BTreeMap<Timer, Instant>,
    events: Arc<EventLog>,
    load: CancellationToken,
    /// Cancelled to kill the servers instead of waiting for them.
    pub(super) hurry: CancellationToken,
}

impl Supervisor {
    pub(super) fn new(in_job: bool, events: Arc<EventLog>) -> Self {
        let (sender, notices) = unbounded_channel();
        let state = State { in_job, ..State::default() };
        let (load, hurry) = (CancellationToken::new(), CancellationToken::new());
        Self { state, sender, notices, timers: BTreeMap::new(), events, load, hurry }
    }

    /// Forwards signals until the returned task is aborted.
    pub(super) fn forward(&self, mut signals: Signals) -> tokio::task::JoinHandle<()> {
        let sender = self.sender.clone();
        tokio::spawn(async move { while sender.send(Notice::Signal(signals.next().await)).is_ok() {} })
    }

    /// Another deployment begins.
    pub(super) fn new_deployment(&mut self) {
        self.state.restarted = false;
    }

    /// A report channel for the watchers of a new start.
    pub(super) fn new_attempt(&mut self, has_servers: bool) -> Report {
        self.state.attempt += 1;
        self.state.has_servers = has_servers;
        self.state.was_ready = false;
        let (attempt, sender) = (self.state.attempt, self.sender.clone());
        Arc::new(move |notice| drop(sender.send(Notice::Server(attempt, notice))))
    }

    /// The token that cuts the next load.
    pub(super) fn new_load(&mut self) -> CancellationToken {
        self.load = CancellationToken::new();
        self.load.clone()
    }

    /// Runs a piece of work while watching. Returns its error, or the reason why it was not started or was abandoned.
    pub(super) async fn during<T, E: Into<RunError>>(
        &mut self,
        activity: Activity,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, RunError> {
        match self.watch(activity, work).await {
            Some(done) => done.map_err(Into::into),
            None => Err(self.state.failure()),
        }
    }

    /// Stops servers while watching; ignores later reports of their watchers. A death that cut nothing short is forgotten.
    pub(super) async fn stopping<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let done = self.watch(Activity::Stopping, work).await;
        self.state.attempt += 1;
        self.state.death = None;
        done
    }

    async fn watch<T>(&mut self, activity: Activity, work: impl Future<Output = T>) -> Option<T> {
        self.catch_up();
        if !self.state.begin(activity) {
            return None;
        }
        tokio::pin!(work);
        let done = loop {
            tokio::select! {
                biased;
                notice = next(&mut self.notices, &mut self.timers) => {
                    if self.handle(notice) {
                        break None;
                    }
                }
                done = &mut work => break Some(done),
            }
        };
        self.catch_up();
        self.state.activity = Activity::Between;
        done
    }

    pub(super) fn is_interrupted(&mut self) -> bool {
        self.catch_up();
        self.state.signalled
    }

    /// Whether a signal arrived or a server died.
    pub(super) fn is_over(&mut self) -> bool {
        self.catch_up();
        self.state.is_over()
    }

    /// What cut the load that ended. After lost connections, waits briefly for the reason.
    pub(super) async fn cut(&mut self, end: LoadEnd) -> Option<Cut> {
        self.settle(Notice::LoadEnded(end)).await;
        self.state.cut(end)
    }

    /// How the first server failed, in one line.
    pub(super) fn death(&self) -> Option<String> {
        let text = self.state.death.as_ref()?.to_string();
        text.lines().next().map(str::to_owned)
    }

    /// Why the run must end after a load was cut; `gone` describes an endpoint that closed its port.
    pub(super) fn failure_after(&mut self, cut: Cut, gone: impl FnOnce() -> DeployError) -> RunError {
        match cut {
            Cut::Unreachable => RunError::Deploy(self.state.death.take().unwrap_or_else(gone)),
            Cut::ServerDied | Cut::Interrupted => self.state.failure(),
        }
    }

    /// The failure once the servers are stopped. If a signal arrived too, it explains why servers failed.
    pub(super) async fn conclude(&mut self, failure: RunError) -> RunError {
        let failed = matches!(failure, RunError::Deploy(_));
        self.settle(Notice::ServersStopped { failed }).await;
        if failed && self.is_interrupted() { RunError::Interrupted } else { failure }
    }

    /// What follows on a failure of the current deployment, once its servers are stopped.
    pub(super) fn next(&mut self, failure: &RunError) -> Next {
        self.state.next(failure)
    }

    /// Reports an event and waits for the reason as long as one is pending.
    async fn settle(&mut self, notice: Notice) {
        self.catch_up();
        self.handle(notice);
        while self.state.activity == Activity::AwaitingReason {
            let notice = next(&mut self.notices, &mut self.timers).await;
            if self.handle(notice) {
                self.state.activity = Activity::Between;
            }
        }
        self.timers.remove(&Timer::Reason);
    }

    fn catch_up(&mut self) {
        while let Ok(notice) = self.notices.try_recv() {
            self.handle(notice);
        }
    }

    /// Decides and acts. Returns whether the current work is abandoned.
    fn handle(&mut self, notice: Notice) -> bool {
        let mut abandoned = false;
        for action in self.state.decide(notice) {
            match action {
                Action::Emit(event) => self.events.emit(event),
                Action::Abandon => abandoned = true,
                Action::CutLoad => self.load.cancel(),
                Action::KillServers => self.hurry.cancel(),
                Action::Wait(timer, patience) => {
                    self.timers.insert(timer, Instant::now() + patience);
                }
            }
        }
        abandoned
    }
}

async fn next(notices: &mut UnboundedReceiver<Notice>, timers: &mut BTreeMap<Timer, Instant>) -> Notice {
    let first = timers.iter().min_by_key(|(_, at)| **at).map(|(timer, at)| (*timer, *at));
    let ring = async {
        match first {
            Some((timer, at)) => {
                tokio::time::sleep_until(at.into()).await;
                timer
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        Some(notice) = notices.recv() => notice,
        timer = ring => {
            timers.remove(&timer);
            Notice::Timer(timer)
        }
    }
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
