//! OpenAssistant Conversations (oasst1, oasst2): conversations that people wrote and ranked, in both publications.
//!
//! `*.trees.jsonl` has a tree a line, `{"message_tree_id", "prompt": {"text", "role", "replies": […]}}`; `*.messages.jsonl`
//! has a message a line, a reply naming its parent in `parent_id`. The best of several replies has rank 0, a reply without
//! siblings no rank (<https://huggingface.co/datasets/OpenAssistant/oasst1>).

use std::collections::{HashMap, VecDeque};

use serde_json::{Map, Value};

use super::chat::{self, Speaker};
use super::records::{Record, Records};
use super::{ReadStats, Sample, See, Turn};
use crate::document::InputError;

/// Prompts that may wait for replies. In the published files the messages of a tree follow each other, so that one would
/// do; more are for files in another order.
const OPEN: usize = 1024;

/// Reads trees and messages; each line decides.
///
/// A tree gives the conversation along its best replies. A message without a parent gives one turn, with the best of its
/// replies that come before [`OPEN`] further prompts have come. Deleted messages, and trees without any words, are left
/// out.
pub(super) fn read(mut records: Records, see: &mut See<'_>) -> Result<ReadStats, InputError> {
    let mut stats = ReadStats::default();
    let mut open = Open::default();
    while let Some(mut record) = records.next()? {
        let found = match record.fields.get_mut("prompt").map(Value::take) {
            Some(Value::Object(root)) if root.get("text").is_some_and(Value::is_string) => {
                Some((record.number, tree(root)))
            }
            Some(other) => {
                return Err(record.wrong_type(
                    "prompt",
                    &other,
                    "the first message of a tree, with its text",
                ));
            }
            None => match message(&mut record)? {
                FlatMessage::Prompt(id, text) => open.add(record.number, id, text),
                FlatMessage::Reply { parent, rank, text } => {
                    open.answer(&parent, rank, text);
                    None
                }
                FlatMessage::NoPrompt => Some((record.number, None)),
                FlatMessage::Other => None,
            },
        };
        if let Some((number, sample)) = found
            && stats.give(number, sample, see).is_break()
        {
            return Ok(stats);
        }
    }
    while let Some((number, sample)) = open.close() {
        if stats.give(number, sample, see).is_break() {
            break;
        }
    }
    Ok(stats)
}

/// One message of a flat file.
enum FlatMessage {
    /// The first of a tree: its number and text.
    Prompt(String, String),
    /// An answer to another.
    Reply { parent: String, rank: u64, text: String },
    /// A first message that was deleted, or is empty or not the user's.
    NoPrompt,
    /// Deleted, or a later message of the user.
    Other,
}

fn message(record: &mut Record) -> Result<FlatMessage, InputError> {
    const EXPECTED: &str =
        "a message (message_id, parent_id, text, role) or a tree (message_tree_id, prompt) of OpenAssistant";
    for key in ["message_id", "text", "role"] {
        if !record.fields.contains_key(key) {
            return Err(record.missing(key, EXPECTED));
        }
    }
    let id = record.text("message_id")?.unwrap_or_default();
    let parent = record.text("parent_id")?;
    let text = record.text("text")?.unwrap_or_default();
    let assistant = match record.text("role")?.as_deref() {
        Some("assistant") => true,
        Some("prompter") => false,
        other => {
            let found = format!("found the role {:?}", other.unwrap_or_default());
            return Err(record.error(found).key("role").expected("prompter or assistant"));
        }
    };
    let deleted = is_deleted(&record.fields) || text.trim().is_empty();
    Ok(match parent {
        None if deleted || assistant => FlatMessage::NoPrompt,
        None => FlatMessage::Prompt(id, text),
        Some(parent) if assistant && !deleted => {
            FlatMessage::Reply { parent, rank: rank(&record.fields), text }
        }
        Some(_) => FlatMessage::Other,
    })
}

/// A prompt that may still be answered.
struct Waiting {
    id: String,
    number: u64,
    turn: Turn,
    /// Rank of the answer it has.
    rank: u64,
}

/// Prompts that may still be answered, oldest first.
#[derive(Default)]
struct Open {
    prompts: VecDeque<Waiting>,
    /// How many were closed: the place of the oldest among all.
    closed: usize,
    places: HashMap<String, usize>,
}

/// Number and sample of a prompt; no sample when it is skipped.
type Found = (u64, Option<Sample>);

impl Open {
    /// Adds a prompt; returns the oldest when there are too many.
    fn add(&mut self, number: u64, id: String, user: String) -> Option<Found> {
        self.places.insert(id.clone(), self.closed + self.prompts.len());
        self.prompts.push_back(Waiting { id, number, turn: Turn { user, answer: None }, rank: u64::MAX });
        if self.prompts.len() > OPEN { self.close() } else { None }
    }

    /// Answers the prompt `parent` when it is open and has no better answer.
    fn answer(&mut self, parent: &str, rank: u64, text: String) {
        let place = self.places.get(parent).and_then(|place| place.checked_sub(self.closed));
        if let Some(waiting) = place.and_then(|place| self.prompts.get_mut(place))
            && (waiting.turn.answer.is_none() || rank < waiting.rank)
        {
            waiting.rank = rank;
            waiting.turn.answer = Some(text);
        }
    }

    /// The oldest prompt, with the answer it has.
    fn close(&mut self) -> Option<Found> {
        let Waiting { id, number, turn, .. } = self.prompts.pop_front()?;
        if self.places.get(&id) == Some(&self.closed) {
            self.places.remove(&id);
        }
        self.closed += 1;
        Some((number, Some(Sample { turns: vec![turn], ..Sample::default() })))
    }
}

/// The conversation along the best replies.
fn tree(root: Map<String, Value>) -> Option<Sample> {
    let mut chat = Vec::new();
    let mut node = Some(root).filter(|root| !is_deleted(root));
    while let Some(mut message) = node {
        let speaker = match message.get("role").and_then(Value::as_str) {
            Some("prompter") => Speaker::User,
            Some("assistant") => Speaker::Assistant,
            _ => Speaker::Other,
        };
        match message.get_mut("text").map(Value::take) {
            Some(Value::String(text)) => chat.push((speaker, text)),
            _ => break,
        }
        let replies = match message.get_mut("replies").map(Value::take) {
            Some(Value::Array(replies)) => replies,
            _ => Vec::new(),
        };
        let replies = replies.into_iter().filter_map(|reply| match reply {
            Value::Object(reply) => Some(reply),
            _ => None,
        });
        // The first of equals, as `min_by_key` gives it.
        node = replies.filter(|reply| !is_deleted(reply)).min_by_key(rank);
    }
    chat::sample(chat)
}

/// Whether a message was deleted.
fn is_deleted(message: &Map<String, Value>) -> bool {
    message.get("deleted").and_then(Value::as_bool).unwrap_or(false)
}

/// Its place among its siblings, 0 the best; one without a rank is behind all others.
fn rank(message: &Map<String, Value>) -> u64 {
    let rank = message.get("rank");
    rank.and_then(|rank| rank.as_u64().or(rank.as_f64().map(|rank| rank as u64))).unwrap_or(u64::MAX)
}
