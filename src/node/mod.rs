//! Facts about a machine: names it resolves, free ports, readable paths, GPUs, clock.
//!
//! `tokmark node` prints a [`Report`] as one line of JSON. Jobs run it on their nodes, and `doctor` on compute nodes.
//! Nothing here prints.

pub mod cgroup;
pub mod figures;
pub mod front;
mod inspect;
mod ports;
pub mod processes;
pub mod usage;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::document::{InputError, explain_message};
pub use inspect::{find_program, find_program_in, report, report_with};

/// What to find out about a machine, passed as one JSON argument. Absent fields are skipped.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Query {
    pub names: Vec<String>,
    /// Ranges of ports to find free ones in.
    pub ports: Vec<PortQuery>,
    /// Files and folders to try to read. A name without a slash is a program to find on PATH.
    pub paths: Vec<String>,
    pub interface: Option<String>,
    /// Model folders to check, by the function given to [`report_with`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<WeightsQuery>,
}

/// A model folder and what it should contain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightsQuery {
    pub folder: String,
    pub model: String,
    /// GiB its weights should have.
    pub weights_gib: Option<f64>,
    /// A draft model, which may use the tokenizer of the model it drafts for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_draft: bool,
}

/// The state of a model folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsReport {
    /// `15 shards, 60.8 GiB, whole`
    pub found: String,
    /// Errors, each with its file.
    pub problems: Vec<String>,
    pub remarks: Vec<String>,
    /// What to do about the first error.
    pub next: Option<String>,
}

/// A search for free ports: `count` consecutive ones that start at `base`, `base + stride`, `base + 2 × stride` …
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortQuery {
    pub base: u16,
    /// Consecutive ports that must all be free; 0 counts as 1.
    pub count: u16,
    /// Distance from one try to the next; 0 counts as 1. Less than `count` gives ranges that overlap.
    pub stride: u16,
    pub want: u16,
}

/// The facts found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub host: String,
    /// Its name in Slurm, inside a step.
    #[serde(default)]
    pub node: Option<String>,
    /// Architecture of its CPU, e.g. `x86_64`, `aarch64`.
    pub arch: String,
    /// Version of the tokmark that runs there.
    pub version: String,
    /// Its clock, nanoseconds since 1970.
    pub unix_ns: u64,
    pub cuda_visible_devices: Option<String>,
    pub addresses: Vec<Address>,
    /// IPv4 address of the interface in the query; `None` if it has none, or the query names no interface.
    pub address: Option<String>,
    /// First IPv4 address of each name in the query; `None` for a name it cannot resolve.
    pub resolved: BTreeMap<String, Option<String>>,
    /// Starts of free ports for each search, in order; fewer than wanted if there are no more.
    pub free: Vec<Vec<u16>>,
    /// The paths of the query, in order.
    pub paths: Vec<PathReport>,
    /// The model folders of the query, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<WeightsReport>,
    pub disk: Disk,
    /// GPU devices: `/dev/nvidia0`, `/dev/nvidia1` …
    pub gpus: u32,
}

/// An IPv4 address of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The interface, e.g. `ib0`.
    pub interface: String,
    pub ip: String,
}

/// Whether a path can be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathReport {
    pub path: String,
    /// A folder could be listed, or a file opened.
    pub readable: bool,
    pub is_dir: bool,
    pub problem: Option<String>,
}

/// Free space, bytes; `None` if unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Where the process runs.
    pub cwd: Option<u64>,
    /// In the folder for temporary files.
    pub tmp: Option<u64>,
    /// Where enroot keeps containers, and the free space there; asked for by naming the program `enroot` among the paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enroot: Option<(String, u64)>,
}

impl Query {
    /// The query as one argument.
    pub fn to_arg(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }

    /// Reads such an argument.
    ///
    /// # Errors
    /// Invalid JSON or an unknown key.
    pub fn parse(arg: &str) -> Result<Self, InputError> {
        serde_json::from_str(arg).map_err(|error| {
            let mut error = explain_message(&error.to_string());
            error.origin = "node".into();
            error.next("give the query as one argument in JSON, e.g. '{\"paths\":[\"/models\"]}'")
        })
    }
}

impl Report {
    /// The reports in the output of one or more `tokmark node`, in order. Other lines, such as banners, are skipped.
    pub fn parse_all(stdout: &str) -> Vec<Self> {
        stdout.lines().filter_map(|line| serde_json::from_str(line.trim()).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_query_survives_serialization() {
        let query = Query {
            names: vec!["node1".into()],
            ports: vec![PortQuery { base: 8000, count: 2, stride: 10, want: 3 }],
            paths: vec!["/a 'b\" $c".into()],
            interface: Some("ib0".into()),
            weights: vec![WeightsQuery {
                folder: "/m".into(),
                model: "m".into(),
                weights_gib: Some(0.5),
                is_draft: false,
            }],
        };
        assert_eq!(Query::parse(&query.to_arg()).unwrap(), query);
        assert_eq!(Query::parse("{}").unwrap(), Query::default());
    }

    #[test]
    fn a_query_with_an_unknown_key_names_the_known_ones() {
        let error = Query::parse("{\"path\":[]}").unwrap_err().to_string();
        assert!(error.starts_with("node: unknown key `path`") && error.contains("paths"), "{error}");
        assert!(Query::parse("what").is_err());
    }

    #[test]
    fn reports_are_found_between_banners() {
        let one = report(&Query::default());
        let line = serde_json::to_string(&one).unwrap();
        let text = format!("Welcome to lab\n{{}}\n{line}\nQuota: 5 TB\n{line}\n");
        assert_eq!(Report::parse_all(&text), [one.clone(), one]);
        assert_eq!(Report::parse_all("Welcome\n"), []);
    }

    proptest! {
        #[test]
        fn never_panics(text in "[\\PC\n]*") {
            let _ = (Query::parse(&text), Report::parse_all(&text));
        }
    }
}
