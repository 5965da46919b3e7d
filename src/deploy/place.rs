//! Where processes run: this machine, or the nodes of a Slurm allocation. The same launcher serves both.

use std::sync::LazyLock;

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

/// A Slurm allocation seen from inside.
#[derive(Debug, Clone)]
pub struct Allocation {
    pub job: JobId,
    /// Its nodes, in Slurm's order.
    pub nodes: Vec<String>,
    /// Whether tokmark runs on the first node rather than elsewhere (on the login node, under salloc).
    pub on_first: bool,
    /// Process id of a run that is not the job itself; several such runs may share the job.
    pub run: Option<u32>,
    /// How often Slurm requeued the job.
    pub restarts: u32,
    /// Slurm's name of the cluster.
    pub cluster: Option<String>,
    /// When the job was submitted or last requeued, Unix seconds.
    pub submitted: Option<i64>,
    /// Whether srun replaces patterns in paths twice.
    pub replaces_twice: bool,
    pub slurm: Slurm,
}

impl Allocation {
    /// See [`Place::run_id`].
    pub(super) fn run_id(&self) -> String {
        self.step_name(&format!("tokmark-{}-{}", self.job, self.restarts))
    }

    /// See [`Place::step_name`].
    pub(super) fn step_name(&self, process: &str) -> String {
        self.run.map_or_else(|| process.to_owned(), |pid| format!("{process}-{pid}"))
    }
}

impl Place {
    /// The allocation, unless processes run on this machine.
    pub fn allocation(&self) -> Option<&Allocation> {
        match self {
            Self::Local => None,
            Self::Allocation(allocation) => Some(allocation),
        }
    }

    /// Addresses of the nodes.
    pub fn nodes(&self) -> &[String] {
        static LOOPBACK: LazyLock<[String; 1]> = LazyLock::new(|| ["127.0.0.1".to_owned()]);
        self.allocation().map_or(LOOPBACK.as_slice(), |allocation| &allocation.nodes)
    }

    /// The job's id.
    pub fn job(&self) -> Option<&JobId> {
        self.allocation().map(|allocation| &allocation.job)
    }

    /// An identifier that no concurrent run of this user shares.
    pub fn run_id(&self) -> String {
        match self {
            Self::Allocation(allocation) => allocation.run_id(),
            Self::Local => format!("tokmark-local-{}", std::process::id()),
        }
    }

    /// Name of a process's Slurm step, unique in the job; used to look the step up.
    pub fn step_name(&self, process: &str) -> String {
        self.allocation().map_or_else(|| process.to_owned(), |allocation| allocation.step_name(process))
    }

    /// Whether tokmark runs on the first node, and so need not query it.
    pub fn is_on_first(&self) -> bool {
        self.allocation().is_none_or(|allocation| allocation.on_first)
    }

    /// Whether tokmark runs on this node.
    pub fn is_here(&self, node: &str) -> bool {
        self.is_on_first() && self.nodes().first().is_some_and(|first| first == node)
    }
}

/// Maps GPU numbers 0, 1 … of a process to actual ones; if visibility is already restricted, only to those this process may use.
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
    fn runs_in_one_job_do_not_share_names() {
        let allocation = |run, on_first| {
            let nodes = vec!["n1".to_owned(), "n2".to_owned()];
            let slurm = Slurm::default();
            let job = "7".parse().unwrap();
            Place::Allocation(Box::new(Allocation {
                job,
                nodes,
                on_first,
                run,
                restarts: 1,
                cluster: None,
                submitted: None,
                replaces_twice: false,
                slurm,
            }))
        };
        let names = |place: &Place| (place.run_id(), place.step_name("server-0"));
        assert_eq!(names(&allocation(None, true)), ("tokmark-7-1".into(), "server-0".into()));
        assert_eq!(names(&allocation(Some(5), true)), ("tokmark-7-1-5".into(), "server-0-5".into()));
        assert!(allocation(None, true).is_here("n1") && !allocation(None, true).is_here("n2"));
        assert!(!allocation(Some(5), false).is_here("n1"), "on a login node none of them is here");
    }

    #[test]
    fn gpu_numbers_count_within_what_is_visible() {
        assert_eq!(visible_gpus(&[0, 1], None), "0,1");
        assert_eq!(visible_gpus(&[1, 2], Some("4,5,6")), "5,6");
        assert_eq!(visible_gpus(&[0], Some("GPU-abc")), "GPU-abc");
    }
}
