//! `sinfo`: nodes, their partitions, GPUs and features.
//!
//! Sources: sinfo(1); gres.conf(5) for GRES.

use std::str::FromStr;

use super::{Unparsable, present};

/// The argv that lists each node in each partition: those that the user may use, or all including hidden ones.
pub fn argv(all: bool) -> Vec<String> {
    // Features come last, because they may contain anything.
    let format = "--format=%N|%P|%a|%T|%l|%c|%m|%G|%f";
    let mut argv: Vec<String> = ["sinfo", "--noheader", "--Node", format].map(str::to_owned).into();
    argv.extend(all.then(|| "--all".to_owned()));
    argv
}

/// The argv that prints the version.
pub fn version_argv() -> Vec<String> {
    ["sinfo", "--version"].map(str::to_owned).into()
}

/// A node in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLine {
    pub node: String,
    pub partition: String,
    pub is_default: bool,
    /// Whether the partition accepts jobs.
    pub is_up: bool,
    /// State of the node, e.g. `idle`, `mixed`, `drained`, without the marks that sinfo appends.
    pub state: String,
    /// Time limit of the partition as Slurm writes it.
    pub time_limit: String,
    pub cpus: u32,
    pub memory_mib: u64,
    pub gpus: Vec<GpuGres>,
    pub features: Vec<String>,
}

impl NodeLine {
    /// Whether a job could start on the node, now or after others.
    pub fn is_usable(&self) -> bool {
        let unusable =
            ["down", "drain", "fail", "maint", "unknown", "inval", "error", "power_down", "future"];
        self.is_up && !unusable.iter().any(|word| self.state.starts_with(word))
    }
}

/// GPUs in a node's GRES.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuGres {
    /// Type, if GRES names one.
    pub kind: Option<String>,
    pub count: u32,
}

/// The version in the stdout of [`version_argv`]: `22.05.8`.
pub fn parse_version(stdout: &str) -> Option<String> {
    let line = stdout.lines().find_map(|line| line.trim().strip_prefix("slurm"))?;
    line.split_whitespace().next_back().map(str::to_owned)
}

/// The nodes in the stdout of [`argv`]. Skips lines without separators (banners).
///
/// # Errors
/// A line with separators lacks a node or a number.
pub fn parse(stdout: &str) -> Result<Vec<NodeLine>, Unparsable> {
    let lines = stdout.lines().map(str::trim).filter(|line| line.matches('|').count() >= 8);
    lines
        .map(|line| {
            parse_line(line).ok_or_else(|| Unparsable {
                tool: "sinfo",
                wanted: "NODE|PARTITION|AVAIL|STATE|LIMIT|CPUS|MEMORY|GRES|FEATURES",
                found: line.to_owned(),
            })
        })
        .collect()
}

fn parse_line(line: &str) -> Option<NodeLine> {
    let fields: Vec<&str> = line.splitn(9, '|').map(str::trim).collect();
    let [node, partition, available, state, time_limit, cpus, memory, gres, features] = fields[..] else {
        return None;
    };
    let features = present(features).unwrap_or_default();
    (!node.is_empty()).then_some(NodeLine {
        node: node.to_owned(),
        partition: partition.trim_end_matches('*').to_owned(),
        is_default: partition.ends_with('*'),
        is_up: available == "up",
        state: state.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_ascii_lowercase(),
        time_limit: time_limit.to_owned(),
        cpus: number(cpus)?,
        memory_mib: number(memory)?,
        gpus: parse_gres(gres),
        features: features.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect(),
    })
}

/// A number; a trailing `+` means that others of a group have more.
fn number<T: FromStr>(text: &str) -> Option<T> {
    text.trim_end_matches('+').parse().ok()
}

/// The GPUs of `gpu:h100:8(S:0-1),nvme:1`, summed by type. Other resources are left out.
pub fn parse_gres(text: &str) -> Vec<GpuGres> {
    let mut found: Vec<GpuGres> = Vec::new();
    for entry in present(text).map(entries).unwrap_or_default() {
        let mut parts = entry.split(':').filter(|part| *part != "no_consume");
        if parts.next() != Some("gpu") {
            continue;
        }
        let parts: Vec<&str> = parts.collect();
        let (kind, count) = match parts[..] {
            [] => (None, 1),
            [one] => match one.parse() {
                Ok(count) => (None, count),
                Err(_) => (Some(one.to_owned()), 1),
            },
            [kind, count, ..] => (Some(kind.to_owned()), count.parse().unwrap_or(0)),
        };
        match found.iter_mut().find(|known| known.kind == kind) {
            Some(known) => known.count = known.count.saturating_add(count),
            None => found.push(GpuGres { kind, count }),
        }
    }
    found.retain(|gpus| gpus.count > 0);
    found
}

/// The entries of a GRES list, without the parts in parentheses: sockets, indices, names of shards.
fn entries(text: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut depth = 0_u32;
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    plain.split(',').map(|entry| entry.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gres_as_sites_write_it() {
        // Each type is written back as TYPE:COUNT, an unnamed one as :COUNT.
        let table = [
            ("gpu:h100:8", "h100:8"),
            ("gpu:8", ":8"),
            ("gpu:nvidia_h100_80gb_hbm3:8(S:0-1)", "nvidia_h100_80gb_hbm3:8"),
            ("gpu:a100:4(S:0,1),nvme:1", "a100:4"),
            ("nvme:1,gpu:4(IDX:0-3)", ":4"),
            ("gpu:a100:4,gpu:v100:2", "a100:4 v100:2"),
            ("gpu:a100:2(S:0),gpu:a100:2(S:1)", "a100:4"),
            ("gpu:a100:no_consume:4", "a100:4"),
            ("gpu", ":1"),
            ("gpu:0", ""),
            ("gpu:4000000000,gpu:4000000000", ":4294967295"),
            ("(null)", ""),
        ];
        for (text, expected) in table {
            let back = |gpus: &GpuGres| format!("{}:{}", gpus.kind.as_deref().unwrap_or(""), gpus.count);
            let found: Vec<String> = parse_gres(text).iter().map(back).collect();
            assert_eq!(found.join(" "), expected, "{text}");
        }
    }

    #[test]
    fn nodes_among_banners() {
        let text = "*** Welcome ***\n\
            s-1|gpu*|up|idle|7-00:00:00|8|16000|gpu:h100:4|h100,hopper,x86_64\n\
            s-1|debug|down|drained*|30:00|8|16000+|gpu:h100:4|(null)\n\
            cpu1|cpu|up|allocated+|infinite|128|515000|(null)|a|b\n";
        let nodes = parse(text).unwrap();
        let [one, two, three] = &nodes[..] else { panic!("{nodes:?}") };
        assert_eq!((one.node.as_str(), one.partition.as_str(), one.is_default), ("s-1", "gpu", true));
        assert_eq!((one.features.len(), one.memory_mib, one.cpus), (3, 16000, 8));
        assert_eq!(one.gpus, [GpuGres { kind: Some("h100".into()), count: 4 }]);
        assert!(one.is_usable());
        assert_eq!((two.partition.as_str(), two.is_default, two.state.as_str()), ("debug", false, "drained"));
        assert!(!two.is_usable() && two.features.is_empty());
        assert_eq!((three.state.as_str(), three.is_usable(), three.gpus.len()), ("allocated", true, 0));
        assert_eq!(three.features, ["a|b"]);
    }

    #[test]
    fn unreadable_node_lines() {
        let error = parse("n|p|up|idle|1:00|many|1|x|y\n").unwrap_err();
        assert_eq!((error.tool, error.found.as_str()), ("sinfo", "n|p|up|idle|1:00|many|1|x|y"));
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn versions() {
        assert_eq!(parse_version("slurm-wlm 22.05.8\n").as_deref(), Some("22.05.8"));
        assert_eq!(parse_version("Welcome\nslurm 24.11.5\n").as_deref(), Some("24.11.5"));
        assert_eq!(parse_version("Welcome\n"), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in "[\\PC\n|]*", gres in "gpu[:a-z0-9(),]*") {
            let _ = (parse(&text), parse_gres(&gres), parse_gres(&text), parse_version(&text));
        }
    }
}
