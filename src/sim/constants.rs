//! A profile of constants: limits, and a linear step time.

use serde::Deserialize;

use super::cost::{LinearCost, StepCost};
use super::engine::EngineConfig;

/// One profile of constants, as written in TOML. Costs are µs on one GPU.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constants {
    /// Default model name.
    pub model: String,
    /// Default tensor-parallel size.
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
    /// Mean natural length of an answer, tokens; exponentially distributed.
    pub mean_output_tokens: u32,
}

impl Constants {
    /// Checks ranges of costs and limits.
    pub fn check(&self) -> Result<(), String> {
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
        Ok(())
    }

    /// The engine these constants describe on `tp` GPUs.
    pub fn engine(&self, tp: u32) -> EngineConfig {
        let on_one_gpu = LinearCost {
            step_base_us: 0.0,
            step_us_per_seq: self.step_us_per_seq,
            step_us_per_1k_kv_tokens: self.step_us_per_1k_kv_tokens,
            prefill_us_per_token: self.prefill_us_per_token,
        };
        let added = self.num_blocks_per_added_gpu.saturating_mul(tp.saturating_sub(1));
        let line = on_one_gpu.scaled(1.0 / speedup(tp, self.tp_efficiency));
        EngineConfig {
            max_num_seqs: self.max_num_seqs,
            max_num_batched_tokens: self.max_num_batched_tokens,
            block_size: self.block_size,
            num_blocks: self.num_blocks.saturating_add(added),
            sliding_window: 0,
            cost: StepCost::Linear(LinearCost { step_base_us: self.step_base_us, ..line }),
        }
    }
}

/// How much faster `tp` GPUs compute than one: `tp × efficiency^log2(tp)`.
pub fn speedup(tp: u32, efficiency: f64) -> f64 {
    let tp = f64::from(tp.max(1));
    tp * efficiency.powf(tp.log2())
}
