//! The metrics pages of the servers around the measured window of a load point.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::metrics::record::PointRun;
use crate::metrics::server::{Page, ServerView, Watched};
use crate::observe::{Pages, pages};

/// How long the servers may take to count the last answers after they have sent them.
const SETTLE: Duration = Duration::from_secs(1);

/// How often they are asked meanwhile.
const PERIOD: Duration = Duration::from_millis(50);

/// Reads the pages before the first measured request and after the last.
#[derive(Debug, Clone, Default)]
pub(super) struct ServerPages {
    urls: Vec<String>,
    before: Arc<Mutex<Vec<Page>>>,
}

impl ServerPages {
    pub(super) fn new(urls: &[String]) -> Self {
        Self { urls: urls.to_vec(), before: Arc::default() }
    }

    /// Reads the pages, on a thread of its own, because the caller may be a thread of an async runtime.
    fn read(&self) -> Vec<Page> {
        let urls = self.urls.clone();
        if urls.is_empty() {
            return Vec::new();
        }
        let reading = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            Some(runtime.block_on(pages::read(&urls)))
        });
        reading.join().ok().flatten().unwrap_or_default()
    }

    /// Keeps what the pages say now as the start of the window.
    pub(super) fn begin(&self) {
        let pages = self.read();
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = pages;
    }

    /// The window up to now. Waits briefly until the servers have counted so many requests.
    pub(super) fn end(&self, requests: u64) -> Watched {
        let before = std::mem::take(&mut *self.before.lock().unwrap_or_else(PoisonError::into_inner));
        if before.is_empty() {
            return Watched::default();
        }
        let mut watched = Watched { before, ..Watched::default() };
        let began = Instant::now();
        loop {
            watched.after = self.read();
            let counted = ServerView::of(&watched).and_then(|view| view.nearest()?.requests);
            if counted.is_none_or(|counted| counted >= requests) || began.elapsed() >= SETTLE {
                return watched;
            }
            std::thread::sleep(PERIOD);
        }
    }
}

/// Of the pages of each server those within the measured window.
pub(super) fn within_window(run: &PointRun, servers: Vec<Pages>) -> Vec<Vec<Page>> {
    let at = |us: u64| run.started_at + Duration::from_micros(us);
    let window = at(run.window_start_us)..=at(run.window_end_us);
    let inside = |pages: Pages| pages.into_iter().filter(|(at, _)| window.contains(at)).map(|(_, page)| page);
    servers.into_iter().map(|pages| inside(pages).collect()).collect()
}
