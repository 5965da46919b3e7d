//! The records of a load point folded up as they end: what every figure is computed from once the last has ended.
//!
//! Memory per request is its [`RequestFigures`] and 4 bytes for its place in a ramp or a conversation; gaps are counted by
//! their length, and the chunks are on disk.

use super::failures::FailureTally;
use super::gaps::Gaps;
use super::prefix_cache::CacheTally;
use super::record::{Outcome, Phase, PointRun, RequestRecord};
use super::request_figures::RequestFigures;
use super::stages::{StageFigures, StageFold, StageLoad};
use super::stats::Distribution;
use super::token_check::CountTally;
use super::turns::TurnFold;
use crate::plan::LoadPoint;

/// Everything the figures need of the requests of one load point.
#[derive(Debug, Clone, Default)]
pub struct Fold {
    /// Every request, warm-up included, in order of ending.
    pub(super) requests: Vec<RequestFigures>,
    /// Gaps between the content chunks of the measured requests that ended well.
    pub(super) gaps: Gaps,
    /// Prompt lengths of the measured requests that ended well.
    pub(super) prompts: PromptLengths,
    stages: Option<StageFold>,
    /// The measured requests by their turn.
    pub(super) turns: TurnFold,
    /// What prefix caches may answer of the prompts of all phases, and did by `usage`.
    pub(super) cache: CacheTally,
    /// Output tokens of the measured requests that ended well, where both the server and the client counted them.
    pub(super) counted: CountTally,
    /// The first key of text that is no known content in the measured requests that ended well, and in how many there was any.
    pub(super) unknown: Option<(String, u64)>,
    /// The ways in which requests of all phases failed.
    pub(super) failures: FailureTally,
}

impl Fold {
    /// Nothing yet, for the records of `point`.
    pub fn new(point: &LoadPoint) -> Self {
        Self { stages: StageFold::new(point), ..Self::default() }
    }

    /// The fold of `records`, in order of ending.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a RequestRecord>) -> Self {
        let mut fold = Self::default();
        records.into_iter().for_each(|record| fold.add(record));
        fold
    }

    /// Takes one request that has ended, warm-up included.
    pub fn add(&mut self, record: &RequestRecord) {
        let request = RequestFigures::of(record);
        if request.counts() {
            record.gaps_us().for_each(|gap| self.gaps.add(gap));
            self.prompts.add(record);
            self.counted.add(record);
            if let Some(key) = &record.unknown_content {
                self.unknown.get_or_insert_with(|| (key.clone(), 0)).1 += 1;
            }
        }
        self.failures.add(record);
        self.cache.add(record);
        let position = u32::try_from(self.requests.len()).unwrap_or(u32::MAX);
        if let Some(stages) = &mut self.stages {
            stages.add(record, &request, position);
        }
        self.turns.add(record, &request, position);
        self.requests.push(request);
    }

    /// The figures of each stage; `None` for a point without a ramp.
    pub fn stages(&self) -> Option<Vec<StageFigures>> {
        Some(self.stages.as_ref()?.figures(&self.requests))
    }

    /// The measured requests, in order of ending.
    pub fn measured(&self) -> impl Iterator<Item = &RequestFigures> + '_ {
        self.requests.iter().filter(|request| request.phase == Phase::Measure)
    }

    /// The measured requests that ended well.
    pub fn good(&self) -> impl Iterator<Item = &RequestFigures> + '_ {
        self.requests.iter().filter(|request| request.counts())
    }

    /// The distribution of a metric over the measured requests that ended well.
    pub fn distribution(&self, value: impl Fn(&RequestFigures) -> Option<f64>) -> Option<Distribution> {
        Distribution::of(&mut self.values(self.good().filter_map(value)))
    }

    /// `values`, at most one a request, in memory of the right size.
    pub fn values(&self, values: impl Iterator<Item = f64>) -> Vec<f64> {
        let mut kept = Vec::with_capacity(self.requests.len());
        kept.extend(values);
        kept
    }

    /// Measured requests that were in flight at the planned end of the point and were cut there. They did not fail.
    pub fn cut_at_end(&self, run: &PointRun) -> u64 {
        if run.interrupted || run.aborted.is_some() {
            return 0;
        }
        self.measured().filter(|request| request.outcome == Outcome::Cancelled).count() as u64
    }

    /// The most measured requests that were in flight at once.
    pub fn most_in_flight(&self) -> u64 {
        self.in_flight().most(0, u64::MAX)
    }

    /// The requests after the warm-up, in order of ending: the measured ones, and those of a cool-down, which the servers serve beside
    /// them.
    pub fn after_warmup(&self) -> impl Iterator<Item = &RequestFigures> + '_ {
        self.requests.iter().filter(|request| request.phase != Phase::Warmup)
    }

    /// When the measured requests were in flight.
    pub(super) fn in_flight(&self) -> InFlight {
        InFlight::of(self.measured())
    }

    /// Stages whose requests were all cut at the end, and how many these are.
    pub fn stages_cut(&self) -> impl Iterator<Item = (&str, u64)> + '_ {
        self.stages.iter().flat_map(StageFold::all_cut)
    }

    /// What the stages of a ramp asked for; nothing without a ramp.
    pub(super) fn stage_loads(&self) -> impl Iterator<Item = StageLoad<'_>> + '_ {
        self.stages.iter().flat_map(StageFold::loads)
    }

    /// Measured requests sent per second, first to last. `None` for fewer than two.
    pub fn sent_per_s(&self) -> Option<f64> {
        let sent = || self.measured().map(|request| request.sent_us);
        super::record::per_s(sent().count() as u64, sent().min()?, sent().max()?)
    }
}

/// Instants at which requests were sent and ended, each in order, µs.
pub(super) struct InFlight {
    sent: Vec<u64>,
    ended: Vec<u64>,
}

impl InFlight {
    pub(super) fn of<'a>(requests: impl Iterator<Item = &'a RequestFigures>) -> Self {
        let (mut sent, mut ended): (Vec<u64>, Vec<u64>) =
            requests.map(|request| (request.sent_us, request.end_us)).unzip();
        sent.sort_unstable();
        ended.sort_unstable();
        Self { sent, ended }
    }

    /// How many were in flight at an instant, those sent then included.
    pub(super) fn at(&self, at_us: u64) -> u64 {
        let until = |instants: &[u64]| instants.partition_point(|instant| *instant <= at_us) as u64;
        until(&self.sent).saturating_sub(until(&self.ended))
    }

    /// The most that were in flight at once from one instant until before another.
    pub(super) fn most(&self, from_us: u64, until_us: u64) -> u64 {
        let first = self.sent.partition_point(|sent| *sent < from_us);
        let sent = self.sent.iter().skip(first).take_while(|sent| **sent < until_us);
        sent.map(|sent| self.at(*sent)).chain([self.at(from_us)]).max().unwrap_or(0)
    }

    /// How many were sent from one instant until before another.
    pub(super) fn sent(&self, from_us: u64, until_us: u64) -> u64 {
        let before = |at: u64| self.sent.partition_point(|sent| *sent < at);
        before(until_us).saturating_sub(before(from_us)) as u64
    }
}

/// Prompt lengths against the plan, summed up, tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PromptLengths {
    requests: u64,
    isl: u128,
    planned: u128,
    off: u128,
}

impl PromptLengths {
    fn add(&mut self, record: &RequestRecord) {
        self.requests += 1;
        self.isl += u128::from(record.isl);
        self.planned += u128::from(record.isl_planned);
        self.off += u128::from(record.isl.abs_diff(record.isl_planned));
    }

    /// Mean prompt length, mean prompt length planned, and mean distance between both, whatever the direction.
    pub fn means(&self) -> [f64; 3] {
        [self.isl, self.planned, self.off].map(|sum| sum as f64 / self.requests.max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::record;

    #[test]
    fn only_good_measured_requests_enter_the_gaps() {
        let warmup = RequestRecord { phase: Phase::Warmup, ..record(0, 0) };
        let bad = RequestRecord { outcome: Outcome::Disconnected, ..record(1, 0) };
        assert_eq!(Fold::of(&[warmup, bad, record(2, 0), record(3, 0)]).gaps.count(), 18);
    }
}
