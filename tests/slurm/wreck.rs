//! A node dies under a job. Slow, and alone, since other jobs would lose it too; last by the name of this module.

use tokmark::internals::experiment::Event;

use crate::lab::{Lab, cluster, long, nodes, slurm};
use crate::support::eventually;

const FIRST: &str = "benchmark_logs/isl16_osl4_con1";

/// A node that is dead until this is dropped.
struct Dead<'a>(&'a str);

impl<'a> Dead<'a> {
    fn new(node: &'a str) -> Self {
        cluster(&["kill-node", node]);
        // slurmctld finds out after SlurmdTimeout; an administrator says it at once.
        slurm(&["scontrol", "update", &format!("nodename={node}"), "state=down", "reason=dead"]);
        Self(node)
    }
}

impl Drop for Dead<'_> {
    fn drop(&mut self) {
        cluster(&["start-node", self.0]);
    }
}

#[test]
fn a_job_whose_node_dies_comes_back_on_another() {
    let Some(lab) = Lab::alone() else { return };
    let recipe = lab.write("long.toml", &long(5));
    let names = nodes();
    let (dies, lives) = (&names[3], &names[2]);
    let job = lab.submit(&recipe, &[&format!("--slurm-arg=--nodelist={dies}")]);
    job.until_point(2);
    let dead = Dead::new(dies);
    let state = eventually("Slurm has noticed", || {
        let state = lab.state(&job);
        (!state.starts_with("RUNNING")).then_some(state)
    });
    slurm(&["scontrol", "update", &format!("jobid={}", job.id), &format!("reqnodelist={lives}")]);
    let said = lab.wait(&job);
    drop(dead);
    assert!(state.starts_with("PENDING") || state == "NODE_FAIL", "{state}");
    said.code(0);
    let hosts: Vec<String> = job
        .events()
        .into_iter()
        .filter_map(|event| if let Event::Started { host, .. } = event { Some(host) } else { None })
        .collect();
    assert_eq!(hosts, [dies.clone(), lives.clone()]);
    assert_eq!(lab.state(&job), "COMPLETED");
    job.left_nothing();
}

#[test]
fn a_node_that_dies_for_good_ends_the_wait() {
    let Some(lab) = Lab::alone() else { return };
    let recipe = lab.write("long.toml", &long(60));
    let dies = nodes().pop().unwrap();
    let once = "slurm.directives=[\"--no-requeue\"]";
    let job = lab.submit(&recipe, &["--set", once, &format!("--slurm-arg=--nodelist={dies}")]);
    job.until_point(2);
    let dead = Dead::new(&dies);
    let said = lab.wait(&job);
    drop(dead);
    let said = said.code(3);
    assert!(said.err.contains("NODE_FAIL"), "{}", said.err);
    assert_eq!(lab.state(&job), "NODE_FAIL");
    assert!(job.dir.join(FIRST).join("summary.json").exists());
}
