//! How many tokens of an answer were streamed behind its first chunk: what ITL, decode time and tok/s/user are divided by.
//!
//! A server may count tokens that it never streams, such as hidden reasoning, or hold an answer back and send it at once.
//! Neither was decoded while chunks came. Several tokens in a chunk are fine (speculative decoding, a stream interval):
//! they are spread over the answer, unless the first chunk holds a large part of it.

use super::record::{CountSource, RequestRecord, ms};

/// No server decodes a token of one answer in less, µs: the fastest need three times as long.
pub const FASTEST_US: u64 = 100;
/// Chunks this close to the first came with it, µs: less than a decode step.
pub const WITH_FIRST_US: u64 = 1_000;
/// An answer of so many tokens in one chunk was held back on its way; shorter ones may well fit in one chunk.
pub const HELD_MIN_TOKENS: u64 = 8;
/// Text of a token is four bytes long on average; an answer with more than this a token holds tokens that are not visible ones.
const MOST_BYTES: u64 = 8;
/// GPUs decode a token of one answer faster than this only with speculation, µs.
const FAST_US: u64 = 1_000;
/// Faster than the servers that hold several tokens back for a chunk: these are under load, µs.
const STEPS_FAST_US: u64 = 2_500;
/// Tokens a chunk from which on chunks are steps of a buffer or of a stream interval.
const STEP_TOKENS: u64 = 4;
/// A first chunk with more than this part of the tokens, and with [`HELD_MIN_TOKENS`] or more, would distort the pace of the others.
const LARGE_FIRST: u64 = 10;
/// A silence before two chunks that is this many times longer than the time between them.
const LONG_SILENCE: u64 = 4;

/// What of an answer was streamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streamed {
    /// All tokens, as they were generated.
    All,
    /// All but the reasoning tokens that `usage` counts.
    WithoutReasoning,
    /// Fewer tokens than `usage` counts; how many is not known.
    InPart,
    /// All tokens; many of them came with the first chunk, so that only the others have a pace.
    BehindFirst,
    /// All tokens at once, or nearly.
    AtOnce,
}

/// What was streamed of the answer, and how many of its tokens came after the first chunk; 0 when that is not known, or
/// when none did.
pub(super) fn of(record: &RequestRecord) -> (Streamed, u64) {
    let (chunks, first) = (record.chunks_us.len() as u64, record.chunks_us.first().copied().unwrap_or(0));
    if chunks < 2 {
        return (if chunks == 1 && record.osl > 1 { Streamed::AtOnce } else { Streamed::All }, 0);
    }
    let Some((visible, hides)) = visible(record) else { return (Streamed::InPart, 0) };
    let span_us = record.chunks_us.last().map_or(0, |last| last.saturating_sub(first));
    let near_us = WITH_FIRST_US.min(span_us / (chunks - 1) / 2);
    let with_first =
        record.chunks_us.iter().take_while(|at| at.saturating_sub(first) <= near_us).count() as u64;
    let silence_us = first.saturating_sub(record.sent_us);
    // What was held back was decoded before. Shorter answers may come in one read of a busy client.
    let may_be_held = visible >= HELD_MIN_TOKENS && silence_us >= FASTEST_US.saturating_mul(visible);
    let first_tokens = with_first_tokens(record, visible, with_first);
    let is_large =
        may_be_held && first_tokens >= HELD_MIN_TOKENS && first_tokens.saturating_mul(LARGE_FIRST) > visible;
    let decoded = visible.saturating_sub(if is_large { first_tokens } else { 1 });
    let all_first = is_large && decoded.saturating_mul(LARGE_FIRST) < visible;
    let held = all_first || with_first > 1 && 2 * with_first >= chunks;
    let late =
        chunks == 2 && visible >= 2 * HELD_MIN_TOKENS && silence_us > span_us.saturating_mul(LONG_SILENCE);
    let too_fast = span_us < FASTEST_US.saturating_mul(decoded);
    let in_steps = !hides && comes_in_steps(record, visible, [silence_us, span_us]);
    match () {
        () if may_be_held && (held || late || too_fast || in_steps) => (Streamed::AtOnce, 0),
        () if hides => (Streamed::WithoutReasoning, decoded),
        () if is_large => (Streamed::BehindFirst, decoded),
        () => (Streamed::All, decoded),
    }
}

/// Tokens that came with the first of the chunks, by its share of the text and by the number of chunks at its instant.
fn with_first_tokens(record: &RequestRecord, tokens: u64, with_first: u64) -> u64 {
    let part = |some: u64, all: u64| {
        let tokens = u128::from(tokens) * u128::from(some) / u128::from(all.max(1));
        u64::try_from(tokens).unwrap_or(u64::MAX)
    };
    let by_text = part(record.first_text_bytes.unwrap_or(0), record.text_bytes.unwrap_or(0));
    let by_count = if with_first > 1 { part(with_first, record.chunks_us.len() as u64) } else { 0 };
    by_text.max(by_count).min(tokens)
}

/// Whether a buffer was emptied in steps: a long silence, then few chunks at a pace that no server decodes at, and at which its
/// prefill would have taken less than the silence. A token of a prompt takes no longer than one of an answer.
fn comes_in_steps(record: &RequestRecord, tokens: u64, [silence_us, span_us]: [u64; 2]) -> bool {
    let (chunks, decoded) = (record.chunks_us.len() as u64, tokens.saturating_sub(1));
    let is_step = tokens >= STEP_TOKENS.saturating_mul(chunks);
    let fast_us = if is_step { STEPS_FAST_US } else { FAST_US };
    let prefill_us =
        u128::from(span_us) * u128::from(record.isl.saturating_add(1)) / u128::from(decoded.max(1));
    chunks > 2
        && tokens >= 2 * HELD_MIN_TOKENS
        && silence_us > span_us.saturating_mul(LONG_SILENCE)
        && span_us < fast_us.saturating_mul(decoded)
        && u128::from(silence_us) > prefill_us
}

/// Tokens that were streamed, and whether reasoning was not; `None` when their number is not known.
fn visible(record: &RequestRecord) -> Option<(u64, bool)> {
    let Some(usage) = record.usage.filter(|_| record.osl_source == CountSource::Usage) else {
        return Some((record.osl, false));
    };
    let (chunks, bytes) = (record.chunks_us.len() as u64, record.text_bytes.unwrap_or(0));
    let reasoning = usage.reasoning_tokens.unwrap_or(0);
    let without = record.osl.saturating_sub(reasoning);
    // Reasoning that comes as plain text, or that `completion_tokens` leaves out, shows in the chunks or in their text.
    let hides = reasoning > 0
        && record.first_output_us.is_some()
        && record.first_output_us == record.chunks_us.first().copied()
        && chunks <= without
        && bytes <= without.saturating_mul(MOST_BYTES);
    let visible = if hides { without } else { record.osl };
    let is_short = visible < HELD_MIN_TOKENS;
    let known = (hides || record.unknown_content.is_none())
        && (is_short || !(has_less_text(bytes, visible) || ends_in_silence(record, visible)));
    known.then_some((visible, hides))
}

/// Whether the text is too short for its tokens: each has a byte or more. An answer without any text may be an image.
fn has_less_text(bytes: u64, tokens: u64) -> bool {
    bytes > 0 && bytes < tokens
}

/// Whether tokens without text followed the last chunk, such as a special token repeated up to the length asked for.
fn ends_in_silence(record: &RequestRecord, tokens: u64) -> bool {
    let (Some(first), Some(last)) = (record.chunks_us.first(), record.chunks_us.last()) else { return false };
    let silence_us = record.end_us.saturating_sub(*last);
    let longest_us = record.gaps_us().max().unwrap_or(u64::MAX);
    let several_a_chunk = tokens - tokens / 5 > record.chunks_us.len() as u64;
    several_a_chunk
        && silence_us > longest_us.saturating_mul(LONG_SILENCE)
        && 4.0 * ms(*last, record.end_us) > ms(*first, record.end_us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::record;
    use crate::metrics::record::Usage;
    use crate::metrics::request_figures::RequestFigures;

    /// `tokens` by `usage`, of which `reasoning`; chunks at these ms after the send, four bytes each.
    fn answer(
        tokens: u64,
        reasoning: Option<u64>,
        chunks_ms: impl IntoIterator<Item = f64>,
    ) -> RequestRecord {
        let mut one = record(0, 1_000_000);
        one.chunks_us = chunks_ms.into_iter().map(|at| one.sent_us + (at * 1e3) as u64).collect();
        one.first_output_us = one.chunks_us.first().copied();
        one.end_us = one.chunks_us.last().copied().unwrap_or(0) + 1_000;
        one.text_bytes = Some(4 * one.chunks_us.len() as u64);
        (one.osl, one.osl_requested) = (tokens, tokens);
        let usage = Usage { completion_tokens: tokens, reasoning_tokens: reasoning, ..one.usage.unwrap() };
        RequestRecord { usage: Some(usage), ..one }
    }

    /// `count` chunks from `start` ms on, `gap` ms apart.
    fn every(start: f64, gap: f64, count: u32) -> impl Iterator<Item = f64> {
        (0..count).map(move |chunk| start + gap * f64::from(chunk))
    }

    fn expect(record: &RequestRecord, streamed: Streamed, itl_ms: Option<f64>) {
        let figures = RequestFigures::of(record);
        assert_eq!((figures.streamed, figures.itl_ms()), (streamed, itl_ms));
        assert_eq!(figures.decode_ms().is_some(), itl_ms.is_some());
    }

    #[test]
    fn hidden_reasoning_is_not_decoded_after_the_first_chunk() {
        expect(&answer(208, Some(200), every(400.0, 10.0, 8)), Streamed::WithoutReasoning, Some(10.0));
        // The same without the detail: eight chunks of four bytes do not hold 208 tokens.
        expect(&answer(208, None, every(400.0, 10.0, 8)), Streamed::InPart, None);
        // Several tokens in each visible chunk.
        let packed = RequestRecord { text_bytes: Some(320), ..answer(281, Some(200), every(400.0, 10.0, 9)) };
        expect(&packed, Streamed::WithoutReasoning, Some(1.0));
        // Nothing visible that could have a pace.
        expect(&answer(201, Some(200), [400.0]), Streamed::AtOnce, None);
    }

    #[test]
    fn reasoning_that_is_streamed_is_visible() {
        // Under a name of its own: the first output comes later.
        let mut own = answer(100, Some(90), every(50.0, 10.0, 100));
        own.first_output_us = own.chunks_us.get(90).copied();
        expect(&own, Streamed::All, Some(10.0));
        own.first_output_us = None;
        expect(&own, Streamed::All, Some(10.0));
        // As plain text, one token a chunk and ten.
        expect(&answer(100, Some(90), every(50.0, 10.0, 100)), Streamed::All, Some(10.0));
        let mut packed = answer(991, Some(900), every(50.0, 100.0, 100));
        (packed.osl, packed.text_bytes) = (991, Some(4_000));
        expect(&packed, Streamed::All, Some(10.0));
        // Left out of `completion_tokens`.
        expect(&answer(10, Some(500), every(50.0, 10.0, 10)), Streamed::All, Some(10.0));
        expect(&answer(100, Some(50), every(50.0, 10.0, 100)), Streamed::All, Some(10.0));
    }

    #[test]
    fn several_tokens_a_chunk_are_legitimate() {
        let packed = |tokens, bytes, chunks: &mut dyn Iterator<Item = f64>| RequestRecord {
            text_bytes: Some(bytes),
            ..answer(tokens, None, chunks)
        };
        // Speculative decoding, three a chunk; a stream interval of 20 behind a long prefill; 50 of two bytes each.
        expect(&packed(31, 120, &mut every(20.0, 15.0, 11)), Streamed::All, Some(5.0));
        expect(&packed(101, 400, &mut every(3_000.0, 200.0, 6)), Streamed::All, Some(10.0));
        expect(&packed(201, 402, &mut every(50.0, 100.0, 5)), Streamed::All, Some(2.0));
        // A chunk, then the rest: the pace is the mean.
        expect(&packed(101, 400, &mut [50.0, 1_050.0].into_iter()), Streamed::All, Some(10.0));
        // Two events in a read now and then, and records of earlier versions.
        let mut paired = packed(40, 160, &mut every(50.0, 10.0, 40));
        paired.chunks_us[1] = paired.chunks_us[0];
        expect(&paired, Streamed::All, Some(10.0));
        paired.text_bytes = None;
        expect(&paired, Streamed::All, Some(10.0));
        // No text to count: images.
        expect(&packed(100, 0, &mut every(50.0, 10.0, 100)), Streamed::All, Some(10.0));
    }

    #[test]
    fn an_answer_that_was_held_back_has_no_pace() {
        expect(&answer(128, None, [1_300.0]), Streamed::AtOnce, None);
        expect(
            &RequestRecord { text_bytes: None, ..answer(128, None, [1_300.0, 1_320.0]) },
            Streamed::AtOnce,
            None,
        );
        // 128 chunks in 4 ms; half of the chunks at the first instant.
        expect(&answer(128, None, every(1_300.0, 0.03, 128)), Streamed::AtOnce, None);
        let halves = every(640.0, 0.01, 64).chain(every(1_280.0, 0.01, 64));
        expect(&answer(128, None, halves), Streamed::AtOnce, None);
        // 128 tokens in four, eight and 128 chunks behind a silence of 1.3 s: 0.5, 1.1 and 0.5 ms a token.
        for (gap, chunks) in [(20.0, 4), (20.0, 8), (0.5, 128)] {
            let steps = answer(128, None, every(1_300.0, gap, chunks));
            expect(&RequestRecord { text_bytes: Some(512), ..steps }, Streamed::AtOnce, None);
        }
        // Faster than any server, but nothing can have been held back: a simulated one.
        expect(&answer(100, None, every(2.0, 0.05, 101)), Streamed::All, Some(5.0 / 99.0));
    }

    #[test]
    fn what_came_with_the_first_chunk_was_not_decoded_after_it() {
        let of = |first, bytes, record| RequestRecord {
            first_text_bytes: Some(first),
            text_bytes: Some(bytes),
            ..record
        };
        // Two chunks of 100 tokens each: 100 ms for the second hundred.
        let two = of(400, 800, answer(200, None, [100.0, 200.0]));
        expect(&two, Streamed::BehindFirst, Some(1.0));
        // 150 tokens in the first chunk, then 50, one every 5 ms.
        let late = of(600, 800, answer(200, None, every(400.0, 5.0, 51)));
        expect(&late, Streamed::BehindFirst, Some(5.0));
        // The first 40 of 100 chunks at one instant.
        let flushed = (0..40).map(|_| 400.0).chain(every(405.0, 5.0, 60));
        expect(&of(4, 400, answer(100, None, flushed)), Streamed::BehindFirst, Some(5.0));
        // All but four tokens of 100 in the first chunk are an answer at once.
        expect(&of(384, 400, answer(100, None, every(400.0, 5.0, 5))), Streamed::AtOnce, None);
        // 100 tokens within 2 ms were not decoded in them: a busy client, or a simulated server.
        expect(&of(400, 800, answer(200, None, [2.0, 102.0])), Streamed::All, Some(100.0 / 199.0));
        // A first chunk like the others, or of seven tokens, is no distortion.
        expect(&of(12, 120, answer(31, None, every(20.0, 15.0, 11))), Streamed::All, Some(5.0));
        expect(&of(28, 84, answer(21, None, every(50.0, 10.0, 3))), Streamed::All, Some(1.0));
    }

    #[test]
    fn text_under_an_unknown_key_is_not_decoded_after_the_first_chunk() {
        let thoughts = |reasoning| RequestRecord {
            unknown_content: Some("delta.thoughts".to_owned()),
            ..answer(16, reasoning, every(400.0, 10.0, 8))
        };
        expect(&thoughts(None), Streamed::InPart, None);
        expect(&thoughts(Some(8)), Streamed::WithoutReasoning, Some(10.0));
    }

    #[test]
    fn a_long_prefill_is_no_buffer() {
        let of = |isl, packed: (u64, f64, f64, u32)| {
            let (tokens, start, gap, chunks) = packed;
            let bytes = Some(4 * tokens);
            RequestRecord { isl, text_bytes: bytes, ..answer(tokens, None, every(start, gap, chunks)) }
        };
        // A stream interval of 10 behind 4 s of prefill or queue, at 10 and at 4 ms a token.
        expect(&of(100, (101, 4_000.0, 100.0, 11)), Streamed::All, Some(10.0));
        expect(&of(100, (101, 4_000.0, 40.0, 11)), Streamed::All, Some(4.0));
        // A small and fast model, 2 ms a token, 10 tokens a chunk: 32,000 tokens of prompt take 1.5 s, 100 do not.
        expect(&of(32_000, (101, 1_500.0, 20.0, 11)), Streamed::All, Some(2.0));
        expect(&of(100, (101, 1_500.0, 20.0, 11)), Streamed::AtOnce, None);
        // Token by token at 2 ms behind a queue.
        expect(&of(100, (101, 9_000.0, 2.0, 101)), Streamed::All, Some(2.0));
        // Speculation at 0.8 ms a token behind a prefill of 0.3 s.
        expect(&of(1_000, (101, 300.0, 4.0, 21)), Streamed::All, Some(0.8));
    }

    #[test]
    fn tokens_after_the_last_chunk_are_not_decoded_before_it() {
        // 300 tokens with text, then 700 end tokens without: `usage` says 1000.
        let mut padded = answer(1_000, None, every(50.0, 10.0, 300));
        padded.end_us = padded.sent_us + 10_050_000;
        expect(&padded, Streamed::InPart, None);
        // A late end with every token seen is only a late end.
        (padded.osl, padded.text_bytes) = (300, Some(1_200));
        expect(&padded, Streamed::All, Some(10.0));
    }

    #[test]
    fn without_a_count_by_the_server_the_text_is_what_was_counted() {
        let counted = RequestRecord {
            osl_source: CountSource::Tokenizer,
            ..answer(8, Some(200), every(400.0, 10.0, 8))
        };
        expect(&counted, Streamed::All, Some(10.0));
    }
}
