use serde_json::json;

use super::*;
use crate::launcher::find;

fn options(launcher: &str) -> Options {
    find(launcher, None, "r.toml").unwrap().launcher.options
}

fn finding(launcher: &str, engine: Value) -> Option<Finding> {
    let found = options(launcher).findings(engine.as_object().unwrap());
    assert!(found.len() < 2, "{found:?}");
    found.into_iter().next().map(|(_, finding)| finding)
}

#[test]
fn every_table_parses_and_is_named_by_a_launcher() {
    let named: Vec<String> =
        find::all(None).iter().filter_map(|file| find::parse(file).ok()?.options.table).collect();
    for (name, document) in option_tables() {
        let table: OptionTable = document.parse().unwrap_or_else(|error| panic!("{error}"));
        assert!(table.options.len() > 9 && named.contains(&name), "{name}");
        let again: Vec<&String> = table
            .by_hand
            .iter()
            .filter(|(name, by_hand)| table.options.get(*name) == Some(by_hand))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(again, Vec::<&String>::new(), "{name}: written by hand and not different");
    }
}

#[test]
fn an_option_takes_values_of_its_kind_and_range() {
    for (launcher, engine, expected) in [
        ("vllm", json!({"gpu_memory_utilization": 1.7}), "a number above 0 up to 1"),
        ("vllm", json!({"gpu-memory-utilization": 0}), "a number above 0 up to 1"),
        ("vllm", json!({"gpu_memory_utilization": "high"}), "a number above 0"),
        ("vllm", json!({"kv_cache_dtype": "fp16"}), "one of auto, bfloat16, float16, fp8,"),
        ("vllm", json!({"max_num_seqs": 0}), "a whole number from 1"),
        ("vllm", json!({"max_num_seqs": 1.5}), "a whole number from 1"),
        ("vllm", json!({"max_num_seqs": true}), "a whole number from 1"),
        ("vllm", json!({"max_num_seqs": [1, 2]}), "a whole number from 1"),
        ("vllm", json!({"max_model_len": "lots"}), "or one with a unit such as 8k"),
        ("vllm", json!({"max_model_len": "1.5K"}), "or one with a unit such as 8k"),
        ("vllm", json!({"enforce_eager": "yes"}), "true or false"),
        ("vllm", json!({"quantization": true}), "text"),
        ("vllm", json!({"compilation_config": "{\"level\": 3"}), "JSON"),
        ("vllm", json!({"cudagraph_capture_sizes": [1, 0]}), "a list; each item a whole number from 1"),
        ("vllm", json!({"port": 70000}), "a whole number from 0 up to 65535"),
        ("dynamo-vllm", json!({"block_size": 0}), "a whole number above 0"),
        ("sglang", json!({"mem_fraction_static": 1.0}), "a number above 0 below 1"),
        ("sglang", json!({"attention_backend": "flashinfr"}), "flashinfer"),
        ("trtllm-serve", json!({"kv_cache_free_gpu_mem_fraction": 1.2}), "a number above 0 up to 1"),
        ("dynamo-trtllm", json!({"kv_cache_dtype": "fp16"}), "one of auto, fp8, nvfp4"),
        ("trtllm-serve", json!({"yaml": {"print_iter_log": "yes"}}), "true or false"),
        ("trtllm-serve", json!({"yaml": {"kv_cache_config": {"dtype": "int4"}}}), "one of auto"),
        ("sim", json!({"speed": 0}), "a number from 0.000001 up to 1000000"),
    ] {
        match finding(launcher, engine.clone()) {
            Some(Finding::Refused { expected: found, .. }) => {
                assert!(found.contains(expected), "{engine}: {found}");
            }
            other => panic!("{engine}: {other:?}"),
        }
    }
}

#[test]
fn what_engines_take_passes() {
    for (launcher, engine) in [
        (
            "vllm",
            json!({"gpu_memory_utilization": 1, "max_model_len": "auto", "max_num_batched_tokens": "8k"}),
        ),
        ("vllm", json!({"max_model_len": -1, "max_num_seqs": "512", "seed": "None", "stream_interval": 1})),
        ("vllm", json!({"no_enable_prefix_caching": true, "enable-prefix-caching": false})),
        ("vllm", json!({"compilation_config": {"mode": 3}, "compilation_config.mode": 3})),
        ("vllm", json!({"compilation_config": 3, "kv_transfer_config": "{\"kv_role\": \"kv_both\"}"})),
        (
            "vllm",
            json!({"max_model_len": "{{ load.isl_max + load.osl_max }}", "enforce_eager": "{% if x %}y{% endif %}"}),
        ),
        // Options of older versions.
        (
            "vllm",
            json!({"cuda_graph_sizes": [2048], "num_lookahead_slots": 4, "enable_chunked_prefill": true}),
        ),
        ("vllm", json!({"swap_space": 16, "disable_log_requests": true, "num_scheduler_steps": 8})),
        ("vllm", json!({"rope_scaling": {"type": "yarn"}, "guided_decoding_backend": "xgrammar"})),
        ("dynamo-vllm", json!({"dyn_tool_call_parser": "harmony", "is_prefill_worker": true})),
        ("sglang", json!({"mem_fraction_static": 0.8, "cuda_graph_max_bs": 256, "cuda_graph_bs": [1, 2]})),
        ("sglang", json!({"enable_ep_moe": true, "tp": 8, "chunked_prefill_size": -1})),
        (
            "trtllm-serve",
            json!({"yaml": {"speculative_config": {"decoding_type": "MTP"}}, "moe_backend": "CUTLASS"}),
        ),
        ("dynamo-mocker", json!({"speedup_ratio": 0, "active_decode_blocks_threshold": 0.5})),
        // It has no table.
        ("attach", json!({"whatever": 1})),
    ] {
        assert_eq!(finding(launcher, engine.clone()), None, "{engine}");
    }
}

#[test]
fn a_misspelt_option_has_a_near_name_and_a_new_one_has_none() {
    for (launcher, name, expected) in [
        ("vllm", "gpu_memory_utilisation", Some("gpu_memory_utilization")),
        ("vllm", "gpu-mem-utilization", Some("gpu_memory_utilization")),
        ("vllm", "max_num_seq", Some("max_num_seqs")),
        ("vllm", "max_model_length", Some("max_model_len")),
        ("vllm", "max_batched_tokens", Some("max_num_batched_tokens")),
        ("vllm", "kv_cahce_dtpye", Some("kv_cache_dtype")),
        ("vllm", "enable_prefix_cache", Some("enable_prefix_caching")),
        ("vllm", "dtpye", Some("dtype")),
        ("sglang", "mem_fraction", Some("mem_fraction_static")),
        ("sglang", "max_runing_requests", Some("max_running_requests")),
        ("sim", "sped", Some("speed")),
        ("vllm", "brand_new_switch", None),
        ("vllm", "enable_foo", None),
        ("vllm", "max_num_requests", None),
        ("sglang", "turbo_mode", None),
    ] {
        let near = expected.map(str::to_owned);
        assert_eq!(finding(launcher, json!({name: 1})), Some(Finding::Unknown { near }), "{name}");
    }
    let inside =
        options("trtllm-serve").findings(json!({"yaml": {"enable_autotunr": true}}).as_object().unwrap());
    let near = Some("enable_autotuner".to_owned());
    assert_eq!(inside, [("yaml.enable_autotunr".to_owned(), Finding::Unknown { near })]);
}

#[test]
fn a_size_may_have_a_unit() {
    let sizes = ["8k", "8K", "25.6k", "1M", "-1", "1.5K", "k", "8x", "auto"].map(|text| size(&json!(text)));
    let expected =
        [Some(8000.0), Some(8192.0), Some(25_600.0), Some(1_048_576.0), Some(-1.0), None, None, None, None];
    assert_eq!(sizes, expected);
}

#[test]
fn a_launcher_may_have_options_of_its_own() {
    let text = "known = []\n[own]\nctx_size = { kind = \"integer\", min = 1 }\nparallel = \"integer\"\n";
    let options: Options = toml::from_str(text).unwrap();
    let again: Options = serde_json::from_value(serde_json::to_value(&options).unwrap()).unwrap();
    assert_eq!(again, options);
    let found = options.findings(json!({"ctx_size": 0, "paralel": 4}).as_object().unwrap());
    assert!(matches!(found[0].1, Finding::Refused { .. }) && found.len() == 2, "{found:?}");
}
