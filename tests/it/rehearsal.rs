//! Every shipped recipe, driven from end to end on the simulated engine with a share of its load: it starts, it sends what it says,
//! every request is answered, and every result says that it is simulated and scaled.

use std::sync::Mutex;

use crate::support::house::{House, house_json};
use serde_json::Value;
use tokmark::internals::recipe::{Recipe, find};

/// How many times faster than a GPU the simulated engine goes here.
const SPEED: &str = "deploy.engine.speed=100";

/// Share of a recipe's load here: a rehearsal's own hundredth is 800,000 tokens of some recipes.
const SHARE: &str = "0.001";

/// A recipe's name, and the GPU types it is written for.
fn recipes() -> Vec<(String, Vec<String>)> {
    let recipes = find::embedded().into_iter().map(|document| {
        let recipe: Recipe = document.parse().unwrap();
        (recipe.name.clone().unwrap(), recipe.gpu.keys().cloned().collect())
    });
    recipes.collect()
}

/// Prompts and a trace in the formats of the files that some recipes want beside them.
fn lay_out_files(house: &House) {
    let word = "alpha ";
    let dolly: String = (0..60_u32)
        .map(|at| {
            let words = 60 + at * 120;
            let text = format!("question {at} {}", word.repeat(words as usize));
            format!("{}\n", serde_json::json!({"instruction": text, "context": "", "response": "an answer", "category": "open_qa"}))
        })
        .collect();
    house.file("databricks-dolly-15k.jsonl", &dolly);
    let trace: String = (0..20_u32)
        .map(|at| format!("{{\"timestamp\": {}, \"input_length\": 1024, \"output_length\": 40, \"hash_ids\": [1, {}]}}\n", at * 10, at + 2))
        .collect();
    house.file("64k_400_90kv_agent_new_noschedule_short_15perc.jsonl", &trace);
}

/// Runs the rehearsal of a recipe; what is wrong with it.
fn rehearse(recipe: &str, gpu: Option<&String>) -> Result<(), String> {
    let house = House::new();
    lay_out_files(&house);
    let mut args = vec!["run", recipe, "--rehearse", "--scale-load", SHARE, "--set", SPEED, "--json"];
    if let Some(gpu) = gpu {
        args.extend(["--gpu", gpu]);
    }
    // A rehearsal reaches every concurrency, which is millions of tokens of some recipes.
    let shown = house.run(["show"].into_iter().chain(args[1..].iter().copied())).json();
    let loads = &shown["resolved"]["load"]["concurrency"];
    let loads = loads.as_array().cloned().unwrap_or_else(|| vec![loads.clone()]);
    if loads.iter().any(|load| load.as_u64() > Some(64)) {
        args.extend(["--set", "load.concurrency=16"]);
    }
    let end = house.run(args);
    let wrong = |what: String| Err(format!("{recipe} on {gpu:?}: {what}\n{}", end.stderr));
    // A machine that is busy with other tests makes figures invalid, and rightly so: they are not looked at here.
    if ![Some(0), Some(5)].contains(&end.code) {
        return wrong(format!("exit code {:?}", end.code));
    }
    let Value::Array(summaries) = end.json() else { return wrong("no list of summaries".into()) };
    let plan = house_json(&house.experiment().join("plan.json"));
    let deployments = plan["deployments"].as_array().unwrap();
    let planned: usize =
        deployments.iter().map(|deployment| deployment["points"].as_array().unwrap().len()).sum();
    if summaries.len() != planned || planned == 0 {
        return wrong(format!("{} of {planned} load points", summaries.len()));
    }
    let points = deployments.iter().flat_map(|deployment| deployment["points"].as_array().unwrap());
    for (summary, point) in summaries.iter().zip(points) {
        let reasons = summary["verdict"]["reasons"].to_string();
        let scaled = match point["scaled"].as_f64() {
            Some(1.0) => "the simulated engine stood in".to_owned(),
            _ => format!("the load was scaled to {} ", point["scaled"]),
        };
        let sound = summary["simulated"] == true
            && reasons.contains(&scaled)
            && summary["requests"]["completed"].as_u64() > Some(0)
            && summary["requests"]["by_outcome"].as_object().is_some_and(|outcomes| {
                outcomes.keys().all(|outcome| ["ok", "cancelled"].contains(&outcome.as_str()))
            });
        if !sound {
            return wrong(format!("{summary:#}"));
        }
    }
    Ok(())
}

#[test]
fn every_recipe_can_be_rehearsed() {
    let waiting = Mutex::new(recipes());
    let problems = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let Some((recipe, gpus)) = waiting.lock().unwrap().pop() else { break };
                    let began = std::time::Instant::now();
                    if let Err(problem) = rehearse(&recipe, gpus.first()) {
                        problems.lock().unwrap().push(problem);
                    }
                    println!("{recipe}: {:.1} s", began.elapsed().as_secs_f64());
                }
            });
        }
    });
    let problems = problems.into_inner().unwrap();
    assert!(problems.is_empty(), "{} recipes\n{}", problems.len(), problems.join("\n"));
}

/// One recipe on the simulated engine, chosen by `--set`: the load is the recipe's own.
#[test]
fn another_launcher_by_set_keeps_the_load() {
    let house = House::new();
    let sets = ["deploy.launcher=sim", SPEED, "load.concurrency=4", "load.requests_per_concurrency=3"];
    let mut args = vec!["run", "gpt-oss-20b-vllm", "--json"];
    args.extend(sets.iter().flat_map(|set| ["--set", set]));
    let summaries = house.run(args).succeeds().json();
    assert_eq!(summaries[0]["requests"]["completed"], 12);
    assert_eq!(summaries[0]["simulated"], true);
    assert!(!summaries[0]["verdict"]["reasons"].to_string().contains("scaled"), "{summaries:#}");
    let plan = house_json(&house.experiment().join("plan.json"));
    assert_eq!(plan["deployments"][0]["engine"]["profile"], "a10g/gpt-oss-20b");
}

#[test]
fn a_rehearsal_checks_the_options_of_the_real_engine() {
    let house = House::new();
    house.recipe(
        "summary = \"s\"\n[model]\nname = \"org/m\"\n[deploy]\nlauncher = \"dynamo-trtllm\"\n\
         [deploy.engine]\nmax_batch_sise = 4\n[load]\nisl = 8\nosl = 4\n",
    );
    let end = house.run(["run", "./r.toml", "--gpu", "h100", "--rehearse"]).fails(2);
    assert!(end.stderr.contains("max_batch_sise") && end.stderr.contains("max_batch_size"), "{}", end.stderr);
    let end = house.run(["run", "gpt-oss-20b-vllm", "--rehearse", "--set", "deploy.engine.sped=3"]).fails(2);
    assert!(end.stderr.starts_with("error: --set: `deploy.engine.sped`: "), "{}", end.stderr);
    assert!(end.stderr.contains("did you mean `speed`?"), "{}", end.stderr);
}

#[test]
fn prefill_and_decode_become_one_engine_with_all_their_gpus() {
    let house = House::new();
    house.recipe(
        "summary = \"s\"\n[model]\nname = \"org/m\"\n[deploy]\nlauncher = \"dynamo-trtllm\"\nattention_dp = true\n\
         [deploy.engine]\nkv_cache_free_gpu_mem_fraction = 0.8\n\
         [deploy.prefill]\ntp = 2\nep = 2\nreplicas = 2\n[deploy.prefill.engine]\nmax_batch_size = 1\nmax_num_tokens = 4096\n\
         [deploy.decode]\ntp = 4\nep = 4\n[deploy.decode.engine]\nmax_batch_size = 256\nmax_num_tokens = 256\n\
         [load]\nisl = 8\nosl = 4\n",
    );
    let shown = house.run(["show", "./r.toml", "--gpu", "b200", "--rehearse", "--json"]).succeeds().json();
    let deployment = &shown["deployments"][0];
    assert_eq!((&deployment["gpus"], &deployment["parallel"]["tp"]), (&8.into(), &8.into()));
    // 256 for each of the 4 ranks that decode; 4,096 for each of the 2 ranks of both workers that prefill.
    assert_eq!(deployment["engine"]["max_num_seqs"], 1024);
    assert_eq!(deployment["engine"]["max_num_batched_tokens"], 16_384);
    assert_eq!(deployment["engine"]["profile"], "b200");
    assert_eq!(shown["job"]["nodes"], 1);
}

#[test]
fn a_rehearsal_is_never_the_recipes_own_engine_unnoticed() {
    let house = House::new();
    let end =
        house.run(["render", "gpt-oss-20b-vllm", "--rehearse", "--set", "deploy.launcher=vllm"]).fails(2);
    assert!(end.stderr.contains("--rehearse: found beside --set deploy.launcher=vllm"), "{}", end.stderr);
    // Neither a GPU section nor a knob leads around it.
    house.recipe(
        "summary = \"s\"\n[model]\nname = \"org/m\"\n[deploy]\nlauncher = \"sim\"\n[load]\nisl = 8\nosl = 4\n\
         [knobs]\nENGINE = \"deploy.launcher\"\n[gpu.h100.deploy]\nlauncher = \"vllm\"\n[gpu.b200]\n",
    );
    for (gpu, env) in [("h100", &[][..]), ("b200", &[("ENGINE", "vllm")])] {
        let shown = house
            .run_with(
                ["show", "./r.toml", "--gpu", gpu, "--rehearse", "--set", "load.requests=1000", "--json"],
                env,
            )
            .succeeds()
            .json();
        assert_eq!(shown["deployments"][0]["processes"][0]["gpus"], serde_json::json!([]), "{shown:#}");
        assert_eq!(shown["deployments"][0]["points"][0]["scaled"], 0.01);
    }
    let end = house.run([
        "bench",
        "--url",
        "http://127.0.0.1:9",
        "--model",
        "m",
        "--isl",
        "8",
        "--osl",
        "4",
        "--concurrency",
        "1",
        "--rehearse",
    ]);
    assert!(end.fails(2).stderr.contains("unexpected argument '--rehearse'"));
}

#[test]
fn all_of_the_load_is_not_scaled() {
    let house = House::new();
    let shown = house.run(["show", "quickstart", "--scale-load", "1", "--json"]).succeeds().json();
    assert_eq!(shown["deployments"][0]["points"][0].get("scaled"), None);
}
