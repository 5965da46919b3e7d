//! Where a value of a merged recipe comes from.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

use crate::document::line_of;

/// Where a value comes from; shown and stored as `default`, `r.toml:3`, `$ISL (job)`, `--set`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub enum Origin {
    /// `defaults.toml`.
    Default,
    /// A recipe or a site file, and the line when it is known.
    File {
        /// The file.
        file: String,
        /// The line of the key, or of the nearest key above it.
        line: Option<usize>,
    },
    /// An environment variable: a knob of the recipe, or a variable of sbatch.
    Variable {
        /// Its name.
        name: String,
        /// Read in the job, not when the script was rendered.
        in_job: bool,
    },
    /// `--env NAME=VALUE`.
    Env(String),
    /// `--set KEY=VALUE`.
    Set,
    /// Another option, by its name: `--isl`.
    Flag(String),
}

impl Origin {
    /// The origin of `key` in a file with these lines of keys.
    pub fn in_file(file: &str, lines: &BTreeMap<String, usize>, key: &str) -> Self {
        Self::File { file: file.to_owned(), line: line_of(lines, key) }
    }

    /// Whether an option or a variable set it, not a file.
    pub fn is_given(&self) -> bool {
        !matches!(self, Self::Default | Self::File { .. })
    }
}

impl Display for Origin {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line: Some(line) } => write!(f, "{file}:{line}"),
            Self::File { file, line: None } => f.write_str(file),
            Self::Variable { name, in_job: false } => write!(f, "${name}"),
            Self::Variable { name, in_job: true } => write!(f, "${name} (job)"),
            Self::Env(name) => write!(f, "--env {name}"),
            Self::Set => f.write_str("--set"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.to_string()
    }
}

impl From<String> for Origin {
    /// Reads what `Display` writes.
    fn from(text: String) -> Self {
        if let Some(name) = text.strip_prefix('$') {
            let (name, in_job) = name.strip_suffix(" (job)").map_or((name, false), |name| (name, true));
            return Self::Variable { name: name.to_owned(), in_job };
        }
        if let Some(name) = text.strip_prefix("--env ") {
            return Self::Env(name.to_owned());
        }
        match text.as_str() {
            "default" => return Self::Default,
            "--set" => return Self::Set,
            flag if flag.starts_with("--") => return Self::Flag(text),
            _ => {}
        }
        match text.rsplit_once(':').and_then(|(file, line)| Some((file, line.parse().ok()?))) {
            Some((file, line)) => Self::File { file: file.to_owned(), line: Some(line) },
            None => Self::File { file: text, line: None },
        }
    }
}

/// The origin of each value, by dotted key.
pub type Origins = BTreeMap<String, Origin>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_read_back_as_it_was_written() {
        let file = |line| Origin::File { file: "a:b/r.toml".into(), line };
        let variable = |in_job| Origin::Variable { name: "ISL".into(), in_job };
        let table = [
            (Origin::Default, "default"),
            (file(Some(3)), "a:b/r.toml:3"),
            (file(None), "a:b/r.toml"),
            (variable(false), "$ISL"),
            (variable(true), "$ISL (job)"),
            (Origin::Env("ISL".into()), "--env ISL"),
            (Origin::Set, "--set"),
            (Origin::Flag("--isl".into()), "--isl"),
        ];
        for (origin, text) in table {
            assert_eq!(origin.to_string(), text);
            assert_eq!(Origin::from(text.to_owned()), origin);
        }
    }
}
