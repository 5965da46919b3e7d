//! Measures the load engine itself, so that a result can say when the client was the limit.
//!
//! Each driving thread keeps a [`ThreadHealth`]; a [`Monitor`] watches the process and its machine.

mod clock_step;
mod delays;
mod kernel;
mod monitor;
mod sockets;

use std::cell::RefCell;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinHandle;

pub(crate) use self::delays::Delays;
use self::kernel::Schedstat;
pub(crate) use self::monitor::Monitor;
use crate::metrics::record::ClientHealth;

const SAMPLE_EVERY: Duration = Duration::from_millis(10);

/// Descriptors beside one per request in flight: files, pipes, runtimes.
const SPARE_DESCRIPTORS: u64 = 256;

/// CPU time of this process so far, user + system, seconds.
pub(crate) fn cpu_s() -> f64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
        [usage.user_time(), usage.system_time()]
            .iter()
            .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
            .sum()
    })
}

/// Peak resident set size of this process, MiB: `VmHWM`. (`ru_maxrss` would include the parent's size before `exec`.)
pub(crate) fn max_rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// Raises the soft limit of open descriptors for `concurrency` connections, or as far as possible when there is no such
/// number. `Err((needed, hard limit))` when that is not enough.
pub(crate) fn allow_connections(concurrency: Option<u32>) -> Result<(), (u64, u64)> {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    let needed = concurrency.map_or(hard, |concurrency| u64::from(concurrency) + SPARE_DESCRIPTORS);
    if soft >= needed {
        return Ok(());
    }
    if hard < needed {
        return Err((needed, hard));
    }
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard).map_err(|_| (needed, hard))
}

#[derive(Debug, Default)]
pub(crate) struct ThreadHealth {
    /// How late this thread notices what another sends it: what a reader of a socket would have waited.
    loop_lag: Delays,
    sampling: Option<JoinHandle<()>>,
    /// Added to by whatever reads sockets on this thread.
    pub(crate) read_delay: Delays,
    opened: Option<Schedstat>,
    scheduled: Option<Schedstat>,
}

thread_local! {
    static LOOP_LAG: RefCell<Delays> = RefCell::default();
}

/// Samples the lag of this thread until it is aborted.
async fn sample_loop_lag() {
    let (sender, mut ticks) = unbounded_channel();
    let tick = move || {
        while sender.send(Instant::now()).is_ok() {
            std::thread::sleep(SAMPLE_EVERY);
        }
    };
    // Without this thread no lag is known.
    let _ = std::thread::Builder::new().name("lag".into()).spawn(tick);
    while let Some(sent) = ticks.recv().await {
        let lag_us = u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX);
        LOOP_LAG.with_borrow_mut(|samples| samples.add(lag_us));
        // What came while this thread was held up is part of the same delay.
        while ticks.try_recv().is_ok() {}
    }
}

impl ThreadHealth {
    /// Begins the window; call it within the thread's runtime.
    pub(crate) fn begin(&mut self) {
        self.opened = Schedstat::of_this_thread();
        self.sampling = Some(tokio::spawn(sample_loop_lag()));
    }

    /// Ends the window; call it on the thread itself. The first call counts.
    pub(crate) fn end(&mut self) {
        if let Some(sampling) = self.sampling.take() {
            sampling.abort();
            self.loop_lag = LOOP_LAG.take();
            self.scheduled = self
                .opened
                .take()
                .and_then(|before| Schedstat::of_this_thread().map(|now| now.since(before)));
        }
    }

    /// Adds the figures of all driving threads to those of the process.
    pub(crate) fn merge(threads: Vec<Self>, health: &mut ClientHealth) {
        health.threads = u32::try_from(threads.len()).unwrap_or(u32::MAX);
        let accounts: Vec<Schedstat> = threads.iter().filter_map(|thread| thread.scheduled).collect();
        if !accounts.is_empty() {
            let waited_ns: u64 = accounts.iter().map(|account| account.waited_ns).sum();
            health.machine.run_queue_wait_s = Some(waited_ns as f64 / 1e9);
            health.machine.time_slices = Some(accounts.iter().map(|account| account.slices).sum());
        }
        let (lags, delays) = threads.into_iter().map(|thread| (thread.loop_lag, thread.read_delay)).unzip();
        (health.loop_lag_us, health.read_delay_us) = (Delays::merge(lags), Delays::merge(delays));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_used_something() {
        assert!(max_rss_mib() > 1.0);
        assert!(cpu_s() >= 0.0);
        assert_eq!(allow_connections(Some(1)), Ok(()));
        assert!(allow_connections(Some(u32::MAX)).is_err());
    }

    #[test]
    fn threads_add_up() {
        let thread = |lag_us, delay_us, waited_ns| {
            let mut thread = ThreadHealth::default();
            thread.loop_lag.add(lag_us);
            thread.read_delay.add(delay_us);
            thread.scheduled = Some(Schedstat { waited_ns, slices: 7 });
            thread
        };
        let mut health = ClientHealth { cpu_s: 1.0, ..ClientHealth::default() };
        ThreadHealth::merge(vec![thread(1, 10, 500_000_000), thread(2, 20, 250_000_000)], &mut health);
        assert_eq!(health.threads, 2);
        assert_eq!((health.cpu_s, health.loop_lag_us, health.read_delay_us), (1.0, vec![1, 2], vec![10, 20]));
        assert_eq!((health.machine.run_queue_wait_s, health.machine.time_slices), (Some(0.75), Some(14)));
    }

    #[tokio::test]
    async fn a_thread_has_an_account_with_the_scheduler() {
        let mut thread = ThreadHealth::default();
        thread.begin();
        tokio::time::sleep(SAMPLE_EVERY * 3).await;
        let mut health = ClientHealth::default();
        thread.end();
        ThreadHealth::merge(vec![thread], &mut health);
        // It slept and was woken at least once.
        assert!(health.machine.time_slices.expect("a kernel with schedstats") >= 1);
        assert!(health.machine.run_queue_wait_s.expect("a figure") >= 0.0);
        assert!(!health.loop_lag_us.is_empty() && health.read_delay_us.is_empty());
    }
}
