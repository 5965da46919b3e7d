//! What the load engine pays to understand one streamed event and to make one request, without any socket.
//!
//! Not run by default, it measures instead of checking:
//! `cargo test --release --test measure load_cost -- --ignored --nocapture`
//! The engine as a whole is measured by `benches/load`, beside a floor.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use tokmark::internals::load::sse;
use tokmark::internals::metrics::Phase;
use tokmark::internals::plan::{Arrival, AtEnd, Endpoint, Length, LoadPoint, Slo, Stop};
use tokmark::internals::prompts::{Learned, Prompts, TokenizerCache};

const EVENT: &str = concat!(
    "data: {\"id\":\"chatcmpl-a7161fe424bc7e93\",\"object\":\"chat.completion.chunk\",\"created\":1795312788,",
    "\"model\":\"tiny-llama\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" RuntimeError\"},\"logprobs\":null,",
    "\"finish_reason\":null,\"token_ids\":null}]}\n\n"
);
fn cpu(who: UsageWho) -> Duration {
    let usage = getrusage(who).unwrap();
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000))
        .sum()
}

fn point() -> LoadPoint {
    LoadPoint {
        id: "cost".into(),
        repeat: None,
        isl: Length::fixed(128),
        osl: Length::fixed(128),
        arrival: Arrival::closed(1),
        stop: Stop::Requests(1),
        warmup_requests: 0,
        warmup_duration_s: None,
        at_end: AtEnd::default(),
        endpoint: Endpoint::Chat,
        streaming: true,
        ignore_eos: true,
        seed: 1,
        slo: Slo::default(),
        request_timeout_s: 600.0,
        stall_timeout_s: 600.0,
        connect_timeout_s: 30.0,
        first_token_timeout_s: None,
        max_tokens_field: Default::default(),
        continuous_usage_stats: false,
        left_out: Vec::new(),
        scaled: None,
        prompts: tokmark::internals::plan::PromptSpec::default(),
        exports: Vec::new(),
        extra_body: serde_json::Map::new(),
    }
}

#[test]
#[ignore = "measures; run with --ignored --nocapture in release"]
fn cost_of_understanding_one_event() {
    let rounds = 2_000_000_u64;
    let before = cpu(UsageWho::RUSAGE_SELF);
    let mut parser = sse::Parser::default();
    let mut events = 0_u64;
    for _ in 0..rounds {
        parser.push(EVENT.as_bytes());
        while let Some(event) = parser.next_event().unwrap() {
            events += u64::from(!event.data.is_empty());
        }
    }
    assert_eq!(events, rounds);
    let spent = cpu(UsageWho::RUSAGE_SELF) - before;
    println!("SSE parse: {:.0} ns/event", spent.as_secs_f64() * 1e9 / rounds as f64);
    let mut parser = sse::Parser::default();
    let before = cpu(UsageWho::RUSAGE_SELF);
    let mut content = 0_u64;
    for _ in 0..rounds {
        parser.push(EVENT.as_bytes());
        while let Some(event) = parser.next_event().unwrap() {
            let payload = tokmark::internals::load::chunk::classify(event.name, event.data).unwrap();
            content += u64::from(
                matches!(payload, tokmark::internals::load::chunk::Payload::Chunk(chunk) if !chunk.pieces.is_empty()),
            );
        }
    }
    let spent = cpu(UsageWho::RUSAGE_SELF) - before;
    assert_eq!(content, rounds);
    println!("SSE parse + classification: {:.0} ns/event", spent.as_secs_f64() * 1e9 / rounds as f64);
    let before = cpu(UsageWho::RUSAGE_SELF);
    let reads = vec![EVENT.as_bytes(); 1000];
    for _ in 0..rounds / 1000 {
        let mut answer = tokmark::internals::load::Answer::new(200, true);
        reads.iter().for_each(|read| answer.read(0, read));
        assert_eq!(answer.chunks(), 1000);
    }
    let spent = cpu(UsageWho::RUSAGE_SELF) - before;
    println!("an answer as the engine reads it: {:.0} ns/event", spent.as_secs_f64() * 1e9 / rounds as f64);
    let before = cpu(UsageWho::RUSAGE_SELF);
    let point = point();
    let source = Prompts::prepare(&point, 0, Learned::default(), &TokenizerCache::default()).unwrap();
    let bytes: usize = (0..50_000)
        .map(|id| tokmark::internals::load::request_body(&point, "m", &source.plan(Phase::Measure, id)).len())
        .sum();
    let spent = cpu(UsageWho::RUSAGE_SELF) - before;
    println!(
        "prompt + body, 128 words: {:.1} us each ({} bytes)",
        spent.as_secs_f64() * 1e6 / 50_000.0,
        bytes / 50_000
    );
}
