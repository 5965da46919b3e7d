//! Waiting for a condition.

use std::time::{Duration, Instant};

/// Asks until `look` has an answer; panics with `what` after ten seconds without one.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    eventually_within(Duration::from_secs(10), what, look)
}

/// [`eventually`] with another limit.
#[track_caller]
pub(crate) fn eventually_within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(begin.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
