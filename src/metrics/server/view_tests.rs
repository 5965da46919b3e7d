use super::super::histogram::Latency;
use super::super::imbalance::LoadMeasure;
use super::super::layer::Level;
use super::super::page::Page;
use super::*;
use crate::metrics::fixtures::{record, run};
use crate::metrics::record::{CacheCount, Phase, RequestRecord};

fn captured(name: &str) -> Page {
    let path = format!("{}/tests/fixtures/metrics/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    Page::of(&std::fs::read_to_string(path).unwrap())
}

/// A page that said this before and after the window.
fn watched(process: &str, before: Page, after: Page) -> WatchedPage {
    WatchedPage {
        process: process.into(),
        url: format!("http://{process}/metrics"),
        start: Some(before.clone()),
        before: Some(before),
        after: Some(after),
        ..WatchedPage::default()
    }
}

fn view(pages: Vec<WatchedPage>) -> Option<ServerView> {
    let ran = run(Vec::new());
    ServerView::of(&Watched { pages }, &ran, &ran.fold())
}

fn engine(pages: Vec<WatchedPage>) -> LayerView {
    view(pages).unwrap().engine.unwrap()
}

/// Pages of vLLM 0.32 on CPU before and after 407 requests.
#[test]
fn the_window_of_a_real_server() {
    let engine = engine(vec![watched("server-0", captured("vllm-before"), captured("vllm-after"))]);
    assert_eq!(
        (engine.requests, engine.output_tokens, engine.preemptions),
        (Some(407), Some(48_203), Some(0))
    );
    let close = |latency: Option<Latency>, avg: f64| {
        let latency = latency.unwrap();
        assert!(latency.count == 407 && (latency.avg - avg).abs() < 0.1, "{latency:?}, expected {avg}");
        let [p50, p90, p99] = [latency.p50, latency.p90, latency.p99].map(Option::unwrap);
        assert!(p50 <= p90 && p90 <= p99 && latency.p50_from.unwrap() <= p50, "{latency:?}");
    };
    close(engine.ttft_ms, 1120.7);
    close(engine.queue_ms, 831.3);
    assert_eq!((engine.speculation, engine.imbalance, engine.restarted.len()), (None, None, 0));
}

/// Two ranks of one engine, of which the second generates half as much.
fn ranks(at: f64) -> Page {
    let rank = |rank: usize, tokens: f64| {
        format!(
            "vllm:generation_tokens_total{{engine=\"{rank}\"}} {}\nvllm:num_requests_running{{engine=\"{rank}\"}} {at}\n\
             vllm:kv_cache_usage_perc{{engine=\"{rank}\"}} 0.{rank}5\nvllm:request_success_total{{engine=\"{rank}\"}} {}\n\
             vllm:num_requests_waiting{{engine=\"{rank}\"}} 1\n\
             vllm:time_to_first_token_seconds_bucket{{engine=\"{rank}\",le=\"0.1\"}} {at}\n\
             vllm:time_to_first_token_seconds_bucket{{engine=\"{rank}\",le=\"+Inf\"}} {at}\n\
             vllm:time_to_first_token_seconds_sum{{engine=\"{rank}\"}} {}\n\
             vllm:time_to_first_token_seconds_count{{engine=\"{rank}\"}} {at}\n",
            at * tokens,
            at * tokens / 50.0,
            at * 0.08
        )
    };
    Page::of(&(rank(0, 100.0) + &rank(1, 50.0)))
}

fn window() -> WatchedPage {
    WatchedPage {
        during: vec![(10, ranks(2.0)), (14, ranks(3.0)), (16, ranks(3.0)), (20, ranks(4.0))],
        ..watched("server-0", ranks(1.0), ranks(11.0))
    }
}

#[test]
fn a_window_is_the_difference_of_its_pages() {
    let view = view(vec![window()]).unwrap();
    let engine = view.engine.unwrap();
    assert_eq!(
        (engine.output_tokens, engine.requests, engine.pages, view.frontend),
        (Some(1500), Some(30), 1, None)
    );
    let ttft = engine.ttft_ms.unwrap();
    assert_eq!((ttft.count, ttft.p50, ttft.p50_from), (20, Some(50.0), Some(0.0)));
    assert!((ttft.avg - 80.0).abs() < 1e-9);
    assert_eq!(engine.running, Some(Level { avg: 6.0, max: 8.0 }), "both ranks");
    assert_eq!(engine.in_flight, Some(Level { avg: 8.0, max: 10.0 }));
    assert_eq!(engine.kv_cache, Some(Level { avg: 0.15, max: 0.15 }), "the fuller rank");
    assert_eq!((engine.queue_ms, engine.preemptions), (None, None));
}

#[test]
fn two_samples_are_too_few_for_a_mean() {
    let during = vec![(10, ranks(2.0)), (20, ranks(4.0))];
    assert_eq!(engine(vec![WatchedPage { during, ..window() }]).running, None);
}

#[test]
fn ranks_are_compared_by_their_requests() {
    let imbalance = engine(vec![window()]).imbalance.unwrap();
    // 20 and 10 requests.
    assert_eq!((imbalance.of, imbalance.by, imbalance.total), (2, LoadMeasure::Requests, 30.0));
    assert!((imbalance.largest_over_mean - 4.0 / 3.0).abs() < 1e-9);
    assert_eq!((imbalance.largest.as_str(), imbalance.idle.len()), ("server-0 rank 0", 0));
}

/// Dynamo's mocker counts no requests: its latencies do. Without these the running requests are compared.
#[test]
fn replicas_without_a_counter_are_compared_by_what_they_have() {
    let page = |count: u32| {
        Page::of(&format!(
            "vllm:num_requests_running {count}\nvllm:e2e_request_latency_seconds_sum {count}\nvllm:e2e_request_latency_seconds_count {count}\n"
        ))
    };
    let imbalance =
        engine(vec![watched("worker-0", page(0), page(30)), watched("worker-1", page(0), page(0))]).imbalance;
    let imbalance = imbalance.unwrap();
    assert_eq!((imbalance.by, imbalance.largest_over_mean), (LoadMeasure::Requests, 2.0));
    assert_eq!((imbalance.largest.as_str(), imbalance.idle), ("worker-0", vec!["worker-1".to_owned()]));
    let gauges = |running: u32| {
        let page = Page::of(&format!("sglang:num_running_reqs {running}\n"));
        WatchedPage {
            during: [5, 6, 7].map(|at| (at, page.clone())).to_vec(),
            ..watched(&format!("server-{running}"), page.clone(), page)
        }
    };
    let imbalance = engine(vec![gauges(6), gauges(2)]).imbalance.unwrap();
    assert_eq!(
        (imbalance.by, imbalance.largest_over_mean, imbalance.largest),
        (LoadMeasure::Running, 1.5, "server-6".into())
    );
}

#[test]
fn servers_are_added_up_at_the_instants_of_the_one_with_fewest() {
    let during = [9, 10, 11].map(|at| (at, ranks(2.0))).to_vec();
    let other = WatchedPage { process: "server-1".into(), during, ..window() };
    let engine = engine(vec![window(), other]);
    assert_eq!((engine.output_tokens, engine.pages), (Some(3000), 2));
    assert_eq!(engine.running, Some(Level { avg: 8.0, max: 8.0 }));
}

#[test]
fn a_missing_page_leaves_a_note_and_no_sum() {
    let problem = Some("HTTP 404".to_owned());
    let lost = WatchedPage {
        after: None,
        problem,
        process: "server-1".into(),
        url: "http://h:1/metrics".into(),
        ..window()
    };
    let view = view(vec![window(), lost]).unwrap();
    assert_eq!(
        (view.engine, view.notes),
        (None, vec!["no metrics page at http://h:1/metrics: HTTP 404".to_owned()])
    );
}

#[test]
fn a_page_that_says_nothing_known_leaves_a_note() {
    let page = || Page::of("llamacpp:requests_processing 3\n");
    let found = view(vec![watched("h:1", page(), page())]).unwrap();
    assert_eq!(found.notes, ["the metrics page at http://h:1/metrics has no figure that tokmark knows"]);
    assert_eq!(view(Vec::new()), None);
}

#[test]
fn a_restarted_server_has_no_counters_of_the_window() {
    let fell = engine(vec![watched("server-0", ranks(11.0), ranks(1.0))]);
    assert_eq!((fell.output_tokens, fell.ttft_ms, fell.restarted), (None, None, vec!["server-0".to_owned()]));
    // It counted further than before meanwhile; a page in between shows it.
    let between =
        WatchedPage { during: vec![(5, ranks(0.5))], ..watched("server-0", ranks(1.0), ranks(11.0)) };
    assert_eq!(engine(vec![between]).requests, None);
    // Or its process is another one.
    let started = |at: f64, tokens: u32| {
        Page::of(&format!("process_start_time_seconds {at}\nvllm:generation_tokens_total {tokens}\n"))
    };
    let engine_of = |at: f64| engine(vec![watched("server-0", started(1.7e9, 5), started(at, 50))]);
    assert_eq!((engine_of(1.7e9).output_tokens, engine_of(1.7e9 + 60.0).output_tokens), (Some(45), None));
}

#[test]
fn prefill_and_decode_are_apart() {
    let page = |count: u32| Page::of(&format!("vllm:request_success_total {count}\n"));
    let of = |process: &str, pool: Option<&'static str>, count: u32| WatchedPage {
        pool,
        ..watched(process, page(0), page(count))
    };
    let found = view(vec![
        of("prefill-0", Some("prefill"), 10),
        of("decode-0", Some("decode"), 4),
        of("decode-1", Some("decode"), 6),
    ]);
    let found = found.unwrap();
    let requests = |pool: &str| (found.pools[pool].pages, found.pools[pool].requests);
    assert_eq!(
        (found.engine.as_ref(), requests("prefill"), requests("decode")),
        (None, (1, Some(10)), (2, Some(10)))
    );
    // A worker that says it prefills, beside one that says nothing.
    let says = |text: &str| watched("h", Page::of(""), Page::of(text));
    let said = view(vec![
        WatchedPage {
            before: Some(Page::of("sglang:num_requests_total{engine_type=\"prefill\"} 1\n")),
            ..says("sglang:num_requests_total{engine_type=\"prefill\"} 3\n")
        },
        WatchedPage { before: Some(page(1)), ..says("vllm:request_success_total 9\n") },
    ]);
    let pools = said.unwrap().pools;
    assert_eq!((pools["prefill"].requests, pools["decode"].requests), (Some(2), Some(8)));
}

#[test]
fn prefix_caches_are_counted_over_the_whole_load_point() {
    let page = |name: &str| WatchedPage {
        start: Some(captured(name)),
        ..watched(name, captured(name), captured("dynamo-frontend-later"))
    };
    let counted = |pages| Watched { pages }.prefix_cache();
    assert_eq!(counted(vec![page("dynamo-frontend")]), Some(CacheCount { queried: 18_060, hit: 8_064 }));
    let cache = |queried: u32, hit: u32| {
        Page::of(&format!("vllm:prefix_cache_queries_total {queried}\nvllm:prefix_cache_hits_total {hit}\n"))
    };
    let engine = watched("server-0", cache(100, 10), cache(300, 60));
    assert_eq!(
        counted(vec![page("dynamo-frontend"), engine.clone()]),
        Some(CacheCount { queried: 200, hit: 50 })
    );
    // The warm-up counts.
    let warmed = WatchedPage { start: Some(cache(0, 0)), ..engine.clone() };
    assert_eq!(counted(vec![warmed]), Some(CacheCount { queried: 300, hit: 60 }));
    assert_eq!(
        counted(vec![WatchedPage { start: None, ..engine.clone() }, engine]),
        None,
        "every server has to tell"
    );
    assert_eq!(counted(Vec::new()), None);
}

/// vLLM counts drafts and accepted tokens, the latter by position.
#[test]
fn speculation_has_length_and_rate_by_position() {
    let page = |drafts: f64| {
        Page::of(&format!(
            "vllm:spec_decode_num_drafts_total {drafts}\nvllm:spec_decode_num_draft_tokens_total {}\n\
             vllm:spec_decode_num_accepted_tokens_total {}\n\
             vllm:spec_decode_num_accepted_tokens_per_pos_total{{position=\"0\"}} {}\n\
             vllm:spec_decode_num_accepted_tokens_per_pos_total{{position=\"1\"}} {}\n",
            drafts * 2.0,
            drafts * 1.25,
            drafts * 0.75,
            drafts * 0.5
        ))
    };
    let speculation = engine(vec![watched("server-0", page(8.0), page(24.0))]).speculation.unwrap();
    assert_eq!(
        (speculation.drafts, speculation.draft_tokens, speculation.accepted_tokens),
        (Some(16), Some(32), Some(20))
    );
    assert_eq!((speculation.acceptance_rate, speculation.acceptance_length), (Some(0.625), Some(2.25)));
    assert_eq!(speculation.rate_by_position, [0.75, 0.5]);
}

/// A page of vLLM 0.32 with ngram speculation of 3 tokens: 128 answers of 128 tokens in 32 steps each.
#[test]
fn drafts_of_a_real_server() {
    let nothing = Page::of("vllm:spec_decode_num_drafts_total 0\n");
    let engine = engine(vec![watched("server-0", nothing, captured("vllm-ngram"))]);
    let speculation = engine.speculation.unwrap();
    assert_eq!((speculation.drafts, speculation.draft_tokens), (Some(4096), Some(12_032)));
    assert_eq!((speculation.acceptance_rate, speculation.acceptance_length), (Some(1.0), Some(3.9375)));
    assert_eq!(speculation.rate_by_position, [1.0, 1.0, 0.9375]);
}

/// TensorRT-LLM counts drafted and accepted tokens by position: a draft is a token at the first.
#[test]
fn drafts_are_their_first_tokens() {
    let page = |drafts: u32| {
        Page::of(&format!(
            "trtllm_spec_decode_num_draft_tokens_total {}\ntrtllm_spec_decode_num_accepted_tokens_total {}\n\
             trtllm_spec_decode_drafted_tokens_total{{token_position=\"0\"}} {drafts}\n\
             trtllm_spec_decode_drafted_tokens_total{{token_position=\"1\"}} {drafts}\n\
             trtllm_spec_decode_accepted_tokens_total{{token_position=\"0\"}} {}\n\
             trtllm_spec_decode_accepted_tokens_total{{token_position=\"1\"}} {}\n",
            drafts * 2,
            drafts,
            drafts * 3 / 4,
            drafts / 4
        ))
    };
    let speculation = engine(vec![watched("server-0", page(4), page(12))]).speculation.unwrap();
    assert_eq!((speculation.drafts, speculation.acceptance_rate), (Some(8), Some(0.5)));
    assert_eq!((speculation.acceptance_length, speculation.rate_by_position), (Some(2.0), vec![0.75, 0.25]));
}

/// SGLang counts verifications; rate and length are gauges, which are 0 between loads.
#[test]
fn gauges_of_acceptance_are_averaged_over_the_samples() {
    let page = |calls: u32, length: f64| {
        Page::of(&format!(
            "sglang:spec_verify_calls_total {calls}\nsglang:spec_accept_length {length}\nsglang:spec_accept_rate {}\n",
            length / 10.0
        ))
    };
    let during = vec![(1, page(3, 2.0)), (2, page(5, 3.0)), (3, page(6, 0.0))];
    let speculation = engine(vec![WatchedPage { during, ..watched("server-0", page(1, 0.0), page(9, 0.0)) }])
        .speculation
        .unwrap();
    assert_eq!((speculation.drafts, speculation.acceptance_length), (Some(8), Some(2.5)));
    assert!((speculation.acceptance_rate.unwrap() - 0.25).abs() < 1e-9);
    assert_eq!(
        engine(vec![watched("server-0", page(1, 0.0), page(1, 0.0))]).speculation,
        None,
        "nothing was drafted"
    );
}

/// Ten requests of 140 ms, one each 100 ms; the server is asked at 50, 150, … ms and says that it has those in flight, and one more.
#[test]
fn requests_in_flight_are_compared_at_the_same_instants() {
    let records: Vec<RequestRecord> = (0..10)
        .map(|id| RequestRecord { end_us: 100_000 * id + 140_000, ..record(id, 100_000 * id) })
        .collect();
    let ran = run(records);
    let page = |running: u64| {
        Page::of(&format!("vllm:num_requests_running {running}\nvllm:num_requests_waiting 0\n"))
    };
    // At 20 ms there is 1 request; later, at 120, 220, … ms, there are 2.
    let during = (0..10).map(|at| (20_000 + 100_000 * at, page(if at == 0 { 2 } else { 3 }))).collect();
    let pages = vec![WatchedPage { during, ..watched("server-0", page(0), page(0)) }];
    let found = ServerView::of(&Watched { pages }, &ran, &ran.fold()).unwrap().in_flight.unwrap();
    let close =
        |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found}, expected {expected}");
    // 10 requests in 1.04 s, 140 ms each.
    close(found.requests_per_s, 10.0 / 1.04);
    close(found.time_s, 0.14);
    close(found.by_littles_law, 1.4 / 1.04);
    close(found.client, 1.9);
    close(found.servers, 2.9);
    close(found.sampling, 0.0);
    assert_eq!(found.samples, 10);
}

/// A request of a cool-down, 140 ms, beside the second of two measured ones, and over when the window has ended.
#[test]
fn requests_of_a_cool_down_are_in_flight_too() {
    let cool_down = RequestRecord { phase: Phase::CoolDown, end_us: 300_000, ..record(2, 200_000) };
    let ended = |id, sent_us| RequestRecord { end_us: sent_us + 140_000, ..record(id, sent_us) };
    let ran = run(vec![ended(0, 0), ended(1, 100_000), cool_down]);
    assert_eq!(ran.run.window_end_us, 240_000);
    let page = Page::of("vllm:num_requests_running 2\nvllm:num_requests_waiting 0\n");
    let during = [110_000, 120_000, 130_000, 210_000, 220_000].map(|at| (at, page.clone())).to_vec();
    let pages = vec![WatchedPage { during, ..watched("server-0", page.clone(), page) }];
    let found = ServerView::of(&Watched { pages }, &ran, &ran.fold()).unwrap().in_flight.unwrap();
    assert_eq!((found.client, found.servers), (2.0, 2.0));
    // 140 + 140 + 40 of 240 ms.
    assert!((found.by_littles_law - 320.0 / 240.0).abs() < 1e-9, "{found:?}");
}

/// Pages at 0, 1, … 5 s: the queue grows by 10 a second, and each second two requests leave it after 3 s.
#[test]
fn a_part_of_the_window_has_figures_of_its_own() {
    let page = |at: u64| {
        Page::of(&format!(
            "vllm:num_requests_waiting {}\nvllm:request_queue_time_seconds_sum {}\nvllm:request_queue_time_seconds_count {}\n",
            10 * at,
            6 * at,
            2 * at
        ))
    };
    let during = (0..=5).map(|at| (1_000_000 * at, page(at))).collect();
    let watched = Watched { pages: vec![WatchedPage { during, ..watched("server-0", page(0), page(9)) }] };
    let part = watched.layer_within(1_500_000, 4_500_000).unwrap();
    assert_eq!(part.waiting, Some(Level { avg: 30.0, max: 40.0 }));
    assert_eq!(part.queue_ms.map(|queue| (queue.count, queue.avg)), Some((4, 3000.0)));
    assert_eq!(watched.layer_within(1_500_000, 2_500_000), None, "read once");
}

#[test]
fn the_client_sees_more_than_the_servers_counted() {
    let records: Vec<RequestRecord> = (0..4).map(|id| record(id, 200_000 * id)).collect();
    let ran = run(records);
    let page = |count: f64| {
        Page::of(&format!(
            "vllm:time_to_first_token_seconds_sum {}\nvllm:time_to_first_token_seconds_count {count}\n",
            count * 0.04
        ))
    };
    let of = |count: f64| {
        let pages = vec![watched("server-0", page(0.0), page(count))];
        ServerView::of(&Watched { pages }, &ran, &ran.fold()).unwrap().client_beyond
    };
    // Every record has a TTFT of 50 ms.
    assert!((of(4.0).unwrap().ttft_ms.unwrap() - 10.0).abs() < 1e-9);
    assert_eq!(of(5.0), None, "other requests");
}
