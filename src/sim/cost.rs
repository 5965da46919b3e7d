//! How long one engine step takes, as a function of what is in it. Pure arithmetic.
//!
//! Arrow: `profile` fills the constants, `engine` asks for the duration of each step.

/// Longest step there is, µs: one day. Keeps absurd constants from overflowing the clock.
const MAX_STEP_US: f64 = 86_400e6;

/// What one step computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepLoad {
    /// Sequences that take part in the step, in prefill or decode.
    pub seqs: u32,
    /// Prompt tokens computed in the step (a recomputation after a preemption counts as well).
    pub prefill_tokens: u64,
    /// Context tokens the step attends to, summed over its sequences.
    pub kv_tokens: u64,
}

/// The constants of the step-time model. All costs in microseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepCost {
    /// Every step: weights read, kernels launched, scheduler run.
    pub step_base_us: f64,
    /// Added per sequence in the step.
    pub step_us_per_seq: f64,
    /// Added per 1,000 tokens of context attended to.
    pub step_us_per_1k_kv_tokens: f64,
    /// Added per prompt token computed.
    pub prefill_us_per_token: f64,
    /// Deviation from the straight line, as (sequences in the step, µs), ascending; linear in between, constant
    /// outside. Empty: none.
    pub step_extra_us_by_seqs: Vec<(u32, f64)>,
}

impl StepCost {
    /// Duration of a step, µs, at least 1 and at most a day.
    pub fn step_us(&self, load: &StepLoad) -> u64 {
        let total = self.step_base_us
            + self.step_us_per_seq * f64::from(load.seqs)
            + self.step_us_per_1k_kv_tokens * load.kv_tokens as f64 / 1000.0
            + self.prefill_us_per_token * load.prefill_tokens as f64
            + self.extra_us(load.seqs);
        total.round().clamp(1.0, MAX_STEP_US) as u64
    }

    /// The same model with every cost multiplied by `factor`.
    pub fn scaled(&self, factor: f64) -> Self {
        Self {
            step_base_us: self.step_base_us * factor,
            step_us_per_seq: self.step_us_per_seq * factor,
            step_us_per_1k_kv_tokens: self.step_us_per_1k_kv_tokens * factor,
            prefill_us_per_token: self.prefill_us_per_token * factor,
            step_extra_us_by_seqs: self
                .step_extra_us_by_seqs
                .iter()
                .map(|(n, us)| (*n, us * factor))
                .collect(),
        }
    }

    fn extra_us(&self, seqs: u32) -> f64 {
        let table = &self.step_extra_us_by_seqs;
        let after = table.partition_point(|(n, _)| *n <= seqs);
        match (after.checked_sub(1).and_then(|i| table.get(i)), table.get(after)) {
            (None, None) => 0.0,
            (Some((_, us)), None) | (None, Some((_, us))) => *us,
            (Some((n0, us0)), Some((n1, us1))) => {
                us0 + (us1 - us0) * f64::from(seqs - n0) / f64::from(n1 - n0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_the_sum_of_its_parts() {
        let cost = StepCost {
            step_base_us: 4000.0,
            step_us_per_seq: 20.0,
            step_us_per_1k_kv_tokens: 10.0,
            prefill_us_per_token: 20.0,
            step_extra_us_by_seqs: vec![],
        };
        let load = StepLoad { seqs: 3, prefill_tokens: 100, kv_tokens: 5000 };
        assert_eq!(cost.step_us(&load), 4000 + 3 * 20 + 5 * 10 + 100 * 20);
        assert_eq!(cost.scaled(0.1).step_us(&load), 611);
        assert_eq!(StepCost::default().step_us(&load), 1);
    }

    #[test]
    fn the_deviation_is_linear_between_points_and_constant_outside() {
        let cost = StepCost { step_extra_us_by_seqs: vec![(10, 100.0), (20, 300.0)], ..StepCost::default() };
        for (seqs, us) in [(1, 100), (10, 100), (15, 200), (20, 300), (500, 300)] {
            assert_eq!(cost.step_us(&StepLoad { seqs, ..StepLoad::default() }), us, "{seqs} sequences");
        }
    }
}
