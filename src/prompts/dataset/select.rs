//! Selects the entries of a file that are sent: a seeded sample of those with the right length.
//!
//! Every entry has a pseudo-random priority made of the seed and its number; the sample is the passing entries of lowest
//! priority, lowest first (bottom-k sampling: Cohen and Kaplan, "Summarizing data using bottom-k sketches", PODC 2007).
//! So each passing entry is equally likely, a smaller sample is the beginning of a larger one, and entries that cannot
//! enter the sample any more are not counted.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::path::Path;

use super::{Entry, ReadStats, Sample, read};
use crate::document::InputError;
use crate::plan::prompts::Dataset;

/// Tokens that a tokenizer may put around a text. Otherwise a token stands for one byte at least, so that a text with
/// fewer bytes than the shortest prompt has tokens is too short.
const MARKERS: u64 = 8;

/// The sample of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The entries in the order of sending; fewer than wanted when the file has fewer.
    pub picked: Vec<Picked>,
    pub stats: SelectStats,
    /// What is in the file and not sent, see [`ReadStats::left_out`].
    pub left_out: BTreeMap<String, u64>,
}

/// An entry of the sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picked {
    /// Its line in the file, or its number in the file's array; from 1.
    pub number: u64,
    pub sample: Sample,
    /// Length of its words, tokens, see [`Sample::words`].
    pub tokens: u32,
}

/// Counts of the selection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SelectStats {
    /// Entries with a prompt, in the whole file.
    pub entries: u64,
    /// Entries without one, in the whole file.
    pub skipped: u64,
    /// Entries whose first words came before, in the whole file; 0 when repeated prompts are kept.
    pub duplicates: u64,
    /// Entries whose length was looked at, because their priority would have put them into the sample.
    pub looked_at: u64,
    /// Entries with fewer tokens than the least, among those looked at.
    pub too_short: u64,
    /// Entries with more tokens than the most, among those looked at.
    pub too_long: u64,
}

/// At most `wanted` entries of `dataset`, uniformly out of those whose first message has `min_tokens..=max_tokens` by
/// `count`, each prompt once if the dataset says so (the first of equals stays), in an order from `seed`.
///
/// One pass; memory: the sample, and 8 bytes and a hash table's overhead for each distinct prompt. The same file and
/// seed give the same order, and a smaller `wanted` gives its beginning. `count` gives the tokens of the first message.
///
/// Fails as [`read`], and when nothing passes.
pub fn select(
    dataset: &Dataset,
    seed: u64,
    wanted: usize,
    count: &mut dyn FnMut(&Sample) -> u32,
) -> Result<Selection, InputError> {
    let (met, kept, stats) = (HashSet::new(), BTreeMap::new(), SelectStats::default());
    let mut chooser = Chooser { dataset, seed, wanted, count, met, kept, stats };
    let ReadStats { entries, skipped, left_out } =
        read(dataset.kind, Path::new(&dataset.path), &mut |entry| chooser.see(entry))?;
    let Chooser { kept, stats, .. } = chooser;
    let stats = SelectStats { entries, skipped, ..stats };
    if kept.is_empty() && wanted > 0 {
        return Err(nothing_left(dataset, &stats));
    }
    let picked = kept.into_iter().map(|((_, number), (sample, tokens))| {
        let tokens = tokens.unwrap_or_else(|| count(&sample));
        Picked { number, sample, tokens }
    });
    Ok(Selection { picked: picked.collect(), stats, left_out })
}

/// The sample while the file is read.
struct Chooser<'a> {
    dataset: &'a Dataset,
    seed: u64,
    wanted: usize,
    count: &'a mut dyn FnMut(&Sample) -> u32,
    /// Hashes of the first words so far. 64 bits: two of a million prompts are mistaken for equal once in 37 million
    /// files.
    met: HashSet<u64>,
    /// The sample so far, by priority and number, with the tokens if they were counted.
    kept: BTreeMap<(u64, u64), (Sample, Option<u32>)>,
    stats: SelectStats,
}

impl Chooser<'_> {
    fn see(&mut self, Entry { number, sample }: Entry) {
        if self.dataset.dedupe && !self.met.insert(hash(&sample.identity())) {
            self.stats.duplicates += 1;
            return;
        }
        let priority = (priority(self.seed, number), number);
        let full = self.kept.len() >= self.wanted;
        if full && self.kept.last_key_value().is_none_or(|(last, _)| priority >= *last) {
            return;
        }
        let mut tokens = None;
        let (least, most) = (self.dataset.min_tokens, self.dataset.max_tokens);
        if least.is_some() || most.is_some() {
            let (least, most) = (least.unwrap_or(0), most.unwrap_or(u32::MAX));
            self.stats.looked_at += 1;
            if (sample.words().len() as u64).saturating_add(MARKERS) < u64::from(least) {
                self.stats.too_short += 1;
                return;
            }
            let counted = (self.count)(&sample);
            self.stats.too_short += u64::from(counted < least);
            self.stats.too_long += u64::from(counted > most);
            if !(least..=most).contains(&counted) {
                return;
            }
            tokens = Some(counted);
        }
        self.kept.insert(priority, (sample, tokens));
        if full {
            self.kept.pop_last();
        }
    }
}

/// The error when no entry passes.
fn nothing_left(dataset: &Dataset, stats: &SelectStats) -> InputError {
    let SelectStats { entries, skipped, duplicates, too_short, too_long, .. } = stats;
    if *entries == 0 {
        return InputError::new(&*dataset.path, format!("none of its {skipped} entries has a prompt"))
            .expected("at least one entry that begins with the user's words")
            .next("look whether this is the right file, and `kind` its format");
    }
    let repeated = if *duplicates == 0 { String::new() } else { format!(", {duplicates} repeat others") };
    let range = match (dataset.min_tokens, dataset.max_tokens) {
        (Some(least), Some(most)) => format!("{least} to {most} tokens"),
        (Some(least), None) => format!("{least} tokens or more"),
        (None, Some(most)) => format!("{most} tokens at most"),
        (None, None) => "any length".to_owned(),
    };
    InputError::new(
        &*dataset.path,
        format!("none of its {entries} prompts has the right length: {too_short} are too short, {too_long} too long{repeated}"),
    )
    .expected(range)
    .next("widen min_tokens and max_tokens")
}

/// 64 bits of a prompt, for telling repetitions.
fn hash(words: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(words)
}

/// The priority of the entry `number` under `seed`: the `number`th output of splitmix64 from a state that the seed,
/// mixed, begins (<https://prng.di.unimi.it/splitmix64.c>). Mixing the seed keeps neighbouring seeds from giving
/// shifted orders.
fn priority(seed: u64, number: u64) -> u64 {
    mix(mix(seed).wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// The output function of splitmix64.
fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
