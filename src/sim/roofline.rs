//! Step time and KV blocks from data of a GPU and a model: each part of a step takes the longer of reading its bytes and doing
//! its multiplications. Pure arithmetic; docs/sim.md has the formulas, and the source of each value and assumption.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::step::StepLoad;

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

/// Rows of the tiles of a grouped matrix product. Kernels use the smallest tile that holds the mean number of rows of an expert
/// (triton_kernels, `matmul_ogs_details/opt_flags.py`: next power of two, from 16 to 128), and multiply whole tiles.
const TILE_ROWS: [f64; 4] = [16.0, 32.0, 64.0, 128.0];

/// Above this mean a logistic curve approximates the distribution, because e^-mean would underflow a double.
const EXACT_UP_TO_ROWS: f64 = 600.0;

/// A number format: storage and rate of multiplication.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Bf16,
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
    /// Dense TFLOP/s by weight format. Without units for a format, weights are widened and multiplied at the rate of BF16.
    pub tflops: BTreeMap<Format, f64>,
}

/// Data of a model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub name: String,
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
    pub dense_format: Format,
    /// Parameters of the output head, equal to those of the embedding; both in BF16.
    pub head_params: u64,
    #[serde(default)]
    pub experts: u32,
    #[serde(default)]
    pub experts_per_token: u32,
    #[serde(default)]
    pub expert_layers: u32,
    /// Parameters of one expert of one layer.
    #[serde(default)]
    pub expert_params: u64,
    #[serde(default)]
    pub expert_format: Format,
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

    /// Checks that the values of experts occur together.
    pub(super) fn check_experts(&self) -> Result<(), String> {
        let values = [
            ("experts_per_token", u64::from(self.experts_per_token)),
            ("expert_layers", u64::from(self.expert_layers)),
            ("expert_params", self.expert_params),
        ];
        let (experts, chosen) = (self.experts, self.experts_per_token);
        match values.iter().find(|(_, value)| (*value == 0) != (experts == 0)) {
            Some((key, found)) => Err(format!(
                "{key}: found {found} with experts = {experts}, expected both to be 0 or neither"
            )),
            None if chosen > experts => {
                Err(format!("experts_per_token: found {chosen}, expected at most experts = {experts}"))
            }
            None => Ok(()),
        }
    }

    /// Layers that see the whole context. With a window the other layers are a second group in the same blocks.
    fn full_layers(&self) -> u32 {
        if self.sliding_window == 0 { self.layers } else { self.layers.div_ceil(2) }
    }

    /// Bytes of KV of one token in one layer.
    fn kv_bytes(&self) -> f64 {
        self.kv_values_per_layer as f64 * KV_VALUE_BYTES
    }
}

/// A model on `tp` GPUs.
#[derive(Debug, Clone, PartialEq)]
pub struct Roofline {
    pub gpu: Gpu,
    pub model: Model,
    pub tp: u32,
    /// Speed-up over the formula.
    pub speed: f64,
}

impl Roofline {
    /// Duration of a step, µs.
    pub fn us(&self, load: &StepLoad) -> f64 {
        let (model, tokens, seqs) = (&self.model, load.tokens() as f64, f64::from(load.seqs));
        let parts = OVERHEAD_US
            + OVERHEAD_US_PER_SEQ * seqs
            + self.product_us(model.dense_format, model.dense_params, tokens)
            + self.product_us(Format::Bf16, model.head_params, seqs)
            + self.experts_us(tokens)
            + self.attention_us(load);
        parts / self.speed
    }

    /// KV blocks that fit beside weights and workspace. A block holds its tokens for the layers of one group.
    pub fn num_blocks(&self, memory_utilization: f64, block_size: u32) -> u32 {
        let gpus = f64::from(self.tp.max(1));
        let reserved = self.model.weights_gib() / gpus + WORKSPACE_GIB;
        let free_gib = self.gpu.memory_gib * memory_utilization - reserved;
        let block_bytes = f64::from(self.model.full_layers()) * self.model.kv_bytes() * f64::from(block_size);
        (free_gib * gpus * GIB / block_bytes).floor().clamp(0.0, f64::from(u32::MAX)) as u32
    }

    /// Reads `bytes` and does `operations` at the rate of a format, whichever takes longer.
    fn longer_us(&self, format: Format, bytes: f64, operations: f64) -> f64 {
        let rates = &self.gpu.tflops;
        let tflops = rates.get(&format).or_else(|| rates.get(&Format::Bf16)).copied().unwrap_or_default();
        let read = bytes / (self.gpu.bandwidth_gb_s * 1e3 * BANDWIDTH_REACHED);
        let computed = operations / (tflops * 1e6 * PEAK_REACHED);
        read.max(computed) / speedup(self.tp, TP_EFFICIENCY)
    }

    fn product_us(&self, format: Format, params: u64, rows: f64) -> f64 {
        let params = params as f64;
        self.longer_us(format, params * format.bytes(), 2.0 * params * rows)
    }

    /// Reads the experts that some token uses, and multiplies whole tiles.
    fn experts_us(&self, tokens: f64) -> f64 {
        let model = &self.model;
        if model.experts == 0 {
            return 0.0;
        }
        let (count, params) = (f64::from(model.experts), model.expert_params as f64);
        let share = f64::from(model.experts_per_token) / count;
        let read = count * (1.0 - (1.0 - share).powf(tokens)) * params * model.expert_format.bytes();
        let operations = 2.0 * params * count * padded_rows(tokens * share);
        f64::from(model.expert_layers) * self.longer_us(model.expert_format, read, operations)
    }

    /// KV reads, or queries × keys and weights × values: 4 operations per pair and value.
    fn attention_us(&self, load: &StepLoad) -> f64 {
        let full_layers = self.model.full_layers();
        let window_layers = f64::from(self.model.layers - full_layers);
        let over =
            |full: u64, window: u64| f64::from(full_layers) * full as f64 + window_layers * window as f64;
        let read = self.model.kv_bytes() * over(load.kv_tokens, load.window_tokens);
        let operations = 4.0 * self.model.attention_width as f64 * over(load.pairs, load.window_pairs);
        self.longer_us(Format::Bf16, read, operations)
    }
}

/// How much faster `tp` GPUs compute than one: `tp × efficiency^log2(tp)`.
pub fn speedup(tp: u32, efficiency: f64) -> f64 {
    let tp = f64::from(tp.max(1));
    tp * efficiency.powf(tp.log2())
}

/// Mean rows that one expert multiplies, including padding of its last tile, if its number of rows is Poisson-distributed around
/// `mean` (tokens choose experts independently): the sum over all tiles of the probability that the tile has rows.
pub fn padded_rows(mean: f64) -> f64 {
    let tile = TILE_ROWS.into_iter().find(|rows| mean.floor() <= *rows).unwrap_or(TILE_ROWS[3]);
    let last = mean + 8.0 * mean.sqrt() + 10.0;
    let (mut rows, mut tiles) = (0.0, 0.0);
    if mean > EXACT_UP_TO_ROWS {
        while rows < last {
            tiles += 1.0 / (1.0 + (1.702 * (rows + 0.5 - mean) / mean.sqrt()).exp());
            rows += tile;
        }
        return tile * tiles;
    }
    let mut probability = (-mean).exp();
    while rows < last {
        rows += 1.0;
        probability *= mean / rows;
        tiles += probability * (rows / tile).ceil();
    }
    tile * tiles
}

#[cfg(test)]
#[path = "roofline_tests.rs"]
mod tests;
