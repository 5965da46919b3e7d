//! From a recipe to the finished directory, by `submit` and by hand.

use std::process::Command;

use serde_json::Value;

use crate::lab::{Job, Lab, TINY, said, slurm};
use crate::support::eventually;

/// What a sweep of two points leaves, beside the names of the job.
const LAYOUT: &[&str] = &[
    "benchmark_logs",
    "benchmark_logs/isl16_osl4_con1/deployment_config.json",
    "benchmark_logs/isl16_osl4_con1/inputs.json",
    "benchmark_logs/isl16_osl4_con1/profile_export.jsonl",
    "benchmark_logs/isl16_osl4_con1/profile_export_aiperf.csv",
    "benchmark_logs/isl16_osl4_con1/profile_export_aiperf.json",
    "benchmark_logs/isl16_osl4_con1/records.jsonl",
    "benchmark_logs/isl16_osl4_con1/summary.json",
    "benchmark_logs/isl16_osl4_con2/summary.json",
    "commands.sh",
    "events.jsonl",
    "job.sbatch",
    "manifest.json",
    "plan.json",
    "plots",
    "recipe.toml",
    "report.html",
    "server_logs/bench.log",
    "server_logs/output_server.log",
    "server_logs/output_workers.log",
    "server_logs/server-0.log",
    "server_logs/workers_start.log",
    "slurm.out",
    "summary.csv",
    "summary.md",
    "telemetry",
];

#[track_caller]
fn assert_whole(job: &Job) {
    let layout = job.layout();
    for wanted in LAYOUT {
        assert!(layout.iter().any(|name| name == wanted), "{wanted} in {layout:#?}");
    }
    let hidden = layout.iter().filter(|name| name.rsplit('/').next().unwrap().starts_with('.'));
    assert_eq!(hidden.count(), 0, "no temporary file is left: {layout:#?}");
    let summary: Value =
        serde_json::from_str(&job.read("benchmark_logs/isl16_osl4_con2/summary.json")).unwrap();
    assert_eq!((&summary["requests"]["completed"], &summary["simulated"]), (&6.into(), &true.into()));
}

#[test]
fn submit_waits_and_leaves_a_whole_experiment_named_by_the_job() {
    let Some(lab) = Lab::new() else { return };
    let recipe = lab.write("tiny.toml", TINY);
    let said = lab.tokmark(&["submit", &recipe, "--wait"]).code(0);
    let id = said.out.lines().next().unwrap().strip_prefix("submitted job ").unwrap().to_owned();
    let dir = lab.path("experiments").join(format!("tiny_16_4_auto_1-2_{id}"));
    assert!(said.out.contains(&format!("results: {}", dir.display())), "{}", said.out);
    assert!(said.out.to_lowercase().contains("simulated"), "{}", said.out);
    let job = Job { id: id.clone(), dir };
    assert_whole(&job);
    assert_eq!(job.exit_code(), Some(0));

    assert_eq!(job.read("recipe.toml"), TINY);
    let manifest: Value = serde_json::from_str(&job.read("manifest.json")).unwrap();
    assert_eq!((manifest["job"].as_str(), manifest["recipe"].as_str()), (Some(id.as_str()), Some("tiny")));
    let own = lab.read(&format!("experiments/slurm-{id}.out"));
    assert_eq!(job.read("slurm.out"), own, "the link leads to the job's own output");
    assert!(own.contains("results: ") && !own.contains("rror"), "{own}");
    let mut top: Vec<_> = std::fs::read_dir(lab.path("experiments"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    top.sort();
    assert_eq!(top, [format!("slurm-{id}.out"), format!("tiny_16_4_auto_1-2_{id}")]);
    job.left_nothing();

    let commands = job.read("commands.sh");
    assert!(commands.contains("srun --overlap") && commands.contains("--job-name=server-0"), "{commands}");
    let script = job.read("job.sbatch");
    let checked = Command::new("shellcheck").arg(job.dir.join("job.sbatch")).output();
    assert!(checked.is_err() || checked.unwrap().status.success(), "shellcheck is content with {script}");
}

#[test]
fn a_rendered_script_gives_the_same_experiment_from_anywhere() {
    let Some(lab) = Lab::new() else { return };
    let recipe = lab.write("tiny.toml", TINY);
    lab.tokmark(&["render", &recipe, "-o", "job.sh"]).code(0);
    let submitted = lab.submit(&recipe, &[]);
    // The recipe and the folder it came from may be gone: the script holds all.
    std::fs::remove_file(&recipe).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let script = lab.path("job.sh").display().to_string();
    let mut sbatch = Command::new("sbatch");
    sbatch.args(["--parsable", "--export=NONE", &script]).current_dir(elsewhere.path());
    let id = said(&mut sbatch).code(0).out.trim().to_owned();
    let dir = lab.path("experiments").join(format!("tiny_16_4_auto_1-2_{id}"));
    eventually("the job makes its own directory", || dir.join("manifest.json").exists().then_some(()));
    let by_hand = Job { id, dir };
    lab.wait(&by_hand).code(0);
    lab.wait(&submitted).code(0);
    for job in [&by_hand, &submitted] {
        assert_whole(job);
        job.left_nothing();
    }
    assert_eq!(by_hand.layout(), submitted.layout());
    for same in ["plan.json", "recipe.toml", "job.sbatch"] {
        assert_eq!(by_hand.read(same), submitted.read(same), "{same}");
    }
    assert_eq!(
        std::fs::read_dir(elsewhere.path()).unwrap().count(),
        0,
        "nothing is written where sbatch was called"
    );
    let listed = lab.tokmark(&["jobs", "list", "--json"]).code(0).json();
    let states: Vec<_> =
        listed.as_array().unwrap().iter().map(|job| job["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["COMPLETED", "COMPLETED"]);
}

/// Slurm may start a job before submit has made its directory, and long after; and the directory may have been lost.
#[test]
fn job_and_submission_make_the_directory_in_either_order() {
    let Some(lab) = Lab::new() else { return };
    let recipe = lab.write("tiny.toml", TINY);
    let job = lab.submit(&recipe, &["--slurm-arg=--hold"]);
    assert_eq!(lab.state(&job), "PENDING");
    let made_by = |job: &Job| -> Value {
        serde_json::from_str::<Value>(&job.read("manifest.json")).unwrap()["created_by"].clone()
    };
    assert_eq!(made_by(&job), "submit");
    assert!(job.read("job.sbatch").contains("TOKMARK_PLAN"));
    let lost = lab.submit(&recipe, &["--slurm-arg=--hold"]);
    std::fs::remove_dir_all(&lost.dir).unwrap();
    for held in [&job, &lost] {
        slurm(&["scontrol", "release", &held.id]);
    }
    eventually("the job makes the lost directory", || lost.dir.join("manifest.json").exists().then_some(()));
    lab.wait(&lost).code(0);
    lab.wait(&job).code(0);
    assert_eq!((made_by(&job), made_by(&lost)), ("submit".into(), "exec".into()));
    assert_eq!(job.layout(), lost.layout());
    assert_eq!(job.read("job.sbatch"), lost.read("job.sbatch"), "Slurm's copy is the script");
}

#[test]
fn a_dry_run_submits_and_writes_nothing() {
    let Some(lab) = Lab::new() else { return };
    let recipe = lab.write("dry.toml", &TINY.replace("\"tiny\"", "\"dry-and-nothing-else\""));
    let said = lab.tokmark(&["submit", &recipe, "--dry-run", "--slurm-arg=--nice=5"]).code(0);
    assert!(said.out.starts_with("#!/bin/bash\n") && said.out.contains("TOKMARK_PLAN"), "{}", said.out);
    assert!(said.err.contains("would call: sbatch --parsable --nice=5"), "{}", said.err);
    let queue = slurm(&["squeue", "-h", "--states=all", "--name=tokmark-dry-and-nothing-else"]);
    assert_eq!(queue, "");
    let files: Vec<_> =
        std::fs::read_dir(lab.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["dry.toml"]);
}

#[test]
fn a_refused_job_prints_what_to_change_and_leaves_nothing() {
    let Some(lab) = Lab::new() else { return };
    let recipe = lab.write("tiny.toml", TINY);
    let site = lab.write("wrong.toml", "schema = 1\n[slurm]\npartition = \"nope\"\n");
    let said = lab.tokmark(&["submit", &recipe, "--site", &site]).code(3);
    for part in ["invalid partition specified: nope", "`[slurm] partition`", "sinfo"] {
        assert!(said.err.contains(part), "{part} in {}", said.err);
    }
    assert!(!lab.path("experiments").exists(), "nothing is left behind");
}

#[test]
fn a_job_inherits_nothing_from_the_job_it_was_submitted_from() {
    let Some(lab) = Lab::new() else { return };
    let recipe = lab.write("tiny.toml", TINY);
    let mut outer = lab.command();
    outer.args(["submit", &recipe, "--wait"]);
    // What a shell inside `salloc -N4 -n16 --gpus=8 …` has, which sbatch hands on to the job.
    for (name, value) in [
        ("SLURM_JOB_ID", "999999"),
        ("SLURM_JOBID", "999999"),
        ("SLURM_JOB_NODELIST", "elsewhere[1-4]"),
        ("SLURM_NNODES", "4"),
        ("SLURM_NTASKS", "16"),
        ("SLURM_NPROCS", "16"),
        ("SLURM_CPUS_PER_TASK", "7"),
        ("SLURM_GPUS", "8"),
        ("SLURM_GPUS_PER_TASK", "2"),
        ("SLURM_GPUS_PER_NODE", "1"),
        ("SLURM_GRES", "gpu:1"),
        ("SLURM_STEP_GRES", "gpu:1"),
        ("SRUN_ERROR", "elsewhere.err"),
        ("SLURM_MEM_PER_CPU", "123456"),
        ("SLURM_EXACT", "1"),
        ("SLURM_EXCLUSIVE", "1"),
        ("SLURM_OVERCOMMIT", "0"),
        ("SLURM_STEP_ID", "3"),
        ("SLURM_HINT", "nomultithread"),
        ("SLURM_THREADS_PER_CORE", "1"),
        ("SLURM_RELATIVE", "2"),
        ("SLURM_CONSTRAINT", "nope"),
        ("SLURM_JOB_CONSTRAINTS", "nope"),
    ] {
        outer.env(name, value);
    }
    said(&mut outer).code(0);
}

#[test]
fn a_suite_ends_in_one_table_and_is_found_by_its_name() {
    let Some(lab) = Lab::new() else { return };
    lab.write("night/tiny.toml", TINY);
    let file = lab.write(
        "night/night.toml",
        "summary = \"two lengths\"\n[[job]]\nrecipe = \"tiny.toml\"\nset = { \"load.isl\" = [8, 9] }\n",
    );
    let said = lab.tokmark(&["submit", "-f", &file, "--wait"]).code(0);
    assert_eq!(said.out.matches("RECIPE").count(), 1, "{}", said.out);
    assert!(said.out.contains("SIMULATED"), "{}", said.out);
    // The announcements before the table and the reasons below it name what differs too.
    let table = said.out.split_once("RECIPE").unwrap().1.split_once("latencies in ms").unwrap().0;
    for (differs, point) in [("load.isl=8", "isl8_osl4"), ("load.isl=9", "isl9_osl4")] {
        let rows: Vec<&str> = table.split_once(differs).unwrap().1.lines().skip(1).take(2).collect();
        let ended = |row: &&str| ["valid", "suspect"].iter().any(|verdict| row.ends_with(verdict));
        assert!(rows.iter().all(|row| row.trim_start().starts_with(point) && ended(row)), "{rows:?}");
    }
    let suite = said.out.lines().find_map(|line| line.strip_prefix("suite: ")).unwrap();
    let receipt: Value = serde_json::from_str(&lab.read(&format!("{suite}/suite.json"))).unwrap();
    assert_eq!((&receipt["name"], receipt["jobs"].as_array().unwrap().len()), (&"night".into(), 2));
    for job in receipt["jobs"].as_array().unwrap() {
        let (dir, id) = (job["experiment"].as_str().unwrap(), job["job"].as_str().unwrap());
        assert!(dir.ends_with(&format!("_{id}")), "{dir}");
        assert!(lab.path("experiments").join(dir).join("summary.csv").is_file(), "{dir}");
    }
    assert_eq!(lab.read(&format!("{suite}/summary.csv")).lines().count(), 1 + 2 * 2);
    let waited = lab.tokmark(&["jobs", "wait", "night"]).code(0);
    assert!(said.out.ends_with(&waited.out), "{} after {}", waited.out, said.out);
}
