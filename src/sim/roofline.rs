//! Step time from the figures of a GPU and a model: each part of a step takes what its bytes take to be read or what
//! its multiplications take to be done, whichever is longer. Pure arithmetic; docs/sim.md has the formula and its sources.

use super::step::StepLoad;

/// Rows of the tiles a grouped matrix product is made of. The kernels take the smallest that holds the mean number of
/// rows of an expert (triton_kernels, `matmul_ogs_details/opt_flags.py`: next power of two, from 16 to 128), and
/// multiply whole tiles.
const TILE_ROWS: [u32; 4] = [16, 32, 64, 128];

/// Above this many rows on average a logistic curve stands for the distribution: e^-mean would leave the range of a double.
const EXACT_UP_TO_ROWS: f64 = 600.0;

/// What the formula needs, for all GPUs of the server together.
#[derive(Debug, Clone, PartialEq)]
pub struct Roofline {
    /// µs of every step that no GPU shortens: scheduler, launches.
    pub overhead_us: f64,
    /// µs of the same per sequence.
    pub overhead_us_per_seq: f64,
    /// Bytes read in a µs.
    pub bytes_per_us: f64,
    /// Parameters every token is multiplied with, all layers together, without the output head.
    pub dense: Matrices,
    /// The output head.
    pub head: Matrices,
    /// The experts, if there are any.
    pub experts: Option<Experts>,
    /// Attention.
    pub attention: Attention,
    /// How many times faster than the formula says.
    pub speed: f64,
}

/// Parameters of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrices {
    /// Number of parameters.
    pub params: f64,
    /// Their size in memory.
    pub bytes: f64,
    /// Floating-point operations in a µs.
    pub flops_per_us: f64,
}

/// A mixture of experts.
#[derive(Debug, Clone, PartialEq)]
pub struct Experts {
    /// Layers that have one.
    pub layers: f64,
    /// Experts in a layer.
    pub count: f64,
    /// Experts a token goes through.
    pub per_token: f64,
    /// One expert of one layer.
    pub one: Matrices,
}

/// What attention reads and multiplies.
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
    /// Floating-point operations in a µs.
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

    /// The experts that some token goes through are read; whole tiles are multiplied.
    fn experts_us(&self, experts: &Experts, tokens: f64) -> f64 {
        let share = experts.per_token / experts.count;
        let touched = experts.count * (1.0 - (1.0 - share).powf(tokens));
        let rows = experts.count * padded_rows(tokens * share);
        let read = touched * experts.one.bytes / self.bytes_per_us;
        experts.layers * read.max(2.0 * experts.one.params * rows / experts.one.flops_per_us)
    }

    /// KV read, or queries times keys and weights times values: 4 operations a pair and value.
    fn attention_us(&self, load: &StepLoad) -> f64 {
        let layers = &self.attention;
        let over =
            |full: u64, window: u64| layers.full_layers * full as f64 + layers.window_layers * window as f64;
        let read = layers.kv_bytes * over(load.kv_tokens, load.window_tokens) / self.bytes_per_us;
        let computed = 4.0 * layers.width * over(load.pairs, load.window_pairs) / layers.flops_per_us;
        read.max(computed)
    }
}

/// Rows one expert multiplies on average, those that fill up its last tile included, when its own number is
/// Poisson-distributed around `mean` (tokens choose experts independently).
pub fn padded_rows(mean: f64) -> f64 {
    let tile = TILE_ROWS
        .into_iter()
        .map(f64::from)
        .find(|rows| mean.floor() <= *rows)
        .unwrap_or(f64::from(TILE_ROWS[TILE_ROWS.len() - 1]));
    tile * mean_tiles(mean, tile)
}

/// Tiles of an expert on average: the sum, over all tiles, of the probability that there are rows for it.
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
