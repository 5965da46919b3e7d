//! The intended arrivals of an open loop: one drawn sequence of instants for the whole load point.
//!
//! Pure: (load point, phase) → the same instants for ever, however many threads send. A schedule per thread would not be
//! Poisson any more once the threads are in step. Arrow: `plan::LoadPoint` → here → `pace`.

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::prompts::fnv1a;
use crate::metrics::record::Phase;
use crate::plan::{LoadPoint, OpenLoop, Spacing};

/// Offsets of the arrivals from the start of the phase, ascending; the first is 0. Never ends.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    open: OpenLoop,
    rng: ChaCha8Rng,
    /// Arrivals given out.
    number: u64,
    /// Offset of the last one, seconds.
    at_s: f64,
}

impl Schedule {
    pub(crate) fn new(open: OpenLoop, point: &LoadPoint, phase: Phase) -> Self {
        // Prompts use the tags 0 and 1 in the same place of their key, so the streams never meet.
        let tag = match phase {
            Phase::Warmup => 3,
            Phase::Measure => 2,
        };
        let mut key = [0; 32];
        for (part, value) in key.chunks_exact_mut(8).zip([point.seed, fnv1a(point.id.as_bytes()), tag, 0]) {
            part.copy_from_slice(&u64::to_le_bytes(value));
        }
        Self { open, rng: ChaCha8Rng::from_seed(key), number: 0, at_s: 0.0 }
    }

    /// The next gap, in units of the mean gap.
    fn gap(&mut self) -> f64 {
        match self.open.spacing {
            Spacing::Constant => 1.0,
            Spacing::Poisson => self.exponential(),
            // Mean `shape` at scale 1.
            Spacing::Gamma { shape } => self.gamma(shape) / shape,
        }
    }

    /// Uniform on (0, 1].
    fn unit(&mut self) -> f64 {
        1.0 - (self.rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }

    /// Box–Muller.
    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Scale 1. Marsaglia and Tsang, "A simple method for generating gamma variables", ACM TOMS 26 (2000); shapes below 1
    /// by the power of a uniform number given there.
    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            return self.gamma(shape + 1.0) * self.unit().powf(1.0 / shape);
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && self.unit().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.number > 0 {
            self.at_s = match self.open.spacing {
                // Not summed up: no rounding adds up however long it runs.
                Spacing::Constant => self.number as f64 / self.open.rate,
                _ => self.at_s + self.gap() / self.open.rate,
            };
        }
        self.number += 1;
        Some(Duration::try_from_secs_f64(self.at_s).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::testing::open_point;

    fn schedule(rate: f64, spacing: Spacing) -> Schedule {
        let point = open_point(rate, spacing);
        let crate::plan::Arrival::Open(open) = point.arrival else { panic!("{point:?}") };
        Schedule::new(open, &point, Phase::Measure)
    }

    /// `count` gaps in units of the mean gap.
    fn gaps(rate: f64, spacing: Spacing, count: usize) -> Vec<f64> {
        let at: Vec<f64> = schedule(rate, spacing).take(count + 1).map(|at| at.as_secs_f64()).collect();
        at.windows(2).map(|two| (two[1] - two[0]) * rate).collect()
    }

    /// Kolmogorov–Smirnov statistic against `cdf`, times √n. Above 1.63 in 1 % of honest samples.
    fn kolmogorov_smirnov(mut sample: Vec<f64>, cdf: impl Fn(f64) -> f64) -> f64 {
        sample.sort_unstable_by(f64::total_cmp);
        let n = sample.len() as f64;
        let distance = sample.iter().enumerate().map(|(i, x)| {
            let expected = cdf(*x);
            (expected - i as f64 / n).abs().max((expected - (i + 1) as f64 / n).abs())
        });
        distance.fold(0.0, f64::max) * n.sqrt()
    }

    #[test]
    fn constant_spacing_is_exact_and_does_not_drift() {
        let at: Vec<Duration> = schedule(8.0, Spacing::Constant).take(4).collect();
        assert_eq!(at, [0, 125, 250, 375].map(Duration::from_millis));
        let late = schedule(3.0, Spacing::Constant).nth(3_000_000).unwrap();
        assert_eq!(late, Duration::from_secs(1_000_000));
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        let statistic = kolmogorov_smirnov(gaps(2000.0, Spacing::Poisson, 20_000), |x| 1.0 - (-x).exp());
        assert!(statistic < 1.63, "{statistic}");
        // The test can fail: even gaps and gaps of another rate are found out.
        assert!(kolmogorov_smirnov(gaps(2000.0, Spacing::Constant, 20_000), |x| 1.0 - (-x).exp()) > 50.0);
        let faster = kolmogorov_smirnov(gaps(2000.0, Spacing::Poisson, 20_000), |x| 1.0 - (-1.1 * x).exp());
        assert!(faster > 1.63, "{faster}");
    }

    #[test]
    fn gamma_gaps_are_gamma_distributed() {
        // Erlang distributions have closed forms; x is in units of the mean, so the scale is 1 / shape.
        let erlang2 = |x: f64| 1.0 - (-2.0 * x).exp() * (1.0 + 2.0 * x);
        let erlang3 = |x: f64| 1.0 - (-3.0 * x).exp() * (1.0 + 3.0 * x + 4.5 * x * x);
        for (shape, cdf) in [(2.0, &erlang2 as &dyn Fn(f64) -> f64), (3.0, &erlang3)] {
            let statistic = kolmogorov_smirnov(gaps(50.0, Spacing::Gamma { shape }, 20_000), cdf);
            assert!(statistic < 1.63, "shape {shape}: {statistic}");
        }
        let one = gaps(50.0, Spacing::Gamma { shape: 1.0 }, 20_000);
        assert!(kolmogorov_smirnov(one, |x| 1.0 - (-x).exp()) < 1.63, "shape 1 is Poisson");
    }

    #[test]
    fn the_mean_is_the_rate_and_the_shape_is_the_burstiness() {
        for (spacing, variation) in [
            (Spacing::Poisson, 1.0),
            (Spacing::Gamma { shape: 0.25 }, 2.0),
            (Spacing::Gamma { shape: 4.0 }, 0.5),
            (Spacing::Constant, 0.0),
        ] {
            let gaps = gaps(12.5, spacing, 100_000);
            let n = gaps.len() as f64;
            let mean = gaps.iter().sum::<f64>() / n;
            let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / n).sqrt();
            // Four standard errors of the mean.
            assert!((mean - 1.0).abs() <= 4.0 * variation / n.sqrt() + 1e-6, "{spacing}: {mean}");
            assert!((deviation - variation).abs() < 0.05, "{spacing}: {deviation}");
        }
    }

    #[test]
    fn schedules_repeat_and_differ_by_seed_point_and_phase() {
        let point = open_point(10.0, Spacing::Poisson);
        let crate::plan::Arrival::Open(open) = point.arrival else { panic!("{point:?}") };
        let take = |point: &LoadPoint, phase| Schedule::new(open, point, phase).take(50).collect::<Vec<_>>();
        let base = take(&point, Phase::Measure);
        assert_eq!(base, take(&point, Phase::Measure));
        assert!(base.is_sorted() && base[0] == Duration::ZERO);
        assert_ne!(base, take(&point, Phase::Warmup));
        assert_ne!(base, take(&LoadPoint { seed: point.seed + 1, ..point.clone() }, Phase::Measure));
        assert_ne!(base, take(&LoadPoint { id: "other".into(), ..point }, Phase::Measure));
    }

    #[test]
    fn extreme_rates_and_shapes_stay_ordered() {
        for (rate, spacing) in [
            (1e6, Spacing::Poisson),
            (1e-9, Spacing::Poisson),
            (f64::MIN_POSITIVE, Spacing::Constant),
            (1.0, Spacing::Gamma { shape: 0.01 }),
            (1.0, Spacing::Gamma { shape: 1000.0 }),
        ] {
            let at: Vec<Duration> = schedule(rate, spacing).take(1000).collect();
            assert!(at.is_sorted(), "{rate} {spacing}");
        }
    }
}
