//! Natural text: sentences of a small built-in prose in random order.
//!
//! Random words are not text: a mixture of experts routes them, and a speculative decoder fails on them, as on no user's
//! prompt. The tokens of a sentence are counted once, behind another word.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::tokenizer::Tokenizer;

/// Sentences, one a line. Written for tokmark.
const PROSE: &str = include_str!("natural.txt");

/// Sentences and their tokens.
#[derive(Debug)]
pub(super) struct Prose {
    sentences: Vec<(&'static str, u32)>,
}

impl Prose {
    pub(super) fn new(tokenizer: &Tokenizer) -> Self {
        let neighbours = tokenizer.count("the the", false);
        let counted = PROSE.lines().filter_map(|sentence| {
            let tokens = tokenizer.count(&format!("the {sentence} the"), false).checked_sub(neighbours)?;
            Some((sentence, u32::try_from(tokens).ok()?))
        });
        Self { sentences: counted.collect() }
    }

    /// Appends sentences while they fit into `left` tokens; returns the rest.
    pub(super) fn push(&self, text: &mut String, mut left: u32, rng: &mut ChaCha8Rng) -> u32 {
        let Some(shortest) = self.sentences.iter().map(|(_, tokens)| *tokens).min() else { return left };
        while left >= shortest {
            let at = (u64::from(rng.next_u32()) * self.sentences.len() as u64) >> 32;
            // Skips sentences that are too long.
            let fits = self.sentences.iter().cycle().skip(at as usize).take(self.sentences.len());
            let Some((sentence, tokens)) = fits.into_iter().find(|(_, tokens)| *tokens <= left) else {
                break;
            };
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(sentence);
            left -= tokens;
        }
        left
    }
}
