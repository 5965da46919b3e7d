//! The intended arrivals of an open loop: one drawn sequence of instants for the whole load point.
//!
//! Pure: the same load point and phase give the same instants, however many threads send. On a ramp, arrivals of a process of
//! rate 1 are mapped through the inverse of the integral of the rate: a non-homogeneous Poisson process for Poisson spacing, and
//! exactly as many arrivals as the integral for constant spacing.

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::metrics::record::Phase;
use crate::plan::{Level, LoadPoint, Spacing};
use crate::prompts::fnv1a;

/// Offsets of the arrivals from the start of the phase, ascending. Never ends: behind the end of a ramp all arrivals are at
/// [`Duration::MAX`]. The first is 0, on a ramp the first instant with a rate above 0.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    instants: Instants,
    spacing: Spacing,
    rng: ChaCha8Rng,
    number: u64,
    /// Where the last one is: seconds at a constant rate, mean arrivals before it on a ramp.
    at: f64,
}

#[derive(Debug, Clone)]
enum Instants {
    /// Drawn; mean arrivals per second.
    Drawn(Level<f64>),
    Recorded(Vec<Duration>),
}

impl Schedule {
    pub(crate) fn new(rate: &Level<f64>, spacing: Spacing, point: &LoadPoint, phase: Phase) -> Self {
        Self::of(Instants::Drawn(rate.clone()), spacing, point, phase)
    }

    /// The arrivals of a trace; behind its end all are at [`Duration::MAX`].
    pub(crate) fn recorded(arrivals: Vec<Duration>, point: &LoadPoint, phase: Phase) -> Self {
        Self::of(Instants::Recorded(arrivals), Spacing::Constant, point, phase)
    }

    fn of(instants: Instants, spacing: Spacing, point: &LoadPoint, phase: Phase) -> Self {
        // Prompts use the tags 0 and 1 in the same place of their key, so the streams never meet.
        let tag = match phase {
            Phase::Warmup => 3,
            Phase::Measure | Phase::CoolDown => 2,
        };
        let mut key = [0; 32];
        for (part, value) in key.chunks_exact_mut(8).zip([point.seed, fnv1a(point.id.as_bytes()), tag, 0]) {
            part.copy_from_slice(&u64::to_le_bytes(value));
        }
        Self { instants, spacing, rng: ChaCha8Rng::from_seed(key), number: 0, at: 0.0 }
    }

    /// The next gap, in units of the mean gap.
    fn gap(&mut self) -> f64 {
        match self.spacing {
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
        let unit = match &self.instants {
            Instants::Drawn(Level::Constant(rate)) => *rate,
            Instants::Drawn(Level::Ramp(_)) => 1.0,
            Instants::Recorded(arrivals) => {
                let at = usize::try_from(self.number).ok().and_then(|number| arrivals.get(number));
                self.number += 1;
                return Some(at.copied().unwrap_or(Duration::MAX));
            }
        };
        if self.number > 0 {
            self.at = match self.spacing {
                // Not summed up: no rounding adds up however long it runs.
                Spacing::Constant => self.number as f64 / unit,
                _ => self.at + self.gap() / unit,
            };
        }
        self.number += 1;
        let at_s = match &self.instants {
            Instants::Drawn(Level::Ramp(ramp)) => ramp.reaches(self.at),
            _ => Some(self.at),
        };
        Some(at_s.and_then(|at_s| Duration::try_from_secs_f64(at_s).ok()).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::testing::open_point;
    use crate::plan::Ramp;

    fn schedule(rate: f64, spacing: Spacing) -> Schedule {
        Schedule::new(&Level::Constant(rate), spacing, &open_point(rate, spacing), Phase::Measure)
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

    /// The arrivals of a ramp, seconds.
    fn arrivals(stages: &str, start: f64, spacing: Spacing) -> Vec<f64> {
        let ramp = Ramp { start, ..stages.parse().unwrap() };
        let (point, duration_s) = (open_point(1.0, spacing), ramp.duration_s());
        let schedule = Schedule::new(&Level::Ramp(ramp), spacing, &point, Phase::Measure);
        schedule.map(|at| at.as_secs_f64()).take_while(|at| *at < duration_s).collect()
    }

    /// 0 → 2000/s in 10 s, 2000/s for 5 s, 500/s for 4 s, 500 → 0 in 4 s: 10,000 + 10,000 + 2,000 + 1,000 arrivals on average.
    const UP_AND_DOWN: &str = "10s:2000,5s:2000,4s:500:hold,4s:0";

    /// Integral of that rate from 0, worked out by hand.
    fn integral(t: f64) -> f64 {
        match t {
            t if t < 10.0 => 100.0 * t * t,
            t if t < 15.0 => 10_000.0 + 2000.0 * (t - 10.0),
            t if t < 19.0 => 20_000.0 + 500.0 * (t - 15.0),
            t => 23_000.0 - 62.5 * (23.0 - t).powi(2),
        }
    }

    #[test]
    fn a_poisson_ramp_follows_the_integrated_intensity() {
        let at = arrivals(UP_AND_DOWN, 0.0, Spacing::Poisson);
        // Four standard deviations of a Poisson number.
        assert!((at.len() as f64 - 23_000.0).abs() < 4.0 * 23_000.0_f64.sqrt(), "{}", at.len());
        // Given their number, the instants are independent with the integral as their distribution. The first is no draw.
        let whole = kolmogorov_smirnov(at[1..].to_vec(), |t| integral(t) / 23_000.0);
        assert!(whole < 1.63, "{whole}");
        // In operational time the process has rate 1: exponential gaps, at the start of the ramp as in its middle.
        let gaps: Vec<f64> = at.windows(2).map(|two| integral(two[1]) - integral(two[0])).collect();
        for part in gaps.chunks(6_000) {
            let statistic = kolmogorov_smirnov(part.to_vec(), |x| 1.0 - (-x).exp());
            assert!(statistic < 1.63, "{statistic}");
        }
        // The test can fail: a process of the mean rate and one that rises in steps are found out.
        assert!(kolmogorov_smirnov(at[1..].to_vec(), |t| t / 23.0) > 10.0);
        let stepped =
            arrivals("5s:500:hold,5s:1500:hold,5s:2000:hold,4s:500:hold,4s:250:hold", 0.0, Spacing::Poisson);
        assert!(kolmogorov_smirnov(stepped[1..].to_vec(), |t| integral(t) / 23_000.0) > 1.63);
    }

    #[test]
    fn a_gamma_ramp_keeps_its_burstiness() {
        let at = arrivals(UP_AND_DOWN, 0.0, Spacing::Gamma { shape: 2.0 });
        let gaps: Vec<f64> = at.windows(2).map(|two| integral(two[1]) - integral(two[0])).collect();
        let statistic = kolmogorov_smirnov(gaps, |x| 1.0 - (-2.0 * x).exp() * (1.0 + 2.0 * x));
        assert!(statistic < 1.63, "{statistic}");
    }

    #[test]
    fn a_constant_ramp_sends_what_its_integral_holds() {
        let at = arrivals(UP_AND_DOWN, 0.0, Spacing::Constant);
        assert_eq!(at.len(), 23_000);
        for until in [1.0, 7.5, 10.0, 12.25, 18.0, 22.0] {
            let sent = at.iter().filter(|at| **at < until).count() as f64;
            assert!((sent - integral(until)).abs() <= 1.0, "{until}: {sent}, {}", integral(until));
        }
        // 0 → 10 in 2 s: 2.5 t² = n. A pause of a second sends nothing.
        let at = arrivals("2s:10,1s:0:hold,1s:2:hold", 0.0, Spacing::Constant);
        assert_eq!(at.len(), 12);
        let expected = (0..10).map(|n| (f64::from(n) / 2.5).sqrt()).chain([3.0, 3.5]);
        assert!(at.iter().zip(expected).all(|(at, expected)| (at - expected).abs() < 1e-6), "{at:?}");
    }

    #[test]
    fn a_stage_that_is_held_is_the_plain_open_loop() {
        for spacing in [Spacing::Constant, Spacing::Poisson, Spacing::Gamma { shape: 0.5 }] {
            let held = arrivals("20s:50:hold", 7.0, spacing);
            let plain: Vec<f64> =
                schedule(50.0, spacing).map(|at| at.as_secs_f64()).take_while(|at| *at < 20.0).collect();
            assert_eq!(held.len(), plain.len());
            assert!(held.iter().zip(plain).all(|(held, plain)| (held - plain).abs() < 1e-6), "{spacing}");
        }
    }

    #[test]
    fn behind_a_ramp_nothing_arrives_any_more() {
        let ramp: Ramp = "1s:5".parse().unwrap();
        let (spacing, point) = (Spacing::Poisson, open_point(1.0, Spacing::Poisson));
        let schedule = Schedule::new(&Level::Ramp(ramp), spacing, &point, Phase::Measure);
        let at: Vec<Duration> = schedule.take(100).collect();
        assert!(at.is_sorted() && at[99] == Duration::MAX);
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
        let take = |point: &LoadPoint, phase| {
            Schedule::new(&Level::Constant(10.0), Spacing::Poisson, point, phase).take(50).collect::<Vec<_>>()
        };
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
