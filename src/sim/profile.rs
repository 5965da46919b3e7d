//! Profiles of the simulated engine as data, embedded or from a file.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::constants::Constants;
use super::derive::{Derivation, Gpu, Limits, Model};
use super::engine::EngineConfig;

const EMBEDDED: &str = include_str!("profiles.toml");

/// Most GPUs to try until the weights of a model fit.
const MAX_TP: u32 = 64;

/// One profile.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Default model name.
    pub model: String,
    /// Default tensor-parallel size.
    pub default_tp: u32,
    /// Prompt and answer together, tokens.
    pub max_model_len: u32,
    /// Mean natural length of an answer, tokens; exponentially distributed.
    pub mean_output_tokens: u32,
    figures: Figures,
}

#[derive(Debug, Clone, PartialEq)]
enum Figures {
    Constants(Constants),
    Derived(Box<Derivation>),
}

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Neither embedded nor a file.
    #[error(
        "--profile: found {found:?}, expected one of {known}, one of them with a model behind a slash, or a .toml file \
         with the fields of one profile"
    )]
    Unknown {
        /// The requested name.
        found: String,
        /// The known names, comma-separated.
        known: String,
    },
    /// An unknown model, or a profile whose model cannot be replaced.
    #[error("--profile: found {found:?}, expected {expected}")]
    Model {
        /// The requested name.
        found: String,
        /// The alternatives.
        expected: String,
    },
    /// The file cannot be read.
    #[error("--profile: {0}")]
    Read(#[from] std::io::Error),
    /// The file is not a profile.
    #[error("--profile {path}: {message}")]
    Parse {
        /// The file.
        path: String,
        /// The parser's message, with line and column.
        message: String,
    },
}

/// `profiles.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Library {
    constants: BTreeMap<String, Constants>,
    profiles: BTreeMap<String, Written>,
    gpus: BTreeMap<String, Gpu>,
    models: BTreeMap<String, Model>,
}

/// A profile in TOML that names a GPU and a model.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    gpu: String,
    model: String,
    default_tp: u32,
    max_num_seqs: u32,
    max_num_batched_tokens: u32,
    block_size: u32,
    memory_utilization: f64,
    max_model_len: u32,
    mean_output_tokens: u32,
    /// GPUs and models defined in the file.
    #[serde(default)]
    gpus: BTreeMap<String, Gpu>,
    #[serde(default)]
    models: BTreeMap<String, Model>,
}

/// Distinguishes the two kinds of file.
#[derive(Deserialize)]
struct Kind {
    gpu: Option<serde::de::IgnoredAny>,
}

impl Profile {
    /// The embedded profiles by name.
    pub fn embedded() -> Result<BTreeMap<String, Self>, ProfileError> {
        let library = Library::embedded()?;
        let bad = |message| ProfileError::Parse { path: "profiles.toml".into(), message };
        let mut profiles = BTreeMap::new();
        for (name, written) in &library.profiles {
            profiles.insert(name.clone(), library.derive(written).map_err(bad)?);
        }
        for (name, constants) in library.constants {
            profiles.insert(name, Self::of_constants(constants).map_err(bad)?);
        }
        Ok(profiles)
    }

    /// The named profile, optionally with another model (`h100/llama-3.3-70b`), or the profile in a `.toml` file.
    pub fn find(name: &str) -> Result<Self, ProfileError> {
        if name.ends_with(".toml") {
            return Self::in_file(name);
        }
        let (base, model) = name.split_once('/').map_or((name, None), |(base, model)| (base, Some(model)));
        let mut profiles = Self::embedded()?;
        let known = || profiles.keys().cloned().collect::<Vec<_>>().join(", ");
        let unknown = ProfileError::Unknown { found: name.into(), known: known() };
        let profile = profiles.remove(base).ok_or(unknown)?;
        match model {
            None => Ok(profile),
            Some(model) => profile.with_model(model),
        }
    }

    fn in_file(path: &str) -> Result<Self, ProfileError> {
        let text = fs_err::read_to_string(path)?;
        let bad = |message| ProfileError::Parse { path: path.into(), message };
        let kind: Kind = toml::from_str(&text).map_err(|error| bad(error.to_string()))?;
        if kind.gpu.is_none() {
            let constants = toml::from_str(&text).map_err(|error| bad(error.to_string()))?;
            return Self::of_constants(constants).map_err(bad);
        }
        let mut written: Written = toml::from_str(&text).map_err(|error| bad(error.to_string()))?;
        let mut library = Library::embedded()?;
        library.gpus.append(&mut written.gpus);
        library.models.append(&mut written.models);
        library.derive(&written).map_err(bad)
    }

    fn of_constants(constants: Constants) -> Result<Self, String> {
        constants.check()?;
        Ok(Self {
            model: constants.model.clone(),
            default_tp: constants.default_tp,
            max_model_len: constants.max_model_len,
            mean_output_tokens: constants.mean_output_tokens,
            figures: Figures::Constants(constants),
        })
    }

    /// The same server with another model, on as few GPUs as hold it.
    fn with_model(self, name: &str) -> Result<Self, ProfileError> {
        let mut models = Library::embedded()?.models;
        let wrong = |expected: String| ProfileError::Model { found: name.into(), expected };
        let Figures::Derived(derivation) = self.figures else {
            return Err(wrong("no model, because the profile does not describe a GPU".into()));
        };
        let known = models.keys().cloned().collect::<Vec<_>>().join(", ");
        let model = models.remove(name).ok_or_else(|| wrong(format!("a model of {known}")))?;
        let derivation = Derivation { model, ..*derivation };
        let holds = |tp: &u32| derivation.engine(*tp).kv_capacity_tokens() >= u64::from(self.max_model_len);
        let powers = std::iter::successors(Some(1_u32), |tp| Some(tp * 2)).take_while(|tp| *tp <= MAX_TP);
        let default_tp = powers.into_iter().find(holds).unwrap_or(MAX_TP);
        let model = derivation.model.name.clone();
        Ok(Self { model, default_tp, figures: Figures::Derived(Box::new(derivation)), ..self })
    }

    /// The engine on `tp` GPUs; without KV blocks if the model does not fit.
    pub fn engine(&self, tp: u32) -> EngineConfig {
        match &self.figures {
            Figures::Constants(constants) => constants.engine(tp),
            Figures::Derived(derivation) => derivation.engine(tp),
        }
    }
}

impl Library {
    fn embedded() -> Result<Self, ProfileError> {
        toml::from_str(EMBEDDED)
            .map_err(|error| ProfileError::Parse { path: "profiles.toml".into(), message: error.to_string() })
    }

    fn derive(&self, written: &Written) -> Result<Profile, String> {
        let names = |kind: &str, found: &str, known: Vec<&String>| {
            let known = known.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            format!(
                "{kind}: found {found:?}, expected one of {known}, or a table [{kind}s.{found}] in the file"
            )
        };
        let gpu = self.gpus.get(&written.gpu);
        let gpu = gpu.ok_or_else(|| names("gpu", &written.gpu, self.gpus.keys().collect()))?;
        let model = self.models.get(&written.model);
        let model = model.ok_or_else(|| names("model", &written.model, self.models.keys().collect()))?;
        let limits = [
            ("default_tp", written.default_tp),
            ("max_model_len", written.max_model_len),
            ("mean_output_tokens", written.mean_output_tokens),
        ];
        if let Some((key, _)) = limits.iter().find(|(_, limit)| *limit == 0) {
            return Err(format!("{key}: found 0, expected 1 or more"));
        }
        let derivation = Derivation {
            gpu: gpu.clone(),
            model: model.clone(),
            limits: Limits {
                max_num_seqs: written.max_num_seqs,
                max_num_batched_tokens: written.max_num_batched_tokens,
                block_size: written.block_size,
                memory_utilization: written.memory_utilization,
            },
        };
        derivation.check()?;
        Ok(Profile {
            model: model.name.clone(),
            default_tp: written.default_tp,
            max_model_len: written.max_model_len,
            mean_output_tokens: written.mean_output_tokens,
            figures: Figures::Derived(Box::new(derivation)),
        })
    }
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "shape_tests.rs"]
mod shapes;
