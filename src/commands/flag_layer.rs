//! Flags of `bench` and `prompts` as a layer over a base recipe.

use serde::Serialize;

use crate::document::{Document, InputError, InputErrors};
use crate::plan::choices::Flag;
use crate::recipe::find::RecipeFile;

/// Text of the base recipe.
const RECIPE: &str = include_str!("bench.toml");

/// The base recipe.
pub(super) fn recipe() -> Result<RecipeFile, InputErrors> {
    RecipeFile::parse(Document { file: "embedded:bench.toml".into(), text: RECIPE.to_owned() }, None)
}

/// The given flags, each with the key that it sets.
#[derive(Debug, Default)]
pub(super) struct FlagLayer {
    flags: Vec<Flag>,
    errors: Vec<InputError>,
}

impl FlagLayer {
    /// Sets `key` to the value of `flag`, if it has one.
    pub(super) fn set(&mut self, flag: &str, key: &str, value: Option<impl Serialize>) {
        match value.map(toml::Value::try_from) {
            Some(Ok(value)) => self.flags.push(Flag { flag: flag.into(), key: key.into(), value }),
            Some(Err(error)) => self.errors.push(InputError::new(flag, error.to_string())),
            None => {}
        }
    }

    /// Sets `key` to `value` if the user gave a flag without a value.
    pub(super) fn switch(&mut self, flag: &str, key: &str, given: bool, value: impl Serialize) {
        self.set(flag, key, given.then_some(value));
    }

    /// Sets `key` to a list without duplicates.
    pub(super) fn list<T: Serialize + PartialEq>(&mut self, flag: &str, key: &str, values: &[T]) {
        let mut distinct: Vec<&T> = Vec::new();
        values.iter().for_each(|value| {
            if !distinct.contains(&value) {
                distinct.push(value);
            }
        });
        self.set(flag, key, (!distinct.is_empty()).then_some(distinct));
    }

    /// Records an error in place of a value that fits no key.
    pub(super) fn refuse(&mut self, error: InputError) {
        self.errors.push(error);
    }

    /// All flags, or all errors.
    pub(super) fn finish(self) -> Result<Vec<Flag>, InputErrors> {
        InputErrors::check(self.errors)?;
        Ok(self.flags)
    }
}
