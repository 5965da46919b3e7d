//! Weights that are not whole end a run before any server starts, wherever they are met first: `run`, `submit`, `doctor`.

use crate::support::FakeSlurm;
use crate::support::house::{End, House};
use crate::support::weights::{SHARDS, cut, model};

/// Stand-ins for engines.
const ENGINES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/engines");

/// A house with a model in `models/m`, and a recipe that serves it with a stand-in for an engine.
fn house(more: &str) -> House {
    let house = House::new();
    model(&house.path().join("models/m"));
    house.file(
        "site.toml",
        &format!(
            "schema = 1\n[gpus.h100]\nper_node = 4\n[models]\n\"org/m\" = {:?}\n[env]\nPATH = \"{ENGINES}:/usr/bin:/bin\"\n\
             TOKMARK = {:?}\n",
            house.path().join("models/m"),
            env!("CARGO_BIN_EXE_tokmark"),
        ),
    );
    house.recipe(&format!(
        "[model]\nname = \"org/m\"\n{more}\n[deploy]\nlauncher = \"vllm\"\nstop_grace = \"2s\"\n[load]\nisl = 8\nosl = 4\n\
         concurrency = 1\nrequests_per_concurrency = 2\n[load.prompts]\ntokenizer = \"builtin\"\n"
    ));
    house
}

const ARGS: [&str; 3] = ["./r.toml", "--gpu", "h100"];

fn run(house: &House, more: &[&str]) -> End {
    house.run([&["run"], &ARGS[..], more].concat())
}

/// The lines of `bench.log` that begin with `weights`, without their times.
fn told(house: &House) -> Vec<String> {
    let log = std::fs::read_to_string(house.experiment().join("server_logs/bench.log")).unwrap();
    let text = log.lines().filter_map(|line| line.split_once(' ').map(|(_, text)| text.to_owned()));
    let times = regex::Regex::new(r"\([0-9.]+ s\)").unwrap();
    let line = |text: String| times.replace(&text, "(TIME)").into_owned();
    text.map(|text| text.trim_start().to_owned())
        .filter(|text| text.starts_with("weights") || text.starts_with("forgiven"))
        .map(line)
        .collect()
}

#[test]
fn complete_weights_are_reported_before_servers_start() {
    let house = house("");
    run(&house, &[]).succeeds();
    let bytes: u64 = SHARDS
        .iter()
        .map(|name| std::fs::metadata(house.path().join("models/m").join(name)).unwrap().len())
        .sum();
    assert_eq!(told(&house), [format!("weights: 2 shards, {bytes} bytes, whole (TIME)")]);
    let events = std::fs::read_to_string(house.experiment().join("events.jsonl")).unwrap();
    let at = |name: &str| events.find(&format!("\"{name}\"")).unwrap();
    assert!(at("weights_examined") < at("deploying") && at("deploying") < at("process_started"), "{events}");
}

#[test]
fn a_truncated_shard_ends_it_before_any_server() {
    let house = house("");
    let shard = house.path().join("models/m").join(SHARDS[1]);
    cut(&shard);
    std::fs::remove_file(house.path().join("models/m/tokenizer.json")).unwrap();
    let length = std::fs::metadata(shard).unwrap().len();
    let advice = "next: download it again: hf download org/m --local-dir HOUSE/models/m";
    let expected = format!(
        "error: HOUSE/models/m/{}: is truncated: {length} bytes, and its header says {}\n  {advice}\n\
         HOUSE/models/m/tokenizer.json: is missing\n  expected: tokenizer.json, or another tokenizer: tokenizer.model, \
         vocab.json and merges.txt\n  {advice}",
        SHARDS[1],
        length + 1
    );
    for verb in ["run", "submit"] {
        assert_eq!(house.fails([&[verb], &ARGS[..]].concat()).trim_end(), expected, "{verb}");
    }
    // `check` asks whether the folder is there, and no more.
    house.run([&["check"], &ARGS[..]].concat()).succeeds();
}

#[test]
fn a_skipped_check_is_logged() {
    let house = house("weights_gib = 1");
    assert!(
        house.fails([&["run"], &ARGS[..]].concat()).contains("in 2 shards, and model.weights_gib says 1 GiB")
    );
    run(&house, &["--no-weights-check"]).succeeds();
    let told = told(&house);
    assert!(told[0].ends_with(" bytes, and 1 problem (TIME)"), "{told:?}");
    assert!(
        told[1].starts_with("forgiven: ") && told[1].contains("model.weights_gib says 1 GiB"),
        "{told:?}"
    );
}

#[test]
fn a_way_out_of_the_check_travels_with_the_script() {
    let house = house("");
    let plan = |args: &[&str]| house.run([&["render"], &ARGS[..], args].concat()).succeeds().stdout;
    assert!(!plan(&[]).contains("no_weights_check"));
    assert!(plan(&["--no-weights-check"]).contains("\"no_weights_check\": true"));
    let dry = house.run([&["submit"], &ARGS[..], &["--dry-run", "--no-weights-check"]].concat()).succeeds();
    assert!(dry.stdout.contains("\"no_weights_check\": true"), "{}", dry.stdout);
}

#[test]
fn submit_warns_of_what_may_be_wrong() {
    let house = house("");
    house.file("models/m/extra.safetensors", "rubbish");
    let dry = house.run([&["submit"], &ARGS[..], &["--dry-run"]].concat()).succeeds();
    let says =
        "warning: weights in HOUSE/models/m: model.safetensors.index.json does not name extra.safetensors";
    assert!(house.plain(&dry.stderr).contains(says), "{}", dry.stderr);
}

/// Rows of `doctor` about weights and paths.
fn rows_of_weights(house: &House) -> Vec<String> {
    let slurm = FakeSlurm::new();
    slurm.write("partitions", "n1|batch*|up|idle|1:00:00|8|1000|gpu:h100:4|x\n");
    let path = FakeSlurm::path().into_string().unwrap();
    let dir = slurm.dir().display().to_string();
    let args = ["doctor", "--json", "--gpu", "h100", "--recipe", "./r.toml"];
    let end = house.run_with(args, &[("PATH", &path), ("FAKE_SLURM_DIR", &dir)]);
    let words = |row: &serde_json::Value| {
        ["status", "check", "about", "found"].map(|key| row[key].as_str().unwrap_or("-").to_owned()).join(" ")
    };
    let rows: Vec<String> = end.json().as_array().unwrap().iter().map(words).collect();
    let rows = rows.into_iter().filter(|row| row.contains(" weights ") || row.contains("model.path"));
    rows.map(|row| house.plain(&row)).collect()
}

#[test]
fn dummy_weights_are_not_checked() {
    let house = house("path = \"/no/such/m\"\n[deploy.engine]\nload_format = \"dummy\"");
    for verb in [&["check"][..], &["submit", "--dry-run"]] {
        house.run([verb, &ARGS[..]].concat()).succeeds();
    }
    assert_eq!(rows_of_weights(&house), ["ok weights r the engine generates them: not checked"]);
    let reads = house.run([&["check"], &ARGS[..], &["--set", "deploy.engine.load_format=auto"]].concat());
    assert!(reads.stderr.contains("\"/no/such/m\" does not exist here"), "{}", reads.stderr);
}

#[test]
fn one_pool_that_reads_its_weights_is_enough_to_look() {
    let house = house("");
    let pools = |decode: &str| {
        house.recipe(&format!(
            "[model]\nname = \"org/m\"\npath = \"/no/such/m\"\n[deploy]\nlauncher = \"dynamo-vllm\"\n\
             [deploy.prefill.engine]\nload_format = \"dummy\"\n[deploy.decode.engine]\nload_format = {decode:?}\n\
             [load]\nisl = 8\nosl = 4\nconcurrency = 1\n[load.prompts]\ntokenizer = \"builtin\"\n"
        ));
        house.run([&["check"], &ARGS[..]].concat())
    };
    pools("dummy").succeeds();
    let reads = pools("auto");
    assert!(reads.stderr.contains("\"/no/such/m\" does not exist here"), "{}", reads.stderr);
}

#[test]
fn doctor_has_a_row_for_weights_and_image() {
    let house = house("");
    let rows = || rows_of_weights(&house);
    let whole = rows();
    assert_eq!(whole.len(), 2, "on a node and here: {whole:?}");
    assert!(
        whole[0].starts_with("ok weights h100 HOUSE/models/m on ") && whole[0].ends_with(", whole"),
        "{whole:?}"
    );
    assert!(whole[1].starts_with("ok weights r HOUSE/models/m: 2 shards, "), "{whole:?}");
    std::fs::remove_file(house.path().join("models/m").join(SHARDS[0])).unwrap();
    let broken = rows();
    let missing = format!("1 of its 2 shards is missing: {}", SHARDS[0]);
    assert!(broken.iter().all(|row| row.starts_with("fail ") && row.contains(&missing)), "{broken:?}");
}

#[test]
fn doctor_has_a_row_for_the_draft_model() {
    let house = house("");
    let draft = house.path().join("models/draft");
    model(&draft);
    let recipe = house.read("r.toml").replace(
        "[load]\n",
        &format!("[deploy.speculation]\nmethod = \"eagle3\"\nmodel = {draft:?}\ntokens = 3\n[load]\n"),
    );
    house.file("r.toml", &recipe);
    let of_draft = || -> Vec<String> {
        rows_of_weights(&house).into_iter().filter(|row| row.contains("models/draft")).collect()
    };
    let whole = of_draft();
    assert_eq!(whole.len(), 2, "on a node and here: {whole:?}");
    assert!(whole[0].starts_with("ok weights h100 the draft model in HOUSE/models/draft on "), "{whole:?}");
    assert!(
        whole[1].starts_with("ok weights r the draft model in HOUSE/models/draft: 2 shards, "),
        "{whole:?}"
    );
    std::fs::remove_file(draft.join(SHARDS[0])).unwrap();
    assert!(of_draft().iter().all(|row| row.starts_with("fail ")), "{:?}", of_draft());
}
