//! The formula by hand, with figures that make it easy: 1,000 bytes and 1,000 operations in a µs.

use super::*;

fn matrices(params: f64, bytes: f64) -> Matrices {
    Matrices { params, bytes, flops_per_us: 1000.0 }
}

/// Nothing but what a test puts in.
fn bare() -> Roofline {
    Roofline {
        overhead_us: 0.0,
        overhead_us_per_seq: 0.0,
        bytes_per_us: 1000.0,
        dense: matrices(0.0, 0.0),
        head: matrices(0.0, 0.0),
        experts: None,
        attention: Attention {
            full_layers: 0.0,
            window_layers: 0.0,
            kv_bytes: 0.0,
            width: 0.0,
            flops_per_us: 1000.0,
        },
        speed: 1.0,
    }
}

fn near(found: f64, expected: f64) {
    assert!((found / expected - 1.0).abs() < 2e-3, "found {found}, expected {expected}");
}

#[test]
fn matrices_take_the_longer_of_bytes_and_operations() {
    // 50,000 bytes: 50 µs. 1,000 parameters: 2 µs a token. They cross at 25 tokens.
    let line = Roofline { dense: matrices(1000.0, 50_000.0), ..bare() };
    for (prefill_tokens, decode_tokens, us) in [(0, 1, 50.0), (20, 5, 50.0), (0, 26, 52.0), (100, 0, 200.0)] {
        near(line.us(&StepLoad { prefill_tokens, decode_tokens, ..StepLoad::default() }), us);
    }
    near(Roofline { speed: 4.0, ..line }.us(&StepLoad { decode_tokens: 100, ..StepLoad::default() }), 50.0);
}

#[test]
fn the_head_counts_sequences_and_the_overhead_both() {
    // 100 + 3 × 7 of overhead, 3 × 2 µs of head: prompt tokens have no part in either.
    let head = matrices(1000.0, 0.0);
    let line = Roofline { head, overhead_us: 100.0, overhead_us_per_seq: 7.0, ..bare() };
    near(line.us(&StepLoad { seqs: 3, prefill_tokens: 5000, ..StepLoad::default() }), 127.0);
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
    // 2 layers of 4 experts, one a token, 800 bytes = 0.8 µs each. 1 token touches 1: 2 × 0.8. 2 tokens touch 4 × (1 − 9/16)
    // = 1.75: 2 × 1.4. By operations both are less: 2 × 5 parameters × at most 4 × 16 rows / 1000.
    let experts = |one| Experts { layers: 2.0, count: 4.0, per_token: 1.0, one };
    let line = Roofline { experts: Some(experts(matrices(5.0, 800.0))), ..bare() };
    near(line.us(&StepLoad { decode_tokens: 1, ..StepLoad::default() }), 1.6);
    near(line.us(&StepLoad { prefill_tokens: 1, decode_tokens: 1, ..StepLoad::default() }), 2.8);
    // Many tokens: 700 rows an expert, in 6 tiles of 128: 2 layers × 2 × 500 parameters × 4 × 768 rows / 1000.
    let line = Roofline { experts: Some(experts(matrices(500.0, 0.0))), ..bare() };
    near(line.us(&StepLoad { prefill_tokens: 2800, ..StepLoad::default() }), 6144.0);
}

#[test]
fn attention_reads_the_window_in_half_of_the_layers() {
    let attention =
        Attention { full_layers: 2.0, window_layers: 2.0, kv_bytes: 10.0, width: 5.0, flops_per_us: 1000.0 };
    let line = Roofline { attention, ..bare() };
    // A decode step behind 1,000 tokens: (2 × 1001 + 2 × 128) × 10 bytes = 22.58 µs; 4 × 5 × 2,258 operations: 45.16 µs.
    let mut load = StepLoad::default();
    load.add(1000, 1, true, 128);
    assert_eq!((load.kv_tokens, load.window_tokens, load.pairs), (1001, 128, 1001));
    near(line.us(&load), 4.0 * 5.0 * (2.0 * 1001.0 + 2.0 * 128.0) / 1000.0);
    // A chunk of 100 behind nothing: each token sees 50 on average.
    let mut load = StepLoad::default();
    load.add(0, 100, false, 128);
    assert_eq!((load.pairs, load.window_pairs, load.prefill_tokens, load.tokens()), (5000, 5000, 100, 100));
}
