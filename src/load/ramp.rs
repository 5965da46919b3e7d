//! The timeline of a ramp that is driven: its stages as instants.

use std::time::{Duration, Instant};

use super::clock::Clock;
use crate::metrics::record::{Phase, StageMark};
use crate::plan::Ramp;

#[derive(Debug)]
pub(crate) struct Timeline {
    ramp: Ramp,
    start: Instant,
    stages: Vec<StageSpan>,
}

#[derive(Debug)]
struct StageSpan {
    mark: StageMark,
    end_us: u64,
    phase: Phase,
}

impl Timeline {
    pub(crate) fn new(ramp: &Ramp, start: Instant, clock: &Clock) -> Self {
        let us = |offset_s: f64| clock.us(start + length(offset_s));
        let stages = (0..).zip(ramp.legs().zip(&ramp.stages)).map(|(index, (leg, stage))| StageSpan {
            mark: StageMark { index, start_us: us(leg.start_s) },
            end_us: us(leg.end_s),
            phase: if stage.cool_down { Phase::CoolDown } else { Phase::Measure },
        });
        Self { ramp: ramp.clone(), start, stages: stages.collect() }
    }

    /// The phase and the stage of a request with the intended instant `at_us`. Later instants belong to the last stage: a
    /// request may leave a moment after the clock was read.
    pub(crate) fn mark(&self, at_us: u64) -> Option<(Phase, StageMark)> {
        let stage = self.stages.iter().find(|stage| at_us < stage.end_us).or(self.stages.last())?;
        Some((stage.phase, stage.mark))
    }

    /// When slot number `slot` of a closed loop sends: from each first instant to each second.
    pub(crate) fn spans(&self, slot: u32) -> impl Iterator<Item = (Instant, Instant)> + use<> {
        let start = self.start;
        let at = move |offset_s: f64| start + length(offset_s);
        self.ramp.spans(slot).into_iter().map(move |(from, to)| (at(from), at(to)))
    }

    pub(crate) fn end(&self) -> Instant {
        self.start + length(self.ramp.duration_s())
    }

    /// When the stages that enter the figures end, if others follow.
    pub(crate) fn figures_end(&self) -> Option<Instant> {
        let measured_s = self.ramp.measured_s();
        (measured_s < self.ramp.duration_s()).then(|| self.start + length(measured_s))
    }
}

/// A span of a ramp. The plan's times are finite; 30 years stand for anything an instant could not hold.
fn length(seconds: f64) -> Duration {
    const LONGEST: Duration = Duration::from_secs(30 * 365 * 86_400);
    Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST).min(LONGEST)
}
