//! Real prompts, each file in the format its hub publishes.
//!
//! Files are streamed: a file of many gigabytes takes the memory of the sample.

mod chat;
mod fields;
pub(in crate::prompts) mod file;
mod formats;
mod openassistant;
pub(in crate::prompts) mod records;
pub(in crate::prompts) mod request;
pub mod select;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use itertools::Itertools;
use serde_json::{Map, Value, json};

use super::message::{Message, Role};
use crate::document::InputError;
use crate::plan::prompts::DatasetKind;
use records::Records;

/// One entry of a file, before anything is counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// What is said and answered, turn by turn. Never empty.
    pub turns: Vec<Turn>,
    /// It is a request as it was sent, all its messages at once; otherwise a conversation that may be held.
    pub whole: bool,
    /// The other fields of its request.
    pub fields: Map<String, Value>,
    /// Output length in the file, tokens.
    pub output_tokens: Option<u32>,
    /// Messages at its end that are not used: behind one of a tool, or behind an empty one of the user.
    pub cut: usize,
}

/// One turn of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turn {
    /// What comes before the answer: the user's message, behind instructions or results of tools.
    pub said: Vec<Message>,
    /// The answer in the file; empty when it is empty or there is none.
    pub answer: Vec<Message>,
    /// Time after the answer before it.
    pub delay: Option<Duration>,
    /// Output length of its answer in the file, tokens.
    pub output_tokens: Option<u32>,
}

impl Turn {
    /// A turn of plain text.
    fn plain(user: String, answer: Option<String>) -> Self {
        let answer = answer.map(|text| Message::new(Role::Assistant, text)).into_iter().collect();
        Self { said: vec![Message::new(Role::User, user)], answer, ..Self::default() }
    }

    /// The words of its answer.
    pub fn answer_text(&self) -> Option<String> {
        let texts: Vec<_> =
            self.answer.iter().map(Message::text).filter(|text| !text.trim().is_empty()).collect();
        (!texts.is_empty()).then(|| texts.join("\n\n"))
    }
}

impl Sample {
    /// An entry of one turn of plain text.
    fn plain(user: String, answer: Option<String>) -> Self {
        Self { turns: vec![Turn::plain(user, answer)], ..Self::default() }
    }

    /// What is sent when no conversation is held: all messages up to the last answer, or the first turn.
    pub fn messages(&self) -> Vec<Message> {
        let sent = if self.whole { self.turns.len() } else { 1 };
        let each = self.turns.iter().take(sent).enumerate().flat_map(|(at, turn)| {
            let answer: &[Message] = if at + 1 < sent { &turn.answer } else { &[] };
            turn.said.iter().chain(answer)
        });
        each.cloned().collect()
    }

    /// The turn whose answer is asked for when no conversation is held.
    pub fn asked(&self) -> Option<&Turn> {
        if self.whole { self.turns.last() } else { self.turns.first() }
    }

    /// The turns that can be held with live answers: those before the first one that continues a call of a tool.
    pub fn live(&self) -> &[Turn] {
        let is_live = |turn: &Turn| {
            turn.said.iter().all(|message| message.is_from(Role::User) || message.is_from(Role::System))
        };
        let count = self.turns.iter().skip(1).take_while(|turn| is_live(turn)).count() + 1;
        self.turns.get(..count).unwrap_or_default()
    }

    /// The words that its length is measured by: those of all messages that are sent, of a conversation without instructions.
    pub fn words(&self) -> String {
        let messages = self.messages();
        let counted = messages.iter().filter(|message| self.whole || !message.is_from(Role::System));
        counted.map(Message::text).collect::<Vec<_>>().join("\n")
    }

    /// What tells it from others: its words, and all else of a request.
    fn identity(&self) -> String {
        if self.whole { json!([self.messages(), self.fields]).to_string() } else { self.words() }
    }
}

/// A sample and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its line in the file, or its number in the file's array; from 1.
    pub number: u64,
    pub sample: Sample,
}

/// Counts of a file's entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadStats {
    /// Entries with a prompt.
    pub entries: u64,
    /// Entries without a prompt: empty, deleted, or begun by an answer.
    pub skipped: u64,
    /// What is in the file and not sent, by name, and in how many entries.
    pub left_out: BTreeMap<String, u64>,
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
        DatasetKind::Jsonl => request::jsonl,
        DatasetKind::Openassistant => return openassistant::read(records, see),
    };
    let mut stats = ReadStats::default();
    while let Some(mut record) = records.next()? {
        let found = sample(&mut record)?;
        stats.leave_out(record.left_out);
        stats.give(record.number, found, see);
    }
    Ok(stats)
}

impl ReadStats {
    fn leave_out(&mut self, names: impl IntoIterator<Item = String>) {
        names.into_iter().unique().for_each(|name| *self.left_out.entry(name).or_default() += 1);
    }

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
