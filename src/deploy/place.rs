//! Where processes run: this machine, or the nodes of a Slurm allocation. The same launcher serves both.
//!
//! Arrow: `executor`, `slurm` → here → `spawn`, `stop`, `ports`.

use crate::executor::slurm::Slurm;
use crate::slurm::JobId;

/// Where processes run.
#[derive(Debug, Clone)]
pub enum Place {
    /// Children on this machine, reached over loopback.
    Local,
    /// Steps in an allocation.
    Allocation(Box<Allocation>),
}

/// A Slurm allocation seen from its first node.
#[derive(Debug, Clone)]
pub struct Allocation {
    /// The job.
    pub job: JobId,
    /// Its nodes, in Slurm's order; tokmark runs on the first.
    pub nodes: Vec<String>,
    /// How often it was requeued.
    pub restarts: u32,
    /// Slurm.
    pub slurm: Slurm,
}

impl Place {
    /// Addresses of the nodes.
    pub fn nodes(&self) -> &[String] {
        static LOOPBACK: std::sync::LazyLock<Vec<String>> =
            std::sync::LazyLock::new(|| vec!["127.0.0.1".to_owned()]);
        match self {
            Self::Local => &LOOPBACK,
            Self::Allocation(allocation) => &allocation.nodes,
        }
    }

    /// The job's id.
    pub fn job(&self) -> Option<&JobId> {
        match self {
            Self::Local => None,
            Self::Allocation(allocation) => Some(&allocation.job),
        }
    }

    /// A word no other run of this user has at the same time.
    pub fn run_id(&self) -> String {
        match self {
            Self::Allocation(allocation) => format!("tokmark-{}-{}", allocation.job, allocation.restarts),
            Self::Local => format!("tokmark-local-{}", std::process::id()),
        }
    }

    /// Whether a node is the one tokmark runs on.
    pub fn is_here(&self, node: &str) -> bool {
        self.nodes().first().is_some_and(|first| first == node)
    }
}

/// The GPUs that numbers 0, 1 … of a process stand for: those this process may itself use, when something already
/// narrowed them.
pub fn visible_gpus(numbers: &[u32], inherited: Option<&str>) -> String {
    let narrowed: Vec<&str> = inherited
        .map(|list| list.split(',').map(str::trim).filter(|gpu| !gpu.is_empty()).collect())
        .unwrap_or_default();
    let name = |number: &u32| {
        narrowed.get(*number as usize).map_or_else(|| number.to_string(), |gpu| (*gpu).to_owned())
    };
    numbers.iter().map(name).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpu_numbers_count_within_what_is_visible() {
        assert_eq!(visible_gpus(&[0, 1], None), "0,1");
        assert_eq!(visible_gpus(&[1, 2], Some("4,5,6")), "5,6");
        assert_eq!(visible_gpus(&[0], Some("GPU-abc")), "GPU-abc");
    }
}
