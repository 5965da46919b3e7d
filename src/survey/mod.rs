//! Facts about a cluster from its tools. `init` writes a site file from them, `doctor` compares one with them. Nothing here prints.

pub mod choice;
pub mod groups;
pub mod write;

use std::collections::{BTreeMap, BTreeSet};

use itertools::Itertools;

use crate::executor::{Slurm, SlurmError};
use crate::slurm::features;
use crate::slurm::sacctmgr::Association;
use crate::slurm::sinfo::NodeLine;
pub use groups::{GpuGroup, gpu_groups};

/// A cluster as its tools describe it to one user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    pub version: Option<String>,
    /// Its configuration, by name.
    pub config: BTreeMap<String, String>,
    /// Every node in every partition.
    pub nodes: Vec<NodeLine>,
    /// Partitions that sinfo hides from this user: hidden ones, and those of other groups.
    pub hidden: BTreeSet<String>,
    /// Architecture of each node.
    pub archs: BTreeMap<String, String>,
    pub user: String,
    /// What the user may charge; `None` if the cluster keeps no accounts.
    pub associations: Option<Vec<Association>>,
    /// The account of jobs that name none.
    pub default_account: Option<String>,
    /// MPI types of srun.
    pub mpi: Vec<String>,
    /// Whether srun has pyxis' options.
    pub has_pyxis: bool,
    /// Whether that pyxis is older than 0.15, the first that jobs run with.
    pub has_old_pyxis: bool,
    /// Whether sbatch and srun have `--segment`.
    pub has_segment: bool,
    /// Path of apptainer on this machine.
    pub apptainer: Option<String>,
    /// Architecture of this machine.
    pub login_arch: String,
    /// Queries that failed, and why.
    pub unanswered: Vec<String>,
}

/// Queries the cluster. Queries that not every site supports may fail.
///
/// # Errors
/// Slurm is missing or does not answer, or gives no list of nodes.
pub async fn survey(slurm: &Slurm) -> Result<Survey, SlurmError> {
    slurm.ping().await?;
    let nodes = slurm.nodes(true).await?;
    let user = user();
    let (open, version, config, archs, associations, default_account, mpi, help, has_segment) = tokio::join!(
        slurm.nodes(false),
        slurm.version(),
        slurm.config(),
        slurm.archs(),
        slurm.associations(&user),
        slurm.default_account(&user),
        slurm.mpi_types(),
        slurm.srun_help(),
        slurm.has_segment()
    );
    let open = open.unwrap_or_else(|_| nodes.clone());
    let open: BTreeSet<&str> = open.iter().map(|line| line.partition.as_str()).collect();
    let hidden = nodes.iter().map(|line| &line.partition).filter(|name| !open.contains(name.as_str()));
    let hidden = hidden.cloned().collect();
    let mut unanswered = Vec::new();
    let help = answered(help, &mut unanswered);
    Ok(Survey {
        version: answered(version, &mut unanswered),
        config: answered(config, &mut unanswered),
        hidden,
        nodes,
        archs: answered(archs, &mut unanswered),
        user,
        associations: answered(associations, &mut unanswered),
        default_account: default_account.ok().flatten(),
        mpi: answered(mpi, &mut unanswered),
        has_pyxis: features::has_pyxis(&help),
        has_old_pyxis: features::has_old_pyxis(&help),
        has_segment,
        apptainer: crate::node::find_program("apptainer"),
        login_arch: std::env::consts::ARCH.to_owned(),
        unanswered,
    })
}

/// The answer to a query that may fail; then its reason joins `unanswered`.
fn answered<T: Default>(answer: Result<T, SlurmError>, unanswered: &mut Vec<String>) -> T {
    answer.unwrap_or_else(|error| {
        unanswered.push(error.to_string());
        T::default()
    })
}

/// Name of the current user.
fn user() -> String {
    let by_id = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name);
    by_id.or_else(|| std::env::var("USER").ok()).unwrap_or_default()
}

impl Survey {
    /// Partition of jobs that name none.
    pub fn default_partition(&self) -> Option<&str> {
        self.nodes.iter().find(|line| line.is_default).map(|line| line.partition.as_str())
    }

    /// Nodes in partitions that the user may use.
    pub fn open_nodes(&self) -> Vec<NodeLine> {
        self.nodes.iter().filter(|line| !self.hidden.contains(&line.partition)).cloned().collect()
    }

    /// Every partition that the user may use, in order of name.
    pub fn partitions(&self) -> Vec<&str> {
        let names = self.nodes.iter().map(|line| line.partition.as_str());
        names.filter(|name| !self.hidden.contains(*name)).sorted().dedup().collect()
    }

    /// Accounts of the user, the default one first.
    pub fn accounts(&self) -> Vec<&str> {
        let names = self.associations.iter().flatten().map(|association| association.account.as_str());
        names.unique().sorted_by_key(|name| (Some(*name) != self.default_account.as_deref(), *name)).collect()
    }

    /// Whether Slurm refuses a job whose account the user may not charge.
    pub fn enforces_accounts(&self) -> bool {
        let rule = self.config.get("AccountingStorageEnforce").map_or("", String::as_str);
        ["associations", "limits", "qos", "safe", "all"].iter().any(|word| rule.contains(word))
    }
}
