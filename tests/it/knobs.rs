//! Knobs at job time: a plan that was frozen without them and planned again in the job is, but for the note where the values
//! came from, the plan that a submission with the knobs in front of it makes.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::house::House;
use proptest::prelude::*;
use tokmark::internals::plan::Plan;
use tokmark::internals::planner::scale::Allocated;
use tokmark::internals::planner::{knobs, plan_in_job};
use tokmark::internals::recipe::Origin;
use tokmark::internals::render;

const RECIPE: &str = r#"
summary = "knobs of every kind"
[model]
name = "m/tiny"
[deploy]
launcher = "sim"
tp = 2
[deploy.engine]
max_num_seqs = 8
[deploy.env]
GREETING = "hello"
[load]
isl = 16
osl = 4
concurrency = [1, 2]
requests_per_concurrency = 3
[knobs]
STREAMING = "load.streaming"
ISL = "load.isl"
CONCURRENCY = "load.concurrency"
RATE = "load.rate"
TP_SIZE = "deploy.tp"
BATCH = "deploy.engine.max_num_seqs"
GREETING = "deploy.env.GREETING"
[gpu.h100]
[gpu.b200]
"#;

const SITE: &str =
    "schema = 1\n[slurm]\npartition = \"p\"\n[defaults.load]\nseed = 7\n[gpus.h100]\nper_node = 4\n";

fn house() -> House {
    let house = House::new();
    house.recipe(RECIPE);
    house.file("site.toml", SITE);
    house
}

fn embedded(script: &str) -> Plan {
    let after = script.split_once("<<'TOKMARK_PLAN'\n").unwrap().1;
    serde_json::from_str(after.split_once("\nTOKMARK_PLAN\n").unwrap().0).unwrap()
}

fn rendered(house: &House, args: &[&str], env: &[(&str, &str)]) -> Plan {
    let args = [&["render", "./r.toml", "--gpu", "h100"], args].concat();
    embedded(&house.run_with(args, env).succeeds().stdout)
}

fn again(plan: &Plan, env: &[(&str, &str)]) -> Result<Option<Plan>, String> {
    let env: BTreeMap<&str, &str> = env.iter().copied().collect();
    plan_in_job(plan, &|name| env.get(name).map(|value| (*value).to_owned()))
        .map_err(|errors| errors.to_string())
}

fn in_job(name: &str) -> Origin {
    Origin::Variable { name: name.to_owned(), in_job: true }
}

/// The bytes of a plan without the notes of where and when a variable was seen.
fn without_notes(plan: &Plan) -> String {
    let mut plan = plan.clone();
    for origin in plan.origins.values_mut() {
        if let Origin::Variable { in_job, .. } = origin {
            *in_job = false;
        }
    }
    for seen in plan.input.choices.variables.values_mut() {
        seen.in_job = false;
    }
    serde_json::to_string_pretty(&plan).unwrap()
}

#[test]
fn a_job_plans_what_the_submission_would_have() {
    let house = house();
    let frozen = rendered(&house, &[], &[]);
    let table: [&[(&str, &str)]; 8] = [
        &[("STREAMING", "false")],
        &[("ISL", "64"), ("CONCURRENCY", "4,8")],
        &[("RATE", "12.5")],
        &[("TP_SIZE", "4")],
        &[("BATCH", "32")],
        &[("GREETING", "a 'b' \"c\" $(d)\n\\e é TOKMARK_PLAN")],
        &[("GREETING", "5")],
        &[("STREAMING", "false"), ("ISL", "8"), ("TP_SIZE", "1"), ("BATCH", "1")],
    ];
    for env in table {
        let planned = again(&frozen, env).unwrap().unwrap();
        let submitted = rendered(&house, &[], env);
        assert_eq!(without_notes(&planned), without_notes(&submitted), "{env:?}");
        assert!(planned.origins.values().any(|origin| *origin == in_job(env[0].0)), "{env:?}");
        assert!(
            !submitted.origins.values().any(|origin| matches!(origin, Origin::Variable { in_job: true, .. })),
            "{env:?}"
        );
    }
}

/// A job runs in another folder than `submit`: a relative path of the site file starts at the folder of that file for both.
#[test]
fn a_relative_image_of_the_site_is_the_same_in_the_job() {
    let house = house();
    house.recipe(
        &RECIPE
            .replace("\"sim\"", "\"vllm\"")
            .replace("[gpu.h100]", "[gpu.h100.container]\nimage = \"engine:1\""),
    );
    let image =
        "[container]\nruntime = \"apptainer\"\n[gpus.h100.images]\n\"engine:1\" = \"./images/engine.sif\"\n";
    house.file("site.toml", &SITE.replace("[gpus.h100]", &format!("{image}[gpus.h100]")));
    let frozen = rendered(&house, &["--site", "site.toml"], &[]);
    let planned = again(&frozen, &[("ISL", "64")]).unwrap().unwrap();
    let images = [&frozen, &planned].map(|plan| plan.container.clone().unwrap().image);
    assert!(images[0].starts_with('/') && images[0].ends_with("/images/engine.sif"), "{images:?}");
    assert_eq!(images[0], images[1]);
}

#[test]
fn nothing_new_changes_nothing() {
    let house = house();
    let frozen = rendered(&house, &[], &[("ISL", "64")]);
    for env in [&[][..], &[("ISL", "64")], &[("ISL", "")], &[("HOME", "/x"), ("SBATCH_PARTITION", "y")]] {
        assert_eq!(again(&frozen, env).unwrap(), None, "{env:?}");
    }
    let other = again(&frozen, &[("STREAMING", "false")]).unwrap().unwrap();
    assert_eq!(other.origins["load.isl"].to_string(), "$ISL", "what was set when it was rendered stays");
    assert_eq!(other.experiment, frozen.experiment);
    assert_eq!(again(&other, &[("STREAMING", "false")]).unwrap(), None, "a requeued job finds its own again");
}

#[test]
fn set_and_env_options_win_over_the_jobs_environment() {
    let house = house();
    let frozen = rendered(&house, &["--set", "load.isl=99"], &[]);
    let planned = again(&frozen, &[("ISL", "64"), ("STREAMING", "false")]).unwrap().unwrap();
    assert_eq!(
        (&planned.origins["load.isl"], &planned.origins["load.streaming"]),
        (&Origin::Set, &in_job("STREAMING"))
    );
    let args = ["submit", "./r.toml", "--gpu", "h100", "--env", "ISL=99", "--dry-run"];
    let frozen = embedded(&house.run(args).succeeds().stdout);
    let planned = again(&frozen, &[("ISL", "64")]).unwrap().unwrap();
    assert_eq!(planned.origins["load.isl"], Origin::Env("ISL".into()));
}

#[test]
fn a_knob_overruled_by_an_option_is_reported() {
    let house = house();
    let frozen = rendered(&house, &["--set", "load.isl=99"], &[]);
    let planned = again(&frozen, &[("ISL", "64"), ("STREAMING", "false")]).unwrap().unwrap();
    assert_eq!(knobs::set_in_job(&planned), ["STREAMING=false"]);
    let said = "ISL (job) has no effect: --set load.isl was given";
    assert_eq!(knobs::without_effect(&planned), [format!("${said}")]);
    let args = ["show", "./r.toml", "--gpu", "h100", "--set", "load.isl=99"];
    let shown = house.run_with(args, &[("ISL", "64")]).succeeds();
    assert_eq!(shown.stderr, "warning: $ISL has no effect: --set load.isl was given\n");
    assert!(shown.stdout.contains("64 (no effect: --set load.isl was given)"), "{}", shown.stdout);
    let args = ["submit", "./r.toml", "--gpu", "h100", "--env", "ISL=9", "--dry-run"];
    let set = house.run([&args[..], &["--set", "load.isl=99"]].concat()).succeeds();
    assert!(
        set.stderr.contains("warning: --env ISL has no effect: --set load.isl was given"),
        "{}",
        set.stderr
    );
    let env = house.run_with(args, &[("ISL", "64")]).succeeds();
    assert!(env.stderr.contains("warning: $ISL has no effect: --env ISL was given"), "{}", env.stderr);
    assert!(!env.stderr.contains("--set"), "{}", env.stderr);
}

#[test]
fn a_bad_value_names_the_variable_of_the_job() {
    let house = house();
    let frozen = rendered(&house, &[], &[]);
    for (name, value, said) in [
        ("STREAMING", "maybe", "$STREAMING (job): `load.streaming`: found string \"maybe\""),
        ("BATCH", "lots", "$BATCH (job): `deploy.engine.max_num_seqs`: found \"lots\""),
        ("TP_SIZE", "0", "$TP_SIZE (job): `deploy.tp`: found 0"),
    ] {
        let error = again(&frozen, &[(name, value)]).unwrap_err();
        assert!(error.contains(said), "{said} in {error}");
    }
}

#[test]
fn relative_paths_start_at_the_folder_of_the_recipe() {
    let house = House::new();
    let dataset = "osl = 4\nprompts.dataset = { kind = \"jsonl\", path = \"p.jsonl\" }\n";
    let text = RECIPE.replace("isl = 16\n", "").replace("osl = 4\n", dataset);
    house.file("deep/r.toml", &format!("schema = 1\nname = \"r\"\n{text}"));
    house.file("deep/p.jsonl", "{\"prompt\": \"one\"}\n");
    let frozen = embedded(&house.run(["render", "deep/r.toml", "--gpu", "h100"]).succeeds().stdout);
    let planned = again(&frozen, &[("STREAMING", "false")]).unwrap().unwrap();
    let path = house.path().join("deep/p.jsonl").display().to_string();
    let prompts = serde_json::to_string(&planned.deployments[0].points[0].prompts).unwrap();
    assert!(prompts.contains(&format!("{path:?}")), "{prompts}");
    let submitted = house.run_with(["render", "deep/r.toml", "--gpu", "h100"], &[("STREAMING", "false")]);
    assert_eq!(without_notes(&planned), without_notes(&embedded(&submitted.succeeds().stdout)));
}

#[test]
fn a_job_that_is_too_small_prints_the_arithmetic() {
    let house = House::new();
    let gpus = RECIPE.replace("launcher = \"sim\"", "launcher = \"vllm\"");
    house.recipe(&gpus);
    house.file("site.toml", SITE);
    let frozen = rendered(&house, &[], &[]);
    let planned = again(&frozen, &[("TP_SIZE", "4")]).unwrap().unwrap();
    let of = |nodes: &[&str], gpus_per_node| Allocated {
        name: "job 7".into(),
        nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
        gpus_per_node,
    };
    assert!(planned.fits(&of(&["n1"], Some(4))).is_ok() && planned.fits(&of(&["n1"], None)).is_ok());
    let error = planned.fits(&of(&["n1"], Some(2))).unwrap_err().to_string();
    assert_eq!(
        error,
        "job 7: has 1 node (n1) with 2 GPUs each\n  expected: 1 node with 4 GPUs each: tp × pp × dp × replicas = 4 × 1 × 1 × 1 = 4 GPUs; tp is from $TP_SIZE (job)\n  next: ask Slurm for a larger allocation, or choose a smaller deployment"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any text in a recipe's values comes out of the script as it went in, by way of a real bash.
    #[test]
    fn any_text_survives_the_script(texts in proptest::collection::vec("[\\PC\n\r\t'\"$`\\\\]{0,40}|TOKMARK_PLAN\n?|\nTOKMARK_PLAN\n", 1..6)) {
        static PLAN: std::sync::LazyLock<Plan> = std::sync::LazyLock::new(|| rendered(&house(), &[], &[]));
        let mut plan = PLAN.clone();
        plan.summary = texts[0].clone();
        for (at, text) in texts.iter().enumerate() {
            plan.deployments[0].engine.insert(format!("e{at}"), text.clone().into());
            plan.deployments[0].env.insert(format!("E{at}"), text.clone());
            plan.input.choices.env.push((format!("E{at}"), text.clone()));
        }
        let script = render::script(&plan, "/bin/true", &[]).unwrap();
        // The script as it is, but for the last line: it prints the plan instead of running it.
        let (head, _) = script.rsplit_once("exec \"$tokmark\"").unwrap();
        let mut bash = Command::new("bash").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        bash.stdin.take().unwrap().write_all(format!("{head}plan\n").as_bytes()).unwrap();
        let output = bash.wait_with_output().unwrap();
        prop_assert!(output.status.success());
        let back: Plan = serde_json::from_slice(&output.stdout).unwrap();
        prop_assert_eq!(back, plan);
    }
}
