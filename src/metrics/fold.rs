//! The records of a load point folded up as they end: what every figure is computed from once the last has ended.
//!
//! Memory is a [`Row`] a request, 4 bytes for its place in a ramp or a conversation, and a count per distinct gap; the chunks
//! are on disk.

use super::gaps::Gaps;
use super::prefix_cache::CacheTally;
use super::record::{Outcome, Phase, PointRun, RequestRecord};
use super::row::Row;
use super::rows::Rows;
use super::stages::{StageFigures, StageFold};
use super::stats::Distribution;
use super::token_check::CountTally;
use super::turns::TurnFold;
use crate::plan::LoadPoint;
use std::collections::HashMap;

/// Distinct errors told apart. Beyond that, as when each names its own request, only the outcome is counted.
const MOST_ERRORS: usize = 1_000;

/// Everything the figures need of the requests of one load point.
#[derive(Debug, Clone, Default)]
pub struct Fold {
    rows: Rows,
    measured: Gaps,
    warmup: Gaps,
    prompts: Prompts,
    errors: Errors,
    stages: Option<StageFold>,
    turns: TurnFold,
    cache: CacheTally,
    counted: CountTally,
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
        let row = Row::of(record);
        if record.outcome == Outcome::Ok {
            let gaps = match record.phase {
                Phase::Warmup => Some(&mut self.warmup),
                Phase::Measure => Some(&mut self.measured),
                Phase::CoolDown => None,
            };
            if let Some(gaps) = gaps {
                record.gaps_us().for_each(|gap| gaps.add(gap));
            }
        } else if record.phase == Phase::Measure {
            self.errors.add(record);
        }
        if row.counts() {
            self.prompts.add(record);
            self.counted.add(record);
        }
        self.cache.add(record);
        let position = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        if let Some(stages) = &mut self.stages {
            stages.add(record, &row, position);
        }
        self.turns.add(record, &row, position);
        self.rows.push(row);
    }

    /// The figures of each stage; `None` for a point without a ramp.
    pub fn stages(&self) -> Option<Vec<StageFigures>> {
        Some(self.stages.as_ref()?.figures(&self.rows))
    }

    /// The measured requests by their turn.
    pub fn turns(&self) -> &TurnFold {
        &self.turns
    }

    /// What prefix caches may answer of the prompts of all phases, and did by `usage`.
    pub fn cache(&self) -> &CacheTally {
        &self.cache
    }

    /// Output tokens of the measured requests that ended well, where both the server and the client counted them.
    pub fn counted(&self) -> &CountTally {
        &self.counted
    }

    /// Every request, warm-up included, in order of ending.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The measured requests, in order of ending.
    pub fn measured(&self) -> impl Iterator<Item = &Row> + '_ {
        self.of_phase(Phase::Measure)
    }

    /// The measured requests that ended well.
    pub fn good(&self) -> impl Iterator<Item = &Row> + '_ {
        self.rows.iter().filter(|row| row.counts())
    }

    /// The requests of one phase, in order of ending.
    pub fn of_phase(&self, phase: Phase) -> impl Iterator<Item = &Row> + '_ {
        self.rows.iter().filter(move |row| row.phase() == phase)
    }

    /// Gaps between the content chunks of the good requests of the warm-up, or of the measured phase.
    pub fn gaps(&self, phase: Phase) -> &Gaps {
        match phase {
            Phase::Warmup => &self.warmup,
            Phase::Measure | Phase::CoolDown => &self.measured,
        }
    }

    /// The distribution of a metric over the measured requests that ended well.
    pub fn distribution(&self, value: impl Fn(&Row) -> Option<f64>) -> Option<Distribution> {
        Distribution::of(&mut self.values(self.good().filter_map(value)))
    }

    /// `values`, at most one a request, in memory of the right size.
    pub fn values(&self, values: impl Iterator<Item = f64>) -> Vec<f64> {
        let mut kept = Vec::with_capacity(self.rows.len());
        kept.extend(values);
        kept
    }

    /// Prompt lengths of the measured requests that ended well.
    pub fn prompts(&self) -> Prompts {
        self.prompts
    }

    /// Each distinct outcome and error of the measured requests that failed and how often it happened, in order of first
    /// appearance.
    pub fn errors(&self) -> &[(Outcome, Option<String>, u64)] {
        &self.errors.counts
    }

    /// Measured requests that were in flight at the planned end of the point and were cut there. They did not fail.
    pub fn cut_at_end(&self, run: &PointRun) -> u64 {
        if run.interrupted || run.aborted.is_some() {
            return 0;
        }
        self.measured().filter(|row| row.outcome() == Outcome::Cancelled).count() as u64
    }

    /// Measured requests sent per second, first to last. `None` for fewer than two.
    pub fn sent_per_s(&self) -> Option<f64> {
        let sent = || self.measured().map(|row| row.sent_us);
        super::record::per_s(sent().count() as u64, sent().min()?, sent().max()?)
    }

    /// Positions in [`Fold::rows`] of the measured requests, in the order they were sent in.
    pub fn in_order(&self) -> Vec<u32> {
        let numbered = (0..).zip(self.rows.iter());
        let mut found = Vec::with_capacity(self.rows.len());
        found.extend(numbered.filter(|(_, row)| row.phase() == Phase::Measure).map(|(position, _)| position));
        // Ended in nearly this order, so that a merge sort has little to do; stable for numbers that repeat.
        found.sort_by_key(|position| self.rows.get(*position).map(|row| row.id));
        found
    }
}

/// Prompt lengths against the plan, summed up, tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prompts {
    requests: u64,
    isl: u128,
    planned: u128,
    off: u128,
}

impl Prompts {
    fn add(&mut self, record: &RequestRecord) {
        self.requests += 1;
        self.isl += u128::from(record.isl);
        self.planned += u128::from(record.isl_planned);
        self.off += u128::from(record.isl.abs_diff(record.isl_planned));
    }

    fn mean(&self, sum: u128) -> f64 {
        if self.requests == 0 { 0.0 } else { sum as f64 / self.requests as f64 }
    }

    /// Mean prompt length.
    pub fn mean_isl(&self) -> f64 {
        self.mean(self.isl)
    }

    /// Mean prompt length planned.
    pub fn mean_planned(&self) -> f64 {
        self.mean(self.planned)
    }

    /// Mean distance between both, whatever the direction.
    pub fn mean_off(&self) -> f64 {
        self.mean(self.off)
    }
}

#[derive(Debug, Clone, Default)]
struct Errors {
    counts: Vec<(Outcome, Option<String>, u64)>,
    known: HashMap<(Outcome, Option<String>), usize>,
}

impl Errors {
    fn add(&mut self, record: &RequestRecord) {
        let error = record.error.clone();
        let mut key = (record.outcome, error);
        if self.counts.len() >= MOST_ERRORS && !self.known.contains_key(&key) {
            key.1 = None;
        }
        let next = self.counts.len();
        let index = *self.known.entry(key.clone()).or_insert(next);
        match self.counts.get_mut(index) {
            Some((_, _, count)) => *count += 1,
            None => self.counts.push((key.0, key.1, 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::samples::{failed, record, sound};

    #[test]
    fn gaps_are_those_of_good_requests_by_phase() {
        let warmup = RequestRecord { phase: Phase::Warmup, ..record(0, 0) };
        let bad = RequestRecord { outcome: Outcome::Disconnected, ..record(1, 0) };
        let fold = Fold::of(&[warmup, bad, record(2, 0), record(3, 0)]);
        assert_eq!((fold.gaps(Phase::Warmup).count(), fold.gaps(Phase::Measure).count()), (9, 18));
    }

    #[test]
    fn the_order_of_sending_leaves_warm_up_out() {
        let warmup = RequestRecord { phase: Phase::Warmup, ..record(0, 0) };
        let fold = Fold::of(&[record(2, 0), warmup, record(0, 0), record(1, 0)]);
        assert_eq!(fold.in_order(), [2, 3, 0]);
    }

    #[test]
    fn errors_are_counted_in_order_of_appearance() {
        let mut records = sound();
        records.push(failed(20, 0, Outcome::Timeout));
        records.push(failed(21, 0, Outcome::Http(503)));
        records.push(failed(22, 0, Outcome::Timeout));
        let why = || Some("why".to_owned());
        let expected = [(Outcome::Timeout, why(), 2), (Outcome::Http(503), why(), 1)];
        assert_eq!(Fold::of(&records).errors(), expected);
    }

    #[test]
    fn errors_that_all_differ_do_not_pile_up() {
        let each = |id: u64| RequestRecord {
            error: Some(format!("request {id}")),
            ..failed(id, 0, Outcome::Http(500))
        };
        let fold = Fold::of(&(0..5_000).map(each).collect::<Vec<_>>());
        assert_eq!(fold.errors().len(), MOST_ERRORS + 1);
        assert_eq!(fold.errors().last(), Some(&(Outcome::Http(500), None, 4_000)));
    }
}
