//! What the job asks of Slurm: resources and `#SBATCH` directives.
//!
//! Arrow: `site`, `recipe` → here → `render`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::recipe::SlurmSection;
use crate::site::{Arch, GresDialect, Site};

/// A Slurm job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Job name.
    pub name: String,
    /// Nodes.
    pub nodes: u32,
    /// Time limit, seconds.
    pub time_s: u64,
    /// `#SBATCH` directives without the `#SBATCH`, in order.
    pub directives: Vec<String>,
    /// Shell lines before tokmark takes over.
    pub setup: Vec<String>,
    /// Environment modules loaded after `setup`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<String>,
    /// Folder of a Python environment activated after the modules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub venv: Option<String>,
    /// The site's tokmark binaries, by architecture as `uname -m` says it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub binary: BTreeMap<String, String>,
    /// MPI type for roles that want one.
    pub mpi: Option<String>,
    /// Variables that nested steps must not see, beside those that are always cleared; a `*` at the end stands for
    /// any rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clear_env: Vec<String>,
    /// More options of every step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub srun: Vec<String>,
}

/// Seconds before the time limit at which the job is told to wrap up.
const WARNING_S: u64 = 120;

/// What the plan knows when it asks for a job.
#[derive(Debug, Clone, Copy)]
pub struct Needs<'a> {
    /// Name of the recipe.
    pub name: &'a str,
    /// Nodes.
    pub nodes: u32,
    /// GPU type.
    pub gpu: &'a str,
    /// GPUs wanted on each node; 0 for none.
    pub gpus_per_node: u32,
}

impl Job {
    /// Directives in a fixed order: name, size, place, GPUs, limits, signals, then the site's and the recipe's own.
    pub fn new(site: &Site, recipe: &SlurmSection, needs: &Needs<'_>) -> Self {
        let gpu_site = site.gpus.get(needs.gpu);
        let time_s = recipe.time.map_or(3600, |span| span.seconds().ceil().max(60.0) as u64);
        let mut directives =
            vec![format!("--job-name=tokmark-{}", needs.name), format!("--nodes={}", needs.nodes)];
        let partition = gpu_site.and_then(|gpu| gpu.partition.as_ref()).or(site.slurm.partition.as_ref());
        let mut option = |flag: &str, value: Option<&String>| {
            if let Some(value) = value {
                directives.push(format!("--{flag}={value}"));
            }
        };
        option("partition", partition);
        option("account", site.slurm.account.as_ref());
        option("qos", site.slurm.qos.as_ref());
        option("reservation", site.slurm.reservation.as_ref());
        option("constraint", gpu_site.and_then(|gpu| gpu.constraint.as_ref()));
        option("mem", recipe.mem.as_ref());
        if needs.gpus_per_node > 0 {
            let count = needs.gpus_per_node;
            let kind = gpu_site.and_then(|gpu| gpu.gres_type.as_deref()).unwrap_or(needs.gpu);
            directives.extend(match site.slurm.gres {
                GresDialect::None => None,
                GresDialect::Gres => Some(format!("--gres=gpu:{count}")),
                GresDialect::TypedGres => Some(format!("--gres=gpu:{kind}:{count}")),
                GresDialect::GpusPerNode => Some(format!("--gpus-per-node={count}")),
            });
        }
        if recipe.exclusive.unwrap_or(true) {
            directives.push("--exclusive".into());
        }
        directives.push(format!("--time={}", clock(time_s)));
        directives.push(format!("--signal=B:USR1@{}", WARNING_S.min(time_s / 2)));
        directives.push("--requeue".into());
        directives.push("--open-mode=append".into());
        directives.extend(site.slurm.directives.iter().cloned());
        directives.extend(recipe.directives.iter().flatten().cloned());
        let binary = [(Arch::X86, &site.binary.x86_64), (Arch::Arm, &site.binary.aarch64)]
            .into_iter()
            .filter_map(|(arch, path)| Some((arch.name().to_owned(), path.clone()?)));
        Self {
            name: format!("tokmark-{}", needs.name),
            nodes: needs.nodes,
            time_s,
            directives,
            setup: site.slurm.setup.clone(),
            modules: site.bare.modules.clone(),
            venv: site.bare.venv.clone(),
            binary: binary.collect(),
            mpi: site.slurm.mpi.clone(),
            clear_env: site.slurm.clear_env.clone(),
            srun: site.slurm.srun.clone(),
        }
    }
}

/// `HH:MM:SS`
fn clock(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directives(site: &str, recipe: &str, gpus_per_node: u32) -> Vec<String> {
        let site: Site = toml::from_str(site).unwrap();
        let recipe: SlurmSection = toml::from_str(recipe).unwrap();
        Job::new(&site, &recipe, &Needs { name: "q", nodes: 2, gpu: "h100", gpus_per_node }).directives
    }

    #[test]
    fn a_gpu_type_overrides_the_partition_and_speaks_the_site_dialect() {
        let site = "schema = 1\n[slurm]\npartition = \"gpu\"\naccount = \"a\"\ngres = \"typed-gres\"\n\
                    [gpus.h100]\npartition = \"hopper\"\ngres_type = \"H100\"\n";
        assert_eq!(
            directives(site, "time = \"00:10:00\"\nexclusive = false\n", 4),
            [
                "--job-name=tokmark-q",
                "--nodes=2",
                "--partition=hopper",
                "--account=a",
                "--gres=gpu:H100:4",
                "--time=00:10:00",
                "--signal=B:USR1@120",
                "--requeue",
                "--open-mode=append"
            ]
        );
    }

    #[test]
    fn no_gpus_ask_for_none() {
        assert!(!directives("schema = 1", "", 0).iter().any(|line| line.contains("gpu")));
    }
}
