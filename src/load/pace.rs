//! The pacer: admits the arrivals of an open loop at their intended instants.
//!
//! A thread of its own sleeps in the kernel (timer slack 1 ns; the runtimes' timers tick in milliseconds) to each instant of the
//! [`Schedule`] and hands an [`Admission`] to a driving thread. After a stall the arrivals that are due by then leave at once,
//! each with its own intended instant: no burst goes beyond the schedule, and no arrival is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::counters::LiveCounters;
use super::request_queue::{ReadyRequest, RequestQueue};
use super::schedule::Schedule;
use crate::metrics::record::Arrivals;
use crate::plan::{Arrival, LoadPoint, WhenFull};

/// Longest sleep without a check for the halt.
const SLICE: Duration = Duration::from_millis(50);

/// Bounds the requests in flight and counts the arrivals. A place is the number of one of the requests in flight.
#[derive(Debug)]
pub(crate) struct Gate {
    places: u32,
    state: Mutex<State>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Places that were taken before and are free.
    free: Vec<u32>,
    /// Places never taken yet start here.
    fresh: u32,
    arrivals: Arrivals,
}

impl Gate {
    fn new(most: Option<u32>) -> Self {
        Self { places: most.unwrap_or(u32::MAX), state: Mutex::default(), left: Condvar::new() }
    }

    pub(crate) fn arrivals(&self) -> Arrivals {
        self.state.lock().arrivals
    }

    fn arrived(&self, at_us: u64) {
        let arrivals = &mut self.state.lock().arrivals;
        if arrivals.total == 0 {
            arrivals.first_us = at_us;
        }
        arrivals.total += 1;
        arrivals.last_us = at_us;
    }

    fn count(&self, change: impl FnOnce(&mut Arrivals)) {
        change(&mut self.state.lock().arrivals);
    }

    fn place(&self, state: &mut State) -> Option<u32> {
        state.free.pop().or_else(|| {
            (state.fresh < self.places).then(|| {
                state.fresh += 1;
                state.fresh - 1
            })
        })
    }

    fn try_enter(&self) -> Option<u32> {
        self.place(&mut self.state.lock())
    }

    /// Waits for a free place, until `deadline` or the halt.
    fn enter(&self, deadline: Option<Instant>, halt: &CancellationToken) -> Option<u32> {
        let mut state = self.state.lock();
        loop {
            if let Some(place) = self.place(&mut state) {
                return Some(place);
            }
            let now = Instant::now();
            let left = deadline.map_or(SLICE, |deadline| deadline.saturating_duration_since(now));
            if left.is_zero() || halt.is_cancelled() {
                return None;
            }
            self.left.wait_for(&mut state, left.min(SLICE));
        }
    }

    fn leave(&self, place: u32) {
        self.state.lock().free.push(place);
        self.left.notify_one();
    }
}

/// An arrival that may be sent. It holds its place until it is dropped; dropped unsent it is counted as unsent.
#[derive(Debug)]
pub(crate) struct Admission {
    gate: Arc<Gate>,
    /// Taken to be sent now.
    pub(crate) request: Option<ReadyRequest>,
    pub(crate) place: u32,
    pub(crate) scheduled_us: u64,
    counts: bool,
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.request.is_some() && self.counts {
            self.gate.count(|arrivals| arrivals.unsent += 1);
        }
        self.gate.leave(self.place);
    }
}

#[derive(Debug)]
pub(crate) struct Pacer {
    schedule: Schedule,
    /// Arrivals from here on are driven and belong to no figure: the cool-down of a ramp.
    figures_end: Duration,
    when_full: WhenFull,
    pub(crate) gate: Arc<Gate>,
    queue: Arc<RequestQueue>,
    clock: Clock,
    counters: LiveCounters,
    halt: CancellationToken,
    /// One a driving thread. A place belongs to one thread, so connections never outnumber places.
    drivers: Vec<UnboundedSender<Admission>>,
}

impl Pacer {
    /// A pacer for `queue`, and the admissions of each of `threads` driving threads; `None` in a closed loop.
    pub(crate) fn new(
        point: &LoadPoint,
        queue: &Arc<RequestQueue>,
        threads: usize,
        arrival: &Arrival,
        (clock, counters, halt): (Clock, &LiveCounters, &CancellationToken),
    ) -> Option<(Self, Vec<UnboundedReceiver<Admission>>)> {
        let phase = queue.phase;
        let (schedule, limit) = match arrival {
            Arrival::Closed { .. } => return None,
            Arrival::Open { rate, spacing, limit } => (Schedule::new(rate, *spacing, point, phase), limit),
            Arrival::Trace { limit } => {
                let arrivals = queue.prompts.arrivals().unwrap_or_default();
                (Schedule::recorded(arrivals, point, phase), limit)
            }
        };
        let figures_end = arrival.ramp().and_then(|ramp| Duration::try_from_secs_f64(ramp.measured_s()).ok());
        let (drivers, admissions) = (0..threads).map(|_| unbounded_channel()).unzip();
        let pacer = Self {
            schedule,
            figures_end: figures_end.unwrap_or(Duration::MAX),
            when_full: limit.when_full,
            gate: Arc::new(Gate::new(limit.max_concurrency)),
            queue: Arc::clone(queue),
            clock,
            counters: counters.clone(),
            halt: halt.clone(),
            drivers,
        };
        Some((pacer, admissions))
    }

    /// Waits for the phase to begin and admits its arrivals. Blocks; runs on a thread of its own.
    pub(crate) fn run(mut self) {
        // Without it the kernel may add 50 µs to every sleep. Failing is no harm.
        let _ = nix::sys::prctl::set_timerslack(1);
        if let Some(start) = self.queue.wait_open() {
            self.admit(start);
        }
        self.queue.all_taken.cancel();
    }

    fn admit(&mut self, start: Instant) {
        let start_us = self.clock.us(start);
        let at_us =
            |offset: Duration| start_us.saturating_add(u64::try_from(offset.as_micros()).unwrap_or(u64::MAX));
        let end = self.queue.duration.unwrap_or(Duration::MAX);
        while let Some(offset) = self.schedule.next() {
            let due = start.checked_add(offset);
            if offset >= end {
                // A phase that time ends lasts until then, also when nothing arrives any more.
                if self.queue.duration.is_some() {
                    self.sleep_until(self.queue.deadline());
                }
                return;
            }
            let Some(request) = self.queue.take() else {
                self.give_up(offset, end, &at_us);
                return;
            };
            if !self.sleep_until(due) {
                return;
            }
            let counts = offset < self.figures_end;
            if counts {
                self.gate.arrived(at_us(offset));
            }
            let place = match self.when_full {
                WhenFull::Queue => self.gate.enter(self.queue.deadline(), &self.halt),
                WhenFull::Drop => self.gate.try_enter(),
            };
            match (place, self.when_full) {
                (Some(place), _) => self.send(place, request, at_us(offset), counts),
                (None, WhenFull::Drop) => {
                    self.gate.count(|arrivals| arrivals.dropped += u64::from(counts));
                    self.counters.dropped();
                }
                (None, WhenFull::Queue) => self.gate.count(|arrivals| arrivals.unsent += u64::from(counts)),
            }
        }
    }

    fn send(&self, place: u32, request: ReadyRequest, scheduled_us: u64, counts: bool) {
        let admission =
            Admission { gate: Arc::clone(&self.gate), request: Some(request), place, scheduled_us, counts };
        // A thread that is gone was halted; the admission counts itself as it is dropped.
        if let Some(driver) = self.drivers.get(place as usize % self.drivers.len().max(1)) {
            let _ = driver.send(admission);
        }
    }

    /// No request is left: all were admitted, or the time is over. What was due until `end` and could not leave is counted.
    fn give_up(&mut self, first: Duration, end: Duration, at_us: &dyn Fn(Duration) -> u64) {
        if end == Duration::MAX || self.halt.is_cancelled() {
            return;
        }
        let end = end.min(self.figures_end);
        let rest = self.schedule.by_ref().take_while(|offset| *offset < end);
        for offset in std::iter::once(first).filter(|first| *first < end).chain(rest) {
            self.gate.arrived(at_us(offset));
            self.gate.count(|arrivals| arrivals.unsent += 1);
        }
    }

    /// False: the point was halted.
    fn sleep_until(&self, due: Option<Instant>) -> bool {
        loop {
            if self.halt.is_cancelled() {
                return false;
            }
            let left = due.map_or(SLICE, |due| due.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return true;
            }
            std::thread::park_timeout(left.min(SLICE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_reused_and_never_more_than_there_are() {
        let gate = Gate::new(Some(2));
        assert_eq!((gate.try_enter(), gate.try_enter(), gate.try_enter()), (Some(0), Some(1), None));
        gate.leave(0);
        assert_eq!((gate.try_enter(), gate.try_enter()), (Some(0), None));
        let over = CancellationToken::new();
        assert_eq!(gate.enter(Some(Instant::now()), &over), None);
        over.cancel();
        assert_eq!(gate.enter(None, &over), None);
        gate.leave(1);
        assert_eq!(gate.enter(None, &over), Some(1));
        assert_eq!(Gate::new(None).try_enter(), Some(0));
    }

    #[test]
    fn a_waiting_arrival_gets_the_place_that_is_left() {
        let gate = Gate::new(Some(1));
        assert_eq!(gate.try_enter(), Some(0));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| gate.enter(None, &CancellationToken::new()));
            gate.leave(0);
            assert_eq!(waiting.join().unwrap(), Some(0));
        });
    }
}
