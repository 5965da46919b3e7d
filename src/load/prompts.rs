//! Synthetic prompts: deterministic, of exact length, and no two alike.
//!
//! Pure: (load point, phase, id) → the same text for ever. Arrow: `plan::LoadPoint` → here → `body`, `supply`.
//!
//! A token is approximated by a word ([`CountSource::Approximate`](crate::metrics::record::CountSource)); the server's
//! `usage.prompt_tokens` also counts its chat template and is what a record reports.
//!
//! **Prefix caches.** A repeated prompt, or a shared first block of tokens, is answered from the server's prefix cache and makes a
//! result look up to several times better than it is. So the number of the request is written in the first
//! [`NUMBER_WORDS`] words, warm-up and measured requests never share one, and the point's seed and name stir the rest.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::words::WORDS;
use crate::metrics::record::Phase;
use crate::plan::{Length, LoadPoint, Spread};

/// Words at the start of a prompt that spell its number: 27 bits, so 67 million requests a phase without a repetition.
/// Shorter prompts keep what fits: one-word prompts repeat after 256 requests.
pub const NUMBER_WORDS: u32 = 3;

/// Bits one word stands for.
const WORD_BITS: u32 = 9;

/// One prompt and the answer length asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptPlan {
    /// Number of the request within its phase.
    pub id: u64,
    /// The words, separated by single spaces.
    pub text: String,
    /// Words in `text`: the planned prompt length, tokens.
    pub isl: u32,
    /// Output length to ask for, tokens.
    pub osl: u32,
}

/// The prompts of one load point.
#[derive(Debug, Clone)]
pub struct PromptSource {
    seed: u64,
    point: u64,
    isl: Length,
    osl: Length,
}

impl PromptSource {
    /// The prompts `point` sends.
    pub fn new(point: &LoadPoint) -> Self {
        Self { seed: point.seed, point: fnv1a(point.id.as_bytes()), isl: point.isl, osl: point.osl }
    }

    /// Prompt number `id` of `phase`.
    pub fn plan(&self, phase: Phase, id: u64) -> PromptPlan {
        let mut rng = self.generator(phase, id);
        let isl = draw(self.isl, &mut rng);
        let osl = draw(self.osl, &mut rng);
        PromptPlan { id, text: self.text(phase, id, isl, &mut rng), isl, osl }
    }

    /// The key is made of the inputs themselves, so different inputs never share a stream.
    fn generator(&self, phase: Phase, id: u64) -> ChaCha8Rng {
        let mut key = [0; 32];
        for (part, value) in key.chunks_exact_mut(8).zip([self.seed, self.point, u64::from(tag(phase)), id]) {
            part.copy_from_slice(&value.to_le_bytes());
        }
        ChaCha8Rng::from_seed(key)
    }

    fn text(&self, phase: Phase, id: u64, words: u32, rng: &mut ChaCha8Rng) -> String {
        let mut text = String::with_capacity(words as usize * 7);
        // A fixed mask per point keeps numbers distinct and different points apart.
        let mask = self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ self.point;
        let number = ((id << 1) | u64::from(tag(phase))) ^ (mask >> 32);
        push_words(&mut text, number, words.min(NUMBER_WORDS));
        let mut left = words.saturating_sub(NUMBER_WORDS);
        while left > 0 {
            let count = left.min(u64::BITS / WORD_BITS);
            push_words(&mut text, rng.next_u64(), count);
            left -= count;
        }
        text
    }
}

/// Words in `text`, separated by white space: the built-in approximation of its tokens.
pub fn count_words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

fn tag(phase: Phase) -> u8 {
    match phase {
        Phase::Warmup => 1,
        Phase::Measure | Phase::CoolDown => 0,
    }
}

fn push_words(text: &mut String, mut bits: u64, count: u32) {
    for _ in 0..count {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(WORDS.get((bits & 0x1FF) as usize).copied().unwrap_or_default());
        bits >>= WORD_BITS;
    }
}

/// A length in tokens, never below 1.
fn draw(length: Length, rng: &mut ChaCha8Rng) -> u32 {
    let mut unit = || (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    let tokens = match length.spread {
        Spread::None => length.mean,
        Spread::Normal { stddev } => {
            // Box–Muller.
            let radius = (-2.0 * (1.0 - unit()).ln()).sqrt();
            let normal = radius * (std::f64::consts::TAU * unit()).cos();
            // `as` saturates: no length overflows.
            (f64::from(length.mean) + f64::from(stddev) * normal).round() as u32
        }
        Spread::Uniform { low, high } => {
            let values = u64::from(high.saturating_sub(low)) + 1;
            // The product's upper half: even to 1 part in 2^32.
            let offset = (u128::from(rng.next_u64()) * u128::from(values)) >> 64;
            low.saturating_add(offset as u32)
        }
    };
    tokens.max(1)
}

/// FNV-1a, 64 bits: stable between versions and platforms, unlike the standard library's hasher.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::load::testing::point;

    #[test]
    fn the_words_are_512_plain_ones() {
        assert_eq!(WORDS.iter().collect::<HashSet<_>>().len(), 512);
        assert!(WORDS.iter().all(|word| word.len() > 1 && word.bytes().all(|b| b.is_ascii_lowercase())));
    }

    #[test]
    fn lengths_are_exact_and_texts_repeatable() {
        for isl in [1, 2, 3, 4, 10, 11, 128, 5000] {
            let source = PromptSource::new(&LoadPoint { isl: Length::fixed(isl), ..point(1) });
            let plan = source.plan(Phase::Measure, 7);
            assert_eq!((plan.isl, count_words(&plan.text)), (isl, u64::from(isl)));
            assert_eq!(plan, source.plan(Phase::Measure, 7));
        }
    }

    #[test]
    fn no_two_requests_start_alike() {
        let point = LoadPoint { isl: Length::fixed(5), ..point(1) };
        let source = PromptSource::new(&point);
        let mut starts = HashSet::new();
        for phase in [Phase::Warmup, Phase::Measure] {
            for id in 0..20_000 {
                let text = source.plan(phase, id).text;
                let start: Vec<&str> = text.split(' ').take(NUMBER_WORDS as usize).collect();
                assert!(starts.insert(start.join(" ")), "{phase:?} {id}");
            }
        }
    }

    #[test]
    fn seeds_points_and_phases_give_other_words() {
        let base = point(1);
        let text = |point: &LoadPoint, phase| PromptSource::new(point).plan(phase, 3).text;
        let texts: HashSet<String> = [
            text(&base, Phase::Measure),
            text(&base, Phase::Warmup),
            text(&LoadPoint { seed: base.seed + 1, ..base.clone() }, Phase::Measure),
            text(&LoadPoint { id: "other".into(), ..base.clone() }, Phase::Measure),
        ]
        .into();
        assert_eq!(texts.len(), 4);
        let tails: HashSet<&str> =
            texts.iter().map(|text| text.rsplitn(5, ' ').last().unwrap_or_default()).collect();
        assert_eq!(tails.len(), 4);
    }

    #[test]
    fn drawn_lengths_have_the_mean_and_spread_asked_for() {
        let length = Length::normal(200, 50);
        let source = PromptSource::new(&LoadPoint { isl: length, osl: length, ..point(1) });
        let n = 4000;
        let drawn: Vec<f64> = (0..n).map(|id| f64::from(source.plan(Phase::Measure, id).isl)).collect();
        let mean = drawn.iter().sum::<f64>() / n as f64;
        let std = (drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
        // Standard errors: 50/√4000 ≈ 0.8 and 50/√8000 ≈ 0.6; the draws are seeded, so this is no gamble.
        assert!((mean - 200.0).abs() < 3.0 && (std - 50.0).abs() < 3.0, "{mean} {std}");
        let tiny = PromptSource::new(&LoadPoint { isl: Length::normal(1, 100), ..point(1) });
        assert!((0..1000).all(|id| tiny.plan(Phase::Measure, id).isl >= 1));
    }
}
