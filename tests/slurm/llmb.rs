//! What users of llmb type, on a real Slurm: knobs in front of a hand sbatch, workloads, files of jobs, repeats, sbatch's own
//! variables, a run inside an allocation, and values that no shell may touch.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tokmark::internals::experiment::Event;

use crate::lab::{Job, Lab, TINY, said, slurm};
use crate::support::eventually;

/// [`TINY`] as a workload with knobs.
fn knobbed() -> String {
    let head = "aliases = [\"inference_tiny\"]\nsummary = \"two short points\"\n";
    let text = TINY.replace("summary = \"two short points\"\n", head);
    text.replace("name = \"m/tiny\"\n", "name = \"m/tiny\"\nsize = \"1b\"\nprecision = \"bf16\"\n")
        + "[knobs]\nSTREAMING = \"load.streaming\"\nISL = \"load.isl\"\nCONCURRENCY = \"load.concurrency\"\n\
           TP_SIZE = \"deploy.tp\"\nCRASH_AFTER = \"deploy.engine.crash_after\"\n\
           [scale.2.deploy]\ntp = 2\n"
}

/// A rendered script handed to sbatch with these variables in front; the job's id.
#[track_caller]
fn by_hand(lab: &Lab, script: &str, env: &[(&str, &str)], args: &[&str]) -> String {
    let mut sbatch = Command::new("sbatch");
    sbatch.arg("--parsable").args(args).arg(lab.path(script)).envs(env.iter().copied());
    said(&mut sbatch).code(0).out.trim().to_owned()
}

fn job(lab: &Lab, stem: &str, id: &str) -> Job {
    Job { id: id.to_owned(), dir: lab.path("experiments").join(format!("{stem}_{id}")) }
}

/// Waits until Slurm has forgotten that the job runs; its state and exit code.
fn ended(id: &str) -> String {
    eventually("the job ends", || {
        let line = slurm(&["scontrol", "--oneliner", "show", "job", id]);
        let of = |key: &str| {
            line.split_whitespace().find_map(|word| word.strip_prefix(key)).unwrap_or("").to_owned()
        };
        let state = of("JobState=");
        let open = ["PENDING", "CONFIGURING", "RUNNING", "COMPLETING"].contains(&state.as_str());
        (!open).then(|| format!("{state} {}", of("ExitCode=")))
    })
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_knob_before_a_manual_sbatch_is_applied_and_recorded() {
    let Some(lab) = Lab::new() else { return };
    let recipe = lab.write("tiny.toml", &knobbed());
    lab.tokmark(&["render", &recipe, "-o", "job.sh"]).code(0);
    let knobs = [("ISL", "8"), ("STREAMING", "false"), ("CONCURRENCY", "1")];
    let id = by_hand(&lab, "job.sh", &knobs, &[]);
    let by_hand_job = job(&lab, "tiny_8_4_auto_1", &id);
    assert_eq!(ended(&id), "COMPLETED 0:0", "{}", lab.read(&format!("experiments/slurm-{id}.out")));
    let summary = json(&by_hand_job.read("benchmark_logs/summary.json"));
    assert_eq!((&summary["point"]["isl"], &summary["point"]["streaming"]), (&8.into(), &false.into()));
    assert_eq!(summary["ttft_ms"], Value::Null);
    let manifest = json(&by_hand_job.read("manifest.json"));
    assert_eq!(
        manifest["knobs"]["STREAMING"],
        serde_json::json!({"value": "false", "from": "$STREAMING (job)"})
    );
    let output = lab.read(&format!("experiments/slurm-{id}.out"));
    assert!(output.contains("planned again with CONCURRENCY=1, ISL=8, STREAMING=false"), "{output}");

    // The same in front of a submission gives the same plan but for the note.
    let mut submit = lab.command();
    submit.args(["submit", "--json", &recipe, "--slurm-arg", "hold"]).envs(knobs);
    let submitted = PathBuf::from(said(&mut submit).code(0).json()["experiment"].as_str().unwrap());
    assert!(submitted.ends_with(format!(
        "tiny_8_4_auto_1_{}",
        submitted.display().to_string().rsplit('_').next().unwrap()
    )));
    let mut hand: Value = json(&by_hand_job.read("plan.json").replace(" (job)", ""));
    for knob in ["ISL", "STREAMING", "CONCURRENCY"] {
        assert_eq!(hand["input"]["choices"]["variables"][knob]["in_job"], true, "{knob}");
        hand["input"]["choices"]["variables"][knob].as_object_mut().unwrap().remove("in_job");
    }
    assert_eq!(hand, json(&std::fs::read_to_string(submitted.join("plan.json")).unwrap()));

    // A requeued job sees the same environment.
    slurm(&["scontrol", "requeue", &id]);
    by_hand_job.until("it starts again", |event| matches!(event, Event::Started { restarts: 1, .. }));
    assert_eq!(ended(&id), "COMPLETED 0:0");
    let kept = by_hand_job.events().iter().filter(|event| matches!(event, Event::PointKept { .. })).count();
    assert_eq!(kept, 1, "the point is kept: it is the same directory");
}

#[test]
fn a_knob_set_to_nonsense_ends_the_job_before_anything_is_made() {
    let Some(lab) = Lab::new() else { return };
    let recipe = lab.write("tiny.toml", &knobbed());
    lab.tokmark(&["render", &recipe, "-o", "job.sh"]).code(0);
    let id = by_hand(&lab, "job.sh", &[("STREAMING", "perhaps")], &[]);
    assert_eq!(ended(&id), "FAILED 2:0");
    let output = lab.read(&format!("experiments/slurm-{id}.out"));
    assert!(output.contains("$STREAMING (job): `load.streaming`: found string \"perhaps\""), "{output}");
    let left: Vec<_> =
        std::fs::read_dir(lab.path("experiments")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, [format!("slurm-{id}.out").as_str()]);
}

#[test]
fn a_knob_beyond_the_allocation_is_refused_with_the_arithmetic() {
    let Some(lab) = Lab::new() else { return };
    lab.write("launchers/gpus.toml", GPUS);
    let text = knobbed().replace("launcher = \"sim\"", "launcher = \"gpus\"");
    let recipe = lab.write("tiny.toml", &text.replace("[deploy.engine]\nprofile = \"quick\"\n", ""));
    let site = lab.write(
        "s.toml",
        "schema = 1\ngpu = \"h100\"\n[slurm]\npartition = \"gpu\"\n[gpus.h100]\nper_node = 4\n",
    );
    lab.tokmark(&["render", &recipe, "--site", &site, "-o", "job.sh"]).code(0);
    let id = by_hand(&lab, "job.sh", &[("TP_SIZE", "3")], &[]);
    assert_eq!(ended(&id), "FAILED 2:0");
    let output = lab.read(&format!("experiments/slurm-{id}.out"));
    for part in ["with 1 GPUs each", "3 × 1 × 1 × 1 = 3 GPUs", "tp is from $TP_SIZE (job)"] {
        assert!(output.contains(part), "{part} in {output}");
    }
    // With room for it on sbatch's command line it runs.
    let id = by_hand(&lab, "job.sh", &[("TP_SIZE", "3"), ("CONCURRENCY", "1")], &["--gres=gpu:3"]);
    assert_eq!(ended(&id), "COMPLETED 0:0", "{}", lab.read(&format!("experiments/slurm-{id}.out")));
    let plan = json(&job(&lab, "tiny_16_4_auto_1", &id).read("plan.json"));
    assert_eq!(plan["deployments"][0]["gpus"], 3);
}

/// The simulated engine as one that takes GPUs.
const GPUS: &str = r#"
schema = 1
name = "gpus"
summary = "the simulated engine with GPUs"
simulated = true
[options]
known = ["crash_after"]
[endpoint]
role = "server"
port = "http"
health = "/health"
[[role]]
name = "server"
placement = "head"
gpus = true
argv = ["{{ tokmark }}", "sim", "--host", "{{ host }}", "--port", "{{ port.http }}", "--model", "{{ model.served_name }}"]
ports = { http = 8800 }
"#;

#[test]
fn a_workload_by_size_precision_and_scale_repeated() {
    let Some(lab) = Lab::new() else { return };
    lab.write("recipes/tiny.toml", &knobbed());
    let args = [
        "submit",
        "-w",
        "inference_tiny_1b",
        "--dtype",
        "bf16",
        "--scale",
        "2",
        "-r",
        "2",
        "--wait",
        "--json",
    ];
    let said = lab.tokmark(&args).code(0);
    let jobs = said.json();
    let states: Vec<_> = jobs.as_array().unwrap().iter().map(|job| job["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["COMPLETED", "COMPLETED"]);
    let ids: Vec<_> = jobs.as_array().unwrap().iter().map(|job| job["job"].as_str().unwrap()).collect();
    assert_ne!(ids[0], ids[1], "independent jobs");
    let plan = json(&job(&lab, "tiny_16_4_auto_1-2", ids[1]).read("plan.json"));
    assert_eq!(
        (&plan["deployments"][0]["gpus"], &plan["input"]["choices"]["scale"]["gpus"]),
        (&2.into(), &2.into())
    );
    let said =
        lab.tokmark(&["submit", "-w", "inference_tiny_1b", "--dtype", "bf16,fp8", "--scale", "2"]).code(2);
    assert!(said.err.contains("does not come in \"fp8\"") && said.out.is_empty(), "{}", said.err);
    let listed = lab.tokmark(&["jobs", "list", "--json"]).code(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 2, "the one that was right was not submitted either");
}

#[test]
fn a_file_of_jobs_ends_as_the_worst_of_them() {
    let Some(lab) = Lab::new() else { return };
    lab.write("recipes/tiny.toml", &knobbed());
    lab.write(
        "jobs.toml",
        "[[job]]\nworkload = \"inference_tiny\"\nset = { \"load.isl\" = [8, 9] }\n\
         [[job]]\nworkload = \"tiny\"\nenv = { CRASH_AFTER = 2, CONCURRENCY = 1 }\n",
    );
    let said = lab.tokmark(&["submit", "-f", "jobs.toml", "--wait"]).code(4);
    let lines: Vec<&str> = said.out.lines().filter(|line| line.starts_with("submitted job ")).collect();
    assert_eq!(lines.len(), 3, "{}", said.out);
    assert!(
        lines[0].ends_with("tiny 1b bf16, 1 GPU, load.isl=8") && lines[1].ends_with("load.isl=9"),
        "{lines:?}"
    );
    assert!(
        said.err.contains("1 of 3 jobs did not end well") && said.err.contains("server-0"),
        "{}",
        said.err
    );
    let states: Vec<String> = lab
        .tokmark(&["jobs", "list", "--json"])
        .code(0)
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["state"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(states.iter().filter(|state| *state == "COMPLETED").count(), 2, "{states:?}");
}

#[test]
fn sbatchs_own_variables_shape_the_job_once() {
    let Some(lab) = Lab::new() else { return };
    lab.write("launchers/gpus.toml", GPUS);
    let text = knobbed().replace("launcher = \"sim\"", "launcher = \"gpus\"");
    let recipe = lab.write("tiny.toml", &text.replace("[deploy.engine]\nprofile = \"quick\"\n", ""));
    // A typed request of ours beside sbatch's untyped one is what Slurm refuses.
    let site = lab.write(
        "s.toml",
        "schema = 1\ngpu = \"h100\"\n[slurm]\npartition = \"debug\"\ngres = \"typed-gres\"\n[gpus.h100]\nper_node = 4\n",
    );
    let mut submit = lab.command();
    submit.args(["submit", "--json", &recipe, "--site", &site, "--slurm-arg", "hold"]);
    submit.envs([("SBATCH_GPUS_PER_NODE", "2"), ("SBATCH_TIMELIMIT", "3"), ("SBATCH_PARTITION", "gpu")]);
    submit.envs([
        ("SBATCH_ARRAY_INX", "1-3"),
        ("SBATCH_WAIT", "1"),
        ("SBATCH_OUTPUT", "elsewhere"),
        ("SBATCH_ACCOUNT", "lab"),
    ]);
    let told = said(&mut submit).code(0).json();
    let id = told["job"].as_str().unwrap();
    let facts = slurm(&["scontrol", "--oneliner", "show", "job", id]);
    for fact in ["TimeLimit=00:03:00", "Partition=gpu", "Account=lab"] {
        assert!(facts.contains(fact), "{fact} in {facts}");
    }
    // 22.05 writes gres:gpu:2, Slurm from 23.11 on gres/gpu:2.
    assert!(facts.replace("gres/gpu", "gres:gpu").contains("TresPerNode=gres:gpu:2"), "{facts}");
    assert!(!facts.contains("ArrayJobId") && !facts.contains("elsewhere"), "{facts}");
    let plan = json(
        &std::fs::read_to_string(format!("{}/plan.json", told["experiment"].as_str().unwrap())).unwrap(),
    );
    assert_eq!(
        (&plan["job"]["time_s"], &plan["origins"]["slurm.time"]),
        (&180.into(), &"$SBATCH_TIMELIMIT".into())
    );
    slurm(&["scontrol", "release", id]);
    assert_eq!(ended(id), "COMPLETED 0:0");
}

#[test]
fn a_run_inside_an_allocation_uses_it() {
    let Some(lab) = Lab::new() else { return };
    let recipe = lab.write("tiny.toml", &knobbed());
    let tokmark = env!("CARGO_BIN_EXE_tokmark");
    let wrap = format!(
        "'{tokmark}' run '{recipe}' --json >'{0}/out' && '{tokmark}' run '{recipe}' --local --json >'{0}/local'",
        lab.path("").display()
    );
    let out = format!("--output={}", lab.path("slurm.out").display().to_string().replace('%', "%%"));
    let mut sbatch = Command::new("sbatch");
    sbatch
        .args(["--parsable", "-N1", &out, "--wrap", &wrap])
        .current_dir(lab.path(""))
        .env_remove("TOKMARK_SITE");
    let id = said(&mut sbatch).code(0).out.trim().to_owned();
    assert_eq!(ended(&id), "COMPLETED 0:0", "{}", lab.read("slurm.out"));
    assert!(
        lab.read("slurm.out").contains(&format!("inside job {id}: the servers run on ")),
        "{}",
        lab.read("slurm.out")
    );
    let all: Vec<_> = lab.tokmark(&["jobs", "list", "--json"]).code(0).json().as_array().unwrap().clone();
    let mut shown: Vec<_> = all
        .iter()
        .map(|run| (run["job"].as_str().map(str::to_owned), run["state"].as_str().unwrap()))
        .collect();
    shown.sort();
    assert_eq!(shown, [(None, "COMPLETED"), (Some(id.clone()), "COMPLETED")]);
    let inside = all.iter().find(|run| run["job"].is_string()).unwrap();
    let dir = PathBuf::from(inside["experiment"].as_str().unwrap());
    let commands = std::fs::read_to_string(dir.join("commands.sh")).unwrap();
    assert!(commands.contains("srun --overlap"), "{commands}");
    assert_eq!(json(&std::fs::read_to_string(dir.join("manifest.json")).unwrap())["created_by"], "run");
    let points = json(&lab.read("out"));
    assert_eq!((points.as_array().unwrap().len(), &points[0]["simulated"]), (2, &true.into()));
}

#[test]
fn an_allocation_that_is_too_small_is_named() {
    let Some(lab) = Lab::new() else { return };
    lab.write("launchers/gpus.toml", GPUS);
    let text = knobbed().replace("launcher = \"sim\"", "launcher = \"gpus\"");
    let recipe = lab.write("tiny.toml", &text.replace("[deploy.engine]\nprofile = \"quick\"\n", ""));
    let site = lab.write(
        "s.toml",
        "schema = 1\ngpu = \"h100\"\n[slurm]\npartition = \"gpu\"\n[gpus.h100]\nper_node = 4\n",
    );
    let inside = |args: &[&str]| {
        let mut salloc = Command::new("salloc");
        salloc
            .args(["-Q", "-N1", "--gres=gpu:1", env!("CARGO_BIN_EXE_tokmark")])
            .args(args)
            .args(["--site", &site]);
        salloc.current_dir(lab.path("")).env("HOME", lab.path(""));
        said(&mut salloc)
    };
    let end = inside(&["run", &recipe, "--scale", "2"]).code(2);
    for part in ["has 1 node (", "with 1 GPUs each", "2 × 1 × 1 × 1 = 2 GPUs", "--local"] {
        assert!(end.err.contains(part), "{part} in {}", end.err);
    }
    let end = inside(&["run", &recipe, "--set", "load.concurrency=1"]).code(0);
    assert!(end.err.contains("the load is sent from here") && end.out.contains("SIMULATED"), "{}", end.err);
    // Two at once, on two nodes each, from a shell that is on neither.
    let two = format!(
        "for n in 1 2; do '{0}' run '{recipe}' --site '{site}' --set load.concurrency=1 --set load.isl=2$n --json >$n.json 2>$n.err & done; wait",
        env!("CARGO_BIN_EXE_tokmark")
    );
    let mut salloc = Command::new("salloc");
    salloc
        .args(["-Q", "-N2", "--gres=gpu:1", "bash", "-c", &two])
        .current_dir(lab.path(""))
        .env("HOME", lab.path(""));
    said(&mut salloc).code(0);
    for n in ["1", "2"] {
        let summaries = lab.read(&format!("{n}.json"));
        assert_eq!(json(&summaries)[0]["requests"]["completed"], 3, "{}", lab.read(&format!("{n}.err")));
    }
    let end = inside(&["submit", &recipe, "--slurm-arg", "hold"]).code(0);
    assert!(end.err.contains("`tokmark run` would use") && end.out.contains("submitted job"), "{}", end.err);
}

/// Values that a shell, sbatch, srun, `env` or a here-document would trip over.
const NASTY: [&str; 16] = [
    "",
    " ",
    "a b  c",
    "it's",
    "\"double\"",
    "'\"'\"'",
    "$HOME ${HOME} $(id) `id`",
    "back\\slash\\\\ \\n",
    "line\nbreak\n\nand\ttab",
    "\nTOKMARK_PLAN\n",
    "TOKMARK_PLAN",
    "#SBATCH --hold",
    "--nodes=9 ; rm -rf / & | > < * ? [a] {b,c} ~ !",
    "%j %t %% é 漢字 🦀",
    "{{ tokmark }} {% if 1 %} {# x #}",
    "a=b,c=d,ALL",
];

#[test]
fn any_value_survives_recipe_script_bash_srun_and_argv() {
    let Some(lab) = Lab::new() else { return };
    let names: Vec<String> = (0..NASTY.len()).map(|n| format!("t{n}")).collect();
    let quoted =
        |texts: &[String]| texts.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(", ");
    let args: Vec<String> = names.iter().map(|name| format!("{{{{ engine.{name} }}}}")).collect();
    let launcher = GPUS.replace("gpus = true", "bare = true").replace("name = \"gpus\"", "name = \"told\"")
        .replace("known = [\"crash_after\"]", &format!("known = [{}]", quoted(&names)))
        .replace(
            "argv = [",
            &format!(
                "argv = [\"sh\", \"-c\", 'd=$1; shift; printf \"%s\\0\" \"$@\" >\"$d/argv\"; env -0 >\"$d/env\"; shift {}; exec \"$@\"', \"sh\", \"{{{{ dirs.logs }}}}\", {}, ",
                NASTY.len(),
                quoted(&args)
            ),
        );
    lab.write("launchers/told.toml", &launcher);
    let toml = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let options: String =
        names.iter().zip(NASTY).map(|(name, text)| format!("{name} = {}\n", toml(text))).collect();
    let vars: String = NASTY.iter().enumerate().map(|(n, text)| format!("R{n} = {}\n", toml(text))).collect();
    let text = knobbed()
        .replace("launcher = \"sim\"", "launcher = \"told\"")
        .replace(
            "[deploy.engine]\nprofile = \"quick\"\n",
            &format!("[deploy.engine]\n{options}[deploy.env]\n{vars}"),
        )
        .replace("CRASH_AFTER = \"deploy.engine.crash_after\"", "NASTY = \"deploy.engine.t0\"");
    let recipe = lab.write("tiny.toml", &text);
    let mut submit = lab.command();
    submit.args(["submit", "--json", &recipe, "--set", "load.concurrency=1"]);
    for (n, text) in NASTY.iter().enumerate() {
        submit.args(["--env".to_owned(), format!("C{n}={text}")]);
    }
    let knob = NASTY.join("|");
    submit.env("NASTY", &knob);
    let told = said(&mut submit).code(0).json();
    let job = Job {
        id: told["job"].as_str().unwrap().to_owned(),
        dir: told["experiment"].as_str().unwrap().into(),
    };
    lab.wait(&job).code(0);
    let argv = job.read("server_logs/argv");
    let argv: Vec<&str> = argv.split('\0').take(NASTY.len()).collect();
    let mut expected = NASTY;
    expected[0] = &knob;
    assert_eq!(argv, expected);
    let env = job.read("server_logs/env");
    let env: Vec<&str> = env.split('\0').collect();
    for (n, text) in NASTY.iter().enumerate() {
        for name in ["R", "C"] {
            let wanted = format!("{name}{n}={text}");
            assert!(env.contains(&wanted.as_str()), "{wanted:?}");
        }
    }
}
