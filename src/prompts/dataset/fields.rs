//! Takes the fields of one object by name and type; errors name what was found instead.

use serde_json::{Map, Value};

use super::records::{Record, at, describe};
use crate::document::InputError;

impl Record {
    /// An error in this object.
    pub(in crate::prompts) fn error(&self, problem: impl Into<String>) -> InputError {
        at(InputError::new(&*self.origin, problem), self.at)
    }

    /// The text under `key`; `None` when it is absent or null. Fails on another type.
    pub(in crate::prompts) fn text(&mut self, key: &str) -> Result<Option<String>, InputError> {
        match self.take(key) {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text)),
            other => Err(self.wrong_type(key, &other, "a string")),
        }
    }

    /// The same, and `None` for white space alone.
    pub(in crate::prompts) fn words(&mut self, key: &str) -> Result<Option<String>, InputError> {
        Ok(self.text(key)?.filter(|text| !text.trim().is_empty()))
    }

    /// The value under `key`; null when it is absent.
    pub(in crate::prompts) fn take(&mut self, key: &str) -> Value {
        self.fields.get_mut(key).map(Value::take).unwrap_or_default()
    }

    /// Fails if one of `keys` is absent.
    pub(in crate::prompts) fn require(&self, keys: &[&str], expected: &str) -> Result<(), InputError> {
        match keys.iter().find(|key| !self.fields.contains_key(**key)) {
            Some(key) => Err(self.missing(key, expected)),
            None => Ok(()),
        }
    }

    /// The number of tokens under `key`; `None` when it is absent or null. Fails on what is no whole number of `least`
    /// or more.
    pub(in crate::prompts) fn tokens(&self, key: &str, least: u32) -> Result<Option<u32>, InputError> {
        match self.fields.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(found) => match whole(found).and_then(|number| u32::try_from(number).ok()) {
                Some(number) if number >= least => Ok(Some(number)),
                _ => Err(self.wrong_type(key, found, &format!("a whole number of tokens, {least} or more"))),
            },
        }
    }

    /// The error of a field of another type than `expected`.
    pub(in crate::prompts) fn wrong_type(&self, key: &str, found: &Value, expected: &str) -> InputError {
        self.error(format!("found {}", describe(found))).key(key).expected(expected)
    }

    /// The error of an object without `key`. Names the fields that are there, and the format they look like.
    pub(in crate::prompts) fn missing(&self, key: &str, expected: &str) -> InputError {
        let mut names: Vec<&str> = self.fields.keys().take(12).map(String::as_str).collect();
        if names.len() < self.fields.len() {
            names.push("…");
        }
        let found = if names.is_empty() { "no field".into() } else { names.join(", ") };
        let error = self.error(format!("the field is missing; found {found}")).key(key).expected(expected);
        match looks_like(&self.fields) {
            Some(setting) => error.next(format!("the fields look like another format: {setting}")),
            None => error.next("look whether this is the right file, and `kind` its format"),
        }
    }
}

/// A number without a fraction: `128` and `128.0`, which pandas writes for a column with gaps.
fn whole(value: &Value) -> Option<u64> {
    if let Some(number) = value.as_u64() {
        return Some(number);
    }
    let number = value.as_f64()?;
    (number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number)).then_some(number as u64)
}

/// What to write in a recipe for a file with these fields.
fn looks_like(fields: &Map<String, Value>) -> Option<&'static str> {
    let all = |names: &[&str]| names.iter().all(|name| fields.contains_key(*name));
    let any = |names: &[&str]| names.iter().any(|name| fields.contains_key(*name));
    if all(&["input_length", "output_length"]) {
        Some("[load.prompts.trace] with kind = \"mooncake\"")
    } else if all(&["conversations"]) {
        Some("kind = \"sharegpt\"")
    } else if all(&["message_id", "role"]) || all(&["message_tree_id", "prompt"]) {
        Some("kind = \"openassistant\"")
    } else if all(&["instruction", "response"]) {
        Some("kind = \"dolly\"")
    } else if any(&["prompt", "text", "text_input", "messages"]) {
        Some("kind = \"jsonl\"")
    } else {
        None
    }
}
