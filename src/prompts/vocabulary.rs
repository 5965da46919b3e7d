//! Words that are one token behind any other word: prompts made of them have exact lengths.
//!
//! Random ids do not survive decoding and encoding: pieces join, bytes are not UTF-8, special tokens fall apart. Whole
//! lower-case words behind a space do: every tokenizer in use cuts a text at its spaces first, or has no merge across
//! them. Each word is tested all the same, between two others.

use super::tokenizer::Tokenizer;
use crate::document::InputError;

/// The number of words is a power of two, at most this one.
const MOST_BITS: u32 = 12;

/// With fewer, prompts would have too few different words.
const LEAST: usize = 64;

/// Candidates that are tested.
const TRIED: usize = 3 << MOST_BITS;

/// The words around a word that is tested.
const NEIGHBOUR: &str = "the";

/// Words of one token each.
#[derive(Debug)]
pub(super) struct Vocabulary {
    words: Vec<String>,
    ids: Vec<u32>,
    bits: u32,
}

impl Vocabulary {
    /// The words of `tokenizer`; their number is a power of two.
    ///
    /// # Errors
    /// The tokenizer has too few of them.
    pub(super) fn of(tokenizer: &Tokenizer) -> Result<Self, InputError> {
        let between_neighbours = |word: &str| format!("{NEIGHBOUR} {word} {NEIGHBOUR}");
        let frame = tokenizer.encode(&format!("{NEIGHBOUR} {NEIGHBOUR}"), false);
        let single = |word: String| {
            let ids = tokenizer.encode(&between_neighbours(&word), false);
            // Exactly one token more, and the same tokens before and behind it.
            let at = frame.iter().zip(&ids).take_while(|(a, b)| a == b).count().min(frame.len() / 2);
            let same = ids.len() == frame.len() + 1
                && ids.get(..at) == frame.get(..at)
                && ids.get(at + 1..) == frame.get(at..);
            same.then(|| (word, ids.get(at).copied().unwrap_or_default()))
        };
        let most = 1_usize << MOST_BITS;
        let found: Vec<(String, u32)> =
            tokenizer.candidates().into_iter().take(TRIED).filter_map(single).take(most).collect();
        if found.len() < LEAST {
            let problem = format!("has {} plain words of one token", found.len());
            return Err(InputError::new(tokenizer.name(), problem)
                .expected(format!("{LEAST} or more, to make prompts of exact lengths"))
                .next(
                    "send real prompts (load.prompts.dataset), or count words with tokenizer = \"builtin\"",
                ));
        }
        let bits = found.len().ilog2();
        let (words, ids) = found.into_iter().take(1 << bits).unzip();
        Ok(Self { words, ids, bits })
    }

    /// The number of words, as a power of two.
    pub(super) fn bits(&self) -> u32 {
        self.bits
    }

    /// Word number `index`, modulo their number.
    pub(super) fn word(&self, index: u32) -> &str {
        self.words.get(index as usize & (self.words.len() - 1)).map_or("", String::as_str)
    }

    /// Its token id behind a space.
    pub(super) fn id(&self, index: u32) -> u32 {
        self.ids.get(index as usize & (self.ids.len() - 1)).copied().unwrap_or_default()
    }

    /// The words, by number.
    pub(super) fn indices(&self) -> std::ops::Range<u32> {
        0..1 << self.bits
    }
}
