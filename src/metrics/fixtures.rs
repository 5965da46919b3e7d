//! Load points, records and runs for the tests of this module: sound ones, that each test then spoils in one respect.

use super::fold::Fold;
use super::record::{ClientHealth, CountSource, Outcome, Phase, PointRun, RequestRecord, Usage};
use crate::plan::{Arrival, AtEnd, Endpoint, Length, LoadPoint, Slo, Stop};

/// ISL 100, OSL 10, concurrency 2, chat, streamed.
pub(crate) fn point() -> LoadPoint {
    LoadPoint {
        id: "isl100_osl10_con2".to_owned(),
        repeat: None,
        isl: Length::fixed(100),
        osl: Length::fixed(10),
        arrival: Arrival::closed(2),
        stop: Stop::Requests(20),
        warmup_requests: 0,
        warmup_duration_s: None,
        at_end: AtEnd::default(),
        endpoint: Endpoint::Chat,
        streaming: true,
        ignore_eos: true,
        seed: 7,
        slo: Slo::default(),
        request_timeout_s: 600.0,
        stall_timeout_s: 120.0,
        connect_timeout_s: 30.0,
        first_token_timeout_s: None,
        max_tokens_field: Default::default(),
        continuous_usage_stats: false,
        left_out: Vec::new(),
        scaled: None,
        prompts: crate::plan::PromptSpec::default(),
        exports: Vec::new(),
        extra_body: serde_json::Map::new(),
    }
}

/// Sent at `sent_us`; first chunk after 50 ms, nine more every 10 ms: TTFT 50 ms, E2E 140 ms, ITL 10 ms.
pub(crate) fn record(id: u64, sent_us: u64) -> RequestRecord {
    let chunks_us: Vec<u64> = (0..10).map(|i| sent_us + 50_000 + 10_000 * i).collect();
    RequestRecord {
        id,
        phase: Phase::Measure,
        stage: None,
        worker: 0,
        scheduled_us: sent_us,
        sent_us,
        headers_us: Some(sent_us + 40_000),
        first_output_us: chunks_us.first().copied(),
        chunks_us,
        end_us: sent_us + 140_000,
        isl_planned: 100,
        osl_requested: 10,
        usage: Some(Usage {
            prompt_tokens: 100,
            completion_tokens: 10,
            reasoning_tokens: None,
            cached_tokens: None,
        }),
        isl: 100,
        isl_source: CountSource::Usage,
        osl: 10,
        osl_source: CountSource::Usage,
        outcome: Outcome::Ok,
        status: Some(200),
        error: None,
        finish_reason: Some("length".to_owned()),
        bytes_sent: 500,
        turn: None,
        isl_shared: 0,
        osl_counted: None,
        text_bytes: None,
        first_text_bytes: None,
        unknown_content: None,
        bytes_received: 2_000,
    }
}

/// The same request with its ten tokens in one chunk, at the end: held back on its way.
pub(crate) fn held_back(id: u64, sent_us: u64) -> RequestRecord {
    let chunks_us = vec![sent_us + 140_000];
    RequestRecord { first_output_us: chunks_us.first().copied(), chunks_us, ..record(id, sent_us) }
}

/// The same request, failed after 20 ms.
pub(crate) fn failed(id: u64, sent_us: u64, outcome: Outcome) -> RequestRecord {
    RequestRecord {
        headers_us: None,
        chunks_us: Vec::new(),
        first_output_us: None,
        end_us: sent_us + 20_000,
        usage: None,
        isl_source: CountSource::Approximate,
        osl: 0,
        osl_source: CountSource::Approximate,
        outcome,
        status: None,
        error: Some("why".to_owned()),
        finish_reason: None,
        ..record(id, sent_us)
    }
}

/// A run and its records.
#[derive(Debug, Clone)]
pub(crate) struct Ran {
    pub(crate) run: PointRun,
    pub(crate) records: Vec<RequestRecord>,
}

impl Ran {
    pub(crate) fn fold(&self) -> Fold {
        Fold::of(&self.records)
    }
}

impl std::ops::Deref for Ran {
    type Target = PointRun;

    fn deref(&self) -> &PointRun {
        &self.run
    }
}

impl std::ops::DerefMut for Ran {
    fn deref_mut(&mut self) -> &mut PointRun {
        &mut self.run
    }
}

/// `records` as a run whose window spans the measured ones and whose client was idle.
pub(crate) fn run(records: Vec<RequestRecord>) -> Ran {
    let measured = || records.iter().filter(|record| record.phase == Phase::Measure);
    let run = PointRun {
        started_at: jiff::Timestamp::UNIX_EPOCH,
        window_start_us: measured().map(|record| record.sent_us).min().unwrap_or(0),
        window_end_us: measured().map(|record| record.end_us).max().unwrap_or(0),
        client: ClientHealth {
            cpu_s: 0.001,
            threads: 2,
            max_rss_mib: 64.0,
            loop_lag_us: vec![100; 10],
            ..ClientHealth::default()
        },
        interrupted: false,
        aborted: None,
        arrivals: None,
        prefix_cache: None,
        servers: None,
        gpus: None,
        processes: Vec::new(),
    };
    Ran { run, records }
}

/// Twenty sound requests, one after the other, 200 ms apart.
pub(crate) fn sound() -> Vec<RequestRecord> {
    (0..20).map(|id| record(id, 1_000_000 + 200_000 * id)).collect()
}

/// Any record at all: instants out of order, counts without bounds, chunks of failed requests.
pub(crate) fn any_record() -> impl proptest::strategy::Strategy<Value = RequestRecord> {
    use proptest::prelude::*;

    let instant = || prop_oneof![0..10_000_000_u64, any::<u64>()];
    let outcome = prop_oneof![
        4 => Just(Outcome::Ok),
        1 => Just(Outcome::Timeout),
        1 => Just(Outcome::Cancelled),
        1 => any::<u16>().prop_map(Outcome::Http),
    ];
    let source = prop_oneof![Just(CountSource::Usage), Just(CountSource::Approximate)];
    let instants = (instant(), instant(), instant(), prop::collection::vec(instant(), 0..6));
    let counts =
        (instant(), instant(), instant(), prop::option::of((instant(), instant(), any::<Option<u64>>())));
    (instants, counts, outcome, source, any::<bool>()).prop_map(
        |(instants, counts, outcome, source, warmup)| {
            let (scheduled_us, sent_us, end_us, chunks_us) = instants;
            let (isl, osl, osl_requested, usage) = counts;
            RequestRecord {
                phase: if warmup { Phase::Warmup } else { Phase::Measure },
                scheduled_us,
                end_us,
                first_output_us: chunks_us.last().copied(),
                chunks_us,
                osl_requested,
                usage: usage.map(|(prompt_tokens, completion_tokens, details)| Usage {
                    prompt_tokens,
                    completion_tokens,
                    reasoning_tokens: details,
                    cached_tokens: details,
                }),
                isl,
                isl_source: source,
                osl,
                osl_source: source,
                outcome,
                ..record(0, sent_us % (1 << 60))
            }
        },
    )
}
