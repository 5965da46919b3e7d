//! Real prompts, each file in the format its hub publishes.
//!
//! Files are streamed: a file of many gigabytes takes the memory of the sample.

mod chat;
mod fields;
pub(in crate::prompts) mod file;
mod formats;
mod openassistant;
pub(in crate::prompts) mod records;
pub mod select;

use std::path::Path;

use crate::document::InputError;
use crate::plan::prompts::DatasetKind;
use records::Records;

/// One entry of a file, before anything is counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// A system message, when the file has one.
    pub system: Option<String>,
    /// The user's messages and their answers, turn by turn. Never empty.
    pub turns: Vec<Turn>,
    /// Output length in the file, tokens.
    pub output_tokens: Option<u32>,
}

/// One turn of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turn {
    /// The user's text; never only white space.
    pub user: String,
    /// The answer in the file; `None` when it is empty or there is none.
    pub answer: Option<String>,
}

/// A sample and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its line in the file, or its number in the file's array; from 1.
    pub number: u64,
    pub sample: Sample,
}

/// Counts of a file's entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadStats {
    /// Entries with a prompt.
    pub entries: u64,
    /// Entries without a prompt: empty, deleted, or begun by an answer.
    pub skipped: u64,
}

/// Receives one entry after another.
pub type See<'a> = dyn FnMut(Entry) + 'a;

/// Gives every entry of the file `path` to `see`, in its order.
///
/// A file holds one JSON object a line, or one array of them, whatever its kind; ShareGPT publishes an array, the others
/// lines. A byte-order mark, CRLF and blank lines are accepted. Memory: the longest entry (64 MiB at most), and for
/// OpenAssistant the last 1024 prompts.
///
/// Fails on a file that cannot be read, holds nothing, is not UTF-8, not JSON or not of this kind; names line and field.
pub fn read(kind: DatasetKind, path: &Path, see: &mut See<'_>) -> Result<ReadStats, InputError> {
    read_records(kind, Records::open(path)?, see)
}

/// As [`read`], of a file that is open.
fn read_records(kind: DatasetKind, mut records: Records, see: &mut See<'_>) -> Result<ReadStats, InputError> {
    let sample = match kind {
        DatasetKind::Dolly => formats::dolly,
        DatasetKind::Sharegpt => formats::sharegpt,
        DatasetKind::Jsonl => formats::jsonl,
        DatasetKind::Openassistant => return openassistant::read(records, see),
    };
    let mut stats = ReadStats::default();
    while let Some(mut record) = records.next()? {
        stats.give(record.number, sample(&mut record)?, see);
    }
    Ok(stats)
}

impl ReadStats {
    /// Counts the entry at `number`, and hands it on when it holds a prompt.
    fn give(&mut self, number: u64, sample: Option<Sample>, see: &mut See<'_>) {
        match sample {
            None => self.skipped += 1,
            Some(sample) => {
                self.entries += 1;
                see(Entry { number, sample });
            }
        }
    }
}

#[cfg(test)]
mod tests;
