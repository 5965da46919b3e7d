//! The duration of one engine step as a function of its contents. Pure arithmetic.

use super::roofline::Roofline;
use super::step::StepLoad;

/// Longest step, µs: one day, so that absurd constants do not overflow the clock.
const MAX_STEP_US: f64 = 86_400e6;

/// A step-time model.
#[derive(Debug, Clone, PartialEq)]
pub enum StepCost {
    Linear(LinearCost),
    Roofline(Box<Roofline>),
}

/// The constants of the linear model, in microseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LinearCost {
    /// Every step: weights read, kernels launched, scheduler run.
    pub step_base_us: f64,
    /// Added per sequence in the step.
    pub step_us_per_seq: f64,
    /// Added per 1,000 tokens of context attended to.
    pub step_us_per_1k_kv_tokens: f64,
    /// Added per prompt token computed.
    pub prefill_us_per_token: f64,
}

impl StepCost {
    /// Duration of a step, µs, at least 1 and at most a day.
    pub fn step_us(&self, load: &StepLoad) -> u64 {
        let total = match self {
            Self::Linear(line) => line.us(load),
            Self::Roofline(roofline) => roofline.us(load),
        };
        total.round().clamp(1.0, MAX_STEP_US) as u64
    }

    /// The same model with every cost divided by `speed`.
    pub fn sped_up(&self, speed: f64) -> Self {
        match self {
            Self::Linear(line) => Self::Linear(line.scaled(1.0 / speed)),
            Self::Roofline(roofline) => {
                Self::Roofline(Box::new(Roofline { speed: roofline.speed * speed, ..(**roofline).clone() }))
            }
        }
    }
}

impl LinearCost {
    /// The same model with every cost multiplied by `factor`.
    pub fn scaled(&self, factor: f64) -> Self {
        Self {
            step_base_us: self.step_base_us * factor,
            step_us_per_seq: self.step_us_per_seq * factor,
            step_us_per_1k_kv_tokens: self.step_us_per_1k_kv_tokens * factor,
            prefill_us_per_token: self.prefill_us_per_token * factor,
        }
    }

    fn us(&self, load: &StepLoad) -> f64 {
        self.step_base_us
            + self.step_us_per_seq * f64::from(load.seqs)
            + self.step_us_per_1k_kv_tokens * load.kv_tokens as f64 / 1000.0
            + self.prefill_us_per_token * load.prefill_tokens as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_the_sum_of_its_parts() {
        let cost = StepCost::Linear(LinearCost {
            step_base_us: 4000.0,
            step_us_per_seq: 20.0,
            step_us_per_1k_kv_tokens: 10.0,
            prefill_us_per_token: 20.0,
        });
        let load = StepLoad { seqs: 3, prefill_tokens: 100, kv_tokens: 5000, ..StepLoad::default() };
        assert_eq!(cost.step_us(&load), 4000 + 3 * 20 + 5 * 10 + 100 * 20);
        assert_eq!(cost.sped_up(10.0).step_us(&load), 611);
        assert_eq!(StepCost::Linear(LinearCost::default()).step_us(&load), 1);
    }
}
