//! Progress on stderr during a run: two lines at the end of a terminal, otherwise a line every 10 s, with events in between.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;

use super::printer::Printer;
use crate::experiment::Event;
use crate::load::Snapshot;
use crate::metrics::Phase;
use crate::plan::{LoadPoint, Stop};
use crate::report::table::number;
use crate::run::LivePoint;

/// Shows events and progress on stderr.
#[derive(Debug, Clone)]
pub(crate) struct Display {
    printer: Printer,
    bar: Arc<Mutex<Option<ProgressBar>>>,
    /// The failures of requests that were shown; the next load point may fail alike.
    failures: Arc<Mutex<Vec<String>>>,
}

/// Time between two lines without a terminal, and length of "the last seconds".
const LINE_PERIOD: Duration = Duration::from_secs(10);

/// Time between two looks at the counters.
const LOOK: Duration = Duration::from_millis(200);

/// What the counters of a load point showed, and when.
struct Seen {
    began: Instant,
    /// Over the last seconds, oldest first; of one phase.
    recent: VecDeque<(Instant, Snapshot)>,
}

impl Seen {
    fn new(now: Instant) -> Self {
        Self { began: now, recent: VecDeque::new() }
    }

    /// Adds a snapshot and forgets the old ones, all of them when another phase begins.
    fn look(&mut self, now: Instant, snapshot: Snapshot) {
        if self.recent.back().is_some_and(|(_, last)| last.phase != snapshot.phase) {
            *self = Self::new(now);
        }
        self.recent.push_back((now, snapshot));
        while self.recent.front().is_some_and(|(at, _)| now.duration_since(*at) > LINE_PERIOD) {
            self.recent.pop_front();
        }
    }
}

impl Display {
    /// A display on this printer.
    pub(crate) fn new(printer: Printer) -> Self {
        Self { printer, bar: Arc::default(), failures: Arc::default() }
    }

    /// Shows an event, above the bar if one is drawn.
    pub(crate) fn event(&self, event: &Event) {
        let Some((line, always)) = event.line() else { return };
        if !(always || self.printer.is_verbose()) || !self.is_news(event) {
            return;
        }
        let print = || self.printer.note(&line);
        match self.bar.lock().ok().and_then(|bar| bar.clone()) {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Whether an event tells something that no event before has told.
    fn is_news(&self, event: &Event) -> bool {
        let Event::RequestFailed { what, .. } = event else { return true };
        let Ok(mut shown) = self.failures.lock() else { return true };
        let is_new = !shown.contains(what);
        shown.extend(is_new.then(|| what.clone()));
        is_new
    }

    /// Follows the current load point until the sender is dropped.
    pub(crate) async fn follow(self, mut current: watch::Receiver<Option<LivePoint>>) {
        let terminal = std::io::stderr().is_terminal();
        let mut last_line = Instant::now();
        let mut seen = Seen::new(last_line);
        loop {
            let now = current.borrow_and_update().clone();
            if let Some(live) = &now {
                seen.look(Instant::now(), live.progress.snapshot());
            }
            match &now {
                Some(live) if terminal && !self.printer.is_quiet() => self.draw(live, &seen),
                Some(live) if last_line.elapsed() >= LINE_PERIOD => {
                    last_line = Instant::now();
                    self.printer.note(format!("{}: {}, {}", title(live), counts(&seen), speed(live, &seen)));
                }
                Some(_) => {}
                None => self.clear(),
            }
            let period = if now.is_some() { LOOK } else { Duration::from_secs(3600) };
            tokio::select! {
                changed = current.changed() => {
                    last_line = Instant::now();
                    seen = Seen::new(last_line);
                    if changed.is_err() {
                        break;
                    }
                }
                () = tokio::time::sleep(period) => {}
            }
        }
        self.clear();
    }

    fn draw(&self, live: &LivePoint, seen: &Seen) {
        let Ok(mut slot) = self.bar.lock() else { return };
        let bar = slot.get_or_insert_with(|| {
            let bar = ProgressBar::new(1000);
            if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:16}] {msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        let share = done(&live.load, seen).unwrap_or(0.0);
        bar.set_prefix(format!("{}\n ", title(live)));
        bar.set_message(format!("{}\n  {}", counts(seen), speed(live, seen)));
        bar.set_position((share * 1000.0) as u64);
    }

    fn clear(&self) {
        if let Ok(mut slot) = self.bar.lock()
            && let Some(bar) = slot.take()
        {
            bar.finish_and_clear();
        }
    }
}

/// `[4/5] isl128_osl64_con16`
fn title(live: &LivePoint) -> String {
    let (number, of) = live.number;
    format!("[{number}/{of}] {}", live.point)
}

/// The share of a load point, or of its warm-up, that is done; `None` at its start, or if nobody knows.
fn done(load: &LoadPoint, seen: &Seen) -> Option<f64> {
    let (now, snapshot) = seen.recent.back()?;
    let passed = now.duration_since(seen.began).as_secs_f64();
    let ended = (snapshot.done + snapshot.dropped) as f64;
    let share = match (snapshot.phase, load.stop) {
        (Some(Phase::Warmup), _) => match load.warmup_duration_s {
            Some(seconds) => passed / seconds,
            None => ended / load.warmup_requests as f64,
        },
        (_, Stop::Requests(requests)) => ended / requests as f64,
        (_, Stop::DurationS(seconds)) => passed / seconds,
        (_, Stop::TraceEnd) => return None,
    };
    (share > 0.0).then(|| share.min(1.0))
}

/// `64 of 192 done, 16 in flight, 2 failed (1 in the last 10 s)`
fn counts(seen: &Seen) -> String {
    let (Some((first, before)), Some((last, now))) = (seen.recent.front(), seen.recent.back()) else {
        return "starting".to_owned();
    };
    if now.phase.is_none() && now.sent == 0 {
        return "asking the server what it accepts and how it counts".to_owned();
    }
    let phase = if now.phase == Some(Phase::Warmup) { "warm-up, " } else { "" };
    let mut text = format!("{phase}{} done, {} in flight", now.done, now.in_flight);
    if now.failed > 0 {
        let lately = now.failed.saturating_sub(before.failed);
        let seconds = last.duration_since(*first).as_secs_f64();
        text.push_str(&format!(", {} failed ({lately} in the last {seconds:.0} s)", now.failed));
    }
    if now.dropped > 0 {
        text.push_str(&format!(", {} dropped", now.dropped));
    }
    text
}

/// `0:32, 0:38 left, 2,345 tok/s, TTFT p50 48.2 ms`, the figures over the last seconds.
fn speed(live: &LivePoint, seen: &Seen) -> String {
    let (Some((first, before)), Some((last, now))) = (seen.recent.front(), seen.recent.back()) else {
        return String::new();
    };
    let passed = last.duration_since(seen.began).as_secs_f64();
    let mut parts = vec![clock(passed)];
    parts.extend(
        done(&live.load, seen).map(|share| format!("{} left", clock(passed * (1.0 - share) / share))),
    );
    let seconds = last.duration_since(*first).as_secs_f64();
    if seconds > 0.0 {
        // Chunks come while tokens are only known at the end of an answer; a chunk may hold several tokens.
        let per_chunk = if now.chunks > 0 { (now.tokens as f64 / now.chunks as f64).max(1.0) } else { 1.0 };
        let tokens = match live.load.streaming {
            true => now.chunks.saturating_sub(before.chunks) as f64 * per_chunk,
            false => now.tokens.saturating_sub(before.tokens) as f64,
        };
        parts.push(format!("{} tok/s", number(tokens / seconds)));
    }
    let ttft = live.progress.median_ttft_ms(before.first_tokens);
    parts.extend(ttft.map(|ttft| format!("TTFT p50 {} ms", number(ttft))));
    parts.join(", ")
}

/// `1:05`, `2:00:00`
fn clock(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::LiveCounters;

    fn snapshot(done: u64, failed: u64, tokens: u64) -> Snapshot {
        let phase = Some(Phase::Measure);
        let start = LiveCounters::default().snapshot();
        Snapshot { phase, sent: done + 4, in_flight: 4, done, failed, tokens, chunks: tokens, ..start }
    }

    #[test]
    fn a_line_has_the_point_the_times_and_the_figures_of_the_last_seconds() {
        let load = LoadPoint { stop: Stop::Requests(100), streaming: true, ..LoadPoint::default() };
        let progress = LiveCounters::default();
        let live = LivePoint { point: "isl8_osl4_con4".into(), number: (4, 5), load, progress };
        let began = Instant::now();
        let mut seen = Seen::new(began);
        assert_eq!((counts(&seen).as_str(), speed(&live, &seen).as_str()), ("starting", ""));
        for (second, done, failed) in [(0, 0, 0), (15, 20, 1), (20, 25, 3)] {
            seen.look(began + Duration::from_secs(second), snapshot(done, failed, 400 * done));
        }
        assert_eq!(title(&live), "[4/5] isl8_osl4_con4");
        assert_eq!(counts(&seen), "25 done, 4 in flight, 3 failed (2 in the last 5 s)");
        assert_eq!(speed(&live, &seen), "0:20, 1:00 left, 400 tok/s");
        seen.look(began + Duration::from_secs(21), Snapshot { phase: None, ..snapshot(25, 3, 0) });
        assert_eq!(speed(&live, &seen), "0:00, 0:00 left", "another phase begins anew");
    }

    #[test]
    fn times_read_as_a_clock() {
        for (seconds, text) in [(0.4, "0:00"), (65.0, "1:05"), (7200.0, "2:00:00")] {
            assert_eq!(clock(seconds), text);
        }
    }
}
