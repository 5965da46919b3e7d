//! CPU time and percentiles, the same for every part of the benchmark.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

/// CPU time of this process, user + system, seconds.
pub(crate) fn cpu_s() -> f64 {
    usage_s(UsageWho::RUSAGE_SELF)
}

/// CPU time of all children that have ended and were waited for, seconds.
pub(crate) fn children_cpu_s() -> f64 {
    usage_s(UsageWho::RUSAGE_CHILDREN)
}

fn usage_s(who: UsageWho) -> f64 {
    getrusage(who).map_or(0.0, |usage| {
        [usage.user_time(), usage.system_time()]
            .iter()
            .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
            .sum()
    })
}

/// `{"p50":…, "p99":…}` in ms.
pub(crate) fn percentiles_ms(mut values: Vec<Duration>) -> Value {
    values.sort_unstable();
    let at = |share: f64| {
        let index = (values.len().saturating_sub(1)) as f64 * share;
        values.get(index as usize).map_or(0.0, |value| value.as_secs_f64() * 1e3)
    };
    json!({ "p50": at(0.5), "p99": at(0.99) })
}

/// The middle of `values`; 0 when there are none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
