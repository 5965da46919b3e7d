use super::*;

fn captured(name: &str) -> Page {
    let path = format!("{}/tests/fixtures/metrics/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    Page::of(&std::fs::read_to_string(path).unwrap())
}

fn engine(text: &str) -> Figures {
    Page::of(text).layers[&Layer::Engine].clone()
}

#[test]
fn roles_of_every_engine_are_known() {
    for name in ["vllm-after", "dynamo-worker"] {
        let page = captured(name);
        let engine = &page.layers[&Layer::Engine];
        for role in ["running", "waiting", "kv_cache"] {
            assert!(engine.gauges.contains_key(role), "{name}: {role}");
        }
        for role in ["ttft", "itl", "e2e"] {
            assert!(engine.histograms[role].buckets.len() > 10, "{name}: {role}");
        }
    }
    let frontend = captured("dynamo-frontend");
    assert_eq!(frontend.layers.keys().collect::<Vec<_>>(), [&Layer::Frontend]);
    for (text, role) in [
        ("vllm:gpu_cache_usage_perc{engine=\"0\"} 0.5\n", "kv_cache"),
        ("sglang:token_usage 0.5\n", "kv_cache"),
        ("trtllm_kv_cache_utilization 0.5\n", "kv_cache"),
        ("sglang:num_queue_reqs 0.5\n", "waiting"),
    ] {
        assert_eq!(engine_gauge(text, role), 0.5, "{text}");
    }
    assert!(Page::of("up 1\n<html>").layers.is_empty());
}

fn engine_gauge(text: &str, role: &str) -> f64 {
    engine(text).gauges[role]
}

#[test]
fn renamed_counters_and_every_spelling_of_their_names() {
    let preempted = |text: &str| engine(text).counters["preemptions"];
    for text in [
        "vllm:num_preemptions_total 3\nvllm:num_preemptions_created 1.7e9\n",
        "vllm:num_preemptions 3\n",
        "sglang:num_retracted_requests_total 3\n",
        "sglang:num_retracted_reqs_total{dp_rank=\"0\"} 1\nsglang:num_retracted_reqs_total{dp_rank=\"1\"} 2\n",
    ] {
        assert_eq!(preempted(text), 3.0, "{text}");
    }
    // The gauge beside the counter has those that were retracted last.
    assert_eq!(preempted("sglang:num_retracted_reqs 1\nsglang:num_retracted_requests_total 9\n"), 9.0);
    // One figure under its old and its new name.
    assert_eq!(
        engine_gauge("vllm:gpu_cache_usage_perc 0.5\nvllm:kv_cache_usage_perc 0.25\n", "kv_cache"),
        0.25
    );
}

#[test]
fn values_that_are_no_numbers_are_left_out() {
    let text = "vllm:num_requests_running{engine=\"0\"} NaN\nvllm:num_requests_running{engine=\"1\"} 4\n\
                vllm:generation_tokens_total +Inf\n";
    let figures = engine(text);
    assert_eq!((figures.gauges["running"], figures.counters.get("output_tokens")), (4.0, None));
}

#[test]
fn a_histogram_that_ends_in_its_middle_counts_for_nothing() {
    let whole = "sglang:queue_time_seconds_bucket{le=\"0.1\"} 4\nsglang:queue_time_seconds_bucket{le=\"+Inf\"} 6\n\
                 sglang:queue_time_seconds_sum 3\nsglang:queue_time_seconds_count 6\n";
    assert_eq!(engine(whole).histograms["queue"].buckets.len(), 2);
    let cut: String = whole.split_inclusive('\n').take(3).collect();
    assert!(Page::of(&cut).layers.is_empty(), "no count");
    let without_end = whole.replace("le=\"+Inf\"", "le=\"1\"");
    assert!(engine(&without_end).histograms["queue"].buckets.is_empty(), "the last bucket is missing");
    assert_eq!(engine(&without_end).histograms["queue"].count, 6.0);
}

#[test]
fn ranks_of_one_page_are_told_apart() {
    let text = "sglang:num_running_reqs{dp_rank=\"0\",tp_rank=\"0\"} 6\nsglang:num_running_reqs{dp_rank=\"1\",tp_rank=\"4\"} 2\n\
                sglang:num_requests_total{model_name=\"m\"} 9\n";
    let figures = engine(text);
    let running = |rank: &str| figures.ranks[rank].gauges["running"];
    assert_eq!((figures.gauges["running"], running("0"), running("1")), (8.0, 6.0, 2.0));
    assert_eq!(figures.counters["requests"], 9.0);
    assert!(engine("vllm:num_requests_running{engine=\"0\"} 6\n").ranks.is_empty(), "one rank is the page");
}

#[test]
fn an_engine_says_that_it_only_prefills() {
    let pool = |labels: &str| Page::of(&format!("sglang:num_running_reqs{{{labels}}} 6\n")).pool;
    assert_eq!(pool("engine_type=\"prefill\",tp_rank=\"0\""), Some("prefill"));
    assert_eq!(pool("engine_type=\"decode\""), Some("decode"));
    assert_eq!(pool("engine_type=\"unified\""), None);
    assert_eq!(Page::of("vllm:num_requests_running{dynamo_component=\"prefill\"} 1\n").pool, Some("prefill"));
}

#[test]
fn requests_of_a_frontend_contain_those_that_wait() {
    let frontend = "dynamo_frontend_inflight_requests 300\ndynamo_frontend_queued_requests 44\n";
    assert_eq!(Page::of(frontend).layers[&Layer::Frontend].in_flight(), Some(300.0));
    let vllm = "vllm:num_requests_running 256\nvllm:num_requests_waiting 44\n";
    assert_eq!(engine(vllm).in_flight(), Some(300.0));
    assert_eq!(engine("vllm:num_requests_running 256\n").in_flight(), None);
}

#[test]
fn pairs_of_prefix_cache_counters() {
    let counted = |queried, hit| Some(CacheCount { queried, hit });
    let of = |text: &str| Page::of(text).layers.get(&Layer::Engine).and_then(|figures| figures.prefix_cache);
    let ranks = "vllm:prefix_cache_queries_total{engine=\"0\"} 100.0\nvllm:prefix_cache_queries_total{engine=\"1\"} 50.0\n\
                 vllm:prefix_cache_hits_total{engine=\"0\"} 16.0\nvllm:prefix_cache_hits_total{engine=\"1\"} 32.0\n\
                 vllm:external_prefix_cache_queries_total{engine=\"0\"} 900.0\n\
                 vllm:external_prefix_cache_hits_total{engine=\"0\"} 900.0\nvllm:num_requests_running 1\n";
    assert_eq!(of(ranks), counted(150, 48));
    let plain = "vllm:prefix_cache_queries 7\nvllm:prefix_cache_hits 2\nvllm:num_requests_running 1\n";
    assert_eq!(of(plain), counted(7, 2));
    assert_eq!(of(&format!("{ranks}{plain}")), counted(150, 48), "one counter under two names");
    // SGLang has no counter before the first hit; of TensorRT-LLM no counter means that the version has none.
    let fresh = "sglang:prompt_tokens_total{model_name=\"m\"} 8.0e+2\n";
    assert_eq!(of(fresh), counted(800, 0));
    let later = "sglang:cached_tokens_total{cache_source=\"device\"} 64\nsglang:cached_tokens_total{cache_source=\"host\"} 16\n";
    assert_eq!(of(&format!("{fresh}{later}")), counted(800, 80));
    assert_eq!(of("trtllm_prompt_tokens_total 800\n"), None);
    assert_eq!(
        of("trtllm_prompt_tokens_total 800\ntrtllm_prompt_cached_tokens_total 64\n"),
        counted(800, 64)
    );
    assert_eq!(of("vllm:prefix_cache_hits_total 5\nvllm:num_requests_running 1\n"), None);
    let odd = "vllm:prefix_cache_queries_total NaN\nvllm:prefix_cache_queries_total -3\nvllm:num_requests_running 1\n";
    assert_eq!(of(odd), counted(0, 0));
    assert_eq!(captured("vllm").layers[&Layer::Engine].prefix_cache, counted(20_681, 0));
    assert_eq!(captured("dynamo-frontend").layers[&Layer::Frontend].prefix_cache, counted(46_231, 8_400));
    assert!(captured("dynamo-mocker").layers.values().all(|figures| figures.prefix_cache.is_none()));
}
