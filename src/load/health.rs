//! Measures the load engine itself, so that a result can say when the client was the limit.
//!
//! Each driving thread keeps a [`ThreadHealth`]; a [`Monitor`] watches the process and its machine.

mod cgroup;
mod clock_step;
mod kernel;
mod monitor;
mod read_delay;
mod sockets;

use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use tokio::time::Instant;

use self::kernel::Schedstat;
pub(crate) use self::monitor::Monitor;
pub(crate) use self::read_delay::ReadDelay;
use crate::metrics::record::ClientHealth;

/// First interval of the loop-lag sampler.
const SAMPLE_EVERY: Duration = Duration::from_millis(10);

/// Samples kept per thread; when full, every other one is dropped and the interval doubles.
const MAX_SAMPLES: usize = 32_768;

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

/// Figures of one driving thread in the measured window.
#[derive(Debug, Default)]
pub(crate) struct ThreadHealth {
    loop_lag: LoopLag,
    /// Added to by whatever reads sockets on this thread.
    pub(crate) read_delay: ReadDelay,
    /// The thread's scheduler counters when the window opened.
    opened: Option<Schedstat>,
    /// Their growth until the window was over.
    scheduled: Option<Schedstat>,
}

impl ThreadHealth {
    /// Samples until the future is dropped. The samples stay.
    pub(crate) async fn sample(&mut self) {
        self.opened = Schedstat::of_this_thread();
        self.loop_lag.sample().await;
    }

    /// Ends the window; call it on the thread itself. The first call counts.
    pub(crate) fn end(&mut self) {
        if let Some(before) = self.opened.take() {
            self.scheduled = Schedstat::of_this_thread().map(|now| now.since(before));
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
        let mut delays = Vec::with_capacity(threads.len());
        for thread in threads {
            health.loop_lag_us.extend(thread.loop_lag.samples_us);
            delays.push(thread.read_delay);
        }
        health.read_delay_us = ReadDelay::merge(delays);
    }
}

/// How late a timer fires on one driving thread.
///
/// The figure is what a reader of the socket would have waited, plus up to 1 ms: tokio's timers tick in milliseconds and
/// round up. Nothing is subtracted, so an idle client shows about 1 ms.
#[derive(Debug, Default)]
struct LoopLag {
    samples_us: Vec<u32>,
    every: Duration,
}

impl LoopLag {
    async fn sample(&mut self) {
        self.every = self.every.max(SAMPLE_EVERY);
        loop {
            let intended = Instant::now() + self.every;
            tokio::time::sleep_until(intended).await;
            self.add(u32::try_from(intended.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
    }

    fn add(&mut self, lag_us: u32) {
        self.samples_us.push(lag_us);
        if self.samples_us.len() >= MAX_SAMPLES {
            let mut keep = false;
            self.samples_us.retain(|_| {
                keep = !keep;
                keep
            });
            self.every *= 2;
        }
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
    fn samples_are_thinned_not_cut() {
        let mut lag = LoopLag { every: SAMPLE_EVERY, ..LoopLag::default() };
        for sample in 0..100_000 {
            lag.add(sample);
        }
        assert!(lag.samples_us.len() < MAX_SAMPLES && lag.every > SAMPLE_EVERY);
        assert_eq!((lag.samples_us.first(), lag.samples_us.last()), (Some(&0), Some(&99_999)));
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
        let sampling = tokio::time::timeout(SAMPLE_EVERY * 3, thread.sample()).await;
        assert!(sampling.is_err(), "it samples for ever");
        let mut health = ClientHealth::default();
        thread.end();
        ThreadHealth::merge(vec![thread], &mut health);
        // It slept and was woken at least once.
        assert!(health.machine.time_slices.expect("a kernel with schedstats") >= 1);
        assert!(health.machine.run_queue_wait_s.expect("a figure") >= 0.0);
        assert!(!health.loop_lag_us.is_empty() && health.read_delay_us.is_empty());
    }
}
