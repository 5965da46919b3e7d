//! vLLM's counters and histograms, with vLLM's buckets, in the model's time.

use super::engine::{FinishReason, SequenceRequest};

const TTFT_BUCKETS: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
];
const ITL_BUCKETS: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
];
const E2E_BUCKETS: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
];

/// A Prometheus histogram of seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Upper bounds, seconds, without +Inf.
    pub bounds: &'static [f64],
    /// Observations per bucket (not cumulative); the last one is +Inf.
    pub counts: Vec<u64>,
    pub sum: f64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    fn observe_us(&mut self, us: u64) {
        let seconds = us as f64 / 1e6;
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[bucket] += 1;
        self.sum += seconds;
    }
}

/// Counters since the start of an engine.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineStats {
    pub steps: u64,
    /// Prompt tokens of requests that got their first token.
    pub prompt_tokens: u64,
    pub generation_tokens: u64,
    pub preemptions: u64,
    /// Tokens looked up in the prefix cache. The engine has none, so hits stay 0.
    pub prefix_cache_queries: u64,
    pub finished_length: u64,
    pub finished_stop: u64,
    /// Arrival to first token.
    pub ttft: Histogram,
    /// Between tokens.
    pub itl: Histogram,
    /// Arrival to last token.
    pub e2e: Histogram,
}

impl Default for EngineStats {
    fn default() -> Self {
        Self {
            steps: 0,
            prompt_tokens: 0,
            generation_tokens: 0,
            preemptions: 0,
            prefix_cache_queries: 0,
            finished_length: 0,
            finished_stop: 0,
            ttft: Histogram::new(TTFT_BUCKETS),
            itl: Histogram::new(ITL_BUCKETS),
            e2e: Histogram::new(E2E_BUCKETS),
        }
    }
}

impl EngineStats {
    /// Records a token at `now_us`, after one at `previous_us`.
    pub(super) fn on_token(&mut self, request: &SequenceRequest, previous_us: Option<u64>, now_us: u64) {
        self.generation_tokens += 1;
        if let Some(previous_us) = previous_us {
            self.itl.observe_us(now_us.saturating_sub(previous_us));
        } else {
            self.prompt_tokens += u64::from(request.prompt_tokens);
            self.ttft.observe_us(now_us.saturating_sub(request.arrival_us));
        }
    }

    /// Records the last token, at `now_us`.
    pub(super) fn on_finish(&mut self, request: &SequenceRequest, reason: FinishReason, now_us: u64) {
        match reason {
            FinishReason::Length => self.finished_length += 1,
            FinishReason::Stop => self.finished_stop += 1,
        }
        self.e2e.observe_us(now_us.saturating_sub(request.arrival_us));
    }
}
