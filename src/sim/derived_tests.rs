//! Engines derived from a GPU and a model, worked by hand.

use super::*;
use crate::sim::step::StepLoad;

fn gpt_oss_20b() -> Model {
    Model {
        name: "openai/gpt-oss-20b".into(),
        layers: 24,
        sliding_window: 128,
        attention_width: 4096,
        kv_values_per_layer: 1024,
        // 24 layers × (query, key, value 2880 × 80 × 64; output 4096 × 2880; router 2880 × 32).
        dense_params: 24 * (2880 * 80 * 64 + 4096 * 2880 + 2880 * 32),
        dense_format: Format::Bf16,
        head_params: 201_088 * 2880,
        experts: 32,
        experts_per_token: 4,
        expert_layers: 24,
        expert_params: 3 * 2880 * 2880,
        expert_format: Format::Mxfp4,
    }
}

fn a10g() -> Derived {
    let tflops = BTreeMap::from([(Format::Bf16, 70.0)]);
    let server = Server {
        gpu: "a10g".into(),
        model: "gpt-oss-20b".into(),
        default_tp: 1,
        max_num_seqs: 256,
        max_num_batched_tokens: 2048,
        block_size: 16,
        memory_utilization: 0.9,
        max_model_len: 100_000,
        mean_output_tokens: 126,
        gpus: BTreeMap::new(),
        models: BTreeMap::new(),
    };
    Derived { server, gpu: Gpu { memory_gib: 22.5, bandwidth_gb_s: 600.0, tflops }, model: gpt_oss_20b() }
}

#[test]
fn embedded_models_match_their_configuration() {
    let embedded = Profile::find("a10g").expect("embedded");
    assert_eq!(embedded.engine(1), a10g().engine(1));
}

#[test]
fn weights_match_those_that_engines_report() {
    // vLLM says 12.88 GiB for this model (vllm-project/vllm issue 22331).
    assert!((gpt_oss_20b().weights_gib() - 12.88).abs() < 0.1, "{}", gpt_oss_20b().weights_gib());
}

#[test]
fn blocks_fill_the_remaining_memory() {
    // 22.5 × 0.9 − 12.8 − 2 GiB over blocks of 16 tokens × 12 layers × 1,024 values × 2 bytes = 384 KiB.
    let gib = 22.5 * 0.9 - gpt_oss_20b().weights_gib() - 2.0;
    let engine = a10g().engine(1);
    assert_eq!(engine.num_blocks, (gib * 1024.0 * 1024.0 / 384.0).floor() as u32);
    // Nine blocks of a long sequence are for the window: 128 tokens in 8, and the one it begins in.
    assert_eq!(engine.kv_capacity_tokens(), u64::from(engine.num_blocks - 9) * 16);
    // Two GPUs hold the weights between them.
    let gib = 2.0 * (22.5 * 0.9 - 2.0) - gpt_oss_20b().weights_gib();
    assert_eq!(a10g().engine(2).num_blocks, (gib * 1024.0 * 1024.0 / 384.0).floor() as u32);
}

#[test]
fn weights_that_do_not_fit_leave_no_blocks() {
    let small = Derived { gpu: Gpu { memory_gib: 12.0, ..a10g().gpu }, ..a10g() };
    assert_eq!(small.engine(1).num_blocks, 0);
    assert!(small.engine(2).num_blocks > 0);
}

#[test]
fn a_decode_step_of_one_sequence_takes_the_bytes_it_reads() {
    // 639 M and 579 M parameters of 2 bytes, 4 of 32 experts in 24 layers of 24.88 M parameters of 4.25 bits, 24 layers of
    // 2,048 bytes for one token: 3.705 GB at 450 GB/s = 8.234 ms; and 1.51 ms of overhead.
    let load = StepLoad { seqs: 1, decode_tokens: 1, kv_tokens: 1, window_tokens: 1, ..StepLoad::default() };
    let bytes =
        2.0 * (639_221_760.0 + 579_133_440.0) + 24.0 * 4.0 * 24_883_200.0 * 4.25 / 8.0 + 24.0 * 2048.0;
    let us: f64 = bytes / 450e3 + 1510.0;
    assert_eq!(a10g().engine(1).cost.step_us(&load), us.round() as u64);
    assert!((9_700.0..9_800.0).contains(&us), "{us}");
}

#[test]
fn two_gpus_shorten_all_but_the_overhead() {
    let load = StepLoad { seqs: 8, prefill_tokens: 2000, ..StepLoad::default() };
    let [one, two] = [1, 2].map(|tp| a10g().engine(tp).cost.step_us(&load) as f64 - 1580.0);
    assert!((one / two - 1.7).abs() < 1e-3, "2 × 0.85: {one} {two}");
}
