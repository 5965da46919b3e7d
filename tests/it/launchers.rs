//! Every launcher in every topology it is for: what it would start, process by process, in a committed snapshot beside the
//! commands that people start by hand today (named in each case). A change of argv is a change of what is measured.

use crate::support::house::House;

/// A topology of a launcher.
struct Case {
    /// Name of the snapshot.
    name: &'static str,
    gpu: &'static str,
    launcher: &'static str,
    /// `[deploy]` without the launcher, and what follows it.
    deploy: &'static str,
}

const TRTLLM: &str = "max_batch_size = 256\nmax_num_tokens = 20000\nkv_cache_free_gpu_mem_fraction = 0.9\n";

const CASES: [Case; 27] = [
    // Speculation in each engine's words: vLLM's docs/features/spec_decode.md, SGLang's speculative_decoding.md, TensorRT-LLM's
    // speculative-decoding.md; InferenceX for synthetic acceptance.
    Case {
        name: "vllm-speculation",
        gpu: "h100",
        launcher: "vllm",
        deploy: "[deploy.speculation]\nmethod = \"eagle3\"\nmodel = \"nvidia/draft\"\ntokens = 3\noptions = { draft_tensor_parallel_size = 1 }\n",
    },
    Case {
        name: "sglang-speculation-synthetic",
        gpu: "h100",
        launcher: "sglang",
        deploy: "[deploy.speculation]\nmethod = \"EAGLE\"\nmodel = \"draft\"\ntokens = 3\nsynthetic_acceptance = 2.5\n",
    },
    Case {
        name: "dynamo-trtllm-speculation-disagg",
        gpu: "gb200",
        launcher: "dynamo-trtllm",
        deploy: "[deploy.speculation]\nmethod = \"MTP\"\ntokens = 3\n[deploy.prefill]\ntp = 2\n[deploy.decode]\ntp = 4\n[deploy.decode.engine]\nyaml = { print_iter_log = true }\n[deploy.engine]\n@TRTLLM@",
    },
    // InferenceX, single node: srt-slurm-inferencex.md A7.
    Case {
        name: "vllm-tp2",
        gpu: "b200",
        launcher: "vllm",
        deploy: "tp = 2\n[deploy.engine]\nmax_num_seqs = 512\nkv_cache_dtype = \"fp8\"\nenable_prefix_caching = false\ncompilation_config = { pass_config = { fuse_allreduce_rms = true, eliminate_noops = true } }\n[deploy.env]\nTORCH_CUDA_ARCH_LIST = \"10.0\"\n",
    },
    // Two nodes, TP8 × PP2 without Ray: A2.
    Case {
        name: "vllm-tp8-pp2-two-nodes",
        gpu: "h100",
        launcher: "vllm",
        deploy: "tp = 8\npp = 2\n[deploy.engine]\napi_server_count = 4\n",
    },
    // Data parallel over nodes, one endpoint: §2.1, vLLM's data_parallel_deployment.md.
    Case { name: "vllm-dp16-ep-internal-lb", gpu: "h100", launcher: "vllm", deploy: "dp = 16\nep = 16\n" },
    Case { name: "vllm-dp4-one-node", gpu: "h100", launcher: "vllm", deploy: "dp = 4\ntp = 2\n" },
    Case {
        name: "vllm-dp4-tp2-per-rank",
        gpu: "gb200",
        launcher: "vllm",
        deploy: "dp = 4\ntp = 2\n[deploy.settings]\ndp_mode = \"per_rank\"\n",
    },
    Case { name: "vllm-three-replicas", gpu: "h100", launcher: "vllm", deploy: "tp = 4\nreplicas = 3\n" },
    // One node, no etcd, no NATS: §2.2.
    Case {
        name: "dynamo-vllm-agg",
        gpu: "b200",
        launcher: "dynamo-vllm",
        deploy: "replicas = 8\n[deploy.settings]\nrouter_mode = \"kv\"\nkv_events = true\nkv_block_size = 64\n[deploy.engine]\nblock_size = 64\nmax_num_seqs = 256\n",
    },
    // Dynamo's gpt-oss recipe, 2 prefill and 6 decode workers on a node: A8.
    Case {
        name: "dynamo-vllm-disagg-one-node",
        gpu: "b200",
        launcher: "dynamo-vllm",
        deploy: "[deploy.settings]\nrouter_mode = \"kv\"\nkv_events = true\n[deploy.prefill]\nreplicas = 2\n[deploy.decode]\nreplicas = 6\n[deploy.decode.engine]\nmax_num_seqs = 512\n",
    },
    // Prefill DEP8 over 2 × 4 GPUs, decode DEP16 over 4 × 4: A3.
    Case {
        name: "dynamo-vllm-disagg-dep",
        gpu: "gb200",
        launcher: "dynamo-vllm",
        deploy: "tp = 1\n[deploy.settings]\nrequest_plane = \"nats\"\n[deploy.prefill]\ndp = 8\nep = 8\n[deploy.decode]\ndp = 16\nep = 16\n",
    },
    // One process a GPU: A4, Dynamo's launch/dsr1_dep.sh.
    Case {
        name: "dynamo-vllm-dp4-per-rank",
        gpu: "gb200",
        launcher: "dynamo-vllm",
        deploy: "dp = 4\n[deploy.settings]\ndp_mode = \"per_rank\"\n",
    },
    Case { name: "dynamo-vllm-tp16-two-nodes", gpu: "h100", launcher: "dynamo-vllm", deploy: "tp = 16\n" },
    Case {
        name: "dynamo-vllm-before-1.0-disagg",
        gpu: "h100",
        launcher: "dynamo-vllm",
        deploy: "[deploy.settings]\ngeneration = \"0.x\"\n[deploy.prefill]\ntp = 2\n[deploy.decode]\ntp = 4\n",
    },
    Case {
        name: "dynamo-vllm-nodes-apart",
        gpu: "h100",
        launcher: "dynamo-vllm",
        deploy: "tp = 8\nclient_node = true\nhead_node = true\n",
    },
    // NVIDIA's gpt-oss recipe, aggregated: llmb-run.md §2.
    Case {
        name: "dynamo-trtllm-agg",
        gpu: "gb200",
        launcher: "dynamo-trtllm",
        deploy: "tp = 4\nep = 4\nattention_dp = true\n[deploy.engine]\n@TRTLLM@",
    },
    // srt-slurm's GB200 file for gpt-oss, P1 × TP1 and D1 × TP4: A5.
    Case {
        name: "dynamo-trtllm-disagg-gpt-oss",
        gpu: "gb200",
        launcher: "dynamo-trtllm",
        deploy: "prefix = [\"numactl\", \"-m\", \"0,1\"]\n[deploy.settings]\ngeneration = \"1.x\"\nrouter_mode = \"kv\"\n[deploy.prefill]\ntp = 1\n[deploy.prefill.engine]\nmax_batch_size = 32\nkv_cache_free_gpu_mem_fraction = 0.85\ncache_transceiver_backend = \"UCX\"\ncache_transceiver_max_tokens = 1024\n[deploy.decode]\ntp = 4\n[deploy.decode.engine]\nstream_interval = 20\nnum_postprocess_workers = 4\nyaml = { cache_transceiver_config = { backend = \"UCX\", max_tokens_in_buffer = 1024 }, print_iter_log = true }\n[deploy.engine]\n@TRTLLM@",
    },
    // DeepSeek-R1 disaggregated on H100 as llmb-run: 2 × (TP8 PP2) and 1 × (TP8 PP2), six nodes: §3.1.
    Case {
        name: "dynamo-trtllm-disagg-r1-h100",
        gpu: "h100",
        launcher: "dynamo-trtllm",
        deploy: "tp = 8\npp = 2\nep = 8\n[deploy.prefill]\nreplicas = 2\nengine = { max_batch_size = 1, max_num_tokens = 2048, enable_chunked_prefill = true }\n[deploy.decode]\nengine = { max_batch_size = 128, max_num_tokens = 128, mtp_layers = 1, cuda_graph_batch_sizes = [1, 2, 4, 128] }\n[deploy.engine]\n@TRTLLM@",
    },
    Case {
        name: "sglang-dp-attention",
        gpu: "gb200",
        launcher: "sglang",
        deploy: "tp = 4\nep = 4\nattention_dp = true\n[deploy.engine]\nmax_running_requests = 1024\nchunked_prefill_size = 16384\ndisable_radix_cache = true\ntrust_remote_code = true\n",
    },
    Case { name: "sglang-tp16-two-nodes", gpu: "h100", launcher: "sglang", deploy: "tp = 16\n" },
    // TP2 workers on 8-GPU nodes, prefill and decode: A6.
    Case {
        name: "sglang-disagg",
        gpu: "h100",
        launcher: "sglang",
        deploy: "tp = 2\n[deploy.settings]\nrouter_policy = \"cache_aware\"\n[deploy.prefill]\nreplicas = 2\n[deploy.decode]\nreplicas = 1\n",
    },
    Case {
        name: "trtllm-serve-tp4",
        gpu: "b200",
        launcher: "trtllm-serve",
        deploy: "tp = 4\nep = 4\n[deploy.engine]\n@TRTLLM@",
    },
    Case {
        name: "trtllm-serve-tp16-two-nodes",
        gpu: "h100",
        launcher: "trtllm-serve",
        deploy: "tp = 16\n[deploy.settings]\noptions_flag = \"--config\"\n[deploy.engine]\n@TRTLLM@",
    },
    Case {
        name: "trtllm-serve-disagg",
        gpu: "b200",
        launcher: "trtllm-serve",
        deploy: "[deploy.prefill]\ntp = 2\nreplicas = 2\n[deploy.decode]\ntp = 4\n[deploy.engine]\n@TRTLLM@",
    },
    Case {
        name: "dynamo-mocker-disagg",
        gpu: "none",
        launcher: "dynamo-mocker",
        deploy: "[deploy.settings]\nrouter_mode = \"kv\"\nkv_events = true\n[deploy.prefill]\nreplicas = 1\n[deploy.decode]\nreplicas = 2\n[deploy.engine]\nspeedup_ratio = 10.0\n",
    },
    Case {
        name: "attach-kserve",
        gpu: "none",
        launcher: "attach",
        deploy: "url = \"https://gpt-oss.models.example/v1\"\n[deploy.connection]\nca_file = \"/etc/ssl/corp.pem\"\nheaders = { Host = \"gpt-oss.models\" }\n",
    },
];

fn recipe(case: &Case) -> String {
    format!(
        "schema = 1\nname = \"topology\"\nsummary = \"a topology\"\n[model]\nname = \"openai/gpt-oss-120b\"\n[load]\nisl = 1024\nosl = 1024\n\
         [deploy]\nlauncher = \"{}\"\n{}",
        case.launcher,
        case.deploy.replace("@TRTLLM@", TRTLLM)
    )
}

#[test]
fn every_launcher_and_topology_matches_its_snapshot() {
    let house = House::new();
    house.file(
        "site.toml",
        "schema = 1\n[slurm]\nmpi = \"pmix\"\n[models]\n\"openai/gpt-oss-120b\" = \"/models/gpt-oss-120b\"\n",
    );
    let mut launchers = std::collections::BTreeSet::new();
    for case in &CASES {
        house.file("topology.toml", &recipe(case));
        let mut args = vec!["render", "--explain", "topology.toml", "--site", "site.toml"];
        if case.gpu != "none" {
            args.extend(["--gpu", case.gpu]);
        }
        let said = house.run(args);
        assert_eq!(said.code, Some(0), "{}: {}", case.name, said.stderr);
        let (script, explained) = said.stdout.split_once("# What this starts").unwrap();
        let directives = script
            .lines()
            .filter(|line| line.starts_with("#SBATCH --nodes") || line.starts_with("#SBATCH --g"));
        let text = format!(
            "{}\n{}",
            directives.collect::<Vec<_>>().join("\n"),
            explained.split_once('\n').unwrap().1
        );
        insta::with_settings!({ snapshot_path => "../snapshots/launchers", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(case.name, text);
        });
        launchers.insert(case.launcher);
    }
    let every: Vec<String> = tokmark::internals::launcher::all(None)
        .iter()
        .map(|document| tokmark::internals::launcher::parse(document).unwrap().name)
        .filter(|name| name != "sim")
        .collect();
    let missing: Vec<&String> = every.iter().filter(|name| !launchers.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "no topology of {missing:?}");
}
