//! What the figures need of one request: instants and token counts in a fixed size, nothing on the heap.
//!
//! This is what stays in memory of a request that has ended; its chunks stay on disk. Every per-request metric of the
//! summary is defined here.

use super::record::{CountSource, Outcome, Phase, RequestRecord, ms};
use super::streamed::{self, Streamed};

/// One request, 96 bytes. Instants are µs as in the record. Numbers of requests, chunks and tokens, and the µs from the first
/// chunk to the second, are cut to what 32 bits hold: 4 billion, and 71 minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestFigures {
    /// Intended arrival.
    pub scheduled_us: u64,
    /// Just before the request was handed to the HTTP client.
    pub sent_us: u64,
    /// End of the request.
    pub end_us: u64,
    first_us: u64,
    last_us: u64,
    first_output_us: Option<u64>,
    /// Number of the request within its phase.
    pub id: u32,
    /// Content chunks.
    pub chunks: u32,
    second_after_us: u32,
    /// Prompt tokens.
    pub isl: u32,
    /// Generated tokens, reasoning included.
    pub osl: u32,
    /// Output tokens requested.
    pub osl_requested: u32,
    /// Tokens that were streamed after the first chunk; 0: not applicable.
    pub decoded: u32,
    /// How the request ended.
    pub outcome: Outcome,
    /// Which part of the load point it belongs to.
    pub phase: Phase,
    /// Where `isl` comes from.
    pub isl_source: CountSource,
    /// Where `osl` comes from.
    pub osl_source: CountSource,
    /// What of the answer was streamed.
    pub streamed: Streamed,
}

impl RequestFigures {
    /// The figures of `record`.
    pub fn of(record: &RequestRecord) -> Self {
        let chunks = record.chunks_us.as_slice();
        let (streamed, decoded) = streamed::of(record);
        Self {
            scheduled_us: record.scheduled_us,
            sent_us: record.sent_us,
            end_us: record.end_us,
            first_us: chunks.first().copied().unwrap_or(0),
            last_us: chunks.last().copied().unwrap_or(0),
            first_output_us: record.first_output_us,
            id: in_32_bits(record.id),
            chunks: in_32_bits(chunks.len() as u64),
            second_after_us: in_32_bits(record.gaps_us().next().unwrap_or(0)),
            isl: in_32_bits(record.isl),
            osl: in_32_bits(record.osl),
            osl_requested: in_32_bits(record.osl_requested),
            decoded: in_32_bits(decoded),
            outcome: record.outcome,
            phase: record.phase,
            isl_source: record.isl_source,
            osl_source: record.osl_source,
            streamed,
        }
    }

    /// Whether the request belongs to the measured window and ended well.
    pub fn counts(&self) -> bool {
        self.phase == Phase::Measure && self.outcome == Outcome::Ok
    }

    /// Whether a content chunk arrived.
    pub fn has_content(&self) -> bool {
        self.chunks > 0
    }

    /// Arrival of the first content chunk.
    pub fn first_us(&self) -> Option<u64> {
        self.has_content().then_some(self.first_us)
    }

    /// Second content chunk − first, µs. `None` for fewer than two chunks.
    pub fn ttst_us(&self) -> Option<u64> {
        (self.chunks > 1).then_some(self.second_after_us.into())
    }

    /// Arrival of the last content chunk.
    pub fn last_us(&self) -> Option<u64> {
        self.has_content().then_some(self.last_us)
    }

    /// TTFT: first content chunk − sent, ms. `None` without content.
    pub fn ttft_ms(&self) -> Option<f64> {
        Some(ms(self.sent_us, self.first_us()?))
    }

    /// TTFO: first content chunk that is not reasoning − sent, ms. `None` when all was reasoning.
    pub fn ttfo_ms(&self) -> Option<f64> {
        Some(ms(self.sent_us, self.first_output_us?))
    }

    /// TTST: second content chunk − first, ms. `None` for fewer than two chunks.
    pub fn ttst_ms(&self) -> Option<f64> {
        Some(ms(0, self.ttst_us()?))
    }

    /// E2E latency: last content chunk − sent, ms. `None` without content.
    pub fn e2e_ms(&self) -> Option<f64> {
        Some(ms(self.sent_us, self.last_us()?))
    }

    /// E2E latency ÷ OSL, ms per output token: what a token costs the one who waits, the wait for the first one included. `None`
    /// without content or tokens.
    pub fn e2e_per_token_ms(&self) -> Option<f64> {
        self.e2e_ms().filter(|_| self.osl > 0).map(|e2e| e2e / f64::from(self.osl))
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

    /// Decode duration: last content chunk − first, ms. `None` without content, or when the answer was not streamed as it
    /// was generated.
    pub fn decode_ms(&self) -> Option<f64> {
        self.span_ms().filter(|_| self.has_pace())
    }

    /// Whether the answer was streamed as it was generated, so that the time between its tokens means anything.
    pub fn has_pace(&self) -> bool {
        matches!(self.streamed, Streamed::All | Streamed::WithoutReasoning | Streamed::BehindFirst)
    }

    /// (E2E − TTFT) / (OSL − 1) over the tokens that were streamed, ms; `None` for fewer than two of them.
    pub fn itl_ms(&self) -> Option<f64> {
        let (ttft, e2e) = (self.ttft_ms()?, self.e2e_ms()?);
        (self.decoded > 0).then(|| (e2e - ttft) / f64::from(self.decoded))
    }

    /// Whether no answer of two tokens or more was streamed as it was generated: ITL is not applicable at all. Other tools do not
    /// know this; their files have no ITL then, and their own one in any other case.
    pub fn none_has_pace<'a>(answers: impl Iterator<Item = &'a Self>) -> bool {
        let mut long = answers.filter(|answer| answer.osl >= 2).peekable();
        long.peek().is_some() && long.all(|answer| !answer.has_pace())
    }

    /// Last content chunk − first, ms, whatever was streamed between them. `None` without content.
    pub fn span_ms(&self) -> Option<f64> {
        Some(ms(self.first_us()?, self.last_us()?))
    }

    /// The same as ITL over all tokens, streamed or not, as AIPerf defines it; `None` for OSL < 2.
    pub fn itl_of_all_ms(&self) -> Option<f64> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{any_record, failed, record};
    use proptest::prelude::*;

    #[test]
    fn a_request_stays_within_its_budget() {
        assert_eq!(size_of::<RequestFigures>(), 96);
    }

    #[test]
    fn worked_by_hand() {
        // TTFT 50 ms, then nine chunks every 10 ms; reasoning until the third.
        let mut one = record(3, 1_000_000);
        one.first_output_us = Some(one.chunks_us[2]);
        one.scheduled_us -= 7_000;
        let request = RequestFigures::of(&one);
        assert_eq!(
            (request.ttft_ms(), request.ttfo_ms(), request.ttst_ms()),
            (Some(50.0), Some(70.0), Some(10.0))
        );
        assert_eq!(
            (request.decode_ms(), request.e2e_ms(), request.itl_ms()),
            (Some(90.0), Some(140.0), Some(10.0))
        );
        assert_eq!((request.ttft_scheduled_ms(), request.e2e_scheduled_ms()), (Some(57.0), Some(147.0)));
        assert_eq!(request.e2e_per_token_ms(), Some(14.0), "140 ms for ten tokens");
        assert_eq!((request.schedule_lag_ms(), request.tokens_per_s()), (7.0, Some(100.0)));
        assert!(request.counts());
    }

    #[test]
    fn what_there_was_not_is_none() {
        let request = RequestFigures::of(&failed(0, 5, Outcome::Http(503)));
        assert_eq!(
            (request.ttft_ms(), request.ttfo_ms(), request.ttst_ms(), request.e2e_ms()),
            (None, None, None, None)
        );
        assert_eq!((request.decode_ms(), request.itl_ms(), request.tokens_per_s()), (None, None, None));
        let one = RequestRecord { chunks_us: vec![9], first_output_us: None, ..record(0, 5) };
        let request = RequestFigures::of(&one);
        assert_eq!(request.chunks, 1);
        assert_eq!((request.ttst_ms(), request.ttfo_ms(), request.span_ms()), (None, None, Some(0.0)));
        assert_eq!((request.decode_ms(), request.itl_ms()), (None, None), "ten tokens at once");
    }

    proptest! {
        #[test]
        fn a_row_holds_what_the_record_held(record in any_record()) {
            let request = RequestFigures::of(&record);
            prop_assert_eq!(request.first_us(), record.chunks_us.first().copied());
            let second = record.gaps_us().next();
            prop_assert_eq!(request.ttst_us(), second.map(|after| after.min(u32::MAX.into())));
            prop_assert_eq!(request.last_us(), record.chunks_us.last().copied());
            prop_assert_eq!(request.ttfo_ms(), record.first_output_us.map(|at| ms(record.sent_us, at)));
        }
    }
}
