//! What the samplers of a deployment have said so far.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::file::GpuFile;
use crate::gpu::{Hello, Line, Sample, unix_ns};
use crate::metrics::gpus::{NodeView, Reading, Track, Watch};

/// The state, and who waits for it to change.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    file: Mutex<GpuFile>,
    changed: Notify,
    stop: CancellationToken,
}

#[derive(Debug)]
pub(super) struct State {
    pub interval_s: f64,
    pub ready_us: Option<i64>,
    began_us: i64,
    before_servers: Option<(i64, i64)>,
    before_load: Option<(i64, i64)>,
    nodes: Vec<Node>,
}

/// A node, its sampler, and its samples on its own clock.
#[derive(Debug, Default)]
struct Node {
    name: String,
    asked: Vec<String>,
    hello: Option<Hello>,
    /// By device.
    samples: Vec<Vec<(i64, Reading)>>,
    /// The last sample, µs.
    last_us: i64,
    /// How far its clock is ahead, and how far that may be off, ns.
    clock: Option<(i64, i64)>,
    /// Samples that wait for the clock before they are written.
    unwritten: Vec<Sample>,
    problem: Option<String>,
    has_ended: bool,
}

impl Shared {
    pub(super) fn new(state: State, file: GpuFile) -> Self {
        let stop = CancellationToken::new();
        Self { state: Mutex::new(state), file: Mutex::new(file), changed: Notify::new(), stop }
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock())
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changed.notify_waiters();
    }

    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    pub(super) fn stopped(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Waits until something is true of the state, or the time is over.
    pub(super) async fn until(&self, patience: Duration, is_so: impl Fn(&State) -> bool) {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if is_so(&self.state.lock()) {
                    return;
                }
                changed.await;
            }
        };
        let _ = tokio::time::timeout(patience, waiting).await;
    }

    pub(super) fn take_in(&self, node: usize, is_here: bool, line: Line) {
        {
            let mut state = self.state.lock();
            let Some(node) = state.nodes.get_mut(node) else { return };
            match line {
                Line::Hello(hello) => {
                    node.samples = vec![Vec::new(); hello.devices.len()];
                    node.hello = Some(hello);
                }
                Line::Sample(sample) => {
                    node.add(&sample);
                    node.unwritten.push(sample);
                }
                Line::Clock { asked, unix_ns: there } => node.answered(&asked, there),
                Line::Lost(reason) => node.problem = Some(reason),
            }
            if is_here || node.clock.is_some() {
                let offset_ns = node.clock.map_or(0, |(offset, _)| offset);
                let source = node.hello.clone().unwrap_or_default();
                for sample in std::mem::take(&mut node.unwritten) {
                    self.file.lock().write(&node.name, &source, &sample, offset_ns);
                }
            }
        }
        self.changed.notify_waiters();
    }
}

impl Node {
    fn add(&mut self, sample: &Sample) {
        self.last_us = sample.unix_ns / 1000;
        for (device, reading) in &sample.gpus {
            if let Some(samples) = self.samples.get_mut(*device) {
                samples.push((self.last_us, reading.clone()));
            }
        }
    }

    /// The node's clock was read at some instant between question and answer; half the time between is the error.
    fn answered(&mut self, asked: &str, there: i64) {
        let (Ok(sent), now) = (asked.trim().parse::<i64>(), unix_ns()) else { return };
        let error = (now - sent) / 2;
        if self.clock.is_none_or(|(_, known)| error < known) {
            self.clock = Some((there - (sent + error), error));
        }
    }

    fn has_source(&self) -> bool {
        self.hello.as_ref().is_some_and(|hello| hello.source.is_some())
    }

    /// An instant of this machine on the node's clock, µs.
    fn there(&self, at_us: i64) -> i64 {
        at_us + self.clock.map_or(0, |(offset, _)| offset / 1000)
    }

    fn view(&self) -> NodeView {
        let ms = |ns: i64| ns as f64 / 1e6;
        let hello = self.hello.clone().unwrap_or_default();
        let silent = || match hello.source {
            None if self.hello.is_some() => format!("no source: {}", hello.tried.join("; ")),
            _ => "no sample".to_owned(),
        };
        let is_silent = self.samples.iter().all(Vec::is_empty);
        NodeView {
            node: self.name.clone(),
            source: hello.source.clone(),
            clock_offset_ms: self.clock.map(|(offset, _)| ms(offset)),
            clock_error_ms: self.clock.map(|(_, error)| ms(error)),
            problem: self.problem.clone().or_else(|| is_silent.then(silent)),
        }
    }
}

impl State {
    pub(super) fn new(interval_s: f64, nodes: impl Iterator<Item = (String, Vec<String>)>) -> Self {
        let nodes = nodes.map(|(name, asked)| Node { name, asked, ..Node::default() }).collect();
        Self {
            interval_s,
            ready_us: None,
            began_us: unix_ns() / 1000,
            before_servers: None,
            before_load: None,
            nodes,
        }
    }

    pub(super) fn servers_start(&mut self, now: i64) {
        self.before_servers = Some((self.began_us, now));
    }

    /// A sampler ended by itself.
    pub(super) fn ended(&mut self, node: usize, complaint: Option<String>) {
        let Some(node) = self.nodes.get_mut(node) else { return };
        node.has_ended = true;
        if node.problem.is_none() && (node.hello.is_none() || node.has_source()) {
            node.problem = Some(match complaint {
                Some(complaint) => format!("its sampler ended: {complaint}"),
                None => "its sampler ended".to_owned(),
            });
        }
    }

    pub(super) fn all_began(&self) -> bool {
        self.have_reached(i64::MIN)
    }

    /// Whether every node that still samples has a sample from this instant on.
    pub(super) fn have_reached(&self, at_us: i64) -> bool {
        let reached =
            |node: &Node| node.last_us > 0 && (at_us == i64::MIN || node.last_us >= node.there(at_us));
        let is_silent = |node: &Node| node.hello.as_ref().is_some_and(|hello| hello.source.is_none());
        self.nodes.iter().all(|node| node.has_ended || is_silent(node) || reached(node))
    }

    /// See [`super::GpuTelemetry::sources`].
    pub(super) fn sources(&self) -> Option<Result<String, String>> {
        let with: Vec<&Node> = self.nodes.iter().filter(|node| node.has_source()).collect();
        let without: Vec<&Node> = self.nodes.iter().filter(|node| !node.has_source()).collect();
        let why = |node: &&Node| format!("{}: {}", node.name, node.view().problem.unwrap_or_default());
        if let (Some(node), false) = (without.first(), with.is_empty()) {
            return Some(Err(why(node)));
        }
        if with.is_empty() {
            let matters = |node: &&&Node| node.hello.as_ref().is_none_or(|hello| hello.has_driver);
            return without.iter().find(matters).map(|node| Err(why(node)));
        }
        let mut names: Vec<&str> =
            with.iter().filter_map(|node| node.hello.as_ref()?.source.as_deref()).collect();
        names.dedup();
        let gpus: usize = with.iter().map(|node| node.samples.len()).sum();
        Some(Ok(format!("{gpus} GPUs by {}", names.join(", "))))
    }

    /// `began`: when the load began that is looked at.
    pub(super) fn watch(&self, began: i64) -> Watch {
        let is_sampled = self.nodes.iter().any(Node::has_source);
        let mut watch = Watch {
            interval_s: self.interval_s,
            nodes: self.nodes.iter().map(Node::view).collect(),
            before_servers: self.before_servers,
            before_load: self.before_load.or_else(|| Some((self.ready_us?, began))),
            ..Watch::default()
        };
        for node in self.nodes.iter().filter(|_| is_sampled) {
            let hello = node.hello.clone().unwrap_or_default();
            let missing = if node.has_source() { hello.missing } else { node.asked.clone() };
            watch.missing.extend(missing.into_iter().map(|gpu| (node.name.clone(), gpu)));
            let offset_us = node.there(0);
            watch.tracks.extend(hello.devices.into_iter().zip(&node.samples).map(|(device, samples)| {
                Track {
                    node: node.name.clone(),
                    device,
                    samples: samples.iter().map(|(at, reading)| (at - offset_us, reading.clone())).collect(),
                }
            }));
        }
        watch
    }

    /// Keeps of the samples until the end of a load only what later loads need: the idle phases, and the last one.
    pub(super) fn forget(&mut self, began: i64, ended: i64) {
        if let (None, Some(ready)) = (self.before_load, self.ready_us) {
            self.before_load = Some((ready, began));
        }
        let phases = [self.before_servers, self.before_load];
        for node in &mut self.nodes {
            let offset = node.there(0);
            let is_idle =
                |at: i64| phases.iter().flatten().any(|(from, to)| (*from..=*to).contains(&(at - offset)));
            for samples in &mut node.samples {
                let last = samples.iter().rposition(|(at, _)| at - offset <= ended).unwrap_or(0);
                let mut place = 0;
                samples.retain(|(at, _)| {
                    place += 1;
                    place > last || is_idle(*at)
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::gpus::Device;

    const S: i64 = 1_000_000;

    fn state() -> Shared {
        let state = State::new(1.0, [("n1".to_owned(), vec!["0".to_owned(), "5".to_owned()])].into_iter());
        Shared::new(state, GpuFile::of(std::path::Path::new("/dev/null")))
    }

    fn hello(source: Option<&str>) -> Line {
        Line::Hello(Hello {
            source: source.map(str::to_owned),
            devices: vec![Device { gpu: "0".into(), ..Device::default() }],
            missing: vec!["5".into()],
            tried: vec!["NVML: not there".into()],
            has_driver: false,
        })
    }

    fn sample(at_s: i64) -> Line {
        let reading = Reading { power_w: Some(at_s as f64), ..Reading::default() };
        Line::Sample(Sample { unix_ns: at_s * S * 1000, gpus: vec![(0, reading)] })
    }

    #[test]
    fn samples_are_moved_to_the_clock_of_the_run() {
        let shared = state();
        shared.take_in(0, false, hello(Some("NVML")));
        shared.take_in(0, false, sample(107));
        // Its clock says 7 s more than the middle of question and answer.
        let asked = unix_ns();
        shared.change(|state| state.nodes[0].answered(&asked.to_string(), asked + 7 * S * 1000));
        let watch = shared.look(|state| state.watch(0));
        let at = watch.tracks[0].samples[0].0;
        assert!((at - 100 * S).abs() < S, "{at}");
        assert_eq!(watch.missing, [("n1".to_owned(), "5".to_owned())]);
        assert!(shared.look(|state| state.have_reached(99 * S) && !state.have_reached(102 * S)));
    }

    #[test]
    fn a_machine_without_gpus_says_nothing() {
        let shared = state();
        shared.take_in(0, true, hello(None));
        assert!(shared.look(State::all_began));
        assert_eq!(shared.look(State::sources), None);
        assert!(shared.look(|state| state.watch(0)).tracks.is_empty());
        let broken = state();
        broken.change(|state| state.ended(0, Some("srun: error: no step".into())));
        let said = broken.look(State::sources).unwrap().unwrap_err();
        assert_eq!(said, "n1: its sampler ended: srun: error: no step");
    }

    #[test]
    fn old_samples_are_forgotten_and_idle_ones_kept() {
        let shared = state();
        shared.take_in(0, true, hello(Some("NVML")));
        (1..=9).for_each(|at| shared.take_in(0, true, sample(at)));
        shared.change(|state| {
            state.before_servers = Some((0, S));
            state.ready_us = Some(3 * S);
            state.forget(4 * S, 8 * S);
        });
        let watch = shared.look(|state| state.watch(9 * S));
        let left: Vec<i64> = watch.tracks[0].samples.iter().map(|(at, _)| at / S).collect();
        assert_eq!(left, [1, 3, 4, 8, 9]);
        assert_eq!(watch.before_load, Some((3 * S, 4 * S)), "that of the first load");
    }
}
