//! The metrics pages of the servers around a load point and its measured window.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::load::Target;
use crate::metrics::record::PointRun;
use crate::metrics::server::{Page, Watched, WatchedPage};
use crate::observe::{Pages, pages};
use crate::plan::MetricsPage;

/// How long the servers may take to count the last answers after they have sent them.
const SETTLE: Duration = Duration::from_secs(1);

/// How often they are asked meanwhile.
const PERIOD: Duration = Duration::from_millis(50);

type Answers = Vec<Result<Page, String>>;

/// Reads the pages before the first request, before the first measured request and after the last.
#[derive(Debug, Clone)]
pub(super) struct ServerPages {
    target: Target,
    pages: Vec<MetricsPage>,
    start: Answers,
    /// Whether there is a warm-up between the start and the measured window.
    warms_up: bool,
    before: Arc<Mutex<Option<Answers>>>,
}

impl ServerPages {
    /// Reads the pages as they are before the load.
    pub(super) fn start(target: &Target, pages: &[MetricsPage], warms_up: bool) -> Self {
        let (target, pages, before) = (target.clone(), pages.to_vec(), Arc::default());
        let start = read(&target, &pages);
        Self { target, pages, start, warms_up, before }
    }

    /// Keeps what the pages say now as the start of the window.
    pub(super) fn begin(&self) {
        let pages = if self.warms_up { read(&self.target, &self.pages) } else { self.start.clone() };
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = Some(pages);
    }

    /// The window up to now. Waits briefly until the servers have counted so many requests.
    pub(super) fn end(self, requests: u64) -> Watched {
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner).take();
        let before = before.unwrap_or_else(|| self.start.clone());
        let began = Instant::now();
        loop {
            let after = read(&self.target, &self.pages);
            let watched = self.watched(&before, &after);
            let is_late = watched.requests().is_some_and(|counted| counted < requests);
            if !is_late || began.elapsed() >= SETTLE {
                return watched;
            }
            std::thread::sleep(PERIOD);
        }
    }

    fn watched(&self, before: &Answers, after: &Answers) -> Watched {
        let page = |(number, page): (usize, &MetricsPage)| {
            let of = |answers: &Answers| answers.get(number).and_then(|answer| answer.clone().ok());
            let problem = |answers: &Answers| answers.get(number).and_then(|answer| answer.clone().err());
            WatchedPage {
                process: page.process.clone(),
                url: page.url.clone(),
                pool: page.pool,
                start: of(&self.start),
                before: of(before),
                after: of(after),
                during: Vec::new(),
                problem: problem(after).or_else(|| problem(before)),
            }
        };
        Watched { pages: self.pages.iter().enumerate().map(page).collect() }
    }
}

/// Reads the pages, on a thread of its own, because the caller may be a thread of an async runtime.
fn read(target: &Target, of: &[MetricsPage]) -> Answers {
    if of.is_empty() {
        return Vec::new();
    }
    let (target, of) = (target.clone(), of.to_vec());
    let reading = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        Some(runtime.block_on(pages::read(&target, &of)))
    });
    reading.join().ok().flatten().unwrap_or_default()
}

/// Adds the pages that were read within the measured window, in the order of the servers.
pub(super) fn add_window(watched: &mut Watched, run: &PointRun, servers: Vec<Pages>) {
    for (page, read) in watched.pages.iter_mut().zip(servers) {
        let inside = read.into_iter().filter_map(|(at, page)| {
            let us = at.duration_since(run.started_at).as_micros();
            let us = u64::try_from(us).ok()?;
            (run.window_start_us..=run.window_end_us).contains(&us).then_some((us, page))
        });
        page.during = inside.collect();
    }
}
