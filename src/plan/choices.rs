//! Options and environment variables that change a recipe, as plain data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::recipe::Origin;

/// Options and environment variables that change a recipe.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Choices {
    /// `--gpu`
    pub gpu: Option<String>,
    /// `--scale`: GPUs in all.
    pub scale: Option<Scale>,
    /// Environment variables that are set: knobs of the recipe, and sbatch's own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Variable>,
    /// `--env NAME=VALUE`, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<(String, String)>,
    /// Options of a verb that stand for keys of the recipe, such as `--isl` of `bench`, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Flag>,
    /// `--set key=value`, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<String>,
    /// `--scale-load`: share of requests and time that is driven, above 0 and up to 1.
    pub scale_load: Option<f64>,
    /// Another launcher runs in place of the recipe's: `--set`s of the launcher and of engine options are for that one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rehearse: bool,
    /// The one deployment of a sweep that is run, by its id; the others are run by other jobs.
    pub deployment: Option<String>,
    /// `--allow-unknown`: engine options and values that the launcher's table lacks are passed on as they are.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_unknown: bool,
    /// `--no-weights-check`: wrong weights are a warning and end nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_weights_check: bool,
}

/// An option that stands for a key of the recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flag {
    /// Its name: `--isl`.
    pub flag: String,
    /// The dotted key: `load.isl`.
    pub key: String,
    pub value: toml::Value,
}

/// A number of GPUs, as `--scale` gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scale {
    /// GPUs in all, at a scale that the recipe offers.
    pub gpus: u32,
    /// Its replicas times this: 1, or more with `--max-scale`.
    pub times: u32,
}

impl Scale {
    /// An offered scale as it is.
    pub fn of(gpus: u32) -> Self {
        Self { gpus, times: 1 }
    }

    /// GPUs in all.
    pub fn total(self) -> u32 {
        self.gpus.saturating_mul(self.times)
    }
}

/// The value of an environment variable, and where it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Its value; never empty: an empty variable counts as not set, as it does in `${NAME:-default}`.
    pub value: String,
    /// Read in the job, not when the script was rendered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_job: bool,
}

impl Variable {
    /// The origin of what it sets.
    pub fn origin(&self, name: &str) -> Origin {
        Origin::Variable { name: name.to_owned(), in_job: self.in_job }
    }
}

/// A `--set` that is for the launcher which runs in place of the recipe's.
fn is_for_stand_in(set: &str) -> bool {
    let key = set.split_once('=').map_or(set, |(key, _)| key).trim();
    key == "deploy.launcher" || key.starts_with("deploy.engine.")
}

impl Choices {
    /// The `--set`s for the recipe.
    pub fn recipe_sets(&self) -> impl Iterator<Item = &String> {
        self.sets.iter().filter(|set| !(self.rehearse && is_for_stand_in(set)))
    }

    /// The value that the last `--set` gives to a key.
    pub fn set(&self, key: &str) -> Option<&str> {
        self.sets.iter().rev().find_map(|set| {
            let (known, value) = set.split_once('=')?;
            (known.trim() == key).then(|| value.trim())
        })
    }

    /// The same with the knobs that the job's environment sets; `None` when it sets nothing new.
    pub fn in_job(
        &self,
        knobs: &BTreeMap<String, String>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Option<Self> {
        let mut changed = self.clone();
        for name in knobs.keys() {
            let Some(value) = env(name).filter(|value| !value.is_empty()) else { continue };
            if self.variables.get(name).is_none_or(|known| known.value != value) {
                changed.variables.insert(name.clone(), Variable { value, in_job: true });
            }
        }
        (changed != *self).then_some(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knobs() -> BTreeMap<String, String> {
        [("STREAMING", "load.streaming"), ("ISL", "load.isl")]
            .map(|(name, key)| (name.to_owned(), key.to_owned()))
            .into()
    }

    fn env<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn in_a_rehearsal_some_sets_are_for_the_other_engine() {
        let sets = ["deploy.engine.speed=20", "load.isl=8", "deploy.launcher  = sim", "deploy.tp=2"];
        let mut choices = Choices { sets: sets.map(str::to_owned).into(), ..Choices::default() };
        assert_eq!(choices.set("deploy.launcher"), Some("sim"));
        assert_eq!(choices.recipe_sets().count(), 4);
        choices.rehearse = true;
        let left: Vec<_> = choices.recipe_sets().collect();
        assert_eq!(left, ["load.isl=8", "deploy.tp=2"]);
    }

    #[test]
    fn a_job_that_sees_what_was_frozen_or_nothing_changes_nothing() {
        let streaming = Variable { value: "false".into(), in_job: false };
        let variables = [("STREAMING".to_owned(), streaming)].into();
        let chosen = Choices { variables, ..Choices::default() };
        let knobs = knobs();
        for pairs in [&[][..], &[("STREAMING", "false")], &[("STREAMING", ""), ("ISL", "")]] {
            assert_eq!(chosen.in_job(&knobs, &env(pairs)), None, "{pairs:?}");
        }
        let changed = chosen.in_job(&knobs, &env(&[("ISL", "64")])).unwrap();
        let origins: Vec<_> =
            changed.variables.iter().map(|(name, variable)| variable.origin(name).to_string()).collect();
        assert_eq!(origins, ["$ISL (job)", "$STREAMING"]);
    }
}
