//! The two peaks of vLLM: chunks in the busiest second and requests alive in the fullest one.
//!
//! Seconds are counted from the first successful request. A request is alive in every second it touches, so that
//! `max_concurrent_requests` may exceed the concurrency.

use super::totals::Figures;
use super::{Results, succeeded};
use crate::metrics::fold::Fold;
use crate::metrics::record::RequestRecord;
use crate::metrics::request_figures::RequestFigures;
use serde_json::json;
use std::collections::BTreeMap;

/// Both, and a rate that only answers with audio have.
pub(super) fn peaks(results: &Results<'_>, fold: &Fold) -> Figures {
    let busiest = if results.point.streaming { busiest_second(results.records) } else { 0 };
    let found = [
        ("max_output_tokens_per_s", json!(busiest as f64)),
        ("max_concurrent_requests", json!(most_alive(fold))),
        ("rtfx", json!(0.0)),
    ];
    found.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
}

const US_PER_S: u64 = 1_000_000;

fn second(start_us: u64, at: u64) -> u64 {
    at.saturating_sub(start_us) / US_PER_S
}

/// `max_output_tokens_per_s`, which counts the chunks of the good requests; 0 without any.
fn busiest_second(records: &[&RequestRecord]) -> u64 {
    let good = || records.iter().filter(|record| succeeded(&RequestFigures::of(record)));
    let Some(start) = good().map(|record| record.sent_us).min() else { return 0 };
    let mut by_second: BTreeMap<u64, u64> = BTreeMap::new();
    good().flat_map(|record| &record.chunks_us).for_each(|at| {
        *by_second.entry(second(start, *at)).or_default() += 1;
    });
    by_second.values().copied().max().unwrap_or(0)
}

/// `max_concurrent_requests`; 0 when no request succeeded.
fn most_alive(fold: &Fold) -> u64 {
    let sent = fold.measured().filter(|request| succeeded(request)).map(|request| request.sent_us);
    let Some(start) = sent.min() else { return 0 };
    // How many requests more there are from this second on.
    let mut alive: BTreeMap<u64, i64> = BTreeMap::new();
    for request in fold.measured().filter(|request| succeeded(request)) {
        let first = second(start, request.sent_us);
        let last = request.last_us().map_or(first, |last| second(start, last)).max(first);
        *alive.entry(first).or_default() += 1;
        *alive.entry(last + 1).or_default() -= 1;
    }
    let level = alive.values().scan(0_i64, |level, change| {
        *level += change;
        Some(*level)
    });
    level.max().unwrap_or(0).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{failed, record};
    use crate::metrics::record::Outcome;

    fn peaks(records: &[RequestRecord]) -> (u64, u64) {
        (busiest_second(&records.iter().collect::<Vec<_>>()), most_alive(&Fold::of(records)))
    }

    #[test]
    fn worked_by_hand() {
        // First: 0.5–0.64 s, ten chunks. Second: chunks at 1.45 … 1.54 s, so five before the second is full (1.5 s after
        // the first was sent at 0.5 s is second 1) and five after.
        let (first, second) = (record(0, 500_000), record(1, 1_400_000));
        assert_eq!(peaks(&[first, second.clone()]), (15, 2));
        assert_eq!(peaks(&[second]), (10, 1));
    }

    #[test]
    fn failed_requests_have_no_part() {
        assert_eq!(peaks(&[]), (0, 0));
        assert_eq!(peaks(&[failed(0, 0, Outcome::Timeout)]), (0, 0));
    }
}
