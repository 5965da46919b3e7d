//! Conversations in figures, turn by turn: the prompt grows with each turn, and what a prefix cache keeps of it decides the
//! TTFT.

use serde::{Deserialize, Serialize};

use super::record::{Phase, RequestRecord};
use super::request_figures::RequestFigures;
use super::stats::Distribution;
use super::subset::{Latencies, Subset};

/// Turns kept apart; the last one includes all later ones.
pub const MOST_TURNS: usize = 100;

/// The measured requests of one turn of all conversations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TurnFigures {
    /// Number of the turn, from 0. 99 holds all later turns as well.
    pub turn: u32,
    /// Requests sent.
    pub requests: u64,
    /// Of those, complete answers with content. The figures below are theirs.
    pub completed: u64,
    /// Requests that tokmark cut at the end.
    #[serde(default)]
    pub cancelled: u64,
    /// Mean prompt length, earlier turns included, tokens. `null` when none completed.
    pub isl: Option<f64>,
    /// Mean output length, tokens. `null` when none completed.
    pub osl: Option<f64>,
    /// Time to first token, ms. `null` without streaming.
    pub ttft_ms: Option<Distribution>,
    /// Inter-token latency, ms. `null` without streaming.
    pub itl_ms: Option<Distribution>,
    /// E2E latency, ms.
    pub e2e_ms: Option<Distribution>,
}

/// Gathers the requests of each turn, in any order. Empty, and without memory, while no request belongs to a conversation.
#[derive(Debug, Clone, Default)]
pub struct TurnFold(Vec<Subset>);

impl TurnFold {
    /// Adds the request at `position` of the fold; one of a warm-up or a cool-down changes nothing.
    pub(super) fn add(&mut self, record: &RequestRecord, request: &RequestFigures, position: u32) {
        let Some(mark) = record.turn.filter(|_| record.phase == Phase::Measure) else { return };
        let index = (mark.turn as usize).min(MOST_TURNS - 1);
        if self.0.len() <= index {
            self.0.resize_with(index + 1, Subset::default);
        }
        if let Some(subset) = self.0.get_mut(index) {
            subset.add(request, position);
        }
    }

    /// Conversations that began in the measured phase; `None` without conversations.
    pub fn conversations(&self) -> Option<u64> {
        self.0.first().map(|subset| subset.requests)
    }

    /// The figures, turn by turn, from all requests; turns without a request are left out.
    pub fn figures(&self, all: &[RequestFigures], streamed: bool) -> Vec<TurnFigures> {
        let sent = (0..).zip(&self.0).filter(|(_, subset)| subset.requests > 0);
        let figures = sent.map(|(turn, subset)| {
            let Latencies { ttft_ms, itl_ms, e2e_ms } = subset.latencies(all, streamed);
            TurnFigures {
                turn,
                requests: subset.requests,
                completed: subset.completed(),
                cancelled: subset.cancelled,
                isl: subset.mean(all, |request| request.isl),
                osl: subset.mean(all, |request| request.osl),
                ttft_ms,
                itl_ms,
                e2e_ms,
            }
        });
        figures.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{any_record, failed, record};
    use crate::metrics::fold::Fold;
    use crate::metrics::record::{Outcome, TurnMark};
    use proptest::prelude::*;

    fn turn(conversation: u64, turn: u32, record: RequestRecord) -> RequestRecord {
        RequestRecord { turn: Some(TurnMark { conversation, turn }), ..record }
    }

    fn turns<'a>(records: impl IntoIterator<Item = &'a RequestRecord>, streamed: bool) -> Vec<TurnFigures> {
        let fold = Fold::of(records);
        fold.turns.figures(&fold.requests, streamed)
    }

    #[test]
    fn worked_by_hand() {
        // TTFT 50 ms, ITL 10 ms, E2E 140 ms; the second turn of the second conversation is 30 ms faster throughout.
        let mut cached = RequestRecord { isl: 300, osl: 4, ..record(3, 3_000_000) };
        cached.chunks_us.iter_mut().for_each(|at| *at -= 30_000);
        cached.chunks_us.truncate(4);
        let records = [
            RequestRecord { phase: Phase::Warmup, ..turn(0, 0, record(0, 0)) },
            turn(1, 0, record(1, 1_000_000)),
            turn(0, 0, record(0, 1_000_000)),
            turn(1, 1, cached),
            turn(0, 1, RequestRecord { isl: 200, ..record(2, 2_000_000) }),
            turn(0, 2, failed(4, 4_000_000, Outcome::Timeout)),
        ];
        let found = turns(&records, true);
        let [first, second, third] = &found[..] else { panic!("{found:?}") };
        assert_eq!((first.turn, first.requests, first.completed), (0, 2, 2));
        assert_eq!((first.isl, first.osl), (Some(100.0), Some(10.0)));
        assert_eq!(first.ttft_ms.expect("ttft").avg, 50.0);
        assert_eq!((second.turn, second.isl, second.osl), (1, Some(250.0), Some(7.0)));
        let (ttft, e2e) = (second.ttft_ms.expect("ttft"), second.e2e_ms.expect("e2e"));
        assert_eq!((ttft.min, ttft.max, second.itl_ms.expect("itl").max), (20.0, 50.0, 10.0));
        // 20 ms and three gaps, 50 ms and nine.
        assert_eq!((e2e.min, e2e.max), (50.0, 140.0));
        assert_eq!((third.turn, third.requests, third.completed), (2, 1, 0));
        assert_eq!((third.isl, third.osl, third.e2e_ms), (None, None, None));
        assert_eq!(Fold::of(&records).turns.conversations(), Some(2));
    }

    #[test]
    fn what_does_not_apply_is_absent() {
        let alone = Fold::of(&[record(0, 0)]);
        assert_eq!((alone.turns.conversations(), turns(&[record(0, 0)], true)), (None, vec![]));
        assert_eq!(alone.turns.0.capacity(), 0, "no memory without conversations");
        let unstreamed = turns(&[turn(0, 0, record(0, 0))], false);
        assert_eq!((unstreamed[0].ttft_ms, unstreamed[0].itl_ms), (None, None));
        assert_eq!(unstreamed[0].e2e_ms.expect("e2e").avg, 140.0);
    }

    #[test]
    fn late_turns_share_the_last_place() {
        let records: Vec<_> =
            [98, 99, 100, u32::MAX].map(|number| turn(0, number, record(number.into(), 0))).into();
        let counts: Vec<_> = turns(&records, true).iter().map(|turn| (turn.turn, turn.requests)).collect();
        assert_eq!(counts, [(98, 1), (99, 3)]);
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_nothing_is_counted_twice(
            records in prop::collection::vec((any_record(), 0..130_u32), 0..30),
        ) {
            let records: Vec<_> = records.into_iter().map(|(record, number)| turn(0, number, record)).collect();
            let forth = turns(&records, true);
            let measured = records.iter().filter(|record| record.phase == Phase::Measure).count();
            prop_assert_eq!(forth.iter().map(|turn| turn.requests).sum::<u64>(), measured as u64);
            let counts = |turns: &[TurnFigures]| -> Vec<_> {
                turns.iter().map(|turn| (turn.turn, turn.requests, turn.completed, turn.isl)).collect()
            };
            prop_assert_eq!(counts(&forth), counts(&turns(records.iter().rev(), true)));
        }
    }
}
