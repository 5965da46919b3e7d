//! Roles over several nodes: each process a step of its own, GPUs as planned, containers where they belong.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::lab::{Lab, TINY, nodes, slurm};

/// A replica of the simulated engine that first tells where it is, and a sidecar on the first node that outlives them.
const FLEET: &str = r#"
schema = 1
name = "fleet"
summary = "simulated replicas and a sidecar"
simulated = true
max_replicas = 8
spans_nodes = true
[endpoint]
role = "replica"
port = "http"
health = "/health"
[[role]]
name = "sidecar"
placement = "head"
bare = true
argv = ["sh", "-c", 'echo node=$(hostname) gpus=${CUDA_VISIBLE_DEVICES:-none} "a=$A"; exec sleep 1000']
env = { A = "it's $(not) a \"shell\" é" }
ready = { started = {} }
[[role]]
name = "replica"
placement = "each_replica"
gpus = true
argv = ["sh", "-c", 'echo index=$1 node=$(hostname) gpus=$CUDA_VISIBLE_DEVICES step=$SLURM_STEP_ID task=$SLURM_PROCID; echo container="$PYXIS_STUB_IMAGE$PYXIS_STUB_NAME|$PYXIS_STUB_MOUNTS"; shift; exec "$@"', "sh", "{{ index }}",
  "{{ tokmark }}", "sim", "--host", "{{ host }}", "--port", "{{ port.http }}", "--model", "{{ model.served_name }}"]
ports = { http = 8600 }
files = { config = "port {{ port.http }}" }
logs = ["workers"]
"#;

fn recipe(tp: u32, replicas: u32) -> String {
    TINY.replace(
        "launcher = \"sim\"",
        &format!("launcher = \"fleet\"\ntp = {tp}\nreplicas = {replicas}\nstop_grace = \"5s\""),
    )
    .replace("[deploy.engine]\nprofile = \"quick\"\n", "")
    .replace("concurrency = [1, 2]", "concurrency = 1")
}

/// `key=value` words of a log's line.
fn facts(log: &str) -> BTreeMap<&str, &str> {
    log.lines()
        .filter(|line| line.contains("node="))
        .flat_map(str::split_whitespace)
        .filter_map(|word| word.split_once('='))
        .collect()
}

#[test]
fn replicas_share_nodes_and_never_gpus() {
    let Some(lab) = Lab::new() else { return };
    lab.write("launchers/fleet.toml", FLEET);
    let recipe = lab.write("fleet.toml", &recipe(2, 3));
    let site = lab.write(
        "s.toml",
        "schema = 1\n[slurm]\naccount = \"lab\"\ngres = \"typed-gres\"\n[gpus.h100]\nper_node = 4\npartition = \"gpu\"\n",
    );
    let args = ["--site", &site, "--gpu", "h100"];
    let job = lab.submit(&recipe, &args);
    lab.wait(&job).code(0);
    let names = nodes();
    let logs: Vec<String> =
        (0..3).map(|index| job.read(&format!("server_logs/replica-{index}.log"))).collect();
    let seats: Vec<_> = logs
        .iter()
        .map(|log| facts(log))
        .map(|facts| {
            (
                facts["index"].to_owned(),
                facts["node"].to_owned(),
                facts["gpus"].to_owned(),
                facts["task"].to_owned(),
            )
        })
        .collect();
    let seat = |index: &str, node: &str, gpus: &str| {
        (index.to_owned(), node.to_owned(), gpus.to_owned(), "0".to_owned())
    };
    assert_eq!(
        seats,
        [seat("0", &names[0], "0,1"), seat("1", &names[0], "2,3"), seat("2", &names[1], "0,1")]
    );
    let steps: std::collections::BTreeSet<_> = logs.iter().map(|log| facts(log)["step"].to_owned()).collect();
    assert_eq!(steps.len(), 3, "a step for each process");

    let sidecar = job.read("server_logs/sidecar-0.log");
    assert!(sidecar.contains("it's $(not) a \"shell\" é"), "{sidecar}");
    let said = job.read("server_logs/output_workers.log");
    for index in 0..3 {
        for part in [format!("==> replica-{index} <==\n"), format!("\nindex={index} ")] {
            assert!(said.contains(&part), "{said}");
        }
    }
    let accounted = slurm(&["scontrol", "show", "job", &job.id]);
    assert!(accounted.contains("Account=lab") && accounted.contains("gres/gpu=8"), "{accounted}");
    job.left_nothing();
}

#[test]
fn every_dialect_gets_the_gpus_of_the_chosen_type() {
    let Some(lab) = Lab::new() else { return };
    lab.write("launchers/fleet.toml", FLEET);
    let recipe = lab.write("fleet.toml", &recipe(2, 1));
    let names = nodes();
    let mut jobs = Vec::new();
    for (dialect, gpu, node, more) in [
        ("gres", "b200", &names[3], "constraint = \"b200\""),
        ("typed-gres", "gb200", &names[2], ""),
        ("gpus-per-node", "h100", &names[0], "constraint = \"h100\"\npartition = \"debug\""),
    ] {
        let text = format!("schema = 1\n[slurm]\ngres = \"{dialect}\"\n[gpus.{gpu}]\nper_node = 4\n{more}\n");
        let site = lab.write(&format!("{dialect}.toml"), &text);
        jobs.push((dialect, node, lab.submit(&recipe, &["--site", &site, "--gpu", gpu])));
    }
    for (dialect, node, job) in &jobs {
        lab.wait(job).code(0);
        let log = job.read("server_logs/replica-0.log");
        let facts = facts(&log);
        assert_eq!(facts["gpus"].split(',').count(), 2, "{dialect}: {log}");
        if *dialect != "gpus-per-node" {
            assert_eq!(facts["node"], node.as_str(), "{dialect}");
        }
    }
    let partition = slurm(&["squeue", "-h", "--states=all", "-o", "%P", "-j", &jobs[2].2.id]);
    assert_eq!(partition.trim(), "debug");
}

/// A job that has more GPUs than a deployment of it uses: `--exclusive`, or a sweep over tp.
#[test]
fn a_process_sees_only_the_gpus_that_it_was_given() {
    let Some(lab) = Lab::new() else { return };
    lab.write("launchers/fleet.toml", FLEET);
    let swept = format!("{}\n[sweep.server]\ntp = [1, 2]\n", recipe(1, 1));
    let recipe = lab.write("fleet.toml", &swept);
    let site = lab.write("s.toml", "schema = 1\n[gpus.h100]\nper_node = 4\nconstraint = \"h100\"\n");
    let job = lab.submit(&recipe, &["--site", &site, "--gpu", "h100"]);
    lab.wait(&job).code(0);
    for tp in [1, 2] {
        let log = job.read(&format!("server_logs/tp{tp}.replica-0.log"));
        assert_eq!(facts(&log)["gpus"].split(',').count(), tp, "{log}{:#?}", job.layout());
    }
    job.left_nothing();
}

#[test]
fn a_replica_spans_nodes_in_one_step_with_a_task_for_each_gpu() {
    let Some(lab) = Lab::new() else { return };
    let launcher = FLEET
        .replace("placement = \"each_replica\"", "placement = \"each_replica\"\ntasks = \"per_gpu\"")
        .replace("shift; exec \"$@\"", "shift; [ $SLURM_PROCID = 0 ] || exec sleep 1000; exec \"$@\"");
    lab.write("launchers/fleet.toml", &launcher);
    let recipe = lab.write("fleet.toml", &recipe(8, 1));
    let site = lab.write("s.toml", "schema = 1\n[gpus.h100]\nper_node = 4\nconstraint = \"h100\"\n");
    let job = lab.submit(&recipe, &["--site", &site, "--gpu", "h100"]);
    lab.wait(&job).code(0);
    let log: String = (0..8).map(|task| job.read(&format!("server_logs/replica-0.t{task}.log"))).collect();
    let names = nodes();
    let mut tasks: Vec<_> = log.lines().filter(|line| line.contains("node=")).map(facts).collect();
    tasks.sort_by_key(|facts| facts["task"].to_owned());
    let seats: Vec<_> = tasks.iter().map(|facts| (facts["node"], facts["gpus"])).collect();
    let node = |index: usize| vec![(names[index].as_str(), "0,1,2,3"); 4];
    assert_eq!(seats, [node(0), node(1)].concat());
    job.left_nothing();
}

#[test]
fn containers_hold_the_engine_and_not_bare_roles() {
    let Some(lab) = Lab::new() else { return };
    let help = slurm(&["srun", "--help"]);
    if !help.contains("--container-image") {
        println!("skipped: no pyxis on this cluster");
        return;
    }
    // pyxis has no way to write a blank or a comma in a mount's path.
    let plain = tempfile::Builder::new().prefix("tokmark-e2e-").tempdir().unwrap();
    lab.write("launchers/fleet.toml", FLEET);
    let recipe = recipe(1, 1) + "\n[gpu.h100.container]\nimage = \"nvcr.io#nvidia/engine:1\"\n";
    let recipe = lab.write("fleet.toml", &recipe);
    let site = lab.write(
        "s.toml",
        "schema = 1\n[container]\nruntime = \"pyxis\"\nmounts = [\"/etc:/host-etc:ro\"]\n[gpus.h100]\nper_node = 4\n\
         [gpus.h100.images]\n\"nvcr.io#nvidia/engine:1\" = \"registry.lab#engine:1\"\n",
    );
    let experiments = plain.path().display().to_string();
    let args = ["--site", &site, "--gpu", "h100", "--experiments", &experiments];
    let job = lab.submit(&recipe, &args);
    lab.tokmark(&["jobs", "wait", &job.id, "--experiments", &experiments]).code(0);
    let run = job.dir.join("run/deployment").display().to_string();
    let log = job.read("server_logs/replica-0.log");
    let logs = job.dir.join("server_logs").display().to_string();
    let wanted =
        format!("container=tokmark-{}-0:no_exec|/etc:/host-etc:ro,{run}:{run},{logs}:{logs}\n", job.id);
    assert!(log.contains(&wanted), "{wanted} in {log}");
    let commands = job.read("commands.sh");
    let sidecar = commands.lines().find(|line| line.contains("--job-name=sidecar-0")).unwrap();
    assert!(!sidecar.contains("--container-image"), "{sidecar}");

    let state = std::env::var("SLURM_CLUSTER_DIR").unwrap_or_default();
    let pyxis = std::fs::read_to_string(format!("{state}/log/pyxis.log")).unwrap_or_default();
    // The log may go back to an earlier cluster, whose jobs had the same numbers.
    let of_job: Vec<&str> = pyxis
        .lines()
        .filter(|line| line.starts_with(&format!("job={}\t", job.id)) && line.contains(&run))
        .collect();
    assert_eq!(of_job.len(), 1, "the replica's step alone is contained: {of_job:#?}");
    let plan: Value = serde_json::from_str(&job.read("plan.json")).unwrap();
    assert_eq!(plan["container"]["image"], "registry.lab#engine:1");
    job.left_nothing();
}
