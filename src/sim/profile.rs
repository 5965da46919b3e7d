//! Profiles: the constants of a GPU with a model, as data. Five are embedded; a file of one's own does as well.
//!
//! Arrow: `profiles.toml` → here → `config`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::cost::StepCost;
use super::engine::EngineConfig;

const EMBEDDED: &str = include_str!("profiles.toml");

/// One profile, as written in `profiles.toml`. Costs are µs on one GPU; see there for the formula.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Model name served unless another is asked for.
    pub model: String,
    /// GPUs assumed unless a tensor-parallel size is given.
    pub default_tp: u32,
    /// Share of the ideal speed-up kept with each doubling of the GPUs, above 0 and up to 1.
    pub tp_efficiency: f64,
    /// µs per prompt token.
    pub prefill_us_per_token: f64,
    /// µs of every step.
    pub step_base_us: f64,
    /// µs per sequence in a step.
    pub step_us_per_seq: f64,
    /// µs per 1,000 tokens of context in a step.
    pub step_us_per_1k_kv_tokens: f64,
    /// (sequences, µs): deviation from the formula, ascending.
    #[serde(default)]
    pub step_extra_us_by_seqs: Vec<(u32, f64)>,
    /// Sequences that run at once.
    pub max_num_seqs: u32,
    /// Tokens computed in one step.
    pub max_num_batched_tokens: u32,
    /// Tokens per KV block.
    pub block_size: u32,
    /// KV blocks with one GPU.
    pub num_blocks: u32,
    /// KV blocks each further GPU adds.
    pub num_blocks_per_added_gpu: u32,
    /// Prompt and answer together, tokens.
    pub max_model_len: u32,
    /// Mean length at which an answer ends by itself, tokens; drawn from an exponential distribution.
    pub mean_output_tokens: u32,
}

/// Why there is no such profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Neither embedded nor a file.
    #[error(
        "--profile: found {found:?}, expected one of {known}, or a .toml file with the fields of one profile"
    )]
    Unknown {
        /// What was asked for.
        found: String,
        /// Names there are, comma-separated.
        known: String,
    },
    /// The file cannot be read.
    #[error("--profile: {0}")]
    Read(#[from] std::io::Error),
    /// The file is not a profile.
    #[error("--profile {path}: {message}")]
    Parse {
        /// The file.
        path: String,
        /// What toml says, with line and column.
        message: String,
    },
}

impl Profile {
    /// The embedded profiles by name.
    pub fn embedded() -> Result<BTreeMap<String, Self>, ProfileError> {
        toml::from_str(EMBEDDED)
            .map_err(|error| ProfileError::Parse { path: "profiles.toml".into(), message: error.to_string() })
    }

    /// The profile of that name, or in that file when the name ends in `.toml`.
    pub fn find(name: &str) -> Result<Self, ProfileError> {
        if name.ends_with(".toml") {
            let text = fs_err::read_to_string(name)?;
            let bad = |message| ProfileError::Parse { path: name.into(), message };
            let profile: Self = toml::from_str(&text).map_err(|error| bad(error.to_string()))?;
            profile.check().map_err(bad)?;
            return Ok(profile);
        }
        let mut profiles = Self::embedded()?;
        let known = profiles.keys().cloned().collect::<Vec<_>>().join(", ");
        profiles.remove(name).ok_or_else(|| ProfileError::Unknown { found: name.into(), known })
    }

    /// What the types do not say: costs are costs, limits are limits.
    fn check(&self) -> Result<(), String> {
        let costs = [
            ("prefill_us_per_token", self.prefill_us_per_token),
            ("step_base_us", self.step_base_us),
            ("step_us_per_seq", self.step_us_per_seq),
            ("step_us_per_1k_kv_tokens", self.step_us_per_1k_kv_tokens),
        ];
        if let Some((key, found)) = costs.iter().find(|(_, us)| !(0.0..=1e9).contains(us)) {
            return Err(format!("{key}: found {found}, expected µs from 0 to 1000000000"));
        }
        let limits = [
            ("default_tp", self.default_tp),
            ("max_num_seqs", self.max_num_seqs),
            ("max_num_batched_tokens", self.max_num_batched_tokens),
            ("block_size", self.block_size),
            ("num_blocks", self.num_blocks),
            ("max_model_len", self.max_model_len),
            ("mean_output_tokens", self.mean_output_tokens),
        ];
        if let Some((key, _)) = limits.iter().find(|(_, limit)| *limit == 0) {
            return Err(format!("{key}: found 0, expected 1 or more"));
        }
        if !(self.tp_efficiency > 0.0 && self.tp_efficiency <= 1.0) {
            return Err(format!("tp_efficiency: found {}, expected above 0 and up to 1", self.tp_efficiency));
        }
        let table = &self.step_extra_us_by_seqs;
        if !table.is_sorted_by(|a, b| a.0 < b.0) || table.iter().any(|(_, us)| !(-1e9..=1e9).contains(us)) {
            return Err("step_extra_us_by_seqs: expected [sequences, µs] pairs, sequences ascending".into());
        }
        Ok(())
    }

    /// How much faster `tp` GPUs compute than one: `tp × tp_efficiency^log2(tp)`.
    pub fn speedup(&self, tp: u32) -> f64 {
        let tp = f64::from(tp.max(1));
        tp * self.tp_efficiency.powf(tp.log2())
    }

    /// The engine this profile describes on `tp` GPUs.
    pub fn engine(&self, tp: u32) -> EngineConfig {
        let on_one_gpu = StepCost {
            step_base_us: 0.0,
            step_us_per_seq: self.step_us_per_seq,
            step_us_per_1k_kv_tokens: self.step_us_per_1k_kv_tokens,
            prefill_us_per_token: self.prefill_us_per_token,
            step_extra_us_by_seqs: self.step_extra_us_by_seqs.clone(),
        };
        let added = self.num_blocks_per_added_gpu.saturating_mul(tp.saturating_sub(1));
        EngineConfig {
            max_num_seqs: self.max_num_seqs,
            max_num_batched_tokens: self.max_num_batched_tokens,
            block_size: self.block_size,
            num_blocks: self.num_blocks.saturating_add(added),
            cost: StepCost { step_base_us: self.step_base_us, ..on_one_gpu.scaled(1.0 / self.speedup(tp)) },
        }
    }
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
