//! The formula by hand, with figures that make it easy: 1,000 bytes and 10,000 operations in a µs.

use super::*;

/// A model of nothing but what a test puts in.
fn model() -> Model {
    Model {
        name: String::new(),
        layers: 0,
        sliding_window: 0,
        attention_width: 0,
        kv_values_per_layer: 0,
        dense_params: 0,
        dense_format: Format::Bf16,
        head_params: 0,
        experts: 0,
        experts_per_token: 0,
        expert_layers: 0,
        expert_params: 0,
        expert_format: Format::Bf16,
    }
}

fn on_one_gpu(model: Model) -> Roofline {
    let tflops = BTreeMap::from([(Format::Bf16, 0.01 / PEAK_REACHED)]);
    let gpu = Gpu { memory_gib: 1.0, bandwidth_gb_s: 1.0 / BANDWIDTH_REACHED, tflops };
    Roofline { gpu, model, tp: 1, speed: 1.0 }
}

/// Duration of a step without its overhead.
fn us(line: &Roofline, load: StepLoad) -> f64 {
    line.us(&load) - OVERHEAD_US - OVERHEAD_US_PER_SEQ * f64::from(load.seqs)
}

fn near(found: f64, expected: f64) {
    assert!((found / expected - 1.0).abs() < 2e-3, "found {found}, expected {expected}");
}

#[test]
fn matrices_take_the_longer_of_bytes_and_operations() {
    // 100,000 parameters of 2 bytes: 200 µs. 20 µs a token. They cross at 10 tokens.
    let mut line = on_one_gpu(Model { dense_params: 100_000, ..model() });
    for (prefill_tokens, decode_tokens, expected) in
        [(0, 1, 200.0), (8, 2, 200.0), (0, 11, 220.0), (100, 0, 2000.0)]
    {
        near(us(&line, StepLoad { prefill_tokens, decode_tokens, ..StepLoad::default() }), expected);
    }
    line.speed = 4.0;
    near(line.us(&StepLoad { decode_tokens: 100, ..StepLoad::default() }), (1500.0 + 2000.0) / 4.0);
}

#[test]
fn a_format_without_a_rate_is_multiplied_as_bf16() {
    // Half of the bytes, 100 µs; the same 20 µs a token, or 10 with a rate of its own.
    let mut line = on_one_gpu(Model { dense_params: 100_000, dense_format: Format::Fp8, ..model() });
    for (decode_tokens, expected) in [(1, 100.0), (10, 200.0)] {
        near(us(&line, StepLoad { decode_tokens, ..StepLoad::default() }), expected);
    }
    line.gpu.tflops.insert(Format::Fp8, 0.02 / PEAK_REACHED);
    near(us(&line, StepLoad { decode_tokens: 20, ..StepLoad::default() }), 200.0);
}

#[test]
fn the_head_counts_sequences_and_the_overhead_both() {
    // 1,500 + 30 × 10 µs of overhead, 30 × 20 µs of head: prompt tokens have no part in either.
    let line = on_one_gpu(Model { head_params: 100_000, ..model() });
    near(line.us(&StepLoad { seqs: 30, prefill_tokens: 5000, ..StepLoad::default() }), 2400.0);
}

#[test]
fn the_smallest_tile_that_holds_the_mean_is_used_and_padded() {
    // One row or none: 1 − 1/e experts multiply a tile of 16. Half of the experts with 128 rows on average need a second
    // tile of 128 rows. 700 rows, give or take 26, are 6 tiles.
    near(padded_rows(1.0), 16.0 * (1.0 - (-1.0_f64).exp()));
    near(padded_rows(700.0), 6.0 * 128.0);
    assert!((1.45..1.5).contains(&(padded_rows(128.0) / 128.0)), "{}", padded_rows(128.0));
    // From one tile to the next size: 33 rows on average take one tile of 64, 32 rows one or two of 32.
    assert!((padded_rows(33.0) - 64.0).abs() < 1.0 && (44.0..48.0).contains(&padded_rows(32.0)));
    assert_eq!(padded_rows(0.0), 0.0);
    // Where the exact sum ends and the rule begins there is no step.
    assert!((padded_rows(599.9) - padded_rows(600.1)).abs() < 4.0);
}

#[test]
fn each_expert_is_read_once_and_multiplied_in_whole_tiles() {
    // 2 layers of 4 experts, one a token, 100,000 parameters: 200 µs to read one, 20 µs a row. 1 token touches 1: 2 × 200 µs
    // to read, but a tile of 16 rows for each of the 1 − e^(−1/4) busy experts: 2 × 4 × 0.2212 × 16 × 20 µs = 566.3 µs.
    let experts = |expert_params| Model {
        experts: 4,
        experts_per_token: 1,
        expert_layers: 2,
        expert_params,
        ..model()
    };
    let mut line = on_one_gpu(experts(100_000));
    near(us(&line, StepLoad { decode_tokens: 1, ..StepLoad::default() }), 566.3);
    // At a hundredfold rate only reading counts: 1 token touches 1: 2 × 200. 2 tokens touch 4 × (1 − 9/16) = 1.75: 2 × 350.
    line.gpu.tflops.insert(Format::Bf16, 1.0 / PEAK_REACHED);
    near(us(&line, StepLoad { decode_tokens: 1, ..StepLoad::default() }), 400.0);
    near(us(&line, StepLoad { prefill_tokens: 1, decode_tokens: 1, ..StepLoad::default() }), 700.0);
    // Many tokens: 700 rows an expert, in 6 tiles of 128: 2 layers × 2 × 5,000 parameters × 4 × 768 rows / 10,000.
    let line = on_one_gpu(experts(5000));
    near(us(&line, StepLoad { prefill_tokens: 2800, ..StepLoad::default() }), 6144.0);
}

#[test]
fn attention_reads_the_window_in_half_of_the_layers() {
    let attention =
        Model { layers: 4, sliding_window: 128, kv_values_per_layer: 5, attention_width: 50, ..model() };
    let line = on_one_gpu(attention);
    // A decode step behind 1,000 tokens: (2 × 1001 + 2 × 128) × 10 bytes = 22.58 µs; 4 × 50 × 2,258 operations: 45.16 µs.
    let mut load = StepLoad::default();
    load.add(1000, 1, true, 128);
    assert_eq!((load.kv_tokens, load.window_tokens, load.pairs), (1001, 128, 1001));
    near(us(&line, load), 4.0 * 50.0 * (2.0 * 1001.0 + 2.0 * 128.0) / 10_000.0);
    // A chunk of 100 behind nothing: each token sees 50 on average.
    let mut load = StepLoad::default();
    load.add(0, 100, false, 128);
    assert_eq!((load.pairs, load.window_pairs, load.prefill_tokens, load.tokens()), (5000, 5000, 100, 100));
}
