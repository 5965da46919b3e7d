//! Names of load points, which are the names of their folders too.

use super::{Arrival, Length, Level, LoadPoint, PromptKind, PromptSpec};

/// `isl128_osl1000_con64`, `isl128_osl1000_rate12.5`: the stable, readable name of a load point and of its folder. A ramp is
/// named after its highest value: `isl128_osl1000_ramp64`, `isl128_osl1000_ramprate12.5`. Lengths that come from a file are
/// named after it: `dolly_osl128_con64`, `sharegpt_con64`, `mooncake`.
pub fn point_id(isl: Length, osl: Length, prompts: &PromptSpec, arrival: &Arrival) -> String {
    let load = match arrival {
        Arrival::Closed { concurrency: Level::Constant(concurrency) } => format!("_con{concurrency}"),
        Arrival::Closed { concurrency: Level::Ramp(ramp) } => format!("_ramp{}", ramp.peak()),
        Arrival::Open { rate: Level::Constant(rate), .. } => format!("_rate{rate}"),
        Arrival::Open { rate: Level::Ramp(ramp), .. } => format!("_ramprate{}", ramp.peak()),
        Arrival::Trace { .. } => String::new(),
    };
    format!("{}{load}", prompts_id(isl, osl, prompts))
}

/// The part of the name that says what is sent.
fn prompts_id(isl: Length, osl: Length, prompts: &PromptSpec) -> String {
    let lengths = match &prompts.source {
        PromptKind::Synthetic(_) => format!("isl{}_osl{}", isl.mean, osl.mean),
        PromptKind::Dataset(dataset) if dataset.own_lengths => dataset.kind.as_str().to_owned(),
        PromptKind::Dataset(dataset) => format!("{}_osl{}", dataset.kind.as_str(), osl.mean),
        PromptKind::Trace(trace) => trace.kind.as_str().to_owned(),
    };
    let turns =
        prompts.conversation.map_or(String::new(), |conversation| format!("_turns{}", conversation.turns));
    format!("{lengths}{turns}")
}

impl LoadPoint {
    /// Its name without a constant load: points that share it differ in their load alone and make one line of a chart.
    pub fn series(&self) -> String {
        let id = self.load_id();
        if self.arrival.ramp().is_some() {
            return id.to_owned();
        }
        let plain = point_id(self.isl, self.osl, &self.prompts, &self.arrival);
        match id.strip_prefix(&plain) {
            // Other axes of a sweep.
            Some(axes) => format!("{}{axes}", prompts_id(self.isl, self.osl, &self.prompts)),
            None => id.to_owned(),
        }
    }

    /// Its name without the number of the repeat: the same for all measurements of one load.
    pub fn load_id(&self) -> &str {
        self.repeat.as_ref().map_or(&self.id, |repeat| without_repeat(&self.id, repeat.number))
    }
}

/// The name of a repeat without its number: `isl128_osl64_con8` of `isl128_osl64_con8_r2`.
pub fn without_repeat(name: &str, number: u32) -> &str {
    name.strip_suffix(&format!("_r{number}")).unwrap_or(name)
}
