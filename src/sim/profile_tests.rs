//! The embedded profiles are sound, and files of one's own are read and checked.

use super::*;
use crate::sim::step::StepLoad;

#[test]
fn every_embedded_profile_is_sound() {
    let profiles = Profile::embedded().expect("parses");
    check_numbers(&toml::from_str(EMBEDDED).expect("parses"), "").expect("every number is in its range");
    assert_eq!(profiles.keys().collect::<Vec<_>>(), ["a10g", "b200", "gb200", "h100", "h200", "quick"]);
    for (name, profile) in profiles {
        let engine = profile.engine(profile.default_tp);
        assert!(
            engine.kv_capacity_tokens() >= u64::from(profile.max_model_len),
            "{name}: one long request fits"
        );
    }
}

#[test]
fn quick_matches_its_documentation() {
    // 4000 + 20 + 100 × 20 for a prompt of 100 tokens, 4000 + 20 for each further token.
    let engine = Profile::find("quick").expect("embedded").engine(1);
    let prefill = StepLoad { seqs: 1, prefill_tokens: 100, kv_tokens: 100, ..StepLoad::default() };
    let decode = StepLoad { seqs: 1, decode_tokens: 1, kv_tokens: 101, ..StepLoad::default() };
    assert_eq!((engine.cost.step_us(&prefill), engine.cost.step_us(&decode)), (6020, 4020));
    assert_eq!((engine.max_num_seqs, engine.kv_capacity_tokens()), (256, 1_048_576));
}

#[test]
fn a_model_after_a_slash_uses_the_fewest_gpus_that_hold_it() {
    // 131 GiB of weights in BF16, 66 in FP8; 625 GiB in FP8 for R1 (671 B parameters).
    let cases = [
        ("h100/llama-3.3-70b", "meta-llama/Llama-3.3-70B-Instruct", 2),
        ("h100/llama-3.3-70b-fp8", "nvidia/Llama-3.3-70B-Instruct-FP8", 1),
        ("h200/deepseek-r1", "deepseek-ai/DeepSeek-R1", 8),
        ("b200/deepseek-r1-fp4", "nvidia/DeepSeek-R1-FP4", 4),
        ("h100/gpt-oss-20b", "openai/gpt-oss-20b", 1),
    ];
    for (name, model, tp) in cases {
        let profile = Profile::find(name).expect(name);
        assert_eq!((profile.model.as_str(), profile.default_tp), (model, tp), "{name}");
    }
    let message = |name| Profile::find(name).expect_err(name).to_string();
    assert!(
        message("h100/gpt-5").contains("found \"gpt-5\", expected a model of deepseek-r1,"),
        "{}",
        message("h100/gpt-5")
    );
    assert!(message("quick/gpt-oss-20b").contains("does not describe a GPU"));
    assert!(message("v100/gpt-oss-20b").contains("expected one of a10g,"));
}

#[test]
fn an_unknown_profile_names_the_known_ones() {
    let message = Profile::find("v100").expect_err("unknown").to_string();
    assert!(
        message.contains("\"v100\"") && message.contains("a10g, b200, gb200, h100, h200, quick,"),
        "{message}"
    );
}

#[test]
fn a_profile_file_is_read_and_checked() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mine.toml");
    let name = path.to_str().expect("UTF-8");
    let quick = EMBEDDED
        .split_once("[constants.quick]")
        .and_then(|(_, rest)| rest.split_once("\n\n"))
        .expect("is first")
        .0;
    fs_err::write(&path, quick).expect("written");
    assert_eq!(Profile::find(name).expect("sound"), Profile::find("quick").expect("embedded"));
    let cases = [
        ("block_size = 16", "block_size = 0", "block_size: found 0, expected 1 or more"),
        ("step_base_us = 4000.0", "step_base_us = nan", "step_base_us: found NaN, expected µs"),
        (
            "tp_efficiency = 1.0",
            "tp_efficiency = 2.0",
            "tp_efficiency: found 2, expected above 0 and up to 1",
        ),
        ("block_size", "blocksize", "unknown field `blocksize`"),
    ];
    for (from, to, expected) in cases {
        fs_err::write(&path, quick.replace(from, to)).expect("written");
        let message = Profile::find(name).expect_err(to).to_string();
        assert!(
            message.starts_with(&format!("--profile {name}: ")) && message.contains(expected),
            "{message}"
        );
    }
    assert!(Profile::find("/nowhere.toml").expect_err("missing").to_string().contains("/nowhere.toml"));
}

#[test]
fn a_file_may_define_a_gpu_and_a_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mine.toml");
    let name = path.to_str().expect("UTF-8");
    let text = r#"
gpu = "l4"
model = "gpt-oss-20b"
default_tp = 1
max_num_seqs = 256
max_num_batched_tokens = 2048
block_size = 16
memory_utilization = 0.9
max_model_len = 8192
mean_output_tokens = 128
[gpus.l4]
memory_gib = 22.5
bandwidth_gb_s = 300
tflops = { bf16 = 121, fp8 = 242, mxfp4 = 121, nvfp4 = 121 }
"#;
    fs_err::write(&path, text).expect("written");
    let profile = Profile::find(name).expect("sound");
    assert_eq!(profile.model, "openai/gpt-oss-20b");
    // The memory of an A10G, so as many blocks; half the bandwidth, so a slower step.
    let (mine, a10g) = (profile.engine(1), Profile::find("a10g").expect("embedded").engine(1));
    let load = StepLoad { seqs: 1, decode_tokens: 1, ..StepLoad::default() };
    assert_eq!(mine.num_blocks, a10g.num_blocks);
    assert!(mine.cost.step_us(&load) > a10g.cost.step_us(&load));
    let cases = [
        (
            "gpu = \"l4\"",
            "gpu = \"l5\"",
            "gpu: found \"l5\", expected one of a10g, b200, gb200, h100, h200, l4, or a table",
        ),
        ("model = \"gpt-oss-20b\"", "model = \"m\"", "model: found \"m\", expected one of deepseek-r1,"),
        ("bandwidth_gb_s = 300", "bandwidth_gb_s = 0", "gpus.l4.bandwidth_gb_s: found 0, expected above 0"),
        ("fp8 = 242", "fp8 = -1", "gpus.l4.tflops.fp8: found -1, expected above 0"),
        ("bf16 = 121, ", "", "tflops: found no bf16"),
        (
            "memory_utilization = 0.9",
            "memory_utilization = 90",
            "memory_utilization: found 90, expected above 0 and up to 1",
        ),
        ("max_model_len = 8192", "max_model_len = 0", "max_model_len: found 0, expected 1 or more"),
        ("block_size", "blocksize", "unknown field `blocksize`"),
    ];
    for (from, to, expected) in cases {
        fs_err::write(&path, text.replace(from, to)).expect("written");
        let message = Profile::find(name).expect_err(to).to_string();
        assert!(
            message.starts_with(&format!("--profile {name}: ")) && message.contains(expected),
            "{message}"
        );
    }
}
