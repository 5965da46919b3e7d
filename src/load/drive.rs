//! Drives one load point: starts the threads, runs the phases, hands every record to the caller.
//!
//! Each thread drives a share of the load with its own single-threaded runtime, client and connections; threads share only
//! `request_queue` and the channel of finished records, each once a request. In a closed loop every slot takes its next request
//! itself; in an open loop `pace` decides when. When nothing is left to send, the requests in flight are drained or cut.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Barrier;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::client::{self, Client};
use super::clock::Clock;
use super::closed_loop::Slots;
use super::collector::Collector;
use super::conversation::Conversations;
use super::counters::LiveCounters;
use super::health::{self, Monitor, ThreadHealth};
use super::http1;
use super::in_flight::{self, Keep, PhaseContext};
use super::open_loop::open_loop;
use super::pace::{Admission, Gate, Pacer};
use super::ramp::Timeline;
use super::request_queue::RequestQueue;
use super::target::{Target, TargetError};
use super::timers::Timers;
use crate::metrics::record::{Phase, PointRun, RequestRecord};
use crate::plan::{Arrival, AtEnd, Extension, Level, LoadPoint};
use crate::prompts::Prompts;

/// Requests in flight that one thread serves before another is worth its cost: at 50 tokens a second each it reads 25,000
/// events a second, about a quarter of a core, and the fewer threads wake up the more events each wake-up reads.
const SLOTS_PER_THREAD: u32 = 512;

/// Arrivals per second that one thread serves before another is worth its cost: answers of 100 tokens make it read 100,000
/// events a second, most of a core.
const ARRIVALS_PER_THREAD: f64 = 1000.0;

/// The load point could not be started. Once it has started, what goes wrong is in the records.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("load point {id:?} has a concurrency or rate of 0; give at least 1")]
    NoConcurrency { id: String },
    #[error(
        "{needed} open files are needed and the hard limit is {limit}; raise it (ulimit -Hn) or lower the concurrency"
    )]
    Descriptors { needed: u64, limit: u64 },
    #[error("cannot start the driving threads")]
    Start(#[from] std::io::Error),
}

/// How a point is driven beside what it says itself.
#[derive(Clone, Default)]
pub struct Options {
    /// Driving threads; by default as many as the load needs and the machine has.
    pub threads: Option<usize>,
    /// Called once before the first measured request, while nothing is in flight.
    pub before_measuring: Option<Arc<dyn Fn() + Send + Sync>>,
}

/// Runs `point` against `target` and returns when every request has ended.
///
/// Blocks. `sink` is called on this thread with every record as its request ends, warm-up included. Cancelling `stop` cuts what
/// is in flight (recorded as `cancelled`). A server that is gone, or refuses everything, ends the point: [`PointRun::aborted`].
///
/// # Errors
/// [`LoadError`] when the point cannot be started; no request was sent then.
pub fn drive(
    target: &Target,
    point: &LoadPoint,
    prompts: &Arc<Prompts>,
    options: &Options,
    counters: &LiveCounters,
    sink: &mut dyn FnMut(&RequestRecord),
    stop: &CancellationToken,
) -> Result<PointRun, LoadError> {
    let setup = Setup::prepare(target, point, prompts, options, counters, stop)?;
    let mut collector = Collector::new(point.wave(), prompts.tokenizer(), sink);
    let health = std::thread::scope(|scope| {
        let (records, ended) = channel();
        let builder = std::thread::Builder::new().name("prompts".into());
        builder.spawn_scoped(scope, || setup.shared.queues.iter().for_each(|queue| queue.keep_filled()))?;
        setup.shared.monitor.start(scope);
        let mut drivers = Vec::new();
        let start = || {
            let pacers = setup.pacers;
            let pace = std::thread::Builder::new().name("pace".into());
            let pace = pace.spawn_scoped(scope, || pacers.into_iter().for_each(Pacer::run))?;
            for (index, (runtime, client, admissions)) in setup.drivers.into_iter().enumerate() {
                let shared = Arc::clone(&setup.shared);
                let driver = Driver { index, client, shared, records: records.clone(), admissions };
                let thread = std::thread::Builder::new().name(format!("load-{index}"));
                drivers.push(thread.spawn_scoped(scope, move || driver.run(&runtime))?);
            }
            Ok(pace)
        };
        let pace = start().inspect_err(|_: &std::io::Error| setup.shared.shut_down())?;
        drop(records);
        for ended in ended {
            setup.shared.monitor.saw(&ended.record);
            let sent = counters.snapshot().sent;
            if collector.take(ended, sent, setup.shared.clock.now_us()).is_some() {
                setup.shared.halt.cancel();
            }
        }
        if !setup.shared.halt.is_cancelled() {
            // It counts the arrivals that still waited at the end.
            let _ = pace.join();
        }
        let mut health = setup.shared.monitor.close();
        setup.shared.shut_down();
        let threads = drivers.into_iter().filter_map(|driver| driver.join().ok()).collect();
        ThreadHealth::merge(threads, &mut health);
        Ok::<_, LoadError>(health)
    })?;
    counters.enter(None);
    let cut = setup.shared.cut.load(Relaxed);
    let arrivals = setup.gate.map(|gate| gate.arrivals());
    Ok(collector.finish(&setup.shared.clock, health, cut, arrivals))
}

struct Setup {
    drivers: Vec<(Runtime, Client, Admissions)>,
    shared: Arc<Shared>,
    pacers: Vec<Pacer>,
    /// Open loop: the gate of the measured phase.
    gate: Option<Arc<Gate>>,
    _timers: Runtime,
}

/// The admissions of one thread in an open loop, one channel per phase; empty in a closed loop.
type Admissions = VecDeque<UnboundedReceiver<Admission>>;

struct Shared {
    point: Arc<LoadPoint>,
    keep: Keep,
    threads: usize,
    clock: Clock,
    counters: LiveCounters,
    /// The phases that send something, in order.
    queues: Vec<Arc<RequestQueue>>,
    before_measuring: Option<Arc<dyn Fn() + Send + Sync>>,
    /// Threads meet here before each phase: the measured one starts when the last warm-up request has ended.
    meeting: Barrier,
    halt: CancellationToken,
    /// A thread was stopped before its work was done.
    cut: AtomicBool,
    monitor: Monitor,
}

impl Setup {
    fn prepare(
        target: &Target,
        point: &LoadPoint,
        prompts: &Arc<Prompts>,
        options: &Options,
        counters: &LiveCounters,
        stop: &CancellationToken,
    ) -> Result<Self, LoadError> {
        if point.concurrency() == Some(0) || point.request_rate().is_some_and(|rate| rate <= 0.0) {
            return Err(LoadError::NoConcurrency { id: point.id.clone() });
        }
        health::allow_connections(point.concurrency())
            .map_err(|(needed, limit)| LoadError::Descriptors { needed, limit })?;
        let threads = thread_count(point, options.threads);
        let timers =
            Builder::new_multi_thread().worker_threads(1).thread_name("timers").enable_time().build()?;
        let mut drivers = Vec::with_capacity(threads);
        for _ in 0..threads {
            let mut runtime = Builder::new_current_thread();
            runtime.enable_io();
            if target.needs_reqwest() {
                runtime.enable_time();
            }
            let client = Client::new(target, point, Timers(timers.handle().clone()))?;
            drivers.push((runtime.build()?, client, Admissions::new()));
        }
        let (point, model) = (Arc::new(point.clone()), Arc::from(target.model.as_str()));
        let queues: Vec<Arc<RequestQueue>> = [Phase::Warmup, Phase::Measure]
            .into_iter()
            .map(|phase| (Arc::clone(&point), Arc::clone(prompts), Arc::clone(&model), phase))
            .map(|(point, prompts, model, phase)| Arc::new(RequestQueue::new(point, prompts, model, phase)))
            .filter(|queue| queue.total != Some(0))
            .collect();
        if let Some(first) = queues.first() {
            first.prefill();
        }
        let shared = Shared {
            point: Arc::clone(&point),
            keep: match prompts.is_exact() {
                false => Keep::None,
                true if point.left_out.contains(&Extension::StreamOptions) => Keep::All,
                true => Keep::Sample,
            },
            threads,
            clock: Clock::start(),
            counters: counters.clone(),
            queues,
            before_measuring: options.before_measuring.clone(),
            meeting: Barrier::new(threads),
            halt: stop.child_token(),
            cut: AtomicBool::new(false),
            monitor: Monitor::new(target.url("/")?.port_or_known_default()),
        };
        let (mut pacers, mut gate) = (Vec::new(), None);
        for queue in &shared.queues {
            let clock = (shared.clock, counters, &shared.halt);
            let Some((pacer, admissions)) =
                Pacer::new(&point, queue, threads, &shared.arrival_in(queue.phase), clock)
            else {
                break;
            };
            for (driver, admissions) in drivers.iter_mut().zip(admissions) {
                driver.2.push_back(admissions);
            }
            if queue.phase == Phase::Measure {
                gate = Some(Arc::clone(&pacer.gate));
            }
            pacers.push(pacer);
        }
        Ok(Self { drivers, shared: Arc::new(shared), pacers, gate, _timers: timers })
    }
}

impl Shared {
    fn arrival_in(&self, phase: Phase) -> Arrival {
        if phase == Phase::Warmup { self.point.arrival.of_warmup() } else { self.point.arrival.clone() }
    }

    fn shut_down(&self) {
        self.halt.cancel();
        self.monitor.stop();
        self.queues.iter().for_each(|queue| queue.close());
    }
}

/// Driving threads: as `asked`, else one per 512 requests in flight or 1,000 arrivals a second, at most one per core.
fn thread_count(point: &LoadPoint, asked: Option<usize>) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let slots = |count: u32| count.div_ceil(SLOTS_PER_THREAD) as usize;
    let places = point.concurrency().map_or(usize::MAX, slots);
    // `as` saturates.
    let arriving = |rate: f64| (rate / ARRIVALS_PER_THREAD).ceil() as usize;
    let useful = point.request_rate().map_or(places, |rate| arriving(rate).min(places));
    let most = point.concurrency().map_or(usize::MAX, |concurrency| concurrency.max(1) as usize);
    asked.unwrap_or_else(|| useful.min(cores)).clamp(1, most)
}

struct Driver {
    index: usize,
    client: Client,
    shared: Arc<Shared>,
    records: Sender<in_flight::FinishedRequest>,
    admissions: Admissions,
}

impl Driver {
    /// Runs all phases; returns what the thread measured of itself in the measured one.
    fn run(self, runtime: &Runtime) -> ThreadHealth {
        let mut health = ThreadHealth::default();
        runtime.block_on(self.phases(&mut health));
        health.end();
        health.read_delay = http1::take_read_delay();
        health
    }

    async fn phases(self, health: &mut ThreadHealth) {
        let Self { index, client, shared, records, mut admissions } = self;
        let client = Arc::new(client);
        for queue in &shared.queues {
            let phase = queue.phase;
            tokio::select! {
                biased;
                () = shared.halt.cancelled() => {}
                () = client.open_ahead(first_wave(&shared.arrival_in(phase), index, shared.threads)) => {}
            }
            // What was sampled before does not belong to this phase.
            http1::take_read_delay();
            if !meet(&shared, queue).await {
                shared.cut.store(true, Relaxed);
                return;
            }
            let arrival = shared.arrival_in(phase);
            let timeline = arrival.ramp().zip(queue.wait_open());
            let timeline = timeline.map(|(ramp, start)| Arc::new(Timeline::new(ramp, start, &shared.clock)));
            let context = Arc::new(PhaseContext {
                clock: shared.clock,
                phase,
                timeline: timeline.clone(),
                counters: shared.counters.clone(),
                streaming: shared.point.streaming,
                keep: shared.keep,
                records: records.clone(),
            });
            let mut tasks = JoinSet::new();
            let (all_sent, at_end) = (queue.all_taken.clone(), at_end(&shared, phase));
            let conversations =
                Conversations { client: Arc::clone(&client), queue: Arc::clone(queue), context };
            let slots =
                || Slots { thread: index, threads: shared.threads, conversations: conversations.clone() };
            match (&arrival, &timeline) {
                (Arrival::Closed { concurrency: Level::Constant(concurrency) }, _) => {
                    slots().fixed(*concurrency, &mut tasks);
                }
                (Arrival::Closed { concurrency: Level::Ramp(ramp) }, Some(timeline)) => {
                    slots().ramp(timeline, ramp.slots(), &mut tasks);
                }
                _ => {}
            }
            let admissions = admissions.pop_front();
            // Cancelled when this thread has started every admitted request.
            let all_started = CancellationToken::new();
            if admissions.is_none() {
                all_started.cancel();
            }
            if phase == Phase::Measure {
                health.begin();
            }
            let ended = tokio::select! {
                biased;
                () = shared.halt.cancelled() => PhaseEnd::Halted,
                () = open_loop(admissions, &conversations, &mut tasks, &all_started) => PhaseEnd::Done,
                () = cut_time(&all_sent, &all_started, queue.deadline(), at_end, &client.timers) => PhaseEnd::Cut,
                () = close_figures(health, timeline.as_deref(), &shared, &client.timers) => PhaseEnd::Done,
            };
            if ended != PhaseEnd::Done {
                // Dropping a request in flight delivers its record.
                tasks.shutdown().await;
            }
            if ended == PhaseEnd::Halted {
                shared.cut.store(true, Relaxed);
                return;
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PhaseEnd {
    /// Every request ended by itself.
    Done,
    /// The point was stopped from outside or given up.
    Halted,
    /// The planned end cut what was in flight.
    Cut,
}

/// Connections that one thread needs at once when a phase begins: those of its slots. Other loads open theirs one by one.
fn first_wave(arrival: &Arrival, thread: usize, threads: usize) -> usize {
    match arrival {
        Arrival::Closed { concurrency: Level::Constant(concurrency) } => {
            (0..*concurrency).skip(thread).step_by(threads).count()
        }
        _ => 0,
    }
}

/// Closes the figures of this thread when they end before the load does. Never returns.
async fn close_figures(
    health: &mut ThreadHealth,
    timeline: Option<&Timeline>,
    shared: &Shared,
    timers: &Timers,
) {
    if let Some(end) = timeline.and_then(Timeline::figures_end) {
        timers.sleep_until(end).await;
        health.end();
        shared.monitor.end();
    }
    std::future::pending().await
}

/// A warm-up is always drained: what is cut would go on in the server beside the measured window.
fn at_end(shared: &Shared, phase: Phase) -> AtEnd {
    match (phase, shared.point.at_end) {
        (Phase::Warmup, AtEnd::Cut) => AtEnd::default(),
        (_, at_end) => at_end,
    }
}

/// Returns when the requests still in flight are to be cut: `at_end` after the last request was sent or the time was over.
async fn cut_time(
    all_sent: &CancellationToken,
    all_started: &CancellationToken,
    deadline: Option<Instant>,
    at_end: AtEnd,
    timers: &Timers,
) {
    let sent = async {
        all_sent.cancelled().await;
        all_started.cancelled().await;
    };
    match deadline {
        Some(deadline) => tokio::select! {
            () = sent => {}
            () = timers.sleep_until(deadline) => {}
        },
        None => sent.await,
    }
    match at_end {
        AtEnd::Cut => {}
        AtEnd::Drain { limit_s: None } => std::future::pending().await,
        AtEnd::Drain { limit_s: Some(seconds) } => {
            timers.sleep_until(Instant::now() + client::limit(seconds)).await;
        }
    }
}

/// Waits for the other threads; the last one opens the phase. False: the point was stopped.
async fn meet(shared: &Shared, queue: &RequestQueue) -> bool {
    let phase = queue.phase;
    let meeting = async {
        if shared.meeting.wait().await.is_leader() {
            shared.counters.enter(Some(phase));
            if phase == Phase::Measure {
                shared.before_measuring.iter().for_each(|call| call());
                shared.monitor.open();
            }
            queue.open();
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
