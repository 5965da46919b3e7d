//! Containers of pyxis and apptainer on a real Slurm, with stand-ins that behave as the real ones were seen to: read-only images,
//! containers that stay on the nodes, refusals, options by version.

use std::path::PathBuf;

use serde_json::Value;
use tokmark::internals::experiment::Event;

use crate::engines::{ENGINES, is_contained, recipe, site};
use crate::lab::{Job, Lab, Said, nodes, said, slurm};
use crate::support::eventually;

/// A cluster whose srun has pyxis' options.
fn lab() -> Option<Lab> {
    Lab::new().filter(|_| is_contained())
}

/// A site with pyxis, enroot on the jobs' PATH, and more keys in `[container]`.
fn pyxis(lab: &Lab, keys: &str) -> String {
    let text = std::fs::read_to_string(site(lab, "pyxis.toml", "")).unwrap();
    let setup = format!("[slurm]\nsetup = [\"export PATH={ENGINES}:$PATH\"]\n");
    let text = text.replace("[slurm]\n", &setup);
    lab.write("pyxis.toml", &format!("{text}[container]\nruntime = \"pyxis\"\n{keys}\n"))
}

/// A recipe for vLLM with this image; each of its requests takes some `seconds`.
fn vllm(lab: &Lab, image: &str, seconds: u32) -> String {
    let text = recipe("launcher = \"vllm\"", "").replace("osl = 4", &format!("osl = {}", seconds * 250 + 4));
    lab.write("vllm.toml", &format!("{text}\n[gpu.h100.container]\nimage = \"{image}\"\n"))
}

fn submit(lab: &Lab, recipe: &str, site: &str, env: &[(&str, &str)]) -> Job {
    let mut command = lab.command();
    command.args(["submit", "--json", recipe, "--site", site, "--gpu", "h100"]).envs(env.iter().copied());
    command.args(["--slurm-arg", &format!("nodelist={}", nodes()[0])]);
    let said = said(&mut command).code(0).json();
    Job { id: said["job"].as_str().unwrap().to_owned(), dir: said["experiment"].as_str().unwrap().into() }
}

/// Containers of a job that are on the nodes.
fn containers(job: &Job) -> Vec<PathBuf> {
    let conf = PathBuf::from(std::env::var_os("SLURM_CONF").unwrap());
    let nodes = conf.parent().unwrap().parent().unwrap().join("lib/containers");
    let below = walkdir::WalkDir::new(nodes).min_depth(2).max_depth(2).into_iter().filter_map(Result::ok);
    let name = format!("pyxis_tokmark-{}-", job.id);
    below.map(|entry| entry.into_path()).filter(|path| path.to_string_lossy().contains(&name)).collect()
}

#[track_caller]
fn left_no_container(job: &Job) {
    let left = containers(job);
    assert!(left.is_empty(), "{left:?}: {}", job.read("server_logs/container.log"));
    job.left_nothing();
}

/// Everything said about a failed job.
fn told(said: &Said, job: &Job) -> String {
    format!("{}{}", said.err, job.read("server_logs/bench.log"))
}

fn is_ready(event: &Event) -> bool {
    matches!(event, Event::PointStarted { .. })
}

/// An engine writes caches below its home folder. An image is read-only by enroot's default, and the reviewer's vLLM died of it.
#[test]
fn a_server_can_write_its_caches_in_a_container() {
    let Some(lab) = lab() else { return };
    let recipe = vllm(&lab, "registry.lab#engine:1", 0);
    let home = lab.path(".cache/vllm").display().to_string();
    for (keys, folder) in [("", "/root/.cache/vllm"), ("mount_home = true", home.as_str())] {
        let job = submit(&lab, &recipe, &pyxis(&lab, keys), &[]);
        lab.wait(&job).code(0);
        let log = job.read("server_logs/server-0.log");
        assert!(
            log.lines().any(|line| line.starts_with("cache ") && line.ends_with(folder)),
            "{keys}: {log}"
        );
        left_no_container(&job);
    }
    let job = submit(&lab, &recipe, &pyxis(&lab, "writable = false"), &[]);
    let said = lab.wait(&job).code(4);
    let told = told(&said, &job);
    assert!(told.contains("Read-only file system") && told.contains("container.writable = true"), "{told}");
    left_no_container(&job);
}

#[test]
fn a_server_can_write_its_caches_in_an_apptainer_image() {
    let Some(lab) = lab() else { return };
    let recipe = vllm(&lab, "docker://engine:1", 0);
    for (keys, code) in [("", 0), ("writable = false", 4), ("writable = false\nmount_home = true", 0)] {
        let site = pyxis(&lab, keys);
        let text = std::fs::read_to_string(&site).unwrap().replace("\"pyxis\"", "\"apptainer\"");
        let job = submit(&lab, &recipe, &lab.write("apptainer.toml", &text), &[]);
        let said = lab.wait(&job).code(code);
        let told = told(&said, &job);
        assert_eq!(told.contains("Read-only file system"), code == 4, "{keys}: {told}");
    }
}

#[test]
fn a_cancelled_job_leaves_no_container() {
    let Some(lab) = lab() else { return };
    let recipe = vllm(&lab, "registry.lab#engine:1", 60);
    let site = pyxis(&lab, "");
    let ready = submit(&lab, &recipe, &site, &[]);
    ready.until("it measures", is_ready);
    // The unpacking goes on without its srun, so what it writes is removed after its end.
    let unpacking = submit(&lab, &recipe, &site, &[("PYXIS_STUB_IMPORT_SECONDS", "5")]);
    eventually("it unpacks", || (!containers(&unpacking).is_empty()).then_some(()));
    for job in [&ready, &unpacking] {
        assert_eq!(containers(job).len(), 1);
        let said = lab.tokmark(&["jobs", "cancel", &job.id]).code(0);
        assert_eq!(said.out, format!("cancelled job {}\n", job.id));
        lab.wait(job).code(130);
        left_no_container(job);
    }
}

/// Slurm starts no step of a job that it ends, so tokmark removes the container of its own node itself.
#[test]
fn a_plain_scancel_leaves_no_container_on_the_first_node() {
    let Some(lab) = lab() else { return };
    let job = submit(&lab, &vllm(&lab, "registry.lab#engine:1", 60), &pyxis(&lab, ""), &[]);
    job.until("it measures", is_ready);
    assert_eq!(containers(&job).len(), 1);
    slurm(&["scancel", &job.id]);
    lab.wait(&job).code(130);
    left_no_container(&job);
    assert_eq!(lab.state(&job), "CANCELLED");
}

#[test]
fn a_failed_unpacking_leaves_no_container_and_shows_its_cause() {
    let Some(lab) = lab() else { return };
    let site = pyxis(&lab, "");
    let table = [
        ("registry.lab#stub-full:1", "because No space left on device", "free space at ENROOT_DATA_PATH"),
        ("nvcr.io#stub-unresolved:1", "Could not resolve host: nvcr.io", "~/.config/enroot/.credentials"),
    ];
    for (image, cause, advice) in table {
        let job = submit(&lab, &vllm(&lab, image, 0), &site, &[]);
        let said = lab.wait(&job).code(3);
        let told = told(&said, &job);
        for part in [cause, advice, "server_logs/container.log"] {
            assert!(told.contains(part), "{part} in {told}");
        }
        assert!(!told.contains("created 0 sockets"), "{told}");
        left_no_container(&job);
    }
}

#[test]
fn an_image_that_cannot_be_imported_names_registry_and_credentials() {
    let Some(lab) = lab() else { return };
    let images = tempfile::Builder::new().prefix("tokmark-images-").tempdir().unwrap();
    let site = pyxis(&lab, &format!("images = {:?}", images.path()));
    let job = submit(&lab, &vllm(&lab, "nvcr.io#stub-unresolved:1", 0), &site, &[]);
    let told = told(&lab.wait(&job).code(3), &job);
    for part in ["Could not resolve host: nvcr.io", "~/.config/enroot/.credentials", "server_logs/image.log"]
    {
        assert!(told.contains(part), "{part} in {told}");
    }
}

#[test]
fn a_requeued_job_removes_the_container_of_its_earlier_attempt() {
    let Some(lab) = lab() else { return };
    let job = submit(&lab, &vllm(&lab, "registry.lab#engine:1", 3), &pyxis(&lab, ""), &[]);
    job.until("it measures", is_ready);
    slurm(&["scontrol", "requeue", &job.id]);
    eventually("it is in the queue again", || lab.state(&job).starts_with("PENDING").then_some(()));
    lab.wait(&job).code(0);
    left_no_container(&job);
}

/// A number that comes again, after the controller was installed anew: pyxis would take the old job's container for this one's.
#[test]
fn a_container_of_an_earlier_job_with_the_same_id_is_not_used() {
    let Some(lab) = lab() else { return };
    let recipe = vllm(&lab, "registry.lab#engine:1", 0);
    let mut command = lab.command();
    let site = pyxis(&lab, "");
    command.args(["submit", "--json", &recipe, "--site", &site, "--gpu", "h100", "--slurm-arg", "hold"]);
    command.args(["--slurm-arg", &format!("nodelist={}", nodes()[0])]);
    let held = said(&mut command).code(0).json();
    let job = Job {
        id: held["job"].as_str().unwrap().to_owned(),
        dir: held["experiment"].as_str().unwrap().into(),
    };
    let conf = PathBuf::from(std::env::var_os("SLURM_CONF").unwrap());
    let root = conf.parent().unwrap().parent().unwrap().join("lib/containers").join(&nodes()[0]);
    let old = root.join(format!("pyxis_tokmark-{}-0", job.id));
    std::fs::create_dir_all(old.join("root/of-another-image")).unwrap();
    slurm(&["scontrol", "release", &job.id]);
    lab.wait(&job).code(0);
    let log = job.read("server_logs/container.log");
    assert!(log.contains("imported docker image") && !log.contains("reusing existing"), "{log}");
    left_no_container(&job);
}

#[test]
fn an_entrypoint_is_not_executed() {
    let Some(lab) = lab() else { return };
    let recipe = vllm(&lab, "registry.lab#stub-entrypoint:1", 0);
    let site_executes = [("PYXIS_STUB_EXECUTE_ENTRYPOINT", "1")];
    for keys in ["", "reuse = false"] {
        let job = submit(&lab, &recipe, &pyxis(&lab, keys), &site_executes);
        lab.wait(&job).code(0);
    }
    let job = submit(&lab, &recipe, &pyxis(&lab, "options = [\"--container-entrypoint\"]"), &site_executes);
    let told = told(&lab.wait(&job).code(3), &job);
    assert!(told.contains("unusual entrypoint"), "{told}");
    left_no_container(&job);
}

#[test]
fn a_pyxis_that_is_too_old_is_named_by_doctor_and_by_the_job() {
    let Some(lab) = lab() else { return };
    let site = pyxis(&lab, "");
    for version in ["14", "13"] {
        let old = [("PYXIS_STUB_VERSION", version)];
        let mut doctor = lab.command();
        doctor.args(["doctor", "--no-job", "--json", "--site", &site]).envs(old);
        let findings = said(&mut doctor).code(2).json();
        let is = |finding: &&Value| finding["check"] == "container" && finding["status"] == "fail";
        let found = findings.as_array().unwrap().iter().find(is).unwrap();
        assert!(found["next"].as_str().unwrap().contains("pyxis 0.15 or later"), "{found}");
        let job = submit(&lab, &vllm(&lab, "registry.lab#engine:1", 0), &site, &old);
        let told = told(&lab.wait(&job).code(3), &job);
        assert!(
            told.contains("unrecognized option '--container-env") && told.contains("pyxis 0.15"),
            "{told}"
        );
        assert!(!told.contains("importing docker image"), "before the image is unpacked: {told}");
    }
}

#[test]
fn variables_of_pyxis_do_not_reach_the_job() {
    let Some(lab) = lab() else { return };
    let recipe = vllm(&lab, "registry.lab#engine:1", 0);
    let user = [("PYXIS_CONTAINER_IMAGE", "/nowhere/x.sqsh"), ("ENROOT_ROOTFS_WRITABLE", "n")];
    let job = submit(&lab, &recipe, &pyxis(&lab, ""), &user);
    lab.wait(&job).code(0);
    let mut doctor = lab.command();
    doctor.args(["doctor", "--site", &pyxis(&lab, ""), "--gpu", "h100", "--wait", "100"]).envs(user);
    said(&mut doctor).code(0);
    // And none of a job's own shell reaches its steps.
    let text = std::fs::read_to_string(pyxis(&lab, "")).unwrap();
    let text = text.replace("setup = [", "setup = [\"export PYXIS_CONTAINER_IMAGE=/nowhere/x.sqsh\", ");
    let job = submit(&lab, &recipe, &lab.write("shell.toml", &text), &[]);
    lab.wait(&job).code(0);
}

#[test]
fn doctor_looks_for_enroot_and_room_and_starts_one_container() {
    let Some(lab) = lab() else { return };
    let path = format!("{ENGINES}:{}", std::env::var("PATH").unwrap());
    let doctor = |image: &str, keys: &str, code: i32, path: &str| {
        let mut command = lab.command();
        let (site, recipe) = (pyxis(&lab, keys), vllm(&lab, image, 0));
        command
            .args(["doctor", "--json", "--site", &site, "--gpu", "h100", "--wait", "100"])
            .env("PATH", path);
        let findings = said(command.args(["--recipe", &recipe, "--start"])).code(code).json();
        move |check: &str, status: &str| {
            let is = |finding: &&Value| finding["check"] == check && finding["status"] == status;
            let found = findings.as_array().unwrap().iter().find(is);
            found.unwrap_or_else(|| panic!("{status} {check} in {findings:#}")).to_string()
        }
    };
    let found = doctor("registry.lab#engine:1", "", 0, &path);
    let started = found("start", "ok");
    assert!(started.contains(" started on ") && started.contains("~/.cache in it is writable"), "{started}");
    let found = doctor("registry.lab#engine:1", "writable = false", 2, &path);
    assert!(found("start", "fail").contains("Read-only file system"));
    let found = doctor("nvcr.io#stub-unresolved:1", "", 2, &std::env::var("PATH").unwrap());
    assert!(found("start", "fail").contains("~/.config/enroot/.credentials"));
    assert!(found("paths", "warn").contains("enroot on "), "it is not on this PATH");
}
