//! What the figures need of one request: instants and token counts in a fixed size, nothing on the heap.
//!
//! A row is what stays in memory of a request that has ended; its chunks stay on disk. Every per-request metric of the
//! summary is defined here.

use super::record::{CountSource, Outcome, Phase, RequestRecord, Usage, ms};

/// One request, 88 bytes. Instants are µs as in the record. Numbers of requests and of tokens, and the µs from the first
/// chunk to the second, are cut to what 32 bits hold: 4 billion, and 71 minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Intended arrival.
    pub scheduled_us: u64,
    /// Just before the request was handed to the HTTP client.
    pub sent_us: u64,
    /// End of the request.
    pub end_us: u64,
    first_us: u64,
    last_us: u64,
    first_output_us: u64,
    /// Number of the request within its phase.
    pub id: u32,
    second_after_us: u32,
    /// Prompt tokens.
    pub isl: u32,
    /// Generated tokens, reasoning included.
    pub osl: u32,
    /// Output tokens asked for.
    pub osl_requested: u32,
    prompt_tokens: u32,
    completion_tokens: u32,
    reasoning_tokens: u32,
    cached_tokens: u32,
    status: u16,
    flags: u16,
}

/// Two bits: no content chunk, one, or several.
const CHUNKS: u16 = 0b11;
const FIRST_OUTPUT: u16 = 1 << 2;
const USAGE: u16 = 1 << 3;
const REASONING: u16 = 1 << 4;
const CACHED: u16 = 1 << 5;
const WARMUP: u16 = 1 << 6;
/// Two bits each, see [`source`].
const ISL_SOURCE: u16 = 7;
const OSL_SOURCE: u16 = 9;
const COOL_DOWN: u16 = 1 << 11;
/// Four bits, see [`outcome_code`].
const OUTCOME: u16 = 12;

impl Row {
    /// The row of `record`.
    pub fn of(record: &RequestRecord) -> Self {
        let chunks = record.chunks_us.as_slice();
        let usage = record.usage;
        let (reasoning, cached) =
            (usage.and_then(|u| u.reasoning_tokens), usage.and_then(|u| u.cached_tokens));
        let bits = [
            (FIRST_OUTPUT, record.first_output_us.is_some()),
            (USAGE, usage.is_some()),
            (REASONING, reasoning.is_some()),
            (CACHED, cached.is_some()),
            (WARMUP, record.phase == Phase::Warmup),
            (COOL_DOWN, record.phase == Phase::CoolDown),
        ];
        let mut flags = chunks.len().min(2) as u16;
        flags |= bits.iter().filter(|(_, set)| *set).fold(0, |flags, (bit, _)| flags | bit);
        flags |= source_code(record.isl_source) << ISL_SOURCE | source_code(record.osl_source) << OSL_SOURCE;
        flags |= outcome_code(record.outcome) << OUTCOME;
        let status = match record.outcome {
            Outcome::Http(status) => status,
            _ => record.status.unwrap_or(0),
        };
        Self {
            scheduled_us: record.scheduled_us,
            sent_us: record.sent_us,
            end_us: record.end_us,
            first_us: chunks.first().copied().unwrap_or(0),
            last_us: chunks.last().copied().unwrap_or(0),
            first_output_us: record.first_output_us.unwrap_or(0),
            id: in_32_bits(record.id),
            second_after_us: in_32_bits(record.gaps_us().next().unwrap_or(0)),
            isl: in_32_bits(record.isl),
            osl: in_32_bits(record.osl),
            osl_requested: in_32_bits(record.osl_requested),
            prompt_tokens: in_32_bits(usage.map_or(0, |usage| usage.prompt_tokens)),
            completion_tokens: in_32_bits(usage.map_or(0, |usage| usage.completion_tokens)),
            reasoning_tokens: in_32_bits(reasoning.unwrap_or(0)),
            cached_tokens: in_32_bits(cached.unwrap_or(0)),
            status,
            flags,
        }
    }

    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Which part of the load point it belongs to.
    pub fn phase(&self) -> Phase {
        match (self.has(WARMUP), self.has(COOL_DOWN)) {
            (true, _) => Phase::Warmup,
            (_, true) => Phase::CoolDown,
            _ => Phase::Measure,
        }
    }

    /// How the request ended.
    pub fn outcome(&self) -> Outcome {
        match self.flags >> OUTCOME {
            0 => Outcome::Ok,
            1 => Outcome::Http(self.status),
            2 => Outcome::Connect,
            3 => Outcome::Timeout,
            4 => Outcome::Stalled,
            5 => Outcome::Disconnected,
            6 => Outcome::Malformed,
            7 => Outcome::Empty,
            8 => Outcome::ServerError,
            _ => Outcome::Cancelled,
        }
    }

    /// HTTP status, once there was one; that of the outcome when the outcome is a status.
    pub fn status(&self) -> Option<u16> {
        (self.status > 0).then_some(self.status)
    }

    /// Whether the request belongs to the measured window and ended well.
    pub fn counts(&self) -> bool {
        self.phase() == Phase::Measure && self.outcome() == Outcome::Ok
    }

    /// Whether there was a content chunk.
    pub fn has_content(&self) -> bool {
        self.has(CHUNKS)
    }

    /// Whether all content came in one chunk.
    pub fn in_one_chunk(&self) -> bool {
        self.flags & CHUNKS == 1
    }

    /// Arrival of the first content chunk.
    pub fn first_us(&self) -> Option<u64> {
        self.has_content().then_some(self.first_us)
    }

    /// Second content chunk − first, µs. `None` for fewer than two chunks.
    pub fn ttst_us(&self) -> Option<u64> {
        (self.flags & CHUNKS > 1).then_some(self.second_after_us.into())
    }

    /// Arrival of the last content chunk.
    pub fn last_us(&self) -> Option<u64> {
        self.has_content().then_some(self.last_us)
    }

    /// The server's own counts, when it sent them.
    pub fn usage(&self) -> Option<Usage> {
        self.has(USAGE).then(|| Usage {
            prompt_tokens: self.prompt_tokens.into(),
            completion_tokens: self.completion_tokens.into(),
            reasoning_tokens: self.has(REASONING).then_some(self.reasoning_tokens.into()),
            cached_tokens: self.has(CACHED).then_some(self.cached_tokens.into()),
        })
    }

    /// Where `isl` comes from.
    pub fn isl_source(&self) -> CountSource {
        source(self.flags >> ISL_SOURCE)
    }

    /// Where `osl` comes from.
    pub fn osl_source(&self) -> CountSource {
        source(self.flags >> OSL_SOURCE)
    }

    /// TTFT: first content chunk − sent, ms. `None` without content.
    pub fn ttft_ms(&self) -> Option<f64> {
        Some(ms(self.sent_us, self.first_us()?))
    }

    /// TTFO: first content chunk that is not reasoning − sent, ms. `None` when all was reasoning.
    pub fn ttfo_ms(&self) -> Option<f64> {
        self.has(FIRST_OUTPUT).then(|| ms(self.sent_us, self.first_output_us))
    }

    /// TTST: second content chunk − first, ms. `None` for fewer than two chunks.
    pub fn ttst_ms(&self) -> Option<f64> {
        Some(ms(0, self.ttst_us()?))
    }

    /// E2E latency: last content chunk − sent, ms. `None` without content.
    pub fn e2e_ms(&self) -> Option<f64> {
        Some(ms(self.sent_us, self.last_us()?))
    }

    /// First content chunk − intended arrival, ms. `None` without content.
    pub fn ttft_scheduled_ms(&self) -> Option<f64> {
        Some(ms(self.scheduled_us, self.first_us()?))
    }

    /// Last content chunk − intended arrival, ms. `None` without content.
    pub fn e2e_scheduled_ms(&self) -> Option<f64> {
        Some(ms(self.scheduled_us, self.last_us()?))
    }

    /// Sent − intended arrival, ms.
    pub fn schedule_lag_ms(&self) -> f64 {
        ms(self.scheduled_us, self.sent_us)
    }

    /// Decode duration: last content chunk − first, ms. `None` without content.
    pub fn decode_ms(&self) -> Option<f64> {
        Some(ms(self.first_us()?, self.last_us()?))
    }

    /// (E2E − TTFT) / (OSL − 1), ms; `None` for OSL < 2.
    pub fn itl_ms(&self) -> Option<f64> {
        let (ttft, e2e) = (self.ttft_ms()?, self.e2e_ms()?);
        (self.osl >= 2).then(|| (e2e - ttft) / f64::from(self.osl - 1))
    }

    /// Tokens per second for the one who waits: 1 / ITL. `None` without an ITL, or when it is 0.
    pub fn tokens_per_s(&self) -> Option<f64> {
        self.itl_ms().filter(|itl| *itl > 0.0).map(|itl| 1e3 / itl)
    }
}

fn in_32_bits(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn source_code(source: CountSource) -> u16 {
    match source {
        CountSource::Usage => 0,
        CountSource::Tokenizer => 1,
        CountSource::Approximate => 2,
    }
}

fn source(code: u16) -> CountSource {
    match code & 0b11 {
        0 => CountSource::Usage,
        1 => CountSource::Tokenizer,
        _ => CountSource::Approximate,
    }
}

fn outcome_code(outcome: Outcome) -> u16 {
    match outcome {
        Outcome::Ok => 0,
        Outcome::Http(_) => 1,
        Outcome::Connect => 2,
        Outcome::Timeout => 3,
        Outcome::Stalled => 4,
        Outcome::Disconnected => 5,
        Outcome::Malformed => 6,
        Outcome::Empty => 7,
        Outcome::ServerError => 8,
        Outcome::Cancelled => 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::samples::{any_record, failed, record};
    use proptest::prelude::*;

    #[test]
    fn a_request_stays_within_its_budget() {
        assert_eq!(size_of::<Row>(), 88);
    }

    #[test]
    fn worked_by_hand() {
        // TTFT 50 ms, then nine chunks every 10 ms; reasoning until the third.
        let mut one = record(3, 1_000_000);
        one.first_output_us = Some(one.chunks_us[2]);
        one.scheduled_us -= 7_000;
        let row = Row::of(&one);
        assert_eq!((row.ttft_ms(), row.ttfo_ms(), row.ttst_ms()), (Some(50.0), Some(70.0), Some(10.0)));
        assert_eq!((row.decode_ms(), row.e2e_ms(), row.itl_ms()), (Some(90.0), Some(140.0), Some(10.0)));
        assert_eq!((row.ttft_scheduled_ms(), row.e2e_scheduled_ms()), (Some(57.0), Some(147.0)));
        assert_eq!((row.schedule_lag_ms(), row.tokens_per_s()), (7.0, Some(100.0)));
        assert!(row.counts() && !row.in_one_chunk());
    }

    #[test]
    fn what_there_was_not_is_none() {
        let row = Row::of(&failed(0, 5, Outcome::Http(503)));
        assert_eq!((row.ttft_ms(), row.ttfo_ms(), row.ttst_ms(), row.e2e_ms()), (None, None, None, None));
        assert_eq!((row.decode_ms(), row.itl_ms(), row.tokens_per_s()), (None, None, None));
        assert_eq!((row.outcome(), row.status(), row.usage()), (Outcome::Http(503), Some(503), None));
        let one = RequestRecord { chunks_us: vec![9], first_output_us: None, ..record(0, 5) };
        let row = Row::of(&one);
        assert!(row.in_one_chunk());
        assert_eq!((row.ttst_ms(), row.ttfo_ms(), row.decode_ms()), (None, None, Some(0.0)));
    }

    #[test]
    fn every_outcome_comes_back() {
        use Outcome::*;
        for outcome in [
            Ok,
            Http(0),
            Http(429),
            Connect,
            Timeout,
            Stalled,
            Disconnected,
            Malformed,
            Empty,
            ServerError,
            Cancelled,
        ] {
            assert_eq!(Row::of(&failed(0, 0, outcome)).outcome(), outcome);
        }
    }

    proptest! {
        #[test]
        fn a_row_holds_what_the_record_held(record in any_record()) {
            let row = Row::of(&record);
            prop_assert_eq!((row.phase(), row.outcome()), (record.phase, record.outcome));
            prop_assert_eq!((row.isl_source(), row.osl_source()), (record.isl_source, record.osl_source));
            prop_assert_eq!(row.first_us(), record.chunks_us.first().copied());
            let second = record.gaps_us().next();
            prop_assert_eq!(row.ttst_us(), second.map(|after| after.min(u32::MAX.into())));
            prop_assert_eq!(row.last_us(), record.chunks_us.last().copied());
            prop_assert_eq!(row.ttfo_ms(), record.first_output_us.map(|at| ms(record.sent_us, at)));
            prop_assert_eq!(row.usage().is_some(), record.usage.is_some());
            let small = |usage: Usage| [Some(usage.prompt_tokens), usage.reasoning_tokens]
                .map(|count| count.map(|count| count.min(u32::MAX.into())));
            prop_assert_eq!(row.usage().map(small), record.usage.map(small));
        }
    }
}
