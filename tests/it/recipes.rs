//! Every shipped recipe, on every GPU type it is written for, with and without a container runtime: it plans, it renders,
//! and what it would start is in a committed snapshot. A change of a recipe, a launcher or the script is a change of
//! what people measure, and shows here.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use crate::support::house::House;
use tokmark::plan::Plan;
use tokmark::recipe::find;

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

/// A recipe on a GPU type at a site.
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
        let recipe: tokmark::recipe::Recipe = document.parse().unwrap();
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

/// Each case on one of the cores.
fn for_each_case(check: impl Fn(&House, &Case) + Sync) {
    let house = house();
    let waiting = Mutex::new(cases());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let Some(case) = waiting.lock().unwrap().pop() else { break };
                    check(&house, &case);
                }
            });
        }
    });
}

#[test]
fn every_recipe_says_where_it_is_from_and_what_was_published() {
    for document in find::embedded() {
        let recipe: tokmark::recipe::Recipe = document.parse().unwrap();
        let file = &document.file;
        let summary = recipe.summary.unwrap_or_default();
        assert!(!summary.is_empty() && !recipe.source.unwrap_or_default().is_empty(), "{file}");
        let notes = recipe.notes.unwrap_or_default();
        let (none, some) = (notes.contains("None published."), !recipe.published.is_empty());
        let own = recipe.name.as_deref() == Some("quickstart");
        assert!(own || none != some, "{file}: either figures, or the words \"None published.\"");
        for figure in &recipe.published {
            assert!(recipe.gpu.contains_key(&figure.gpu), "{file}: no [gpu.{}]", figure.gpu);
        }
    }
}

#[test]
fn every_recipe_renders_as_before() {
    for_each_case(|house, case| {
        let mut args = case.args("render");
        args.push("--explain".into());
        let text = house.run(args).succeeds().stdout;
        let plan = embedded_plan(&text);
        // The plan repeats the recipe and the launcher word for word; its own snapshot would only be noise.
        let shown = settled(house, &text.replace(plan, "{ the plan }"));
        insta::with_settings!({ snapshot_path => "../snapshots/recipes", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(case.name(), shown);
        });
    });
}

#[test]
fn the_same_input_gives_the_same_bytes_and_the_plan_inside_is_the_plan() {
    for_each_case(|house, case| {
        let script = house.run(case.args("render")).succeeds().stdout;
        assert_eq!(house.run(case.args("render")).succeeds().stdout, script, "{}", case.name());
        let text = embedded_plan(&script);
        let plan: Plan = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string_pretty(&plan).unwrap(), text, "{}", case.name());
        let again = tokmark::render::script(&plan, env!("CARGO_BIN_EXE_tokmark"), &[]).unwrap();
        assert_eq!(again, script, "{}: the plan alone gives the script again", case.name());
        let mut show = case.args("show");
        show.push("--json".into());
        let shown = house.run(show).succeeds().json();
        assert_eq!(shown["deployments"], serde_json::to_value(&plan.deployments).unwrap(), "{}", case.name());
    });
}

#[test]
fn every_script_is_clean_bash() {
    for_each_case(|house, case| {
        let path = house.path().join(format!("{}.sbatch", case.name()));
        let mut args = case.args("render");
        args.extend(["--output".into(), path.display().to_string()]);
        house.run(args).succeeds();
        assert_eq!(complaints("bash", &["-n"], &path), Some(String::new()), "{}", case.name());
        let complaints = complaints("shellcheck", &["--severity=style"], &path).unwrap_or_default();
        assert_eq!(complaints, "", "{}", case.name());
    });
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
