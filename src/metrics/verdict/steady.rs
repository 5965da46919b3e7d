//! Whether the latency held still over the measured window.
//!
//! A queue that grows, a cache that fills, a GPU that gets hot: the figures of such a run depend on how long it was. The
//! latencies of good requests are taken in the order of sending, without the requests that met a filling or an emptying
//! server, and cut into blocks. A trend has to be both certain (Mann–Kendall over the medians of the blocks) and large (the
//! medians of the first and the last third).

use super::Reason;
use crate::metrics::fold::Fold;
use crate::metrics::request_figures::RequestFigures;
use crate::plan::{Arrival, LoadPoint};

/// Blocks the steady part is cut into. Their medians are what the test for a trend sees, so that requests which shared a
/// batch do not count as independent.
pub const BLOCKS: usize = 12;
/// Fewer requests a block than this and the trend is not judged: the median of a block would be the luck of a batch.
pub const MIN_PER_BLOCK: usize = 5;
/// Standard deviations of the Mann–Kendall statistic: without a trend, one run in 370 reaches it.
pub const UNSTEADY_Z: f64 = 3.0;
/// Once the latency has drifted by a quarter, its mean says more about the length of the run than about the server.
pub const UNSTEADY_CHANGE: f64 = 0.25;

/// The reason, if the latency has a trend.
pub(super) fn reason(point: &LoadPoint, fold: &Fold) -> Option<Reason> {
    let (early_ms, late_ms) = trend(point, fold)?;
    Some(Reason::suspect(format!(
        "unsteady: the median latency went from {early_ms:.0} to {late_ms:.0} ms ({:+.0} %) within the measured window",
        100.0 * (late_ms / early_ms - 1.0)
    )))
}

/// Median latencies of the first and of the last third of the steady part, ms; `None` when they are alike, when the
/// difference may be chance, or when the requests are too few.
fn trend(point: &LoadPoint, fold: &Fold) -> Option<(f64, f64)> {
    if point.arrival.ramp().is_some() || matches!(point.arrival, Arrival::Trace { .. }) {
        // The load is meant to change.
        return None;
    }
    let steady = steady(fold);
    let median = |positions: &[u32]| median(fold, positions);
    let each = steady.len() / BLOCKS;
    if each < MIN_PER_BLOCK {
        return None;
    }
    let medians: Vec<f64> = steady.chunks(each).take(BLOCKS).map(median).collect();
    let third = steady.len() / 3;
    let (early, late) = (median(steady.get(..third)?), median(steady.get(steady.len() - third..)?));
    let (low, high) = (early.min(late), early.max(late));
    (mann_kendall(&medians).abs() >= UNSTEADY_Z && high > low * (1.0 + UNSTEADY_CHANGE))
        .then_some((early, late))
}

/// Positions of the requests with a latency, in the order of sending. As many requests as were sent before the first answer
/// was complete are left out at either end: in a closed loop that is the concurrency, the first wave and the last one,
/// which the server answers while others drop out.
fn steady(fold: &Fold) -> Vec<u32> {
    let Some(first_end) = fold.good().filter_map(RequestFigures::last_us).min() else { return Vec::new() };
    let sent_us = |at: &u32| fold.requests.get(*at as usize).map_or(0, |request| request.sent_us);
    let mut sent: Vec<u32> = Vec::with_capacity(fold.requests.len());
    let good = (0..).zip(&fold.requests).filter(|(_, request)| request.counts() && request.has_content());
    sent.extend(good.map(|(position, _)| position));
    sent.sort_unstable_by_key(sent_us);
    let ends = sent.partition_point(|at| sent_us(at) < first_end);
    sent.truncate(sent.len().saturating_sub(ends));
    sent.drain(..ends.min(sent.len()));
    sent
}

/// The median E2E latency of the requests at these positions, ms.
fn median(fold: &Fold, positions: &[u32]) -> f64 {
    let latencies = positions.iter().filter_map(|at| fold.requests.get(*at as usize)?.e2e_ms());
    let mut sorted = Vec::with_capacity(positions.len());
    sorted.extend(latencies);
    sorted.sort_unstable_by(f64::total_cmp);
    crate::metrics::stats::percentile(&sorted, 50.0)
}

/// The Mann–Kendall statistic in standard deviations, with the correction for continuity: positive for values that rise.
fn mann_kendall(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let pairs = values.iter().enumerate().flat_map(|(i, a)| values.iter().skip(i + 1).map(move |b| (a, b)));
    let score: f64 = pairs.map(|(a, b)| f64::from(b.total_cmp(a) as i8)).sum();
    let deviation = (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
    let corrected = (score.abs() - 1.0).max(0.0).copysign(score);
    if deviation > 0.0 { corrected / deviation } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{point, record};
    use crate::metrics::record::RequestRecord;

    /// A closed loop of `slots` requests in flight; request `i` takes `latency_ms(i)`.
    fn closed(slots: usize, count: u64, latency_ms: impl Fn(u64) -> f64) -> Fold {
        let mut free = vec![0_u64; slots];
        let records: Vec<RequestRecord> = (0..count)
            .map(|id| {
                let slot = (0..slots).min_by_key(|slot| free[*slot]).unwrap();
                let sent_us = free[slot];
                free[slot] += (latency_ms(id) * 1e3) as u64;
                RequestRecord {
                    chunks_us: vec![free[slot] - 1, free[slot]],
                    end_us: free[slot],
                    ..record(id, sent_us)
                }
            })
            .collect();
        Fold::of(&records)
    }

    /// Uniform on 0–1, repeatable.
    fn noise(i: u64) -> f64 {
        (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11) as f64 / (1_u64 << 53) as f64
    }

    #[test]
    fn mann_kendall_by_hand() {
        // 1 3 2 4: five pairs rise, one falls: (4 − 1) / √(4 · 3 · 13 / 18).
        assert!((mann_kendall(&[1.0, 3.0, 2.0, 4.0]) - 3.0 / (156.0_f64 / 18.0).sqrt()).abs() < 1e-12);
        assert_eq!(mann_kendall(&[2.0; 12]), 0.0);
        assert_eq!(mann_kendall(&[1.0]), 0.0);
    }

    #[test]
    fn a_latency_that_rises_or_falls_is_found() {
        let rising = closed(4, 200, |i| 100.0 + i as f64 + 20.0 * noise(i));
        let (early, late) = trend(&point(), &rising).expect("a trend");
        assert!(early > 120.0 && late > 1.5 * early, "{early} {late}");
        let falling = closed(4, 200, |i| 300.0 - i as f64);
        assert!(trend(&point(), &falling).is_some_and(|(early, late)| late < early));
    }

    #[test]
    fn a_steady_latency_is_not_however_much_it_scatters() {
        assert_eq!(trend(&point(), &closed(4, 400, |_| 100.0)), None);
        let found = (0..200_u64).filter(|run| {
            let scattered = closed(4, 120, |i| 20.0 + 400.0 * noise(run * 1_000 + i));
            trend(&point(), &scattered).is_some()
        });
        assert!(found.count() <= 2, "chance");
    }

    #[test]
    fn a_small_drift_is_none() {
        // A tenth over the window, without any scatter: certain, but small.
        assert_eq!(trend(&point(), &closed(4, 200, |i| 100.0 + i as f64 / 20.0)), None);
    }

    #[test]
    fn the_first_and_the_last_wave_are_left_out() {
        let edges = closed(16, 160, |i| {
            if i < 16 {
                900.0
            } else if i >= 144 {
                20.0
            } else {
                100.0
            }
        });
        assert_eq!(trend(&point(), &edges), None);
    }

    #[test]
    fn too_few_requests_say_nothing() {
        let rising = |count| closed(1, count, |i| 100.0 + 50.0 * i as f64);
        assert_eq!(trend(&point(), &rising(61)), None, "59 without the two ends");
        assert!(trend(&point(), &rising(62)).is_some());
        assert_eq!(trend(&point(), &Fold::default()), None);
    }

    #[test]
    fn an_open_loop_over_capacity_is_unsteady() {
        // One server that takes 100 ms, an arrival every 80 ms: the queue grows by 20 ms a request.
        let records: Vec<RequestRecord> = (0..200_u64)
            .map(|id| {
                let (sent_us, end_us) = (80_000 * id, 100_000 * (id + 1));
                RequestRecord { chunks_us: vec![end_us], end_us, ..record(id, sent_us) }
            })
            .collect();
        assert!(trend(&point(), &Fold::of(&records)).is_some_and(|(early, late)| late > 2.0 * early));
    }
}
