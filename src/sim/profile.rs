//! Profiles of the simulated engine as data, embedded or from a file: limits of a server, with the constants of a linear step
//! time, or with a GPU and a model whose step time follows from a roofline.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::config::{ConfigError, bad};
use super::cost::{LinearCost, StepCost};
use super::engine::EngineConfig;
use super::roofline::{Format, Gpu, Model, Roofline, speedup};

const EMBEDDED: &str = include_str!("profiles.toml");

/// Most GPUs to try until the weights of a model fit.
const MAX_TP: u32 = 64;

/// One profile.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    pub model: String,
    pub default_tp: u32,
    /// Prompt and answer together, tokens.
    pub max_model_len: u32,
    /// Mean natural length of an answer, tokens; exponentially distributed.
    pub mean_output_tokens: u32,
    figures: Figures,
}

#[derive(Debug, Clone, PartialEq)]
enum Figures {
    Constants(Box<Constants>),
    Derived(Box<Derived>),
}

/// A server, its GPU and its model.
#[derive(Debug, Clone, PartialEq)]
struct Derived {
    server: Server,
    gpu: Gpu,
    model: Model,
}

/// `profiles.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Library {
    constants: BTreeMap<String, Constants>,
    profiles: BTreeMap<String, Server>,
    gpus: BTreeMap<String, Gpu>,
    models: BTreeMap<String, Model>,
}

/// A profile in TOML that names a GPU and a model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Server {
    gpu: String,
    model: String,
    default_tp: u32,
    max_num_seqs: u32,
    max_num_batched_tokens: u32,
    block_size: u32,
    /// Share of the memory that the server uses.
    memory_utilization: f64,
    max_model_len: u32,
    mean_output_tokens: u32,
    /// GPUs and models defined in the file.
    #[serde(default)]
    gpus: BTreeMap<String, Gpu>,
    #[serde(default)]
    models: BTreeMap<String, Model>,
}

/// A profile of constants in TOML. Costs are µs on one GPU.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Constants {
    model: String,
    default_tp: u32,
    /// Share of the ideal speed-up kept with each doubling of the GPUs.
    tp_efficiency: f64,
    prefill_us_per_token: f64,
    step_base_us: f64,
    step_us_per_seq: f64,
    step_us_per_1k_kv_tokens: f64,
    max_num_seqs: u32,
    max_num_batched_tokens: u32,
    block_size: u32,
    num_blocks: u32,
    num_blocks_per_added_gpu: u32,
    max_model_len: u32,
    mean_output_tokens: u32,
}

impl Profile {
    /// The embedded profiles by name.
    pub fn embedded() -> Result<BTreeMap<String, Self>, String> {
        let library = Library::embedded()?;
        let constants = library.constants.iter().map(|(name, constants)| (name.clone(), constants.into()));
        let mut profiles: BTreeMap<String, Self> = constants.collect();
        for (name, server) in &library.profiles {
            profiles.insert(name.clone(), library.derive(server)?.into());
        }
        Ok(profiles)
    }

    /// The named profile, optionally with another model (`h100/llama-3.3-70b`), or the profile in a `.toml` file.
    pub fn find(name: &str) -> Result<Self, ConfigError> {
        if name.ends_with(".toml") {
            let text = std::fs::read_to_string(name).map_err(|error| error.to_string());
            let profile = text.and_then(|text| Self::parse(&text));
            return profile.map_err(|problem| ConfigError::Profile { file: name.into(), problem });
        }
        let (base, model) = name.split_once('/').map_or((name, None), |(base, model)| (base, Some(model)));
        let broken = |problem| ConfigError::Profile { file: "profiles.toml".into(), problem };
        let mut profiles = Self::embedded().map_err(broken)?;
        let known = profiles.keys().cloned().collect::<Vec<_>>().join(", ");
        let profile = profiles.remove(base).ok_or_else(|| {
            let expected = format!(
                "one of {known}, one of them with a model behind a slash, or a .toml file with the fields of one profile"
            );
            bad("--profile", format!("{name:?}"), expected)
        })?;
        match model {
            None => Ok(profile),
            Some(model) => {
                profile.with_model(model).map_err(|expected| bad("--profile", format!("{model:?}"), expected))
            }
        }
    }

    /// Reads the file of a user.
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |error: toml::de::Error| error.to_string();
        let table: toml::Table = toml::from_str(text).map_err(wrong)?;
        if !table.contains_key("gpu") {
            let constants: Constants = toml::from_str(text).map_err(wrong)?;
            check_numbers(&table, "")?;
            return Ok((&constants).into());
        }
        let server: Server = toml::from_str(text).map_err(wrong)?;
        check_numbers(&table, "")?;
        let mut library = Library::embedded()?;
        library.gpus.extend(server.gpus.clone());
        library.models.extend(server.models.clone());
        Ok(library.derive(&server)?.into())
    }

    /// The same server with another model, on as few GPUs as hold it. The error says what is expected instead.
    fn with_model(self, name: &str) -> Result<Self, String> {
        let mut models = Library::embedded()?.models;
        let Figures::Derived(derived) = self.figures else {
            return Err("no model, because the profile does not describe a GPU".into());
        };
        let known = models.keys().cloned().collect::<Vec<_>>().join(", ");
        let model = models.remove(name).ok_or_else(|| format!("a model of {known}"))?;
        let derived = Derived { model, ..*derived };
        let holds = |tp: &u32| derived.engine(*tp).kv_capacity_tokens() >= u64::from(self.max_model_len);
        let powers = std::iter::successors(Some(1_u32), |tp| Some(tp * 2)).take_while(|tp| *tp <= MAX_TP);
        let default_tp = powers.into_iter().find(holds).unwrap_or(MAX_TP);
        Ok(Self { default_tp, ..derived.into() })
    }

    /// The engine on `tp` GPUs; without KV blocks if the weights leave no room.
    pub fn engine(&self, tp: u32) -> EngineConfig {
        match &self.figures {
            Figures::Constants(constants) => constants.engine(tp),
            Figures::Derived(derived) => derived.engine(tp),
        }
    }
}

impl From<&Constants> for Profile {
    fn from(constants: &Constants) -> Self {
        Self {
            model: constants.model.clone(),
            default_tp: constants.default_tp,
            max_model_len: constants.max_model_len,
            mean_output_tokens: constants.mean_output_tokens,
            figures: Figures::Constants(Box::new(constants.clone())),
        }
    }
}

impl From<Derived> for Profile {
    fn from(derived: Derived) -> Self {
        Self {
            model: derived.model.name.clone(),
            default_tp: derived.server.default_tp,
            max_model_len: derived.server.max_model_len,
            mean_output_tokens: derived.server.mean_output_tokens,
            figures: Figures::Derived(Box::new(derived)),
        }
    }
}

impl Constants {
    fn engine(&self, tp: u32) -> EngineConfig {
        let times = speedup(tp, self.tp_efficiency);
        let added = self.num_blocks_per_added_gpu.saturating_mul(tp.saturating_sub(1));
        EngineConfig {
            max_num_seqs: self.max_num_seqs,
            max_num_batched_tokens: self.max_num_batched_tokens,
            block_size: self.block_size,
            num_blocks: self.num_blocks.saturating_add(added),
            sliding_window: 0,
            cost: StepCost::Linear(LinearCost {
                step_base_us: self.step_base_us,
                step_us_per_seq: self.step_us_per_seq / times,
                step_us_per_1k_kv_tokens: self.step_us_per_1k_kv_tokens / times,
                prefill_us_per_token: self.prefill_us_per_token / times,
            }),
        }
    }
}

impl Derived {
    fn engine(&self, tp: u32) -> EngineConfig {
        let Self { server, gpu, model } = self;
        let roofline = Roofline { gpu: gpu.clone(), model: model.clone(), tp, speed: 1.0 };
        EngineConfig {
            max_num_seqs: server.max_num_seqs,
            max_num_batched_tokens: server.max_num_batched_tokens,
            block_size: server.block_size,
            num_blocks: roofline.num_blocks(server.memory_utilization, server.block_size),
            sliding_window: model.sliding_window,
            cost: StepCost::Roofline(Box::new(roofline)),
        }
    }
}

impl Library {
    fn embedded() -> Result<Self, String> {
        toml::from_str(EMBEDDED).map_err(|error| error.to_string())
    }

    /// The GPU and the model that a server names.
    fn derive(&self, server: &Server) -> Result<Derived, String> {
        let gpu = named("gpu", &self.gpus, &server.gpu)?;
        let model = named("model", &self.models, &server.model)?;
        if !gpu.tflops.contains_key(&Format::Bf16) {
            return Err("tflops: found no bf16, expected the rate that other formats fall back to".into());
        }
        model.check_experts()?;
        Ok(Derived { server: server.clone(), gpu, model })
    }
}

fn named<T: Clone>(kind: &str, table: &BTreeMap<String, T>, name: &str) -> Result<T, String> {
    table.get(name).cloned().ok_or_else(|| {
        let known = table.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        format!("{kind}: found {name:?}, expected one of {known}, or a table [{kind}s.{name}] in the file")
    })
}

/// Checks the range of every number in a file.
fn check_numbers(table: &toml::Table, within: &str) -> Result<(), String> {
    for (key, value) in table {
        let found = match value {
            toml::Value::Table(inner) => {
                check_numbers(inner, &format!("{within}{key}."))?;
                continue;
            }
            toml::Value::Float(found) => *found,
            toml::Value::Integer(found) => *found as f64,
            _ => continue,
        };
        let positive = found > 0.0 && found <= 1e15;
        let (fits, expected) = match key.as_str() {
            "sliding_window" | "num_blocks_per_added_gpu" => (true, ""),
            key if key.starts_with("expert") => (true, ""),
            "memory_utilization" | "tp_efficiency" => (positive && found <= 1.0, "above 0 and up to 1"),
            key if key == "step_base_us" || key.contains("_us_per_") => {
                ((0.0..=1e9).contains(&found), "µs from 0 to 1000000000")
            }
            "memory_gib" | "bandwidth_gb_s" => (positive, "above 0 and up to 1e15"),
            _ if within.ends_with("tflops.") => (positive, "above 0 and up to 1e15"),
            _ => (positive, "1 or more, up to 1e15"),
        };
        if !fits {
            return Err(format!("{within}{key}: found {found}, expected {expected}"));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "derived_tests.rs"]
mod derived;

#[cfg(test)]
#[path = "shape_tests.rs"]
mod shapes;
