//! Holds the code to CONTRIBUTING.md: which room may use which, which stay pure, that each file says what it is for, how long
//! it may be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The tables of CONTRIBUTING.md.
struct Map {
    /// What each room may use: rooms, or paths into one. `commands` may use everything.
    arrows: BTreeMap<String, Vec<String>>,
    /// Paths that every room may use.
    free: Vec<String>,
    /// Names that a pure room must not contain.
    forbidden: BTreeMap<String, Vec<String>>,
}

impl Map {
    fn of(page: &str) -> Self {
        let rows = |title: &str| -> BTreeMap<String, Vec<String>> {
            let table = page.split_once(title).unwrap().1;
            let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
            rows.map(|row| {
                let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
                let file = quoted(cells[0]).remove(0);
                let room = file.trim_start_matches("src/").trim_end_matches('/').trim_end_matches(".rs");
                (room.to_owned(), quoted(&without_parentheses(cells.last().unwrap())))
            })
            .collect()
        };
        let free = page.split_once("\nEvery room may use ").unwrap().1.split_once(". ").unwrap().0;
        Self {
            arrows: rows("| room | what it is for | may use |"),
            free: quoted(free),
            forbidden: rows("| room | contains no |"),
        }
    }

    fn read() -> Self {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("CONTRIBUTING.md");
        Self::of(&std::fs::read_to_string(page).unwrap())
    }

    /// Whether a room may use a path of the crate.
    fn allows(&self, room: &str, path: &str) -> bool {
        let below = |entry: &String| path == *entry || path.starts_with(&format!("{entry}::"));
        let target = path.split("::").next().unwrap();
        let foreign = target != room && self.arrows.contains_key(target);
        let everything = room == "commands" && target != "cli";
        !foreign || everything || self.free.iter().chain(&self.arrows[room]).any(below)
    }
}

/// The words in backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn without_parentheses(text: &str) -> String {
    let outside = |part: &str| part.split_once(')').map_or("", |(_, after)| after).to_owned();
    let mut parts = text.split('(');
    let first = parts.next().unwrap_or_default().to_owned();
    first + &parts.map(outside).collect::<String>()
}

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
        // The module, or what `#[path]` precedes it.
        let has_path = lines.get(at + 1).is_some_and(|line| line.starts_with("#["));
        for line in lines[at + 1..].iter().take(1 + usize::from(has_path)) {
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
    let map = Map::read();
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !["lib.rs", "main.rs"].contains(&source.path.as_str())) {
        if !map.arrows.contains_key(source.module()) {
            wrong.push(format!("src/{}: add the room to CONTRIBUTING.md's table", source.path));
            continue;
        }
        let refused = source.uses().into_iter().filter(|path| !map.allows(source.module(), path));
        wrong.extend(refused.map(|path| {
            let (file, room) = (&source.path, source.module());
            format!("src/{file} uses crate::{path}: add the arrow {room} → {path} to CONTRIBUTING.md's table, with its reason")
        }));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_has_no_unused_arrow() {
    let map = Map::read();
    let sources = sources();
    let mut unused = Vec::new();
    for (room, allowed) in map.arrows.iter().filter(|(room, _)| *room != "commands") {
        let of_room: Vec<String> =
            sources.iter().filter(|source| source.module() == room).flat_map(Source::uses).collect();
        assert!(sources.iter().any(|source| source.module() == room), "no room src/{room}");
        let used =
            |entry: &str| of_room.iter().any(|path| path == entry || path.starts_with(&format!("{entry}::")));
        unused.extend(allowed.iter().filter(|to| !used(to)).map(|target| format!("{room} → {target}")));
    }
    assert!(unused.is_empty(), "delete from CONTRIBUTING.md's table: {unused:?}");
}

#[test]
fn the_core_is_pure() {
    let forbidden = Map::read().forbidden;
    for source in sources() {
        let Some(names) = forbidden.get(source.module()) else { continue };
        for (number, line) in source.lines.iter().enumerate() {
            // `load` measures its own process; the kernel reports that in files, which one file reads.
            let code = match source.path.as_str() {
                "load/health/kernel.rs" => code_of(line).replace("std::fs::", ""),
                _ => code_of(line).replace("std::fs::read_to_string(\"/proc/self/", ""),
            };
            let found = names.iter().find(|name| code.contains(name.as_str()));
            assert!(found.is_none(), "src/{}:{}: {line}", source.path, number + 1);
        }
    }
}

/// The reader of the tables.
#[test]
fn the_tables_are_read() {
    let page = "| room | what it is for | may use |\n|---|---|---|\n| `src/a/` | x | `b` (its `C`), `c::d` |\n\
                | `src/b.rs` | y | |\n| `src/c/` | `z` | |\n\nEvery room may use `c::e`. More: `f`.\n\n\
                | room | contains no |\n|---|---|\n| `src/b.rs` | `std::fs` (but `X`) |\n";
    let map = Map::of(page);
    let allowed = ["b::C", "b", "c::d", "c::d::f", "c::e", "other::x", "a::y"];
    assert!(allowed.iter().all(|path| map.allows("a", path)));
    assert!(!map.allows("a", "c::f") && !map.allows("b", "a") && !map.allows("a", "c::dd"));
    assert_eq!(map.forbidden["b"], ["std::fs"]);
}

#[test]
fn every_file_begins_with_its_purpose() {
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
