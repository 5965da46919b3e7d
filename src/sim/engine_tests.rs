//! The scheduler by table, in virtual time, every expected instant worked by hand.

use super::*;
use crate::sim::cost::LinearCost;

/// 1 ms a step, 10 µs a sequence, 100 µs a prompt token: sums that can be done in the head.
fn config() -> EngineConfig {
    EngineConfig {
        max_num_seqs: 8,
        max_num_batched_tokens: 1000,
        block_size: 10,
        num_blocks: 1000,
        sliding_window: 0,
        cost: StepCost::Linear(LinearCost {
            step_base_us: 1000.0,
            step_us_per_seq: 10.0,
            prefill_us_per_token: 100.0,
            ..LinearCost::default()
        }),
    }
}

fn request(id: u64, arrival_us: u64, prompt_tokens: u32, output_tokens: u32) -> SequenceRequest {
    SequenceRequest { id, arrival_us, prompt_tokens, output_tokens, finish: FinishReason::Length }
}

/// Runs until idle, the last step having ended at `now_us`; every token as (instant µs, request, number).
fn drain(engine: &mut Engine, mut now_us: u64) -> Vec<(u64, u64, u32)> {
    let (mut tokens, mut events) = (Vec::new(), Vec::new());
    while let Some(start_us) = engine.next_start_us(now_us) {
        let plan = engine.begin_step(start_us).expect("work, so a step");
        now_us = plan.end_us;
        engine.finish_step(&mut events);
        tokens.extend(events.iter().map(|event| (now_us, event.id, event.nth)));
        assert!(tokens.len() < 1_000_000, "no progress");
    }
    assert_eq!(engine.kv_usage(), 0.0, "blocks leak");
    tokens
}

fn run(config: EngineConfig, requests: &[SequenceRequest]) -> Vec<(u64, u64, u32)> {
    let mut engine = Engine::new(config);
    for request in requests {
        engine.submit(*request).expect("fits");
    }
    drain(&mut engine, 0)
}

#[test]
fn one_request_prefills_then_decodes_a_token_a_step() {
    // 1000 + 10 + 100·100 = 11,010 µs after its arrival, then 1,010 µs a token.
    let tokens = run(config(), &[request(1, 500, 100, 3)]);
    assert_eq!(tokens, [(11_510, 1, 1), (12_520, 1, 2), (13_530, 1, 3)]);
}

#[test]
fn an_arrival_during_a_step_waits_for_the_next_one() {
    // A: step 0–2010 (10 prompt tokens). B arrives at 1: second step 2010–4030 = 1000 + 2·10 + 10·100.
    let tokens = run(config(), &[request(1, 0, 10, 2), request(2, 1, 10, 1)]);
    assert_eq!(tokens, [(2_010, 1, 1), (4_030, 1, 2), (4_030, 2, 1)]);
}

#[test]
fn a_long_prompt_is_prefilled_in_chunks_beside_running_decodes() {
    // Budget 50. A (10 tokens) and 40 of B's 60 in step 1: 1000 + 20 + 5000 = 6020.
    // Step 2: A's decode takes 1, B's last 20: 1000 + 20 + 2000 → 9040; both have a token.
    let config = EngineConfig { max_num_batched_tokens: 50, ..config() };
    let tokens = run(config, &[request(1, 0, 10, 2), request(2, 0, 60, 1)]);
    assert_eq!(tokens, [(6_020, 1, 1), (9_040, 1, 2), (9_040, 2, 1)]);
}

#[test]
fn the_queue_is_first_in_first_out_and_max_num_seqs_holds() {
    let config = EngineConfig { max_num_seqs: 2, ..config() };
    let mut engine = Engine::new(config);
    for id in 1..=4 {
        engine.submit(request(id, 0, 1, 2)).expect("fits");
    }
    assert_eq!(engine.begin_step(0).expect("a step").load.seqs, 2);
    assert_eq!((engine.num_running(), engine.num_waiting()), (2, 2));
    engine.finish_step(&mut Vec::new());
    // First tokens of 1 and 2 were at 1220 (1000 + 20 + 2·100); then 1 and 2 end, 3 and 4 follow in order.
    let tokens = drain(&mut engine, 0);
    let order: Vec<u64> = tokens.iter().map(|(_, id, _)| *id).collect();
    assert_eq!(order, [1, 2, 3, 4, 3, 4]);
}

#[test]
fn a_prompt_that_does_not_fit_now_blocks_those_behind_it() {
    // 10 blocks: A takes 5; B needs 6 and must wait although C would fit.
    let config = EngineConfig { num_blocks: 10, ..config() };
    let mut engine = Engine::new(config);
    for request in [request(1, 0, 50, 1), request(2, 0, 60, 1), request(3, 0, 10, 1)] {
        engine.submit(request).expect("fits alone");
    }
    assert_eq!(engine.begin_step(0).expect("a step").load.seqs, 1);
    assert_eq!(engine.kv_usage(), 0.5);
    engine.finish_step(&mut Vec::new());
    assert_eq!(engine.begin_step(6_010).expect("a step").load.seqs, 2);
}

#[test]
fn when_blocks_run_out_the_newest_is_preempted_and_recomputed() {
    // 4 blocks of 10. A and B hold 2 each for 20 prompt tokens; the 21st token of A needs a third block.
    let config = EngineConfig { num_blocks: 4, ..config() };
    let mut engine = Engine::new(config);
    engine.submit(request(1, 0, 20, 3)).expect("fits");
    engine.submit(request(2, 0, 20, 2)).expect("fits");
    let mut events = Vec::new();
    let first = engine.begin_step(0).expect("a step");
    assert_eq!(first.end_us, 1_000 + 20 + 4_000);
    engine.finish_step(&mut events);
    // Step 2: B is preempted; A alone: 1,010 µs. Nobody is admitted in a step that preempted.
    let second = engine.begin_step(first.end_us).expect("a step");
    assert_eq!((second.load.seqs, engine.num_waiting()), (1, 1));
    assert_eq!(second.end_us, 5_020 + 1_010);
    engine.finish_step(&mut events);
    // Step 3: B needs 3 blocks (21 tokens), one is free: waits. A ends at 7,040.
    // Step 4: B recomputes 21 tokens: 1000 + 10 + 2100, its second and last token at 10,150.
    let rest = drain(&mut engine, second.end_us);
    assert_eq!(rest, [(7_040, 1, 3), (10_150, 2, 2)]);
    assert_eq!(engine.stats().preemptions, 1);
    assert_eq!(engine.stats().generation_tokens, 5);
}

#[test]
fn a_request_larger_than_the_cache_is_refused() {
    let mut engine = Engine::new(EngineConfig { num_blocks: 10, ..config() });
    assert_eq!(engine.submit(request(1, 0, 100, 1)), Err(DoesNotFit { tokens: 101, capacity: 100 }));
    assert_eq!(engine.submit(request(1, 0, 99, 1)), Ok(()));
}

#[test]
fn abort_frees_everything_in_any_state() {
    let mut engine = Engine::new(EngineConfig { max_num_seqs: 1, ..config() });
    engine.submit(request(1, 0, 50, 100)).expect("fits");
    engine.submit(request(2, 0, 10, 1)).expect("fits");
    engine.submit(request(3, 0, 10, 1)).expect("fits");
    engine.begin_step(0);
    assert!(engine.abort(2), "queued");
    assert!(engine.abort(1), "running, in the middle of a step");
    assert!(!engine.abort(1), "gone");
    let mut events = vec![TokenEvent { id: 9, nth: 9, finish: None }];
    engine.finish_step(&mut events);
    assert_eq!(events, []);
    assert_eq!(drain(&mut engine, 0).len(), 1);
    assert_eq!(engine.stats().finished_length, 1);
}

#[test]
fn an_idle_engine_has_no_next_step_and_starts_at_the_arrival() {
    let mut engine = Engine::new(config());
    assert_eq!((engine.next_start_us(7), engine.begin_step(7)), (None, None));
    engine.submit(request(1, 900, 1, 1)).expect("fits");
    assert_eq!(engine.next_start_us(7), Some(900));
    assert_eq!(engine.next_start_us(1_000), Some(1_000));
}

#[test]
fn the_same_requests_give_the_same_tokens_under_pressure() {
    let config = EngineConfig { num_blocks: 60, max_num_batched_tokens: 64, ..config() };
    let requests: Vec<_> = (0..40_u64)
        .map(|n| request(n, n * 700, 1 + (n as u32 * 37) % 90, 1 + (n as u32 * 13) % 50))
        .collect();
    let tokens = run(config.clone(), &requests);
    assert_eq!(tokens, run(config, &requests));
    // Every request gets its tokens, numbered from 1 without gap, whatever preemptions there were.
    for request in &requests {
        let nth: Vec<u32> =
            tokens.iter().filter(|(_, id, _)| *id == request.id).map(|(_, _, nth)| *nth).collect();
        assert_eq!(nth, (1..=request.output_tokens).collect::<Vec<_>>(), "request {}", request.id);
    }
}

#[test]
fn statistics_follow_the_tokens() {
    let mut engine = Engine::new(config());
    engine.submit(request(1, 0, 100, 3)).expect("fits");
    drain(&mut engine, 0);
    let stats = engine.stats();
    assert_eq!((stats.prompt_tokens, stats.generation_tokens, stats.steps), (100, 3, 3));
    assert_eq!(stats.prefix_cache_queries, 100);
    assert!((stats.ttft.sum - 0.01101).abs() < 1e-9, "{}", stats.ttft.sum);
    assert!((stats.itl.sum - 0.00202).abs() < 1e-9, "{}", stats.itl.sum);
    assert_eq!(stats.itl.counts[0], 2, "both gaps are under 10 ms");
    assert!((stats.e2e.sum - 0.01303).abs() < 1e-9, "{}", stats.e2e.sum);
}

#[test]
fn a_sliding_window_costs_a_sequence_its_last_blocks_a_second_time() {
    // Blocks of 10, a window of 25 tokens: 3 blocks and the one it begins in. A prompt of 99 and the first token of the
    // answer hold 10 + 4 of 100 blocks; one of 9 and one token hold 1 + 1.
    let windowed = EngineConfig { sliding_window: 25, num_blocks: 100, ..config() };
    for (prompt_tokens, share) in [(99, 0.14), (9, 0.02)] {
        let mut engine = Engine::new(windowed.clone());
        engine.submit(request(1, 0, prompt_tokens, 2)).expect("fits");
        let mut events = Vec::new();
        let end_us = engine.begin_step(0).expect("a step").end_us;
        engine.finish_step(&mut events);
        engine.begin_step(end_us);
        assert_eq!(engine.kv_usage(), share, "{prompt_tokens} tokens");
    }
    // The longest sequence: 96 blocks of 10 and 4 for the window; in 7 blocks, 3 and the same 3 again.
    assert_eq!(windowed.kv_capacity_tokens(), 960);
    assert_eq!(EngineConfig { num_blocks: 7, ..windowed.clone() }.kv_capacity_tokens(), 30);
    let longest = [request(1, 0, 900, 60)];
    assert_eq!(run(EngineConfig { max_num_batched_tokens: 1000, ..windowed }, &longest).len(), 60);
}
