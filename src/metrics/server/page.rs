//! A metrics page in neutral roles, whichever engine wrote it.

use std::collections::{BTreeMap, BTreeSet};

use super::histogram::Histogram;
use super::prometheus::{self, Sample};
use super::roles::{LayerRoles, ROLES, Roles};
use crate::metrics::record::CacheCount;

/// Who counts: the engines, or a frontend before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    Engine,
    Frontend,
}

/// Figures by role, summed over label sets; shares are the highest, means the mean.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    pub gauges: BTreeMap<&'static str, f64>,
    pub counters: BTreeMap<&'static str, f64>,
    pub(super) histograms: BTreeMap<&'static str, Histogram>,
    /// Counters by role and position of a token within its draft.
    pub(super) by_position: BTreeMap<(&'static str, u32), f64>,
    pub(super) prefix_cache: Option<CacheCount>,
    /// The same of each data-parallel rank, by the value of its label, when there are several.
    pub(super) ranks: BTreeMap<String, Figures>,
}

impl Figures {
    /// Mean of what a histogram of durations counted between two pages, ms; `None` if it counted nothing.
    pub fn mean_ms_between(before: &Self, after: &Self, role: &str) -> Option<f64> {
        let counted = after.histograms.get(role)?.since(before.histograms.get(role)?)?;
        (counted.count > 0.0).then(|| 1e3 * counted.sum / counted.count)
    }
}

/// What a page says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// By layer; a layer that it says nothing of is absent.
    pub layers: BTreeMap<Layer, Figures>,
    /// When its process started, seconds since 1970.
    pub(super) started: Option<f64>,
    /// `prefill` or `decode`, when the engine says that it does only that.
    pub(super) pool: Option<&'static str>,
}

type ByName<'a> = BTreeMap<&'a str, Vec<&'a Sample>>;

impl Page {
    /// Reads a page in the Prometheus text format.
    pub fn of(text: &str) -> Self {
        Self::of_samples(&prometheus::parse(text))
    }

    pub fn of_samples(samples: &[Sample]) -> Self {
        let roles: &'static Roles = &ROLES;
        let finite = || samples.iter().filter(|sample| sample.value.is_finite());
        let by_name = by_name(finite());
        let layers = [(Layer::Engine, &roles.engine), (Layer::Frontend, &roles.frontend)];
        let layers = layers.into_iter().map(|(layer, roles)| {
            let mut figures = figures(roles, &by_name);
            figures.ranks = ranks(roles, &by_name);
            (layer, figures)
        });
        Self {
            layers: layers.filter(|(_, figures)| !figures.is_empty()).collect(),
            started: roles.started.iter().find_map(|name| Some(by_name.get(name.as_str())?.first()?.value)),
            pool: finite().find_map(|sample| pool(&roles.engine, sample)),
        }
    }
}

impl Figures {
    fn is_empty(&self) -> bool {
        let Self { gauges, counters, histograms, prefix_cache, .. } = self;
        gauges.is_empty() && counters.is_empty() && histograms.is_empty() && prefix_cache.is_none()
    }

    /// Requests that it has: waiting and running ones.
    pub(super) fn in_flight(&self) -> Option<f64> {
        let gauge = |role| self.gauges.get(role).copied();
        gauge("in_flight").or_else(|| Some(gauge("running")? + gauge("waiting")?))
    }

    /// Whether a counter or a histogram is lower than in `before`: the server began anew in between.
    pub(super) fn fell_since(&self, before: &Self) -> bool {
        let counters =
            self.counters.iter().any(|(role, now)| before.counters.get(role).is_some_and(|then| now < then));
        let mut histograms = self.histograms.iter();
        counters
            || histograms
                .any(|(role, now)| before.histograms.get(role).is_some_and(|then| now.count < then.count))
    }
}

fn by_name<'a>(samples: impl Iterator<Item = &'a Sample>) -> ByName<'a> {
    let mut by_name = ByName::new();
    samples.for_each(|sample| by_name.entry(&sample.name).or_default().push(sample));
    by_name
}

fn label<'a>(sample: &'a Sample, names: &[String]) -> Option<&'a str> {
    let found = names.iter().find_map(|name| sample.labels.iter().find(|(known, _)| known == name));
    found.map(|(_, value)| value.as_str())
}

fn pool(roles: &LayerRoles, sample: &Sample) -> Option<&'static str> {
    let of = |name: &String| match label(sample, std::slice::from_ref(name))? {
        "prefill" => Some("prefill"),
        "decode" => Some("decode"),
        _ => None,
    };
    roles.pool_labels.iter().find_map(of)
}

/// A gauge that is a share: over several ranks the fullest counts.
const SHARE: &str = "kv_cache";

/// Gauges that are means, which do not add up.
const MEANS: [&str; 2] = ["acceptance_length", "acceptance_rate"];

fn gauge(role: &str, samples: &[&Sample]) -> Option<f64> {
    let values = samples.iter().map(|sample| sample.value);
    match role {
        SHARE => values.reduce(f64::max),
        role if MEANS.contains(&role) => Some(values.sum::<f64>() / samples.len() as f64),
        _ => Some(values.sum()),
    }
}

fn figures(roles: &'static LayerRoles, by_name: &ByName<'_>) -> Figures {
    let counter = |name: &str| by_name.get(format!("{name}_total").as_str()).or_else(|| by_name.get(name));
    let sum =
        |name: &str| counter(name).map(|samples| samples.iter().map(|sample| sample.value).sum::<f64>());
    let mut figures = Figures::default();
    for (role, names) in &roles.gauges {
        let value = names.iter().find_map(|name| gauge(role, by_name.get(name.as_str())?));
        figures.gauges.extend(value.map(|value| (role.as_str(), value)));
    }
    for (role, names) in &roles.counters {
        let value = names.iter().find_map(|name| sum(name));
        figures.counters.extend(value.map(|value| (role.as_str(), value)));
    }
    for (role, names) in &roles.histograms {
        let value = names.iter().find_map(|name| histogram(name, by_name));
        figures.histograms.extend(value.map(|value| (role.as_str(), value)));
    }
    for (role, names) in &roles.by_position {
        for sample in names.iter().find_map(|name| counter(name)).into_iter().flatten() {
            let position = label(sample, &roles.position_labels).and_then(|position| position.parse().ok());
            if let Some(position) = position {
                *figures.by_position.entry((role.as_str(), position)).or_default() += sample.value;
            }
        }
    }
    // `as` saturates, and turns negative values into 0.
    figures.prefix_cache = roles.prefix_cache.iter().find_map(|names| {
        let queried = sum(&names.queried)? as u64;
        let hit = sum(&names.hit).map(|hit| hit as u64);
        Some(CacheCount { queried, hit: hit.or(names.late.then_some(0))? })
    });
    figures
}

/// The figures of each rank, when the page has several.
fn ranks(roles: &'static LayerRoles, by_name_of_all: &ByName<'_>) -> BTreeMap<String, Figures> {
    let of_role = roles.gauges.values().chain(roles.counters.values()).flatten();
    let samples = of_role.flat_map(|name| [format!("{name}_total"), name.clone()]);
    let samples = samples.filter_map(|name| by_name_of_all.get(name.as_str())).flatten();
    let ranks: BTreeSet<&str> = samples.filter_map(|sample| label(sample, &roles.rank_labels)).collect();
    if ranks.len() < 2 {
        return BTreeMap::new();
    }
    let of = |rank: &str| {
        let all = by_name_of_all.values().flatten().copied();
        let own = by_name(all.filter(|sample| label(sample, &roles.rank_labels) == Some(rank)));
        (rank.to_owned(), figures(roles, &own))
    };
    ranks.into_iter().map(of).collect()
}

/// The histogram of that name, summed over label sets. A series without sum and count is none: the page ends in its middle.
fn histogram(name: &str, by_name: &ByName<'_>) -> Option<Histogram> {
    type Labels<'a> = Vec<(&'a str, &'a str)>;
    fn labels(sample: &Sample) -> Labels<'_> {
        let others = sample.labels.iter().filter(|(name, _)| name != "le");
        others.map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
    #[derive(Default)]
    struct Series {
        buckets: Vec<(f64, f64)>,
        sum: Option<f64>,
        count: Option<f64>,
    }
    let of = |suffix: &str| by_name.get(format!("{name}{suffix}").as_str()).into_iter().flatten();
    let mut series: BTreeMap<Labels<'_>, Series> = BTreeMap::new();
    for sample in of("_bucket") {
        let bound =
            sample.labels.iter().find(|(name, _)| name == "le").and_then(|(_, bound)| bound.parse().ok());
        let buckets = &mut series.entry(labels(sample)).or_default().buckets;
        buckets.extend(bound.map(|bound: f64| (bound, sample.value)));
    }
    of("_sum").for_each(|sample| series.entry(labels(sample)).or_default().sum = Some(sample.value));
    of("_count").for_each(|sample| series.entry(labels(sample)).or_default().count = Some(sample.value));
    let whole = series.into_values().filter_map(|Series { mut buckets, sum, count }| {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        if buckets.last().is_none_or(|(bound, _)| bound.is_finite()) {
            buckets.clear();
        }
        Some(Histogram { buckets, sum: sum?, count: count? })
    });
    whole.reduce(|mut all, one| {
        all.add(&one);
        all
    })
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
