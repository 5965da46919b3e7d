//! AIPerf's sweep-line curves: how many requests, tokens and tokens per second were in flight at each instant, and their
//! time-weighted statistics.
//!
//! A port of AIPerf 0.13 `analysis/sweepline.py`, `sweepline_kv_cache.py` and `sweepline_stats.py`, on µs instead of ns.
//! AIPerf holds wall-clock ns in an f64, which rounds instants to 256 ns; ours are exact.
//!
//! AIPerf builds every curve as arrays. Here the moments at which anything changes are put in order once, 32 bytes each, and
//! one sweep over them gives every level at every instant; a figure is another sweep.

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

/// Time-weighted statistics of a curve over a window.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Weighted {
    pub avg: f64,
    pub min: f64,
    pub max: f64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    pub std: f64,
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

/// What happens at a moment.
#[derive(Debug, Clone, Copy)]
enum What {
    Start,
    First,
    End,
    /// A chunk arrives.
    Chunk,
}

/// 32 bytes: what a chunk changes is worked out once, since each figure is a sweep of its own.
#[derive(Debug, Clone, Copy)]
struct Moment {
    at: f64,
    /// Change of the decode rate, of a chunk.
    rate: f64,
    /// Change of the tokens in flight, of a chunk.
    held: f64,
    span: u32,
    what: What,
}

/// Every moment of a run, in order. `F` gives the span of a number.
pub(super) struct Timeline<F> {
    span: F,
    /// With them, the curves follow every chunk; without, only starts, first tokens and ends.
    chunks: Option<Chunks>,
    moments: Vec<Moment>,
    peaks: Levels,
}

impl<F: Fn(u32) -> Span> Timeline<F> {
    /// The timeline of the spans of these numbers.
    pub(super) fn new(numbers: impl Iterator<Item = u32> + Clone, span: F, chunks: Option<Chunks>) -> Self {
        let each = chunks.as_ref().map_or(0, |chunks| chunks.at.len());
        let mut timeline = Self { span, chunks, moments: Vec::new(), peaks: Levels::default() };
        let mut moments = Vec::with_capacity(3 * numbers.clone().count() + each);
        for number in numbers {
            let of = (timeline.span)(number);
            let mut add = |what, at, rate, held| moments.push(Moment { at, rate, held, span: number, what });
            add(What::Start, of.start, 0.0, 0.0);
            if let Some(first) = of.first {
                add(What::First, first, 0.0, 0.0);
            }
            for (index, at) in timeline.chunks(number).iter().enumerate() {
                let at = *at as f64;
                let (rate, held) =
                    (timeline.rate_change(number, index, &of), timeline.arriving(number, index, &of));
                if at < of.end {
                    add(What::Chunk, at, rate, held);
                } else {
                    // The tokens of a chunk at or past the end count just before it.
                    add(What::Chunk, at, rate, 0.0);
                    add(What::Chunk, of.end.next_down(), 0.0, held);
                }
            }
            add(What::End, of.end, 0.0, 0.0);
        }
        moments.sort_unstable_by(|a, b| a.at.total_cmp(&b.at));
        timeline.moments = moments;
        let mut peaks = Levels::default();
        timeline.sweep(|_, levels| peaks.each(levels, |peak, level| *peak = peak.max(level.abs())));
        timeline.peaks = peaks;
        timeline
    }

    fn chunks(&self, span: u32) -> &[u64] {
        self.chunks.as_ref().map_or(&[], |chunks| chunks.of(span))
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
        if let What::Chunk = moment.what {
            levels.decode_rate += moment.rate;
            levels.tokens_in_flight += moment.held;
            return;
        }
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
            What::Chunk => {}
        }
    }

    /// Output tokens arrive chunk by chunk: one with the first, the others evenly over the rest
    /// (`tokens_in_flight_sweep_line_icl`).
    fn arrives_by_chunk(&self, span: u32, of: &Span) -> bool {
        of.osl >= 1.0 && self.chunks(span).len() > 1
    }

    fn arriving(&self, span: u32, index: usize, of: &Span) -> f64 {
        let later = self.chunks(span).len().saturating_sub(1);
        if index == 0 || of.osl < 1.0 { 0.0 } else { (of.osl - 1.0) / later as f64 }
    }

    /// All but the first token are spread evenly over the gaps between chunks that take any time
    /// (`throughput_sweep_line_icl`): the rate after chunk `index` less the rate before it.
    fn rate_change(&self, span: u32, index: usize, of: &Span) -> f64 {
        let chunks = self.chunks(span);
        let gaps = self.chunks.as_ref().map_or(0, |chunks| chunks.gaps_of(span));
        if of.osl < 1.0 || gaps == 0 {
            return 0.0;
        }
        let tokens_each = (of.osl - 1.0) / f64::from(gaps);
        let after_chunk = |index: usize| match (chunks.get(index), chunks.get(index + 1)) {
            (Some(from), Some(to)) => rate(*from as f64, *to as f64, tokens_each),
            _ => 0.0,
        };
        after_chunk(index) - index.checked_sub(1).map_or(0.0, after_chunk)
    }

    /// Statistics over `window`, weighted by time (`compute_time_weighted_stats`); all zero when nothing is in it.
    pub(super) fn over(&self, window: (f64, f64), value: impl Fn(&Levels) -> f64) -> Weighted {
        self.while_active(window, value, |_| true)
    }

    /// The same over the parts of `window` that are `active` (`compute_active_weighted_stats`).
    pub(super) fn while_active(
        &self,
        (from, to): (f64, f64),
        value: impl Fn(&Levels) -> f64,
        active: impl Fn(&Levels) -> bool,
    ) -> Weighted {
        if self.moments.is_empty() || to <= from {
            return Weighted::default();
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
            levels.each(&self.peaks, |level, peak| {
                if level.abs() < ROUNDING * peak {
                    *level = 0.0;
                }
            });
        });
        part(to, &levels);
        Weighted::of(parts)
    }
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

impl Weighted {
    /// From `(value, duration)` parts.
    fn of(mut parts: Vec<(f64, f64)>) -> Self {
        parts.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let (Some(&(min, _)), Some(&(max, _))) = (parts.first(), parts.last()) else {
            return Self::default();
        };
        let total: f64 = parts.iter().map(|(_, duration)| duration).sum();
        let avg = parts.iter().map(|(value, duration)| value * duration).sum::<f64>() / total;
        let squares: f64 = parts.iter().map(|(value, duration)| duration * (value - avg).powi(2)).sum();
        // The first value at which the share of time so far reaches the percentile (searchsorted, left).
        let percentile = |share: f64| {
            let mut elapsed = 0.0;
            let reached = parts.iter().find(|(_, duration)| {
                elapsed += duration;
                elapsed / total >= share
            });
            reached.map_or(max, |(value, _)| *value)
        };
        let (p50, p90, p95, p99) = (percentile(0.50), percentile(0.90), percentile(0.95), percentile(0.99));
        Self { avg, min, max, p50, p90, p95, p99, std: (squares / total).sqrt() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 prompt tokens over 0–10 µs, then 9 tokens until 30 µs.
    const SPAN: Span = Span { start: 0.0, first: Some(10.0), end: 30.0, isl: 100.0, osl: 9.0 };

    /// The timeline of spans and their chunks.
    fn timeline(spans: &[(Span, &[u64])]) -> Timeline<impl Fn(u32) -> Span + use<>> {
        let spans: Vec<(Span, Vec<u64>)> =
            spans.iter().map(|(span, chunks)| (*span, chunks.to_vec())).collect();
        let mut chunks = Chunks::default();
        spans.iter().for_each(|(_, at)| chunks.push(at));
        Timeline::new(0..spans.len() as u32, move |number| spans[number as usize].0, Some(chunks))
    }

    fn close(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-9, "{got} {want}");
    }

    /// Chunks at 10, 20 and 30 µs carry 1 + 2 · 4 = 9 tokens.
    #[test]
    fn worked_by_hand() {
        let curves = timeline(&[(SPAN, &[10, 20, 30])]);
        let window = (0.0, 40.0);
        let concurrency = curves.over(window, |levels| levels.concurrency);
        assert_eq!(
            (concurrency.min, concurrency.max, concurrency.p50, concurrency.p90),
            (0.0, 1.0, 1.0, 1.0)
        );
        close(concurrency.avg, 30.0 / 40.0);
        close(concurrency.std, (0.75_f64 * 0.25).sqrt());
        close(curves.over(window, |levels| levels.decode_rate).avg, 8.0 / 40.0);
        close(curves.over(window, |levels| levels.decode_rate).max, 4.0 / 10.0);
        close(curves.over(window, |levels| levels.prefill_rate).avg, 100.0 / 40.0);
        close(curves.over(window, |levels| levels.total_rate).avg, 108.0 / 40.0);
        // 100 tokens for 10 µs, 101 for 10, 105 for 10 (the last 4 arrive with the end), none for 10
        let held = curves.over(window, |levels| levels.tokens_in_flight);
        close(held.avg, (1000.0 + 1010.0 + 1050.0) / 40.0);
        close(held.max, 109.0);
        // Active: only while a request decodes, 10–30.
        let decoding = |levels: &Levels| levels.decode_concurrency > 0.0;
        let active = curves.while_active(window, |levels| levels.decode_rate, decoding);
        close(active.avg, 8.0 / 20.0);
        close(active.std, 0.0);
    }

    #[test]
    fn ends_come_before_starts_at_the_same_instant() {
        let after = Span { start: 30.0, first: None, end: 60.0, isl: 0.0, osl: 0.0 };
        let curves = timeline(&[(SPAN, &[10, 30]), (after, &[])]);
        assert_eq!(curves.over((0.0, 60.0), |levels| levels.concurrency).max, 1.0);
    }

    #[test]
    fn per_user_divides_by_the_users_present() {
        let curves = timeline(&[(SPAN, &[10, 30]), (SPAN, &[10, 30])]);
        close(curves.over((0.0, 30.0), |levels| levels.decode_rate).max, 0.8);
        close(curves.over((0.0, 30.0), Levels::decode_rate_per_user).max, 0.4);
    }

    #[test]
    fn without_chunks_the_timing_is_that_of_requests() {
        let curves = Timeline::new(0..1, |_| SPAN, None);
        close(curves.over((0.0, 30.0), |levels| levels.decode_rate).max, 8.0 / 20.0);
        close(curves.over((0.0, 30.0), |levels| levels.tokens_in_flight).max, 109.0);
    }

    #[test]
    fn chunks_of_one_instant_carry_no_rate() {
        let curves = timeline(&[(SPAN, &[10, 10, 10])]);
        assert_eq!(curves.over((0.0, 30.0), |levels| levels.decode_rate), Weighted::default());
    }

    #[test]
    fn nothing_is_zero() {
        assert_eq!(timeline(&[]).over((0.0, 10.0), |levels| levels.concurrency), Weighted::default());
        let one = timeline(&[(SPAN, &[10])]);
        assert_eq!(one.over((5.0, 5.0), |levels| levels.concurrency), Weighted::default());
    }
}
