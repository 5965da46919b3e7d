//! Whose processes are on a GPU: those of this run, or of others.

use std::os::unix::fs::MetadataExt;

use crate::node::processes::Process;

/// Knows the processes of this run.
#[derive(Debug)]
pub(super) struct Owner {
    uid: u32,
    /// The Slurm job, in one.
    job: Option<String>,
    /// The process that started the sampler.
    run: u32,
}

impl Owner {
    pub(super) fn of_this_run() -> Self {
        let own = std::process::id();
        Self {
            uid: nix::unistd::geteuid().as_raw(),
            job: std::env::var("SLURM_JOB_ID").ok().filter(|job| !job.is_empty()),
            run: Process::of(own).map_or(own, |process| process.parent),
        }
    }

    /// `4711 python3` for a process of somebody else. A process that cannot be looked at belongs to another user, unless it is not there:
    /// in another PID namespace its number means nothing here.
    pub(super) fn other(&self, pid: u32) -> Option<String> {
        let of_user = std::fs::metadata(format!("/proc/{pid}")).ok()?.uid();
        let is_ours = of_user == self.uid
            && match &self.job {
                Some(job) => job_of(pid).is_none_or(|of| of == *job),
                None => self.is_below(pid),
            };
        let command = || std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        (!is_ours).then(|| format!("{pid} {}", command().trim()).trim().to_owned())
    }

    /// Whether the run is an ancestor of a process.
    fn is_below(&self, mut pid: u32) -> bool {
        while pid > 1 {
            if pid == self.run {
                return true;
            }
            let Some(process) = Process::of(pid) else { return false };
            pid = process.parent;
        }
        false
    }
}

/// The Slurm job of a process by its environment: `Some("")` for one outside of Slurm, `None` if it cannot be read.
fn job_of(pid: u32) -> Option<String> {
    let environ = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let variables = environ.split(|byte| *byte == 0);
    let job = variables.filter_map(|variable| variable.strip_prefix(b"SLURM_JOB_ID=".as_slice())).next();
    Some(String::from_utf8_lossy(job.unwrap_or_default()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_below_the_run_are_ours() {
        let own = std::process::id();
        let parent = Process::of(own).unwrap().parent;
        let uid = nix::unistd::geteuid().as_raw();
        let owner = |run, job: Option<&str>| Owner { uid, job: job.map(str::to_owned), run };
        assert_eq!(owner(parent, None).other(own), None);
        let foreign = owner(u32::MAX, None).other(own).unwrap();
        assert!(foreign.starts_with(&own.to_string()) && foreign.len() > own.to_string().len(), "{foreign}");
        assert!(owner(parent, Some("no such job")).other(own).is_some());
        assert_eq!(owner(parent, None).other(u32::MAX), None, "nothing is known of it");
    }
}
