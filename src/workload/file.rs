//! Parses a suite file: TOML with one `[[job]]` table per order. A list in it is an axis.

use std::path::Path;

use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

use super::order::{Order, Scales};
use crate::document::{Document, InputError, InputErrors, join};
use crate::recipe::find::is_name;

/// The header of a suite file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuiteFile {
    /// Name of the suite; by default derived from the file's name.
    pub name: String,
    /// What the suite is for, in one line.
    pub summary: Option<String>,
    /// The file's text, verbatim.
    pub text: String,
}

/// The file as TOML.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Jobs {
    /// Version of the format: 1.
    #[serde(default)]
    schema: Option<u32>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    summary: Option<String>,
    #[serde(default)]
    job: Vec<Job>,
}

/// `[[job]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Job {
    workload: List<String>,
    recipe: Option<String>,
    size: Option<String>,
    dtype: List<String>,
    scale: List<u32>,
    gpu: List<String>,
    repeats: Option<u32>,
    env: Table,
    set: Table,
}

/// One value or a list of values.
#[derive(Debug)]
struct List<T>(Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let typed = |value: Value| T::deserialize(value).map_err(|error| D::Error::custom(error.message()));
        match Value::deserialize(deserializer)? {
            Value::Array(values) if values.is_empty() => Err(D::Error::custom("found an empty list")),
            Value::Array(values) => Ok(Self(values.into_iter().map(typed).collect::<Result<_, _>>()?)),
            value => Ok(Self(vec![typed(value)?])),
        }
    }
}

/// Parses the suite and its orders.
pub fn parse(document: &Document) -> Result<(SuiteFile, Vec<Order>), InputErrors> {
    let jobs: Jobs = document.parse().map_err(|error| {
        let of_llmb = [".yaml", ".yml", ".txt"].iter().any(|end| document.file.ends_with(end));
        let next = "job files are TOML here: docs/from-llmb-run.md, \"Bulk files\", shows how one of llmb-run is written";
        if of_llmb { error.next(next) } else { error }
    })?;
    let mut errors = Vec::new();
    let mut wrong = |key: &str, found: String, expected: &str| {
        errors.push(InputError::new(document.at(key), found).key(key).expected(expected));
    };
    if let Some(version) = jobs.schema.filter(|version| *version != 1) {
        wrong("schema", format!("found {version}"), "1");
    }
    if let Some(name) = jobs.name.as_ref().filter(|name| !is_name(name)) {
        wrong("name", format!("found {name:?}"), "lower-case letters, digits, `.`, `_` and `-`");
    }
    if jobs.job.is_empty() {
        let error = InputError::new(&document.file, "no [[job]]");
        errors.push(error.expected("[[job]] with workload or recipe"));
    }
    let orders = (1..).zip(jobs.job).map(|(number, job)| order(document, number, job, &mut errors)).collect();
    InputErrors::check(errors)?;
    let name = jobs.name.unwrap_or_else(|| name_of(&document.file));
    Ok((SuiteFile { name, summary: jobs.summary, text: document.text.clone() }, orders))
}

/// Derives the suite's name from the file's: `My jobs.toml` becomes `my-jobs`.
fn name_of(file: &str) -> String {
    let stem = Path::new(file).file_stem().map(|stem| stem.to_string_lossy().to_lowercase());
    let plain = |c: char| if is_name(&format!("a{c}")) { c } else { '-' };
    let name: String = stem.unwrap_or_default().chars().map(plain).collect();
    let name = name.trim_start_matches(['-', '.', '_']);
    if name.is_empty() { "suite".to_owned() } else { name.to_owned() }
}

/// The order of job `number`.
fn order(document: &Document, number: usize, job: Job, errors: &mut Vec<InputError>) -> Order {
    let wrong = |key: &str, problem: &str, expected: &str| {
        let place = document.at(&format!("job[{number}].{key}"));
        InputError::new(place, problem).key(key).expected(expected)
    };
    let origin = document.at(&format!("job[{number}]"));
    match (&job.recipe, job.workload.0.is_empty()) {
        (None, true) => {
            let error = InputError::new(&origin, "names nothing to run");
            errors.push(error.expected("workload = \"…\" or recipe = \"…\""));
        }
        (Some(_), false) => errors.push(wrong("recipe", "beside workload", "one of the two")),
        _ => {}
    }
    let repeats = job.repeats.unwrap_or(1);
    if repeats == 0 {
        errors.push(wrong("repeats", "found 0", "1 or more"));
    }
    let mut axes = |section: &Table, name: &str| {
        let mut found = Vec::new();
        flatten(section, "", &mut |key, value| {
            let values = texts(value);
            if values.is_empty() {
                errors.push(wrong(&format!("{name}.{key}"), "an empty list", "at least one value"));
            }
            found.push((key, values));
        });
        found
    };
    Order {
        origin,
        env: axes(&job.env, "env"),
        sets: axes(&job.set, "set"),
        recipe: job.recipe.map(|recipe| beside(document, recipe)),
        workloads: job.workload.0.into_iter().map(|workload| beside(document, workload)).collect(),
        size: job.size,
        dtypes: job.dtype.0,
        scales: if job.scale.0.is_empty() { Scales::Own } else { Scales::These(job.scale.0) },
        gpus: job.gpu.0,
        repeats,
        force: false,
    }
}

/// A relative recipe path starts at the folder of the suite file.
fn beside(document: &Document, recipe: String) -> String {
    let folder = Path::new(&document.file).parent().filter(|folder| !folder.as_os_str().is_empty());
    let is_path = recipe.contains('/') || recipe.ends_with(".toml");
    match folder {
        Some(folder) if is_path && Path::new(&recipe).is_relative() => {
            folder.join(recipe).display().to_string()
        }
        _ => recipe,
    }
}

/// Calls `found` for each value of a table with its dotted key.
fn flatten(table: &Table, prefix: &str, found: &mut dyn FnMut(String, &Value)) {
    for (key, value) in table {
        match value {
            Value::Table(inner) => flatten(inner, &join(prefix, key), found),
            // A quoted top-level key is already dotted.
            value if prefix.is_empty() => found(key.clone(), value),
            value => found(join(prefix, key), value),
        }
    }
}

/// The values of an axis, each as text for `--set key=` or `--env NAME=`. A nested list is one value.
fn texts(value: &Value) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match value {
        Value::Array(values) => values.iter().map(text).collect(),
        value => vec![text(value)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<Order>, String> {
        let parsed = parse(&Document { file: "jobs.toml".into(), text: text.into() });
        parsed.map(|(_, orders)| orders).map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_suite_takes_its_name_from_the_file_and_paths_from_its_folder() {
        let job = "[[job]]\nrecipe = \"r.toml\"\n[[job]]\nworkload = [\"./w.toml\", \"quickstart\", \"/abs/r.toml\"]\n";
        let table = [
            ("nightly.toml", "", "nightly", None, "r.toml"),
            ("suites/My Night,ly.toml", "", "my-night-ly", None, "suites/r.toml"),
            ("/x/-.toml", "", "suite", None, "/x/r.toml"),
            (
                "a.toml",
                "name = \"gpt-oss.2\"\nsummary = \"all of it\"\n",
                "gpt-oss.2",
                Some("all of it"),
                "r.toml",
            ),
        ];
        for (file, head, name, summary, recipe) in table {
            let text = format!("{head}{job}");
            let (suite, orders) = parse(&Document { file: file.into(), text: text.clone() }).unwrap();
            assert_eq!((suite.name.as_str(), suite.summary.as_deref()), (name, summary), "{file}");
            assert_eq!((suite.text, orders[0].recipe.as_deref()), (text, Some(recipe)), "{file}");
            assert_eq!(orders[1].workloads[1..], ["quickstart", "/abs/r.toml"], "{file}");
        }
    }

    #[test]
    fn every_list_is_an_axis_and_a_list_in_a_list_a_value() {
        let orders = parsed(
            "[[job]]\nworkload = [\"a\", \"b_7b\"]\nsize = \"7b\"\ndtype = \"fp8\"\nscale = [4, 8]\ngpu = [\"h100\"]\nrepeats = 3\n\
             env = { STREAMING = [true, false], NCCL_DEBUG = \"INFO\" }\n\
             [job.set]\n\"load.concurrency\" = [[1, 2], 4]\nload.isl = 128\n\n[[job]]\nrecipe = \"./r.toml\"\n",
        )
        .unwrap();
        let first = &orders[0];
        assert_eq!((first.workloads.as_slice(), first.repeats), (&["a".to_owned(), "b_7b".into()][..], 3));
        assert_eq!(
            (first.dtypes.as_slice(), &first.scales),
            (&["fp8".to_owned()][..], &Scales::These(vec![4, 8]))
        );
        let strings = |values: &[&str]| -> Vec<String> { values.iter().map(|v| (*v).to_owned()).collect() };
        let mut env = first.env.clone();
        env.sort();
        assert_eq!(
            env,
            [("NCCL_DEBUG".into(), strings(&["INFO"])), ("STREAMING".into(), strings(&["true", "false"]))]
        );
        let mut sets = first.sets.clone();
        sets.sort();
        assert_eq!(
            sets,
            [("load.concurrency".into(), strings(&["[1, 2]", "4"])), ("load.isl".into(), strings(&["128"]))]
        );
        assert_eq!(
            (orders[1].recipe.as_deref(), orders[1].origin.as_str()),
            (Some("./r.toml"), "jobs.toml:13")
        );
        assert_eq!((orders[1].repeats, &orders[1].scales), (1, &Scales::Own));
    }

    #[test]
    fn a_bulk_file_of_llmb_run_is_sent_to_its_page() {
        let text = "inference_gpt-oss:\n  dtypes: mxfp4\n  scales: [4]\n";
        for (name, is_sent) in [("jobs.yaml", true), ("j.yml", true), ("j.txt", true), ("jobs.toml", false)] {
            let error = parse(&Document { file: name.into(), text: text.into() }).unwrap_err().to_string();
            assert!(error.contains("not TOML"), "{error}");
            assert_eq!(error.contains("docs/from-llmb-run.md"), is_sent, "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let table = [
            ("", "jobs.toml: no [[job]]"),
            ("[[job]]\ndtype = \"fp8\"\n", "jobs.toml:1: names nothing to run"),
            ("[[job]]\nworkloads = \"a\"\n", "did you mean `workload`"),
            ("[[job]]\nworkload = \"a\"\nrecipe = \"b\"\n", "jobs.toml:3: `recipe`: beside workload"),
            ("[[job]]\nworkload = \"a\"\nscale = [4, \"8\"]\n", "jobs.toml:3"),
            ("[[job]]\nworkload = \"a\"\nrepeats = 0\n", "jobs.toml:3: `repeats`: found 0"),
            ("[[job]]\nworkload = \"a\"\nenv = { X = [] }\n", "jobs.toml:3: `env.X`: an empty list"),
            ("[[job]]\nworkload = []\n", "an empty list"),
            ("name = \"All of it\"\n[[job]]\nworkload = \"a\"\n", "jobs.toml:1: `name`: found \"All of it\""),
            ("sumary = \"x\"\n[[job]]\nworkload = \"a\"\n", "did you mean `summary`"),
            ("schema = 2\n[[job]]\nworkload = \"a\"\n", "jobs.toml:1: `schema`: found 2"),
            ("[[job]]\nworkload = = 1\n", "not TOML"),
        ];
        for (text, said) in table {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(said), "{said:?} in {error:?} for {text:?}");
        }
    }
}
