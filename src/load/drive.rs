//! Drives one load point: threads, phases, and the way of every record to the caller.
//!
//! One operating-system thread per share of the load, each with its own single-threaded runtime, client and connections; they
//! meet only in the counter of `supply` (once a request) and in the channel of finished records (once a request).
//!
//! A closed loop is `slots`: each takes its next request itself. An open loop is [`open_loop`]: a thread of
//! its own (`pace`) says when, the driving threads send what they are handed. Both end the same way: when nothing is left
//! to send, what is in flight is drained or cut.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};

use tokio::runtime::Runtime;
use tokio::sync::Barrier;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::clock::Clock;
use super::collect::Collector;
use super::flight::{self, Keep, Tower};
use super::health::{self, Monitor, ThreadHealth};
use super::http1;
use super::pace::{Gate, Pacer, Ticket};
use super::progress::Progress;
use super::ramp::Timeline;
use super::redeem::open_loop;
use super::slots::Slots;
use super::supply::Supply;
use super::target::{Target, TargetError};
use super::turns::Line;
use crate::metrics::record::{Phase, PointRun, RequestRecord};
use crate::plan::{Arrival, AtEnd, Extension, Level, LoadPoint};
use crate::prompts::Prompts;

/// Requests in flight that one thread serves before another is worth its cost: at 50 tokens a second each it reads 25,000
/// events a second, about a quarter of a core, and the fewer threads wake up the more events each wake-up reads.
const SLOTS_PER_THREAD: u32 = 512;

/// Arrivals per second that one thread serves before another is worth its cost: answers of 100 tokens make it read 100,000
/// events a second, most of a core.
const ARRIVALS_PER_THREAD: f64 = 1000.0;

/// How the engine itself runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Driving threads; `None`: one per 512 requests in flight or 1,000 arrivals a second, at most one per core.
    pub threads: Option<usize>,
}

/// The load point could not be started. Once it has started, what goes wrong is in the records.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The server's address or headers.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Nothing would be sent.
    #[error("load point {id:?} has a concurrency or rate of 0; give at least 1")]
    NoConcurrency {
        /// The load point.
        id: String,
    },
    /// Too few file descriptors.
    #[error(
        "{needed} open files are needed and the hard limit is {limit}; raise it (ulimit -Hn) or lower the concurrency"
    )]
    Descriptors {
        /// One per request in flight and some more.
        needed: u64,
        /// `RLIMIT_NOFILE`, hard.
        limit: u64,
    },
    /// The operating system refused a thread or a poller.
    #[error("cannot start the driving threads")]
    Start(#[from] std::io::Error),
}

/// Runs `point` against `target` and returns when every request has ended.
///
/// Blocks: from async code call it through `spawn_blocking`. `sink` is called on this thread with every record as its request
/// ends, warm-up included. Cancelling `stop` cuts what is in flight (recorded as `cancelled`) and ends the point soon after.
/// A server that is gone, or refuses everything, ends it too: see [`PointRun::aborted`].
///
/// # Errors
/// [`LoadError`] when the point cannot be started; no request was sent then.
pub fn drive(
    target: &Target,
    point: &LoadPoint,
    prompts: &Arc<Prompts>,
    options: &Options,
    progress: &Progress,
    sink: &mut dyn FnMut(&RequestRecord),
    stop: &CancellationToken,
) -> Result<PointRun, LoadError> {
    let crew = Crew::prepare(target, point, prompts, options, progress, stop)?;
    let mut collector = Collector::new(point.wave(), prompts.tokenizer(), sink);
    let health = std::thread::scope(|scope| {
        let (records, ended) = channel();
        let builder = std::thread::Builder::new().name("prompts".into());
        builder
            .spawn_scoped(scope, || crew.shared.supplies.iter().for_each(|supply| supply.keep_filled()))?;
        crew.shared.monitor.start(scope);
        let (pacers, pace) = (crew.pacers, std::thread::Builder::new().name("pace".into()));
        let pace = match pace.spawn_scoped(scope, || pacers.into_iter().for_each(Pacer::run)) {
            Ok(pace) => pace,
            Err(error) => {
                crew.shared.shut_down();
                return Err(LoadError::Start(error));
            }
        };
        let mut drivers = Vec::new();
        for (index, (runtime, client, tickets)) in crew.drivers.into_iter().enumerate() {
            let shared = Arc::clone(&crew.shared);
            let driver = Driver { index, client, shared, records: records.clone(), tickets };
            let thread = std::thread::Builder::new().name(format!("load-{index}"));
            match thread.spawn_scoped(scope, move || driver.run(&runtime)) {
                Ok(handle) => drivers.push(handle),
                Err(error) => {
                    crew.shared.shut_down();
                    return Err(LoadError::Start(error));
                }
            }
        }
        drop(records);
        for ended in ended {
            crew.shared.monitor.saw(&ended.record);
            if collector.take(ended).is_some() {
                crew.shared.halt.cancel();
            }
        }
        if !crew.shared.halt.is_cancelled() {
            // It counts the arrivals that still waited at the end.
            let _ = pace.join();
        }
        let mut health = crew.shared.monitor.close();
        crew.shared.shut_down();
        let threads = drivers.into_iter().filter_map(|driver| driver.join().ok()).collect();
        ThreadHealth::merge(threads, &mut health);
        Ok(health)
    })?;
    progress.enter(None);
    let cut = crew.shared.cut.load(Relaxed);
    let arrivals = crew.gate.map(|gate| gate.arrivals());
    Ok(collector.finish(&crew.shared.clock, health, cut, arrivals))
}

/// Everything that can fail is made before the first thread starts.
struct Crew {
    drivers: Vec<(Runtime, Client, Tickets)>,
    shared: Arc<Shared>,
    /// Open loop: one a phase.
    pacers: Vec<Pacer>,
    /// Open loop: the gate of the measured phase.
    gate: Option<Arc<Gate>>,
}

/// What one thread is handed in an open loop, phase by phase; empty in a closed one.
type Tickets = VecDeque<UnboundedReceiver<Ticket>>;

/// What the threads of one point have in common.
struct Shared {
    arrival: Arrival,
    at_end: AtEnd,
    streaming: bool,
    keep: Keep,
    threads: usize,
    clock: Clock,
    progress: Progress,
    /// The phases that send something, in order.
    supplies: Vec<Arc<Supply>>,
    /// Threads meet here before each phase: the measured one starts when the last warm-up request has ended.
    meeting: Barrier,
    halt: CancellationToken,
    /// A thread was stopped before its work was done.
    cut: AtomicBool,
    monitor: Monitor,
}

impl Crew {
    fn prepare(
        target: &Target,
        point: &LoadPoint,
        prompts: &Arc<Prompts>,
        options: &Options,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<Self, LoadError> {
        if point.concurrency() == Some(0) || point.request_rate().is_some_and(|rate| rate <= 0.0) {
            return Err(LoadError::NoConcurrency { id: point.id.clone() });
        }
        health::allow_connections(point.concurrency())
            .map_err(|(needed, limit)| LoadError::Descriptors { needed, limit })?;
        let threads = thread_count(point, options);
        let mut drivers = Vec::with_capacity(threads);
        for _ in 0..threads {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            drivers.push((runtime, Client::new(target, point)?, Tickets::new()));
        }
        let (point, model) = (Arc::new(point.clone()), Arc::from(target.model.as_str()));
        let supplies: Vec<Arc<Supply>> = [Phase::Warmup, Phase::Measure]
            .into_iter()
            .map(|phase| (Arc::clone(&point), Arc::clone(prompts), Arc::clone(&model), phase))
            .map(|(point, prompts, model, phase)| Arc::new(Supply::new(point, prompts, model, phase)))
            .filter(|supply| supply.total() != Some(0))
            .collect();
        if let Some(first) = supplies.first() {
            first.prefill();
        }
        let shared = Shared {
            arrival: point.arrival.clone(),
            at_end: point.at_end,
            streaming: point.streaming,
            keep: match prompts.is_exact() {
                false => Keep::None,
                true if point.left_out.contains(&Extension::StreamOptions) => Keep::All,
                true => Keep::Sample,
            },
            threads,
            clock: Clock::start(),
            progress: progress.clone(),
            supplies,
            meeting: Barrier::new(threads),
            halt: stop.child_token(),
            cut: AtomicBool::new(false),
            monitor: Monitor::new(target.url("/")?.port_or_known_default()),
        };
        let (mut pacers, mut gate) = (Vec::new(), None);
        for supply in &shared.supplies {
            let clock = (shared.clock, progress, &shared.halt);
            let Some((pacer, tickets)) = Pacer::new(&point, supply, threads, clock) else { break };
            for (driver, tickets) in drivers.iter_mut().zip(tickets) {
                driver.2.push_back(tickets);
            }
            if supply.phase() == Phase::Measure {
                gate = Some(pacer.gate());
            }
            pacers.push(pacer);
        }
        Ok(Self { drivers, shared: Arc::new(shared), pacers, gate })
    }
}

impl Shared {
    fn arrival_in(&self, phase: Phase) -> Arrival {
        if phase == Phase::Warmup { self.arrival.of_warmup() } else { self.arrival.clone() }
    }

    /// Ends every thread that still waits or builds.
    fn shut_down(&self) {
        self.halt.cancel();
        self.monitor.stop();
        self.supplies.iter().for_each(|supply| supply.close());
    }
}

fn thread_count(point: &LoadPoint, options: &Options) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let slots = |count: u32| count.div_ceil(SLOTS_PER_THREAD) as usize;
    let places = point.concurrency().map_or(usize::MAX, slots);
    // `as` saturates.
    let arriving = |rate: f64| (rate / ARRIVALS_PER_THREAD).ceil() as usize;
    let useful = point.request_rate().map_or(places, |rate| arriving(rate).min(places));
    let most = point.concurrency().map_or(usize::MAX, |concurrency| concurrency.max(1) as usize);
    options.threads.unwrap_or_else(|| useful.min(cores)).clamp(1, most)
}

/// One driving thread.
struct Driver {
    index: usize,
    client: Client,
    shared: Arc<Shared>,
    records: Sender<flight::Ended>,
    tickets: Tickets,
}

impl Driver {
    /// Goes through the phases; gives what the thread measured of itself in the measured one.
    fn run(self, runtime: &Runtime) -> ThreadHealth {
        let mut health = ThreadHealth::default();
        runtime.block_on(self.phases(&mut health));
        health.end();
        health.read_delay = http1::take_read_delay();
        health
    }

    async fn phases(self, health: &mut ThreadHealth) {
        let Self { index, client, shared, records, mut tickets } = self;
        let client = Arc::new(client);
        for supply in &shared.supplies {
            let phase = supply.phase();
            tokio::select! {
                biased;
                () = shared.halt.cancelled() => {}
                () = client.open_ahead(first_wave(&shared.arrival_in(phase), index, shared.threads)) => {}
            }
            // What was sampled before does not belong to this phase.
            http1::take_read_delay();
            if !meet(&shared, supply).await {
                shared.cut.store(true, Relaxed);
                return;
            }
            let arrival = shared.arrival_in(phase);
            let timeline = arrival.ramp().zip(supply.wait_open());
            let timeline = timeline.map(|(ramp, start)| Arc::new(Timeline::new(ramp, start, &shared.clock)));
            let tower = Arc::new(Tower {
                clock: shared.clock,
                phase,
                timeline: timeline.clone(),
                progress: shared.progress.clone(),
                streaming: shared.streaming,
                keep: shared.keep,
                records: records.clone(),
            });
            let mut flights = JoinSet::new();
            let (all_sent, at_end) = (supply.all_out().clone(), at_end(&shared, phase));
            let line = Line { client: Arc::clone(&client), supply: Arc::clone(supply), tower };
            let slots = || Slots { thread: index, threads: shared.threads, line: line.clone() };
            match (&arrival, &timeline) {
                (Arrival::Closed { concurrency: Level::Constant(concurrency) }, _) => {
                    slots().fixed(*concurrency, &mut flights);
                }
                (Arrival::Closed { concurrency: Level::Ramp(ramp) }, Some(timeline)) => {
                    slots().ramp(timeline, ramp.slots(), &mut flights);
                }
                _ => {}
            }
            let tickets = tickets.pop_front();
            // Until every ticket was redeemed, sending goes on for this thread.
            let redeemed = CancellationToken::new();
            if tickets.is_none() {
                redeemed.cancel();
            }
            let ended = tokio::select! {
                biased;
                () = shared.halt.cancelled() => Ended::Halted,
                () = open_loop(tickets, &line, &mut flights, &redeemed) => Ended::Done,
                () = end_of_patience(&all_sent, &redeemed, supply.deadline(), at_end) => Ended::Cut,
                () = sample(health, timeline.as_deref(), &shared), if phase == Phase::Measure => Ended::Done,
            };
            if ended != Ended::Done {
                // Dropping a flight delivers its record.
                flights.shutdown().await;
            }
            if ended == Ended::Halted {
                shared.cut.store(true, Relaxed);
                return;
            }
        }
    }
}

/// How a phase ended on one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Every request ended by itself.
    Done,
    /// The point was stopped from outside or given up.
    Halted,
    /// The planned end cut what was in flight.
    Cut,
}

/// Connections that one thread needs at once when a phase begins: its slots of a fixed concurrency. Other loads grow into
/// theirs.
fn first_wave(arrival: &Arrival, thread: usize, threads: usize) -> usize {
    match arrival {
        Arrival::Closed { concurrency: Level::Constant(concurrency) } => {
            (0..*concurrency).skip(thread).step_by(threads).count()
        }
        _ => 0,
    }
}

/// Samples this thread while the figures are made, and closes them when they end before the load does. Never returns.
async fn sample(health: &mut ThreadHealth, timeline: Option<&Timeline>, shared: &Shared) {
    let Some(end) = timeline.and_then(Timeline::figures_end) else { return health.sample().await };
    tokio::select! {
        () = health.sample() => {}
        () = tokio::time::sleep_until(end.into()) => {}
    }
    health.end();
    shared.monitor.end();
    std::future::pending().await
}

/// A warm-up is always drained: what is cut would go on in the server beside the measured window.
fn at_end(shared: &Shared, phase: Phase) -> AtEnd {
    match (phase, shared.at_end) {
        (Phase::Warmup, AtEnd::Cut) => AtEnd::default(),
        (_, at_end) => at_end,
    }
}

/// Returns when what is still in flight is to be cut: `at_end` after the last request was sent or the time was over.
async fn end_of_patience(
    all_sent: &CancellationToken,
    redeemed: &CancellationToken,
    deadline: Option<std::time::Instant>,
    at_end: AtEnd,
) {
    let sent = async {
        all_sent.cancelled().await;
        redeemed.cancelled().await;
    };
    match deadline {
        Some(deadline) => tokio::select! {
            () = sent => {}
            () = tokio::time::sleep_until(deadline.into()) => {}
        },
        None => sent.await,
    }
    match at_end {
        AtEnd::Cut => {}
        AtEnd::Drain { limit_s: None } => std::future::pending().await,
        AtEnd::Drain { limit_s: Some(seconds) } => {
            let limit = std::time::Duration::try_from_secs_f64(seconds);
            tokio::time::sleep(limit.unwrap_or(std::time::Duration::MAX)).await;
        }
    }
}

/// Waits for the other threads; the last one to come opens the phase. False: the point was stopped.
async fn meet(shared: &Shared, supply: &Supply) -> bool {
    let phase = supply.phase();
    let meeting = async {
        if shared.meeting.wait().await.is_leader() {
            shared.progress.enter(Some(phase));
            if phase == Phase::Measure {
                shared.monitor.open();
            }
            supply.open();
        }
        // Nobody sends before the leader is done.
        shared.meeting.wait().await;
    };
    tokio::select! {
        biased;
        () = shared.halt.cancelled() => false,
        () = meeting => true,
    }
}
