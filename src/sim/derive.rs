//! Derives an engine from public data of a GPU and a model: the step time from a roofline, the KV blocks from the remaining memory.
//! docs/sim.md has the formulas and the source of each value and assumption.

use serde::Deserialize;

use super::constants::speedup;
use super::cost::StepCost;
use super::engine::EngineConfig;
use super::roofline::{Attention, Experts, Matrices, Roofline};

// Assumptions, the same for every GPU and model.

/// Share of the data sheet's bandwidth that kernels reach.
const BANDWIDTH_REACHED: f64 = 0.75;
/// Share of the data sheet's dense TFLOP/s that kernels reach.
const PEAK_REACHED: f64 = 0.45;
/// µs of a step for scheduler, input preparation, launches and sampling.
const OVERHEAD_US: f64 = 1_500.0;
/// The same per sequence, µs.
const OVERHEAD_US_PER_SEQ: f64 = 10.0;
/// Memory of a GPU for activations, graphs and the runtime.
const WORKSPACE_GIB: f64 = 2.0;
/// Share of the ideal speed-up kept with each doubling of the GPUs.
const TP_EFFICIENCY: f64 = 0.85;
/// Bytes of one value in the KV cache: BF16.
const KV_VALUE_BYTES: f64 = 2.0;

const GIB: f64 = (1_u64 << 30) as f64;

/// A number format: storage and rate of multiplication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// 16 bits.
    Bf16,
    /// 8 bits.
    Fp8,
    /// 4 bits and 8 bits of scale for 32 values.
    Mxfp4,
    /// 4 bits and 8 bits of scale for 16 values.
    Nvfp4,
}

impl Format {
    fn bytes(self) -> f64 {
        match self {
            Self::Bf16 => 2.0,
            Self::Fp8 => 1.0,
            Self::Mxfp4 => 4.25 / 8.0,
            Self::Nvfp4 => 4.5 / 8.0,
        }
    }
}

/// Data of a GPU.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// Memory visible to software, GiB.
    pub memory_gib: f64,
    /// Bandwidth of the memory, GB/s.
    pub bandwidth_gb_s: f64,
    /// Dense TFLOP/s by the format of the weights.
    pub tflops: Tflops,
}

/// Dense TFLOP/s by weight format. Without units for a format, weights are widened and multiplied at the wider format's rate.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tflops {
    /// BF16.
    pub bf16: f64,
    /// FP8.
    pub fp8: f64,
    /// MXFP4 weights.
    pub mxfp4: f64,
    /// NVFP4 weights.
    pub nvfp4: f64,
}

impl Gpu {
    /// Floating-point operations in a µs that kernels reach.
    fn flops_per_us(&self, format: Format) -> f64 {
        let tflops = match format {
            Format::Bf16 => self.tflops.bf16,
            Format::Fp8 => self.tflops.fp8,
            Format::Mxfp4 => self.tflops.mxfp4,
            Format::Nvfp4 => self.tflops.nvfp4,
        };
        tflops * 1e6 * PEAK_REACHED
    }
}

/// Data of a model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Served name.
    pub name: String,
    /// Layers.
    pub layers: u32,
    /// Window of every second layer, tokens; 0 if all layers see the whole context.
    #[serde(default)]
    pub sliding_window: u32,
    /// Query heads × head size.
    pub attention_width: u64,
    /// Values per token in the KV cache of one layer.
    pub kv_values_per_layer: u64,
    /// Parameters used by every token, all layers together: attention, router, shared experts, dense layers.
    pub dense_params: u64,
    /// Their format.
    pub dense_format: Format,
    /// Parameters of the output head, equal to those of the embedding; both in BF16.
    pub head_params: u64,
    /// Experts in a layer, or 0.
    #[serde(default)]
    pub experts: u32,
    /// Experts per token.
    #[serde(default)]
    pub experts_per_token: u32,
    /// Layers with experts.
    #[serde(default)]
    pub expert_layers: u32,
    /// Parameters of one expert of one layer.
    #[serde(default)]
    pub expert_params: u64,
    /// Format of the experts.
    #[serde(default = "bf16")]
    pub expert_format: Format,
}

fn bf16() -> Format {
    Format::Bf16
}

impl Model {
    /// Memory of the weights, GiB.
    pub fn weights_gib(&self) -> f64 {
        let experts = f64::from(self.experts) * f64::from(self.expert_layers) * self.expert_params as f64;
        let bytes = self.dense_params as f64 * self.dense_format.bytes()
            + experts * self.expert_format.bytes()
            + 2.0 * self.head_params as f64 * Format::Bf16.bytes();
        bytes / GIB
    }

    /// Layers that see the whole context. With a window the other layers are a second group in the same blocks.
    fn full_layers(&self) -> u32 {
        if self.sliding_window == 0 { self.layers } else { self.layers.div_ceil(2) }
    }
}

/// Limits of the server, named like its options.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Sequences that run at once.
    pub max_num_seqs: u32,
    /// Tokens computed in one step.
    pub max_num_batched_tokens: u32,
    /// Tokens per KV block.
    pub block_size: u32,
    /// Share of the memory that the server uses.
    pub memory_utilization: f64,
}

/// A GPU, a model and the limits of a server.
#[derive(Debug, Clone, PartialEq)]
pub struct Derivation {
    /// The GPU.
    pub gpu: Gpu,
    /// The model.
    pub model: Model,
    /// The limits.
    pub limits: Limits,
}

impl Derivation {
    /// Checks that values are positive, and that those of experts occur together.
    pub fn check(&self) -> Result<(), String> {
        let (gpu, model, limits) = (&self.gpu, &self.model, &self.limits);
        let figures = [
            ("memory_gib", gpu.memory_gib),
            ("bandwidth_gb_s", gpu.bandwidth_gb_s),
            ("tflops.bf16", gpu.tflops.bf16),
            ("tflops.fp8", gpu.tflops.fp8),
            ("tflops.mxfp4", gpu.tflops.mxfp4),
            ("tflops.nvfp4", gpu.tflops.nvfp4),
            ("layers", f64::from(model.layers)),
            ("attention_width", model.attention_width as f64),
            ("kv_values_per_layer", model.kv_values_per_layer as f64),
            ("dense_params", model.dense_params as f64),
            ("head_params", model.head_params as f64),
            ("max_num_seqs", f64::from(limits.max_num_seqs)),
            ("max_num_batched_tokens", f64::from(limits.max_num_batched_tokens)),
            ("block_size", f64::from(limits.block_size)),
        ];
        if let Some((key, found)) = figures.iter().find(|(_, figure)| !(*figure > 0.0 && *figure <= 1e15)) {
            return Err(format!("{key}: found {found}, expected above 0 and up to 1e15"));
        }
        if !(limits.memory_utilization > 0.0 && limits.memory_utilization <= 1.0) {
            let found = limits.memory_utilization;
            return Err(format!("memory_utilization: found {found}, expected above 0 and up to 1"));
        }
        let of_experts = [
            ("experts_per_token", u64::from(model.experts_per_token)),
            ("expert_layers", u64::from(model.expert_layers)),
            ("expert_params", model.expert_params),
        ];
        match of_experts.iter().find(|(_, figure)| (*figure == 0) != (model.experts == 0)) {
            Some((key, found)) => Err(format!(
                "{key}: found {found} with experts = {}, expected both to be 0 or neither",
                model.experts
            )),
            None if model.experts_per_token > model.experts => {
                let found = model.experts_per_token;
                Err(format!("experts_per_token: found {found}, expected at most experts = {}", model.experts))
            }
            None => Ok(()),
        }
    }

    /// The engine on `tp` GPUs; without KV blocks if the weights leave no room.
    pub fn engine(&self, tp: u32) -> EngineConfig {
        EngineConfig {
            max_num_seqs: self.limits.max_num_seqs,
            max_num_batched_tokens: self.limits.max_num_batched_tokens,
            block_size: self.limits.block_size,
            num_blocks: self.num_blocks(tp),
            sliding_window: self.model.sliding_window,
            cost: StepCost::Roofline(Box::new(self.roofline(tp))),
        }
    }

    /// Blocks that fit beside weights and workspace. A block holds its tokens for the layers of one group.
    fn num_blocks(&self, tp: u32) -> u32 {
        let gpus = f64::from(tp.max(1));
        let reserved = self.model.weights_gib() / gpus + WORKSPACE_GIB;
        let free_gib = self.gpu.memory_gib * self.limits.memory_utilization - reserved;
        let block_bytes =
            f64::from(self.model.full_layers()) * self.kv_bytes() * f64::from(self.limits.block_size);
        (free_gib * gpus * GIB / block_bytes).floor().clamp(0.0, f64::from(u32::MAX)) as u32
    }

    fn kv_bytes(&self) -> f64 {
        self.model.kv_values_per_layer as f64 * KV_VALUE_BYTES
    }

    fn roofline(&self, tp: u32) -> Roofline {
        let (model, times) = (&self.model, speedup(tp, TP_EFFICIENCY));
        let matrices = |params: u64, format: Format| Matrices {
            params: params as f64,
            bytes: params as f64 * format.bytes(),
            flops_per_us: self.gpu.flops_per_us(format) * times,
        };
        let experts = (model.experts > 0).then(|| Experts {
            layers: f64::from(model.expert_layers),
            count: f64::from(model.experts),
            per_token: f64::from(model.experts_per_token),
            one: matrices(model.expert_params, model.expert_format),
        });
        let full_layers = model.full_layers();
        Roofline {
            overhead_us: OVERHEAD_US,
            overhead_us_per_seq: OVERHEAD_US_PER_SEQ,
            bytes_per_us: self.gpu.bandwidth_gb_s * 1e3 * BANDWIDTH_REACHED * times,
            dense: matrices(model.dense_params, model.dense_format),
            head: matrices(model.head_params, Format::Bf16),
            experts,
            attention: Attention {
                full_layers: f64::from(full_layers),
                window_layers: f64::from(model.layers - full_layers),
                kv_bytes: self.kv_bytes(),
                width: model.attention_width as f64,
                flops_per_us: self.gpu.flops_per_us(Format::Bf16) * times,
            },
            speed: 1.0,
        }
    }
}

#[cfg(test)]
#[path = "derive_tests.rs"]
mod tests;
