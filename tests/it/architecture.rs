//! The map of the house, held: which module may use which, what a file must say of itself, how long it may be.
//!
//! A new arrow is a decision: it is added here, with its reason, in the commit that needs it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a module may use, beside itself. Free to all and in no row: `document` (naming what is wrong in what a user
/// wrote) and the leaves in [`LEAVES`].
const ARROWS: [(&str, &[&str]); 28] = [
    // What the user wrote. `launcher` and `site` share the recipe's search folders, and a site lays defaults under its
    // sections.
    ("document", &[]),
    ("recipe", &[]),
    ("template", &[]),
    ("launcher", &["recipe"]),
    ("site", &["recipe"]),
    // What will happen. Pure: never a server, a socket or Slurm.
    ("plan", &["recipe", "launcher", "site"]),
    ("render", &["plan", "launcher"]),
    // What is submitted together: recipes by their workload names, each planned by a function it is given.
    ("workload", &["recipe", "plan"]),
    // What a machine says of itself, wherever it is asked.
    ("node", &[]),
    // Slurm: words and parsers know nothing of the crate, the calls know them.
    ("slurm", &[]),
    ("executor", &["slurm"]),
    // What a cluster says of itself, and what a site file says beside it. `node` finds programs on PATH; `doctor` renders the
    // very script that it asks Slurm about, and reads a recipe's `[slurm]` as the site lays it.
    ("survey", &["site", "slurm", "executor", "node"]),
    (
        "doctor",
        &["site", "recipe", "plan", "render", "slurm", "executor", "node", "survey", "weights", "prompts"],
    ),
    // What is sent. `metrics` is there for the phase a prompt belongs to.
    ("prompts", &["plan", "metrics"]),
    // Whether a model's folder and an image are whole. `prompts` loads tokenizers, and whoever examines keeps them on a shelf.
    // A node is asked and answers in the words of `node`.
    ("weights", &["plan", "prompts", "node"]),
    // The measurement. Of the figures `load` knows the record alone, see `load_leaves_records_and_nothing_else`.
    ("load", &["plan", "prompts", "metrics"]),
    ("metrics", &["plan"]),
    // What measurements say beside each other. The recipe has the published figures and their conditions; the empty site is
    // for resolving it without anybody's choices.
    ("analyze", &["recipe", "site", "plan", "metrics"]),
    // What is kept, and what people read of it.
    ("experiment", &["plan"]),
    ("report", &["plan", "metrics", "render", "experiment"]),
    // Inside the allocation. `load` is there for the probe: a server is ready once it has generated a token.
    (
        "deploy",
        &["node", "site", "plan", "launcher", "render", "slurm", "executor", "load", "experiment", "weights"],
    ),
    // Beside the measurement: the probe fetches the metrics page, the progress is read; the count of a prefix cache is part of
    // what a point's run says of itself.
    ("observe", &["load", "metrics", "experiment"]),
    (
        "run",
        &[
            "plan",
            "launcher",
            "prompts",
            "weights",
            "deploy",
            "load",
            "metrics",
            "observe",
            "experiment",
            "report",
        ],
    ),
    // The simulated engine could be another program.
    ("sim", &[]),
    // Every seam's error, for the exit code.
    ("error", &["deploy", "executor", "load", "render", "run", "sim"]),
    // The verbs, and above them the command line that lists them.
    (
        "commands",
        &[
            "analyze",
            "deploy",
            "doctor",
            "error",
            "executor",
            "experiment",
            "flags",
            "launcher",
            "load",
            "metrics",
            "node",
            "plan",
            "prompts",
            "recipe",
            "render",
            "report",
            "run",
            "sim",
            "site",
            "slurm",
            "survey",
            "weights",
            "workload",
        ],
    ),
    ("cli", &["commands", "flags"]),
    ("flags", &[]),
];

/// Modules free to everyone, by their whole path.
const LEAVES: [&str; 4] = ["document", "template", "recipe::units", "recipe::secret"];

/// Files longer than [`LONGEST`] lines without their tests, and why.
const LONG: [(&str, &str); 0] = [];

/// Lines of a file, its tests not counted.
const LONGEST: usize = 450;

/// Lines of a function.
const LONGEST_FUNCTION: usize = 80;

/// One source file.
struct Source {
    /// Path below `src`.
    path: String,
    /// Its lines without `#[cfg(test)]` modules.
    lines: Vec<String>,
}

impl Source {
    /// The module at the top of the crate it belongs to.
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap();
        first.trim_end_matches(".rs")
    }

    /// Whether `super` is the crate's root in it.
    fn is_at_the_top(&self) -> bool {
        !self.path.contains('/') || self.path.matches('/').count() == 1 && self.path.ends_with("/mod.rs")
    }

    /// Paths into the crate, without `crate::`; a group is taken apart.
    fn uses(&self) -> Vec<String> {
        let code: Vec<&str> = self.lines.iter().map(|line| code_of(line)).collect();
        let code = code.join("\n");
        let roots: &[&str] = if self.is_at_the_top() { &["crate::", "super::"] } else { &["crate::"] };
        let mut found = Vec::new();
        for root in roots {
            for (at, _) in code.match_indices(root) {
                if !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                    paths(&code[at + root.len()..], "", &mut found);
                }
            }
        }
        found
    }
}

/// A line without its comment. Good enough for sources that rustfmt has been over: `//` in a string follows a colon.
fn code_of(line: &str) -> &str {
    let comment = line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':'));
    comment.map_or(line, |(at, _)| &line[..at])
}

/// Reads `a::b`, `a::{b, c::d}` or `{a, b::c}` at the start of `text`; gives the text after it.
fn paths<'a>(text: &'a str, prefix: &str, found: &mut Vec<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = paths(rest, prefix, found).trim_start().trim_start_matches(',').trim_start();
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            if rest.is_empty() {
                return rest;
            }
        }
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
    if let Some(rest) = rest.strip_prefix("::") {
        return paths(rest, &path, found);
    }
    found.push(path);
    // `a as b` in a group.
    let after = rest.trim_start().strip_prefix("as ").map_or(rest, str::trim_start);
    if after.len() == rest.len() {
        return if name.is_empty() { rest.get(1..).unwrap_or("") } else { rest };
    }
    after.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every source file but those that are test modules as a whole.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&root, &mut found);
    let named = found.iter().map(|path| {
        let text = std::fs::read_to_string(path).unwrap();
        (path.strip_prefix(&root).unwrap().display().to_string(), text)
    });
    let texts: BTreeMap<String, String> = named.collect();
    let tests: Vec<String> = texts.iter().flat_map(|(path, text)| test_files(path, text)).collect();
    let kept = texts.into_iter().filter(|(path, _)| !tests.contains(path));
    kept.map(|(path, text)| Source { path, lines: without_tests(&text) }).collect()
}

/// Files that a `#[cfg(test)] mod x;` or a `#[path]` below it names.
fn test_files(path: &str, text: &str) -> Vec<String> {
    let folder = match path.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/"),
        None => String::new(),
    };
    let stem = path.trim_end_matches(".rs").rsplit('/').next().unwrap();
    let mut found = Vec::new();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for (at, _) in lines.iter().enumerate().filter(|(_, line)| **line == "#[cfg(test)]") {
        for line in lines[at + 1..].iter().take(2) {
            let words = line.trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
            if let Some(name) = words.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
                found.push(format!("{folder}{name}.rs"));
                found.push(format!("{folder}{stem}/{name}.rs"));
            }
            if let Some(name) = line.strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix("\"]")) {
                found.push(format!("{folder}{name}"));
            }
        }
    }
    found
}

/// The lines of a file without the blocks behind `#[cfg(test)]`.
fn without_tests(text: &str) -> Vec<String> {
    let mut kept = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push(line.to_owned());
            continue;
        }
        // rustfmt puts the end of a block at the indentation of its start.
        let indent = line.len() - line.trim_start().len();
        let close = format!("{}}}", " ".repeat(indent));
        let mut item = lines.by_ref().skip_while(|line| line.trim_start().starts_with("#["));
        if item.next().is_some_and(|first| first.ends_with('{')) {
            lines.by_ref().find(|line| *line == close);
        }
    }
    kept
}

#[test]
fn every_arrow_is_in_the_table() {
    let table: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !["lib.rs", "main.rs"].contains(&source.path.as_str())) {
        let Some(allowed) = table.get(source.module()) else {
            wrong.push(format!("src/{}: the module is not in the table", source.path));
            continue;
        };
        for path in source.uses() {
            let target = path.split("::").next().unwrap();
            let leaf = LEAVES.iter().any(|leaf| path == *leaf || path.starts_with(&format!("{leaf}::")));
            if table.contains_key(target) && target != source.module() && !leaf && !allowed.contains(&target)
            {
                wrong.push(format!("src/{}: crate::{path}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that are not in the table:\n{}", wrong.join("\n"));
}

#[test]
fn the_table_holds_no_arrow_nobody_uses() {
    let sources = sources();
    let mut unused = Vec::new();
    for (module, allowed) in ARROWS {
        let of_module: Vec<String> =
            sources.iter().filter(|source| source.module() == module).flat_map(Source::uses).collect();
        assert!(sources.iter().any(|source| source.module() == module), "no module {module}");
        let used = |target: &str| of_module.iter().any(|path| path.split("::").next() == Some(target));
        unused.extend(allowed.iter().filter(|to| !used(to)).map(|target| format!("{module} → {target}")));
    }
    assert!(unused.is_empty(), "{unused:?}");
}

#[test]
fn load_leaves_records_and_nothing_else() {
    for source in sources().iter().filter(|source| source.module() == "load") {
        for path in source.uses().iter().filter(|path| path.starts_with("metrics")) {
            assert!(path.starts_with("metrics::record"), "src/{}: crate::{path}", source.path);
        }
    }
}

/// What a module must not touch, in whatever way.
#[test]
fn the_core_is_pure() {
    let forbidden: [(&str, &[&str]); 5] = [
        ("plan", &["tokio", "std::env", "std::net", "std::process", "fs_err", "std::fs", "std::time"]),
        ("slurm", &["tokio", "std::process", "std::net", "fs_err", "std::fs"]),
        ("metrics", &["tokio", "std::env", "std::net", "std::process", "fs_err", "std::fs"]),
        ("analyze", &["tokio", "std::env", "std::net", "std::process", "fs_err", "std::fs", "println!"]),
        ("load", &["fs_err", "std::fs", "std::process::", "SLURM_", "println!"]),
    ];
    for source in sources() {
        for (_, names) in forbidden.iter().filter(|(module, _)| *module == source.module()) {
            for (number, line) in source.lines.iter().enumerate() {
                // `load` measures its own process, which the kernel tells in files; one file reads them.
                let code = match source.path.as_str() {
                    "load/health/kernel.rs" => code_of(line).replace("std::fs::", ""),
                    _ => code_of(line).replace("std::fs::read_to_string(\"/proc/self/", ""),
                };
                let found = names.iter().find(|name| code.contains(**name));
                assert!(found.is_none(), "src/{}:{}: {line}", source.path, number + 1);
            }
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for source in sources() {
        let first = source.lines.first().cloned().unwrap_or_default();
        assert!(first.starts_with("//! ") && first.len() > 12, "src/{}: {first:?}", source.path);
        let parts = source.path.trim_end_matches(".rs").split('/');
        for part in parts.flat_map(|part| part.split('_')) {
            let empty = ["util", "utils", "common", "helper", "helpers", "misc", "manager", "handler"];
            assert!(!empty.contains(&part), "src/{}: the name says nothing", source.path);
        }
    }
}

#[test]
fn no_file_is_longer_than_a_reader_holds() {
    let long = |source: &Source| source.lines.len() > LONGEST;
    let excused = |source: &Source| LONG.iter().any(|(path, _)| *path == source.path);
    let sources = sources();
    let wrong: Vec<String> = sources
        .iter()
        .filter(|source| long(source) != excused(source))
        .map(|source| format!("src/{}: {} lines", source.path, source.lines.len()))
        .collect();
    assert!(wrong.is_empty(), "too long, or excused for nothing: {wrong:#?}");
}

#[test]
fn no_function_is_longer_than_a_reader_holds() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (at, line) in source.lines.iter().enumerate() {
            let words = line.trim_start();
            let starts =
                ["fn ", "pub fn ", "async fn ", "pub async fn ", "pub(crate) fn ", "pub(crate) async fn "];
            if !starts.iter().any(|start| words.starts_with(start)) {
                continue;
            }
            let close = format!("{}}}", " ".repeat(line.len() - words.len()));
            let length = source.lines[at..].iter().position(|line| *line == close || line.ends_with("; }"));
            if length.is_some_and(|length| length > LONGEST_FUNCTION) {
                wrong.push(format!("src/{}:{}: {words} is {} lines", source.path, at + 1, length.unwrap()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The reader of paths itself, since everything above rests on it.
#[test]
fn paths_are_read_as_rustc_reads_them() {
    let read = |text: &str| {
        let source = Source { path: "x/y.rs".into(), lines: text.lines().map(str::to_owned).collect() };
        source.uses()
    };
    assert_eq!(read("use crate::a::b::C;"), ["a::b::C"]);
    assert_eq!(read("use crate::{a, b::{self, C as D}, e::*};"), ["a", "b::self", "b::C", "e::*"]);
    assert_eq!(
        read("use crate::a::{\n    B,\n    c::D,\n};\nlet x = crate::e::f(1);"),
        ["a::B", "a::c::D", "e::f"]
    );
    assert_eq!(read("// use crate::a;\nlet u = \"http://x\"; // crate::b"), Vec::<String>::new());
    let text = "a\n#[cfg(test)]\nmod tests {\n    use crate::x;\n}\n#[cfg(test)]\nmod t;\nb\n";
    assert_eq!(without_tests(text), ["a", "b"]);
    assert_eq!(test_files("m/a.rs", text), ["m/t.rs", "m/a/t.rs"]);
}
