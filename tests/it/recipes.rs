//! Every shipped recipe, on every GPU type it is written for, with and without a container runtime: it plans, it renders, and
//! what it would start is in a committed snapshot. A change of a recipe, a launcher or the script is a change of what people
//! measure, and shows here.
//!
//! A snapshot holds each thing once: one file per recipe with what it starts, other GPU types as differences to the first,
//! processes that differ in their name and node alone in one line; and one whole script per container runtime.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::{LazyLock, Mutex};

use crate::support::house::House;
use serde_json::Value;
use similar::{Algorithm, capture_diff_slices};
use tokmark::internals::plan::Plan;
use tokmark::internals::recipe::find;

/// Sites in which a recipe may run: bare, with pyxis in the way large sites are set up, and with apptainer.
const SITES: [(&str, &str); 3] = [
    ("bare", "schema = 1\n"),
    (
        "pyxis",
        "schema = 1\nname = \"big\"\n\n[slurm]\npartition = \"batch\"\naccount = \"bench\"\ngres = \"gpus-per-node\"\n\
         mpi = \"pmix\"\nsetup = [\"module load slurm\"]\n\n[container]\nruntime = \"pyxis\"\n\
         mounts = [\"/lustre/models:/models:ro\"]\n\n[models]\n\"openai/gpt-oss-120b\" = \"/models/gpt-oss-120b\"\n",
    ),
    (
        "apptainer",
        "schema = 1\nname = \"small\"\n\n[slurm]\npartition = \"gpu\"\ngres = \"typed-gres\"\n\n[container]\nruntime = \"apptainer\"\n\
         mounts = [\"/data/models:/models:ro\"]\n",
    ),
];

/// The site whose processes are in the snapshots; those of the others differ in the container and the model's path alone.
const SHOWN: &str = "pyxis";

/// A recipe on a GPU type at a site.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Case {
    recipe: String,
    gpu: Option<String>,
    site: &'static str,
}

impl Case {
    fn name(&self) -> String {
        format!("{}-{}-{}", self.recipe, self.gpu.as_deref().unwrap_or("any"), self.site)
    }

    fn args(&self, verb: &str) -> Vec<String> {
        let mut args =
            vec![verb.to_owned(), self.recipe.clone(), "--site".into(), format!("{}.toml", self.site)];
        if let Some(gpu) = &self.gpu {
            args.extend(["--gpu".into(), gpu.clone()]);
        }
        args
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for document in find::embedded() {
        let recipe: tokmark::internals::recipe::Recipe = document.parse().unwrap();
        let mut gpus: Vec<Option<String>> = recipe.gpu.keys().cloned().map(Some).collect();
        if gpus.is_empty() {
            gpus.push(None);
        }
        for gpu in gpus {
            for (site, _) in SITES {
                cases.push(Case { recipe: recipe.name.clone().unwrap(), gpu: gpu.clone(), site });
            }
        }
    }
    assert!(cases.len() >= 200, "{} cases", cases.len());
    cases
}

fn house() -> House {
    let house = House::new();
    for (site, text) in SITES {
        house.file(&format!("{site}.toml"), text);
    }
    house
}

/// The script with everything that differs from machine to machine taken out.
fn settled(house: &House, text: &str) -> String {
    let version = regex::Regex::new(r"\d+\.\d+\.\d+ \([0-9a-z]+\)").unwrap();
    let text = house.plain(text).replace(env!("CARGO_BIN_EXE_tokmark"), "TOKMARK");
    version.replace_all(&text, "VERSION").into_owned()
}

/// The frozen plan inside a script.
fn embedded_plan(script: &str) -> &str {
    let after = script.split_once("<<'TOKMARK_PLAN'\n").unwrap().1;
    after.split_once("\nTOKMARK_PLAN\n").unwrap().0
}

/// What `render --explain` printed for a case.
struct Rendered {
    case: Case,
    text: String,
    /// Its script, settled, with `{ the plan }` for the plan, which repeats recipe and launcher word for word.
    script: String,
    /// Lines of the explanation, without the `# ` in front.
    explained: Vec<String>,
}

const EXPLANATION: &str = "# What this starts, with made-up hosts and the preferred ports:\n";

/// Every case, rendered once for all tests.
static RENDERED: LazyLock<Vec<Rendered>> = LazyLock::new(|| {
    let rendered = Mutex::new(Vec::new());
    for_each_case(|house, case| {
        let mut args = case.args("render");
        args.push("--explain".into());
        let text = house.run(args).succeeds().stdout;
        let shown = settled(house, &text.replace(embedded_plan(&text), "{ the plan }"));
        let (script, explained) = shown.split_once(EXPLANATION).unwrap();
        let lines = explained.lines().map(|line| line.trim_start_matches('#'));
        let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
        let explained = lines.filter(|line| !line.is_empty()).map(str::to_owned).collect();
        let script = script.to_owned();
        rendered.lock().unwrap().push(Rendered { case, text, script, explained });
    });
    let mut rendered = rendered.into_inner().unwrap();
    rendered.sort_by(|one, other| one.case.cmp(&other.case));
    rendered
});

/// Each case on one of the cores.
fn for_each_case(check: impl Fn(&House, Case) + Sync) {
    let house = house();
    let waiting = Mutex::new(cases());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let Some(case) = waiting.lock().unwrap().pop() else { break };
                    check(&house, case);
                }
            });
        }
    });
}

/// The allocation and the processes of a case; a process that repeats another one takes one line.
fn summary(rendered: &Rendered) -> Vec<String> {
    let name = rendered.script.split_once("The experiment is ").unwrap().1.lines().next().unwrap();
    let mut lines = vec![format!("experiment {name}")];
    let everywhere = ["job-name", "partition", "account", "signal", "requeue", "open-mode", "output"];
    let asked = rendered.script.lines().filter(|line| line.starts_with("#SBATCH --"));
    let of_recipe = asked.filter(|line| !everywhere.iter().any(|name| line[10..].starts_with(name)));
    lines.extend(of_recipe.map(str::to_owned));
    let mut known: Vec<(String, String)> = Vec::new();
    let is_start = |line: &String| line.starts_with("  ") && !line.starts_with("   ");
    for process in rendered.explained.chunk_by(|_, next| !is_start(next)) {
        let name = process[0].split_whitespace().next().unwrap();
        let anonymous = without_names(process, name);
        match known.iter().find(|(text, _)| *text == anonymous) {
            Some((_, first)) => lines.push(format!("{}: as {first}", process[0])),
            None => {
                lines.extend_from_slice(process);
                known.push((anonymous, name.to_owned()));
            }
        }
    }
    lines
}

/// A process without its name, and without its nodes and their addresses.
fn without_names(process: &[String], name: &str) -> String {
    let mut text = process.join("\n").replace(name, "NAME");
    let nodes = process[0].split_once(" on ").and_then(|(_, rest)| rest.split_once(", "));
    for (at, node) in nodes.map_or("", |(nodes, _)| nodes).split(',').enumerate() {
        let number = node.trim_start_matches("node");
        let word = |word: &str| regex::Regex::new(&format!(r"\b{}\b", regex::escape(word))).unwrap();
        text = word(node).replace_all(&text, format!("NODE{at}")).into_owned();
        text = word(&format!("10.0.0.{number}")).replace_all(&text, format!("IP{at}")).into_owned();
    }
    text
}

/// `other` as lines taken from `base` and lines put into it, under the process they belong to.
fn differences(base: &[String], other: &[String]) -> String {
    let mut text = String::new();
    let mut shown = "";
    for change in capture_diff_slices(Algorithm::Myers, base, other) {
        let (_, old, new) = change.as_tag_tuple();
        if base[old.clone()] == other[new.clone()] {
            continue;
        }
        let is_start = |line: &&String| line.starts_with("  ") && !line.starts_with("   ");
        let process =
            other[..new.start].iter().rfind(is_start).and_then(|line| line.split_whitespace().next());
        let process = process.unwrap_or_default();
        if process != shown && !other[new.clone()].first().as_ref().is_some_and(is_start) {
            writeln!(text, " in {process}").unwrap();
            shown = process;
        }
        base[old].iter().for_each(|line| writeln!(text, "-{line}").unwrap());
        other[new].iter().for_each(|line| writeln!(text, "+{line}").unwrap());
    }
    text
}

fn snapshot(name: &str, text: &str) {
    insta::with_settings!({ snapshot_path => "../snapshots/recipes", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn every_recipe_states_its_source_and_published_figures() {
    for document in find::embedded() {
        let recipe: tokmark::internals::recipe::Recipe = document.parse().unwrap();
        let file = &document.file;
        let summary = recipe.summary.unwrap_or_default();
        assert!(!summary.is_empty() && !recipe.source.unwrap_or_default().is_empty(), "{file}");
        let notes = recipe.notes.unwrap_or_default();
        let (none, some) = (notes.contains("No figures are published."), !recipe.published.is_empty());
        let own = recipe.name.as_deref() == Some("quickstart");
        assert!(own || none != some, "{file}: either figures, or the words \"No figures are published.\"");
        for figure in &recipe.published {
            assert!(recipe.gpu.contains_key(&figure.gpu), "{file}: no [gpu.{}]", figure.gpu);
        }
    }
}

#[test]
fn every_recipe_starts_what_it_did() {
    let shown: Vec<&Rendered> = RENDERED.iter().filter(|rendered| rendered.case.site == SHOWN).collect();
    for gpus in shown.chunk_by(|one, next| one.case.recipe == next.case.recipe) {
        let base = summary(gpus[0]);
        let gpu = |rendered: &Rendered| rendered.case.gpu.clone().unwrap_or("any GPU".to_owned());
        let mut text = format!("{}:\n{}\n", gpu(gpus[0]), base.join("\n"));
        for other in &gpus[1..] {
            let differences = differences(&base, &summary(other));
            write!(text, "{}, as {} but:\n{differences}", gpu(other), gpu(gpus[0])).unwrap();
        }
        snapshot(&gpus[0].case.recipe, &text);
    }
}

/// So one site shows every recipe.
#[test]
fn a_site_changes_only_the_container_and_model_paths() {
    let settled = |rendered: &Rendered| -> Vec<String> {
        let inside = rendered.explained.iter().filter(|line| !line.starts_with("    container "));
        inside.map(|line| line.replace("/models/gpt-oss-120b", "openai/gpt-oss-120b")).collect()
    };
    let same = |one: &Case, other: &Case| (&one.recipe, &one.gpu) == (&other.recipe, &other.gpu);
    for rendered in RENDERED.iter().filter(|rendered| rendered.case.site != SHOWN) {
        let shown = RENDERED.iter().find(|o| o.case.site == SHOWN && same(&o.case, &rendered.case)).unwrap();
        assert_eq!(settled(rendered), settled(shown), "{}", rendered.case.name());
    }
}

#[test]
fn the_script_is_as_before_with_each_container_runtime() {
    for (site, _) in SITES {
        let name = format!("gpt-oss-120b-vllm-h100-{site}");
        let rendered = RENDERED.iter().find(|rendered| rendered.case.name() == name).unwrap();
        let explained: Vec<String> = rendered.explained.iter().map(|line| format!("# {line}\n")).collect();
        snapshot(
            &format!("script-{site}"),
            &format!("{}{EXPLANATION}{}", rendered.script, explained.concat()),
        );
    }
}

#[test]
fn the_plan_inside_a_script_is_the_plan_of_the_script() {
    for Rendered { case, text, .. } in RENDERED.iter() {
        let (script, _) = text.split_once(&format!("\n{EXPLANATION}")).unwrap();
        let inside = embedded_plan(script);
        let plan: Plan = serde_json::from_str(inside).unwrap();
        assert_eq!(serde_json::to_string_pretty(&plan).unwrap(), inside, "{}", case.name());
        let again = tokmark::internals::render::script(&plan, env!("CARGO_BIN_EXE_tokmark"), &[]).unwrap();
        assert_eq!(again, script, "{}: the plan alone gives the script again", case.name());
    }
}

#[test]
fn the_same_input_gives_the_same_bytes_and_plan() {
    for_each_case(|house, case| {
        if case.site != SHOWN {
            return;
        }
        let script = house.run(case.args("render")).succeeds().stdout;
        assert_eq!(house.run(case.args("render")).succeeds().stdout, script, "{}", case.name());
        let plan: Value = serde_json::from_str(embedded_plan(&script)).unwrap();
        let mut show = case.args("show");
        show.push("--json".into());
        let shown = house.run(show).succeeds().json();
        assert_eq!(shown["deployments"], plan["deployments"], "{}", case.name());
    });
}

/// bash reads every script with its plan in place; shellcheck reads each once that differs in more than comments.
#[test]
fn every_script_is_clean_bash() {
    let house = house();
    let path = house.path().join("job.sbatch");
    let mut seen = BTreeSet::new();
    for Rendered { case, script, .. } in RENDERED.iter() {
        std::fs::write(&path, script).unwrap();
        assert_eq!(complaints("bash", &["-n"], &path), Some(String::new()), "{}", case.name());
        let code: Vec<&str> = script.lines().filter(|line| !line.starts_with('#')).collect();
        if seen.insert(code.join("\n")) {
            let complaints = complaints("shellcheck", &["--severity=style"], &path).unwrap_or_default();
            assert_eq!(complaints, "", "{}", case.name());
        }
    }
}

/// What a tool says against a file; `None` when there is no such tool.
fn complaints(tool: &str, args: &[&str], path: &Path) -> Option<String> {
    let output = Command::new(tool).args(args).arg(path).output().ok()?;
    let said = [output.stdout, output.stderr].concat();
    Some(if output.status.success() { String::new() } else { String::from_utf8_lossy(&said).into_owned() })
}

#[test]
fn the_shipped_schemas_are_those_of_the_code() {
    let house = House::new();
    for name in ["recipe", "launcher", "site", "summary"] {
        let file = format!("{}/schemas/{name}.schema.json", env!("CARGO_MANIFEST_DIR"));
        let found = house.run(["schema", name]).succeeds().stdout;
        let committed = std::fs::read_to_string(&file).unwrap();
        assert_eq!(found, committed, "run `tokmark schema --output schemas`");
    }
}
