//! Progress on stderr during a run: a bar on a terminal, otherwise a line every 10 s, with events in between.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;

use super::printer::Printer;
use crate::experiment::Event;
use crate::load::Snapshot;
use crate::metrics::Phase;
use crate::plan::Stop;
use crate::run::LivePoint;

/// Shows events and progress on stderr.
#[derive(Debug, Clone)]
pub(crate) struct Display {
    printer: Printer,
    bar: Arc<Mutex<Option<ProgressBar>>>,
}

/// Time between two lines without a terminal.
const LINE_PERIOD: Duration = Duration::from_secs(10);

impl Display {
    /// A display on this printer.
    pub(crate) fn new(printer: Printer) -> Self {
        Self { printer, bar: Arc::default() }
    }

    /// Shows an event, above the bar if one is drawn.
    pub(crate) fn event(&self, event: &Event) {
        let Some((line, always)) = event.line() else { return };
        let print = || if always { self.printer.note(&line) } else { self.printer.detail(&line) };
        match self.bar.lock().ok().and_then(|bar| bar.clone()) {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Follows the current load point until the sender is dropped.
    pub(crate) async fn follow(self, mut current: watch::Receiver<Option<LivePoint>>) {
        let terminal = std::io::stderr().is_terminal();
        let mut last_line = Instant::now();
        loop {
            let now = current.borrow_and_update().clone();
            match &now {
                Some(current) if terminal && !self.printer.is_quiet() => self.draw(current),
                Some(current) if last_line.elapsed() >= LINE_PERIOD => {
                    last_line = Instant::now();
                    self.printer.note(format!("{}: {}", current.point, counts(&current.progress.snapshot())));
                }
                Some(_) => {}
                None => self.clear(),
            }
            let period = if now.is_some() { Duration::from_millis(200) } else { Duration::from_secs(3600) };
            tokio::select! {
                changed = current.changed() => {
                    last_line = Instant::now();
                    if changed.is_err() {
                        break;
                    }
                }
                () = tokio::time::sleep(period) => {}
            }
        }
        self.clear();
    }

    fn draw(&self, current: &LivePoint) {
        let snapshot = current.progress.snapshot();
        let Ok(mut slot) = self.bar.lock() else { return };
        let bar = slot.get_or_insert_with(|| {
            let bar = ProgressBar::new(1);
            if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:24}] {msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        let (done, of) = match (current.load.stop, snapshot.phase) {
            (_, Some(Phase::Warmup)) => match current.load.warmup_duration_s {
                Some(seconds) => (bar.elapsed().as_secs(), seconds.ceil() as u64),
                None => (snapshot.done, current.load.warmup_requests),
            },
            (Stop::Requests(requests), _) => (snapshot.done + snapshot.dropped, requests),
            (Stop::TraceEnd, _) => (snapshot.done + snapshot.dropped, snapshot.sent.max(1)),
            (Stop::DurationS(seconds), _) => (bar.elapsed().as_secs(), seconds.ceil() as u64),
        };
        bar.set_length(of.max(1));
        bar.set_position(done.min(of));
        bar.set_prefix(current.point.clone());
        bar.set_message(counts(&snapshot));
    }

    fn clear(&self) {
        if let Ok(mut slot) = self.bar.lock()
            && let Some(bar) = slot.take()
        {
            bar.finish_and_clear();
        }
    }
}

fn counts(snapshot: &Snapshot) -> String {
    let phase = if snapshot.phase == Some(Phase::Warmup) { "warm-up, " } else { "" };
    let failed = if snapshot.failed > 0 { format!(", {} failed", snapshot.failed) } else { String::new() };
    let dropped =
        if snapshot.dropped > 0 { format!(", {} dropped", snapshot.dropped) } else { String::new() };
    format!("{phase}{} done, {} in flight{failed}{dropped}", snapshot.done, snapshot.in_flight)
}
