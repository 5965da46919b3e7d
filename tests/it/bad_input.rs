//! Bad input, case by case: exit code 2, a message that names file, line, key, what was found and what was expected, and
//! nothing left behind. The whole message is compared, because the message is the product here.

use std::net::TcpListener;

use crate::support::FakeSlurm;
use crate::support::house::{House, free_port};

const MODEL: &str = "[model]\nname = \"m\"\n";
const SIM: &str = "[deploy]\nlauncher = \"sim\"\n";
const LOAD: &str = "[load]\nisl = 8\nosl = 4\n";

/// A recipe that would run.
fn good() -> String {
    format!("{MODEL}{SIM}{LOAD}")
}

/// The message of `tokmark run` for a recipe, with more arguments.
#[track_caller]
fn run(recipe: &str, more: &[&str]) -> String {
    let house = House::new();
    house.recipe(recipe);
    house.fails(["run", "./r.toml"].iter().chain(more))
}

/// The message for a site file.
#[track_caller]
fn with_site(site: &str) -> String {
    let house = House::new();
    house.recipe(&good());
    house.file("s.toml", site);
    house.fails(["run", "./r.toml", "--site", "s.toml"])
}

macro_rules! says {
    ($message:expr, $expected:literal) => {
        let (message, expected): (String, &str) = ($message, $expected);
        assert_eq!(message.trim_end(), expected, "\n--- found\n{message}\n--- expected\n{expected}");
    };
}

#[test]
fn an_unknown_key_names_the_nearest() {
    says!(run(&format!("{MODEL}[deploy]\nlauncer = \"sim\"\n{LOAD}"), &[]),
"error: ./r.toml:6:1: `deploy.launcer`: unknown key `launcer`
  expected: one of launcher, tp, pp, dp, ep, attention_dp, replicas, prefill, decode, settings, prefix, client_node, head_node, colocate, port, url, metrics_url, connection, startup_timeout, progress_timeout, stop_grace, speculation, engine, env
  next: did you mean `launcher`?"
);
}

#[test]
fn a_wrong_type() {
    says!(
        run(&format!("{MODEL}{SIM}tp = \"four\"\n{LOAD}"), &[]),
        r#"error: ./r.toml:7:6: `deploy.tp`: found string "four"
  expected: a whole number, 0 or more"#
    );
}

#[test]
fn telemetry_out_of_range() {
    says!(
        run(&format!("{}[telemetry]\ninterval = \"1ms\"\ndcgm_url = \"node:9400\"\n", good()), &[]),
        r#"error: ./r.toml:11: `telemetry.interval`: found 0.001 s
  expected: between 0.1 s and 60 s
./r.toml:12: `telemetry.dcgm_url`: found "node:9400"
  expected: the URL of the page, e.g. http://127.0.0.1:9400/metrics"#
    );
}

#[test]
fn broken_toml() {
    says!(
        run(&format!("{MODEL}[deploy]\nlauncher = sim\n{LOAD}"), &[]),
        "error: ./r.toml:6:12: not TOML: string values must be quoted: found `launcher = sim`
  expected: literal string"
    );
}

#[test]
fn a_file_that_is_not_text() {
    let house = House::new();
    std::fs::write(house.path().join("r.toml"), [0xff, 0xfe, 0x00]).unwrap();
    says!(house.fails(["run", "./r.toml"]),
"error: ./r.toml: cannot be read: failed to read from file `./r.toml`: stream did not contain valid UTF-8
  expected: a readable TOML file in UTF-8"
);
}

#[test]
fn an_unknown_recipe() {
    says!(
        House::new().fails(["run", "quikstart"]),
        "error: quikstart: no recipe of this name, alias or file
  expected: a recipe file, name or alias
  next: did you mean `quickstart`? `tokmark list` shows all recipes"
    );
}

#[test]
fn a_recipe_file_that_is_not_there() {
    let house = House::new();
    says!(
        house.fails(["run", "./nothing.toml"]),
        "error: ./nothing.toml: there is no such file
  expected: a readable TOML file in UTF-8"
    );
    house.file("chat.toml", "");
    says!(
        house.fails(["check", "./chta.toml"]),
        "error: ./chta.toml: there is no such file
  expected: a readable TOML file in UTF-8
  next: did you mean `./chat.toml`?"
    );
    says!(
        house.fails(["submit", "-f", "suites/chat.toml"]),
        "error: suites/chat.toml: there is no such file
  expected: a readable TOML file in UTF-8
  next: correct the path: there is no folder suites"
    );
    for (args, near) in [
        (&["prompts", "--dataset", "jsonl:chat.tom"][..], "chat.toml`?"),
        (&["prompts", "--tokenizer", "nowhere"], "give the folder or the tokenizer.json of the model"),
        (&["zones", "--table", "chat.tml"], "did you mean `chat.toml`?"),
    ] {
        let message = house.fails(args.to_vec());
        assert!(message.contains(": there is no such file\n  expected: a"), "{message}");
        assert!(message.contains(near), "{message}");
    }
}

#[test]
fn two_values_of_one_key_on_the_command_line() {
    let of = |first: &str, second: &str| run(&good(), &["--set", first, "--set", second]);
    says!(
        of("load.isl=32", "load.isl=64"),
        "error: --set load.isl=32: --set load.isl=64 after it would replace it
  expected: one value of a key, and one of the keys that exclude each other
  next: leave out one of them; several load points are a list: load.concurrency=[1,2]"
    );
    for (first, second) in [
        ("load.concurrency=4", "load.rate=2"),
        ("load.requests=5", "load.duration=10s"),
        ("deploy.engine.max-num-seqs=4", "deploy.engine.max_num_seqs=5"),
    ] {
        let message = of(first, second);
        assert!(message.starts_with(&format!("error: --set {first}: --set {second} after it ")), "{message}");
    }
    let house = House::new();
    house.recipe(&good());
    house.run(["check", "./r.toml", "--set", "load.isl=32", "--set", "load.isl=32"]).succeeds();
}

#[test]
fn a_recipe_without_what_every_recipe_needs() {
    let house = House::new();
    house.file("r.toml", "schema = 2\n[load]\nisl = 1\n");
    says!(
        house.fails(["run", "./r.toml"]),
        "error: ./r.toml:1: `schema`: found 2
  expected: schema = 1
./r.toml: `name`: missing
  expected: lower-case letters, digits, `.`, `_` and `-`
./r.toml: `deploy.launcher`: missing
  expected: a launcher, see `tokmark list --launchers`"
    );
}

#[test]
fn an_unknown_launcher() {
    says!(
        run(&format!("{MODEL}[deploy]\nlauncher = \"vlm\"\n{LOAD}"), &[]),
        r#"error: ./r.toml:6: `deploy.launcher`: no launcher "vlm"
  expected: one of attach, dynamo-mocker, dynamo-trtllm, dynamo-vllm, sglang, sim, trtllm-serve, vllm
  next: did you mean `vllm`?"#
    );
}

#[test]
fn an_unknown_gpu_type() {
    says!(
        run(&good(), &["--gpu", "h10"]),
        r#"error: --gpu: unknown GPU type "h10"
  expected: one of a100, a10g, b200, gb200, gb300, gh200, h100, h200
  next: did you mean `h100`?"#
    );
}

#[test]
fn a_recipe_without_a_value_for_the_chosen_gpu() {
    says!(
        run(&format!("{}[gpu.h100.container]\nimage = \"x\"\n", good()), &["--gpu", "b200"]),
        r#"error: ./r.toml:10: `gpu.b200`: nothing for GPU type "b200"
  expected: one of h100
  next: choose --gpu h100, or add a [gpu.b200] section"#
    );
}

#[test]
fn a_site_of_another_gpu_type_than_the_recipes_only_one() {
    let house = House::new();
    house.recipe(&format!("{}[gpu.a10g.load]\n", good()));
    house.file("s.toml", "schema = 1\ngpu = \"gb200\"\n");
    says!(
        house.fails(["run", "./r.toml", "--site", "s.toml"]),
        "error: ./r.toml:10: `gpu.gb200`: nothing for GPU type \"gb200\" (s.toml)
  expected: one of a10g
  next: choose --gpu a10g, or add a [gpu.gb200] section"
    );
}

#[test]
fn a_recipe_for_several_gpus_and_none_chosen() {
    says!(
        run(&format!("{}[gpu.gb200.load]\n[gpu.b200.load]\n", good()), &[]),
        "error: ./r.toml:10: `gpu`: written for several GPU types
  expected: one of b200, gb200
  next: choose one: --gpu b200"
    );
}

#[test]
fn a_share_of_the_load_that_is_none() {
    let house = House::new();
    let end = house.run(["run", "quickstart", "--scale-load", "1.5"]).fails(2);
    assert!(end.stderr.contains("'--scale-load <SHARE>': expected a share above 0"), "{}", end.stderr);
    house.is_untouched();
}

#[test]
fn a_file_of_prompts_without_its_format() {
    says!(
        run(&format!("{MODEL}{SIM}[load]\nosl = 4\n[load.prompts.dataset]\npath = \"p.jsonl\"\n"), &[]),
        "error: ./r.toml: `load.prompts.dataset.kind`: missing
  expected: one of dolly, sharegpt, openassistant, jsonl"
    );
}

#[test]
fn a_trace_with_an_impossible_clock_and_limit() {
    let trace = "[load.prompts.trace]\nkind = \"azure\"\npath = \"t.csv\"\nspeedup = 0\nmax_isl = 0\n";
    says!(
        run(&format!("{MODEL}{SIM}{trace}"), &[]),
        "error: ./r.toml:10: `load.prompts.trace.speedup`: found 0
  expected: a number above 0
./r.toml:11: `load.prompts.trace.max_isl`: found 0
  expected: 1 or more"
    );
}

#[test]
fn a_launcher_that_needs_gpus_and_no_type_chosen() {
    says!(
        run(&format!("{MODEL}[deploy]\nlauncher = \"vllm\"\n{LOAD}"), &[]),
        r#"error: ./r.toml: `gpu`: no GPU type chosen, and launcher "vllm" needs GPUs
  expected: one of a100, a10g, b200, gb200, gb300, gh200, h100, h200
  next: give --gpu TYPE, or set `gpu` in the site file"#
    );
}

#[test]
fn sizes_that_do_not_fit_the_nodes() {
    let deploy = |text: &str| {
        run(&format!("{MODEL}[deploy]\nlauncher = \"vllm\"\n{text}\n{LOAD}"), &["--gpu", "h100"])
    };
    says!(
        deploy("tp = 12"),
        r#"error: ./r.toml:7: `deploy.tp`: a replica needs tp × pp × dp = 12 × 1 × 1 = 12 GPUs, and 12 / 8 leaves 4: more than a node must be whole nodes of 8
  next: make tp × pp × dp 8 or 16"#
    );
    says!(
        deploy("tp = 16\ndp = 2"),
        r#"error: ./r.toml:7: `deploy.tp`: a data-parallel rank must fit on a node: tp × pp = 16 × 1 = 16 GPUs, but a node has 8"#
    );
}

#[test]
fn more_replicas_than_a_launcher_can_route_to() {
    says!(
        run(&format!("{MODEL}{SIM}replicas = 65\n{LOAD}"), &[]),
        r#"error: ./r.toml:7: `deploy.replicas`: found 65
  expected: at most 64 replicas behind launcher "sim""#
    );
}

#[test]
fn a_size_of_zero() {
    says!(
        run(&format!("{MODEL}{SIM}tp = 0\n{LOAD}"), &[]),
        "error: ./r.toml:7: `deploy.tp`: found 0
  expected: 1 or more"
    );
}

#[test]
fn a_port_that_is_taken() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port().to_string();
    let message = run(&format!("{MODEL}{SIM}port = {port}\n{LOAD}"), &[]);
    says!(
        message.replace(&port, "PORT"),
        "error: 127.0.0.1:PORT: `deploy.port`: the port cannot be used: Address already in use (os error 98)
  expected: a free port
  next: stop what listens there, choose another port, or leave out deploy.port and let tokmark pick one"
    );
}

#[test]
fn weights_that_are_not_there() {
    let recipe = format!("{MODEL}path = \"/no/such/weights\"\n[deploy]\nlauncher = \"vllm\"\n{LOAD}");
    says!(
        run(&recipe, &["--gpu", "h100"]),
        r#"error: ./r.toml:5: `model.path`: the weights folder "/no/such/weights" does not exist here
  expected: a folder with the model's weights
  next: correct the path, or leave it out to let the engine find the model by name"#
    );
    let house = House::new();
    house.recipe(&recipe);
    says!(
        house.fails(["submit", "./r.toml", "--gpu", "h100"]),
        r#"error: ./r.toml:5: `model.path`: the weights folder "/no/such/weights" does not exist here
  expected: a folder with the model's weights
  next: correct the path, or leave it out to let the engine find the model by name"#
    );
}

#[test]
fn weights_that_are_not_where_a_mount_takes_them_from() {
    let house = House::new();
    house.recipe(&format!(
        "{MODEL}path = \"/models/m\"\n[deploy]\nlauncher = \"vllm\"\n[container]\nimage = \"i\"\n{LOAD}"
    ));
    house
        .file("site.toml", "schema = 1\n[container]\nruntime = \"pyxis\"\nmounts = [\"/no/such:/models\"]\n");
    says!(
        house.fails(["submit", "./r.toml", "--gpu", "h100"]),
        r#"error: ./r.toml:5: `model.path`: the weights folder "/no/such/m" does not exist here
  expected: a folder with the model's weights
  next: correct the path, or leave it out to let the engine find the model by name"#
    );
}

#[test]
fn weights_missing_at_the_path_of_the_site() {
    let house = House::new();
    house.recipe(&format!("{MODEL}[deploy]\nlauncher = \"vllm\"\n{LOAD}"));
    house.file("site.toml", "schema = 1\n\n[models]\nm = \"/no/such/weights\"\n");
    for verb in ["run", "submit", "check"] {
        says!(
            house.fails([verb, "./r.toml", "--gpu", "h100"]),
            r#"error: site.toml:4: `models.m`: the weights folder "/no/such/weights" does not exist here
  expected: a folder with the model's weights
  next: correct the path, or leave it out to let the engine find the model by name"#
        );
    }
    house.run(["check", "./r.toml", "--gpu", "h100", "--no-weights-check"]).succeeds();
}

#[test]
fn an_image_that_is_not_there() {
    let house = House::new();
    let recipe = |image: &str| {
        house.recipe(&format!(
            "{MODEL}[deploy]\nlauncher = \"vllm\"\n{LOAD}[container]\nimage = \"{image}\"\n"
        ));
    };
    recipe("/no/such.sqsh");
    house.file("site.toml", "schema = 1\n[container]\nruntime = \"pyxis\"\n");
    for verb in ["check", "submit"] {
        says!(
            house.fails([verb, "./r.toml", "--gpu", "h100"]),
            r#"error: ./r.toml:11: `container.image`: the image "/no/such.sqsh" does not exist here
  expected: a whole .sqsh or .sif file
  next: correct the path; if only compute nodes see it, give --no-weights-check"#
        );
        let args = [verb, "./r.toml", "--gpu", "h100", "--no-weights-check"];
        let end =
            if verb == "submit" { house.run([&args[..], &["--dry-run"]].concat()) } else { house.run(args) };
        end.succeeds();
    }
    recipe("vllm/vllm-openai:v1");
    house.run(["check", "./r.toml", "--gpu", "h100"]).succeeds();
    // A relative path is taken from the file that names it.
    let image = house.file("images/v1.sqsh", &format!("hsqs{}", "\0".repeat(60)));
    house.file(
        "images/site.toml",
        "schema = 1\n[container]\nruntime = \"pyxis\"\n[gpus.h100.images]\n\"vllm/vllm-openai:v1\" = \"./v1.sqsh\"\n",
    );
    let args = ["check", "./r.toml", "--gpu", "h100", "--site", "images/site.toml"];
    house.run(args).succeeds();
    house.file("images/v1.sqsh", &format!("hsqs{}@{}", "\0".repeat(36), "\0".repeat(22)));
    says!(
        house.fails(args),
        r#"error: images/site.toml:5: `gpus.h100.images.vllm/vllm-openai:v1`: the image HOUSE/images/v1.sqsh is truncated: 63 bytes, and its superblock says 64
  expected: a whole .sqsh or .sif file
  next: copy or import it again, or correct the path"#
    );
    std::fs::remove_file(image).unwrap();
    says!(
        house.fails(args),
        r#"error: images/site.toml:5: `gpus.h100.images.vllm/vllm-openai:v1`: the image "HOUSE/images/v1.sqsh" does not exist here
  expected: a whole .sqsh or .sif file
  next: correct the path; if only compute nodes see it, give --no-weights-check"#
    );
}

#[test]
fn a_site_file_with_numbers_and_names_that_cannot_be() {
    says!(
        with_site(
            "schema = 1\n[slurm]\nclear_env = [\"SBATCH_*\", \"A B\", \"*\"]\n[gpus.h100]\nper_node = 0\nnodes_per_domain = 0\n"
        ),
        r#"error: s.toml:5: `gpus.h100.per_node`: found 0
  expected: 1 or more
s.toml:6: `gpus.h100.nodes_per_domain`: found 0
  expected: 1 or more
s.toml:3: `slurm.clear_env`: found "A B"
  expected: the name of a variable, or its beginning and a `*`: "SBATCH_*"
s.toml:3: `slurm.clear_env`: found "*"
  expected: the name of a variable, or its beginning and a `*`: "SBATCH_*""#
    );
}

#[test]
fn a_template_of_a_users_launcher_that_does_not_render() {
    let launcher = |argv: &str| {
        format!(
            "schema = 1\nname = \"mine\"\nsummary = \"s\"\n[endpoint]\nrole = \"server\"\nport = \"http\"\n[[role]]\n\
             name = \"server\"\nplacement = \"head\"\nargv = {argv}\nports = {{ http = 8000 }}\n"
        )
    };
    let house = House::new();
    house.recipe(&format!("{MODEL}[deploy]\nlauncher = \"mine\"\n{LOAD}"));
    house.file("launchers/mine.toml", &launcher("[\"server\", \"{{ modle.name }}\"]"));
    for verb in ["run", "submit", "check", "render"] {
        says!(house.fails([verb, "./r.toml"]),
"error: ./launchers/mine.toml: `role.server.argv`: Variable `modle` is not defined. Available variables: deploy, dirs, disaggregated, dp_local, dp_rank, engine, files, gpu, gpus, host, index, ip, leader, leaders, load, model, name, node_count, nodes, peers, pools, port, process_nodes, processes, rank, ranks, replica, replicas, run_id, settings, tasks, tokmark
 --> template:1:4
  |
1 | {{ modle.name }}
  |    ^^^^^"
);
    }
    house.file("launchers/mine.toml", &launcher("[\"server\", \"{{ model.name \"]"));
    says!(
        house.fails(["run", "./r.toml"]),
        "error: ./launchers/mine.toml: `role.server.argv`: Unexpected end of input
 --> template:1:14
  |
1 | {{ model.name 
  |              ^"
    );
    house.file("launchers/mine.toml", &launcher("[]"));
    says!(
        house.fails(["run", "./r.toml"]),
        "error: ./launchers/mine.toml:10: `role.server.argv`: empty; the first entry is the program"
    );
    house.file("launchers/mine.toml", &launcher("\"server --port 1\""));
    says!(
        house.fails(["run", "./r.toml"]),
        r#"error: ./launchers/mine.toml:10:8: `role.argv`: found string "server --port 1"
  expected: a list"#
    );
}

#[test]
fn a_site_file_that_does_not_parse_is_never_a_silent_default() {
    says!(
        with_site("schema = 1\n[slurm\n"),
        "error: s.toml:2:7: not TOML: unclosed table: found `[slurm`
  expected: `]`"
    );
}

#[test]
fn a_site_file_with_an_unknown_key() {
    says!(
        with_site("schema = 1\n[slurm]\npartion = \"gpu\"\n"),
        "error: s.toml:3:1: `slurm.partion`: unknown key `partion`
  expected: one of partition, account, qos, reservation, constraint, gres, exclusive, mem, mpi, directives, setup, clear_env, srun
  next: did you mean `partition`?"
    );
}

#[test]
fn a_site_file_of_another_schema() {
    says!(
        with_site("schema = 2\n"),
        "error: s.toml:1: `schema`: found 2
  expected: schema = 1"
    );
    says!(
        with_site("name = \"x\"\n"),
        "error: s.toml: `schema`: missing
  expected: schema = 1"
    );
}

#[test]
fn a_site_file_with_an_unknown_value() {
    says!(
        with_site("schema = 1\n[container]\nruntime = \"docker\"\n"),
        "error: s.toml:3:11: `container.runtime`: unknown value `docker`
  expected: one of none, pyxis, apptainer"
    );
}

#[test]
fn a_site_file_that_was_named_and_is_not_there() {
    let house = House::new();
    says!(
        house.fails(["run", "quickstart", "--site", "nowhere.toml"]),
        "error: nowhere.toml: there is no such file
  expected: a readable TOML file in UTF-8
  next: write a site file (docs/sites.md), or leave out --site to run with defaults"
    );
    let end = house.run_with(["list"], &[("TOKMARK_SITE", "nowhere.toml")]);
    assert_eq!(end.code, Some(0), "a verb that reads no site does not mind: {end:?}");
    let end = house.run_with(["run", "quickstart"], &[("TOKMARK_SITE", "nowhere.toml")]).fails(2);
    assert!(end.stderr.contains("nowhere.toml"), "{}", end.stderr);
    house.is_untouched();
}

#[test]
fn a_site_file_in_the_folder_counts_without_being_named() {
    let house = House::new();
    house.file("site.toml", "schema = 1\ngpus = 3\n");
    says!(
        house.fails(["run", "quickstart"]),
        "error: site.toml:2:8: `gpus`: found integer `3`
  expected: a table"
    );
}

#[test]
fn bad_assignments() {
    says!(
        run(&good(), &["--set", "load.concurrency"]),
        "error: --set load.concurrency: no `=`
  expected: --set key=value"
    );
    says!(run(&good(), &["--set", "load.concurency=3"]),
"error: --set load.concurency=3: `load.concurency`: unknown key `concurency`
  expected: one of isl, isl_stddev, osl, osl_stddev, length_range, mix, prompts, concurrency, rate, stages, start_concurrency, start_rate, arrival, max_concurrency, when_full, requests, requests_per_concurrency, duration, at_end, drain_timeout, warmup_requests, warmup_per_concurrency, warmup_duration, repeats, until, streaming, endpoint, ignore_eos, seed, request_timeout, stall_timeout, connect_timeout, first_token_timeout, max_tokens_field, continuous_usage_stats, slo, exports, extra_body
  next: did you mean `concurrency`?"
);
    says!(
        run(&good(), &["--set", "load.concurrency=many"]),
        r#"error: --set load.concurrency=many: `load.concurrency`: found string "many"
  expected: a whole number above 0, or a list of them"#
    );
    says!(
        run(&good(), &["--set", "load.concurrency=0"]),
        "error: --set load.concurrency=0: `load.concurrency`: found integer `0`
  expected: a whole number above 0, or a list of them"
    );
    says!(
        run(&good(), &["--set", "=3"]),
        r#"error: --set =3: "" is not a dotted key such as load.concurrency"#
    );
    says!(
        run(&good(), &["--set", "a b=3"]),
        r#"error: --set a b=3: "a b" is not a dotted key such as load.concurrency"#
    );
}

#[test]
fn a_bad_knob_in_the_environment() {
    let house = House::new();
    house.recipe(&format!("{}[knobs]\nCONCURRENCY = \"load.concurrency\"\n", good()));
    let end = house.run_with(["run", "./r.toml"], &[("CONCURRENCY", "lots")]).fails(2);
    house.is_untouched();
    says!(
        end.stderr,
        r#"error: $CONCURRENCY: `load.concurrency`: found string "lots"
  expected: a whole number above 0, or a list of them"#
    );
}

#[test]
fn a_knob_for_a_key_that_is_none() {
    let house = House::new();
    house.recipe(&format!("{}[knobs]\nCONCURRENCY = \"load.concurency\"\n", good()));
    let end = house.run_with(["run", "./r.toml"], &[("CONCURRENCY", "3")]).fails(2);
    house.is_untouched();
    says!(end.stderr,
"error: $CONCURRENCY: `load.concurency`: unknown key `concurency`
  expected: one of isl, isl_stddev, osl, osl_stddev, length_range, mix, prompts, concurrency, rate, stages, start_concurrency, start_rate, arrival, max_concurrency, when_full, requests, requests_per_concurrency, duration, at_end, drain_timeout, warmup_requests, warmup_per_concurrency, warmup_duration, repeats, until, streaming, endpoint, ignore_eos, seed, request_timeout, stall_timeout, connect_timeout, first_token_timeout, max_tokens_field, continuous_usage_stats, slo, exports, extra_body
  next: did you mean `concurrency`?"
);
}

#[test]
fn an_empty_axis() {
    says!(
        run(&format!("{}[sweep.load]\nisl_stddev = []\n", good()), &[]),
        "error: ./r.toml:11: `sweep.load.isl_stddev`: an empty list
  expected: at least one value"
    );
    says!(
        run(&format!("{MODEL}{SIM}[load]\nisl = 8\nosl = 4\nconcurrency = []\n"), &[]),
        "error: ./r.toml:10:15: `load.concurrency`: length: found 0
  expected: a whole number above 0, or a list of them"
    );
    says!(
        run(&format!("{}[sweep.server]\ntp = 3\n", good()), &[]),
        "error: ./r.toml:11: `sweep.server.tp`: found 3
  expected: a list of values, e.g. [1, 2, 4]"
    );
}

#[test]
fn an_axis_that_is_none() {
    says!(run(&format!("{}[sweep.server]\ntpp = [1, 2]\n", good()), &[]),
"error: ./r.toml:11: `sweep.server.tpp`: unknown key `tpp`
  expected: one of launcher, tp, pp, dp, ep, attention_dp, replicas, prefill, decode, settings, prefix, client_node, head_node, colocate, port, url, metrics_url, connection, startup_timeout, progress_timeout, stop_grace, speculation, engine, env
  next: did you mean `tp`?"
);
    says!(
        run(&format!("{}[sweep.load]\nconcurrency = [1, \"two\"]\n", good()), &[]),
        r#"error: ./r.toml:11: `sweep.load.concurrency`: found string "two"
  expected: a whole number above 0, or a list of them"#
    );
}

#[test]
fn a_sweep_of_too_many() {
    let list: Vec<String> = (1..=40).map(|n| n.to_string()).collect();
    let list = list.join(", ");
    says!(
        run(&format!("{MODEL}{SIM}[load]\nisl = [{list}]\nosl = [{list}]\n"), &[]),
        "error: ./r.toml: `sweep.load`: more than 1000 combinations
  next: split the sweep into several recipes"
    );
}

#[test]
fn a_load_point_that_occurs_twice() {
    says!(
        run(&format!("{MODEL}{SIM}{LOAD}concurrency = [1, 4, 1]\n"), &[]),
        "error: ./r.toml:10: `load.concurrency`: the value 1 occurs twice
  next: remove the value at place 3 of the list"
    );
}

#[test]
fn a_concurrency_of_zero() {
    says!(
        run(&format!("{MODEL}{SIM}{LOAD}concurrency = 0\n"), &[]),
        "error: ./r.toml:10:15: `load.concurrency`: found integer `0`
  expected: a whole number above 0, or a list of them"
    );
    says!(
        run(&format!("{MODEL}{SIM}{LOAD}concurrency = [1, 0]\n"), &[]),
        "error: ./r.toml:10:15: `load.concurrency`: found integer `0`
  expected: a whole number above 0, or a list of them"
    );
}

#[test]
fn a_load_that_sends_nothing() {
    says!(
        run(&format!("{MODEL}{SIM}{LOAD}requests = 0\n"), &[]),
        "error: ./r.toml:10: `load.requests`: found 0: nothing would be sent
  expected: more than 0"
    );
    says!(
        run(&format!("{MODEL}{SIM}{LOAD}duration = \"0s\"\n"), &[]),
        "error: ./r.toml:10: `load.duration`: found 0: nothing would be sent
  expected: more than 0"
    );
    says!(
        run(&format!("{MODEL}{SIM}[load]\nosl = 4\n"), &[]),
        "error: ./r.toml: `load.isl`: missing
  expected: a number of tokens, or a list of them"
    );
}

#[test]
fn two_ends_or_two_warm_ups_in_one_layer() {
    says!(
        run(&format!("{MODEL}{SIM}{LOAD}requests = 5\nduration = \"5s\"\n"), &[]),
        "error: ./r.toml:11: `load.duration`: found beside load.requests
  expected: one of requests, requests_per_concurrency, duration
  next: remove requests or duration"
    );
    says!(
        run(&format!("{MODEL}{SIM}{LOAD}warmup_requests = 5\nwarmup_duration = \"5s\"\n"), &[]),
        "error: ./r.toml:11: `load.warmup_duration`: found beside load.warmup_requests
  expected: one of warmup_requests, warmup_per_concurrency, warmup_duration
  next: remove warmup_requests or warmup_duration"
    );
}

#[test]
fn a_length_of_time_that_is_none() {
    says!(
        run(&format!("{MODEL}{SIM}{LOAD}duration = \"5 parsecs\"\n"), &[]),
        r#"error: ./r.toml:10:12: `load.duration`: "5 parsecs" is not a length of time like 500ms, 30s, 5m, 1h or 01:00:00"#
    );
}

#[test]
fn an_engine_option_the_launcher_does_not_know() {
    let recipe = format!(
        "{MODEL}[deploy]\nlauncher = \"dynamo-trtllm\"\n[deploy.engine]\nmax_bach_size = 8\nmax_batch_size = 8\nmax_num_tokens = 8\nkv_cache_free_gpu_mem_fraction = 0.5\n{LOAD}"
    );
    says!(
        run(&recipe, &["--gpu", "gb200"]),
        r#"error: ./r.toml:8: `deploy.engine.max_bach_size`: launcher "dynamo-trtllm" has no such option
  expected: one of allreduce_strategy, cache_transceiver_backend, cache_transceiver_max_tokens, cuda_graph_batch_sizes, cuda_graph_max_batch_size, disable_overlap_scheduler, enable_block_reuse, enable_chunked_prefill, kv_cache_dtype, kv_cache_free_gpu_mem_fraction, max_batch_size, max_num_tokens, max_seq_len, moe_backend, moe_max_num_tokens, mtp_layers, num_postprocess_workers, stream_interval, yaml
  next: did you mean `max_batch_size`?"#
    );
}

#[test]
fn an_engine_option_the_templates_need() {
    let recipe =
        format!("{MODEL}[deploy]\nlauncher = \"dynamo-trtllm\"\n[deploy.engine]\nmax_batch_size = 8\n{LOAD}");
    says!(
        run(&recipe, &["--gpu", "gb200"]),
        r#"error: ./r.toml: `deploy.engine.kv_cache_free_gpu_mem_fraction`: missing, and launcher "dynamo-trtllm" needs it"#
    );
}

#[test]
fn a_secret_written_out() {
    says!(
        run(&format!("{MODEL}{SIM}[deploy.env]\nHF_TOKEN = \"hf_secret_value\"\n{LOAD}"), &[]),
        r#"error: ./r.toml:8: `deploy.env.HF_TOKEN`: a secret written out; it would end up in scripts and results
  expected: a reference such as "env:HF_TOKEN" or "file:/path""#
    );
}

#[test]
fn a_secret_among_engine_options() {
    says!(
        run(
            &format!("{MODEL}[deploy]\nlauncher = \"vllm\"\n[deploy.engine]\napi_key = \"env:KEY\"\n{LOAD}"),
            &["--gpu", "h100"]
        ),
        r#"error: ./r.toml:8: `deploy.engine.api_key`: a secret among engine options, which become arguments and files that anybody can read
  expected: the engine's environment variable for it
  next: set it below deploy.env, by reference: NAME = "env:NAME" or "file:/path""#
    );
}

#[test]
fn a_secret_that_is_not_there() {
    let recipe = format!("{MODEL}{SIM}[deploy.env]\nHF_TOKEN = \"env:NO_SUCH_TOKEN\"\n{LOAD}");
    says!(
        run(&recipe, &[]),
        r#"error: ./r.toml:8: `deploy.env.HF_TOKEN`: found "env:NO_SUCH_TOKEN": no such environment variable here
  next: export NO_SUCH_TOKEN first"#
    );
}

#[test]
fn attach_without_a_url() {
    says!(
        run(&format!("{MODEL}[deploy]\nlauncher = \"attach\"\n{LOAD}"), &[]),
        "error: ./r.toml: `deploy.url`: missing
  expected: the URL of the endpoint, e.g. http://127.0.0.1:8000
  next: add it to the recipe, or give --set deploy.url=URL"
    );
    says!(
        run(&format!("{MODEL}[deploy]\nlauncher = \"attach\"\nurl = \"here:80:80\"\n{LOAD}"), &[]),
        r#"error: ./r.toml:7: `deploy.url`: found "here:80:80"
  expected: a URL such as http://host:8000"#
    );
}

#[test]
fn every_mistake_of_a_class_is_named_at_once() {
    let recipe = format!("{MODEL}{SIM}tp = 0\nreplicas = 300\n[deploy.env]\nAPI_KEY = \"x\"\n{LOAD}");
    says!(
        run(&recipe, &[]),
        r#"error: ./r.toml:10: `deploy.env.API_KEY`: a secret written out; it would end up in scripts and results
  expected: a reference such as "env:API_KEY" or "file:/path"
./r.toml:7: `deploy.tp`: found 0
  expected: 1 or more
./r.toml:8: `deploy.replicas`: found 300
  expected: at most 64 replicas behind launcher "sim""#
    );
}

#[test]
fn bench_without_sense() {
    let house = House::new();
    let bench = |more: &[&str]| house.fails(["bench", "--model", "m"].iter().chain(more));
    says!(
        bench(&["--url", "not a url"]),
        r#"error: --url: found "not a url"
  expected: a URL such as http://host:8000"#
    );
    says!(
        bench(&["--url", "ftp://h:1"]),
        r#"error: --url: found "ftp://h:1"
  expected: a URL such as http://host:8000"#
    );
    let url = ["--url", "http://127.0.0.1:1"];
    let with = |more: &[&str]| bench(&[&url[..], more].concat());
    says!(
        with(&["--slo", "ttft=3"]),
        r#"error: invalid value 'ttft=3' for '--slo <LIST>': "ttft=3" is not name:limit, e.g. ttft:500ms

For more information, try '--help'."#
    );
    says!(
        with(&["--slo", "ttft:10"]),
        r#"error: invalid value 'ttft:10' for '--slo <LIST>': 10 has no unit: write 10ms or 10s; other tools mean ms

For more information, try '--help'."#
    );
    says!(
        with(&["--slo", "tfft:3ms"]),
        r#"error: invalid value 'tfft:3ms' for '--slo <LIST>': unknown objective "tfft", expected ttft, itl or e2e; did you mean `ttft`?

For more information, try '--help'."#
    );
    says!(with(&["--extra-body", "[1]"]),
"error: invalid value '[1]' for '--extra-body <JSON>': not a JSON object: invalid type: sequence, expected a map at line 1 column 0

For more information, try '--help'."
);
    says!(
        with(&["--header", "no-colon"]),
        "error: --header: no `:` in it
  expected: NAME:VALUE"
    );
    says!(
        with(&["--header", "Authorization: env:NO_SUCH"]),
        r#"error: --header Authorization: found "env:NO_SUCH": no such environment variable here
  next: export NO_SUCH first"#
    );
    says!(
        with(&["--header", "bad name: x"]),
        r#"error: --header bad name: "bad name" is no name of a header
  expected: letters, digits, `-`, `_` and `.`"#
    );
    says!(
        with(&["--header", "X-Note: a\nb"]),
        r#"error: --header X-Note: header "X-Note" has a name or a value that HTTP does not allow"#
    );
    says!(
        with(&["--header", "Authorization: Bearer sk-1"]),
        "error: --header Authorization: a secret is given as env:NAME or file:PATH, not written out
  next: put the whole value into a variable, and its name behind env:"
    );
    says!(
        with(&["--concurrency", "0"]),
        "error: invalid value '0' for '--concurrency <LIST>': expected a whole number from 1 on

For more information, try '--help'."
    );
    says!(
        with(&["--concurrency", "1,x"]),
        "error: invalid value 'x' for '--concurrency <LIST>': expected a whole number from 1 on

For more information, try '--help'."
    );
    says!(
        with(&["--requests", "3", "--duration", "5s"]),
        "error: the argument '--requests <N>' cannot be used with '--duration <TIME>'

Usage: tokmark bench --url <URL> --model <NAME> --requests <N>

For more information, try '--help'."
    );
    says!(
        with(&["--duration", "0s", "--out", "o"]),
        "error: --duration: found 0: nothing would be sent
  expected: more than 0"
    );
}

#[test]
fn bench_connection_options_that_do_not_fit() {
    let house = House::new();
    let bench = |more: &[&str]| house.fails(["bench", "--model", "m"].iter().chain(more));
    says!(
        bench(&["--url", "http://127.0.0.1:1,127.0.0.1:2"]),
        r#"error: --url: found "127.0.0.1:2"
  expected: a URL such as http://host:8000
  next: write http://127.0.0.1:2"#
    );
    says!(
        bench(&["--url", "http://127.0.0.1:1", "--url", "http://user:secret@h:2"]),
        r#"error: --url: a secret written out; it would end up in scripts and results
  expected: a URL without user name, password and key
  next: give deploy.connection.headers.Authorization = "env:NAME""#
    );
    let with = |more: &[&str]| bench(&[&["--url", "https://127.0.0.1:1"], more].concat());
    says!(
        with(&["--ca-file", "no.pem"]),
        "error: --ca-file: CA file HOUSE/no.pem: No such file or directory (os error 2); expected certificates in PEM (-----BEGIN CERTIFICATE-----)"
    );
    house.file("key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let message =
        house.run(["bench", "--model", "m", "--url", "https://127.0.0.1:1", "--ca-file", "key.pem"]).fails(2);
    says!(
        house.plain(&message.stderr),
        "error: --ca-file: CA file HOUSE/key.pem: a private key and no certificate; expected certificates in PEM (-----BEGIN CERTIFICATE-----)"
    );
    std::fs::remove_file(house.path().join("key.pem")).unwrap();
    says!(
        with(&["--ca-file", "ca.pem", "--insecure"]),
        "error: the argument '--ca-file <FILE>' cannot be used with '--insecure'

Usage: tokmark bench --url <URL> --model <NAME> --ca-file <FILE>

For more information, try '--help'."
    );
    says!(
        with(&["--insecure", "--proxy", "proxy"]),
        r#"error: --proxy: found "proxy"
  expected: off, environment, or a URL such as http://proxy:3128"#
    );
    says!(
        with(&["--api-key", "sk-written-out"]),
        "error: invalid value 'sk-written-out' for '--api-key <REF>': a secret is given as env:NAME or file:PATH, not written out

For more information, try '--help'."
    );
    says!(
        with(&["--insecure", "--first-token-timeout", "0s"]),
        "error: --first-token-timeout: found 0: every request would fail
  expected: more than 0"
    );
    says!(
        with(&["--insecure", "--endpoint", "completions", "--max-tokens-field", "max_completion_tokens"]),
        "error: --max-tokens-field: found max_completion_tokens with the endpoint `completions`
  expected: max_tokens or auto: the completions endpoint knows no other"
    );
}

#[test]
fn connection_options_that_do_not_fit() {
    let attach = |url: &str, connection: &str, load: &str| {
        run(
            &format!(
                "{MODEL}[deploy]\nlauncher = \"attach\"\nurl = {url}\n[deploy.connection]\n{connection}\n{LOAD}{load}"
            ),
            &[],
        )
    };
    let url = "\"https://127.0.0.1:1\"";
    says!(
        attach(r#"["http://127.0.0.1:1", "127.0.0.1:2"]"#, "", ""),
        r#"error: ./r.toml:7: `deploy.url`: found "127.0.0.1:2"
  expected: a URL such as http://host:8000
  next: write http://127.0.0.1:2"#
    );
    says!(
        attach(r#""http://127.0.0.1:1/v1#top""#, "", ""),
        r#"error: ./r.toml:7: `deploy.url`: found "http://127.0.0.1:1/v1#top"
  expected: a URL such as http://host:8000
  next: leave out #top"#
    );
    says!(
        attach(r#""http://127.0.0.1:1/v1/completions""#, "", "endpoint = \"chat\"\n"),
        r#"error: ./r.toml:7: `deploy.url`: names another endpoint than load.endpoint, which is chat
  next: leave out load.endpoint (--endpoint, --endpoint-type), or name the same endpoint"#
    );
    says!(
        attach(r#"["http://127.0.0.1:1", "http://127.0.0.1:1/v1/"]"#, "", ""),
        r#"error: ./r.toml:7: `deploy.url`: found "http://127.0.0.1:1/v1/" twice
  expected: each URL once"#
    );
    says!(
        attach(url, "path = \"https://h/v1beta/openai/chat/completions\"", ""),
        r#"error: ./r.toml:9: `deploy.connection.path`: found "https://h/v1beta/openai/chat/completions"
  expected: a path such as /v1beta/openai/chat/completions"#
    );
    says!(
        attach(r#"["http://h:1", "http://h:1"]"#, "", ""),
        r#"error: ./r.toml:7: `deploy.url`: found "http://h:1" twice
  expected: each URL once"#
    );
    says!(
        attach(r#""http://user:secret@h:1""#, "", ""),
        r#"error: ./r.toml:7: `deploy.url`: a secret written out; it would end up in scripts and results
  expected: a URL without user name, password and key
  next: give deploy.connection.headers.Authorization = "env:NAME""#
    );
    says!(
        attach(url, "ca_file = \"ca.pem\"\ninsecure = true", ""),
        r#"error: ./r.toml:9: `deploy.connection.ca_file`: found "ca.pem"
  expected: an absolute path
./r.toml:10: `deploy.connection.insecure`: found beside ca_file
  expected: one of them: trust the authorities in a file, or any certificate"#
    );
    says!(
        attach(url, "ca_file = \"/no/such/ca.pem\"", ""),
        "error: ./r.toml:9: `deploy.connection.ca_file`: CA file /no/such/ca.pem: No such file or directory (os error 2); expected certificates in PEM (-----BEGIN CERTIFICATE-----)"
    );
    says!(
        attach(url, "api_key = \"sk-1\"\nproxy = \"http://u:p@h\"\nheaders.X-Api-Key = \"sk-2\"", ""),
        r#"error: ./r.toml:9: `deploy.connection.api_key`: a secret written out; it would end up in scripts and results
  expected: a reference such as "env:NAME" or "file:/path"
./r.toml:11: `deploy.connection.headers.X-Api-Key`: a secret written out; it would end up in scripts and results
  expected: a reference such as "env:NAME" or "file:/path"
./r.toml:10: `deploy.connection.proxy`: a secret written out; it would end up in scripts and results
  expected: a reference such as "env:NAME" or "file:/path""#
    );
    says!(
        attach(url, "proxy = \"proxy\"", ""),
        r#"error: ./r.toml:9: `deploy.connection.proxy`: found "proxy"
  expected: off, environment, or a URL such as http://proxy:3128"#
    );
    says!(
        attach(url, "insecure = true\napi_key = \"env:NO_SUCH\"", ""),
        r#"error: ./r.toml:10: `deploy.connection.api_key`: found "env:NO_SUCH": no such environment variable here
  next: export NO_SUCH first"#
    );
    says!(
        attach(url, "http_version = \"3\"", ""),
        "error: ./r.toml:9:16: `deploy.connection.http_version`: unknown value `3`
  expected: one of 1.1, 2
  next: did you mean `2`?"
    );
    says!(
        attach(url, "", "endpoint = \"completions\"\nmax_tokens_field = \"max_completion_tokens\"\n"),
        "error: ./r.toml:14: `load.max_tokens_field`: found max_completion_tokens with the endpoint `completions`
  expected: max_tokens or auto: the completions endpoint knows no other"
    );
}

#[test]
fn bench_writes_into_no_used_folder() {
    let house = House::new();
    let sim = house.sim(&[]);
    let args = ["bench", "--url", sim.url(), "--isl", "4", "--osl", "2", "--requests", "2", "--out", "o"];
    house.run(args).succeeds();
    let before = house.read("o/records.jsonl");
    let end = house.run(args).fails(2);
    says!(
        house.plain(&end.stderr),
        "error: --out: o already holds a measurement
  next: give another folder; nothing is ever overwritten"
    );
    assert_eq!(house.read("o/records.jsonl"), before);
    let many = [&args[..9], &["--out", "many", "--concurrency", "1,2"]].concat();
    house.run(&many).succeeds();
    let end = house.run(&many).fails(2);
    assert!(end.stderr.contains("--out: many already holds a measurement"), "{}", end.stderr);
    // Neither into a folder of points that has nothing else at its top, nor into one of them.
    std::fs::remove_file(house.path().join("many/manifest.json")).unwrap();
    for used in ["many", "many/isl4_osl2_con1"] {
        let end = house.run([&args[..9], &["--out", used]].concat()).fails(2);
        assert!(end.stderr.contains(&format!("--out: {used} already holds")), "{}", end.stderr);
    }
}

#[test]
fn bench_without_a_server() {
    let house = House::new();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", holder.local_addr().unwrap());
    drop(holder);
    let end = house.run(["bench", "--url", &url]).fails(4);
    assert!(end.stderr.contains(&url) && end.stderr.contains("next: is the server up?"), "{}", end.stderr);
}

#[test]
fn submit_without_slurm_names_run() {
    let house = House::new();
    let empty = house.path().join("home").display().to_string();
    let end = house.run_with(["submit", "quickstart"], &[("PATH", &empty)]).fails(3);
    house.is_untouched();
    says!(
        house.plain(&end.stderr),
        "error: no Slurm on PATH: 'sbatch' not found; load the site's Slurm module, or use `tokmark run` to run without Slurm"
    );
    let end = house.run_with(["submit", "quickstart", "--wait"], &[("PATH", &empty)]).fails(3);
    assert!(end.stderr.contains("tokmark run"), "{}", end.stderr);
    house.is_untouched();
}

#[test]
fn a_refused_submission_leaves_nothing_behind() {
    let house = House::new();
    let fake = FakeSlurm::new();
    fake.write("sbatch.rc", "1");
    fake.write("sbatch.stderr", "sbatch: error: Batch job submission failed: Invalid qos specification\n");
    let fake_dir = fake.dir().display().to_string();
    let env = [("PATH", FakeSlurm::path().into_string().unwrap()), ("FAKE_SLURM_DIR", fake_dir)];
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let end = house.run_with(["submit", "quickstart"], &env).fails(3);
    assert!(end.stderr.contains("Invalid qos specification"), "{}", end.stderr);
    house.is_untouched();
}

#[test]
fn exec_outside_of_a_job() {
    let house = House::new();
    house.file("plan.json", "{}");
    let message = house.fails(["exec", "--plan", "plan.json"]);
    assert!(message.contains("plan.json: not a plan of this version"), "{message}");
}

#[test]
fn jobs_without_experiments() {
    says!(
        House::new().fails(["jobs", "show", "17"]),
        "error: 17: no such job or experiment in HOUSE/experiments
  expected: a job id, the name or directory of an experiment or a suite, `last` or `last-suite`
  next: `tokmark jobs list` shows them; --experiments DIR looks elsewhere"
    );
}

/// A launcher whose only role writes down its argv and its environment, then becomes the simulated engine.
const DUMP: &str = r#"
schema = 1
name = "dump"
summary = "writes down what reached it, then serves"
simulated = true
[endpoint]
role = "server"
port = "http"
[[role]]
name = "server"
placement = "head"
bare = true
argv = [
  "/usr/bin/perl", "-e", '''
my ($out, $keep) = splice(@ARGV, 0, 2);
open(my $file, ">", "$out.tmp") or die;
print $file "$_\0" for @ARGV;
print $file "NASTY=$ENV{NASTY}\0";
close($file);
rename("$out.tmp", $out);
exec(@ARGV[0 .. $keep - 1]);
''',
  "{{ dirs.run }}/dump", "9",
  "{{ tokmark }}", "sim", "--speed", "20", "--host={{ host }}", "--port={{ port.http }}",
  "--model", "{{ model.served_name }}", "--seed=1",
  { options_except = [] },
  "{{ model.path }}",
]
ports = { http = 20100 }
"#;

/// Everything a shell, a template engine, TOML or sbatch might take for its own.
const NASTY: &str = "a'b\"c $(touch pwned) `touch pwned` ; & | > pwned\n\\n \\ %j {{ 7 * 7 }} {# x #} ${#a} $HOME ~ * é 世 -n";

/// What reached the process, as the dump tells.
fn dumped(experiment: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(experiment.join("run/deployment/dump")).unwrap();
    text.trim_end_matches('\0').split('\0').map(str::to_owned).collect()
}

fn nasty_recipe(house: &House) {
    let value = toml::Value::String(NASTY.into()).to_string();
    let port = free_port();
    house.file("launchers/dump.toml", DUMP);
    house.recipe(&format!(
        "[model]\nname = {value}\npath = {value}\n[deploy]\nlauncher = \"dump\"\nport = {port}\nstartup_timeout = \"20s\"\n\
         [deploy.engine]\nnasty = {value}\nlist = [{value}, 2]\n[deploy.env]\nNASTY = {value}\n\
         [load]\nisl = 4\nosl = 2\nrequests = 2\n[load.extra_body]\nnote = {value}\n"
    ));
}

#[track_caller]
fn arrived_verbatim(house: &House) {
    let found = dumped(&house.experiment());
    let expected = ["--nasty", NASTY, "--list", NASTY, "2", NASTY, &format!("NASTY={NASTY}")];
    assert_eq!(found[7..9], [NASTY, "--seed=1"]);
    assert_eq!(found[9..], expected);
    let experiment = house.experiment();
    let inputs = std::fs::read_to_string(experiment.join("benchmark_logs/inputs.json")).unwrap();
    let inputs: serde_json::Value = serde_json::from_str(&inputs).unwrap();
    assert_eq!(inputs["data"][0]["payloads"][0]["note"], NASTY);
    assert_eq!(inputs["data"][0]["payloads"][0]["model"], NASTY);
    let pwned = walk(house.path()).into_iter().find(|path| path.ends_with("pwned"));
    assert_eq!(pwned, None, "a shell has seen the value");
    house.assert_empty();
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    walkdir::WalkDir::new(folder).into_iter().map(|entry| entry.unwrap().into_path()).collect()
}

#[test]
fn any_value_reaches_a_local_process_verbatim() {
    let house = House::new();
    nasty_recipe(&house);
    house.run(["run", "./r.toml"]).succeeds();
    arrived_verbatim(&house);
    // What people may paste gives the same words again.
    let commands = std::fs::read_to_string(house.experiment().join("commands.sh")).unwrap();
    let pasted = shlex::split(commands.split_once('\n').unwrap().1).unwrap();
    assert_eq!(pasted[0], format!("NASTY={NASTY}"));
    assert!(pasted.iter().filter(|word| *word == NASTY).count() == 4, "{pasted:?}");
}

#[test]
fn any_value_reaches_a_process_of_the_rendered_script_verbatim() {
    let house = House::new();
    nasty_recipe(&house);
    let fake = FakeSlurm::new();
    house.run(["render", "./r.toml", "-o", "job.sbatch"]).succeeds();
    let mut script = house.tokmark([""; 0]);
    let mut bash = std::process::Command::new("bash");
    bash.arg("job.sbatch").env_clear();
    for (name, value) in script.current_dir(house.path()).get_envs() {
        bash.env(name, value.unwrap());
    }
    let output = bash
        .current_dir(house.path())
        .env("PATH", FakeSlurm::path())
        .env("FAKE_SLURM_DIR", fake.dir())
        .env("SLURM_JOB_ID", "7")
        .env("SLURM_JOB_NODELIST", "127.0.0.1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:#?}");
    assert!(house.experiment().ends_with(house.experiment().file_name().unwrap()));
    assert!(house.experiment().display().to_string().ends_with("_7"), "{:?}", house.experiment());
    arrived_verbatim(&house);
}

/// A container of pyxis cannot mount such a path, and says so only after the image is unpacked.
#[test]
fn a_path_that_no_container_can_mount() {
    let house = House::new();
    let image = "[gpu.h100.container]\nimage = \"e:1\"\n";
    house.recipe(&format!("{MODEL}[deploy]\nlauncher = \"vllm\"\n{LOAD}{image}"));
    let site = |runtime: &str, more: &str| {
        house.file("s.toml", &format!("schema = 1\n[container]\nruntime = \"{runtime}\"\n{more}"));
    };
    let args = |experiments: &str| {
        ["render", "./r.toml", "--site", "s.toml", "--gpu", "h100", "--experiments", experiments]
            .map(str::to_owned)
    };
    for runtime in ["pyxis", "apptainer"] {
        site(runtime, "");
        for (experiments, sign) in [("e,x", "','"), ("e:x", "':'")] {
            let said = house.fails(args(experiments));
            let path = format!("HOUSE/{experiments}");
            for part in [path.as_str(), sign, "without commas and colons", "container.mounts"] {
                assert!(said.contains(part), "{part} in {said}");
            }
        }
    }
    // A mount of a folder above it, whose target has none of them, is the site's own affair.
    site("pyxis", &format!("mounts = [\"{0}:{0}\"]\n", house.path().display()));
    house.run(args("e,x")).succeeds();
    site("pyxis", "");
    let said = house.run(args("e x")).succeeds().stderr;
    assert!(said.contains("warning: pyxis before 0.24 cannot mount a path with a blank"), "{said}");
    house.file("s.toml", "schema = 1\n[container]\nruntime = \"pyxis\"\nmounts = [\"/a:/b,/c:/d\"]\n");
    says!(
        house.fails(args("e")),
        r#"error: s.toml:4: `container.mounts`: found "/a:/b,/c:/d"
  expected: SOURCE:TARGET[:OPTIONS] for each mount, paths without commas and colons, options joined by `+`"#
    );
}
