//! The launchers for vLLM and Dynamo over several nodes, with stand-ins for the programs they start: the argv, addresses,
//! ports, GPUs and readiness are the launchers' own, and what stands to each other must find each other.

use serde_json::Value;

use crate::lab::{Job, Lab, TINY, nodes, slurm};
use crate::weights;

/// Where the stand-ins are.
pub(crate) const ENGINES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/engines");

/// A recipe with `keys` in `[deploy]`, and `tables` after it.
pub(crate) fn recipe(keys: &str, tables: &str) -> String {
    TINY.replace("launcher = \"sim\"", &format!("{keys}\nstop_grace = \"5s\""))
        .replace("[deploy.engine]\nprofile = \"quick\"\n", &format!("{tables}\n"))
        .replace("concurrency = [1, 2]", "concurrency = 4")
}

pub(crate) fn site(lab: &Lab, name: &str, more: &str) -> String {
    let path = std::env::var("PATH").unwrap();
    lab.write(
        name,
        &format!(
            "schema = 1\n[slurm]\ngres = \"typed-gres\"\n[env]\nPATH = \"{ENGINES}:{path}\"\nTOKMARK = \"{}\"\nSTAND_IN_MODEL = \"m/tiny\"\n\
             [gpus.h100]\nper_node = 4\npartition = \"gpu\"\n{more}",
            env!("CARGO_BIN_EXE_tokmark")
        ),
    )
}

/// The facts a stand-in printed first, by key.
fn facts(job: &Job, process: &str) -> std::collections::BTreeMap<String, String> {
    let log = job.read(&format!("server_logs/{process}.log"));
    let line =
        log.lines().find(|line| line.starts_with("stand-in ")).unwrap_or_else(|| panic!("{process}: {log}"));
    line.split(' ')
        .filter_map(|word| word.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

pub(crate) fn is_contained() -> bool {
    slurm(&["srun", "--help"]).contains("--container-image")
}

const PYXIS: &str =
    "[container]\nruntime = \"pyxis\"\n[gpus.h100.images]\n\"e:1\" = \"registry.lab#engine:1\"\n";
const DYNAMO: &str = "launcher = \"dynamo-vllm\"";
pub(crate) const IMAGE: &str = "\n[gpu.h100.container]\nimage = \"e:1\"\n";

#[test]
fn vllm_with_data_parallelism_over_two_nodes_is_one_endpoint() {
    let Some(lab) = Lab::new() else { return };
    let text = recipe("launcher = \"vllm\"\ntp = 2\ndp = 4\nep = 8", "") + IMAGE;
    let recipe = lab.write("dp.toml", &text);
    let submit = |site: &str| lab.submit(&recipe, &["--site", site, "--gpu", "h100"]);
    let mut jobs = vec![("", submit(&site(&lab, "bare.toml", "")))];
    if is_contained() {
        jobs.push(("tokmark-", submit(&site(&lab, "pyxis.toml", PYXIS))));
    }
    let names = nodes();
    for (container, job) in &jobs {
        lab.wait(job).code(0);
        let (leader, follower) = (facts(job, "server-0-r0"), facts(job, "server-0-r1"));
        assert_eq!((&leader["node"], &follower["node"]), (&names[0], &names[1]));
        assert_eq!((leader["gpus"].as_str(), follower["gpus"].as_str()), ("0,1,2,3", "0,1,2,3"));
        let ranks = (leader["rank"].as_str(), follower["rank"].as_str(), leader["local"].as_str());
        assert_eq!(ranks, ("0", "2", "2"));
        assert!(leader["container"].starts_with(container) && follower["container"].starts_with(container));
        assert!(job.read("server_logs/server-0-r0.log").contains("joined 2"));
        let summary: Value = serde_json::from_str(&job.read("benchmark_logs/summary.json")).unwrap();
        let throughput = &summary["throughput"];
        let (all, each) = (&throughput["output_tokens_per_s"], &throughput["output_tokens_per_s_per_gpu"]);
        assert!((all.as_f64().unwrap() / each.as_f64().unwrap() - 8.0).abs() < 1e-6, "8 GPUs: {throughput}");
        job.left_nothing();
    }
}

#[test]
fn prefill_and_decode_over_two_nodes_register_before_the_load() {
    let Some(lab) = Lab::new() else { return };
    let tables = "[deploy.settings]\nrouter_mode = \"kv\"\n[deploy.prefill]\ntp = 1\nreplicas = 2\n\
                  [deploy.decode]\ntp = 4\n[deploy.decode.env]\nSTAND_IN_DELAY = \"1\"";
    let recipe = lab.write("disagg.toml", &(recipe(DYNAMO, tables) + IMAGE));
    let contained = is_contained();
    let mut jobs =
        vec![("", lab.submit(&recipe, &["--site", &site(&lab, "bare.toml", ""), "--gpu", "h100"]))];
    if contained {
        let site = site(&lab, "pyxis.toml", PYXIS);
        jobs.push(("tokmark-", lab.submit(&recipe, &["--site", &site, "--gpu", "h100"])));
    }
    let names = nodes();
    for (container, job) in &jobs {
        lab.wait(job).code(0);
        let seats: Vec<_> =
            ["frontend-0", "prefill-0", "prefill-1", "decode-0"].map(|name| facts(job, name)).into();
        let seen: Vec<_> = seats.iter().map(|seat| (seat["node"].as_str(), seat["gpus"].as_str())).collect();
        let [first, second] = [names[0].as_str(), names[1].as_str()];
        assert_eq!(seen[1..], [(first, "0"), (first, "1"), (second, "0,1,2,3")]);
        assert_eq!(seen[0].0, first);
        assert_ne!(seats[1]["nixl"], seats[2]["nixl"], "side channels of one node stand apart");
        assert!(seats.iter().skip(1).all(|seat| seat["namespace"].contains(&job.id)), "{seats:?}");
        assert!(seats.iter().all(|seat| seat["container"].starts_with(container)), "{seats:?}");
        assert!(
            seats.iter().all(|seat| seat["image"].is_empty()),
            "steps reuse the unpacked container: {seats:?}"
        );
        let log = job.read("server_logs/decode-0.log");
        assert!(log.contains("registered backend"), "{log}");
        job.left_nothing();
    }
    if contained {
        let commands = jobs[1].1.read("commands.sh");
        assert!(
            commands.lines().filter(|l| l.contains("--container-name=tokmark-")).count() >= 5,
            "{commands}"
        );
    }
}

/// Two jobs that share a node, submitted at once: ports, GPUs and files are their own.
#[test]
fn two_jobs_on_one_node_do_not_meet() {
    let Some(lab) = Lab::new() else { return };
    let names = nodes();
    let tables = "[deploy.prefill]\ntp = 1\n[deploy.decode]\ntp = 1";
    let recipe = lab.write("two.toml", &recipe(DYNAMO, tables));
    let site = site(&lab, "bare.toml", "");
    let args = ["--site", site.as_str(), "--gpu", "h100", &format!("--slurm-arg=--nodelist={}", names[1])];
    // When the node is busy with other tests' jobs, Slurm may start the second when the first has ended.
    let mut jobs = [lab.submit(&recipe, &args), lab.submit(&recipe, &args)];
    for _ in 0..3 {
        jobs.iter().for_each(|job| {
            lab.wait(job).code(0);
        });
        if met(&jobs) {
            break;
        }
        jobs = [lab.submit(&recipe, &args), lab.submit(&recipe, &args)];
    }
    let mut gpus = std::collections::BTreeSet::new();
    let mut ports = std::collections::BTreeSet::new();
    for job in &jobs {
        lab.wait(job).code(0);
        for worker in ["prefill-0", "decode-0"] {
            gpus.insert(facts(job, worker)["gpus"].clone());
        }
        ports.insert(facts(job, "frontend-0")["listens"].clone());
        job.left_nothing();
    }
    assert_eq!(gpus.len(), 4, "{gpus:?}");
    assert_eq!(ports.len(), 2, "{ports:?}");
    assert_ne!(jobs[0].dir, jobs[1].dir);
}

/// Whether two jobs ran at one time, by the first and the last of their events.
fn met(jobs: &[Job; 2]) -> bool {
    let [(a_began, a_ended), (b_began, b_ended)] = jobs.each_ref().map(|job| {
        let events = job.read("events.jsonl");
        let at = |line: Option<&str>| {
            let event: Value = serde_json::from_str(line.unwrap_or_default()).unwrap();
            event["at"].as_str().unwrap().to_owned()
        };
        (at(events.lines().next()), at(events.lines().last()))
    });
    a_began < b_ended && b_began < a_ended
}

/// A worker that never registers: the start ends at its deadline and says who is missing.
#[test]
fn a_worker_that_does_not_register_is_named() {
    let Some(lab) = Lab::new() else { return };
    let tables =
        "[deploy.prefill]\ntp = 1\n[deploy.prefill.env]\nSTAND_IN_DELAY = \"1000\"\n[deploy.decode]\ntp = 1";
    let text = recipe(DYNAMO, tables).replace("startup_timeout = \"60s\"", "startup_timeout = \"8s\"");
    let recipe = lab.write("late.toml", &text);
    let job = lab.submit(&recipe, &["--site", &site(&lab, "bare.toml", ""), "--gpu", "h100"]);
    let said = lab.wait(&job).code(4);
    let told = format!("{}{}", said.err, job.read("server_logs/bench.log"));
    assert!(told.contains("prefill-0: http://") && told.contains("instances has 0 of 1"), "{told}");
    assert!(told.contains("deploy.startup_timeout has passed"), "{told}");
    job.left_nothing();
}

/// Two jobs want one image of a registry: one imports it, the other waits for the file; a third that gets half an image
/// says so before any server starts.
#[test]
fn an_image_is_imported_once_and_verified() {
    let Some(lab) = Lab::new() else { return };
    if !is_contained() {
        return;
    }
    let recipe = lab.write(
        "i.toml",
        &(recipe("launcher = \"vllm\"", "")
            + "\n[gpu.h100.container]\nimage = \"nvcr.io#nvidia/engine:1\"\n"),
    );
    // pyxis has no way to write a blank or a comma in a path.
    let plain = tempfile::Builder::new().prefix("tokmark-images-").tempdir().unwrap();
    let images = plain.path().display().to_string();
    let site_with = |name: &str, mode: &str| {
        let text = std::fs::read_to_string(site(&lab, name, "")).unwrap();
        let setup = format!(
            "[slurm]\nsetup = [\"export PATH={ENGINES}:$PATH\", \"export ENROOT_STAND_IN={mode}\", \"export ENROOT_STAND_IN_LOG={images}/log\"]\n\
             [container]\nruntime = \"pyxis\"\nimages = \"{images}/{mode}\"\n"
        );
        lab.write(
            name,
            &text
                .replace("[slurm]\n", &setup)
                .replace("gres = \"typed-gres\"\n", "")
                .replace("[container]", "gres = \"typed-gres\"\n[container]"),
        )
    };
    let experiments = format!("{images}/experiments");
    let whole = site_with("whole.toml", "whole");
    let args = |site: &str| {
        [
            "--site".to_owned(),
            site.to_owned(),
            "--gpu".into(),
            "h100".into(),
            "--experiments".into(),
            experiments.clone(),
        ]
    };
    let submit = |site: &str| lab.submit(&recipe, &args(site).each_ref().map(String::as_str));
    let jobs = [submit(&whole), submit(&whole)];
    for job in &jobs {
        lab.tokmark(&["jobs", "wait", &job.id, "--experiments", &experiments]).code(0);
        assert!(job.read("server_logs/server-0.log").contains("container=tokmark-"));
        let commands = job.read("commands.sh");
        assert!(commands.contains("--container-name="), "{commands}");
    }
    let log = || std::fs::read_to_string(format!("{images}/log")).unwrap();
    assert_eq!(log(), "docker://nvcr.io#nvidia/engine:1\n", "imported once");
    assert!(std::path::Path::new(&format!("{images}/whole/nvcr.io+nvidia+engine+1.sqsh")).exists());
    let importing: Vec<usize> =
        jobs.iter().map(|job| job.read("events.jsonl").matches("image_importing").count()).collect();
    assert_eq!(importing.iter().sum::<usize>(), 1, "{importing:?}");

    let cut = submit(&site_with("cut.toml", "cut"));
    let said = lab.tokmark(&["jobs", "wait", &cut.id, "--experiments", &experiments]).code(3);
    let told = format!("{}{}", said.err, cut.read("server_logs/bench.log"));
    assert!(told.contains("is truncated: 2048 bytes, and its superblock says 4096"), "{told}");
    assert!(!cut.read("events.jsonl").contains("process_started"), "no server was started");
    let left: Vec<_> =
        std::fs::read_dir(format!("{images}/cut")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(
        left.iter().all(|name| name.to_string_lossy().ends_with(".lock")),
        "nothing half-written: {left:?}"
    );
}

#[test]
fn apptainer_wraps_the_command_and_not_the_step() {
    let Some(lab) = Lab::new() else { return };
    let recipe = lab.write(
        "a.toml",
        &(recipe("launcher = \"vllm\"\ntp = 2", "") + "\n[gpu.h100.container]\nimage = \"./engine.sif\"\n"),
    );
    let mut sif = vec![b'#'; 32];
    sif.extend(b"SIF_MAGIC\0 01");
    sif.resize(128, 0);
    let image = lab.path("engine image.sif");
    std::fs::write(&image, sif).unwrap();
    let image = image.display().to_string();
    let site = site(
        &lab,
        "apptainer.toml",
        &format!(
            "[gpus.h100.images]\n\"./engine.sif\" = \"{image}\"\n[container]\nruntime = \"apptainer\"\nmounts = [\"/etc:/host-etc:ro\"]\n"
        ),
    );
    let job = lab.submit(&recipe, &["--site", &site, "--gpu", "h100"]);
    lab.wait(&job).code(0);
    let log = job.read("server_logs/server-0.log");
    assert!(log.contains(&format!("apptainer image={image} binds= /etc:/host-etc:ro ")), "{log}");
    assert_eq!(facts(&job, "server-0")["gpus"].split(',').count(), 2);
    job.left_nothing();
}

/// Weights that break between the submission and the start: the job says so, and starts nothing.
#[test]
fn a_job_whose_weights_are_not_whole_starts_no_server() {
    let Some(lab) = Lab::new() else { return };
    let text = recipe("launcher = \"vllm\"", "")
        .replace("[load]", "[load.prompts]\ntokenizer = \"builtin\"\n[load]");
    let recipe = lab.write("w.toml", &text);
    let folder = lab.path("models/tiny");
    weights::model(&folder);
    let site = site(&lab, "weights.toml", &format!("[models]\n\"m/tiny\" = {folder:?}\n"));
    let args = ["--site", &site, "--gpu", "h100"];
    let whole = lab.submit(&recipe, &args);
    lab.wait(&whole).code(0);
    assert!(whole.read("server_logs/bench.log").contains("weights: 2 shards, "));

    let held = lab.submit(&recipe, &[&args[..], &["--slurm-arg", "hold"]].concat());
    weights::cut(&folder.join(weights::SHARDS[1]));
    slurm(&["scontrol", "release", &held.id]);
    lab.wait(&held).code(2);
    let log = held.read("server_logs/bench.log");
    assert!(log.contains(&format!("{}: is truncated: ", weights::SHARDS[1])), "{log}");
    assert!(!held.read("events.jsonl").contains("process_started"), "no server was started");
    assert!(!held.layout().iter().any(|name| name.ends_with("server-0.log")), "{:?}", held.layout());
    assert_eq!(held.exit_code(), Some(2));
    held.left_nothing();
}
