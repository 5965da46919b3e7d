//! AIPerf's sweep-line curves: how many requests, tokens and tokens per second were in flight at each instant, and their
//! time-weighted statistics.
//!
//! A port of AIPerf 0.13 `analysis/sweepline.py`, `sweepline_kv_cache.py` and `sweepline_stats.py`, on µs instead of ns.
//! AIPerf holds wall-clock ns in an f64, which rounds instants to 256 ns; ours are exact.

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

impl Span {
    /// All but the first token spread over first token → end, per µs.
    fn decode_rate(&self, first: f64) -> f64 {
        if self.osl >= 1.0 { rate(first, self.end, self.osl - 1.0) } else { 0.0 }
    }

    /// Prompt tokens held from start to end (`_kv_cache_events`).
    fn prompt_held(&self, first: f64) -> f64 {
        if first > self.start { self.isl } else { 0.0 }
    }
}

/// `tokens` over from → to, per µs; 0 when that takes no time.
fn rate(from: f64, to: f64, tokens: f64) -> f64 {
    if to > from { tokens / (to - from) } else { 0.0 }
}

/// A step function: until [`Steps::summed`] the changes and their instants, then the level from each instant on.
#[derive(Debug, Default)]
pub(super) struct Steps(Vec<(f64, f64)>);

impl Steps {
    fn add(&mut self, at: f64, change: f64) {
        self.0.push((at, change));
    }

    /// Adds `amount` from one instant to another.
    fn hold(&mut self, from: f64, to: f64, amount: f64) {
        self.add(from, amount);
        self.add(to, -amount);
    }

    fn summed(self) -> Self {
        /// Residues of cancelling rates below this part of the peak are rounding, not load.
        const ROUNDING: f64 = 1e-9;
        let mut steps = in_order(self.0);
        let mut sum = 0.0;
        for (_, level) in &mut steps {
            sum += *level;
            *level = sum;
        }
        steps.dedup_by(|later, kept| {
            let is_same_instant = later.0 == kept.0;
            if is_same_instant {
                kept.1 = later.1;
            }
            is_same_instant
        });
        let peak = steps.iter().map(|(_, level)| level.abs()).fold(0.0, f64::max);
        for (_, level) in steps.iter_mut().filter(|(_, level)| level.abs() < ROUNDING * peak) {
            *level = 0.0;
        }
        Self(steps)
    }

    /// Statistics of `value` over `window`, weighted by time; only where it has a value. It depends on this level and on that
    /// of `users`. All zero when nothing is in the window.
    pub(super) fn over(
        &self,
        users: &Self,
        (from, to): (f64, f64),
        value: impl Fn(f64, f64) -> Option<f64>,
    ) -> Weighted {
        let mut users = users.0.iter().peekable();
        let mut present = 0.0;
        let mut parts = Vec::with_capacity(self.0.len() + 1);
        let (mut level, mut since) = (0.0, from);
        let end = (to, 0.0);
        for (at, next) in self.0.iter().chain([&end]) {
            let at = at.min(to);
            while since < at {
                while let Some((_, next)) = users.next_if(|(user_at, _)| *user_at <= since) {
                    present = *next;
                }
                let until = users.peek().map_or(at, |(user_at, _)| user_at.min(at));
                if let Some(value) = value(level, present) {
                    parts.push((value, until - since));
                }
                since = until;
            }
            level = *next;
        }
        Weighted::of(parts)
    }
}

/// The changes by their instants. They are put into ranges of about four first: a sort of all of them takes four times as
/// many instructions, and more than anything else in the export.
fn in_order(changes: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let first = changes.iter().map(|(at, _)| *at).fold(f64::INFINITY, f64::min);
    let last = changes.iter().map(|(at, _)| *at).fold(f64::NEG_INFINITY, f64::max);
    let ranges = changes.len() / 4 + 1;
    let scale = ranges as f64 / (last - first);
    // `as` saturates, and makes 0 of what is no number.
    let range = |at: f64| (((at - first) * scale) as usize).min(ranges - 1);
    // Where each range starts; once it is filled, where it ends.
    let mut bounds = vec![0; ranges + 1];
    changes.iter().for_each(|(at, _)| bounds[range(*at) + 1] += 1);
    for index in 0..ranges {
        bounds[index + 1] += bounds[index];
    }
    let mut ordered = vec![(0.0, 0.0); changes.len()];
    for change in changes {
        let place = &mut bounds[range(change.0)];
        ordered[*place] = change;
        *place += 1;
    }
    let mut start = 0;
    for end in bounds {
        ordered[start..end].sort_by(|a, b| a.0.total_cmp(&b.0));
        start = end;
    }
    ordered
}

/// The two levels that follow every chunk.
#[derive(Debug, Default)]
pub(super) struct ChunkCurves {
    decode_rate: Steps,
    tokens: Steps,
}

impl ChunkCurves {
    /// Takes the next request. One token arrives with its first chunk, the others evenly: over the other chunks for the tokens
    /// in flight (`tokens_in_flight_sweep_line_icl`), over the gaps that take any time for the decode rate
    /// (`throughput_sweep_line_icl`).
    pub(super) fn add(&mut self, span: &Span, chunks: &[u64]) {
        let Some(first) = span.first else { return };
        let others = (span.osl - 1.0).max(0.0);
        let gaps = chunks.iter().zip(chunks.iter().skip(1)).filter(|(before, after)| after > before).count();
        let per_gap = if gaps == 0 { 0.0 } else { others / gaps as f64 };
        let several = chunks.len() > 1;
        let per_chunk = if several { others / (chunks.len() - 1) as f64 } else { 0.0 };
        self.tokens.hold(span.start, span.end, span.prompt_held(first));
        if several && span.osl >= 1.0 {
            self.tokens.add(first, 1.0);
            self.tokens.add(span.end, -span.osl);
        }
        let mut rate_before = 0.0;
        for (index, at) in chunks.iter().enumerate() {
            let at = *at as f64;
            let rate_after = chunks.get(index + 1).map_or(0.0, |next| rate(at, *next as f64, per_gap));
            self.decode_rate.add(at, rate_after - rate_before);
            rate_before = rate_after;
            if index > 0 {
                // The tokens of a chunk at or past the end count just before it.
                self.tokens.add(at.min(span.end.next_down()), per_chunk);
            }
        }
    }
}

/// The levels of a phase. Rates are per µs.
#[derive(Debug, Default)]
pub(super) struct Curves {
    pub concurrency: Steps,
    pub decode_concurrency: Steps,
    pub prefill_concurrency: Steps,
    pub decode_rate: Steps,
    pub prefill_rate: Steps,
    pub total_rate: Steps,
    pub tokens_in_flight: Steps,
}

impl Curves {
    /// The levels of `spans`. Without `by_chunk` decode rate and tokens in flight follow first tokens and ends alone.
    pub(super) fn of(spans: impl Iterator<Item = Span>, by_chunk: Option<ChunkCurves>) -> Self {
        let mut curves = Self::default();
        for span in spans {
            curves.concurrency.hold(span.start, span.end, 1.0);
            let Some(first) = span.first else { continue };
            curves.prefill_concurrency.hold(span.start, first, 1.0);
            curves.decode_concurrency.hold(first, span.end, 1.0);
            let (prefill, decode) = (rate(span.start, first, span.isl), span.decode_rate(first));
            curves.prefill_rate.hold(span.start, first, prefill);
            curves.total_rate.add(span.start, prefill);
            curves.total_rate.add(first, decode - prefill);
            curves.total_rate.add(span.end, -decode);
            if by_chunk.is_none() {
                curves.decode_rate.hold(first, span.end, decode);
                curves.tokens_in_flight.hold(span.start, span.end, span.prompt_held(first));
                let output_held = if span.end > first { span.osl } else { 0.0 };
                curves.tokens_in_flight.hold(first, span.end, output_held);
            }
        }
        if let Some(ChunkCurves { decode_rate, tokens }) = by_chunk {
            (curves.decode_rate, curves.tokens_in_flight) = (decode_rate, tokens);
        }
        Self {
            concurrency: curves.concurrency.summed(),
            decode_concurrency: curves.decode_concurrency.summed(),
            prefill_concurrency: curves.prefill_concurrency.summed(),
            decode_rate: curves.decode_rate.summed(),
            prefill_rate: curves.prefill_rate.summed(),
            total_rate: curves.total_rate.summed(),
            tokens_in_flight: curves.tokens_in_flight.summed(),
        }
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

impl Weighted {
    /// From `(value, duration)` parts (`compute_time_weighted_stats`). A percentile is the first value, in order, at which the
    /// share of time so far reaches it.
    fn of(mut parts: Vec<(f64, f64)>) -> Self {
        if parts.is_empty() {
            return Self::default();
        }
        let (mut min, mut max, mut total, mut sum) = (f64::INFINITY, f64::NEG_INFINITY, 0.0, 0.0);
        for (value, duration) in &parts {
            (min, max) = (min.min(*value), max.max(*value));
            (total, sum) = (total + duration, sum + value * duration);
        }
        let avg = sum / total;
        let squares: f64 =
            parts.iter().map(|(value, duration)| duration * (value - avg) * (value - avg)).sum();
        let [p50, p90, p95, p99] = percentiles(&mut parts, total);
        Self { avg, min, max, p50, p90, p95, p99, std: (squares / total).sqrt() }
    }
}

/// p50, p90, p95 and p99 of parts that take `total` in all: each narrows the parts down by halves, without sorting them.
fn percentiles(parts: &mut [(f64, f64)], total: f64) -> [f64; 4] {
    // The parts before `low` are in front of all others in order, and take `passed`.
    let (mut low, mut passed) = (0, 0.0);
    [0.50, 0.90, 0.95, 0.99].map(|share| {
        let mut high = parts.len();
        while low + 1 < high {
            let middle = low.midpoint(high);
            let (below, ..) = parts[low..high].select_nth_unstable_by(middle - low, |a, b| {
                a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal)
            });
            let until = passed + below.iter().map(|(_, duration)| duration).sum::<f64>();
            if until / total >= share {
                high = middle;
            } else {
                (low, passed) = (middle, until);
            }
        }
        parts[low].0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 prompt tokens over 0–10 µs, then 9 tokens until 30 µs.
    const SPAN: Span = Span { start: 0.0, first: Some(10.0), end: 30.0, isl: 100.0, osl: 9.0 };

    /// The curves of spans and their chunks.
    fn curves(spans: &[(Span, &[u64])]) -> Curves {
        let mut by_chunk = ChunkCurves::default();
        spans.iter().for_each(|(span, chunks)| by_chunk.add(span, chunks));
        Curves::of(spans.iter().map(|(span, _)| *span), Some(by_chunk))
    }

    fn plain(steps: &Steps, window: (f64, f64)) -> Weighted {
        steps.over(steps, window, |level, _| Some(level))
    }

    fn close(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-9, "{got} {want}");
    }

    /// Chunks at 10, 20 and 30 µs carry 1 + 2 · 4 = 9 tokens.
    #[test]
    fn worked_by_hand() {
        let curves = curves(&[(SPAN, &[10, 20, 30])]);
        let window = (0.0, 40.0);
        let concurrency = plain(&curves.concurrency, window);
        assert_eq!(
            (concurrency.min, concurrency.max, concurrency.p50, concurrency.p90),
            (0.0, 1.0, 1.0, 1.0)
        );
        close(concurrency.avg, 30.0 / 40.0);
        close(concurrency.std, (0.75_f64 * 0.25).sqrt());
        close(plain(&curves.decode_rate, window).avg, 8.0 / 40.0);
        close(plain(&curves.decode_rate, window).max, 4.0 / 10.0);
        close(plain(&curves.prefill_rate, window).avg, 100.0 / 40.0);
        close(plain(&curves.total_rate, window).avg, 108.0 / 40.0);
        // 100 tokens for 10 µs, 101 for 10, 105 for 10 (the last 4 arrive with the end), none for 10
        close(plain(&curves.tokens_in_flight, window).avg, (1000.0 + 1010.0 + 1050.0) / 40.0);
        close(plain(&curves.tokens_in_flight, window).max, 109.0);
        // Active: only while a request decodes, 10–30.
        let active = curves
            .decode_rate
            .over(&curves.decode_concurrency, window, |rate, decoding| (decoding > 0.0).then_some(rate));
        close(active.avg, 8.0 / 20.0);
        close(active.std, 0.0);
    }

    #[test]
    fn ends_come_before_starts_at_the_same_instant() {
        let after = Span { start: 30.0, first: None, end: 60.0, isl: 0.0, osl: 0.0 };
        let curves = curves(&[(SPAN, &[10, 30]), (after, &[])]);
        assert_eq!(plain(&curves.concurrency, (0.0, 60.0)).max, 1.0);
    }

    #[test]
    fn without_chunks_the_timing_is_that_of_requests() {
        let curves = Curves::of([SPAN].into_iter(), None);
        close(plain(&curves.decode_rate, (0.0, 30.0)).max, 8.0 / 20.0);
        close(plain(&curves.tokens_in_flight, (0.0, 30.0)).max, 109.0);
    }

    #[test]
    fn chunks_of_one_instant_carry_no_rate() {
        let curves = curves(&[(SPAN, &[10, 10, 10])]);
        assert_eq!(plain(&curves.decode_rate, (0.0, 30.0)), Weighted::default());
    }

    #[test]
    fn nothing_is_zero() {
        assert_eq!(plain(&curves(&[]).concurrency, (0.0, 10.0)), Weighted::default());
        assert_eq!(plain(&curves(&[(SPAN, &[10])]).concurrency, (5.0, 5.0)), Weighted::default());
    }

    #[test]
    fn a_percentile_is_the_value_at_which_its_share_of_time_is_reached() {
        // In order: 1 until 50, 2 until 90, 3 until 94, 4 until 100 of 100 µs.
        let parts = vec![(4.0, 6.0), (2.0, 40.0), (3.0, 4.0), (1.0, 50.0)];
        let Weighted { avg, min, max, p50, p90, p95, p99, .. } = Weighted::of(parts);
        assert_eq!((min, max), (1.0, 4.0));
        assert_eq!([p50, p90, p95, p99], [1.0, 2.0, 4.0, 4.0]);
        close(avg, (50.0 + 80.0 + 12.0 + 24.0) / 100.0);
    }
}
