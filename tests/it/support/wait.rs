//! Waiting for a condition.

use std::time::{Duration, Instant};

/// Ends a test that hangs. Far above what anything here takes, because other work may keep the machine busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// Asks until `look` has an answer; panics with `what` when patience runs out.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, look)
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
