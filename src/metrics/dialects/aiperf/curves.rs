//! AIPerf's sweep-line curves: how many requests, tokens and tokens per second were in flight at each instant, and their
//! time-weighted statistics.
//!
//! A port of AIPerf 0.13 `analysis/sweepline.py`, `sweepline_kv_cache.py` and `sweepline_stats.py`, on µs instead of ns.
//! AIPerf holds wall-clock ns in an f64, which rounds instants to 256 ns; ours are exact.
//!
//! AIPerf builds every curve as arrays. Here the instants at which anything changes are sorted once, those of requests and
//! those of chunks apart, and a sweep over them gives every level at every instant; a figure is another sweep.

use super::weighted::Weighted;

/// One request as the curves see it; instants in µs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub start: f64,
    /// Arrival of the first token; `None` for failed requests and without streaming.
    pub first: Option<f64>,
    pub end: f64,
    pub isl: f64,
    pub osl: f64,
}

/// The arrivals of all content chunks of the spans that have a first token, µs.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    at: Vec<u64>,
    /// By span: where in `at` its chunks end, and how many gaps between them take any time.
    ends: Vec<(usize, u32)>,
}

impl Chunks {
    /// Takes the chunks of the next span; none where it has no first token.
    pub(super) fn push(&mut self, chunks: &[u64]) {
        let gaps = chunks.iter().zip(chunks.iter().skip(1)).filter(|(before, after)| after > before);
        let gaps = u32::try_from(gaps.count()).unwrap_or(u32::MAX);
        self.at.extend_from_slice(chunks);
        self.ends.push((self.at.len(), gaps));
    }

    fn of(&self, span: u32) -> &[u64] {
        let end = |span: usize| self.ends.get(span).map_or(self.at.len(), |(end, _)| *end);
        let start = (span as usize).checked_sub(1).map_or(0, end);
        self.at.get(start..end(span as usize)).unwrap_or_default()
    }

    fn gaps_of(&self, span: u32) -> u32 {
        self.ends.get(span as usize).map_or(0, |(_, gaps)| *gaps)
    }
}

/// Residues of cancelling rates below this part of the peak are rounding, not load.
const ROUNDING: f64 = 1e-9;

/// Above so many chunk gaps the curves use request-level timing: AIPerf has the same fallback for runs whose chunks do not
/// fit its memory (`LIST_BACKEND=tdigest`), and every chunk is 56 bytes here: its instant, its moment, its part of a curve.
pub(super) const MAX_GAPS: u64 = 4_000_000;

/// The levels of all curves at one instant. Rates are per µs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Levels {
    pub concurrency: f64,
    pub decode_concurrency: f64,
    pub prefill_concurrency: f64,
    pub decode_rate: f64,
    pub prefill_rate: f64,
    pub total_rate: f64,
    pub tokens_in_flight: f64,
}

impl Levels {
    fn each(&mut self, other: &Self, change: impl Fn(&mut f64, f64)) {
        change(&mut self.concurrency, other.concurrency);
        change(&mut self.decode_concurrency, other.decode_concurrency);
        change(&mut self.prefill_concurrency, other.prefill_concurrency);
        change(&mut self.decode_rate, other.decode_rate);
        change(&mut self.prefill_rate, other.prefill_rate);
        change(&mut self.total_rate, other.total_rate);
        change(&mut self.tokens_in_flight, other.tokens_in_flight);
    }

    /// `decode_rate` by the users present, 0 where there are none (`divide_step_functions`).
    pub(super) fn decode_rate_per_user(&self) -> f64 {
        per(self.decode_rate, self.decode_concurrency)
    }

    /// `prefill_rate` by the users present.
    pub(super) fn prefill_rate_per_user(&self) -> f64 {
        per(self.prefill_rate, self.prefill_concurrency)
    }
}

fn per(amount: f64, users: f64) -> f64 {
    if users > 0.0 { amount / users } else { 0.0 }
}

/// What happens to a request at a moment.
#[derive(Debug, Clone, Copy)]
enum What {
    Start,
    First,
    End,
}

#[derive(Debug, Clone, Copy)]
struct Moment {
    at: f64,
    span: u32,
    what: What,
}

/// What a chunk changes when it arrives.
#[derive(Debug, Clone, Copy)]
struct ChunkChange {
    at: f64,
    decode_rate: f64,
    tokens_in_flight: f64,
}

/// The levels that follow every chunk, from an instant on.
#[derive(Debug, Clone, Copy)]
struct ChunkLevels {
    at: f64,
    decode_rate: f64,
    decode_concurrency: f64,
    tokens_in_flight: f64,
}

/// Everything that changes a level, in order. `F` gives the span of a number.
pub(super) struct Timeline<'a, F> {
    span: F,
    /// With them, decode rate and tokens in flight follow every chunk; without, first tokens and ends alone.
    chunks: Option<&'a Chunks>,
    moments: Vec<Moment>,
    by_chunk: Vec<ChunkLevels>,
    /// What lies below is rounding.
    least: Levels,
}

impl<'a, F: Fn(u32) -> Span> Timeline<'a, F> {
    /// The timeline of the spans numbered from 0 to `count`.
    pub(super) fn new(count: u32, span: F, chunks: Option<&'a Chunks>) -> Self {
        let mut moments = Vec::with_capacity(3 * count as usize);
        let mut changes = Vec::with_capacity(chunks.map_or(0, |chunks| chunks.at.len()));
        for number in 0..count {
            let of = span(number);
            let mut add = |what, at| moments.push(Moment { at, span: number, what });
            add(What::Start, of.start);
            if let Some(first) = of.first {
                add(What::First, first);
            }
            add(What::End, of.end);
            if let Some(chunks) = chunks {
                add_changes(&mut changes, &of, chunks.of(number), chunks.gaps_of(number));
            }
        }
        moments.sort_by(|a, b| a.at.total_cmp(&b.at));
        let (by_chunk, least) = (Vec::with_capacity(changes.len()), Levels::default());
        let mut timeline = Self { span, chunks, moments, by_chunk, least };
        timeline.merge(&in_order(&changes));
        timeline
    }

    /// Works out the levels that follow the chunks, and how large each level gets.
    fn merge(&mut self, changes: &[ChunkChange]) {
        let (mut levels, mut peaks, mut by_chunk) =
            (Levels::default(), Levels::default(), std::mem::take(&mut self.by_chunk));
        let (mut moments, mut changes) = (self.moments.iter().peekable(), changes.iter().peekable());
        loop {
            let at = match (moments.peek(), changes.peek()) {
                (None, None) => break,
                (Some(moment), None) => moment.at,
                (None, Some(change)) => change.at,
                (Some(moment), Some(change)) => moment.at.min(change.at),
            };
            while let Some(moment) = moments.next_if(|moment| moment.at <= at) {
                self.apply(moment, &mut levels);
            }
            while let Some(change) = changes.next_if(|change| change.at <= at) {
                levels.decode_rate += change.decode_rate;
                levels.tokens_in_flight += change.tokens_in_flight;
            }
            peaks.each(&levels, |peak, level| *peak = peak.max(level.abs()));
            if self.chunks.is_some() {
                let Levels { decode_rate, decode_concurrency, tokens_in_flight, .. } = levels;
                by_chunk.push(ChunkLevels { at, decode_rate, decode_concurrency, tokens_in_flight });
            }
        }
        self.least.each(&peaks, |least, peak| *least = ROUNDING * peak);
        for levels in &mut by_chunk {
            if levels.decode_rate.abs() < self.least.decode_rate {
                levels.decode_rate = 0.0;
            }
            if levels.tokens_in_flight.abs() < self.least.tokens_in_flight {
                levels.tokens_in_flight = 0.0;
            }
        }
        self.by_chunk = by_chunk;
    }

    fn chunks(&self, span: u32) -> &[u64] {
        self.chunks.map_or(&[], |chunks| chunks.of(span))
    }

    /// Values and durations of what follows every chunk, over the parts of the window that are active.
    fn chunk_parts(
        &self,
        (from, to): (f64, f64),
        value: impl Fn(&Levels) -> f64,
        active: impl Fn(&Levels) -> bool,
    ) -> Vec<(f64, f64)> {
        let mut parts = Vec::with_capacity(self.by_chunk.len() + 1);
        let mut part = |since: f64, until: f64, levels: &Levels| {
            let duration = until.min(to) - since.max(from);
            if duration > 0.0 && active(levels) {
                parts.push((value(levels), duration));
            }
        };
        let first = self.by_chunk.first().map_or(to, |first| first.at);
        part(from, first, &Levels::default());
        let ends = self.by_chunk.iter().skip(1).map(|next| next.at).chain([to]);
        for (levels, end) in self.by_chunk.iter().zip(ends) {
            let ChunkLevels { at, decode_rate, decode_concurrency, tokens_in_flight } = *levels;
            let levels = Levels { decode_rate, decode_concurrency, tokens_in_flight, ..Levels::default() };
            part(at, end, &levels);
        }
        parts
    }

    /// Shows the levels from each instant on at which any of them changes, in order.
    fn sweep(&self, mut see: impl FnMut(f64, &Levels)) {
        let mut levels = Levels::default();
        let mut moments = self.moments.iter().peekable();
        while let Some(moment) = moments.next() {
            self.apply(moment, &mut levels);
            if moments.peek().is_none_or(|next| next.at > moment.at) {
                see(moment.at, &levels);
            }
        }
    }

    fn apply(&self, moment: &Moment, levels: &mut Levels) {
        let of = (self.span)(moment.span);
        let by_chunk = self.chunks.is_some();
        match moment.what {
            What::Start => {
                levels.concurrency += 1.0;
                if let Some(first) = of.first {
                    levels.prefill_concurrency += 1.0;
                    let rate = rate(of.start, first, of.isl);
                    levels.prefill_rate += rate;
                    levels.total_rate += rate;
                    levels.tokens_in_flight += of.prompt_held();
                }
            }
            What::First => {
                levels.decode_concurrency += 1.0;
                levels.prefill_concurrency -= 1.0;
                let prefill = rate(of.start, of.first.unwrap_or(of.end), of.isl);
                levels.prefill_rate -= prefill;
                levels.total_rate += of.decode_rate() - prefill;
                if !by_chunk {
                    levels.decode_rate += of.decode_rate();
                    levels.tokens_in_flight += of.output_held();
                } else if self.arrives_by_chunk(moment.span, &of) {
                    levels.tokens_in_flight += 1.0;
                }
            }
            What::End => {
                levels.concurrency -= 1.0;
                if of.first.is_some() {
                    levels.decode_concurrency -= 1.0;
                    levels.total_rate -= of.decode_rate();
                    levels.tokens_in_flight -= of.prompt_held();
                    if !by_chunk {
                        levels.decode_rate -= of.decode_rate();
                        levels.tokens_in_flight -= of.output_held();
                    } else if self.arrives_by_chunk(moment.span, &of) {
                        levels.tokens_in_flight -= of.osl;
                    }
                }
            }
        }
    }

    /// Output tokens arrive chunk by chunk: one with the first, the others evenly over the rest
    /// (`tokens_in_flight_sweep_line_icl`).
    fn arrives_by_chunk(&self, span: u32, of: &Span) -> bool {
        of.osl >= 1.0 && self.chunks(span).len() > 1
    }

    /// Statistics over `window`, weighted by time (`compute_time_weighted_stats`); all zero when nothing is in it. `by_chunk`:
    /// the value depends on decode rate or tokens in flight.
    pub(super) fn over(
        &self,
        window: (f64, f64),
        by_chunk: bool,
        value: impl Fn(&Levels) -> f64,
    ) -> Weighted {
        self.while_active(window, by_chunk, value, |_| true)
    }

    /// The same over the parts of `window` that are `active` (`compute_active_weighted_stats`).
    pub(super) fn while_active(
        &self,
        (from, to): (f64, f64),
        by_chunk: bool,
        value: impl Fn(&Levels) -> f64,
        active: impl Fn(&Levels) -> bool,
    ) -> Weighted {
        if self.moments.is_empty() || to <= from {
            return Weighted::default();
        }
        if by_chunk && self.chunks.is_some() {
            return Weighted::of(&self.chunk_parts((from, to), value, active));
        }
        let mut parts: Vec<(f64, f64)> = Vec::new();
        let (mut since, mut levels, mut joined) = (from, Levels::default(), false);
        let mut part = |until: f64, levels: &Levels| {
            let until = until.min(to);
            if until <= since {
                return;
            }
            let (duration, is_active) = (until - since, active(levels));
            since = until;
            match (parts.last_mut(), value(levels)) {
                (_, _) if !is_active => {}
                (Some((last, total)), value) if joined && *last == value => *total += duration,
                (_, value) => parts.push((value, duration)),
            }
            joined = is_active;
        };
        self.sweep(|at, after| {
            part(at, &levels);
            levels = *after;
            levels.each(&self.least, |level, least| {
                if level.abs() < least {
                    *level = 0.0;
                }
            });
        });
        part(to, &levels);
        Weighted::of(&parts)
    }
}

/// What the `chunks` of a request change. One token arrives with the first, the others evenly: over the other chunks for the
/// tokens in flight (`tokens_in_flight_sweep_line_icl`), over the `gaps` that take any time for the decode rate
/// (`throughput_sweep_line_icl`).
fn add_changes(changes: &mut Vec<ChunkChange>, span: &Span, chunks: &[u64], gaps: u32) {
    let others = if span.osl < 1.0 { 0.0 } else { span.osl - 1.0 };
    let per_gap = if gaps == 0 { 0.0 } else { others / f64::from(gaps) };
    let per_chunk = if chunks.len() > 1 { others / (chunks.len() - 1) as f64 } else { 0.0 };
    let (mut rate_before, mut held) = (0.0, 0.0);
    for (index, at) in chunks.iter().enumerate() {
        let at = *at as f64;
        let rate_after = chunks.get(index + 1).map_or(0.0, |next| rate(at, *next as f64, per_gap));
        let decode_rate = rate_after - rate_before;
        rate_before = rate_after;
        let mut add = |at, decode_rate, tokens_in_flight| {
            changes.push(ChunkChange { at, decode_rate, tokens_in_flight });
        };
        if at < span.end {
            add(at, decode_rate, held);
        } else {
            // The tokens of a chunk at or past the end count just before it.
            add(span.end.next_down(), 0.0, held);
            add(at, decode_rate, 0.0);
        }
        held = per_chunk;
    }
}

/// The changes by their instants: sorted into ranges of about four, then each range.
fn in_order(changes: &[ChunkChange]) -> Vec<ChunkChange> {
    let Some(first) = changes.first() else { return Vec::new() };
    let (min, max) = changes.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), change| {
        (min.min(change.at), max.max(change.at))
    });
    let ranges = changes.len() / 4 + 1;
    let scale = if max > min { ranges as f64 / (max - min) } else { 0.0 };
    // `as` saturates.
    let range = |change: &ChunkChange| (((change.at - min) * scale) as usize).min(ranges - 1);
    let mut ends = vec![0_usize; ranges];
    changes.iter().for_each(|change| {
        if let Some(count) = ends.get_mut(range(change)) {
            *count += 1;
        }
    });
    let mut total = 0;
    for end in &mut ends {
        total += *end;
        *end = total;
    }
    let mut sorted = vec![*first; changes.len()];
    let mut starts = ends;
    for change in changes.iter().rev() {
        let start = starts.get_mut(range(change));
        if let Some(place) = start.and_then(|start| {
            *start -= 1;
            sorted.get_mut(*start)
        }) {
            *place = *change;
        }
    }
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(changes.len());
        if let Some(range) = sorted.get_mut(*start..end) {
            range.sort_unstable_by(|a, b| a.at.total_cmp(&b.at));
        }
    }
    sorted
}

impl Span {
    /// All but the first token spread over first token → end, per µs.
    fn decode_rate(&self) -> f64 {
        match self.first {
            Some(first) if self.osl >= 1.0 => rate(first, self.end, self.osl - 1.0),
            _ => 0.0,
        }
    }

    /// Prompt tokens held from start to end (`_kv_cache_events`).
    fn prompt_held(&self) -> f64 {
        if self.first.is_some_and(|first| first > self.start) { self.isl } else { 0.0 }
    }

    /// Output tokens held from the first token to the end.
    fn output_held(&self) -> f64 {
        if self.first.is_some_and(|first| self.end > first) { self.osl } else { 0.0 }
    }
}

/// `tokens` over from → to, per µs; 0 when that takes no time.
fn rate(from: f64, to: f64, tokens: f64) -> f64 {
    if to > from { tokens / (to - from) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 100 prompt tokens over 0–10 µs, then 9 tokens until 30 µs.
    const SPAN: Span = Span { start: 0.0, first: Some(10.0), end: 30.0, isl: 100.0, osl: 9.0 };

    /// A timeline of spans and their chunks, shown to `check`.
    fn with(spans: &[(Span, &[u64])], check: impl FnOnce(&Timeline<'_, &dyn Fn(u32) -> Span>)) {
        let mut chunks = Chunks::default();
        spans.iter().for_each(|(_, at)| chunks.push(at));
        let span: &dyn Fn(u32) -> Span = &|number| spans[number as usize].0;
        check(&Timeline::new(spans.len() as u32, span, Some(&chunks)));
    }

    fn close(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-9, "{got} {want}");
    }

    const CONCURRENCY: fn(&Levels) -> f64 = |levels| levels.concurrency;
    const DECODE_RATE: fn(&Levels) -> f64 = |levels| levels.decode_rate;
    const HELD: fn(&Levels) -> f64 = |levels| levels.tokens_in_flight;

    /// Chunks at 10, 20 and 30 µs carry 1 + 2 · 4 = 9 tokens.
    #[test]
    fn worked_by_hand() {
        with(&[(SPAN, &[10, 20, 30])], |curves| {
            let window = (0.0, 40.0);
            let over = |value: fn(&Levels) -> f64| curves.over(window, true, value);
            let by_request = |value: fn(&Levels) -> f64| curves.over(window, false, value);
            let concurrency = by_request(CONCURRENCY);
            assert_eq!(
                (concurrency.min, concurrency.max, concurrency.p50, concurrency.p90),
                (0.0, 1.0, 1.0, 1.0)
            );
            close(concurrency.avg, 30.0 / 40.0);
            close(concurrency.std, (0.75_f64 * 0.25).sqrt());
            close(over(DECODE_RATE).avg, 8.0 / 40.0);
            close(over(DECODE_RATE).max, 4.0 / 10.0);
            close(by_request(|levels| levels.prefill_rate).avg, 100.0 / 40.0);
            close(by_request(|levels| levels.total_rate).avg, 108.0 / 40.0);
            // 100 tokens for 10 µs, 101 for 10, 105 for 10 (the last 4 arrive with the end), none for 10
            close(over(HELD).avg, (1000.0 + 1010.0 + 1050.0) / 40.0);
            close(over(HELD).max, 109.0);
            // Active: only while a request decodes, 10–30.
            let decoding = |levels: &Levels| levels.decode_concurrency > 0.0;
            let active = curves.while_active(window, true, DECODE_RATE, decoding);
            close(active.avg, 8.0 / 20.0);
            close(active.std, 0.0);
        });
    }

    #[test]
    fn ends_come_before_starts_at_the_same_instant() {
        let after = Span { start: 30.0, first: None, end: 60.0, isl: 0.0, osl: 0.0 };
        with(&[(SPAN, &[10, 30]), (after, &[])], |curves| {
            assert_eq!(curves.over((0.0, 60.0), false, CONCURRENCY).max, 1.0);
        });
    }

    #[test]
    fn per_user_divides_by_the_users_present() {
        with(&[(SPAN, &[10, 30]), (SPAN, &[10, 30])], |curves| {
            close(curves.over((0.0, 30.0), true, DECODE_RATE).max, 0.8);
            close(curves.over((0.0, 30.0), true, Levels::decode_rate_per_user).max, 0.4);
        });
    }

    #[test]
    fn without_chunks_the_timing_is_that_of_requests() {
        let curves = Timeline::new(1, |_| SPAN, None);
        close(curves.over((0.0, 30.0), true, DECODE_RATE).max, 8.0 / 20.0);
        close(curves.over((0.0, 30.0), true, HELD).max, 109.0);
    }

    #[test]
    fn chunks_of_one_instant_carry_no_rate() {
        with(&[(SPAN, &[10, 10, 10])], |curves| {
            assert_eq!(curves.over((0.0, 30.0), true, DECODE_RATE), Weighted::default());
        });
    }

    #[test]
    fn nothing_is_zero() {
        with(&[], |curves| assert_eq!(curves.over((0.0, 10.0), true, CONCURRENCY), Weighted::default()));
        with(&[(SPAN, &[10])], |curves| {
            assert_eq!(curves.over((5.0, 5.0), true, CONCURRENCY), Weighted::default());
        });
    }

    proptest! {
        #[test]
        fn changes_come_in_order(instants in prop::collection::vec(prop_oneof![0..50_u32, any::<u32>()], 0..200)) {
            let change = |at: &u32| ChunkChange { at: f64::from(*at), decode_rate: 0.0, tokens_in_flight: 0.0 };
            let got: Vec<f64> = in_order(&instants.iter().map(change).collect::<Vec<_>>()).iter().map(|c| c.at).collect();
            let mut want: Vec<f64> = instants.iter().map(|at| f64::from(*at)).collect();
            want.sort_by(f64::total_cmp);
            prop_assert_eq!(got, want);
        }
    }
}
