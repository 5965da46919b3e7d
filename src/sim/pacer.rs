//! Precise wake-ups: a thread that sleeps on the kernel's high-resolution timer and then notifies.
//!
//! tokio's timer counts whole milliseconds, which is too coarse for a step of 4 ms, and spinning would use the core that the streams
//! need. A sleeping thread is accurate to about 60 µs (the kernel's default timer slack of 50 µs and one wake-up) and costs two
//! context switches per step.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// A timer for one task at a time.
pub(super) struct Pacer {
    deadlines: Sender<Instant>,
    reached: Arc<Notify>,
}

impl Pacer {
    /// Starts the thread; it ends when the pacer is dropped.
    pub(super) fn start() -> std::io::Result<Self> {
        let (deadlines, received) = channel::<Instant>();
        let reached = Arc::new(Notify::new());
        let notify = Arc::clone(&reached);
        std::thread::Builder::new().name("tokmark-sim-pacer".into()).spawn(move || {
            for deadline in received {
                std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
                notify.notify_one();
            }
        })?;
        Ok(Self { deadlines, reached })
    }

    /// Returns at the deadline. If it has passed, other tasks run first, so that a late step does not starve the connections.
    pub(super) async fn sleep_until(&self, deadline: Instant) {
        if deadline <= Instant::now() {
            tokio::task::yield_now().await;
        } else if self.deadlines.send(deadline).is_ok() {
            self.reached.notified().await;
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
