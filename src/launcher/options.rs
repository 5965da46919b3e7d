//! What an engine takes as its options: tables beside the launchers, written from the engines themselves.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::find::option_tables;
use super::{Launcher, Options, PoolName};

/// `launchers/options/NAME.toml`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptionTable {
    /// The engine, for messages.
    pub engine: String,
    /// The version that has these options.
    pub version: String,
    /// As the engine lists them.
    options: BTreeMap<String, OptionSpec>,
    /// Added to them, or in their place: ranges, and options of other versions.
    #[serde(default)]
    by_hand: BTreeMap<String, OptionSpec>,
}

static TABLES: LazyLock<BTreeMap<String, OptionTable>> = LazyLock::new(|| {
    let tables = option_tables();
    tables.filter_map(|(name, document)| Some((name, document.parse().ok()?))).collect()
});

/// What an option takes: a kind, or a table of limits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Written")]
pub struct OptionSpec {
    /// Its kind. Default: `string`.
    kind: Kind,
    /// Valid values. Empty: any of the kind.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    values: Vec<String>,
    /// It takes several values.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    list: bool,
    #[serde(flatten)]
    range: Range,
    /// The keys of a table. Empty: any.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    keys: BTreeMap<String, OptionSpec>,
}

/// Bounds of a number.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Range {
    /// The least value.
    min: Option<f64>,
    /// The greatest value.
    max: Option<f64>,
    /// Values are greater than this.
    above: Option<f64>,
    /// Values are less than this.
    below: Option<f64>,
}

/// An [`OptionSpec`] in a file.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Written {
    Kind(Kind),
    /// A kind with limits.
    Limits {
        #[serde(default)]
        kind: Kind,
        #[serde(default)]
        values: Vec<String>,
        #[serde(default)]
        list: bool,
        #[serde(flatten)]
        range: Range,
        #[serde(default)]
        keys: BTreeMap<String, OptionSpec>,
    },
}

impl From<Written> for OptionSpec {
    fn from(written: Written) -> Self {
        match written {
            Written::Kind(kind) => Self { kind, ..Self::default() },
            Written::Limits { kind, values, list, range, keys } => Self { kind, values, list, range, keys },
        }
    }
}

/// Kind of a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Bool,
    Integer,
    /// A whole number that may be written with a unit: `8k`, `1M`.
    Size,
    Float,
    #[default]
    String,
    Json,
}

/// What a table says about an engine option of a recipe.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// The table does not have it; `near` is the name that was probably meant.
    Unknown { near: Option<String> },
    /// The option does not take the value. `listed`: because it is none of the values that the table lists.
    Refused { found: Value, expected: String, listed: bool },
}

impl OptionTable {
    fn get(&self, name: &str) -> Option<&OptionSpec> {
        self.by_hand.get(name).or_else(|| self.options.get(name))
    }
}

impl Options {
    /// The table that the launcher names.
    pub fn known_options(&self) -> Option<&'static OptionTable> {
        TABLES.get(self.table.as_deref()?)
    }

    /// Every name that the launcher, its table or its own options have.
    pub fn names(&self) -> Vec<&str> {
        let table = self.known_options().into_iter();
        let table = table.flat_map(|table| table.options.keys().chain(table.by_hand.keys()));
        let mut names: Vec<&str> =
            self.known.iter().chain(self.own.keys()).chain(table).map(String::as_str).collect();
        names.dedup();
        names
    }

    /// What sets an option that tokmark gives to the engine itself: a key of the recipe, or nothing.
    pub fn setter(&self, name: &str) -> Option<&str> {
        self.set_by.get(&name.replace('-', "_")).map(String::as_str)
    }

    /// The option of a name as a recipe writes it: `-` and `_` are the same, and `no_NAME` is a switch that is off.
    fn spec(&self, name: &str) -> Option<&OptionSpec> {
        let get = |name: &str| self.own.get(name).or_else(|| self.known_options()?.get(name));
        let off = || name.strip_prefix("no_").and_then(get).filter(|option| option.kind == Kind::Bool);
        get(name).or_else(off)
    }

    /// The switch that `no_NAME` was probably meant to turn off.
    fn near_switch(&self, name: &str) -> Option<String> {
        let name = name.strip_prefix("no_")?;
        let is_switch = |known: &&str| self.spec(known).is_some_and(|option| option.kind == Kind::Bool);
        near(name, self.names().into_iter().filter(is_switch)).map(|near| format!("no_{near}"))
    }

    /// What the table says about options, by their key. Nothing without a table.
    pub fn findings(&self, engine: &Map<String, Value>) -> Vec<(String, Finding)> {
        let mut found = Vec::new();
        if self.known_options().is_none() && self.own.is_empty() {
            return found;
        }
        for (key, value) in engine {
            let name = key.replace('-', "_");
            // `compilation_config.mode` is a field of an option.
            let (option, field) =
                name.split_once('.').map_or((&*name, None), |(name, field)| (name, Some(field)));
            match self.spec(option) {
                Some(_) if field.is_some() => {}
                Some(spec) => spec.findings(key, value, &mut found),
                None => {
                    let near = near(&name, self.names().into_iter()).map(str::to_owned);
                    let near = near.or_else(|| self.near_switch(&name));
                    found.push((key.clone(), Finding::Unknown { near }));
                }
            }
        }
        found
    }
}

impl Launcher {
    /// The option that limits prompt plus answer, as the recipe spells it, and its tokens; -1 and `auto` leave it to the engine. Prefill
    /// generates one token, whatever the answer's length.
    pub fn context_limit(&self, pool: PoolName, engine: &Map<String, Value>) -> Option<(String, u64)> {
        let option = self.options.context.as_deref().filter(|_| pool != PoolName::Prefill)?;
        let (key, value) = engine.iter().find(|(key, _)| key.replace('-', "_") == option)?;
        Some((key.clone(), size(value).filter(|limit| *limit >= 0.0)? as u64))
    }

    /// Whether every engine option becomes an argument, also one that no template uses.
    pub fn passes_all_options(&self) -> bool {
        let mut args = self.roles.iter().flat_map(|role| &role.argv);
        args.any(|arg| matches!(arg, super::Arg::Options { .. }))
    }
}

impl OptionSpec {
    fn findings(&self, key: &str, value: &Value, found: &mut Vec<(String, Finding)>) {
        if let (false, Value::Object(table)) = (self.keys.is_empty(), value) {
            for (inner, value) in table {
                let key = format!("{key}.{inner}");
                match self.keys.get(inner) {
                    Some(spec) => spec.findings(&key, value, found),
                    None => {
                        let near = near(inner, self.keys.keys().map(String::as_str)).map(str::to_owned);
                        found.push((key, Finding::Unknown { near }));
                    }
                }
            }
        } else if let Some(expected) = self.refusal(value) {
            let listed = !self.values.is_empty();
            found.push((key.to_owned(), Finding::Refused { found: value.clone(), expected, listed }));
        }
    }

    /// What the option takes, if that is not the value. A template is known only later.
    fn refusal(&self, value: &Value) -> Option<String> {
        let items = match value {
            Value::Array(items) if self.list => items.as_slice(),
            other => std::slice::from_ref(other),
        };
        (!items.iter().all(|item| self.takes(item))).then(|| self.expected())
    }

    fn takes(&self, value: &Value) -> bool {
        let text = match value {
            Value::String(text) if text.contains("{{") || text.contains("{%") => return true,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if !self.values.is_empty() {
            return self.values.contains(&text);
        }
        match (self.kind, value) {
            (Kind::Bool, value) => value.is_boolean(),
            (Kind::Json, Value::String(text)) => {
                !text.starts_with(['{', '[']) || serde_json::from_str::<Value>(text).is_ok()
            }
            (Kind::Json, value) => !value.is_boolean(),
            (Kind::String, value) => !value.is_boolean() && !value.is_array(),
            (_, Value::Bool(_) | Value::Array(_) | Value::Object(_)) => false,
            // Python's None: not set.
            _ if text == "None" => true,
            (Kind::Integer, _) => text.parse::<i64>().is_ok_and(|number| self.range.holds(number as f64)),
            (Kind::Size, _) if text == "auto" => self.range.holds(-1.0),
            (Kind::Size, _) => size(value).is_some_and(|number| self.range.holds(number)),
            (Kind::Float, _) => text.parse::<f64>().is_ok_and(|number| self.range.holds(number)),
        }
    }

    /// What it takes, in words.
    fn expected(&self) -> String {
        let one = match self.kind {
            _ if !self.values.is_empty() => format!("one of {}", self.values.join(", ")),
            Kind::Bool => "true or false".into(),
            Kind::Integer => format!("a whole number{}", self.range.words()),
            Kind::Size => format!("a whole number{}, or one with a unit such as 8k", self.range.words()),
            Kind::Float => format!("a number{}", self.range.words()),
            Kind::String => "text".into(),
            Kind::Json => "a table, or JSON in text".into(),
        };
        if self.list { format!("a list; each item {one}") } else { one }
    }
}

impl Range {
    fn holds(self, number: f64) -> bool {
        self.min.is_none_or(|min| number >= min)
            && self.max.is_none_or(|max| number <= max)
            && self.above.is_none_or(|above| number > above)
            && self.below.is_none_or(|below| number < below)
    }

    fn words(self) -> String {
        let bounds = [("from", self.min), ("above", self.above), ("up to", self.max), ("below", self.below)];
        let bounds = bounds.into_iter().filter_map(|(word, bound)| Some(format!(" {word} {}", bound?)));
        bounds.collect()
    }
}

/// A whole number as engines read it: `8192`, `8k` (8,000), `8K` (8,192).
pub fn size(value: &Value) -> Option<f64> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    if let Ok(number) = text.parse::<i64>() {
        return Some(number as f64);
    }
    let unit = text.chars().last()?;
    let power = "kmgt".find(unit.to_ascii_lowercase())? as i32 + 1;
    let number = text.strip_suffix(unit)?;
    let base = if unit.is_ascii_uppercase() { 1024.0_f64 } else { 1000.0 };
    let is_whole = number.parse::<u64>().is_ok();
    let number = number.parse::<f64>().ok().filter(|number| *number >= 0.0 && (is_whole || base < 1024.0))?;
    Some((number * base.powi(power)).trunc())
}

/// The name that was probably meant. Stricter than for keys of a recipe, because an unknown option may be one of another version.
fn near<'a>(found: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let found = found.to_lowercase();
    let close = known.filter_map(|name| {
        let distance = strsim::damerau_levenshtein(&found, name);
        let same_start = found.chars().zip(name.chars()).take_while(|(a, b)| a == b).count();
        (distance <= (found.len() / 6).max(1) || same_words(&found, name)).then_some((
            distance,
            Reverse(same_start),
            name,
        ))
    });
    close.min().map(|(_, _, name)| name)
}

/// Whether two names have the same words, abbreviated or misspelt, or `found` lacks one of them.
fn same_words(found: &str, known: &str) -> bool {
    let alike = |(a, b): (&&str, &&str)| {
        let short = a.len().min(b.len());
        let abbreviates = short >= 3 && (a.starts_with(b) || b.starts_with(a));
        a == b || abbreviates || short >= 4 && strsim::damerau_levenshtein(a, b) <= short / 4
    };
    let found: Vec<&str> = found.split('_').collect();
    let known: Vec<&str> = known.split('_').collect();
    if found.len() == known.len() {
        return found.len() > 1 && found.iter().zip(&known).all(alike);
    }
    found.len() > 1
        && found.len() + 1 == known.len()
        && (0..known.len()).any(|left_out| {
            let rest = known.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, word)| word);
            found.iter().zip(rest).all(alike)
        })
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
