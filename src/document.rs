//! A TOML file as a person wrote it: read whole, parsed alone and typed, so that every error can name the file, the
//! line, the key, what was found, what was expected and what to do next.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};

/// A mistake of the user in a file, a flag or a variable.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputError {
    /// File, flag or variable, as the user knows it.
    pub origin: String,
    /// Line and column (1-based) in a file.
    pub line: Option<(usize, usize)>,
    /// Dotted key, e.g. `deploy.tp`.
    pub key: Option<String>,
    /// What is wrong, and what was found.
    pub problem: String,
    pub expected: Option<String>,
    pub next: Option<String>,
}

impl InputError {
    /// An error in `origin` with nothing else known yet.
    pub fn new(origin: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            origin: origin.into(),
            line: None,
            key: None,
            problem: problem.into(),
            expected: None,
            next: None,
        }
    }

    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// The advice, unless there is one already.
    pub fn or_next(self, next: impl Into<String>) -> Self {
        if self.next.is_none() { self.next(next) } else { self }
    }

    /// Suggests the nearest of the `known` names, when one is near enough to `found` to be what was meant.
    pub fn suggest(self, found: &str, known: &[&str]) -> Self {
        match nearest(found, known.iter().copied()) {
            Some(near) => self.next(format!("did you mean `{near}`?")),
            None => self,
        }
    }
}

impl std::fmt::Display for InputError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.origin)?;
        if let Some((line, column)) = self.line {
            write!(f, ":{line}:{column}")?;
        }
        f.write_str(": ")?;
        if let Some(key) = &self.key {
            write!(f, "`{key}`: ")?;
        }
        f.write_str(&self.problem)?;
        if let Some(expected) = &self.expected {
            write!(f, "\n  expected: {expected}")?;
        }
        if let Some(next) = &self.next {
            write!(f, "\n  next: {next}")?;
        }
        Ok(())
    }
}

/// All errors of one class, never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct InputErrors(pub Vec<InputError>);

impl From<InputError> for InputErrors {
    fn from(error: InputError) -> Self {
        Self(vec![error])
    }
}

impl InputErrors {
    /// `Ok` when `errors` is empty, else each of them once.
    pub fn check(errors: Vec<InputError>) -> Result<(), Self> {
        let mut once: Vec<InputError> = Vec::new();
        for error in errors {
            if !once.contains(&error) {
                once.push(error);
            }
        }
        if once.is_empty() { Ok(()) } else { Err(Self(once)) }
    }

    /// All values, or all errors, each once.
    pub fn collect<T>(results: impl IntoIterator<Item = Result<T, Self>>) -> Result<Vec<T>, Self> {
        let (mut values, mut errors) = (Vec::new(), Vec::new());
        for result in results {
            match result {
                Ok(value) => values.push(value),
                Err(Self(problems)) => errors.extend(problems),
            }
        }
        Self::check(errors)?;
        Ok(values)
    }
}

/// The error of a file that is not there. It suggests the nearest name in the folder, or names the folder that is missing too.
pub fn no_such_file(path: &Path) -> InputError {
    let error = InputError::new(path.display().to_string(), "there is no such file");
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(files) = std::fs::read_dir(folder) else {
        return error.next(format!("correct the path: there is no folder {}", folder.display()));
    };
    let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let found = stem(path);
    let files = files.filter_map(|file| Some(file.ok()?.path()));
    // An extension that both have says nothing of their likeness.
    let near = files
        .map(|file| {
            (strsim::damerau_levenshtein(&found, &stem(&file)), file.extension() != path.extension(), file)
        })
        .filter(|(distance, _, _)| *distance <= found.chars().count() / 3)
        .min();
    match near.as_ref().and_then(|(_, _, file)| file.file_name()) {
        Some(name) => error.next(format!("did you mean `{}`?", path.with_file_name(name).display())),
        None => error,
    }
}

/// Longest file that is read: a person writes a thousandth of it.
const LONGEST: u64 = 4 << 20;

/// The text of a file that is not too long. A pipe is read where a shell made it (`<(…)`); any other may have no writer.
fn read(path: &Path) -> std::io::Result<String> {
    let is_pipe = std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
    let is_from_shell =
        path.starts_with("/dev/fd") || path.starts_with("/proc") || path == Path::new("/dev/stdin");
    if is_pipe && !is_from_shell {
        return Err(std::io::Error::other("a pipe, not a file"));
    }
    let mut bytes = Vec::new();
    fs_err::File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(std::io::Error::other(format!("longer than {} MiB", LONGEST >> 20)));
    }
    let not_text =
        |_| format!("failed to read from file `{}`: stream did not contain valid UTF-8", path.display());
    String::from_utf8(bytes).map_err(not_text).map_err(std::io::Error::other)
}

/// A TOML file and the name it goes by in messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Path as the user knows it, or `embedded:NAME`.
    pub file: String,
    /// The whole text.
    pub text: String,
}

impl Document {
    /// Reads `path`.
    pub fn read(path: &Path) -> Result<Self, InputError> {
        let file = path.display().to_string();
        match read(path) {
            Ok(text) => Ok(Self { file, text }),
            Err(error) => {
                let error = match error.kind() {
                    std::io::ErrorKind::NotFound => no_such_file(path),
                    _ => InputError::new(file, format!("cannot be read: {error}")),
                };
                Err(error.expected("a readable TOML file in UTF-8"))
            }
        }
    }

    /// Parses the whole file as `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, InputError> {
        toml::from_str(&self.text).map_err(|error| self.explain(&error))
    }

    /// The file as plain tables; call it after [`Document::parse`] succeeded.
    pub fn table(&self) -> Result<toml::Table, InputError> {
        self.parse()
    }

    /// Line (1-based) of every key, by dotted path; tables of a list are `list[1]`, `list[2]` …
    pub fn lines(&self) -> BTreeMap<String, usize> {
        let mut lines = BTreeMap::new();
        if let Ok(table) = DeTable::parse(&self.text) {
            self.collect_lines(table.get_ref(), "", &mut lines);
        }
        lines
    }

    /// `file:line` of a key, or of the nearest key above it that the file has; else the file alone.
    pub fn at(&self, key: &str) -> String {
        match line_of(&self.lines(), key) {
            Some(line) => format!("{}:{line}", self.file),
            None => self.file.clone(),
        }
    }

    fn collect_lines(&self, table: &DeTable<'_>, prefix: &str, lines: &mut BTreeMap<String, usize>) {
        for (key, value) in table {
            let path = join(prefix, key.get_ref());
            lines.insert(path.clone(), self.position(key.span().start).0);
            match value.get_ref() {
                DeValue::Table(inner) => self.collect_lines(inner, &path, lines),
                DeValue::Array(items) => {
                    for (number, item) in (1..).zip(items.iter()) {
                        if let DeValue::Table(inner) = item.get_ref() {
                            let path = format!("{path}[{number}]");
                            lines.insert(path.clone(), self.position(item.span().start).0);
                            self.collect_lines(inner, &path, lines);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// 1-based line and column of a byte offset.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset.min(self.text.len())).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(1, |tail| tail.chars().count() + 1);
        (line, column)
    }

    /// Turns a TOML or serde error into an [`InputError`].
    fn explain(&self, error: &toml::de::Error) -> InputError {
        let offset = error.span().map(|span| span.start);
        let key = offset.and_then(|offset| {
            let table = DeTable::parse(&self.text).ok()?;
            key_at(table.get_ref(), offset)
        });
        let mut explained = explain_message(error.message());
        explained.origin.clone_from(&self.file);
        explained.line = offset.map(|offset| self.position(offset));
        if let (Err(_), Some((line, _))) = (DeTable::parse(&self.text), explained.line) {
            let text = self.text.lines().nth(line - 1).unwrap_or_default().trim();
            explained.problem = format!("not TOML: {}: found `{text}`", explained.problem);
        }
        explained.key = key;
        explained
    }
}

/// Line of `key` by the lines of a document, or of the nearest key above it.
pub fn line_of(lines: &BTreeMap<String, usize>, key: &str) -> Option<usize> {
    let mut key = key;
    loop {
        if let Some(line) = lines.get(key) {
            return Some(*line);
        }
        match key.rfind('.') {
            Some(dot) => key = &key[..dot],
            None => return None,
        }
    }
}

/// Turns serde's text into problem, expectation and advice. serde words these itself, for every format alike.
pub fn explain_message(message: &str) -> InputError {
    let message = message.trim();
    if let Some(rest) = message.strip_prefix("unknown field ").or(message.strip_prefix("unknown variant ")) {
        let what = if message.starts_with("unknown field") { "unknown key" } else { "unknown value" };
        let names: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        if let Some((found, known)) = names.split_first() {
            let error = InputError::new("", format!("{what} `{found}`"));
            return error.expected(one_of(known, "nothing here")).suggest(found, known);
        }
    }
    for kind in ["invalid type: ", "invalid value: ", "invalid length "] {
        let parts = message.strip_prefix(kind).and_then(|rest| rest.split_once(", expected "));
        if let Some((found, expected)) = parts {
            let what = if kind.contains("length") { "length: " } else { "" };
            return InputError::new("", format!("{what}found {found}")).expected(plain_type(expected));
        }
    }
    if let Some(field) = message.strip_prefix("missing field ") {
        return InputError::new("", format!("the key {field} is missing")).next(format!("add {field}"));
    }
    match message.split_once(", expected ") {
        Some((problem, expected)) => {
            let error = InputError::new("", problem.replace('\n', "; "));
            match expected.split_once("; did you mean ") {
                Some((expected, meant)) => error.expected(expected).next(format!("did you mean {meant}")),
                None => error.expected(expected),
            }
        }
        None => InputError::new("", message.replace('\n', "; ")),
    }
}

/// serde's Rust type names in plain words.
fn plain_type(expected: &str) -> String {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more".into(),
        "i32" | "i64" => "a whole number".into(),
        "f64" | "f32" => "a number".into(),
        "a boolean" => "true or false".into(),
        "a sequence" => "a list".into(),
        "a map" => "a table".into(),
        other if other.starts_with("struct ") => "a table".into(),
        other => other.into(),
    }
}

/// `one of a, b`; `none` when no name is known.
pub fn one_of(known: &[&str], none: &str) -> String {
    if known.is_empty() { none.to_owned() } else { format!("one of {}", known.join(", ")) }
}

/// The nearest of `known` names, when one is near enough to be what was meant.
pub fn nearest<'a>(found: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (score, name) = known
        .map(|name| (strsim::damerau_levenshtein(&found.to_lowercase(), &name.to_lowercase()), name))
        .min_by_key(|(score, _)| *score)?;
    (score <= (found.chars().count().max(3) / 3).max(2)).then_some(name)
}

/// Dotted path of the deepest key or value whose text covers `offset`.
fn key_at(table: &DeTable<'_>, offset: usize) -> Option<String> {
    for (key, value) in table {
        let covers = |span: std::ops::Range<usize>| span.contains(&offset);
        let inner = match value.get_ref() {
            DeValue::Table(inner) => key_at(inner, offset),
            DeValue::Array(items) => items.iter().find_map(|item| match item.get_ref() {
                DeValue::Table(inner) => key_at(inner, offset),
                _ => None,
            }),
            _ => None,
        };
        if let Some(inner) = inner {
            return Some(format!("{}.{inner}", join("", key.get_ref())));
        }
        if covers(key.span()) || covers(value.span()) {
            return Some(join("", key.get_ref()));
        }
    }
    None
}

/// `prefix.key`, quoting a key that holds a dot.
pub fn join(prefix: &str, key: &str) -> String {
    let key = if key.contains('.') || key.is_empty() { format!("{key:?}") } else { key.to_owned() };
    if prefix.is_empty() { key } else { format!("{prefix}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "only its parsing is tested")]
        deploy: Section,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Section {
        #[expect(dead_code, reason = "only its parsing is tested")]
        tp: Option<u32>,
        #[expect(dead_code, reason = "only its parsing is tested")]
        launcher: Option<String>,
    }

    fn error(text: &str) -> String {
        let document = Document { file: "r.toml".into(), text: text.into() };
        document.parse::<Sample>().unwrap_err().to_string()
    }

    #[test]
    fn what_is_endless_or_has_no_writer_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |path: &Path| Document::read(path).unwrap_err().problem;
        assert!(refused(Path::new("/dev/zero")).contains("longer than 4 MiB"));
        let long = folder.path().join("long.toml");
        std::fs::write(&long, "#".repeat((4 << 20) + 1)).unwrap();
        assert!(refused(&long).contains("longer than 4 MiB"));
        let pipe = folder.path().join("pipe.toml");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(refused(&pipe).contains("a pipe, not a file"));
    }

    #[test]
    fn an_unknown_key_names_line_key_and_the_nearest() {
        assert_eq!(
            error("[deploy]\ntp = 1\nlauncer = \"vllm\"\n"),
            "r.toml:3:1: `deploy.launcer`: unknown key `launcer`\n  expected: one of tp, launcher\n  next: did you mean `launcher`?"
        );
    }

    #[test]
    fn a_wrong_type_names_found_and_expected() {
        assert_eq!(
            error("[deploy]\ntp = \"four\"\n"),
            "r.toml:2:6: `deploy.tp`: found string \"four\"\n  expected: a whole number, 0 or more"
        );
    }

    #[test]
    fn broken_syntax_names_the_line() {
        assert!(error("[deploy]\ntp = = 3\n").starts_with("r.toml:2:"), "{}", error("[deploy]\ntp = = 3\n"));
    }

    #[test]
    fn a_key_deep_inside_is_named_without_quotes() {
        let table = DeTable::parse("[a]\n[[a.b]]\nc = 1\n\"d.e\" = 2\n").unwrap();
        assert_eq!(key_at(table.get_ref(), 12).as_deref(), Some("a.b.c"));
        assert_eq!(key_at(table.get_ref(), 18).as_deref(), Some("a.b.\"d.e\""));
    }

    #[test]
    fn lines_of_tables_in_a_list() {
        let text = "[[a.b]]\nc = 1\n\n[[a.b]]\nc = 2\n";
        let document = Document { file: "r".into(), text: text.into() };
        assert_eq!((document.at("a.b[1].c").as_str(), document.at("a.b[2]").as_str()), ("r:2", "r:4"));
        assert_eq!(document.at("a.b[2].missing"), "r:4");
    }

    #[test]
    fn lines_of_nested_keys() {
        let document = Document { file: "r".into(), text: "a = 1\n[b]\nc = 2\n[b.d]\ne = 3\n".into() };
        let lines = document.lines();
        assert_eq!((lines["a"], lines["b.c"], lines["b.d.e"]), (1, 3, 5));
    }
}
