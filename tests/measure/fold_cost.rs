//! What the fold costs: ten million records with a hundred gaps each, a billion gaps in all, without a disk.
//!
//! Not run by default, it measures instead of checking:
//! `cargo test --release --test measure fold_cost -- --ignored --nocapture --test-threads=1`
//!
//! `FOLD_RECORDS` changes the number of records.

use std::time::Instant;

use tokmark::internals::metrics::summary::{Context, summarize};
use tokmark::internals::metrics::{ClientHealth, Fold, PointRun};
use tokmark::internals::metrics::{CountSource, Outcome, Phase, RequestRecord, Usage};
use tokmark::internals::plan::{Arrival, AtEnd, Endpoint, Length, LoadPoint, Slo, Stop};

/// Content chunks of a record.
const CHUNKS: usize = 101;

/// Requests in flight.
const SLOTS: u64 = 1_000;

/// 64 bits that look random, repeatable.
struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn status_mib(key: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap_or(0.0) / 1024.0
}

fn empty() -> RequestRecord {
    RequestRecord {
        id: 0,
        phase: Phase::Measure,
        worker: 0,
        stage: None,
        scheduled_us: 0,
        sent_us: 0,
        headers_us: None,
        chunks_us: Vec::with_capacity(CHUNKS),
        first_output_us: None,
        end_us: 0,
        isl_planned: 128,
        osl_requested: CHUNKS as u64,
        usage: Some(Usage {
            prompt_tokens: 128,
            completion_tokens: CHUNKS as u64,
            reasoning_tokens: None,
            cached_tokens: None,
        }),
        isl: 128,
        isl_source: CountSource::Usage,
        osl: CHUNKS as u64,
        osl_source: CountSource::Usage,
        outcome: Outcome::Ok,
        status: Some(200),
        error: None,
        finish_reason: None,
        bytes_sent: 1_000,
        turn: None,
        isl_shared: 0,
        osl_counted: None,
        text_bytes: None,
        first_text_bytes: None,
        unknown_content: None,
        bytes_received: 20_000,
    }
}

/// The next request of a closed loop: TTFT 20–70 ms, gaps around 20 ms with a rare long one.
fn fill(record: &mut RequestRecord, id: u64, noise: &mut Noise) {
    let sent_us = id / SLOTS * 2_100_000 + id % SLOTS;
    let mut at = sent_us + 20_000 + noise.below(50_000);
    record.chunks_us.clear();
    for _ in 0..CHUNKS {
        record.chunks_us.push(at);
        at += if noise.below(1_000) == 0 { noise.below(3_000_000) } else { 15_000 + noise.below(10_000) };
    }
    (record.id, record.scheduled_us, record.sent_us) = (id, sent_us, sent_us);
    record.first_output_us = record.chunks_us.first().copied();
    record.end_us = at;
}

fn point(requests: u64) -> LoadPoint {
    LoadPoint {
        id: "fold".into(),
        repeat: None,
        isl: Length::fixed(128),
        osl: Length::fixed(CHUNKS as u32),
        arrival: Arrival::closed(SLOTS as u32),
        stop: Stop::Requests(requests),
        warmup_requests: 0,
        warmup_duration_s: None,
        at_end: AtEnd::default(),
        endpoint: Endpoint::Chat,
        streaming: true,
        ignore_eos: true,
        seed: 1,
        slo: Slo::default(),
        request_timeout_s: 600.0,
        stall_timeout_s: 120.0,
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
fn ten_million_records() {
    let count: u64 = std::env::var("FOLD_RECORDS").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000_000);
    let gaps = count * (CHUNKS as u64 - 1);
    let (mut noise, mut record) = (Noise(88_172_645_463_325_252), empty());
    let started = Instant::now();
    (0..count).for_each(|id| fill(&mut record, id, &mut noise));
    let making = started.elapsed().as_secs_f64();

    let before_mib = status_mib("VmRSS:");
    let (mut noise, mut fold) = (Noise(88_172_645_463_325_252), Fold::default());
    let started = Instant::now();
    for id in 0..count {
        fill(&mut record, id, &mut noise);
        fold.add(&record);
    }
    let folding = (started.elapsed().as_secs_f64() - making).max(1e-9);
    let kept_mib = status_mib("VmRSS:") - before_mib;
    println!(
        "fold: {count} records, {gaps} gaps in {folding:.1} s (making them, {making:.1} s, taken off): {:.0} records/s, \
         {:.0} million gaps/s; {:.0} bytes kept a record",
        count as f64 / folding,
        gaps as f64 / folding / 1e6,
        kept_mib * 1_048_576.0 / count as f64
    );

    let run = PointRun {
        started_at: jiff::Timestamp::UNIX_EPOCH,
        window_start_us: 0,
        window_end_us: record.end_us,
        client: ClientHealth::default(),
        interrupted: false,
        aborted: None,
        arrivals: None,
        prefix_cache: None,
        servers: None,
        gpus: None,
        processes: Vec::new(),
    };
    let started = Instant::now();
    let summary = summarize(&point(count), &run, &fold, &Context::default());
    let icl = summary.icl_ms.map(|icl| (icl.count, icl.p50, icl.p99));
    println!(
        "summary in {:.1} s: ICL (count, p50, p99) {icl:?}, {:?}; peak RSS {:.0} MiB",
        started.elapsed().as_secs_f64(),
        summary.verdict,
        status_mib("VmHWM:")
    );
    assert_eq!(icl.map(|(count, ..)| count), Some(gaps));
}
