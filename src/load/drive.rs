//! Drives one load point: threads, phases, and the way of every record to the caller.
//!
//! Arrow: `plan::LoadPoint` → here → `metrics::record::PointRun`. One operating-system thread per share of the load, each with
//! its own single-threaded runtime, client and connections; they meet only in the counter of `supply` (once a request)
//! and in the channel of finished records (once a request).
//!
//! The closed loop is [`closed_loop`]; other arrivals will be siblings of it that call the same `exchange`.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};

use tokio::runtime::Runtime;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::clock::Clock;
use super::collect::Collector;
use super::flight::{Flight, Tower};
use super::health::{self, LoopLag};
use super::progress::Progress;
use super::supply::Supply;
use super::target::{Target, TargetError};
use crate::metrics::record::{ClientHealth, Phase, PointRun, RequestRecord};
use crate::plan::{Arrival, LoadPoint};

/// Requests in flight that one thread serves before another is worth its cost.
const SLOTS_PER_THREAD: u32 = 64;

/// How the engine itself runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Driving threads; `None`: one per 64 requests in flight, at most one per core.
    pub threads: Option<usize>,
}

/// The load point could not be started. Once it has started, what goes wrong is in the records.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The server's address or headers.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Nothing would be sent.
    #[error("load point {id:?} has a concurrency of 0; give at least 1")]
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
    options: &Options,
    progress: &Progress,
    sink: &mut dyn FnMut(&RequestRecord),
    stop: &CancellationToken,
) -> Result<PointRun, LoadError> {
    let crew = Crew::prepare(target, point, options, progress, stop)?;
    let mut collector = Collector::new(point.concurrency(), sink);
    let health = std::thread::scope(|scope| {
        let (records, ended) = channel();
        let builder = std::thread::Builder::new().name("prompts".into());
        builder
            .spawn_scoped(scope, || crew.shared.supplies.iter().for_each(|supply| supply.keep_filled()))?;
        let mut drivers = Vec::new();
        for (index, (runtime, client)) in crew.drivers.into_iter().enumerate() {
            let driver = Driver { index, client, shared: Arc::clone(&crew.shared), records: records.clone() };
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
        for record in ended {
            if collector.take(record).is_some() {
                crew.shared.halt.cancel();
            }
        }
        let cpu_s = health::cpu_s() - crew.shared.cpu_at_start.get().copied().unwrap_or_else(health::cpu_s);
        crew.shared.shut_down();
        let threads = u32::try_from(drivers.len()).unwrap_or(u32::MAX);
        let loop_lag_us = drivers.into_iter().filter_map(|driver| driver.join().ok()).flatten().collect();
        Ok(ClientHealth { cpu_s, threads, max_rss_mib: health::max_rss_mib(), loop_lag_us })
    })?;
    progress.enter(None);
    let cut = crew.shared.cut.load(Relaxed);
    Ok(collector.finish(&crew.shared.clock, health, cut))
}

/// Everything that can fail is made before the first thread starts.
struct Crew {
    drivers: Vec<(Runtime, Client)>,
    shared: Arc<Shared>,
}

/// What the threads of one point have in common.
struct Shared {
    arrival: Arrival,
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
    cpu_at_start: OnceLock<f64>,
}

impl Crew {
    fn prepare(
        target: &Target,
        point: &LoadPoint,
        options: &Options,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<Self, LoadError> {
        let concurrency = point.concurrency();
        if concurrency == 0 {
            return Err(LoadError::NoConcurrency { id: point.id.clone() });
        }
        health::allow_connections(concurrency)
            .map_err(|(needed, limit)| LoadError::Descriptors { needed, limit })?;
        let threads = thread_count(concurrency, options);
        let mut drivers = Vec::with_capacity(threads);
        for _ in 0..threads {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            drivers.push((runtime, Client::new(target, point)?));
        }
        let (point, model) = (Arc::new(point.clone()), Arc::from(target.model.as_str()));
        let supplies: Vec<Arc<Supply>> = [Phase::Warmup, Phase::Measure]
            .into_iter()
            .map(|phase| Arc::new(Supply::new(Arc::clone(&point), Arc::clone(&model), phase)))
            .filter(|supply| supply.total() != Some(0))
            .collect();
        if let Some(first) = supplies.first() {
            first.prefill();
        }
        let shared = Shared {
            arrival: point.arrival,
            threads,
            clock: Clock::start(),
            progress: progress.clone(),
            supplies,
            meeting: Barrier::new(threads),
            halt: stop.child_token(),
            cut: AtomicBool::new(false),
            cpu_at_start: OnceLock::new(),
        };
        Ok(Self { drivers, shared: Arc::new(shared) })
    }
}

impl Shared {
    /// Ends every thread that still waits or builds.
    fn shut_down(&self) {
        self.halt.cancel();
        self.supplies.iter().for_each(|supply| supply.close());
    }
}

fn thread_count(concurrency: u32, options: &Options) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let useful = concurrency.div_ceil(SLOTS_PER_THREAD) as usize;
    options.threads.unwrap_or_else(|| useful.min(cores)).clamp(1, concurrency.max(1) as usize)
}

/// One driving thread.
struct Driver {
    index: usize,
    client: Client,
    shared: Arc<Shared>,
    records: Sender<RequestRecord>,
}

impl Driver {
    /// Goes through the phases; gives the lag samples of the measured one.
    fn run(self, runtime: &Runtime) -> Vec<u32> {
        let mut lag = LoopLag::default();
        runtime.block_on(self.phases(&mut lag));
        lag.into_samples_us()
    }

    async fn phases(self, lag: &mut LoopLag) {
        let Self { index, client, shared, records } = self;
        let client = Arc::new(client);
        for supply in &shared.supplies {
            let phase = supply.phase();
            if !meet(&shared, phase).await {
                shared.cut.store(true, Relaxed);
                return;
            }
            let tower = Arc::new(Tower {
                clock: shared.clock,
                phase,
                progress: shared.progress.clone(),
                records: records.clone(),
            });
            let mut slots = match shared.arrival {
                Arrival::Closed { concurrency } => {
                    closed_loop(concurrency, (index, shared.threads), &client, supply, &tower)
                }
            };
            tokio::select! {
                biased;
                () = shared.halt.cancelled() => {
                    shared.cut.store(true, Relaxed);
                    // Dropping a flight delivers its record.
                    slots.shutdown().await;
                    return;
                }
                () = all_ended(&mut slots) => {}
                () = lag.sample(), if phase == Phase::Measure => {}
            }
        }
    }
}

/// Waits for the other threads; the last one to come opens the phase. False: the point was stopped.
async fn meet(shared: &Shared, phase: Phase) -> bool {
    let meeting = async {
        if shared.meeting.wait().await.is_leader() {
            shared.progress.enter(Some(phase));
            if phase == Phase::Measure {
                let _ = shared.cpu_at_start.set(health::cpu_s());
            }
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

/// Starts this thread's share of the slots: slot `s` belongs to thread `s mod threads`. Each sends its next request when
/// its last one ends, so exactly `concurrency` are in flight until the supply runs out.
fn closed_loop(
    concurrency: u32,
    (index, threads): (usize, usize),
    client: &Arc<Client>,
    supply: &Arc<Supply>,
    tower: &Arc<Tower>,
) -> JoinSet<()> {
    let mut slots = JoinSet::new();
    for slot in (0..concurrency).skip(index).step_by(threads) {
        let (client, supply, tower) = (Arc::clone(client), Arc::clone(supply), Arc::clone(tower));
        slots.spawn(async move {
            while let Some(prepared) = supply.take() {
                let flight = Flight::depart(&tower, &prepared, slot, None);
                client.exchange(flight, prepared, supply.phase()).await;
            }
        });
    }
    slots
}

async fn all_ended(slots: &mut JoinSet<()>) {
    while slots.join_next().await.is_some() {}
}
