//! Notices when the system clock is set, or the machine was suspended, while a load point runs.
//!
//! The figures of a load point come from the monotonic clock and stay right. Server logs and GPU telemetry, which are joined
//! by wall-clock time, do not.

use std::time::{Duration, Instant, SystemTime};

/// Less than this between two readings is the slewing of NTP (0.5 ms a second), or this thread held up between two clocks.
const SMALLEST_MS: f64 = 10.0;

/// Two clocks read within this time were read together.
const TOGETHER: Duration = Duration::from_millis(1);

const TRIES: usize = 5;

#[derive(Debug, Clone, Copy)]
pub(super) struct Clocks {
    monotonic: Instant,
    system: SystemTime,
}

impl Clocks {
    /// Reads both close together: a thread that lost its core in between tries again.
    pub(super) fn now() -> Self {
        let mut clocks = Self::read();
        for _ in 0..TRIES {
            if clocks.monotonic.elapsed() < TOGETHER {
                break;
            }
            clocks = Self::read();
        }
        clocks
    }

    fn read() -> Self {
        Self { monotonic: Instant::now(), system: SystemTime::now() }
    }

    /// How far the system clock moved since `before` beyond what the monotonic clock did, ms. 0 when it is too little to be
    /// a step.
    pub(super) fn step_ms(&self, before: &Self) -> f64 {
        let system_s = match self.system.duration_since(before.system) {
            Ok(forward) => forward.as_secs_f64(),
            Err(backward) => -backward.duration().as_secs_f64(),
        };
        let step_ms = 1e3 * (system_s - (self.monotonic - before.monotonic).as_secs_f64());
        if step_ms.abs() < SMALLEST_MS { 0.0 } else { step_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_forward_and_back() {
        let before = Clocks::now();
        let later = |monotonic_ms, system_ms: i64| {
            let moved = Duration::from_millis(system_ms.unsigned_abs());
            let system = if system_ms < 0 { before.system - moved } else { before.system + moved };
            Clocks { monotonic: before.monotonic + Duration::from_millis(monotonic_ms), system }
        };
        assert_eq!(later(250, 250).step_ms(&before), 0.0);
        assert_eq!(later(250, 259).step_ms(&before), 0.0, "slewed");
        assert_eq!(later(250, 1_250).step_ms(&before).round(), 1_000.0);
        assert_eq!(later(250, -3_350).step_ms(&before).round(), -3_600.0);
    }
}
