//! What a machine says of itself: names it can resolve, ports that are free, paths it can read, its GPUs and its clock.
//!
//! `tokmark node` prints a [`Report`] as one line of JSON. A job asks its own nodes this way, and `doctor` the compute nodes.
//! Nothing here prints.

mod look;
mod ports;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::document::{InputError, explain_message};
pub use look::{find_program, report, report_with};

/// What is asked of a machine. It travels as one argument, in JSON; what is left out is not looked at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ask {
    /// Host names to resolve.
    pub names: Vec<String>,
    /// Ranges of ports to find free ones in.
    pub ports: Vec<PortAsk>,
    /// Files and folders to try to read. A name without a slash is a program to find on PATH.
    pub paths: Vec<String>,
    /// Network interface whose address is wanted.
    pub interface: Option<String>,
    /// Model folders to look through; by the means that [`report`] is given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<WeightsAsk>,
}

/// A model's folder, and what should be in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightsAsk {
    /// The folder.
    pub folder: String,
    /// The model's name.
    pub model: String,
    /// GiB its weights should have.
    pub weights_gib: Option<f64>,
}

/// What is in a model's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsReport {
    /// `15 shards, 60.8 GiB, whole`
    pub found: String,
    /// What is wrong, each with its file.
    pub problems: Vec<String>,
    /// What may be wrong.
    pub remarks: Vec<String>,
    /// What to do about the first problem.
    pub next: Option<String>,
}

/// A question for free ports: `count` consecutive ones that start at `base`, `base + stride`, `base + 2 × stride` …
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortAsk {
    /// First port tried.
    pub base: u16,
    /// Consecutive ports that must all be free; 0 counts as 1.
    pub count: u16,
    /// Distance from one try to the next; 0 counts as 1. Less than `count` gives ranges that overlap.
    pub stride: u16,
    /// How many such starts are wanted.
    pub want: u16,
}

/// What a machine answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its host name.
    pub host: String,
    /// Its name in Slurm, inside a step.
    #[serde(default)]
    pub node: Option<String>,
    /// Architecture of its CPU, e.g. `x86_64`, `aarch64`.
    pub arch: String,
    /// Version of the tokmark that answers.
    pub version: String,
    /// Its clock, nanoseconds since 1970.
    pub unix_ns: u64,
    /// `CUDA_VISIBLE_DEVICES`, when it is set.
    pub cuda_visible_devices: Option<String>,
    /// Its IPv4 addresses.
    pub addresses: Vec<Address>,
    /// IPv4 address of the interface asked for; `None` when it has none, or none was asked for.
    pub address: Option<String>,
    /// First IPv4 address of each name asked for; `None` of a name it cannot resolve.
    pub resolved: BTreeMap<String, Option<String>>,
    /// Starts of free ports for each question, in its order; fewer than wanted when there are no more.
    pub free: Vec<Vec<u16>>,
    /// The paths asked for, in their order.
    pub paths: Vec<PathReport>,
    /// The model folders asked for, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<WeightsReport>,
    /// Free space for files.
    pub disk: Disk,
    /// GPU devices: `/dev/nvidia0`, `/dev/nvidia1` …
    pub gpus: u32,
}

/// An IPv4 address of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The interface, e.g. `ib0`.
    pub interface: String,
    /// The address.
    pub ip: String,
}

/// Whether a path can be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathReport {
    /// The path.
    pub path: String,
    /// It can be read: a folder listed, a file opened.
    pub readable: bool,
    /// It is a folder.
    pub is_dir: bool,
    /// Why it cannot be read.
    pub problem: Option<String>,
}

/// Free space, bytes; `None` when the system does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Where the process runs.
    pub cwd: Option<u64>,
    /// In the folder for temporary files.
    pub tmp: Option<u64>,
}

impl Ask {
    /// The question as one argument.
    pub fn to_arg(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }

    /// Reads such an argument.
    ///
    /// # Errors
    /// Text that is no JSON, or with a key that is not known.
    pub fn parse(arg: &str) -> Result<Self, InputError> {
        serde_json::from_str(arg).map_err(|error| {
            let mut error = explain_message(&error.to_string());
            error.origin = "node".into();
            error.next("give the question as one argument in JSON, e.g. '{\"paths\":[\"/models\"]}'")
        })
    }
}

impl Report {
    /// The IPv4 address of an interface.
    pub fn address_of(&self, interface: &str) -> Option<&str> {
        self.addresses
            .iter()
            .find(|address| address.interface == interface)
            .map(|address| address.ip.as_str())
    }

    /// The answers in the output of one or many `tokmark node`, in order. Lines of a site's own are skipped.
    pub fn parse_all(stdout: &str) -> Vec<Self> {
        stdout.lines().filter_map(|line| serde_json::from_str(line.trim()).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_question_survives_its_journey() {
        let ask = Ask {
            names: vec!["node1".into()],
            ports: vec![PortAsk { base: 8000, count: 2, stride: 10, want: 3 }],
            paths: vec!["/a 'b\" $c".into()],
            interface: Some("ib0".into()),
            weights: vec![WeightsAsk { folder: "/m".into(), model: "m".into(), weights_gib: Some(0.5) }],
        };
        assert_eq!(Ask::parse(&ask.to_arg()).unwrap(), ask);
        assert_eq!(Ask::parse("{}").unwrap(), Ask::default());
    }

    #[test]
    fn a_question_of_another_kind_is_refused_with_what_there_is() {
        let error = Ask::parse("{\"path\":[]}").unwrap_err().to_string();
        assert!(error.starts_with("node: unknown key `path`") && error.contains("paths"), "{error}");
        assert!(Ask::parse("what").is_err());
    }

    #[test]
    fn answers_are_found_between_banners() {
        let one = report(&Ask::default());
        let line = serde_json::to_string(&one).unwrap();
        let text = format!("Welcome to lab\n{{}}\n{line}\nQuota: 5 TB\n{line}\n");
        assert_eq!(Report::parse_all(&text), [one.clone(), one]);
        assert_eq!(Report::parse_all("Welcome\n"), []);
    }

    proptest! {
        #[test]
        fn never_panics(text in "[\\PC\n]*") {
            let _ = (Ask::parse(&text), Report::parse_all(&text));
        }
    }
}
