//! Watches the client's machine while a load point is measured: counters before and after, peaks in between.
//!
//! It reads cheap counters (a few µs) four times a second, cgroups and sockets once a second. It reads the tables of all
//! sockets only when source ports may run out, and then every few seconds.

use std::thread::Scope;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use parking_lot::{Condvar, Mutex};

use super::clock_step::Clocks;
use super::sockets::{Refused, TcpCounters, source_ports, source_ports_used};
use super::{cpu_s, kernel, max_rss_mib};
use crate::metrics::record::{ClientHealth, MachineHealth, Outcome, Phase, RequestRecord};
use crate::node::cgroup::{Cgroups, Counters, Memory, increase};

const EVERY: Duration = Duration::from_millis(250);

/// One reading in so many includes cgroups and the number of sockets: reading `memory.stat` makes the kernel sum over all CPUs.
const SLOW_EVERY: u64 = 4;

/// One reading in so many may include the tables of all sockets, which takes some ten ms when there are many.
const TABLES_EVERY: u64 = 40;

const MIB: f64 = 1024.0 * 1024.0;

pub(crate) struct Monitor {
    server_port: Option<u16>,
    source_ports: Option<u64>,
    cgroups: Cgroups,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    before: Option<Before>,
    /// The window is over, or never opens.
    stopped: bool,
    peaks: Peaks,
    refused_ports: u64,
    refused_descriptors: u64,
    /// CPU time over the window, seconds, and the rest, once it is over.
    after: Option<(f64, MachineHealth)>,
}

struct Before {
    cpu_s: f64,
    cgroups: Counters,
    tcp: TcpCounters,
}

#[derive(Default)]
struct Peaks {
    open_files: Option<u64>,
    memory: Option<Memory>,
    source_ports_used: Option<u64>,
    clocks: Option<Clocks>,
    clock_step_ms: f64,
}

impl Monitor {
    /// `server_port`: where connections go, to tell their source ports from others.
    pub(crate) fn new(server_port: Option<u16>) -> Self {
        Self {
            server_port,
            source_ports: source_ports(),
            cgroups: Cgroups::of_this_process(),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// The measured window begins. Takes less than a millisecond; nothing should have been sent yet.
    pub(crate) fn open(&self) {
        let before = Before { cpu_s: 0.0, cgroups: self.cgroups.counters(), tcp: TcpCounters::now() };
        let mut state = self.state.lock();
        self.look(&mut state.peaks, 0);
        state.before = Some(Before { cpu_s: cpu_s(), ..before });
        drop(state);
        self.changed.notify_all();
    }

    /// Reads until it is stopped, on a thread of its own. Without that thread only the peaks between the two
    /// ends of the window are missing.
    pub(crate) fn start<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let thread = std::thread::Builder::new().name("health".into());
        let _ = thread.spawn_scoped(scope, || self.run());
    }

    fn run(&self) {
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| state.before.is_none() && !state.stopped);
        for turn in 1.. {
            self.changed.wait_while_for(&mut state, |state| !state.stopped, EVERY);
            if state.stopped {
                return;
            }
            self.look(&mut state.peaks, turn);
        }
    }

    /// A request ended: counts measured ones whose connection failed for a reason on this side.
    pub(crate) fn saw(&self, record: &RequestRecord) {
        if record.outcome != Outcome::Connect || record.phase != Phase::Measure {
            return;
        }
        match record.error.as_deref().and_then(Refused::of) {
            Some(Refused::SourcePort) => self.state.lock().refused_ports += 1,
            Some(Refused::Descriptor) => self.state.lock().refused_descriptors += 1,
            None => {}
        }
    }

    /// Ends [`Monitor::run`], begun or not.
    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }

    /// The measured window is over, though load may go on. The first call counts.
    pub(crate) fn end(&self) {
        let cpu_at_end_s = cpu_s();
        self.stop();
        let mut state = self.state.lock();
        let Some(before) = state.before.take() else { return };
        self.look(&mut state.peaks, 0);
        let machine = self.machine(&before, &state.peaks);
        state.after = Some((cpu_at_end_s - before.cpu_s, machine));
    }

    /// Ends the monitor; returns the figures of this process and its machine in the measured window, without those of the
    /// driving threads.
    pub(crate) fn close(&self) -> ClientHealth {
        self.end();
        let mut state = self.state.lock();
        let (cpu_s, machine) = state.after.take().unwrap_or_default();
        let machine = MachineHealth {
            open_files_refused: state.refused_descriptors,
            source_ports_refused: state.refused_ports,
            ..machine
        };
        ClientHealth { cpu_s, max_rss_mib: max_rss_mib(), machine, ..ClientHealth::default() }
    }

    fn machine(&self, before: &Before, peaks: &Peaks) -> MachineHealth {
        let (cgroups, tcp) = (self.cgroups.counters(), TcpCounters::now());
        let events = cgroups.events_since(&before.cgroups);
        let throttling = cgroups.throttling_since(&before.cgroups);
        let mib = |bytes: u64| bytes as f64 / MIB;
        MachineHealth {
            open_files: peaks.open_files,
            open_files_limit: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
            memory_used_mib: peaks.memory.map(|memory| mib(memory.used)),
            memory_limit_mib: peaks.memory.map(|memory| mib(memory.limit)),
            memory_limit_hits: events.limit_hits,
            memory_stall_s: cgroups.stall_us_since(&before.cgroups).map(|us| us as f64 / 1e6),
            ooms: events.ooms,
            oom_kills: events.oom_kills,
            throttled_periods: throttling.map(|throttling| throttling.periods),
            throttled_s: throttling.map(|throttling| throttling.us as f64 / 1e6),
            source_ports_used: peaks.source_ports_used,
            source_ports: self.source_ports,
            listen_drops: increase(tcp.listen_drops, before.tcp.listen_drops),
            segments_sent: increase(tcp.sent, before.tcp.sent),
            segments_resent: increase(tcp.resent, before.tcp.resent),
            clock_step_ms: Some(peaks.clock_step_ms),
            ..MachineHealth::default()
        }
    }

    /// One reading; turn 0, before and after the window, includes everything.
    fn look(&self, peaks: &mut Peaks, turn: u64) {
        let slow = turn.is_multiple_of(SLOW_EVERY);
        let now = Clocks::now();
        let step_ms = peaks.clocks.replace(now).map_or(0.0, |last| now.step_ms(&last));
        if step_ms.abs() > peaks.clock_step_ms.abs() {
            peaks.clock_step_ms = step_ms;
        }
        let quick = !turn.is_multiple_of(TABLES_EVERY);
        peaks.open_files = peaks.open_files.max(kernel::open_files(quick));
        if slow {
            let memory = peaks.memory.into_iter().chain(self.cgroups.memory());
            peaks.memory = memory.reduce(Memory::tighter);
        }
        if !quick && let (Some(port), Some(available)) = (self.server_port, self.source_ports) {
            peaks.source_ports_used = peaks.source_ports_used.max(source_ports_used(port, available));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::failed;

    fn unconnected(error: &str) -> RequestRecord {
        RequestRecord { error: Some(error.to_owned()), ..failed(0, 0, Outcome::Connect) }
    }

    #[test]
    fn this_machine_during_a_window() {
        let monitor = Monitor::new(Some(8000));
        let health = std::thread::scope(|scope| {
            monitor.start(scope);
            monitor.open();
            monitor.close()
        });
        let machine = &health.machine;
        assert!(health.cpu_s >= 0.0 && health.max_rss_mib > 1.0);
        // Standard streams and an event loop or two are open.
        assert!(machine.open_files.expect("proc is mounted") >= 3);
        assert!(machine.open_files_limit.expect("a limit") >= machine.open_files.expect("seen"));
        let (used, limit) =
            (machine.memory_used_mib.expect("used"), machine.memory_limit_mib.expect("limit"));
        assert!(used > 1.0 && limit > used, "{used} of {limit} MiB");
        assert!(machine.source_ports.expect("a range") > 100);
        assert_eq!((machine.clock_step_ms, machine.source_ports_refused), (Some(0.0), 0));
        assert!(machine.segments_sent.is_some() && machine.listen_drops.is_some());
    }

    #[test]
    fn a_window_that_never_opens_ends_too() {
        let monitor = Monitor::new(None);
        std::thread::scope(|scope| {
            monitor.start(scope);
            monitor.stop();
        });
        let health = monitor.close();
        assert_eq!((health.cpu_s, health.machine), (0.0, MachineHealth::default()));
    }

    #[test]
    fn failures_of_this_side_are_counted() {
        let monitor = Monitor::new(None);
        let full = std::io::Error::from(nix::errno::Errno::EMFILE).to_string();
        let ports = std::io::Error::from(nix::errno::Errno::EADDRNOTAVAIL).to_string();
        for error in [&full, &ports, &ports, "Connection refused (os error 111)"] {
            monitor.saw(&unconnected(error));
        }
        monitor.saw(&RequestRecord { outcome: Outcome::Stalled, ..unconnected(&ports) });
        monitor.saw(&RequestRecord { phase: Phase::Warmup, ..unconnected(&ports) });
        monitor.open();
        let machine = monitor.close().machine;
        assert_eq!((machine.open_files_refused, machine.source_ports_refused), (1, 2));
    }
}
