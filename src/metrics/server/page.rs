//! A metrics page in neutral roles, whichever engine wrote it. Which name means what is data: `launchers/metrics/roles.toml`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::histogram::Histogram;
use super::prometheus::{self, Sample};

/// Names by role.
type Names = BTreeMap<String, Vec<String>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Roles {
    engine: LayerRoles,
    frontend: LayerRoles,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LayerRoles {
    gauges: Names,
    counters: Names,
    histograms: Names,
}

static ROLES: LazyLock<Roles> = LazyLock::new(|| {
    toml::from_str(include_str!("../../../launchers/metrics/roles.toml")).unwrap_or_default()
});

/// Who counts: the engines, or a frontend before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    Engine,
    Frontend,
}

/// Figures by role, summed over label sets; shares are the highest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    pub gauges: BTreeMap<&'static str, f64>,
    pub counters: BTreeMap<&'static str, f64>,
    pub(super) histograms: BTreeMap<&'static str, Histogram>,
    /// Accepted draft tokens by position.
    pub(super) accepted_at: BTreeMap<u32, f64>,
}

impl Figures {
    fn is_empty(&self) -> bool {
        self.gauges.is_empty() && self.counters.is_empty() && self.histograms.is_empty()
    }
}

/// What a page says, by layer; a layer that it says nothing of is absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    pub layers: BTreeMap<Layer, Figures>,
}

/// Accepted draft tokens by position: vLLM's only.
const ACCEPTED_AT: &str = "vllm:spec_decode_num_accepted_tokens_per_pos_total";

/// A gauge that is a share: over several ranks the fullest counts.
const SHARE: &str = "kv_cache";

impl Page {
    /// Reads a page in the Prometheus text format.
    pub fn of(text: &str) -> Self {
        Self::of_samples(&prometheus::parse(text))
    }

    pub fn of_samples(samples: &[Sample]) -> Self {
        let mut by_name: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
        for sample in samples.iter().filter(|sample| !sample.value.is_nan()) {
            by_name.entry(&sample.name).or_default().push(sample);
        }
        let roles: &'static Roles = &ROLES;
        let layers = [(Layer::Engine, &roles.engine), (Layer::Frontend, &roles.frontend)];
        let figures = layers.into_iter().map(|(layer, roles)| (layer, figures(roles, &by_name)));
        Self { layers: figures.filter(|(_, figures)| !figures.is_empty()).collect() }
    }
}

fn figures(roles: &'static LayerRoles, by_name: &BTreeMap<&str, Vec<&Sample>>) -> Figures {
    let sum = |names: &[&str], role: &str| {
        let samples = names.iter().find_map(|name| by_name.get(name))?;
        let values = samples.iter().map(|sample| sample.value);
        if role == SHARE { values.reduce(f64::max) } else { values.reduce(|a, b| a + b) }
    };
    let mut figures = Figures::default();
    for (role, names) in &roles.gauges {
        let value = names.iter().find_map(|name| sum(&[name], role));
        figures.gauges.extend(value.map(|value| (role.as_str(), value)));
    }
    for (role, names) in &roles.counters {
        let value = names.iter().find_map(|name| sum(&[&format!("{name}_total"), name], role));
        figures.counters.extend(value.map(|value| (role.as_str(), value)));
    }
    for (role, names) in &roles.histograms {
        let value = names.iter().find_map(|name| histogram(name, by_name));
        figures.histograms.extend(value.map(|value| (role.as_str(), value)));
    }
    for sample in
        by_name.get(ACCEPTED_AT).into_iter().flatten().filter(|_| roles.counters.contains_key("drafts"))
    {
        let position = sample.labels.iter().find(|(name, _)| name == "position");
        if let Some(position) = position.and_then(|(_, position)| position.parse().ok()) {
            *figures.accepted_at.entry(position).or_default() += sample.value;
        }
    }
    figures
}

/// The histogram of that name, summed over label sets.
fn histogram(name: &str, by_name: &BTreeMap<&str, Vec<&Sample>>) -> Option<Histogram> {
    let labels = |sample: &Sample| -> Vec<(String, String)> {
        sample.labels.iter().filter(|(name, _)| name != "le").cloned().collect()
    };
    let of = |suffix: &str| by_name.get(format!("{name}{suffix}").as_str()).into_iter().flatten();
    let mut series: BTreeMap<Vec<(String, String)>, Histogram> = BTreeMap::new();
    for sample in of("_bucket") {
        let bound =
            sample.labels.iter().find(|(name, _)| name == "le").and_then(|(_, bound)| bound.parse().ok());
        let buckets = &mut series.entry(labels(sample)).or_default().buckets;
        buckets.extend(bound.map(|bound: f64| (bound, sample.value)));
    }
    for sample in of("_sum") {
        series.entry(labels(sample)).or_default().sum = sample.value;
    }
    for sample in of("_count") {
        series.entry(labels(sample)).or_default().count = sample.value;
    }
    for one in series.values_mut() {
        one.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    series.into_values().reduce(|mut all, one| {
        all.add(&one);
        all
    })
}
