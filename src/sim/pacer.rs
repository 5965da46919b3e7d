//! Waking up on time: a thread that sleeps on the kernel's high-resolution timer and then rings.
//!
//! tokio's own timer counts whole milliseconds, which is too coarse for a step of 4 ms; spinning would burn the core the
//! streams need. A plain sleeping thread is on time to about 60 µs (the kernel's default timer slack of 50 µs and
//! one wake-up) and costs two context switches a step.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// An alarm clock for one task at a time.
pub(super) struct Pacer {
    deadlines: Sender<Instant>,
    rung: Arc<Notify>,
}

impl Pacer {
    /// Starts the thread; it ends when the pacer is dropped.
    pub(super) fn start() -> std::io::Result<Self> {
        let (deadlines, asked) = channel::<Instant>();
        let rung = Arc::new(Notify::new());
        let bell = Arc::clone(&rung);
        std::thread::Builder::new().name("tokmark-sim-pacer".into()).spawn(move || {
            for deadline in asked {
                std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
                bell.notify_one();
            }
        })?;
        Ok(Self { deadlines, rung })
    }

    /// Returns at the deadline. When it has passed already the other tasks get their turn first, so that a step that
    /// comes late does not starve the connections.
    pub(super) async fn sleep_until(&self, deadline: Instant) {
        if deadline <= Instant::now() {
            tokio::task::yield_now().await;
        } else if self.deadlines.send(deadline).is_ok() {
            self.rung.notified().await;
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
