//! What a user chose beside the recipe: options and environment variables, as plain data that a plan can carry.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::recipe::Origin;

/// Choices beside the recipe.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Choices {
    /// `--gpu`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// `--scale`: GPUs in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// Environment variables that say something: the recipe's knobs and sbatch's own, those that are set.
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
    /// `--scale-load`: share of the requests and of the time that is driven, above 0 and up to 1, which is all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_load: Option<f64>,
    /// `--rehearse`: another engine in place of the recipe's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<Rehearsal>,
    /// `--no-weights-check`: what is wrong with the weights is told, and ends nothing.
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
    /// The value of the key.
    pub value: toml::Value,
}

/// A recipe on an engine that stands in for its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// The launcher that stands in.
    pub launcher: String,
    /// `--set deploy.engine.NAME=VALUE`, in order: options of the engine that stands in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub engine: Vec<String>,
}

/// A scale that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scale {
    /// GPUs in all; of an offered scale.
    pub gpus: u32,
    /// How many times its replicas: 1, unless `--max-scale` asked for a multiple of it.
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

/// The value of an environment variable, and where it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Its value; never empty: an empty variable counts as not set, as it does in `${NAME:-default}`.
    pub value: String,
    /// Seen in the job, not when the script was rendered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_job: bool,
}

impl Variable {
    /// How the user knows it: `$STREAMING`, `$STREAMING (job)`.
    pub fn origin(&self, name: &str) -> Origin {
        Origin::Variable { name: name.to_owned(), in_job: self.in_job }
    }
}

/// The key of a `--set key=value`.
fn key_of(set: &str) -> &str {
    set.split_once('=').map_or(set, |(key, _)| key).trim()
}

impl Choices {
    /// The value that the last `--set` of a key gives it.
    pub fn set(&self, key: &str) -> Option<&str> {
        let last = self.sets.iter().rev().find(|set| key_of(set) == key)?;
        last.split_once('=').map(|(_, value)| value.trim())
    }

    /// Puts `launcher` in place of the recipe's own; `--set`s of engine options are for it.
    pub fn rehearse(&mut self, launcher: &str) {
        self.sets.retain(|set| key_of(set) != "deploy.launcher");
        let sets = std::mem::take(&mut self.sets);
        let (engine, others) = sets.into_iter().partition(|set| key_of(set).starts_with("deploy.engine."));
        self.sets = others;
        self.rehearsal = Some(Rehearsal { launcher: launcher.to_owned(), engine });
    }

    /// The same with `knobs` as the job sees them; `None` when it sees nothing new. What is not set in the job stays as it
    /// was.
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
    use crate::recipe::Recipe;

    fn recipe() -> Recipe {
        Recipe {
            knobs: [("STREAMING", "load.streaming"), ("ISL", "load.isl")]
                .map(|(name, key)| (name.to_owned(), key.to_owned()))
                .into(),
            ..Recipe::default()
        }
    }

    fn env<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn knobs_and_sbatchs_own_variables_are_taken_down_and_nothing_else() {
        let mut chosen = Choices::default();
        let pairs = [("STREAMING", "false"), ("ISL", ""), ("HOME", "/root"), ("SBATCH_PARTITION", "gpu")];
        chosen.look(&recipe(), &env(&pairs));
        let names: Vec<_> = chosen.variables.keys().collect();
        assert_eq!(names, ["SBATCH_PARTITION", "STREAMING"], "an empty one is not set");
    }

    #[test]
    fn a_rehearsal_takes_the_sets_that_are_for_its_engine() {
        let sets = ["deploy.engine.speed=20", "load.isl=8", "deploy.launcher  = sim", "deploy.tp=2"];
        let mut chosen = Choices { sets: sets.map(str::to_owned).into(), ..Choices::default() };
        assert_eq!(chosen.set("deploy.launcher"), Some("sim"));
        chosen.rehearse("sim");
        assert_eq!(chosen.sets, ["load.isl=8", "deploy.tp=2"]);
        let engine = vec!["deploy.engine.speed=20".to_owned()];
        assert_eq!(chosen.rehearsal, Some(Rehearsal { launcher: "sim".into(), engine }));
    }

    #[test]
    fn a_job_that_sees_what_was_frozen_or_nothing_changes_nothing() {
        let mut chosen = Choices::default();
        chosen.look(&recipe(), &env(&[("STREAMING", "false")]));
        let knobs = recipe().knobs;
        for pairs in [&[][..], &[("STREAMING", "false")], &[("STREAMING", ""), ("ISL", "")]] {
            assert_eq!(chosen.in_job(&knobs, &env(pairs)), None, "{pairs:?}");
        }
        let changed = chosen.in_job(&knobs, &env(&[("ISL", "64")])).unwrap();
        let origins: Vec<_> =
            changed.variables.iter().map(|(name, seen)| seen.origin(name).to_string()).collect();
        assert_eq!(origins, ["$ISL (job)", "$STREAMING"]);
    }
}
