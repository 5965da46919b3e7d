//! Sections of a site file for Slurm, nodes and containers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::recipe::Price;

/// `[slurm]` of a site.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SiteSlurm {
    /// `--partition`
    pub partition: Option<String>,
    /// `--account`
    pub account: Option<String>,
    /// `--qos`
    pub qos: Option<String>,
    /// `--reservation`
    pub reservation: Option<String>,
    /// `--constraint`
    pub constraint: Option<String>,
    /// How jobs request GPUs. Default: `gres`.
    pub gres: GresDialect,
    /// Allocate whole nodes, unless the recipe sets it. Default: true.
    pub exclusive: Option<bool>,
    /// Memory per node in Slurm's notation (`0` = all), unless the recipe sets it.
    pub mem: Option<String>,
    /// MPI type for `srun --mpi`, for launchers that use MPI.
    pub mpi: Option<String>,
    /// More `#SBATCH` directives, without the `#SBATCH`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub directives: Vec<String>,
    /// Shell lines that the job runs before tokmark, e.g. `module use /sw/modules`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub setup: Vec<String>,
    /// Variables to clear for nested `srun` steps, besides those that tokmark always clears. A final `*` matches any rest:
    /// `SBATCH_*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clear_env: Vec<String>,
    /// More options of every `srun` step, e.g. `--network=no_vni`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub srun: Vec<String>,
}

/// How jobs of a site request GPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GresDialect {
    /// Not at all.
    None,
    /// `--gres=gpu:N`
    #[default]
    Gres,
    /// `--gres=gpu:TYPE:N`
    TypedGres,
    /// `--gpus-per-node=N`
    GpusPerNode,
}

impl GresDialect {
    /// The option that requests `count` GPUs per node; `kind` is the type's name in GRES.
    pub fn option(self, kind: &str, count: u32) -> Option<String> {
        match self {
            _ if count == 0 => None,
            Self::None => None,
            Self::Gres => Some(format!("--gres=gpu:{count}")),
            Self::TypedGres => Some(format!("--gres=gpu:{kind}:{count}")),
            Self::GpusPerNode => Some(format!("--gpus-per-node={count}")),
        }
    }
}

/// `[container]` of a site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SiteContainer {
    /// Container runtime of the compute nodes. Default: none, servers run bare.
    pub runtime: ContainerRuntime,
    /// `SOURCE:TARGET[:OPTIONS]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<String>,
    /// Folder on a shared file system, into which registry images are imported once. Without it the runtime pulls them on
    /// each node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<String>,
    /// Mount the user's home folder. Default: false.
    pub mount_home: bool,
    /// Make the container's own files writable: engines write caches below their home folder. What they write goes with the
    /// job's container. Default: true.
    pub writable: bool,
    /// More variables to pass from the host into the container, besides the servers' environment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// More options, passed to the runtime unchanged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Unpack an image once for each job and node, and share it between steps (pyxis: a named container). Default: true.
    pub reuse: bool,
}

impl Default for SiteContainer {
    fn default() -> Self {
        Self {
            runtime: ContainerRuntime::None,
            mounts: Vec::new(),
            images: None,
            mount_home: false,
            writable: true,
            env: Vec::new(),
            options: Vec::new(),
            reuse: true,
        }
    }
}

/// Container runtimes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ContainerRuntime {
    /// Servers run bare.
    #[default]
    None,
    /// NVIDIA pyxis with enroot: `srun --container-image`.
    Pyxis,
    /// Apptainer, formerly Singularity: `apptainer exec`.
    Apptainer,
}

impl ContainerRuntime {
    /// The name in a site file.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pyxis => "pyxis",
            Self::Apptainer => "apptainer",
        }
    }
}

/// `[bare]` of a site: the servers' software outside of containers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SiteBare {
    /// Environment modules the job loads, e.g. `cuda/12.8`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<String>,
    /// Folder of the Python environment the job activates, after the modules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub venv: Option<String>,
}

/// `[network]` of a site.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SiteNetwork {
    /// Network interface of the nodes, e.g. `ib0`: processes connect to its IPv4 address instead of the node's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// `[binary]` of a site: the tokmark binary of each architecture. The job picks that of its node.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SiteBinary {
    /// On x86_64 nodes.
    pub x86_64: Option<String>,
    /// On aarch64 nodes (GB200, GH200).
    pub aarch64: Option<String>,
}

/// CPU architecture of a node, as `uname -m` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Arch {
    /// `x86_64`
    #[serde(rename = "x86_64")]
    X86,
    /// `aarch64`
    #[serde(rename = "aarch64")]
    Arm,
}

impl Arch {
    /// The name that `uname -m` prints.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
            Self::Arm => "aarch64",
        }
    }
}

/// `[gpus.TYPE]` of a site; overrides `[slurm]`.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SiteGpu {
    /// GPUs per node.
    pub per_node: Option<u32>,
    /// What a GPU of this type costs for an hour, with the currency: `2.49 USD`. Reports then show the cost of a million tokens.
    pub price_per_gpu_hour: Option<Price>,
    /// Partition of these nodes.
    pub partition: Option<String>,
    /// `--account`
    pub account: Option<String>,
    /// `--qos`
    pub qos: Option<String>,
    /// `--reservation`
    pub reservation: Option<String>,
    /// `--constraint`
    pub constraint: Option<String>,
    /// Name of the type in GRES, when it differs.
    pub gres_type: Option<String>,
    /// Nodes per NVLink domain, e.g. 18 for NVL72. Jobs request segments (`--segment`) of the largest size that divides
    /// their nodes and fits into a domain.
    pub nodes_per_domain: Option<u32>,
    /// Memory per node in Slurm's notation, unless the recipe sets it.
    pub mem: Option<String>,
    /// More `#SBATCH` directives, after those of `[slurm]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub directives: Vec<String>,
    /// Architecture of these nodes. Default: that of the login node.
    pub arch: Option<Arch>,
    /// Folder of a model's weights on these nodes, by model name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, String>,
    /// Image to use instead, by the recipe's image name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, String>,
}
