//! How unequally the replicas and data-parallel ranks of a layer were loaded.

use serde::{Deserialize, Serialize};

use super::layer::{Level, Pages};
use super::page::{Figures, Page};
use super::watched::WatchedPage;

/// How unequally processes and data-parallel ranks were loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Imbalance {
    /// Processes and ranks that were compared.
    pub of: usize,
    /// What was compared.
    pub by: LoadMeasure,
    /// Of all of them together: requests, or running requests on average.
    pub total: f64,
    /// The largest over the mean: 1 when all are alike, `of` when one has everything.
    pub largest_over_mean: f64,
    /// Who has the largest.
    pub largest: String,
    /// Those that had none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub idle: Vec<String>,
}

/// By what processes are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoadMeasure {
    /// Requests that ended in the window.
    Requests,
    /// Running requests on average.
    Running,
}

impl Imbalance {
    pub(super) fn of(pages: &Pages<'_>) -> Option<Self> {
        let units: Vec<Unit<'_>> = pages.pages.iter().flat_map(|page| Unit::of(page, pages)).collect();
        let requests: Option<Vec<f64>> = units.iter().map(Unit::requests).collect();
        let running = || units.iter().map(Unit::running).collect::<Option<Vec<f64>>>();
        let (by, each): (_, Vec<f64>) = match requests {
            Some(requests) => (LoadMeasure::Requests, requests),
            None => (LoadMeasure::Running, running()?),
        };
        let (total, named) = (each.iter().sum::<f64>(), || units.iter().map(Unit::name).zip(&each));
        let (largest, most) = named().max_by(|a, b| a.1.total_cmp(b.1))?;
        if units.len() < 2 || total <= 0.0 {
            return None;
        }
        let idle = named().filter(|(_, value)| **value == 0.0).map(|(name, _)| name).collect();
        let largest_over_mean = most * units.len() as f64 / total;
        Some(Self { of: units.len(), by, total, largest_over_mean, largest, idle })
    }
}

/// A process, or one of the data-parallel ranks that share its page.
struct Unit<'a> {
    page: &'a WatchedPage,
    layer: super::page::Layer,
    rank: Option<&'a str>,
}

impl<'a> Unit<'a> {
    fn of(page: &'a WatchedPage, pages: &Pages<'a>) -> Vec<Self> {
        let ranks = page.ends(pages.layer).map(|(_, after)| after.ranks.keys()).into_iter().flatten();
        let ranks: Vec<Option<&str>> = ranks.map(|rank| Some(rank.as_str())).collect();
        let ranks = if ranks.is_empty() { vec![None] } else { ranks };
        ranks.into_iter().map(|rank| Self { page, layer: pages.layer, rank }).collect()
    }

    fn name(&self) -> String {
        match self.rank {
            Some(rank) => format!("{} rank {rank}", self.page.process),
            None => self.page.process.clone(),
        }
    }

    fn figures<'p>(&self, page: &'p Page) -> Option<&'p Figures> {
        let figures = page.layers.get(&self.layer)?;
        self.rank.map_or(Some(figures), |rank| figures.ranks.get(rank))
    }

    /// Counted ones, else those with a latency.
    fn requests(&self) -> Option<f64> {
        let count = |page: &Option<Page>| {
            let figures = self.figures(page.as_ref()?)?;
            let counted = figures.counters.get("requests").copied();
            counted.or_else(|| Some(figures.histograms.get("e2e")?.count))
        };
        let risen = count(&self.page.after)? - count(&self.page.before).unwrap_or(0.0);
        (risen >= 0.0).then_some(risen)
    }

    fn running(&self) -> Option<f64> {
        let during = self.page.during.iter();
        let samples = during.filter_map(|(_, page)| self.figures(page)?.gauges.get("running").copied());
        Level::of(&samples.collect::<Vec<f64>>()).map(|level| level.avg)
    }
}
