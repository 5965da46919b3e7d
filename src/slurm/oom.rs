//! What Slurm writes into a step's output when the kernel killed tasks of it for want of memory.
//!
//! Sources: `task_cgroup_memory.c`, `cgroup_v2.c`, `launch.c` of srun.

/// The first such line of a log.
pub fn line(log: &str) -> Option<&str> {
    log.lines().map(str::trim).find(|line| {
        let of_slurm = line.starts_with("slurmstepd") || line.starts_with("srun:");
        let words = line.to_lowercase().replace('-', "_");
        of_slurm && (words.contains("oom_kill event") || words.contains("out of memory"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_several_versions() {
        let new = "slurmstepd: error: Detected 1 oom_kill event in StepId=28.0. Some of the step tasks have been OOM Killed.";
        let old = "slurmstepd-n1: error: Detected 2 oom-kill event(s) in StepId=7.1. Some of your processes may have been killed by the cgroup out-of-memory handler.";
        let srun = "srun: error: node1: task 0: Out Of Memory";
        for text in [new, old, srun] {
            assert_eq!(line(&format!("loading\n{text}\n")), Some(text));
        }
        assert_eq!(
            line("torch.OutOfMemoryError: CUDA out of memory\nsrun: error: n1: task 0: Killed\n"),
            None
        );
    }
}
