//! The figures of one layer, the engines or the frontends before them, over a measured window.

use serde::{Deserialize, Serialize};

use super::histogram::{Histogram, Latency};
use super::imbalance::Imbalance;
use super::page::{Figures, Layer, Page};
use super::speculation::Speculation;
use super::watched::WatchedPage;

/// The figures of one layer over the measured window. What its pages do not have is `null`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LayerView {
    /// Metrics pages it was read from.
    pub pages: usize,
    /// Time to first token.
    pub ttft_ms: Option<Latency>,
    /// Waiting inside the server before the first step.
    pub queue_ms: Option<Latency>,
    /// First step → first token.
    pub prefill_ms: Option<Latency>,
    /// First token → last token.
    pub decode_ms: Option<Latency>,
    /// Inter-token latency.
    pub itl_ms: Option<Latency>,
    /// Arrival → last token.
    pub e2e_ms: Option<Latency>,
    /// Requests in the batch.
    pub running: Option<Level>,
    /// Requests that wait for a place in it; of a frontend those without a first token.
    pub waiting: Option<Level>,
    /// All requests inside: of an engine running and waiting ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<Level>,
    /// Share of the KV cache in use, of the fullest rank.
    pub kv_cache: Option<Level>,
    /// Requests that ended in the window.
    pub requests: Option<u64>,
    /// Prompt tokens of requests that ended.
    pub prompt_tokens: Option<u64>,
    /// Tokens generated.
    pub output_tokens: Option<u64>,
    /// Requests taken out of the batch for want of memory.
    pub preemptions: Option<u64>,
    /// Speculative decoding; `null` when nothing was drafted.
    pub speculation: Option<Speculation>,
    /// How unequally its processes and data-parallel ranks were loaded; `null` for a single one.
    pub imbalance: Option<Imbalance>,
    /// Processes that began anew within the window. Counters and latencies of the layer are then `null`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restarted: Vec<String>,
}

/// A gauge during the window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Level {
    /// Mean of the samples.
    pub avg: f64,
    /// Highest sample.
    pub max: f64,
}

/// Samples from which on their mean and maximum stand for a window: with fewer, its ends weigh too much.
const LEAST_SAMPLES: usize = 3;

impl Level {
    /// `None` of fewer samples than [`LEAST_SAMPLES`].
    pub(super) fn of(samples: &[f64]) -> Option<Self> {
        if samples.len() < LEAST_SAMPLES {
            return None;
        }
        let max = samples.iter().copied().reduce(f64::max)?;
        Some(Self { avg: samples.iter().sum::<f64>() / samples.len() as f64, max })
    }
}

/// The pages of a layer, of which every one was read at both ends of the window.
pub(super) struct Pages<'a> {
    pub layer: Layer,
    pub pages: Vec<&'a WatchedPage>,
}

impl<'a> Pages<'a> {
    /// `None` without a page of the layer, and when one could not be read at both ends: a sum that misses a server would be wrong.
    pub(super) fn of(layer: Layer, pages: Vec<&'a WatchedPage>) -> Option<Self> {
        let is_whole = |page: &&WatchedPage| page.ends(layer).is_some();
        (!pages.is_empty() && pages.iter().all(is_whole)).then_some(Self { layer, pages })
    }

    fn ends(&self) -> impl Iterator<Item = (&'a Figures, &'a Figures)> {
        self.pages.iter().filter_map(|page| page.ends(self.layer))
    }

    /// The rise of a counter on each page.
    fn risen(&self, role: &str) -> Option<Vec<f64>> {
        let risen = |(before, after): (&Figures, &Figures)| {
            let risen = after.counters.get(role)? - before.counters.get(role).copied().unwrap_or(0.0);
            (risen >= 0.0).then_some(risen)
        };
        self.ends().map(risen).collect()
    }

    /// `as` saturates.
    pub(super) fn counter(&self, role: &str) -> Option<u64> {
        self.risen(role).map(|each| each.iter().sum::<f64>().round() as u64)
    }

    /// The rise of a counter by position of a token within its draft, from the first on.
    pub(super) fn by_position(&self, role: &str) -> Vec<f64> {
        let mut at: std::collections::BTreeMap<u32, f64> = std::collections::BTreeMap::new();
        for (before, after) in self.ends() {
            for ((_, position), count) in after.by_position.iter().filter(|((known, _), _)| *known == role) {
                let then = before.by_position.iter().find(|(key, _)| **key == (role, *position));
                *at.entry(*position).or_default() += count - then.map_or(0.0, |(_, count)| *count);
            }
        }
        at.into_values().collect()
    }

    fn latency(&self, role: &str) -> Option<Latency> {
        let (mut all, nothing) = (Histogram::default(), Histogram::default());
        for (before, after) in self.ends() {
            let after = after.histograms.get(role)?;
            all.add(&after.since(before.histograms.get(role).unwrap_or(&nothing))?);
        }
        all.latency()
    }

    /// A figure at each instant of the window, µs: that of all pages together. Pages are read on the same clock, each a little off.
    pub(super) fn samples(
        &self,
        figure: impl Fn(&Figures) -> Option<f64>,
        join: fn(f64, f64) -> f64,
    ) -> Vec<(u64, f64)> {
        let of_page = |page: &&WatchedPage| -> Vec<(u64, f64)> {
            let of = |(at, page): &(u64, Page)| Some((*at, figure(page.layers.get(&self.layer)?)?));
            page.during.iter().filter_map(of).collect()
        };
        let mut pages: Vec<Vec<(u64, f64)>> =
            self.pages.iter().map(of_page).filter(|of| !of.is_empty()).collect();
        let Some(fewest) = (0..pages.len()).min_by_key(|at| pages.get(*at).map_or(0, Vec::len)) else {
            return Vec::new();
        };
        let first = pages.swap_remove(fewest);
        let nearest = |samples: &Vec<(u64, f64)>, at: u64| {
            samples.iter().min_by_key(|(other, _)| other.abs_diff(at)).map_or(0.0, |(_, value)| *value)
        };
        let joined = |(at, value): (u64, f64)| {
            (at, pages.iter().fold(value, |sum, samples| join(sum, nearest(samples, at))))
        };
        first.into_iter().map(joined).collect()
    }

    fn level(&self, figure: impl Fn(&Figures) -> Option<f64>, join: fn(f64, f64) -> f64) -> Option<Level> {
        let samples: Vec<f64> = self.samples(figure, join).into_iter().map(|(_, value)| value).collect();
        Level::of(&samples)
    }

    /// The mean of a gauge over all pages and samples that have it and are not 0.
    pub(super) fn mean(&self, role: &str) -> Option<f64> {
        let gauges = self.pages.iter().flat_map(|page| &page.during);
        let gauges = gauges.filter_map(|(_, page)| page.layers.get(&self.layer)?.gauges.get(role).copied());
        let gauges: Vec<f64> = gauges.filter(|value| *value > 0.0).collect();
        (!gauges.is_empty()).then(|| gauges.iter().sum::<f64>() / gauges.len() as f64)
    }

    pub(super) fn view(&self) -> LayerView {
        fn add(a: f64, b: f64) -> f64 {
            a + b
        }
        let gauge = |role: &'static str| move |figures: &Figures| figures.gauges.get(role).copied();
        let restarted = self.pages.iter().filter(|page| page.began_anew(self.layer));
        let restarted: Vec<String> = restarted.map(|page| page.process.clone()).collect();
        let levels = LayerView {
            pages: self.pages.len(),
            running: self.level(gauge("running"), add),
            waiting: self.level(gauge("waiting"), add),
            in_flight: self.level(Figures::in_flight, add),
            kv_cache: self.level(gauge("kv_cache"), f64::max),
            imbalance: Imbalance::of(self),
            restarted,
            ..LayerView::default()
        };
        if !levels.restarted.is_empty() {
            return levels;
        }
        let e2e_ms = self.latency("e2e");
        LayerView {
            ttft_ms: self.latency("ttft"),
            queue_ms: self.latency("queue"),
            prefill_ms: self.latency("prefill"),
            decode_ms: self.latency("decode"),
            itl_ms: self.latency("itl"),
            e2e_ms,
            requests: self.counter("requests").or(e2e_ms.map(|latency| latency.count)),
            prompt_tokens: self.counter("prompt_tokens"),
            output_tokens: self.counter("output_tokens"),
            preemptions: self.counter("preemptions"),
            speculation: Speculation::of(self),
            ..levels
        }
    }
}
