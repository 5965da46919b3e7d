//! `executor::slurm` and the builders in `slurm` against a real cluster. Every test has jobs of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::lab::Guard;
use crate::support::eventually;
use tokmark::internals::executor::{Slurm, SlurmError};
use tokmark::internals::slurm::{ExitCode, JobId, JobState, JobStatus, StepId, squeue, srun};

const TICK: Duration = Duration::from_millis(100);

/// A cluster to test on and a folder that its nodes see.
struct Cluster {
    slurm: Slurm,
    dir: tempfile::TempDir,
    _guard: Guard,
}

impl Cluster {
    fn new() -> Option<Self> {
        Guard::shared().map(Self::with)
    }

    /// The same, once every other test has ended.
    fn alone() -> Option<Self> {
        Guard::alone().map(Self::with)
    }

    fn with(guard: Guard) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { slurm: Slurm { patience: 20, ..Slurm::default() }, dir, _guard: guard }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    /// The job's output without srun's remark on clusters that bind no CPUs anyway.
    fn said(&self) -> String {
        let out = self.read("out");
        let lines = out.lines().filter(|line| !line.contains("lacks support for cpu binding"));
        lines.map(|line| format!("{line}\n")).collect()
    }

    /// Submits a bash script; its output goes to `out`.
    async fn submit(&self, body: &str, args: &[&str]) -> JobId {
        let script = self.file("job.sbatch");
        std::fs::write(&script, format!("#!/bin/bash\n{body}\n")).unwrap();
        let mut all = vec![format!("--output={}", self.file("out").display()), "--mem=100".to_owned()];
        all.extend(args.iter().map(|&arg| arg.to_owned()));
        self.slurm.submit(&script, &all).await.unwrap()
    }

    async fn wait(&self, id: &JobId) -> JobStatus {
        self.slurm.wait(id, TICK, |_| {}).await.unwrap()
    }

    async fn until_running(&self, id: &JobId) -> JobStatus {
        loop {
            if let Some(job) = self.slurm.poll(std::slice::from_ref(id)).await.unwrap().remove(id) {
                assert!(!job.state.is_terminal(), "{job:?}");
                if job.state == JobState::Running {
                    return job;
                }
            }
            tokio::time::sleep(TICK).await;
        }
    }

    async fn step_named(&self, id: &JobId, name: &str) -> StepId {
        loop {
            let steps = self.slurm.steps(id).await.unwrap();
            if let Some(step) = steps.into_iter().find(|step| step.name == name) {
                return step.id;
            }
            tokio::time::sleep(TICK).await;
        }
    }
}

/// The line that starts a step inside a job's script.
fn srun_line(name: &str, nodes: &[String], output: srun::StepOutput, bash: &str) -> String {
    let argv = ["bash".to_owned(), "-c".to_owned(), bash.to_owned()];
    let version = Command::new("srun").arg("--version").output().unwrap().stdout;
    let version = String::from_utf8(version).unwrap();
    let replaces_twice = srun::replaces_patterns_twice(version.split_whitespace().last().unwrap());
    let step = srun::Step { replaces_twice, ..srun::Step::new(name, nodes, output, &argv) };
    let unset = srun::CLEARED_ENV.iter().map(|name| format!("-u {name}")).collect::<Vec<_>>().join(" ");
    format!("env {unset} {}", shlex::try_join(step.to_argv().iter().map(String::as_str)).unwrap())
}

fn scontrol(args: &[&str]) {
    let said = Command::new("scontrol").args(args).output().unwrap();
    assert!(said.status.success(), "{args:?}: {}", String::from_utf8_lossy(&said.stderr));
}

fn cluster_script(args: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/slurm-cluster");
    assert!(Command::new(script).args(args).status().unwrap().success(), "slurm-cluster {args:?}");
}

/// Names of the cluster's nodes, in order.
async fn node_names(slurm: &Slurm) -> Vec<String> {
    let said = Command::new("sinfo").args(["-h", "-p", "gpu", "-o", "%N"]).output().unwrap();
    let list = String::from_utf8(said.stdout).unwrap().lines().collect::<Vec<_>>().join(",");
    let mut names = slurm.hostnames(&list).await.unwrap();
    names.sort();
    names
}

#[tokio::test]
async fn a_job_completes() {
    let Some(cluster) = Cluster::new() else { return };
    let id = cluster.submit("echo hi; sleep 0.5", &["--job-name=my job|a=b"]).await;
    let mut states = Vec::new();
    let job = cluster.slurm.wait(&id, TICK, |job| states.push(job.state.clone())).await.unwrap();
    assert_eq!((&job.state, job.exit_code), (&JobState::Completed, ExitCode::parse("0:0")));
    assert_eq!(job.name, "my job|a=b");
    assert!(job.start >= job.submit && job.end >= job.start && job.end.is_some(), "{job:?}");
    assert_eq!(job.time_limit_s, Some(3600));
    assert_eq!(states.last(), Some(&JobState::Completed));
    assert_eq!(cluster.read("out"), "hi\n");
}

#[tokio::test]
async fn a_job_fails_with_its_code_and_the_accounting_agrees() {
    let Some(cluster) = Cluster::new() else { return };
    let id = cluster.submit("exit 3", &[]).await;
    let job = cluster.wait(&id).await;
    assert_eq!((&job.state, job.exit_code), (&JobState::Failed, ExitCode::parse("3:0")));
    loop {
        let known = match cluster.slurm.sacct(std::slice::from_ref(&id)).await {
            Err(SlurmError::AccountingDisabled { .. }) => return,
            other => other.unwrap(),
        };
        if let [accounted] = &known[..]
            && accounted.state == JobState::Failed
        {
            assert_eq!((accounted.exit_code, accounted.end), (job.exit_code, job.end));
            return;
        }
        tokio::time::sleep(TICK).await;
    }
}

#[tokio::test]
async fn a_job_is_cancelled_and_may_be_again() {
    let Some(cluster) = Cluster::new() else { return };
    let id = cluster.submit("exec sleep 100", &[]).await;
    cluster.until_running(&id).await;
    cluster.slurm.cancel(&id).await.unwrap();
    let job = cluster.wait(&id).await;
    assert_eq!(job.state, JobState::Cancelled);
    cluster.slurm.cancel(&id).await.unwrap();
    let unknown: JobId = "999999".parse().unwrap();
    cluster.slurm.cancel(&unknown).await.unwrap();
    assert!(cluster.slurm.poll(std::slice::from_ref(&unknown)).await.unwrap().is_empty());
    assert!(cluster.slurm.steps(&unknown).await.unwrap().is_empty());
    assert!(cluster.slurm.poll(&[unknown, id.clone()]).await.unwrap().contains_key(&id));
}

#[tokio::test]
async fn refusals_come_with_advice() {
    let Some(cluster) = Cluster::new() else { return };
    let script = cluster.file("x.sbatch");
    std::fs::write(&script, "#!/bin/bash\n").unwrap();
    for args in ["--partition=nope", "--nodes=99", "--gres=foo:1", "--gres=gpu:99", "--time=99-0", "--mem=9T"]
    {
        let error = cluster.slurm.submit(&script, &[args.to_owned()]).await.unwrap_err();
        let advised = matches!(error, SlurmError::Refused { advice: Some(_), .. });
        assert!(advised, "{args}: {error}");
    }
    std::fs::write(&script, "echo no shebang\n").unwrap();
    let error = cluster.slurm.submit(&script, &[]).await.unwrap_err();
    assert!(error.to_string().contains("must begin with #!"), "{error}");
}

#[tokio::test]
async fn a_step_has_a_task_on_each_node_and_logs_to_the_given_file() {
    let Some(cluster) = Cluster::new() else { return };
    let nodes = node_names(&cluster.slurm).await[..2].to_vec();
    let ask = "echo $SLURM_PROCID $(hostname) ${CUDA_VISIBLE_DEVICES:-none}";
    let each = srun_line("each", &nodes, srun::StepOutput::PerTask(cluster.file("50%t a.log")), ask);
    let all = srun_line("all", &nodes[1..], srun::StepOutput::Shared(cluster.file("%j.log")), ask);
    let args =
        ["--nodes=2", &format!("--nodelist={}", nodes.join(",")), "--gpus-per-node=2", "--export=NONE"];
    let id = cluster.submit(&format!("{each}; echo $?; {all}; {all}; echo $?"), &args).await;
    let job = cluster.wait(&id).await;
    assert_eq!((job.state, cluster.said().as_str()), (JobState::Completed, "0\n0\n"));
    for (task, node) in nodes.iter().enumerate() {
        assert_eq!(cluster.read(&format!("50%t a.t{task}.log")), format!("{task} {node} 0,1\n"));
    }
    let twice = format!("0 {} 0,1\n", nodes[1]).repeat(2);
    assert_eq!(cluster.read("%j.log"), twice, "a literal %, and logs that grow");
    assert_eq!(cluster.slurm.hostnames(&job.nodes.unwrap()).await.unwrap(), nodes);
}

/// Sends TERM to a step. On a busy machine Slurm says of a step whose tasks have begun that it is not running yet.
async fn end(cluster: &Cluster, step: &StepId) {
    for _ in 0..100 {
        if cluster.slurm.signal_step(step, "TERM").await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cluster.slurm.signal_step(step, "TERM").await.unwrap();
}

#[tokio::test]
async fn steps_overlap_and_one_is_stopped_softly_by_its_own_id() {
    let Some(cluster) = Cluster::new() else { return };
    let nodes = node_names(&cluster.slurm).await[..1].to_vec();
    let serve = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done";
    let line = |name: &str| {
        let log = srun::StepOutput::Shared(cluster.file(&format!("{name}.log")));
        srun_line(name, &nodes, log, serve)
    };
    let body = format!(
        "{} & a=$!\n{} & b=$!\nwait $a; echo a $?; wait $b; echo b $?",
        line("router"),
        line("server 1")
    );
    let id = cluster.submit(&body, &[&format!("--nodelist={}", nodes[0])]).await;
    let server = cluster.step_named(&id, "server 1").await;
    let router = cluster.step_named(&id, "router").await;
    for name in ["server 1.log", "router.log"] {
        eventually(name, || (cluster.read(name) == "up\n").then_some(()));
    }
    end(&cluster, &server).await;
    eventually("the server's trap ran", || cluster.read("server 1.log").contains("\nbye\n").then_some(()));
    assert_eq!(cluster.read("router.log"), "up\n", "the other step goes on");
    end(&cluster, &router).await;
    assert_eq!(cluster.wait(&id).await.state, JobState::Completed);
    assert_eq!(cluster.said(), "a 0\nb 0\n");
    cluster.slurm.signal_step(&server, "TERM").await.unwrap();
}

#[tokio::test]
async fn a_container_step_gets_its_options() {
    let Some(cluster) = Cluster::new() else { return };
    let help = Command::new("srun").arg("--help").output().unwrap();
    if !String::from_utf8_lossy(&help.stdout).contains("--container-image") {
        println!("skipped: no pyxis on this cluster");
        return;
    }
    let nodes = node_names(&cluster.slurm).await[..1].to_vec();
    let show = "echo \"$PYXIS_STUB_IMAGE $PYXIS_STUB_MOUNTS $PYXIS_STUB_MOUNT_HOME $A\"";
    let argv = ["bash".to_owned(), "-c".to_owned(), show.to_owned()];
    let mut step = srun::Step::new("c", &nodes, srun::StepOutput::Shared(cluster.file("c.log")), &argv);
    step.env = vec![("A".to_owned(), "b c".to_owned())];
    step.container = Some(srun::Container {
        image: Some("nvcr.io#nvidia/x:1".to_owned()),
        mounts: vec!["/tmp:/data:ro".to_owned(), "/etc:/e".to_owned()],
        flags: vec!["--no-container-mount-home".to_owned()],
        ..srun::Container::default()
    });
    let line = shlex::try_join(step.to_argv().iter().map(String::as_str)).unwrap();
    let id = cluster.submit(&line, &[&format!("--nodelist={}", nodes[0])]).await;
    assert_eq!(cluster.wait(&id).await.state, JobState::Completed);
    let said = cluster.read("c.log");
    assert!(said.ends_with("nvcr.io#nvidia/x:1 /tmp:/data:ro,/etc:/e 0 b c\n"), "{said}");
}

#[tokio::test]
async fn a_time_limit_is_a_timeout() {
    let Some(cluster) = Cluster::new() else { return };
    let id = cluster.submit("exec sleep 100", &[]).await;
    cluster.until_running(&id).await;
    scontrol(&["update", &format!("jobid={id}"), "endtime=now"]); // limits are looked at every 30 s
    assert_eq!(cluster.wait(&id).await.state, JobState::Timeout);
}

#[tokio::test]
async fn a_dead_node_fails_its_job() {
    let Some(cluster) = Cluster::alone() else { return };
    let node = node_names(&cluster.slurm).await.pop().unwrap();
    let args = ["--no-requeue", &format!("--nodelist={node}")];
    let id = cluster.submit("exec sleep 100", &args).await;
    cluster.until_running(&id).await;
    cluster_script(&["kill-node", &node]);
    // slurmctld finds out after SlurmdTimeout; an administrator says it at once
    scontrol(&["update", &format!("nodename={node}"), "state=down", "reason=dead"]);
    let job = cluster.wait(&id).await;
    cluster_script(&["start-node", &node]);
    assert_eq!(job.state, JobState::NodeFail, "{job:?}");
}

#[tokio::test]
async fn the_squeue_format_is_what_this_slurm_prints() {
    let Some(cluster) = Cluster::new() else { return };
    let id = cluster.submit("exec sleep 100", &["--hold"]).await;
    let argv = squeue::argv(std::slice::from_ref(&id));
    let said = Command::new(&argv[0]).args(&argv[1..]).env("TZ", "UTC").output().unwrap();
    let jobs = squeue::parse(&String::from_utf8(said.stdout).unwrap()).unwrap();
    assert_eq!((jobs.len(), &jobs[0].state), (1, &JobState::Pending));
    assert!(jobs[0].reason.as_deref().is_some_and(|reason| reason.starts_with("JobHeld")), "{:?}", jobs[0]);
    assert!(
        jobs[0].submit.is_some_and(|s| s > 1_600_000_000),
        "ISO times in UTC are read too: {:?}",
        jobs[0]
    );
    cluster.slurm.cancel(&id).await.unwrap();
}
