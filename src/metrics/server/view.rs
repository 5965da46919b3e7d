//! The servers' view on a load point.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::exchange::{Beyond, InFlight};
use super::layer::{LayerView, Pages};
use super::page::Layer;
use super::watched::{Watched, WatchedPage};
use crate::metrics::fold::Fold;
use crate::metrics::record::PointRun;

/// What the servers say of a load point.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ServerView {
    /// All engines together; `null` when a page of theirs was not to be had, and when prefill and decode are apart.
    pub engine: Option<LayerView>,
    /// The engines that prefill and those that decode, `prefill` and `decode`, when these are apart. A request passes both.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pools: BTreeMap<String, LayerView>,
    /// All frontends before them together; `null` without one that publishes figures.
    pub frontend: Option<LayerView>,
    /// Requests in flight, by the client and by the servers nearest to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<InFlight>,
    /// By how much the client saw longer latencies than the servers nearest to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_beyond: Option<Beyond>,
    /// Metrics pages that could not be read or understood.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl ServerView {
    /// The view on a window; `None` without metrics pages.
    pub fn of(watched: &Watched, run: &PointRun, fold: &Fold) -> Option<Self> {
        let of_layer =
            |layer: Layer| watched.pages.iter().filter(move |page| page.has(layer)).collect::<Vec<_>>();
        let (engines, frontends) =
            (of_layer(Layer::Engine), Pages::of(Layer::Frontend, of_layer(Layer::Frontend)));
        let mut view = Self { notes: watched.notes(), ..Self::default() };
        let are_apart = engines.iter().any(|page| page.pool().is_some());
        let mut nearest = frontends;
        view.frontend = nearest.as_ref().map(Pages::view);
        if are_apart {
            view.pools = pools(&engines);
        } else if let Some(engines) = Pages::of(Layer::Engine, engines) {
            view.engine = Some(engines.view());
            nearest = nearest.or(Some(engines));
        }
        view.in_flight = nearest.and_then(|pages| InFlight::of(&pages, run, fold));
        view.client_beyond =
            view.nearest().map(|layer| Beyond::of(layer, fold)).filter(|beyond| *beyond != Beyond::default());
        (view != Self::default()).then_some(view)
    }

    /// The layer nearest to the client that every request passes once.
    pub fn nearest(&self) -> Option<&LayerView> {
        self.frontend.as_ref().or(self.engine.as_ref())
    }

    /// All layers with their names, from the client's side on.
    pub fn layers(&self) -> impl Iterator<Item = (&str, &LayerView)> {
        let frontend = self.frontend.iter().map(|layer| ("frontend", layer));
        let pools = ["prefill", "decode"].into_iter().filter_map(|name| Some((name, self.pools.get(name)?)));
        frontend.chain(self.engine.iter().map(|layer| ("engine", layer))).chain(pools)
    }

    /// The engines: all of them, or by what they do.
    pub fn engines(&self) -> impl Iterator<Item = &LayerView> {
        self.layers().filter(|(name, _)| *name != "frontend").map(|(_, layer)| layer)
    }
}

/// Those that prefill and those that decode. Beside engines that say they prefill the others decode.
fn pools(engines: &[&WatchedPage]) -> BTreeMap<String, LayerView> {
    let of = |name: &'static str| {
        let other = if name == "prefill" { "decode" } else { "prefill" };
        let has_other = engines.iter().any(|page| page.pool() == Some(other));
        let is_in = |page: &&&WatchedPage| page.pool().map_or(has_other, |pool| pool == name);
        let pages = Pages::of(Layer::Engine, engines.iter().filter(is_in).copied().collect())?;
        Some((name.to_owned(), pages.view()))
    };
    ["prefill", "decode"].into_iter().filter_map(of).collect()
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
