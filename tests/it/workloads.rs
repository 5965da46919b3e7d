//! `submit`, `list -w` and `show` as a user of llmb types them, without a cluster: what is planned, what is refused, and
//! that nothing is left behind. What sbatch is then called with is in `slurm_fake_cli`, what the jobs do in `slurm`.

use crate::support::house::House;
use serde_json::Value;

/// A recipe on two GPU types, in another precision on each, with one more scale.
const FLEX: &str = r#"
schema = 1
name = "flex-7b"
summary = "offered in several ways"
aliases = ["inference_flex"]
[model]
name = "m/flex"
size = "7b"
precision = "fp8"
[deploy]
launcher = "routed"
tp = 2
[load]
isl = 16
osl = 4
concurrency = 1
requests = 2
[knobs]
STREAMING = "load.streaming"
TP_SIZE = "deploy.tp"
BATCH = "deploy.engine.max_num_seqs"
[deploy.engine]
max_num_seqs = 8
[gpu.h100]
[gpu.b200.model]
precision = "nvfp4"
[scale.4.deploy]
tp = 4
[scale.4.slurm]
time = "2h"
"#;

/// Its larger relative, under the same alias.
const BIG: &str = r#"
schema = 1
name = "flex-70b"
summary = "the same workload in another size"
aliases = ["inference_flex"]
[model]
name = "m/flex-70b"
size = "70b"
precision = "fp8"
[deploy]
launcher = "routed"
tp = 8
[load]
isl = 16
osl = 4
concurrency = 1
requests = 2
[gpu.h100]
"#;

/// An engine with GPUs and replicas that never runs here.
const ROUTED: &str = r#"
schema = 1
name = "routed"
summary = "replicas behind one endpoint"
max_replicas = 3
spans_nodes = true
[options]
known = ["max_num_seqs"]
[endpoint]
role = "front"
port = "http"
[[role]]
name = "front"
placement = "head"
argv = ["front"]
ports = { http = 8000 }
[[role]]
name = "worker"
placement = "each_replica"
gpus = true
argv = ["worker"]
ready = { started = {} }
"#;

fn house() -> House {
    let house = House::new();
    house.file("recipes/flex-7b.toml", FLEX);
    house.file("recipes/flex-70b.toml", BIG);
    house.file("launchers/routed.toml", ROUTED);
    house.file(
        "site.toml",
        "schema = 1\ngpu = \"h100\"\n[gpus.h100]\nper_node = 8\n[gpus.b200]\nper_node = 8\n",
    );
    house
}

/// What a dry run would submit.
#[track_caller]
fn planned(house: &House, args: &[&str]) -> Vec<Value> {
    let end = house.run([&["submit", "--dry-run", "--json", "--no-weights-check"], args].concat()).succeeds();
    match end.json() {
        Value::Array(jobs) => jobs,
        job => vec![job],
    }
}

fn facts(job: &Value) -> (String, String, u64, String) {
    let text = |key: &str| job[key].as_str().unwrap_or("-").to_owned();
    (text("recipe"), text("dtype"), job["scale"].as_u64().unwrap(), text("gpu"))
}

#[test]
fn workloads_sizes_precisions_and_scales_choose_the_plan() {
    let house = house();
    let small =
        |dtype: &str, scale, gpu: &str| ("flex-7b".to_owned(), dtype.to_owned(), scale, gpu.to_owned());
    let big = ("flex-70b".to_owned(), "fp8".to_owned(), 8, "h100".to_owned());
    let table = [
        (&["flex-7b"][..], vec![small("fp8", 2, "h100")]),
        (&["flex-7b", "--scale", "4"], vec![small("fp8", 4, "h100")]),
        (&["-w", "flex-7b", "-s", "7B", "-d", "FP8", "--scale", "2"], vec![small("fp8", 2, "h100")]),
        (&["-w", "inference_flex_7b"], vec![small("fp8", 2, "h100")]),
        (&["-w", "inference_flex", "--model-size", "70b"], vec![big.clone()]),
        (&["-w", "inference_flex_7b,inference_flex_70b"], vec![small("fp8", 2, "h100"), big]),
        (&["-w", "flex-7b", "--gpu", "b200", "--dtype", "nvfp4"], vec![small("nvfp4", 2, "b200")]),
        (&["-w", "flex-7b", "--scale", "4,2"], vec![small("fp8", 4, "h100"), small("fp8", 2, "h100")]),
        // 8 = 4 × 2 replicas; 16 would need four of them, and the launcher routes to three.
        (
            &["-w", "flex-7b", "--max-scale", "32"],
            vec![small("fp8", 8, "h100"), small("fp8", 4, "h100"), small("fp8", 2, "h100")],
        ),
        (
            &["-w", "flex-7b", "--max-scale", "32", "--exact-scales"],
            vec![small("fp8", 4, "h100"), small("fp8", 2, "h100")],
        ),
        (&["-w", "flex-7b", "--max-scale", "7", "--min-scale", "3"], vec![small("fp8", 4, "h100")]),
        (&["-w", "flex-7b", "--min-scale", "3"], vec![small("fp8", 4, "h100")]),
        (&["-w", "flex-7b", "-r", "2"], vec![small("fp8", 2, "h100"), small("fp8", 2, "h100")]),
    ];
    for (args, expected) in table {
        assert_eq!(planned(&house, args).iter().map(facts).collect::<Vec<_>>(), expected, "{args:?}");
    }
    house.is_untouched();
}

#[test]
fn a_scale_lays_its_section_over_and_a_multiple_its_replicas() {
    let house = house();
    let scripts: Vec<String> = planned(&house, &["-w", "flex-7b", "--max-scale", "8"])
        .iter()
        .map(|job| job["script"].as_str().unwrap().to_owned())
        .collect();
    let has = |script: &str, line: &str| script.lines().any(|known| known == line);
    assert!(
        has(&scripts[0], "#SBATCH --time=02:00:00")
            && scripts[0].contains("\"deploy.replicas\": \"--max-scale\"")
    );
    assert!(has(&scripts[1], "#SBATCH --gres=gpu:4") && has(&scripts[1], "#SBATCH --time=02:00:00"));
    assert!(scripts[1].contains("\"deploy.tp\": \"recipes/flex-7b.toml:"), "{}", scripts[1]);
    assert!(has(&scripts[2], "#SBATCH --gres=gpu:2") && has(&scripts[2], "#SBATCH --time=01:00:00"));
    let rendered = house.run(["render", "flex-7b", "--scale", "4", "--no-weights-check"]).succeeds().stdout;
    assert_eq!(rendered, scripts[1], "render and submit make the same script");
    let shown = house.run(["show", "flex-7b", "--json"]).succeeds().json();
    assert_eq!(shown["scales"], serde_json::json!([2, 4]));
}

#[test]
fn what_a_recipe_does_not_have_is_refused_with_what_it_has() {
    let house = house();
    let table: [(&[&str], &[&str]); 14] = [
        (&[], &["submit: nothing to submit", "--workload NAME"]),
        (&["-w", "flex-9b"], &["no workload \"flex-9b\"", "did you mean `flex-7b`"]),
        (
            &["-w", "inference_flex"],
            &["several recipes", "flex-7b (7b fp8)", "flex-70b (70b fp8)", "by size"],
        ),
        (&["-w", "inference_flex", "-s", "13b"], &["size \"13b\"", "expected: 70b, 7b"]),
        (&["-w", "inference_flex_7b", "-s", "70b"], &["--size: found \"70b\""]),
        (&["-w", "flex-7b", "-d", "nvfp4"], &["\"nvfp4\" on h100", "expected: fp8"]),
        (&["-w", "flex-7b", "-d", "fp8,FP8"], &["\"fp8\" occurs twice", "-r"]),
        (
            &["-w", "flex-7b", "--scale", "16"],
            &[
                "no scale 16 on h100",
                "expected: 2, 4 (its own: tp × pp × dp × replicas = 2 × 1 × 1 × 1 = 2 GPUs)",
            ],
        ),
        (&["-w", "flex-7b", "--min-scale", "5"], &["no scale of 5 or more", "2, 4"]),
        (&["-w", "flex-7b", "--min-scale", "5", "--max-scale", "3"], &["--min-scale: found 5", "at most 3"]),
        (&["-w", "flex-7b,quickstart", "--force"], &["--force: several jobs"]),
        (&["-w", "flex-7b", "--exact-scales"], &["--exact-scales", "--scale 4,8"]),
        (&["-w", "flex-7b", "--gpu", "a100"], &["nothing for GPU type \"a100\"", "b200, h100"]),
        (&["./none.toml", "--scale", "4"], &["./none.toml: there is no such file"]),
    ];
    for (args, said) in table {
        let error = house.fails([&["submit", "--no-weights-check"], args].concat());
        for part in said {
            assert!(error.contains(part), "{part:?} in {error} for {args:?}");
        }
    }
}

#[test]
fn all_errors_of_all_jobs_are_reported_and_none_is_submitted() {
    let house = house();
    let error = house.fails(["submit", "-w", "flex-7b,nope,flex-70b", "-d", "fp8,int4", "--scale", "2,3"]);
    let problems = error.lines().filter(|line| !line.starts_with("  ")).collect::<Vec<_>>();
    assert_eq!(
        problems,
        [
            "error: --scale: \"flex-7b\" has no scale 3 on h100",
            "--dtype: \"flex-7b\" does not come in \"int4\" on h100",
            "--workload: no workload \"nope\"",
            "--scale: \"flex-70b\" has no scale 2 on h100",
            "--scale: \"flex-70b\" has no scale 3 on h100",
            "--dtype: \"flex-70b\" does not come in \"int4\" on h100",
        ],
        "{error}"
    );
}

#[test]
fn force_skips_the_checks_and_changes_nothing() {
    let house = house();
    let args = ["submit", "-w", "flex-7b", "-d", "int4", "--scale", "64", "--force", "--dry-run", "--json"];
    let end = house.run([&args[..], &["--no-weights-check"]].concat()).succeeds();
    assert_eq!(facts(&end.json()), ("flex-7b".into(), "fp8".into(), 2, "h100".into()));
    assert!(
        end.stderr.contains("has fp8, not int4") && end.stderr.contains("no scale 64, and runs on 2"),
        "{}",
        end.stderr
    );
}

#[test]
fn a_scale_section_with_another_number_of_gpus_is_an_error() {
    let house = house();
    house.file("recipes/flex-7b.toml", &FLEX.replace("[scale.4.deploy]\ntp = 4", "[scale.4.deploy]\ntp = 3"));
    for args in [
        &["check", "flex-7b"][..],
        &["submit", "flex-7b", "--scale", "4"],
        &["render", "flex-7b", "--scale", "4"],
    ] {
        let error = house.fails(args.iter().copied());
        assert!(
            error.contains("recipes/flex-7b.toml:27: `scale.4`: comes to tp × pp × dp × replicas = 3"),
            "{error}"
        );
        assert!(error.contains("expected: 4 GPUs"), "{error}");
    }
    house.run(["submit", "flex-7b", "--dry-run", "--no-weights-check"]).succeeds();
    house.file("recipes/flex-7b.toml", &FLEX.replace("[scale.4.", "[scale.04."));
    let error = house.fails(["check", "./recipes/flex-7b.toml"]);
    assert!(error.contains("`scale.04`") && error.contains("[scale.8]"), "{error}");
    let error = house.fails(["show", "quickstart", "--set", "scale=4"]);
    assert!(error.contains("--scale 4"), "{error}");
}

#[test]
fn a_knob_is_a_knob_in_front_of_the_command_and_behind_env() {
    let house = house();
    let origin = |job: &Value, key: &str| -> String {
        let from = job["environment"].as_array().unwrap().iter();
        let found = from.filter(|item| item["what"].as_str().unwrap().starts_with(key));
        found.map(|item| item["from"].as_str().unwrap().to_owned()).collect()
    };
    let args = ["submit", "flex-7b", "--dry-run", "--json", "--no-weights-check"];
    let job = house.run_with(args, &[("STREAMING", "false"), ("TP_SIZE", "")]).succeeds().json();
    assert_eq!(
        (origin(&job, "load.streaming"), origin(&job, "deploy.tp")),
        ("$STREAMING".into(), String::new())
    );
    let script = job["script"].as_str().unwrap();
    assert!(script.contains("\"load.streaming\": \"$STREAMING\"") && script.contains("\"streaming\": false"));
    let with_env = house
        .run_with(
            [&args[..], &["--env", "STREAMING=true", "--env", "NCCL_DEBUG=IN FO"]].concat(),
            &[("STREAMING", "false")],
        )
        .succeeds()
        .json();
    let script = with_env["script"].as_str().unwrap();
    assert!(
        script.contains("\"load.streaming\": \"--env STREAMING\""),
        "an option is nearer than the environment"
    );
    assert!(
        script.contains("\"NCCL_DEBUG\": \"IN FO\"")
            && script.contains("\"deploy.env.NCCL_DEBUG\": \"--env NCCL_DEBUG\"")
    );
    let set = house
        .run([&args[..], &["--env", "STREAMING=true", "--set", "load.streaming=false"]].concat())
        .succeeds();
    assert!(set.json()["script"].as_str().unwrap().contains("\"load.streaming\": \"--set\""));
    let end =
        house.run_with(["submit", "flex-7b", "--dry-run", "--no-weights-check"], &[("STREAMING", "false")]);
    assert!(end.stderr.starts_with("load.streaming = false from $STREAMING\n"), "{}", end.stderr);
    let shown = house.run_with(["show", "flex-7b"], &[("STREAMING", "false")]).succeeds().stdout;
    let line = shown.lines().find(|line| line.starts_with("$STREAMING")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["$STREAMING", "load.streaming", "false"]);
}

#[test]
fn a_knob_set_to_nonsense_is_named_before_anything_happens() {
    let house = house();
    let table = [
        (
            "STREAMING",
            "perhaps",
            "$STREAMING: `load.streaming`: found string \"perhaps\"\n  expected: true or false",
        ),
        ("TP_SIZE", "-1", "$TP_SIZE: `deploy.tp`: found"),
        ("TP_SIZE", "0", "$TP_SIZE: `deploy.tp`: found 0"),
        ("BATCH", "many", "$BATCH: `deploy.engine.max_num_seqs`: found \"many\"\n  expected: a whole number"),
        ("BATCH", "8,16", "$BATCH: `deploy.engine.max_num_seqs`"),
        ("BATCH", "1.5", "$BATCH: `deploy.engine.max_num_seqs`"),
        ("SBATCH_TIMELIMIT", "an hour", "$SBATCH_TIMELIMIT: found \"an hour\""),
        (
            "SBATCH_GPUS_PER_NODE",
            "1",
            "$SBATCH_GPUS_PER_NODE: found \"1\", and the plan needs 2 GPUs on each node",
        ),
    ];
    for (name, value, said) in table {
        let end = house.run_with(["submit", "flex-7b", "--no-weights-check"], &[(name, value)]).fails(2);
        assert!(end.stderr.contains(said), "{said} in {}", end.stderr);
        house.is_untouched();
    }
    let end =
        house.run_with(["submit", "flex-7b", "--scale", "2", "--dry-run"], &[("TP_SIZE", "8")]).fails(2);
    assert!(
        end.stderr.contains("no scale 2") && end.stderr.contains("8 × 1 × 1 × 1 = 8 GPUs"),
        "{}",
        end.stderr
    );
}

#[test]
fn options_for_the_servers_are_checked() {
    let house = house();
    let table = [
        (&["--env", "NCCL_DEBUG"][..], "--env: no `=`"),
        (&["--env", "A-B=1"], "\"A-B\" is no name"),
        (&["--env", "A=1", "--env", "A=2"], "--env A: given twice"),
        (&["--env", "SBATCH_PARTITION=x"], "in front of the command"),
        (&["--env", "HF_TOKEN=hf_secret"], "env:HF_TOKEN"),
        (&["--nodelist", "a", "--slurm-arg", "nodelist=b"], "given twice"),
        (&["--slurm-arg", "array=1-3"], "--repeats"),
        (&["--slurm-arg", "export=ALL,STREAMING=false"], "--env STREAMING="),
    ];
    for (args, said) in table {
        let error = house.fails([&["submit", "flex-7b", "--no-weights-check"], args].concat());
        assert!(error.contains(said) && !error.contains("hf_secret"), "{said} in {error}");
    }
}

#[test]
fn sbatchs_own_variables_are_written_into_the_script() {
    let house = house();
    let env = [
        ("SBATCH_ACCOUNT", "acct"),
        ("SBATCH_PARTITION", "fast"),
        ("SBATCH_GPUS_PER_NODE", "8"),
        ("SBATCH_TIMELIMIT", "90"),
        ("SBATCH_EXCLUSIVE", ""),
        ("SBATCH_MEM_PER_NODE", "64G"),
        ("SBATCH_QOS", ""),
    ];
    let end = house.run_with(["render", "flex-7b"], &env).succeeds();
    let directives: Vec<&str> = end.stdout.lines().filter_map(|line| line.strip_prefix("#SBATCH ")).collect();
    for wanted in [
        "--account=acct",
        "--partition=fast",
        "--gpus-per-node=8",
        "--time=01:30:00",
        "--exclusive",
        "--mem=64G",
    ] {
        assert_eq!(
            directives.iter().filter(|known| **known == wanted).count(),
            1,
            "{wanted} in {directives:?}"
        );
    }
    assert!(!directives.iter().any(|line| line.contains("gres") || line.contains("qos")), "{directives:?}");
    let job = house.run_with(["show", "flex-7b", "--json"], &env).succeeds().json();
    assert_eq!(
        (&job["job"]["time_s"], &job["origins"]["slurm.time"]),
        (&5400.into(), &"$SBATCH_TIMELIMIT".into())
    );
    let shown = house.run_with(["show", "flex-7b"], &env).succeeds().stdout;
    assert!(shown.contains("--partition=fast") && shown.contains("$SBATCH_PARTITION"), "{shown}");
    let end = house.run_with(["submit", "flex-7b", "--dry-run", "--no-weights-check"], &env).succeeds();
    assert!(end.stderr.contains("--partition=fast from $SBATCH_PARTITION\n"), "{}", end.stderr);
}

#[test]
fn a_file_of_jobs_is_a_product_of_its_lists() {
    let house = house();
    house.file(
        "jobs.toml",
        "[[job]]\nworkload = \"inference_flex_7b\"\nscale = [2, 4]\nenv = { STREAMING = [true, false] }\n\
         set = { \"load.concurrency\" = [[1, 2]] }\nrepeats = 2\n\n[[job]]\nrecipe = \"flex-70b\"\n",
    );
    let jobs = planned(&house, &["-f", "jobs.toml"]);
    let shown: Vec<String> = jobs
        .iter()
        .map(|job| {
            format!(
                "{} {} {} {}",
                job["recipe"].as_str().unwrap(),
                job["scale"],
                job["differs"],
                job["repeat"]
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "flex-7b 2 [\"STREAMING=true\"] 1",
            "flex-7b 2 [\"STREAMING=true\"] 2",
            "flex-7b 4 [\"STREAMING=true\"] 1",
            "flex-7b 4 [\"STREAMING=true\"] 2",
            "flex-7b 2 [\"STREAMING=false\"] 1",
            "flex-7b 2 [\"STREAMING=false\"] 2",
            "flex-7b 4 [\"STREAMING=false\"] 1",
            "flex-7b 4 [\"STREAMING=false\"] 2",
            "flex-70b 8 [] 1",
        ]
    );
    assert!(
        jobs[0]["script"].as_str().unwrap().contains("flex_16_4_auto_1-2_JOBID"),
        "a list in a list is one value"
    );
    house.file("jobs.toml", "[[job]]\nworkload = \"flex-7b\"\ndtype = \"int4\"\n[[job]]\nworkload = \"flex-7b\"\nset = { \"load.osl\" = \"x\" }\n[[job]]\nworkload = \"flex\"\n");
    let error = house.fails(["submit", "-f", "jobs.toml", "--no-weights-check"]);
    for part in [
        "jobs.toml:1: `dtype`: \"flex-7b\" does not come in \"int4\"",
        "jobs.toml:4: --set load.osl=x",
        "jobs.toml:7: no workload \"flex\"",
    ] {
        assert!(error.contains(part), "{part} in {error}");
    }
    house.run(["submit", "-f", "jobs.toml", "-r", "2"]).fails(2);
    let error = house.fails(["submit", "-f", "none.toml"]);
    assert!(error.contains("none.toml: there is no such file"), "{error}");
}

#[test]
fn what_can_be_submitted_is_listed_within_80_columns() {
    let house = house();
    let shown = house.run(["list", "-w"]).succeeds().stdout;
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let head = shown.lines().take(1);
    let ours = shown.lines().skip_while(|line| !line.starts_with("flex-")).take(5);
    let lines: Vec<String> = head.chain(ours).map(words).collect();
    assert_eq!(
        lines,
        [
            "WORKLOAD SIZE DTYPE SCALES GPU",
            "flex-70b 70b fp8 8 h100",
            "= inference_flex",
            "flex-7b 7b nvfp4 2,4 b200",
            "7b fp8 2,4 h100",
            "= inference_flex"
        ]
    );
    let one = house.run(["list", "-w", "inference_flex_70b", "--json"]).succeeds().json();
    let offers: Vec<&Value> =
        one.as_array().unwrap().iter().flat_map(|w| w["offers"].as_array().unwrap()).collect();
    assert_eq!(
        offers,
        [&serde_json::json!({"gpus": ["h100"], "size": "70b", "dtypes": ["fp8"], "scales": [8]})]
    );
    assert!(house.fails(["list", "-w", "flex-7c"]).contains("did you mean `flex-7b`"), "a typo");
    assert!(
        house.fails(["list", "-w", "flex-7"]).contains("these begin so: flex-70b, flex-7b."),
        "a beginning"
    );
}
