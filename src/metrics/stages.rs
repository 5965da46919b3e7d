//! A ramp in figures, stage by stage.
//!
//! Latencies and counts are those of the requests sent in a stage (open loop: meant to be sent). Throughput is what came out
//! while the stage lasted, whenever it was requested: requests that ended and tokens that arrived in its window. With
//! answers longer than a stage the two differ much, and only the second shows what the server did under that load.

use serde::{Deserialize, Serialize};

use super::record::{Phase, RequestRecord};
use super::request_figures::RequestFigures;
use super::server::{LayerView, Watched};
use super::stats::Distribution;
use super::subset::{Latencies, Subset};
use super::summary::meets;
use crate::plan::{Arrival, LoadPoint, Ramp, Slo};

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
    /// What the engines' metrics pages said while it lasted, of the frontends where engines have none; absent without pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servers: Option<Box<LayerView>>,
    /// A stage in which the load rises, in equal parts that each last as long as an average answer or longer, so that what came out in
    /// one is what its load led to. Absent when the load rises too fast for two of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<StageFigures>,
}

impl StageFigures {
    /// The loads that were held, or passed slowly enough to be read as held, each with its figures. A slice stands for its mean load, to
    /// three digits.
    pub fn levels(&self) -> impl Iterator<Item = (f64, &Self)> {
        let mean = |slice: &Self| {
            let mean = slice.from.midpoint(slice.to);
            let unit = 10_f64.powf(2.0 - mean.log10().floor());
            (mean * unit).round() / unit
        };
        let is_held = self.from == self.to && self.to > 0.0 && self.end_s > self.start_s;
        let has_answers = self.requests == 0 || self.cancelled < self.requests;
        let held = (is_held && has_answers).then_some((self.to, self));
        held.into_iter().chain(self.slices.iter().map(move |slice| (mean(slice), slice)))
    }

    /// Adds what the servers said during the stage and each of its slices.
    pub(crate) fn add_servers(&mut self, watched: &Watched) {
        // `as` saturates.
        let us = |seconds: f64| (seconds * 1e6) as u64;
        self.servers = watched.layer_within(us(self.start_s), us(self.end_s)).map(Box::new);
        self.slices.iter_mut().for_each(|slice| slice.add_servers(watched));
    }
}

/// Parts of a rising stage that are counted apart, to be joined to slices.
const PIECES: usize = 12;
/// Into how many slices a stage may be divided: divisors of [`PIECES`]. With one slice the load would rise by the whole stage within an
/// answer.
const SLICES: [usize; 4] = [6, 4, 3, 2];

/// Gathers the figures of the stages, record by record, in any order.
#[derive(Debug, Clone)]
pub struct StageFold {
    stages: Vec<Tally>,
    /// The stages whose load rises, each in [`PIECES`] equal parts.
    pieces: Vec<Tally>,
    slo: Slo,
    streaming: bool,
    is_open: bool,
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
        let stages = tallies(ramp);
        let pieces = stages.iter().filter(|stage| stage.to > stage.from).flat_map(Tally::pieces).collect();
        let is_open = !matches!(point.arrival, Arrival::Closed { .. });
        Some(Self { stages, pieces, slo: point.slo, streaming: point.streaming, is_open, start_us: None })
    }

    /// Adds the request at `position` of the fold; one of a warm-up or a cool-down changes nothing.
    pub(crate) fn add(&mut self, record: &RequestRecord, request: &RequestFigures, position: u32) {
        let Some(mark) = record.stage.filter(|_| record.phase == Phase::Measure) else { return };
        let Some(tally) = self.stages.get_mut(mark.index as usize) else { return };
        let start_us = *self.start_us.get_or_insert(mark.start_us.saturating_sub(tally.start_us));
        let good = meets(request, &self.slo, self.streaming) && request.counts();
        tally.send(request, position, good);
        let sent_us = if self.is_open { record.scheduled_us } else { record.sent_us };
        if let Some(piece) = at(&mut self.pieces, start_us, sent_us) {
            piece.send(request, position, good);
        }
        if !request.counts() {
            return;
        }
        let per_chunk = record.osl as f64 / record.chunks_us.len().max(1) as f64;
        for tallies in [&mut self.stages, &mut self.pieces] {
            if let Some(tally) = at(tallies, start_us, record.end_us) {
                tally.ended += 1;
                tally.ended_good += u64::from(good);
            }
            for at_us in &record.chunks_us {
                if let Some(tally) = at(tallies, start_us, *at_us) {
                    tally.tokens += per_chunk;
                }
            }
        }
    }

    /// The figures, stage by stage, from all requests.
    pub(crate) fn figures(&self, all: &[RequestFigures]) -> Vec<StageFigures> {
        let of = |tally: &Tally| {
            let figures = self.figures_of(tally, all);
            StageFigures { slices: self.slices(tally, figures.e2e_ms, all), ..figures }
        };
        self.stages.iter().map(of).collect()
    }

    /// The slices of a stage whose answers took so long: as many as [`SLICES`] allows.
    fn slices(
        &self,
        stage: &Tally,
        e2e_ms: Option<Distribution>,
        all: &[RequestFigures],
    ) -> Vec<StageFigures> {
        let is_in = |piece: &&Tally| (stage.start_us..stage.end_us).contains(&piece.start_us);
        let pieces: Vec<&Tally> = self.pieces.iter().filter(is_in).collect();
        let length_ms = stage.end_us.saturating_sub(stage.start_us) as f64 / 1e3;
        let outlasts = |count: &usize| e2e_ms.is_some_and(|e2e| length_ms / *count as f64 >= e2e.avg);
        let Some(count) = SLICES.into_iter().find(outlasts) else { return Vec::new() };
        let slices = pieces.chunks(PIECES / count).enumerate().filter_map(|(at, pieces)| {
            let name = format!("{} {}/{count}", stage.name, at + 1);
            Some(self.figures_of(&Tally { name, ..Tally::join(pieces)? }, all))
        });
        slices.collect()
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
            servers: None,
            slices: Vec::new(),
        }
    }
}

/// The part that an instant of the records falls into. `tallies` are in order of time.
fn at(tallies: &mut [Tally], start_us: u64, at_us: u64) -> Option<&mut Tally> {
    let offset_us = at_us.checked_sub(start_us)?;
    let index = tallies.partition_point(|tally| tally.end_us <= offset_us);
    tallies.get_mut(index).filter(|tally| tally.start_us <= offset_us)
}

impl Tally {
    /// Counts a request that was sent in it.
    fn send(&mut self, request: &RequestFigures, position: u32, good: bool) {
        self.subset.add(request, position);
        self.good += u64::from(good);
    }

    /// The stage in [`PIECES`] equal parts, empty.
    fn pieces(&self) -> impl Iterator<Item = Self> {
        let (length_us, rise) = (self.end_us - self.start_us, self.to - self.from);
        let (start_us, from) = (self.start_us, self.from);
        (0..PIECES as u64).map(move |part| {
            let us = |part: u64| start_us + length_us * part / PIECES as u64;
            let load = |part: u64| from + rise * part as f64 / PIECES as f64;
            Self {
                start_us: us(part),
                end_us: us(part + 1),
                from: load(part),
                to: load(part + 1),
                ..Self::default()
            }
        })
    }

    /// Parts that follow one another, as one. `None` of none.
    fn join(parts: &[&Self]) -> Option<Self> {
        let (first, last) = (parts.first()?, parts.last()?);
        let mut joined = Self {
            start_us: first.start_us,
            end_us: last.end_us,
            from: first.from,
            to: last.to,
            ..Self::default()
        };
        for part in parts {
            joined.subset.join(&part.subset);
            joined.good += part.good;
            joined.ended += part.ended;
            joined.ended_good += part.ended_good;
            joined.tokens += part.tokens;
        }
        Some(joined)
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
#[path = "stages_tests.rs"]
mod tests;
