//! The sections of a site file that say how its Slurm, its nodes and its containers are asked for things.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[slurm]` of a site.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SiteSlurm {
    /// `--partition`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// `--account`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// `--qos`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
    /// `--reservation`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// `--constraint`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraint: Option<String>,
    /// How GPUs are asked for. Default: `gres`.
    pub gres: GresDialect,
    /// Whole nodes, where the recipe does not say. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<bool>,
    /// Memory of each node as Slurm writes it (`0` = all), where the recipe does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem: Option<String>,
    /// MPI type for `srun --mpi`, where a launcher asks for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mpi: Option<String>,
    /// More `#SBATCH` directives, without the `#SBATCH`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub directives: Vec<String>,
    /// Shell lines run in the job before tokmark takes over, e.g. `module use /sw/modules`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub setup: Vec<String>,
    /// Variables that nested `srun` steps must not see, beside those tokmark always clears. A `*` at the end stands for
    /// any rest: `SBATCH_*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clear_env: Vec<String>,
    /// More options of every `srun` step, e.g. `--network=no_vni`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub srun: Vec<String>,
}

/// How a site's Slurm is asked for GPUs.
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
    /// The option that asks for `count` GPUs of a node, of a type by its name in GRES.
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
    /// Folder, on a file system every node sees, where images of a registry are imported once. Without it the runtime
    /// pulls them itself, on each node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<String>,
    /// Show the user's home folder inside. Default: false.
    pub mount_home: bool,
    /// More variables whose value inside is the host's, beside those of the servers' own environment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// More options of the runtime, as they are.
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
    /// As a site file writes it.
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
    /// Interface of the nodes, e.g. `ib0`: processes are reached at its IPv4 address instead of at the node's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// `[binary]` of a site: where the tokmark binary of an architecture is. The job picks by the node it runs on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SiteBinary {
    /// On x86_64 nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x86_64: Option<String>,
    /// On aarch64 nodes (GB200, GH200).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aarch64: Option<String>,
}

/// Architecture of a node's CPU, as `uname -m` says it.
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
    /// As `uname -m` says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
            Self::Arm => "aarch64",
        }
    }
}

/// `[gpus.TYPE]` of a site. What it says wins over `[slurm]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SiteGpu {
    /// GPUs of a node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_node: Option<u32>,
    /// Partition of these nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// `--account`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// `--qos`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
    /// `--reservation`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// `--constraint`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraint: Option<String>,
    /// Name of the type in GRES, when it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gres_type: Option<String>,
    /// Nodes of one NVLink domain, e.g. 18 for NVL72: jobs ask for segments (`--segment`) of the greatest number of
    /// nodes that divides theirs and fits into a domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes_per_domain: Option<u32>,
    /// Memory of each node as Slurm writes it, where the recipe does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem: Option<String>,
    /// More `#SBATCH` directives, after those of `[slurm]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub directives: Vec<String>,
    /// Architecture of these nodes; without it they are taken to be like the login node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<Arch>,
    /// Folder of a model's weights on these nodes, by model name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, String>,
    /// Image to use in place of the recipe's, by the recipe's image name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, String>,
}
