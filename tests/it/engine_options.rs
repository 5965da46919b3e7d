//! What `check` and every verb that plans know of an engine before it runs: names, kinds and ranges of its options, its context,
//! its model and its profile.

use crate::support::house::House;

/// A recipe for vLLM with these engine options, and more at the end.
fn vllm(engine: &str, more: &str) -> String {
    format!(
        "[model]\nname = \"m\"\n[deploy]\nlauncher = \"vllm\"\n[deploy.engine]\n{engine}\n[load]\nisl = 256\nosl = 128\n{more}"
    )
}

/// The message of each verb that plans: they are the same.
#[track_caller]
fn message(recipe: &str, more: &[&str]) -> String {
    let house = House::new();
    house.recipe(recipe);
    let of = |verb: &[&str]| house.fails([verb, &["./r.toml"], more].concat());
    let checked = of(&["check"]);
    for verb in
        [&["run"][..], &["render"], &["submit", "--dry-run", "--no-weights-check"], &["run", "--rehearse"]]
    {
        assert_eq!(of(verb), checked, "{verb:?}");
    }
    checked
}

const H100: [&str; 2] = ["--gpu", "h100"];

#[test]
fn a_misspelt_engine_option_names_the_nearest_with_file_and_line() {
    assert_eq!(
        message(&vllm("gpu_memory_utilisation = 0.8", ""), &H100),
        "error: ./r.toml:8: `deploy.engine.gpu_memory_utilisation`: vllm 0.32.0 has no such option\n  \
         next: did you mean `gpu_memory_utilization`? --allow-unknown passes it on as it is\n"
    );
    let set = [&H100[..], &["--set", "deploy.engine.max_num_seq=4"]].concat();
    let house = House::new();
    house.recipe(&vllm("", ""));
    let set = house.fails([&["check", "./r.toml"], &set[..]].concat());
    assert!(
        set.starts_with("error: --set: `deploy.engine.max_num_seq`: ") && set.contains("`max_num_seqs`"),
        "{set}"
    );
}

#[test]
fn a_misspelt_switch_that_is_turned_off_names_the_nearest() {
    let found = message(&vllm("no_enforce_eeger = true", ""), &H100);
    assert!(found.contains("did you mean `no_enforce_eager`?"), "{found}");
    let house = House::new();
    house.recipe("[model]\nname = \"m\"\n[deploy]\nlauncher = \"sim\"\n[deploy.engine]\nprofil = \"h100\"\n[load]\nisl = 1\nosl = 1\n");
    let found = house.fails(["check", "./r.toml"]);
    assert!(found.contains("`deploy.engine.profil`: tokmark sim has no such option"), "{found}");
}

#[test]
fn an_option_written_twice_with_dashes_and_underscores() {
    assert_eq!(
        message(&vllm("max_model_len = 4096\nmax-model-len = 8192", ""), &H100),
        "error: ./r.toml:9: `deploy.engine.max-model-len`: the same option as `max_model_len`\n  \
         expected: each option once\n  next: take out one of them\n"
    );
    let house = House::new();
    house.recipe(&vllm("max_model_len = 4096", ""));
    let check = |set| [&["check", "./r.toml", "--set", set][..], &H100].concat();
    let found = house.fails(check("deploy.engine.max-model-len=20"));
    assert!(found.contains("`deploy.engine.max-model-len`: found 20, and the longest request"), "{found}");
    let script =
        [&["render", "./r.toml", "--explain", "--set", "deploy.engine.max-model-len=500"][..], &H100]
            .concat();
    let script = house.run(script).succeeds().stdout;
    assert!(script.contains("--max-model-len 500") && !script.contains("--max-model-len 4096"), "{script}");
}

#[test]
fn a_value_outside_the_range_of_its_option() {
    assert_eq!(
        message(&vllm("gpu_memory_utilization = 1.7", ""), &H100),
        "error: ./r.toml:8: `deploy.engine.gpu_memory_utilization`: found 1.7\n  expected: a number above 0 up to 1\n"
    );
}

#[test]
fn a_value_that_is_none_of_its_options_values() {
    let message = message(&vllm("kv_cache_dtype = \"fp16\"", ""), &H100);
    let start = "error: ./r.toml:8: `deploy.engine.kv_cache_dtype`: found \"fp16\"\n  expected: one of auto, bfloat16, ";
    assert!(message.starts_with(start), "{message}");
}

#[test]
fn every_value_of_an_axis_is_checked() {
    let axis = "[sweep.server]\n\"engine.gpu_memory_utilization\" = [0.9, 1.7]\n";
    assert_eq!(
        message(&vllm("", axis), &H100),
        "error: ./r.toml:13: `sweep.server.\"engine.gpu_memory_utilization\"`: found 1.7\n  expected: a number above 0 up to 1\n"
    );
}

#[test]
fn a_knob_with_a_wrong_value_names_the_variable() {
    let house = House::new();
    for (name, value) in [("GPU_MEM_UTIL", "1.7"), ("KV_CACHE_DTYPE", "fp16")] {
        let args = ["check", "vllm-bench-engine-grid", "--gpu", "h100"];
        let end = house.run_with(args, &[(name, value)]).fails(2);
        assert!(end.stderr.starts_with(&format!("error: ${name}: `deploy.engine.")), "{}", end.stderr);
    }
}

#[test]
fn an_option_that_the_table_lacks_is_a_warning_and_allow_unknown_silences_it() {
    let house = House::new();
    house.recipe(&vllm("brand_new_switch = true", ""));
    let check = ["check", "./r.toml", "--gpu", "h100"];
    let warning = "warning: ./r.toml:8: `deploy.engine.brand_new_switch`: vllm 0.32.0 has no such option; --allow-unknown silences this\n";
    let end = house.run(check).succeeds();
    assert!(end.stderr.starts_with(warning), "{}", end.stderr);
    let end = house.run(["render", "./r.toml", "--gpu", "h100"]).succeeds();
    assert_eq!(end.stderr, warning);
    for engine in ["brand_new_switch = true", "max_num_seq = 3", "kv_cache_dtype = \"fp3\""] {
        house.recipe(&vllm(engine, ""));
        let end = house.run([&check[..], &["--allow-unknown"]].concat()).succeeds();
        assert!(!end.stderr.contains("warning"), "{}", end.stderr);
    }
    house.recipe(&vllm("gpu_memory_utilization = 1.7", ""));
    house.run([&check[..], &["--allow-unknown"]].concat()).fails(2);
}

#[test]
fn a_context_below_prompt_and_answer() {
    assert_eq!(
        message(&vllm("max_model_len = 100", ""), &H100),
        "error: ./r.toml:8: `deploy.engine.max_model_len`: found 100, and the longest request of isl256_osl128_con1 has 384 tokens\n  \
         expected: 384 or more: prompt and answer together\n"
    );
    let house = House::new();
    for (engine, load, code) in [
        ("max_model_len = 384", "", 0),
        ("max_model_len = \"auto\"", "", 0),
        ("max_model_len = \"0.3k\"", "", 2),
        ("max_model_len = 400", "isl_stddev = 10", 2),
        ("max_model_len = 500", "[load.prompts.prefix]\nsystem_tokens = 200", 2),
        // 384 tokens at first, and 64 + 128 more with each of the other two turns.
        ("max_model_len = 767", "[load.prompts.conversation]\nturns = 3\nturn_isl = 64", 2),
        ("max_model_len = 768", "[load.prompts.conversation]\nturns = 3\nturn_isl = 64", 0),
        (
            "max_model_len = 500",
            "[load.prompts.conversation]\nturns = 3\nturn_isl = 64\nmax_context = 500",
            0,
        ),
        ("max_model_len = 1000", "[sweep.load]\nisl = [8, 900]", 2),
    ] {
        house.recipe(&vllm(engine, load));
        let end = house.run(["check", "./r.toml", "--gpu", "h100"]);
        let end = if code == 0 { end.succeeds() } else { end.fails(code) };
        assert_eq!(
            end.stderr.contains("the longest request of isl"),
            code == 2,
            "{engine} {load}: {}",
            end.stderr
        );
    }
}

/// The rows sum up to 4010 and 510 tokens; no row has both the longest prompt and the longest answer.
#[test]
fn a_context_below_the_longest_request_of_a_file() {
    let house = House::new();
    let rows = "2023-11-16 18:15:46.6805900,4000,10\n2023-11-16 18:15:47.6805900,10,500\n";
    house.file("t.csv", &format!("TIMESTAMP,ContextTokens,GeneratedTokens\n{rows}"));
    let words = "word ".repeat(300);
    let talk = format!(
        r#"[{{"conversations":[{{"from":"human","value":"{words}"}},{{"from":"gpt","value":"{words}"}}]}}]"#
    );
    house.file("s.json", &talk);
    let trace =
        "[load.prompts]\ntokenizer = \"builtin\"\n[load.prompts.trace]\nkind = \"azure\"\npath = \"t.csv\"\n";
    let dataset = "[load.prompts]\ntokenizer = \"builtin\"\n[load.prompts.dataset]\nkind = \"sharegpt\"\npath = \"s.json\"\n";
    let recipe = |limit: u32, source: &str| {
        format!(
            "[model]\nname = \"m\"\n[deploy]\nlauncher = \"vllm\"\n[deploy.engine]\nmax_model_len = {limit}\n{source}"
        )
    };
    for (limit, source, needed) in [
        (4010, trace, None),
        (
            4009,
            trace,
            Some("found 4009, and a prompt of 4000 tokens with an answer of 10 is the longest request"),
        ),
        (2000, dataset, None),
        (500, dataset, Some("with an answer of 300 is the longest request")),
    ] {
        house.recipe(&recipe(limit, source));
        let end = house.run(["check", "./r.toml", "--gpu", "h100"]);
        let Some(needed) = needed else {
            end.succeeds();
            continue;
        };
        let end = end.fails(2);
        assert!(
            end.stderr.starts_with("error: ./r.toml:8: `deploy.engine.max_model_len`: found "),
            "{}",
            end.stderr
        );
        assert!(end.stderr.contains(needed), "{}", end.stderr);
    }
}

#[test]
fn an_option_that_the_launcher_sets_names_the_key_of_the_recipe() {
    let set = |option: &str, next: &str| {
        format!(
            "error: ./r.toml:8: `deploy.engine.{option}`: tokmark gives this option to the engine itself\n  next: {next}\n"
        )
    };
    assert_eq!(
        message(&vllm("tensor_parallel_size = 4", ""), &H100),
        set("tensor_parallel_size", "set deploy.tp instead")
    );
    let house = House::new();
    for (launcher, line, next) in [
        ("vllm", "data-parallel-size = 2", "set deploy.dp instead"),
        ("vllm", "port = 8000", "set deploy.port instead"),
        ("vllm", "host = \"0.0.0.0\"", "leave it out"),
        ("vllm", "served_model_name = \"n\"", "set model.served_name instead"),
        ("vllm", "model = \"n\"", "set model.path instead"),
        ("dynamo-vllm", "pipeline_parallel_size = 2", "set deploy.pp instead"),
        ("sglang", "tp = 2", "set deploy.tp instead"),
        ("sglang", "enable_dp_attention = true", "set deploy.attention_dp instead"),
        ("trtllm-serve", "tp_size = 2", "set deploy.tp instead"),
        ("sim", "port = 1", "set deploy.port instead"),
        ("dynamo-mocker", "model_path = \"/m\"", "set model.path instead"),
    ] {
        house.recipe(&vllm(line, "").replace("\"vllm\"", &format!("{launcher:?}")));
        for more in [&[][..], &["--allow-unknown"]] {
            let found = house.fails([&["check", "./r.toml", "--gpu", "h100"], more].concat());
            let option = line.split_once(" = ").unwrap().0;
            assert!(found.contains(set(option, next).trim_start_matches("error: ")), "{launcher}: {found}");
        }
    }
    let pool = "[model]\nname = \"m\"\n[deploy]\nlauncher = \"dynamo-vllm\"\n[deploy.prefill.engine]\ntensor_parallel_size = 2\n\
                [deploy.decode]\ntp = 2\n[load]\nisl = 8\nosl = 4\n";
    house.recipe(pool);
    let found = house.fails(["check", "./r.toml", "--gpu", "h100"]);
    assert!(found.contains("`deploy.prefill.engine.tensor_parallel_size`"), "{found}");
    assert!(found.contains("set deploy.prefill.tp instead"), "{found}");
}

#[test]
fn sglangs_dp_size_is_never_left_out() {
    let house = House::new();
    let recipe = |deploy: &str, engine: &str| {
        format!(
            "[model]\nname = \"m\"\n[deploy]\nlauncher = \"sglang\"\ntp = 4\n{deploy}\n[deploy.engine]\n{engine}\n[load]\nisl = 8\nosl = 4\n"
        )
    };
    let explained = ["render", "--explain", "./r.toml", "--gpu", "h100"];
    for name in ["dp_size", "dp-size"] {
        house.recipe(&recipe("", &format!("{name} = 2")));
        let found = house.fails(["check", "./r.toml", "--gpu", "h100"]);
        assert!(found.contains("set deploy.attention_dp = true, or use deploy.dp"), "{name}: {found}");
        house.recipe(&recipe("attention_dp = true", &format!("{name} = 2")));
        let script = house.run(explained).succeeds().stdout;
        assert!(script.contains("--tp-size 4 --dp-size 2 --enable-dp-attention"), "{name}: {script}");
        house.recipe(&recipe("attention_dp = true", &format!("{name} = 3")));
        let found = house.fails(["check", "./r.toml", "--gpu", "h100"]);
        assert!(found.contains("tp = 4 is no multiple of dp_size = 3"), "{name}: {found}");
    }
    house.recipe(&recipe("attention_dp = true", ""));
    let script = house.run(explained).succeeds().stdout;
    assert!(script.contains("--tp-size 4 --dp-size 4 --enable-dp-attention"), "{script}");
}

#[test]
fn options_of_dynamos_mocker_are_checked_against_its_parser() {
    let house = House::new();
    for (line, problem) in [
        ("speedup_rato = 2.0", "did you mean `speedup_ratio`?"),
        ("speedup_ratio = -1.0", "found -1.0\n  expected: a number from 0"),
        ("kv_cache_dtype = \"int3\"", "expected: one of auto, bfloat16, fp8"),
        ("max_model_len = 100", "the longest request of isl256_osl128_con1 has 384 tokens"),
    ] {
        house.recipe(&vllm(line, "").replace("\"vllm\"", "\"dynamo-mocker\""));
        let found = house.fails(["check", "./r.toml", "--gpu", "h100"]);
        assert!(found.contains(problem), "{line}: {found}");
    }
    house.recipe(&vllm("speedup_ratio = 0.0\nblock_size = 64", "").replace("\"vllm\"", "\"dynamo-mocker\""));
    house.run(["check", "./r.toml", "--gpu", "h100"]).succeeds();
}

#[test]
fn a_prefill_worker_holds_the_prompt_alone() {
    let house = House::new();
    let recipe = |prefill: u32, decode: u32| {
        format!(
            "[model]\nname = \"m\"\n[deploy]\nlauncher = \"dynamo-vllm\"\n[deploy.prefill.engine]\nmax_model_len = {prefill}\n\
             [deploy.decode.engine]\nmax_model_len = {decode}\n[load]\nisl = 256\nosl = 128\n"
        )
    };
    let check = ["check", "./r.toml", "--gpu", "h100"];
    house.recipe(&recipe(257, 384));
    house.run(check).succeeds();
    house.recipe(&recipe(256, 383));
    let end = house.run(check).fails(2);
    for key in [
        "./r.toml:8: `deploy.prefill.engine.max_model_len`",
        "./r.toml:10: `deploy.decode.engine.max_model_len`",
    ] {
        assert!(end.stderr.contains(key), "{}", end.stderr);
    }
}

#[test]
fn a_model_without_a_name() {
    let house = House::new();
    house.recipe(&vllm("", ""));
    let message = house.fails(["check", "./r.toml", "--gpu", "h100", "--set", "model.name="]);
    assert!(message.starts_with("error: --set: `model.name`: empty\n  expected: text, e.g. "), "{message}");
}

#[test]
fn a_simulated_profile_that_does_not_exist_or_cannot_serve() {
    let sim = |engine: &str| {
        format!(
            "[model]\nname = \"m\"\n[deploy]\nlauncher = \"sim\"\n[deploy.engine]\n{engine}\n[load]\nisl = 8\nosl = 4\n"
        )
    };
    let house = House::new();
    for (engine, start) in [
        (
            "profile = \"h1000\"",
            "error: ./r.toml:8: `deploy.engine.profile`: found \"h1000\"\n  expected: one of a10g, ",
        ),
        ("profile = \"h100/gpt-5\"", "error: ./r.toml:8: `deploy.engine.profile`: found \"gpt-5\"\n"),
        (
            "profile = \"nowhere.toml\"",
            "error: ./r.toml:8: `deploy.engine.profile`: --profile nowhere.toml: ",
        ),
        ("profile = \"h100/deepseek-r1\"", "error: default: `deploy.tp`: found 1\n  expected: more GPUs"),
        ("max_model_len = 999999999", "error: ./r.toml:8: `deploy.engine.max_model_len`: found 999999999\n"),
        ("max_num_seqs = 0", "error: ./r.toml:8: `deploy.engine.max_num_seqs`: found 0\n"),
    ] {
        house.recipe(&sim(engine));
        for verb in ["check", "run"] {
            let message = house.fails([verb, "./r.toml"]);
            assert!(message.starts_with(start), "{verb} {engine}: {message}");
        }
    }
}

#[test]
fn all_recipes_of_a_clone_are_sound_and_warn_of_nothing() {
    let house = House::new();
    let mut command = house.tokmark(["check", "--all"]);
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert!(!stderr.contains("warning"), "{stderr}");
}

#[test]
fn check_takes_the_gpu_type_of_the_site() {
    let house = House::new();
    house.file("site.toml", "schema = 1\ngpu = \"h100\"\n[gpus.h100]\nper_node = 8\n");
    let checked = |args: &[&str]| {
        let json = house.run([&["check", "--json", "--no-weights-check"], args].concat()).succeeds().json();
        let gpus = json.as_array().unwrap().iter().map(|plan| plan["gpu"].as_str().unwrap().to_owned());
        gpus.collect::<Vec<String>>()
    };
    let end = house.run(["check", "gpt-oss-120b-dynamo-trtllm"]).fails(2);
    assert!(end.stderr.contains("nothing for GPU type \"h100\" (site.toml)"), "{}", end.stderr);
    assert!(checked(&["--all"]).iter().all(|gpu| gpu == "h100"));
    house.recipe(&format!("{}[gpu.h100]\n[gpu.b200]\n", vllm("", "")));
    assert_eq!(checked(&["./r.toml"]), ["h100"]);
    assert_eq!(checked(&["./r.toml", "--gpu", "b200"]), ["b200"]);
}

#[test]
fn another_model_drops_the_sizes_of_the_recipes_own() {
    let house = House::new();
    let model = "[model]\nname = \"org/a\"\nsize = \"20b\"\nprecision = \"mxfp4\"\nweights_gib = 13.0\npath = \"/models/a\"\n";
    let rest = "[deploy]\nlauncher = \"sim\"\n[load]\nisl = 8\nosl = 4\n[knobs]\nMODEL = \"model.name\"\nDTYPE = \"model.precision\"\n";
    house.recipe(&format!("{model}{rest}"));
    let shown = |sets: &[&str], env: &[(&str, &str)]| {
        let json = house.run_with([&["show", "./r.toml", "--json"], sets].concat(), env).succeeds().json();
        let model = &json["resolved"]["model"];
        ["name", "path", "size", "precision"].map(|key| model[key].as_str().unwrap_or("-").to_owned())
    };
    assert_eq!(shown(&[], &[]), ["org/a", "/models/a", "20b", "mxfp4"]);
    assert_eq!(shown(&[], &[("MODEL", "org/a")]), ["org/a", "/models/a", "20b", "mxfp4"], "the same one");
    assert_eq!(shown(&[], &[("MODEL", "org/b")]), ["org/b", "-", "-", "-"]);
    assert_eq!(shown(&["--set", "model.name=org/b"], &[]), ["org/b", "-", "-", "-"]);
    assert_eq!(shown(&[], &[("MODEL", "org/b"), ("DTYPE", "fp8")]), ["org/b", "-", "-", "fp8"]);
    let sets = ["--set", "model.size=1b", "--set", "model.path=/models/b"];
    assert_eq!(shown(&sets, &[("MODEL", "org/b")]), ["org/b", "/models/b", "1b", "-"]);
}
