//! AIPerf's sweep-line curves: how many requests, tokens and tokens per second were in flight at each instant, and their
//! time-weighted statistics.
//!
//! A port of AIPerf 0.13 `analysis/sweepline.py`, `sweepline_kv_cache.py` and `sweepline_stats.py`, on µs instead of ns.
//! AIPerf holds wall-clock ns in an f64, which rounds instants to 256 ns; ours are exact.
//! Arrow: plain numbers → here → `values`.

/// One request as the curves see it; instants in µs.
pub(super) struct Span<'a> {
    pub start: f64,
    /// Arrival of the first token; `None` for failed requests and without streaming.
    pub first: Option<f64>,
    pub end: f64,
    /// Arrival of every content chunk; empty where `first` is `None`.
    pub chunks: &'a [u64],
    pub isl: f64,
    pub osl: f64,
}

/// A step function: `value[i]` holds from `at[i]` until `at[i + 1]`; 0 before the first. `at` ascends, repeats allowed
/// (the last one counts).
#[derive(Default)]
pub(super) struct Curve {
    at: Vec<f64>,
    value: Vec<f64>,
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
/// fit its memory (`LIST_BACKEND=tdigest`), and two events of 16 bytes per gap have to fit ours.
const MAX_GAPS: usize = 4_000_000;

impl Curve {
    /// Sums up `(instant, change)` events. At equal instants decreases come first (`_sweep_line_cumsum`).
    fn of(mut events: Vec<(f64, f64)>) -> Self {
        events.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1 > 0.0).cmp(&(b.1 > 0.0))));
        let mut level = 0.0;
        let (at, mut value): (Vec<f64>, Vec<f64>) = events
            .into_iter()
            .map(|(instant, change)| {
                level += change;
                (instant, level)
            })
            .unzip();
        let peak = value.iter().fold(0.0, |peak: f64, level| peak.max(level.abs()));
        value.iter_mut().filter(|level| level.abs() < ROUNDING * peak).for_each(|level| *level = 0.0);
        Self { at, value }
    }

    fn is_empty(&self) -> bool {
        self.at.is_empty()
    }

    /// This curve divided by `users`, 0 where there are none (`divide_step_functions`).
    fn per(&self, users: &Self) -> Self {
        if self.is_empty() || users.is_empty() {
            return Self::default();
        }
        let mut at: Vec<f64> = self.at.iter().chain(&users.at).copied().collect();
        at.sort_unstable_by(f64::total_cmp);
        at.dedup();
        let (mut amount, mut count) = (self.reader(), users.reader());
        let value = at
            .iter()
            .map(|instant| match (amount.at(*instant), count.at(*instant)) {
                (amount, count) if count > 0.0 => amount / count,
                _ => 0.0,
            })
            .collect();
        Self { at, value }
    }

    /// Reads the curve at ascending instants.
    fn reader(&self) -> Reader<'_> {
        Reader { curve: self, next: 0 }
    }

    /// Statistics over `window`, weighted by time (`compute_time_weighted_stats`); all zero when nothing is in it.
    pub(super) fn over(&self, window: (f64, f64)) -> Weighted {
        self.weigh(window, None)
    }

    /// The same over the parts of `window` in which `mask` is positive (`compute_active_weighted_stats`).
    pub(super) fn while_active(&self, mask: &Self, window: (f64, f64)) -> Weighted {
        if mask.is_empty() { Weighted::default() } else { self.weigh(window, Some(mask)) }
    }

    fn weigh(&self, (from, to): (f64, f64), mask: Option<&Self>) -> Weighted {
        if self.is_empty() || to <= from {
            return Weighted::default();
        }
        let inside = |at: &&f64| **at > from && **at < to;
        let mut grid = vec![from, to];
        grid.extend(self.at.iter().filter(inside));
        grid.extend(mask.iter().flat_map(|mask| mask.at.iter().filter(inside)));
        grid.sort_unstable_by(f64::total_cmp);
        grid.dedup();
        let (mut level, mut active) = (self.reader(), mask.map(Self::reader));
        let mut parts = Vec::with_capacity(grid.len());
        for pair in grid.windows(2) {
            let &[start, end] = pair else { continue };
            let value = level.at(start);
            if active.as_mut().is_none_or(|active| active.at(start) > 0.0) {
                parts.push((value, end - start));
            }
        }
        Weighted::of(parts)
    }
}

struct Reader<'a> {
    curve: &'a Curve,
    next: usize,
}

impl Reader<'_> {
    fn at(&mut self, instant: f64) -> f64 {
        while self.curve.at.get(self.next).is_some_and(|at| *at <= instant) {
            self.next += 1;
        }
        self.next.checked_sub(1).and_then(|last| self.curve.value.get(last)).copied().unwrap_or(0.0)
    }
}

impl Weighted {
    /// From `(value, duration)` parts.
    fn of(mut parts: Vec<(f64, f64)>) -> Self {
        parts.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (Some(&(min, _)), Some(&(max, _))) = (parts.first(), parts.last()) else {
            return Self::default();
        };
        let total: f64 = parts.iter().map(|(_, duration)| duration).sum();
        let avg = parts.iter().map(|(value, duration)| value * duration).sum::<f64>() / total;
        let squares: f64 = parts.iter().map(|(value, duration)| duration * (value - avg).powi(2)).sum();
        let mut elapsed = 0.0;
        let ends: Vec<f64> = parts
            .iter()
            .map(|(_, duration)| {
                elapsed += duration;
                elapsed
            })
            .collect();
        // The first value at which the share of time so far reaches the percentile (searchsorted, left).
        let percentile = |share: f64| {
            let index = ends.partition_point(|end| end / elapsed < share);
            parts.get(index).map_or(max, |(value, _)| *value)
        };
        let (p50, p90, p95, p99) = (percentile(0.50), percentile(0.90), percentile(0.95), percentile(0.99));
        Self { avg, min, max, p50, p90, p95, p99, std: (squares / total).sqrt() }
    }
}

/// Every curve of a run. Rates are per µs.
pub(super) struct Curves {
    pub concurrency: Curve,
    pub decode_concurrency: Curve,
    pub prefill_concurrency: Curve,
    pub decode_rate: Curve,
    pub prefill_rate: Curve,
    pub total_rate: Curve,
    pub decode_rate_per_user: Curve,
    pub prefill_rate_per_user: Curve,
    pub tokens_in_flight: Curve,
}

impl Curves {
    pub(super) fn of(spans: &[Span<'_>]) -> Self {
        let gaps: usize = spans.iter().map(|span| span.chunks.len().saturating_sub(1)).sum();
        let by_chunk = gaps > 0 && gaps <= MAX_GAPS;
        let curve = |step: fn(&Span<'_>) -> Option<Step>| {
            Curve::of(spans.iter().filter_map(step).flatten().collect())
        };
        let concurrency = curve(|span| Some(present(span.start, span.end)));
        let decode_concurrency = curve(|span| Some(present(span.first?, span.end)));
        let prefill_concurrency = curve(|span| Some(present(span.start, span.first?)));
        let decode_rate = match by_chunk {
            true => Curve::of(spans.iter().flat_map(chunk_rates).collect()),
            false => curve(decode),
        };
        let prefill_rate = curve(prefill);
        let total_rate = Curve::of(
            spans.iter().flat_map(|span| [prefill(span), decode(span)]).flatten().flatten().collect(),
        );
        let held = |span| if by_chunk { held_by_chunk(span) } else { held(span) };
        Self {
            decode_rate_per_user: decode_rate.per(&decode_concurrency),
            prefill_rate_per_user: prefill_rate.per(&prefill_concurrency),
            tokens_in_flight: Curve::of(spans.iter().flat_map(held).collect()),
            concurrency,
            decode_concurrency,
            prefill_concurrency,
            decode_rate,
            prefill_rate,
            total_rate,
        }
    }
}

/// A rise and the fall that takes it back: `(instant, change)` each.
type Step = [(f64, f64); 2];

fn present(from: f64, to: f64) -> Step {
    [(from, 1.0), (to, -1.0)]
}

fn rate(from: f64, to: f64, tokens: f64) -> Option<Step> {
    let per_us = tokens / (to - from);
    (to > from).then_some([(from, per_us), (to, -per_us)])
}

/// Prompt tokens spread over start → first token.
fn prefill(span: &Span<'_>) -> Option<Step> {
    rate(span.start, span.first?, span.isl)
}

/// All but the first token spread over first token → end.
fn decode(span: &Span<'_>) -> Option<Step> {
    let first = span.first?;
    if span.osl >= 1.0 { rate(first, span.end, span.osl - 1.0) } else { None }
}

/// All but the first token spread evenly over the gaps between chunks that take any time (`throughput_sweep_line_icl`).
fn chunk_rates(span: &Span<'_>) -> Vec<(f64, f64)> {
    let gaps =
        || span.chunks.windows(2).filter_map(|pair| <&[u64; 2]>::try_from(pair).ok()).filter(|[a, b]| b > a);
    let tokens_each = (span.osl - 1.0) / gaps().count() as f64;
    if span.first.is_none() || span.osl < 1.0 {
        return Vec::new();
    }
    gaps().filter_map(|[a, b]| rate(*a as f64, *b as f64, tokens_each)).flatten().collect()
}

/// Prompt tokens held from start to end, output tokens from the first token to the end (`_kv_cache_events`).
fn held(span: &Span<'_>) -> Vec<(f64, f64)> {
    let Some(first) = span.first else { return Vec::new() };
    let mut events = Vec::new();
    if first > span.start {
        events.extend([(span.start, span.isl), (span.end, -span.isl)]);
    }
    if span.end > first {
        events.extend([(first, span.osl), (span.end, -span.osl)]);
    }
    events
}

/// The same with output tokens arriving chunk by chunk: one with the first, the others evenly over the rest. A chunk at or
/// past the end counts just before it (`tokens_in_flight_sweep_line_icl`).
fn held_by_chunk(span: &Span<'_>) -> Vec<(f64, f64)> {
    let Some(first) = span.first else { return Vec::new() };
    let mut events = Vec::new();
    if first > span.start {
        events.extend([(span.start, span.isl), (span.end, -span.isl)]);
    }
    let later = span.chunks.get(1..).unwrap_or_default();
    if !later.is_empty() && span.osl >= 1.0 {
        let tokens_each = (span.osl - 1.0) / later.len() as f64;
        events.push((first, 1.0));
        events.extend(later.iter().map(|at| ((*at as f64).min(span.end.next_down()), tokens_each)));
        events.push((span.end, -span.osl));
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 prompt tokens over 0–10 µs, then chunks at 10, 20 and 30 µs carrying 1 + 2 · 4 = 9 tokens.
    fn span<'a>(chunks: &'a [u64]) -> Span<'a> {
        Span { start: 0.0, first: Some(10.0), end: 30.0, chunks, isl: 100.0, osl: 9.0 }
    }

    fn close(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-9, "{got} {want}");
    }

    #[test]
    fn worked_by_hand() {
        let chunks = [10, 20, 30];
        let curves = Curves::of(&[span(&chunks)]);
        let window = (0.0, 40.0);
        let concurrency = curves.concurrency.over(window);
        assert_eq!(
            (concurrency.min, concurrency.max, concurrency.p50, concurrency.p90),
            (0.0, 1.0, 1.0, 1.0)
        );
        close(concurrency.avg, 30.0 / 40.0);
        close(concurrency.std, (0.75_f64 * 0.25).sqrt());
        close(curves.decode_rate.over(window).avg, 8.0 / 40.0);
        close(curves.decode_rate.over(window).max, 4.0 / 10.0);
        close(curves.prefill_rate.over(window).avg, 100.0 / 40.0);
        close(curves.total_rate.over(window).avg, 108.0 / 40.0);
        // 100 tokens for 10 µs, 101 for 10, 105 for 10 (the last 4 arrive with the end), none for 10
        close(curves.tokens_in_flight.over(window).avg, (1000.0 + 1010.0 + 1050.0) / 40.0);
        close(curves.tokens_in_flight.over(window).max, 109.0);
        // Active: only while a request decodes, 10–30.
        let active = curves.decode_rate.while_active(&curves.decode_concurrency, window);
        close(active.avg, 8.0 / 20.0);
        close(active.std, 0.0);
    }

    #[test]
    fn ends_come_before_starts_at_the_same_instant() {
        let after = Span { start: 30.0, first: None, end: 60.0, chunks: &[], isl: 0.0, osl: 0.0 };
        assert_eq!(Curves::of(&[span(&[10, 30]), after]).concurrency.over((0.0, 60.0)).max, 1.0);
    }

    #[test]
    fn per_user_divides_by_the_users_present() {
        let chunks = [10, 30];
        let curves = Curves::of(&[span(&chunks), span(&chunks)]);
        close(curves.decode_rate.over((0.0, 30.0)).max, 0.8);
        close(curves.decode_rate_per_user.over((0.0, 30.0)).max, 0.4);
    }

    #[test]
    fn one_chunk_answers_use_request_level_timing() {
        let curves = Curves::of(&[span(&[10])]);
        close(curves.decode_rate.over((0.0, 30.0)).max, 8.0 / 20.0);
        close(curves.tokens_in_flight.over((0.0, 30.0)).max, 109.0);
    }

    #[test]
    fn chunks_of_one_instant_carry_no_rate() {
        let curves = Curves::of(&[span(&[10, 10, 10])]);
        assert_eq!(curves.decode_rate.over((0.0, 30.0)), Weighted::default());
    }

    #[test]
    fn nothing_is_zero() {
        assert_eq!(Curves::of(&[]).concurrency.over((0.0, 10.0)), Weighted::default());
        assert_eq!(Curves::of(&[span(&[10])]).concurrency.over((5.0, 5.0)), Weighted::default());
    }
}
