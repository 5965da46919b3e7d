//! What the load engine measures of itself, to say so when *it* was the limit.
//!
//! Arrow: `drive` samples here; the figures go into `metrics::record::ClientHealth`.

use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use tokio::time::Instant;

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

/// Raises the soft limit of open descriptors for `concurrency` connections, or as far as it goes when there is no such
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

/// How late a timer fires on one driving thread.
///
/// The figure is what a reader of the socket would have waited, plus up to 1 ms: tokio's timers tick in milliseconds and
/// round up. Nothing is subtracted, so an idle client shows about 1 ms.
#[derive(Debug, Default)]
pub(crate) struct LoopLag {
    samples_us: Vec<u32>,
    every: Duration,
}

impl LoopLag {
    /// Samples for ever; drop the future to stop. What was sampled stays.
    pub(crate) async fn sample(&mut self) {
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

    pub(crate) fn into_samples_us(self) -> Vec<u32> {
        self.samples_us
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
}
