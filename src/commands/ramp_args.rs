//! Options of `bench` that make a ramp.

use clap::Args;

use super::bench::rate;
use crate::document::InputError;
use crate::plan::{Arrival, Level, Limit, Ramp, Spacing};

/// A ramp of the concurrency or of the rate.
#[derive(Debug, Args)]
pub(super) struct RampArgs {
    /// A ramp of the concurrency, in k6's notation: LENGTH:TARGET, each a straight line from the last target, e.g.
    /// 30s:10,2m:50,1m:50,30s:0. With :hold behind it a stage jumps to its target; :cool-down leaves the last ones out of the
    /// figures
    #[arg(long, value_name = "STAGES", conflicts_with_all = ["concurrency", "rate", "stop"], value_parser = whole_stages)]
    stages: Option<Ramp>,
    /// A ramp of the rate, in the same notation
    #[arg(long, value_name = "STAGES", group = "open", conflicts_with_all = ["concurrency", "stages", "stop"])]
    rate_stages: Option<Ramp>,
    /// Concurrency or rate that the ramp starts from [default: 0]
    #[arg(long, value_name = "N", value_parser = rate_or_zero)]
    stages_from: Option<f64>,
}

fn rate_or_zero(text: &str) -> Result<f64, String> {
    if text.trim().parse() == Ok(0.0) { Ok(0.0) } else { rate(text) }
}

fn whole_stages(text: &str) -> Result<Ramp, String> {
    let ramp: Ramp = text.parse()?;
    let broken = ramp.stages.iter().find(|stage| stage.target.fract() != 0.0);
    match broken {
        Some(stage) => Err(format!("{} is not a number of requests; rates are --rate-stages", stage.target)),
        None => Ok(ramp),
    }
}

impl RampArgs {
    /// The ramp, when there is one; the other values are those of an open loop.
    pub(super) fn arrival(&self, spacing: Spacing, limit: Limit) -> Option<Arrival> {
        let start = self.stages_from.unwrap_or(0.0);
        let from_start = |ramp: &Ramp| Ramp { start, ..ramp.clone() };
        match (&self.stages, &self.rate_stages) {
            (Some(ramp), _) => Some(Arrival::Closed { concurrency: Level::Ramp(from_start(ramp)) }),
            (None, Some(ramp)) => Some(Arrival::Open { rate: Level::Ramp(from_start(ramp)), spacing, limit }),
            (None, None) => None,
        }
    }

    /// Whether there is a ramp.
    pub(super) fn is_given(&self) -> bool {
        self.stages.is_some() || self.rate_stages.is_some()
    }

    /// What only all options together tell.
    pub(super) fn check(&self) -> Result<(), InputError> {
        let Some(arrival) = self.arrival(Spacing::Poisson, Limit::default()) else {
            let stray = self.stages_from.map(|_| {
                InputError::new("--stages-from", "found without a ramp").expected("--stages or --rate-stages")
            });
            return stray.map_or(Ok(()), Err);
        };
        let start = self.stages_from.unwrap_or(0.0);
        if self.stages.is_some() && start.fract() != 0.0 {
            return Err(
                InputError::new("--stages-from", format!("found {start}")).expected("a number of requests")
            );
        }
        if arrival.ramp().is_some_and(|ramp| ramp.peak() <= 0.0) {
            let flag = if self.stages.is_some() { "--stages" } else { "--rate-stages" };
            return Err(InputError::new(flag, "found 0 in every stage: nothing would be sent")
                .expected("a target above 0"));
        }
        Ok(())
    }
}
