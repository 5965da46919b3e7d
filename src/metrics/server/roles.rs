//! Which name on a metrics page means what: `launchers/metrics/roles.toml`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

/// Names by role.
pub(super) type Names = BTreeMap<String, Vec<String>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Roles {
    pub started: Vec<String>,
    pub engine: LayerRoles,
    pub frontend: LayerRoles,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LayerRoles {
    pub rank_labels: Vec<String>,
    pub pool_labels: Vec<String>,
    pub position_labels: Vec<String>,
    pub gauges: Names,
    pub counters: Names,
    pub by_position: Names,
    pub histograms: Names,
    pub prefix_cache: Vec<CacheNames>,
}

/// A pair of counters of a prefix cache.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CacheNames {
    /// Counts prompt tokens looked up.
    pub queried: String,
    /// Counts tokens found.
    pub hit: String,
    /// The second is absent until the first hit.
    #[serde(default)]
    pub late: bool,
}

pub(super) static ROLES: LazyLock<Roles> = LazyLock::new(|| {
    toml::from_str(include_str!("../../../launchers/metrics/roles.toml")).unwrap_or_default()
});

#[cfg(test)]
mod tests {
    #[test]
    fn the_file_is_understood() {
        let roles: Result<super::Roles, _> =
            toml::from_str(include_str!("../../../launchers/metrics/roles.toml"));
        assert!(roles.is_ok_and(|roles| !roles.engine.histograms.is_empty()));
    }
}
