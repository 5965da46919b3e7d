//! The scheduler of the simulated engine: continuous batching in virtual time, without a clock and without I/O.
//!
//! It follows vLLM V1: one loop computes tokens without KV, in prefill and decode alike, first for running sequences, then for the
//! queue in order of arrival. When blocks run out, the sequence admitted last loses its blocks and returns to the head of the queue.
//! The engine is deterministic.

use std::collections::VecDeque;

use super::cost::StepCost;
use super::stats::EngineStats;
use super::step::StepLoad;

/// Limits and costs of an engine.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineConfig {
    /// Sequences that may run at once.
    pub max_num_seqs: u32,
    /// Tokens computed in one step, prefill and decode together.
    pub max_num_batched_tokens: u32,
    /// Tokens per KV block.
    pub block_size: u32,
    pub num_blocks: u32,
    /// Window of every second layer, with blocks from the same pool; 0 if all layers see everything.
    pub sliding_window: u32,
    pub cost: StepCost,
}

impl EngineConfig {
    /// Longest sequence that fits the KV cache, tokens.
    pub fn kv_capacity_tokens(&self) -> u64 {
        let blocks = self.num_blocks - self.window_blocks().min(self.num_blocks.div_ceil(2));
        u64::from(blocks) * u64::from(self.block_size)
    }

    /// Blocks of a sequence of that many tokens, and with a sliding window the last ones a second time, for the layers with the
    /// window.
    fn blocks(&self, tokens: u32) -> u32 {
        let all = tokens.div_ceil(self.block_size);
        all.saturating_add(all.min(self.window_blocks()))
    }

    /// A window that starts inside a block needs one more.
    fn window_blocks(&self) -> u32 {
        match self.sliding_window {
            0 => 0,
            window => window.div_ceil(self.block_size) + 1,
        }
    }
}

/// Why a sequence ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// It reached `max_tokens`.
    Length,
    /// It drew its end of sequence.
    Stop,
}

impl FinishReason {
    /// The word in `finish_reason` and in the metrics label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Stop => "stop",
        }
    }
}

/// A request in the engine. Its length is known from the start, which the client cannot see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequenceRequest {
    /// Unique, chosen by the caller.
    pub id: u64,
    /// Arrival, µs of virtual time; arrivals are submitted in order.
    pub arrival_us: u64,
    /// Prompt length, at least 1.
    pub prompt_tokens: u32,
    /// Tokens it will generate, at least 1.
    pub output_tokens: u32,
    pub finish: FinishReason,
}

/// One generated token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenEvent {
    pub id: u64,
    /// Number of the token in the answer, from 1.
    pub nth: u32,
    /// Set on the last token.
    pub finish: Option<FinishReason>,
}

/// A step in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepPlan {
    /// Start, µs of virtual time.
    pub start_us: u64,
    /// End, when its tokens appear.
    pub end_us: u64,
    pub load: StepLoad,
}

/// A request that can never run, because prompt and answer need more KV blocks than exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sequence of {tokens} tokens does not fit the KV cache of {capacity} tokens")]
pub struct DoesNotFit {
    pub tokens: u64,
    pub capacity: u64,
}

#[derive(Debug)]
struct Sequence {
    request: SequenceRequest,
    generated: u32,
    /// Tokens (prompt and generated) whose KV is in the cache.
    computed: u32,
    scheduled: u32,
    blocks: u32,
    last_token_us: Option<u64>,
}

impl Sequence {
    fn tokens(&self) -> u32 {
        self.request.prompt_tokens + self.generated
    }

    fn pending(&self) -> u32 {
        self.tokens() - self.computed
    }

    fn is_decoding(&self) -> bool {
        self.generated > 0 && self.pending() == 1
    }
}

/// The scheduler. Alternate [`Engine::begin_step`] and [`Engine::finish_step`]; submit and abort at any time.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    waiting: VecDeque<Sequence>,
    /// In order of admission.
    running: Vec<Sequence>,
    free_blocks: u32,
    step: Option<StepPlan>,
    stats: EngineStats,
}

impl Engine {
    /// An idle engine at virtual time 0.
    pub fn new(config: EngineConfig) -> Self {
        let free_blocks = config.num_blocks;
        Self {
            config,
            waiting: VecDeque::new(),
            running: Vec::new(),
            free_blocks,
            step: None,
            stats: EngineStats::default(),
        }
    }

    /// Puts a request at the end of the queue.
    pub fn submit(&mut self, request: SequenceRequest) -> Result<(), DoesNotFit> {
        let tokens = u64::from(request.prompt_tokens) + u64::from(request.output_tokens);
        let capacity = self.config.kv_capacity_tokens();
        if tokens > capacity {
            return Err(DoesNotFit { tokens, capacity });
        }
        let (generated, computed, scheduled, blocks) = (0, 0, 0, 0);
        self.waiting.push_back(Sequence {
            request,
            generated,
            computed,
            scheduled,
            blocks,
            last_token_us: None,
        });
        Ok(())
    }

    /// Removes a request whose client is gone and frees its blocks; false if it is unknown.
    pub fn abort(&mut self, id: u64) -> bool {
        if let Some(at) = self.running.iter().position(|sequence| sequence.request.id == id) {
            self.free_blocks += self.running.remove(at).blocks;
            true
        } else if let Some(at) = self.waiting.iter().position(|sequence| sequence.request.id == id) {
            self.waiting.remove(at);
            true
        } else {
            false
        }
    }

    /// When the next step can begin, given that the last one ended at `now_us`; `None` when there is no work.
    pub fn next_start_us(&self, now_us: u64) -> Option<u64> {
        if self.running.is_empty() {
            self.waiting.front().map(|head| now_us.max(head.request.arrival_us))
        } else {
            Some(now_us)
        }
    }

    /// Schedules a step that begins at `now_us`, without requests that arrive later; `None` without work.
    pub fn begin_step(&mut self, now_us: u64) -> Option<StepPlan> {
        let mut budget = self.config.max_num_batched_tokens;
        let preempted = self.schedule_running(&mut budget);
        // As in vLLM, a step that preempts admits no sequence.
        if !preempted {
            self.admit(now_us, &mut budget);
        }
        let load = self.load();
        if load.seqs == 0 {
            return None;
        }
        self.step =
            Some(StepPlan { start_us: now_us, end_us: now_us + self.config.cost.step_us(&load), load });
        self.step
    }

    /// Ends the step in progress and replaces `events` by the tokens it produced, in order of admission.
    pub fn finish_step(&mut self, events: &mut Vec<TokenEvent>) {
        events.clear();
        let Some(step) = self.step.take() else { return };
        let (stats, free_blocks) = (&mut self.stats, &mut self.free_blocks);
        stats.steps += 1;
        self.running.retain_mut(|sequence| {
            sequence.computed += std::mem::take(&mut sequence.scheduled);
            if sequence.pending() > 0 {
                return true;
            }
            sequence.generated += 1;
            let request = sequence.request;
            stats.on_token(&request, sequence.last_token_us.replace(step.end_us), step.end_us);
            let finish = (sequence.generated == request.output_tokens).then_some(request.finish);
            events.push(TokenEvent { id: request.id, nth: sequence.generated, finish });
            if let Some(reason) = finish {
                stats.on_finish(&request, reason, step.end_us);
                *free_blocks += sequence.blocks;
            }
            finish.is_none()
        });
    }

    /// Sequences admitted.
    pub fn num_running(&self) -> usize {
        self.running.len()
    }

    /// Sequences in the queue.
    pub fn num_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Share of the KV blocks in use, 0 to 1.
    pub fn kv_usage(&self) -> f64 {
        f64::from(self.config.num_blocks - self.free_blocks) / f64::from(self.config.num_blocks.max(1))
    }

    /// Counters since the start.
    pub fn stats(&self) -> &EngineStats {
        &self.stats
    }

    /// Schedules the next tokens of every running sequence; true if a sequence was preempted.
    fn schedule_running(&mut self, budget: &mut u32) -> bool {
        let mut preempted = false;
        let mut at = 0;
        while at < self.running.len() {
            let sequence = &self.running[at];
            let tokens = sequence.pending().min(*budget);
            let wanted = self.config.blocks(sequence.computed + tokens);
            let missing = wanted.saturating_sub(sequence.blocks);
            while missing > self.free_blocks && at < self.running.len() {
                self.preempt_newest();
                preempted = true;
            }
            let Some(sequence) = self.running.get_mut(at) else { break };
            self.free_blocks -= missing;
            sequence.blocks += missing;
            sequence.scheduled = tokens;
            *budget -= tokens;
            at += 1;
        }
        preempted
    }

    /// Preempts the sequence admitted last: frees its blocks and moves it to the head of the queue.
    fn preempt_newest(&mut self) {
        if let Some(mut victim) = self.running.pop() {
            self.free_blocks += std::mem::take(&mut victim.blocks);
            victim.computed = 0;
            victim.scheduled = 0;
            self.stats.preemptions += 1;
            self.waiting.push_front(victim);
        }
    }

    /// Admits from the head of the queue while sequences, tokens and blocks for the whole prompt allow.
    fn admit(&mut self, now_us: u64, budget: &mut u32) {
        while self.running.len() < self.config.max_num_seqs as usize && *budget > 0 {
            let Some(head) = self.waiting.front() else { break };
            let blocks = self.config.blocks(head.tokens());
            if head.request.arrival_us > now_us || blocks > self.free_blocks {
                break;
            }
            let Some(mut sequence) = self.waiting.pop_front() else { break };
            self.free_blocks -= blocks;
            sequence.blocks = blocks;
            sequence.scheduled = sequence.pending().min(*budget);
            *budget -= sequence.scheduled;
            self.stats.prefix_cache_queries += u64::from(sequence.tokens());
            self.running.push(sequence);
        }
    }

    fn load(&self) -> StepLoad {
        let mut load = StepLoad::default();
        for sequence in self.running.iter().filter(|sequence| sequence.scheduled > 0) {
            let decoding = sequence.is_decoding();
            load.add(sequence.computed, sequence.scheduled, decoding, self.config.sliding_window);
        }
        load
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
