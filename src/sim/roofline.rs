//! Step time from data of a GPU and a model: each part of a step takes the longer of reading its bytes and doing its
//! multiplications. Pure arithmetic; docs/sim.md has the formula and its sources.

use super::step::StepLoad;

/// Rows of the tiles of a grouped matrix product. Kernels use the smallest tile that holds the mean number of rows of an expert
/// (triton_kernels, `matmul_ogs_details/opt_flags.py`: next power of two, from 16 to 128), and multiply whole tiles.
const TILE_ROWS: [u32; 4] = [16, 32, 64, 128];

/// Above this mean a logistic curve approximates the distribution, because e^-mean would underflow a double.
const EXACT_UP_TO_ROWS: f64 = 600.0;

/// Inputs of the formula, for all GPUs of the server together.
#[derive(Debug, Clone, PartialEq)]
pub struct Roofline {
    /// Constant time of a step, µs: scheduler, launches.
    pub overhead_us: f64,
    /// The same per sequence, µs.
    pub overhead_us_per_seq: f64,
    /// Bytes read per µs.
    pub bytes_per_us: f64,
    /// Parameters used by every token, all layers together, without the output head.
    pub dense: Matrices,
    /// The output head.
    pub head: Matrices,
    /// The experts, if any.
    pub experts: Option<Experts>,
    /// Attention.
    pub attention: Attention,
    /// Speed-up over the formula.
    pub speed: f64,
}

/// Parameters of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrices {
    /// Number of parameters.
    pub params: f64,
    /// Their size in memory.
    pub bytes: f64,
    /// Floating-point operations per µs.
    pub flops_per_us: f64,
}

/// A mixture of experts.
#[derive(Debug, Clone, PartialEq)]
pub struct Experts {
    /// Layers with experts.
    pub layers: f64,
    /// Experts in a layer.
    pub count: f64,
    /// Experts per token.
    pub per_token: f64,
    /// One expert of one layer.
    pub one: Matrices,
}

/// Sizes of attention.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Layers that see the whole context.
    pub full_layers: f64,
    /// Layers that see a sliding window.
    pub window_layers: f64,
    /// Bytes of KV of one token in one layer.
    pub kv_bytes: f64,
    /// Query heads × head size.
    pub width: f64,
    /// Floating-point operations per µs.
    pub flops_per_us: f64,
}

impl Roofline {
    /// Duration of a step, µs.
    pub fn us(&self, load: &StepLoad) -> f64 {
        let tokens = load.tokens() as f64;
        let parts = self.overhead_us
            + self.overhead_us_per_seq * f64::from(load.seqs)
            + self.matrices_us(&self.dense, tokens)
            + self.matrices_us(&self.head, f64::from(load.seqs))
            + self.experts.as_ref().map_or(0.0, |experts| self.experts_us(experts, tokens))
            + self.attention_us(load);
        parts / self.speed
    }

    fn matrices_us(&self, matrices: &Matrices, rows: f64) -> f64 {
        let computed = 2.0 * matrices.params * rows / matrices.flops_per_us;
        (matrices.bytes / self.bytes_per_us).max(computed)
    }

    /// Reads the experts that some token uses, and multiplies whole tiles.
    fn experts_us(&self, experts: &Experts, tokens: f64) -> f64 {
        let share = experts.per_token / experts.count;
        let touched = experts.count * (1.0 - (1.0 - share).powf(tokens));
        let rows = experts.count * padded_rows(tokens * share);
        let read = touched * experts.one.bytes / self.bytes_per_us;
        experts.layers * read.max(2.0 * experts.one.params * rows / experts.one.flops_per_us)
    }

    /// KV reads, or queries × keys and weights × values: 4 operations per pair and value.
    fn attention_us(&self, load: &StepLoad) -> f64 {
        let layers = &self.attention;
        let over =
            |full: u64, window: u64| layers.full_layers * full as f64 + layers.window_layers * window as f64;
        let read = layers.kv_bytes * over(load.kv_tokens, load.window_tokens) / self.bytes_per_us;
        let computed = 4.0 * layers.width * over(load.pairs, load.window_pairs) / layers.flops_per_us;
        read.max(computed)
    }
}

/// Mean rows that one expert multiplies, including padding of its last tile, if its number of rows is Poisson-distributed around `mean`
/// (tokens choose experts independently).
pub fn padded_rows(mean: f64) -> f64 {
    let tile = TILE_ROWS
        .into_iter()
        .map(f64::from)
        .find(|rows| mean.floor() <= *rows)
        .unwrap_or(f64::from(TILE_ROWS[TILE_ROWS.len() - 1]));
    tile * mean_tiles(mean, tile)
}

/// Mean tiles of an expert: the sum over all tiles of the probability that the tile has rows.
fn mean_tiles(mean: f64, tile: f64) -> f64 {
    let last = mean + 8.0 * mean.sqrt() + 10.0;
    let (mut rows, mut sum) = (0.0, 0.0);
    if mean > EXACT_UP_TO_ROWS {
        while rows < last {
            sum += 1.0 / (1.0 + (1.702 * (rows + 0.5 - mean) / mean.sqrt()).exp());
            rows += tile;
        }
        return sum;
    }
    let mut probability = (-mean).exp();
    while rows < last {
        rows += 1.0;
        probability *= mean / rows;
        sum += probability * (rows / tile).ceil();
    }
    sum
}

#[cfg(test)]
#[path = "roofline_tests.rs"]
mod tests;
