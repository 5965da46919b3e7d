//! GPU types of a cluster: nodes with the same GPUs, named after GRES, features or partitions. Pure.

use std::collections::{BTreeMap, BTreeSet};

use itertools::Itertools;

use crate::site::known_gpu;
use crate::slurm::sinfo::NodeLine;

/// The nodes with one type of GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuGroup {
    /// tokmark's name of the type, e.g. `h100`.
    pub kind: String,
    /// Its name in GRES, if any.
    pub gres_type: Option<String>,
    /// GPUs of most nodes.
    pub per_node: u32,
    /// Nodes with another number.
    pub odd: usize,
    /// The nodes.
    pub nodes: BTreeSet<String>,
    /// Partitions with such nodes, by name.
    pub partitions: BTreeMap<String, GroupPartition>,
    /// Architecture, if all agree.
    pub arch: Option<String>,
    /// A feature that all of these nodes have, and no other node with GPUs.
    pub feature: Option<String>,
}

/// A partition with nodes of one GPU type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPartition {
    /// Nodes of the type in it.
    pub nodes: usize,
    /// Whether it is the default.
    pub is_default: bool,
    /// Whether it accepts jobs.
    pub is_up: bool,
    /// Its time limit.
    pub time_limit: String,
}

/// Nodes of a type and how many GPUs each has.
type Members<'a> = Vec<(&'a NodeLine, u32)>;

/// Groups the nodes that have GPUs, the largest group first.
pub fn gpu_groups(lines: &[NodeLine], archs: &BTreeMap<String, String>) -> Vec<GpuGroup> {
    // Named after GRES, or for untyped GPUs after features and partitions.
    let mut by_name: BTreeMap<(Option<String>, String), Members<'_>> = BTreeMap::new();
    for line in lines {
        for gpus in &line.gpus {
            let kind = match &gpus.kind {
                Some(kind) => known_gpu(kind).map_or_else(|| plain(kind), str::to_owned),
                None => suggested(line, lines),
            };
            by_name.entry((gpus.kind.clone(), kind)).or_default().push((line, gpus.count));
        }
    }
    let mut groups: Vec<GpuGroup> = Vec::new();
    for ((gres_type, mut kind), members) in by_name {
        let taken = |name: &str| groups.iter().any(|group| group.kind == name);
        if taken(&kind) {
            // Two sizes of one GPU, such as a100 with 40 and with 80 GB.
            kind = gres_type.as_deref().map_or_else(|| format!("{kind}-untyped"), plain);
        }
        let numbered = (2..).map(|number| format!("{kind}-{number}"));
        let kind = std::iter::once(kind.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(kind);
        groups.push(group(kind, gres_type, &members, archs));
    }
    for group in &mut groups {
        group.feature = own_feature(group, lines);
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.nodes.len()));
    groups
}

fn group(
    kind: String,
    gres_type: Option<String>,
    members: &[(&NodeLine, u32)],
    archs: &BTreeMap<String, String>,
) -> GpuGroup {
    let counts: BTreeMap<&str, u32> =
        members.iter().map(|(line, count)| (line.node.as_str(), *count)).collect();
    // On a tie the larger number, because a node with fewer has lost some.
    let votes = counts.values().copied().counts().into_iter();
    let (per_node, voted) = votes.max_by_key(|(count, votes)| (*votes, *count)).unwrap_or_default();
    let mut partitions: BTreeMap<String, GroupPartition> = BTreeMap::new();
    for (line, _) in members {
        let place = partitions.entry(line.partition.clone()).or_insert_with(|| GroupPartition {
            nodes: 0,
            is_default: line.is_default,
            is_up: line.is_up,
            time_limit: line.time_limit.clone(),
        });
        place.nodes += 1;
    }
    let arch = counts.keys().filter_map(|node| archs.get(*node)).all_equal_value().ok().cloned();
    GpuGroup {
        kind,
        gres_type,
        per_node,
        odd: counts.len() - voted,
        nodes: counts.keys().map(|node| (*node).to_owned()).collect(),
        partitions,
        arch,
        feature: None,
    }
}

/// The type of untyped GPUs.
fn suggested(line: &NodeLine, lines: &[NodeLine]) -> String {
    let partitions = lines.iter().filter(|other| other.node == line.node).map(|other| &other.partition);
    let names = line.features.iter().chain(partitions);
    names.filter_map(|name| known_gpu(name)).next().unwrap_or("gpu").to_owned()
}

/// The name as a valid key of `[gpus]`.
fn plain(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_lowercase() } else { '-' };
    let plain: String = name.chars().map(keep).collect();
    if plain.is_empty() { "gpu".into() } else { plain }
}

/// The feature that only this group has among nodes with GPUs; of several, the one named like the type.
fn own_feature(group: &GpuGroup, lines: &[NodeLine]) -> Option<String> {
    let with_gpus = || lines.iter().filter(|line| !line.gpus.is_empty());
    let inside = |line: &&NodeLine| group.nodes.contains(&line.node);
    let first = with_gpus().find(inside)?;
    let has = |line: &NodeLine, feature: &String| line.features.contains(feature);
    let mut own: Vec<&String> = first
        .features
        .iter()
        .filter(|feature| with_gpus().all(|line| has(line, feature) == inside(&line)))
        .collect();
    own.sort_by_key(|feature| **feature != group.kind);
    own.first().map(|feature| (*feature).clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slurm::sinfo;

    fn groups(lines: &str) -> Vec<GpuGroup> {
        let archs = [("n3".to_owned(), "aarch64".to_owned())].into();
        gpu_groups(&sinfo::parse(lines).unwrap(), &archs)
    }

    #[test]
    fn typed_nodes_are_grouped_and_the_majority_counts() {
        let found = groups(
            "n1|gpu*|up|idle|1:00|8|1|gpu:nvidia_h100_80gb_hbm3:8(S:0-1)|x\n\
             n2|gpu*|up|idle|1:00|8|1|gpu:nvidia_h100_80gb_hbm3:8|x,h100\n\
             n5|gpu*|up|idle|1:00|8|1|gpu:nvidia_h100_80gb_hbm3:7|x\n\
             n3|arm|up|idle|2:00|8|1|gpu:gb200:4|gb200,nvl72\n\
             n1|debug|up|idle|0:30|8|1|gpu:nvidia_h100_80gb_hbm3:8|x\n\
             c1|cpu|up|idle|1:00|8|1|(null)|x\n",
        );
        let [h100, gb200] = &found[..] else { panic!("{found:#?}") };
        assert_eq!((h100.kind.as_str(), h100.gres_type.as_deref()), ("h100", Some("nvidia_h100_80gb_hbm3")));
        assert_eq!((h100.per_node, h100.odd, h100.nodes.len()), (8, 1, 3));
        assert_eq!((h100.partitions["gpu"].nodes, h100.partitions["debug"].nodes), (3, 1));
        assert!(h100.partitions["gpu"].is_default && !h100.partitions["debug"].is_default);
        assert_eq!((h100.feature.as_deref(), &h100.arch), (Some("x"), &None));
        assert_eq!((gb200.kind.as_str(), gb200.per_node), ("gb200", 4));
        assert_eq!((gb200.feature.as_deref(), gb200.arch.as_deref()), (Some("gb200"), Some("aarch64")));
    }

    #[test]
    fn untyped_nodes_are_named_by_features_then_partitions() {
        let found = groups(
            "n1|gpu*|up|idle|1:00|8|1|gpu:8|amd,H100\n\
             n2|gpu*|up|idle|1:00|8|1|gpu:4|intel\n\
             n2|a100q|up|idle|1:00|8|1|gpu:4|intel\n\
             n4|odd|up|idle|1:00|8|1|gpu:2|(null)\n",
        );
        let kinds: Vec<_> = found.iter().map(|group| (group.kind.as_str(), group.per_node)).collect();
        assert_eq!(kinds, [("a100", 4), ("gpu", 2), ("h100", 8)]);
        assert!(found.iter().all(|group| group.gres_type.is_none()));
    }

    #[test]
    fn two_sizes_of_one_gpu_keep_their_own_names() {
        let found = groups(
            "n1|p|up|idle|1:00|8|1|gpu:NVIDIA_A100-PCIE-40GB:4|(null)\n\
             n2|p|up|idle|1:00|8|1|gpu:a100_80gb:4|(null)\n",
        );
        let mut kinds: Vec<_> = found.iter().map(|group| group.kind.as_str()).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, ["a100", "a100_80gb"]);
        assert_eq!(groups("c1|cpu|up|idle|1:00|8|1|(null)|x\n"), []);
    }
}
