//! Lengths of prompts and answers: fixed, around a mean, from a range, or one of several shapes.
//!
//! Pure.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::plan::{Length, LoadPoint, Spread, WeightedShape};

/// The lengths of a load point.
#[derive(Debug, Clone)]
pub(super) struct Lengths {
    shapes: Vec<WeightedShape>,
    weights: f64,
}

impl Lengths {
    pub(super) fn new(point: &LoadPoint) -> Self {
        let one = WeightedShape { isl: point.isl, osl: point.osl, weight: 1.0 };
        let shapes = if point.prompts.mix.is_empty() { vec![one] } else { point.prompts.mix.clone() };
        Self { weights: shapes.iter().map(|shape| shape.weight).sum(), shapes }
    }

    pub(super) fn shapes(&self) -> &[WeightedShape] {
        &self.shapes
    }

    /// Prompt and output length of one request, tokens.
    pub(super) fn draw(&self, rng: &mut ChaCha8Rng) -> (u32, u32) {
        let shape = match self.shapes.as_slice() {
            [one] => Some(one),
            several => {
                let mut at = unit(rng) * self.weights;
                let drawn = several.iter().find(|shape| {
                    at -= shape.weight;
                    at < 0.0
                });
                drawn.or(several.last())
            }
        };
        shape.map_or((1, 1), |shape| (draw(shape.isl, rng), draw(shape.osl, rng)))
    }
}

/// Uniform on [0, 1).
pub(super) fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Standard normal (Box–Muller).
pub(super) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - unit(rng)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(rng)).cos()
}

/// A length in tokens, never below 1.
pub(super) fn draw(length: Length, rng: &mut ChaCha8Rng) -> u32 {
    let tokens = match length.spread {
        Spread::None => length.mean,
        // `as` saturates: no length overflows.
        Spread::Normal { stddev } => {
            (f64::from(length.mean) + f64::from(stddev) * normal(rng)).round() as u32
        }
        Spread::Uniform { low, high } => {
            let values = u64::from(high.saturating_sub(low)) + 1;
            // The upper half of the product: even to 1 part in 2^32.
            let offset = (u128::from(rng.next_u64()) * u128::from(values)) >> 64;
            low.saturating_add(u32::try_from(offset).unwrap_or(u32::MAX))
        }
    };
    tokens.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn rng() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(1)
    }

    #[test]
    fn drawn_lengths_have_the_mean_and_spread_asked_for() {
        let mut rng = rng();
        let n = 4000;
        let drawn: Vec<f64> = (0..n).map(|_| f64::from(draw(Length::normal(200, 50), &mut rng))).collect();
        let mean = drawn.iter().sum::<f64>() / n as f64;
        let std = (drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
        // Standard errors: 50/√4000 ≈ 0.8 and 50/√8000 ≈ 0.6; the draws are seeded, so this never fails by chance.
        assert!((mean - 200.0).abs() < 3.0 && (std - 50.0).abs() < 3.0, "{mean} {std}");
        assert!((0..1000).all(|_| draw(Length::normal(1, 100), &mut rng) >= 1));
    }

    #[test]
    fn a_range_is_drawn_evenly_with_both_its_ends() {
        let mut rng = rng();
        let length = Length { mean: 10, spread: Spread::Uniform { low: 8, high: 10 } };
        let mut seen = [0_u32; 3];
        for _ in 0..3000 {
            seen[draw(length, &mut rng) as usize - 8] += 1;
        }
        assert!(seen.iter().all(|count| (900..1100).contains(count)), "{seen:?}");
    }

    #[test]
    fn shapes_occur_by_their_weights() {
        let shape = |isl, weight| WeightedShape { isl: Length::fixed(isl), osl: Length::fixed(7), weight };
        let lengths = Lengths { shapes: vec![shape(10, 1.0), shape(20, 3.0)], weights: 4.0 };
        let mut rng = rng();
        let long = (0..4000).filter(|_| lengths.draw(&mut rng) == (20, 7)).count();
        assert!((2900..3100).contains(&long), "{long}");
    }
}
