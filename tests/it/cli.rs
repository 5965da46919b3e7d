//! What the command line says: help, lists, one recipe in full, schemas, exit codes. Snapshots are what a user reads on a
//! terminal of 80 columns.

use crate::support::house::House;
use tokmark::internals::recipe::find;

/// Compares with a committed snapshot, less what differs from machine to machine.
fn snapshot(house: &House, name: &str, text: &str) {
    let version = regex::Regex::new(r"\d+\.\d+\.\d+ \([0-9a-z]+\)").unwrap();
    let text = house.plain(text).replace(env!("CARGO_BIN_EXE_tokmark"), "TOKMARK");
    let text = version.replace_all(&text, "VERSION").into_owned();
    insta::with_settings!({ snapshot_path => "../snapshots/cli", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, text);
    });
}

const VERBS: [&str; 21] = [
    "list",
    "show",
    "check",
    "render",
    "submit",
    "run",
    "exec",
    "bench",
    "jobs",
    "report",
    "compare",
    "history",
    "verify",
    "zones",
    "export",
    "sim",
    "init",
    "doctor",
    "schema",
    "completions",
    "man",
];

#[test]
fn help_fits_a_terminal_of_80_columns() {
    let house = House::new();
    let mut pages = vec![("help".to_owned(), house.run(["--help"]).succeeds().stdout)];
    for verb in VERBS {
        pages.push((format!("help-{verb}"), house.run([verb, "--help"]).succeeds().stdout));
    }
    for (name, page) in &pages {
        let wide = page.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{name}");
        snapshot(&house, name, page);
    }
    for verb in VERBS {
        assert!(pages[0].1.lines().any(|line| line.trim_start().starts_with(&format!("{verb} "))), "{verb}");
    }
}

#[test]
fn completions_and_man_pages_know_every_verb() {
    let house = House::new();
    for (shell, start) in [("bash", "_tokmark()"), ("zsh", "#compdef tokmark"), ("fish", "# Print an")] {
        let script = house.run(["completions", shell]).succeeds().stdout;
        assert!(script.starts_with(start), "{}", &script[..80]);
        assert!(VERBS.iter().all(|verb| script.contains(verb)), "{shell}");
        assert!(script.contains("concurrency") && !script.contains("num-prompts"), "{shell}");
    }
    house.run(["completions", "cmd"]).fails(2);
    assert!(house.run(["man"]).succeeds().stdout.contains(".TH tokmark 1"));
    house.run(["man", "pages"]).succeeds();
    for verb in VERBS {
        let page = house.read(format!("pages/tokmark-{verb}.1"));
        assert!(page.contains(&format!(".TH tokmark-{verb} 1")), "{page}");
    }
}

#[test]
fn lists() {
    let house = House::new();
    snapshot(&house, "list", &house.run(["list"]).succeeds().stdout);
    snapshot(&house, "list-wide", &house.run(["list", "--wide"]).succeeds().stdout);
    snapshot(&house, "list-launchers", &house.run(["list", "--launchers"]).succeeds().stdout);
    let json = house.run(["list", "--json"]).succeeds();
    let recipes = json.json();
    assert_eq!(recipes.as_array().unwrap().len(), find::embedded().len());
    snapshot(&house, "list-json", &json.stdout);
    let launchers = house.run(["list", "--launchers", "--json"]).succeeds().json();
    assert!(launchers.as_array().unwrap().iter().any(|launcher| launcher["name"] == "vllm"));
}

#[test]
fn filters_of_the_list_must_all_match() {
    let house = House::new();
    let names = |args: &[&str]| -> Vec<String> {
        let listed = house.run([&["list", "--json"], args].concat()).succeeds().json();
        listed.as_array().unwrap().iter().map(|recipe| recipe["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&["--gpu", "A10G", "--model", "OSS-20b", "--engine", "vllm"]), ["gpt-oss-20b-vllm"]);
    assert!(names(&["--gpu", "gb200"]).contains(&"quickstart".to_owned()), "it is for any type");
    assert_eq!(names(&["--source", "tokmark", "--engine", "sim"]), ["quickstart"]);
    assert_eq!(names(&["--model", "gpt-oss-20b", "--engine", "sim"]), [""; 0]);
    let end = house.run(["list", "--model", "nobodys", "--engine", "sim"]).succeeds();
    assert_eq!(end.stdout, "");
    assert!(end.stderr.starts_with("no recipe matches --model nobodys --engine sim\n"), "{}", end.stderr);
    assert!(
        end.stderr.contains("--model nobodys: none has it; there is ")
            && end.stderr.contains("openai/gpt-oss-120b")
    );
    house.run(["list", "--launchers", "--model", "x"]).fails(2);
}

#[test]
fn workloads_are_filtered_by_gpu_without_a_word_about_the_others() {
    let house = House::new();
    let end = house.run(["list", "-w", "--gpu", "H100"]).succeeds();
    assert_eq!(end.stderr, "");
    assert!(
        end.stdout.contains("gpt-oss-120b-vllm ") && !end.stdout.contains("gpt-oss-20b-vllm "),
        "{}",
        end.stdout
    );
    let none = house.run(["list", "-w", "gpt-oss-20b-vllm", "--gpu", "h100"]).succeeds();
    assert!(none.stdout.is_empty() && none.stderr.contains("no recipe matches --gpu h100"), "{none:?}");
}

#[test]
fn the_beginning_of_a_name_suggests_what_begins_so() {
    let house = House::new();
    let error = house.fails(["run", "gpt-oss-120b"]);
    assert!(error.contains("these begin so: gpt-oss-120b-") && error.contains(" more"), "{error}");
    let error = house.fails(["submit", "-w", "inference_gpt-oss"]);
    assert!(error.contains("did you mean `inference_gpt-oss-dynamo`"), "{error}");
    let error = house.fails(["show", "gpt-oss-20b-v"]);
    assert!(error.contains("did you mean `gpt-oss-20b-vllm`"), "{error}");
}

#[test]
fn a_launcher_in_this_folder_shadows_the_built_in_one() {
    let house = House::new();
    let text = "schema = 1\nname = \"NAME\"\nsummary = \"our NAME\"\n[endpoint]\nrole = \"server\"\nport = \"http\"\n[[role]]\nname = \"server\"\nplacement = \"head\"\nargv = [\"x\"]\nports = { http = 8000 }\n";
    house.file("launchers/mine.toml", &text.replace("NAME", "mine"));
    let ours = text.replace("NAME", "vllm").replace("schema = 1", "schema = 1\nreplaces_builtin = true");
    house.file("launchers/vllm.toml", &ours);
    let listed = house.run(["list", "--launchers", "--json"]).succeeds().json();
    let of = |name: &str| -> Vec<(String, String)> {
        let word = |launcher: &serde_json::Value, key: &str| launcher[key].as_str().unwrap().to_owned();
        let all = listed.as_array().unwrap().iter().filter(|launcher| launcher["name"] == name);
        all.map(|launcher| (word(launcher, "summary"), word(launcher, "file"))).collect()
    };
    assert_eq!(of("mine"), [("our mine".to_owned(), "launchers/mine.toml".to_owned())]);
    assert_eq!(of("vllm"), [("our vllm".to_owned(), "launchers/vllm.toml".to_owned())]);
    assert_eq!(of("sglang").len(), 1);
}

#[test]
fn a_recipe_of_the_users_is_listed_and_shadows_a_shipped_one() {
    let house = House::new();
    let text = "schema = 1\nname = \"NAME\"\nsummary = \"my own\"\n[model]\nname = \"m\"\n[deploy]\nlauncher = \"sim\"\n";
    house.file("recipes/mine.toml", &text.replace("NAME", "mine"));
    house.file("home/.config/tokmark/recipes/q.toml", &text.replace("NAME", "quickstart"));
    house.file("recipes/broken.toml", "schema = \n");
    let end = house.run(["list"]).succeeds();
    assert!(end.stdout.contains("mine") && end.stdout.matches("my own").count() == 2, "{}", end.stdout);
    assert!(end.stderr.starts_with("warning: recipes/broken.toml:1:"), "{}", end.stderr);
}

#[test]
fn shows_of_a_recipe() {
    let house = House::new();
    snapshot(&house, "show-quickstart", &house.run(["show", "quickstart"]).succeeds().stdout);
    let args = ["show", "gpt-oss-120b-dynamo-trtllm", "--gpu", "gb200"];
    let by_name = house.run(args).succeeds().stdout;
    snapshot(&house, "show-dynamo", &by_name);
    let by_alias = house.run(["show", "inference_gpt-oss-dynamo", "--gpu", "gb200"]).succeeds().stdout;
    assert_eq!(by_alias, by_name);
}

/// Lines wider than 80 columns, but for a word that cannot be broken.
fn wide_lines(text: &str) -> Vec<&str> {
    let is_wide = |line: &&str| line.chars().count() > 80 && line.trim().contains(' ');
    text.lines().filter(is_wide).collect()
}

#[test]
fn no_page_about_a_recipe_is_wider_than_80_columns() {
    let house = House::new();
    for document in find::embedded() {
        let recipe: tokmark::internals::recipe::Recipe = document.parse().unwrap();
        let name = recipe.name.unwrap();
        let gpus = recipe.gpu.keys().map(String::as_str).map(Some);
        for gpu in gpus.chain(recipe.gpu.is_empty().then_some(None)) {
            let more = gpu.map(|gpu| ["--gpu", gpu]).into_iter().flatten();
            let end = house.run(["show", &name].into_iter().chain(more)).succeeds();
            assert_eq!(wide_lines(&end.stdout), [""; 0], "{name} on {gpu:?}");
        }
    }
    for list in [&["list"][..], &["list", "-w"], &["list", "--launchers"]] {
        assert_eq!(wide_lines(&house.run(list).succeeds().stdout), [""; 0], "{list:?}");
    }
    snapshot(
        &house,
        "show-grid",
        &house.run(["show", "vllm-bench-engine-grid", "--gpu", "h100"]).succeeds().stdout,
    );
    snapshot(&house, "show-published", &house.run(["show", "gpt-oss-20b-vllm"]).succeeds().stdout);
    snapshot(&house, "list-workloads", &house.run(["list", "-w"]).succeeds().stdout);
}

#[test]
fn every_layer_of_a_value_is_named() {
    let house = House::new();
    house.file("site.toml", "schema = 1\n[defaults.load]\nseed = 7\nisl_stddev = 3\n");
    let args = ["show", "quickstart", "--set", "load.osl=9", "--set", "model.size=1b"];
    let end = house.run_with(args, &[("CONCURRENCY", "2")]).succeeds();
    for file in ["\nrecipe: embedded:recipes/quickstart.toml\n", "\nsite: site.toml\n"] {
        assert!(end.stdout.contains(file), "{}", end.stdout);
    }
    for (key, origin) in [
        ("load.seed", "7 site:3"),
        ("load.isl_stddev", "3 site:4"),
        ("load.osl", "9 --set"),
        ("model.size", "1b --set"),
        ("load.concurrency", "2 $CONCURRENCY"),
        ("load.osl_stddev", "0 default"),
        ("load.isl", "128 recipe:20"),
    ] {
        let row = end.stdout.lines().find(|line| line.starts_with(&format!("{key} "))).unwrap();
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(cells[1..].join(" "), origin, "{row}");
    }
}

#[test]
fn checks_of_all_and_of_one() {
    let house = House::new();
    let end = house.run(["check", "--all"]).succeeds();
    snapshot(&house, "check-all", &format!("{}--- stderr\n{}", end.stdout, end.stderr));
    assert_eq!(house.run(["check", "--all", "-q"]).succeeds().stderr, "");
    let json = house.run(["check", "quickstart", "--json"]).succeeds().json();
    assert_eq!((&json[0]["recipe"], &json[0]["points"]), (&"quickstart".into(), &5.into()));
    house.run(["check"]).fails(2);
    house.is_untouched();
}

#[test]
fn a_script_is_shown_or_written() {
    let house = House::new();
    let shown = house.run(["render", "quickstart"]).succeeds().stdout;
    let end = house.run(["render", "quickstart", "-o", "my job.sbatch"]).succeeds();
    assert_eq!(end.stderr, "wrote my job.sbatch; submit it with: sbatch 'my job.sbatch'\n");
    assert_eq!(house.read("my job.sbatch"), shown);
    assert_eq!(house.run(["render", "quickstart", "-q", "-o", "j"]).succeeds().stderr, "");
    let dry = house.run(["submit", "quickstart", "--dry-run", "--slurm-arg=--comment=a b"]).succeeds();
    assert_eq!(dry.stdout, shown);
    assert_eq!(dry.stderr, "would call: sbatch --parsable '--comment=a b' SCRIPT\n");
}

#[test]
fn a_dry_run_leaves_nothing() {
    let house = House::new();
    house.run(["submit", "quickstart", "--dry-run"]).succeeds();
    assert!(!house.experiments().exists());
}

#[test]
fn a_secret_by_reference_is_never_resolved_into_a_script() {
    let house = House::new();
    house.recipe(
        "[model]\nname = \"m\"\n[deploy]\nlauncher = \"sim\"\n[deploy.env]\nHF_TOKEN = \"env:MY_TOKEN\"\n[load]\nisl = 4\nosl = 2\n",
    );
    let end =
        house.run_with(["render", "./r.toml", "--explain"], &[("MY_TOKEN", "hf_verysecret")]).succeeds();
    assert!(
        !end.stdout.contains("verysecret") && end.stdout.contains("HF_TOKEN=env:MY_TOKEN"),
        "{}",
        end.stdout
    );
    let end = house.run_with(["run", "./r.toml"], &[("MY_TOKEN", "hf_verysecret")]).succeeds();
    assert!(!format!("{end:?}").contains("verysecret"));
    for entry in walkdir::WalkDir::new(house.experiments()).into_iter().map(Result::unwrap) {
        if entry.file_type().is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            assert!(!String::from_utf8_lossy(&bytes).contains("verysecret"), "{}", entry.path().display());
        }
    }
}

#[test]
fn schemas() {
    let house = House::new();
    let schema = house.run(["schema", "recipe"]).succeeds().json();
    assert_eq!(schema["additionalProperties"], false);
    let end = house.run(["schema", "recipes"]).fails(2);
    assert_eq!(
        end.stderr,
        "error: schema: no schema \"recipes\"\n  expected: one of recipe, launcher, site, summary, references\n  next: did you mean `recipe`?\n"
    );
    house.run(["schema"]).fails(2);
    house.run(["schema", "--output", "s"]).succeeds();
    assert_eq!(std::fs::read_dir(house.path().join("s")).unwrap().count(), 5);
}

#[test]
fn usage_errors_are_exit_code_2() {
    let house = House::new();
    for args in
        [&["frobnicate"][..], &[], &["run"], &["list", "--frob"], &["list", "-q", "-v"], &["jobs", "show"]]
    {
        let end = house.run(args).fails(2);
        assert!(end.stdout.is_empty() && !end.stderr.is_empty(), "{args:?}: {end:?}");
    }
    assert!(house.run(["runn", "x"]).stderr.contains("'run'"), "the nearest verb");
}

#[test]
fn options_of_other_tools_that_mean_something_else_are_named_with_ours() {
    let house = House::new();
    let bench = |more: &str| {
        let args = ["bench", "--url", "http://127.0.0.1:1"].into_iter().chain(more.split(' '));
        house.fails(args)
    };
    for (theirs, ours) in [
        ("--goodput ttft:200", "--goodput: tokmark calls this --slo, with units: --slo ttft:500ms,"),
        ("--random-range-ratio=0.5", "tokmark calls this --length-range vllm:R"),
        ("--backend openai-chat", "tokmark calls this --endpoint chat|completions"),
        ("--extra-inputs a:1", "tokmark calls this --extra-body JSON"),
        ("--percentile-metrics ttft", "every figure with its percentiles: leave it out"),
        ("--max-concurrency 8", "in flight (vLLM's --max-concurrency) is --concurrency N"),
        ("--request-rate inf --max-concurrency 8", "--concurrency N keeps N requests in flight"),
        ("--nobodys 8", "unexpected argument '--nobodys'"),
    ] {
        let error = bench(theirs);
        assert!(error.contains(ours), "{theirs}: {error}");
    }
}

#[test]
fn the_version_names_the_commit() {
    let version = House::new().run(["--version"]).succeeds().stdout;
    let pattern = regex::Regex::new(r"^tokmark \d+\.\d+\.\d+ \(([0-9a-f]{12}|unknown)\)\n$").unwrap();
    assert!(pattern.is_match(&version), "{version:?}");
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let house = House::new();
    let mut command = house.tokmark(["schema", "recipe"]);
    command.stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
