//! A ramp in figures, stage by stage.
//!
//! Latencies and counts are those of the requests sent in a stage (open loop: meant to be sent). Throughput is what came out
//! while the stage lasted, whenever it was requested: requests that ended and tokens that arrived in its window. With
//! answers longer than a stage the two differ much, and only the second shows what the server did under that load.

use serde::{Deserialize, Serialize};

use super::record::{Phase, RequestRecord};
use super::request_figures::RequestFigures;
use super::stats::Distribution;
use super::subset::{Latencies, Subset};
use super::summary::meets;
use crate::plan::{LoadPoint, Ramp, Slo};

/// One measured stage of a ramp in figures. A cool-down has none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StageFigures {
    /// Its name; its number, from 1, when it has none.
    pub name: String,
    /// When it began, seconds since instant 0 of the records.
    pub start_s: f64,
    /// When it ended, seconds since instant 0 of the records.
    pub end_s: f64,
    /// Requests in flight, or arrivals per second, at its start.
    pub from: f64,
    /// Requests in flight, or arrivals per second, at its end.
    pub to: f64,
    /// Requests sent in it; in an open loop those meant to be sent in it.
    pub requests: u64,
    /// Of those, complete answers with content.
    pub completed: u64,
    /// Of those, the ones that tokmark cut at the end.
    #[serde(default)]
    pub cancelled: u64,
    /// Of those, all others.
    pub failed: u64,
    /// Of the completed ones, those that met every SLO; `null` without SLOs.
    pub good: Option<u64>,
    /// Requests that completed while the stage lasted, per second of it.
    pub requests_per_s: f64,
    /// Tokens that arrived while the stage lasted, of requests that completed, per second of it. The tokens of an answer are
    /// spread evenly over its chunks.
    pub output_tokens_per_s: f64,
    /// Requests that completed while the stage lasted and met every SLO, per second of it; `null` without SLOs.
    pub goodput_per_s: Option<f64>,
    /// Time to first token of its requests, ms. `null` without streaming.
    pub ttft_ms: Option<Distribution>,
    /// Inter-token latency of its requests, ms. `null` without streaming.
    pub itl_ms: Option<Distribution>,
    /// E2E latency of its requests, ms.
    pub e2e_ms: Option<Distribution>,
}

/// Gathers the figures of the stages, record by record, in any order.
#[derive(Debug, Clone)]
pub struct StageFold {
    stages: Vec<Tally>,
    slo: Slo,
    streaming: bool,
    /// Start of the ramp, µs since instant 0; known from the first record of any stage.
    start_us: Option<u64>,
}

/// What is known of one stage.
#[derive(Debug, Clone, Default)]
struct Tally {
    name: String,
    /// µs from the start of the ramp.
    start_us: u64,
    /// µs from the start of the ramp.
    end_us: u64,
    from: f64,
    to: f64,
    subset: Subset,
    /// Of the completed requests, those that met every SLO.
    good: u64,
    /// Requests that ended in the window.
    ended: u64,
    /// Those of them that met every SLO.
    ended_good: u64,
    /// Tokens that arrived in the window.
    tokens: f64,
}

/// What a stage asked for, and when, µs since instant 0.
pub(super) struct StageLoad<'a> {
    pub(super) name: &'a str,
    pub(super) start_us: u64,
    pub(super) end_us: u64,
    pub(super) from: f64,
    pub(super) to: f64,
}

impl StageFold {
    /// Nothing yet; `None` for a point without a ramp.
    pub fn new(point: &LoadPoint) -> Option<Self> {
        let ramp = point.arrival.ramp()?;
        Some(Self { stages: tallies(ramp), slo: point.slo, streaming: point.streaming, start_us: None })
    }

    /// Adds the request at `position` of the fold; one of a warm-up or a cool-down changes nothing.
    pub(crate) fn add(&mut self, record: &RequestRecord, request: &RequestFigures, position: u32) {
        let Some(mark) = record.stage.filter(|_| record.phase == Phase::Measure) else { return };
        let index = mark.index as usize;
        let Some(tally) = self.stages.get_mut(index) else { return };
        let start_us = *self.start_us.get_or_insert(mark.start_us.saturating_sub(tally.start_us));
        tally.subset.add(request, position);
        if !request.counts() {
            return;
        }
        let good = meets(request, &self.slo, self.streaming);
        tally.good += u64::from(good);
        if let Some(tally) = self.during(record.end_us, start_us) {
            tally.ended += 1;
            tally.ended_good += u64::from(good);
        }
        let per_chunk = record.osl as f64 / record.chunks_us.len().max(1) as f64;
        for at_us in &record.chunks_us {
            if let Some(tally) = self.during(*at_us, start_us) {
                tally.tokens += per_chunk;
            }
        }
    }

    /// The stage that an instant of the records falls into.
    fn during(&mut self, at_us: u64, start_us: u64) -> Option<&mut Tally> {
        let offset_us = at_us.checked_sub(start_us)?;
        let index = self.stages.partition_point(|tally| tally.end_us <= offset_us);
        self.stages.get_mut(index)
    }

    /// The figures, stage by stage, from all requests.
    pub(crate) fn figures(&self, all: &[RequestFigures]) -> Vec<StageFigures> {
        self.stages.iter().map(|tally| self.figures_of(tally, all)).collect()
    }

    /// Stages whose requests were all cut at the end, and how many these are.
    pub(crate) fn all_cut(&self) -> impl Iterator<Item = (&str, u64)> + '_ {
        let cut = self.stages.iter().map(|tally| (tally.name.as_str(), &tally.subset));
        cut.filter(|(_, of)| of.cancelled > 0 && of.cancelled == of.requests)
            .map(|(name, of)| (name, of.requests))
    }

    /// What each stage asked for; nothing when none began.
    pub(super) fn loads(&self) -> impl Iterator<Item = StageLoad<'_>> {
        self.start_us.into_iter().flat_map(|start_us| {
            self.stages.iter().map(move |tally| StageLoad {
                name: &tally.name,
                start_us: start_us + tally.start_us,
                end_us: start_us + tally.end_us,
                from: tally.from,
                to: tally.to,
            })
        })
    }

    fn figures_of(&self, tally: &Tally, all: &[RequestFigures]) -> StageFigures {
        let (start_us, with_slo) = (self.start_us.unwrap_or(0), !self.slo.is_empty());
        let length_s = tally.end_us.saturating_sub(tally.start_us) as f64 / 1e6;
        let per_s = |amount: f64| if length_s > 0.0 { amount / length_s } else { 0.0 };
        let at_s = |offset_us: u64| start_us.saturating_add(offset_us) as f64 / 1e6;
        let (requests, completed) = (tally.subset.requests, tally.subset.completed());
        let cancelled = tally.subset.cancelled;
        let Latencies { ttft_ms, itl_ms, e2e_ms } = tally.subset.latencies(all, self.streaming);
        StageFigures {
            name: tally.name.clone(),
            start_s: at_s(tally.start_us),
            end_s: at_s(tally.end_us),
            from: tally.from,
            to: tally.to,
            requests,
            completed,
            cancelled,
            failed: requests - completed - cancelled,
            good: with_slo.then_some(tally.good),
            requests_per_s: per_s(tally.ended as f64),
            output_tokens_per_s: per_s(tally.tokens),
            goodput_per_s: with_slo.then(|| per_s(tally.ended_good as f64)),
            ttft_ms,
            itl_ms,
            e2e_ms,
        }
    }
}

/// The measured stages, empty. Each begins where the one before ends, to the µs.
fn tallies(ramp: &Ramp) -> Vec<Tally> {
    // `as` saturates.
    let us = |seconds: f64| (seconds * 1e6).floor() as u64;
    let measured = (1..).zip(ramp.legs().zip(&ramp.stages)).take_while(|(_, (_, stage))| !stage.cool_down);
    let tally = |(number, (leg, stage)): (u32, (crate::plan::Leg, &crate::plan::Stage))| Tally {
        name: stage.name.clone().unwrap_or_else(|| number.to_string()),
        start_us: us(leg.start_s),
        end_us: us(leg.end_s),
        from: leg.from,
        to: leg.to,
        ..Tally::default()
    };
    measured.map(tally).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{any_record, failed, point, record};
    use crate::metrics::fold::Fold;
    use crate::metrics::record::{Outcome, StageMark};
    use crate::plan::ramp::Shape;
    use crate::plan::{Arrival, Level, Stage};
    use proptest::prelude::*;

    fn stages<'a>(
        point: &LoadPoint,
        records: impl IntoIterator<Item = &'a RequestRecord>,
    ) -> Option<Vec<StageFigures>> {
        let mut fold = Fold::new(point);
        records.into_iter().for_each(|record| fold.add(record));
        fold.stages()
    }

    /// 0 → 2 in 1 s, 2 for 1 s, and a cool-down of 1 s.
    fn ramp_point() -> LoadPoint {
        let stage = |name: Option<&str>, target, cool_down| Stage {
            name: name.map(str::to_owned),
            duration_s: 1.0,
            target,
            shape: Shape::Linear,
            cool_down,
        };
        let stages = vec![stage(Some("up"), 2.0, false), stage(None, 2.0, false), stage(None, 0.0, true)];
        let slo = Slo { e2e_ms: Some(139.0), ..Slo::default() };
        let concurrency = Level::Ramp(Ramp { start: 0.0, stages });
        LoadPoint { arrival: Arrival::Closed { concurrency }, slo, ..point() }
    }

    /// `record`, sent in stage `index` of a ramp that began at 5 s.
    fn in_stage(record: RequestRecord, index: u32) -> RequestRecord {
        let start_us = 5_000_000 + 1_000_000 * u64::from(index);
        let phase = if index == 2 { Phase::CoolDown } else { Phase::Measure };
        RequestRecord { stage: Some(StageMark { index, start_us }), phase, ..record }
    }

    #[test]
    fn worked_by_hand() {
        // First chunk 50 ms after the send, then one every 10 ms up to 140 ms, ten tokens.
        let mut fast = in_stage(record(2, 6_200_000), 1);
        fast.chunks_us.iter_mut().for_each(|at| *at -= 40_000);
        let records = [
            RequestRecord { phase: Phase::Warmup, ..record(0, 1_000_000) },
            in_stage(record(0, 5_500_000), 0),
            // Chunks at 5,950 … 5,990 ms belong to the first stage, 6,000 … 6,040 ms to the second, where it ends.
            in_stage(record(1, 5_900_000), 0),
            fast,
            in_stage(failed(3, 6_300_000, Outcome::Timeout), 1),
            // Sent in the second stage, over in the cool-down.
            in_stage(record(4, 6_990_000), 1),
            in_stage(record(5, 7_100_000), 2),
        ];
        let stages = stages(&ramp_point(), &records).expect("a ramp");
        let [up, second] = &stages[..] else { panic!("{stages:?}") };
        assert_eq!((up.name.as_str(), second.name.as_str()), ("up", "2"));
        assert_eq!((up.start_s, up.end_s, second.end_s), (5.0, 6.0, 7.0));
        assert_eq!((up.from, up.to, second.from), (0.0, 2.0, 2.0));
        assert_eq!((up.requests, up.completed, up.failed), (2, 2, 0));
        assert_eq!((second.requests, second.completed, second.failed), (3, 2, 1));
        assert_eq!((up.requests_per_s, second.requests_per_s), (1.0, 2.0));
        assert_eq!((up.output_tokens_per_s, second.output_tokens_per_s), (15.0, 15.0));
        assert_eq!(up.ttft_ms.expect("ttft").avg, 50.0);
        assert_eq!(second.ttft_ms.expect("ttft").min, 10.0);
        assert_eq!(second.itl_ms.expect("itl").avg, 10.0);
        assert_eq!(second.e2e_ms.expect("e2e").avg, 120.0);
        // Only the fast one met the objective.
        assert_eq!((up.good, second.good), (Some(0), Some(1)));
        assert_eq!((up.goodput_per_s, second.goodput_per_s), (Some(0.0), Some(1.0)));
    }

    #[test]
    fn a_stage_that_held_nothing_but_cut_requests_is_named() {
        let cut = |id| RequestRecord { outcome: Outcome::Cancelled, ..in_stage(record(id, 6_900_000), 1) };
        let mut fold = Fold::new(&ramp_point());
        [in_stage(record(0, 5_500_000), 0), cut(1), cut(2)].iter().for_each(|record| fold.add(record));
        let stages = fold.stages().expect("a ramp");
        assert_eq!(
            (stages[1].requests, stages[1].completed, stages[1].failed, stages[1].cancelled),
            (2, 0, 0, 2)
        );
        assert_eq!(fold.stages_cut().collect::<Vec<_>>(), [("2", 2)]);
    }

    #[test]
    fn what_does_not_apply_is_absent() {
        assert_eq!(stages(&point(), &[record(0, 0)]), None);
        let unstreamed = LoadPoint { streaming: false, slo: Slo::default(), ..ramp_point() };
        let found = stages(&unstreamed, &[in_stage(record(0, 5_500_000), 0)]).expect("a ramp");
        assert_eq!(
            (found[0].ttft_ms, found[0].itl_ms, found[0].good, found[0].goodput_per_s),
            (None, None, None, None)
        );
        assert_eq!((found[1].requests, found[1].requests_per_s, found[1].e2e_ms), (0, 0.0, None));
        let json = serde_json::to_value(&found[1]).expect("json");
        assert_eq!((&json["e2e_ms"], &json["good"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_nothing_is_counted_twice(
            records in prop::collection::vec((any_record(), 0..4_u32), 0..20),
        ) {
            let records: Vec<RequestRecord> = records
                .into_iter()
                .map(|(record, index)| {
                    let stage = Some(StageMark { index, start_us: 1_000_000 * u64::from(index) });
                    RequestRecord { stage, osl: record.osl % 1000, ..record }
                })
                .collect();
            let forth = stages(&ramp_point(), &records).unwrap();
            let back = stages(&ramp_point(), records.iter().rev()).unwrap();
            let measured = |record: &&RequestRecord| record.phase == Phase::Measure && record.stage.unwrap().index < 2;
            prop_assert_eq!(
                forth.iter().map(|stage| stage.requests).sum::<u64>(),
                records.iter().filter(measured).count() as u64
            );
            for (one, other) in forth.iter().zip(&back) {
                prop_assert_eq!((one.completed, one.good, one.requests_per_s), (other.completed, other.good, other.requests_per_s));
                prop_assert!((one.output_tokens_per_s - other.output_tokens_per_s).abs() < 1e-6);
                prop_assert!(one.completed <= one.requests && one.good <= Some(one.completed));
            }
        }
    }
}
