//! The checked configuration of a simulated server: a profile with overrides.

use super::engine::EngineConfig;
use super::faults::Faults;
use super::profile::Profile;

/// Flags of `tokmark sim` that override the profile, and the seed.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
pub struct Overrides {
    /// Served model name [default: the profile's]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Tensor-parallel size: more GPUs compute faster and hold more KV blocks [default: the profile's]
    #[arg(long, value_name = "GPUS")]
    pub tp: Option<u32>,
    /// Seed of output lengths, texts, ids and faults
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Sequences that run at once; the others queue [default: the profile's]
    #[arg(long, value_name = "N")]
    pub max_num_seqs: Option<u32>,
    /// Tokens computed in one step, prefill and decode together [default: the profile's]
    #[arg(long, value_name = "TOKENS")]
    pub max_num_batched_tokens: Option<u32>,
    /// Longest prompt and answer together [default: the profile's]
    #[arg(long, value_name = "TOKENS")]
    pub max_model_len: Option<u32>,
    /// KV blocks; sequences are preempted when they run out [default: the profile's for --tp]
    #[arg(long, value_name = "BLOCKS")]
    pub num_gpu_blocks: Option<u32>,
    /// Tokens per KV block [default: the profile's]
    #[arg(long, value_name = "TOKENS")]
    pub block_size: Option<u32>,
    /// Run this many times faster than the profile
    #[arg(long, default_value = "1", value_name = "FACTOR")]
    pub speed: Option<f64>,
}

/// A checked configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct SimConfig {
    /// Name or path of the profile, for people.
    pub profile: String,
    pub model: String,
    pub host: String,
    /// Port, 0 for any free one.
    pub port: u16,
    /// Seed of output lengths, texts, ids and faults.
    pub seed: u64,
    /// Prompt and answer together, tokens.
    pub max_model_len: u32,
    /// Mean natural length of an answer, tokens.
    pub mean_output_tokens: u32,
    /// Scheduler limits and costs, speed and tensor-parallel size applied.
    pub engine: EngineConfig,
    pub faults: Faults,
}

/// An invalid value, or an unknown profile.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{flag}: found {found}, expected {expected}")]
    Value { flag: &'static str, found: String, expected: String },
    /// The file of a profile cannot be read, or is none.
    #[error("--profile {file}: {problem}")]
    Profile { file: String, problem: String },
}

pub(super) fn bad(flag: &'static str, found: impl ToString, expected: impl Into<String>) -> ConfigError {
    ConfigError::Value { flag, found: found.to_string(), expected: expected.into() }
}

impl SimConfig {
    /// The named profile with overrides, on 127.0.0.1 and any free port, without faults.
    pub fn new(name: &str, overrides: &Overrides) -> Result<Self, ConfigError> {
        let profile = Profile::find(name)?;
        let tp = at_least_one("--tp", overrides.tp, profile.default_tp)?;
        let speed = overrides.speed.unwrap_or(1.0);
        if !(1e-6..=1e6).contains(&speed) {
            return Err(bad("--speed", speed, "a factor from 0.000001 to 1000000"));
        }
        let base = profile.engine(tp);
        if base.num_blocks == 0 && overrides.num_gpu_blocks.is_none() {
            let expected = format!("more GPUs: the weights of {} leave no room for KV blocks", profile.model);
            return Err(bad("--tp", tp, expected));
        }
        let engine = EngineConfig {
            max_num_seqs: at_least_one("--max-num-seqs", overrides.max_num_seqs, base.max_num_seqs)?,
            max_num_batched_tokens: at_least_one(
                "--max-num-batched-tokens",
                overrides.max_num_batched_tokens,
                base.max_num_batched_tokens,
            )?,
            block_size: at_least_one("--block-size", overrides.block_size, base.block_size)?,
            num_blocks: at_least_one("--num-gpu-blocks", overrides.num_gpu_blocks, base.num_blocks)?,
            sliding_window: base.sliding_window,
            cost: base.cost.sped_up(speed),
        };
        let max_model_len = at_least_one("--max-model-len", overrides.max_model_len, profile.max_model_len)?;
        let capacity = engine.kv_capacity_tokens();
        if u64::from(max_model_len) > capacity {
            let expected = format!(
                "at most {capacity}, the KV cache of {} blocks × {} tokens: lower it, or raise --num-gpu-blocks",
                engine.num_blocks, engine.block_size
            );
            return Err(bad("--max-model-len", max_model_len, expected));
        }
        Ok(Self {
            profile: name.into(),
            model: overrides.model.clone().unwrap_or(profile.model),
            host: "127.0.0.1".into(),
            port: 0,
            seed: overrides.seed,
            max_model_len,
            mean_output_tokens: profile.mean_output_tokens,
            engine,
            faults: Faults::default(),
        })
    }

    /// The same with faults.
    pub fn with_faults(mut self, faults: Faults) -> Result<Self, ConfigError> {
        if !(0.0..=1.0).contains(&faults.fail_rate) {
            return Err(bad("--fail-rate", faults.fail_rate, "a share from 0 to 1"));
        }
        if !(0.0..=86_400.0).contains(&faults.startup_delay_s) {
            return Err(bad("--startup-delay", faults.startup_delay_s, "seconds from 0 to 86400"));
        }
        for (flag, value) in [("--crash-after", faults.crash_after), ("--stall-after", faults.stall_after)] {
            if value == Some(0) {
                return Err(bad(flag, 0, "a number of requests, 1 or more"));
            }
        }
        self.faults = faults;
        Ok(self)
    }
}

fn at_least_one(flag: &'static str, given: Option<u32>, default: u32) -> Result<u32, ConfigError> {
    match given {
        Some(0) => Err(bad(flag, 0, "1 or more")),
        given => Ok(given.unwrap_or(default)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::step::StepLoad;
    use super::*;

    #[test]
    fn overrides_win_and_speed_divides_every_cost() {
        let overrides = Overrides {
            model: Some("m".into()),
            max_num_seqs: Some(3),
            num_gpu_blocks: Some(4096),
            block_size: Some(8),
            speed: Some(2.0),
            ..Overrides::default()
        };
        let config = SimConfig::new("quick", &overrides).expect("sound");
        assert_eq!((config.model.as_str(), config.engine.max_num_seqs), ("m", 3));
        assert_eq!(config.engine.kv_capacity_tokens(), 32_768);
        // 4000 + 20 + 100 × 20 = 6,020 µs, at twice the speed.
        let load = StepLoad { seqs: 1, prefill_tokens: 100, ..StepLoad::default() };
        assert_eq!(config.engine.cost.step_us(&load), 3010);
    }

    #[test]
    fn bad_values_name_flag_found_and_expected() {
        let message = |overrides| SimConfig::new("quick", &overrides).expect_err("bad").to_string();
        let cases = [
            (Overrides { tp: Some(0), ..Overrides::default() }, "--tp: found 0, expected 1 or more"),
            (
                Overrides { speed: Some(-1.0), ..Overrides::default() },
                "--speed: found -1, expected a factor from 0.000001",
            ),
            (
                Overrides { num_gpu_blocks: Some(1), ..Overrides::default() },
                "--max-model-len: found 32768, expected at most 16,",
            ),
        ];
        for (overrides, expected) in cases {
            assert!(message(overrides.clone()).starts_with(expected), "{}", message(overrides));
        }
        let error = SimConfig::new("h100/deepseek-r1", &Overrides { tp: Some(1), ..Overrides::default() });
        let error = error.expect_err("too large").to_string();
        assert!(
            error.starts_with("--tp: found 1, expected more GPUs: the weights of deepseek-ai/"),
            "{error}"
        );
        let quick = SimConfig::new("quick", &Overrides::default()).expect("sound");
        let faults = Faults { fail_rate: 1.5, ..Faults::default() };
        let error = quick.clone().with_faults(faults).expect_err("bad").to_string();
        assert_eq!(error, "--fail-rate: found 1.5, expected a share from 0 to 1");
        let faults = Faults { stall_after: Some(0), ..Faults::default() };
        assert!(
            quick.with_faults(faults).expect_err("bad").to_string().starts_with("--stall-after: found 0")
        );
    }
}
