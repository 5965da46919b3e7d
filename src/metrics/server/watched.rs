//! What the metrics pages of all servers said around a measured window.

use super::layer::{LayerView, Pages};
use super::page::{Figures, Layer, Page};
use crate::metrics::record::CacheCount;

/// The pages of all servers, one entry a server.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Watched {
    pub pages: Vec<WatchedPage>,
}

/// What one page said, by the time it was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WatchedPage {
    /// Name of the process that serves it, or its address.
    pub process: String,
    /// Its address, for people.
    pub url: String,
    /// `prefill` or `decode`, when the deployment has them apart.
    pub pool: Option<&'static str>,
    /// Before the first request of the load point, warm-up included.
    pub start: Option<Page>,
    /// Before the first measured request.
    pub before: Option<Page>,
    /// After the last request has ended.
    pub after: Option<Page>,
    /// Read during the window, each with its instant, µs since instant 0 of the records.
    pub during: Vec<(u64, Page)>,
    /// Why it could not be read, the last time.
    pub problem: Option<String>,
}

impl WatchedPage {
    /// Whether its engine only prefills or only decodes: by the deployment, else by what it says.
    pub(super) fn pool(&self) -> Option<&'static str> {
        self.pool.or_else(|| self.after.as_ref()?.pool)
    }

    /// What it said of a layer at both ends of the window.
    pub(super) fn ends(&self, layer: Layer) -> Option<(&Figures, &Figures)> {
        Some((self.before.as_ref()?.layers.get(&layer)?, self.after.as_ref()?.layers.get(&layer)?))
    }

    /// What it said from one instant to another, µs: the first and the last time that it was read then are the ends.
    fn within(&self, from_us: u64, until_us: u64) -> Option<Self> {
        let is_in = |(at, _): &&(u64, Page)| (from_us..until_us).contains(at);
        let during: Vec<(u64, Page)> = self.during.iter().filter(is_in).cloned().collect();
        let [(_, first), .., (_, last)] = &during[..] else { return None };
        Some(Self { before: Some(first.clone()), after: Some(last.clone()), during, ..self.clone() })
    }

    pub(super) fn has(&self, layer: Layer) -> bool {
        [&self.after, &self.before].into_iter().flatten().any(|page| page.layers.contains_key(&layer))
    }

    /// Whether the server began anew within the window: its process is another one, or a counter fell.
    pub(super) fn began_anew(&self, layer: Layer) -> bool {
        let during = self.during.iter().map(|(_, page)| page);
        let pages: Vec<&Page> = self.before.iter().chain(during).chain(&self.after).collect();
        pages.windows(2).any(|pair| {
            let [then, now] = pair else { return false };
            let is_other = then.started.zip(now.started).is_some_and(|(then, now)| (now - then).abs() > 1.0);
            let layers = then.layers.get(&layer).zip(now.layers.get(&layer));
            is_other || layers.is_some_and(|(then, now)| now.fell_since(then))
        })
    }
}

impl Watched {
    /// Prompt tokens that prefix caches were asked for and had, over the whole load point, warm-up included. By the engines, else by
    /// the frontends, which repeat them. `None` if no page counts them or a page is missing, because a sum that misses a server would be
    /// wrong.
    pub fn prefix_cache(&self) -> Option<CacheCount> {
        let whole = self.pages.iter().map(|page| Some((page.start.as_ref()?, page.after.as_ref()?)));
        let whole = whole.collect::<Option<Vec<(&Page, &Page)>>>()?;
        let count = |layer: Layer| {
            let of = |page: &Page| page.layers.get(&layer)?.prefix_cache;
            let risen = whole
                .iter()
                .filter_map(|(start, after)| Some(of(after)?.since(of(start).unwrap_or_default())));
            risen.reduce(|a, b| CacheCount {
                queried: a.queried.saturating_add(b.queried),
                hit: a.hit.saturating_add(b.hit),
            })
        };
        count(Layer::Engine).or_else(|| count(Layer::Frontend))
    }

    /// What the engines said from one instant of the records to another, µs, of the frontends where engines have no pages; `None` where
    /// no page was read at least twice in that time.
    pub(crate) fn layer_within(&self, from_us: u64, until_us: u64) -> Option<LayerView> {
        let pages: Vec<WatchedPage> =
            self.pages.iter().filter_map(|page| page.within(from_us, until_us)).collect();
        let of = |layer: Layer| {
            let of_layer: Vec<&WatchedPage> = pages.iter().filter(|page| page.has(layer)).collect();
            let is_whole = of_layer.len() == self.pages.iter().filter(|page| page.has(layer)).count();
            Some(Pages::of(layer, of_layer).filter(|_| is_whole)?.view())
        };
        of(Layer::Engine).or_else(|| of(Layer::Frontend))
    }

    /// Requests that ended in the window so far, by the servers nearest to the client.
    pub fn requests(&self) -> Option<u64> {
        let count = |layer: Layer| {
            let pages = self.pages.iter().filter(|page| page.has(layer)).collect();
            Pages::of(layer, pages)?.counter("requests")
        };
        count(Layer::Frontend).or_else(|| count(Layer::Engine))
    }

    /// Pages that could not be read, or that say nothing that is known, each in one line.
    pub(super) fn notes(&self) -> Vec<String> {
        let note = |page: &WatchedPage| {
            let is_read = page.before.is_some() && page.after.is_some();
            let says_nothing = is_read && page.after.as_ref().is_some_and(|page| page.layers.is_empty());
            match &page.problem {
                Some(problem) if !is_read => Some(format!("no metrics page at {}: {problem}", page.url)),
                _ if says_nothing => {
                    Some(format!("the metrics page at {} has no figure that tokmark knows", page.url))
                }
                _ => None,
            }
        };
        self.pages.iter().filter_map(note).collect()
    }
}
