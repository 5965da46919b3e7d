//! OpenAssistant Conversations (oasst1, oasst2): conversations that people wrote and ranked, in both publications.
//!
//! `*.trees.jsonl` has a tree a line, `{"message_tree_id", "prompt": {"text", "role", "replies": […]}}`; `*.messages.jsonl`
//! has a message a line, a reply naming its parent in `parent_id`. The best of several replies has rank 0, a reply without
//! siblings no rank (<https://huggingface.co/datasets/OpenAssistant/oasst1>).

use std::collections::VecDeque;

use serde_json::{Map, Value};

use super::chat::{self, Speaker};
use super::records::{Record, Records};
use super::{ReadStats, Sample, See};
use crate::document::InputError;

/// Prompts that may wait for replies. In the published files the messages of a tree follow each other, so that one would
/// do; more are for files in another order.
const OPEN: usize = 1024;

/// What a file of messages has beside first turns.
const LATER: &str = "a later message of the user (the file *.trees.jsonl has whole conversations)";

/// Reads trees and messages; each line decides.
///
/// A tree gives the conversation along its best replies. A message without a parent gives one turn, with the best of its
/// replies that come before [`OPEN`] further prompts have come. Deleted messages, and trees without any words, are left
/// out.
pub(super) fn read(mut records: Records, see: &mut See<'_>) -> Result<ReadStats, InputError> {
    let mut stats = ReadStats::default();
    let mut open: VecDeque<Prompt> = VecDeque::new();
    while let Some(mut record) = records.next()? {
        match record.fields.get_mut("prompt").map(Value::take) {
            Some(Value::Object(root)) if root.get("text").is_some_and(Value::is_string) => {
                stats.give(record.number, tree(root), see);
            }
            Some(other) => {
                let expected = "the first message of a tree, with its text";
                return Err(record.wrong_type("prompt", &other, expected));
            }
            None => match message(&mut record)? {
                Message::Prompt(prompt) => {
                    open.push_back(prompt);
                    if open.len() > OPEN {
                        close(&mut open, &mut stats, see);
                    }
                }
                Message::Reply { parent, rank, text } => {
                    let prompt = open.iter_mut().rev().find(|prompt| prompt.id == parent);
                    if let Some(prompt) =
                        prompt.filter(|prompt| prompt.answer.is_none() || rank < prompt.rank)
                    {
                        (prompt.rank, prompt.answer) = (rank, Some(text));
                    }
                }
                Message::NoPrompt => stats.give(record.number, None, see),
                Message::Later => stats.leave_out([LATER.to_owned()]),
                Message::Deleted => {}
            },
        }
    }
    while !open.is_empty() {
        close(&mut open, &mut stats, see);
    }
    Ok(stats)
}

/// Hands on the oldest prompt, with the answer it has.
fn close(open: &mut VecDeque<Prompt>, stats: &mut ReadStats, see: &mut See<'_>) {
    if let Some(Prompt { number, user, answer, .. }) = open.pop_front() {
        stats.give(number, Some(Sample::plain(user, answer)), see);
    }
}

/// A prompt that may still be answered.
struct Prompt {
    id: String,
    number: u64,
    user: String,
    answer: Option<String>,
    /// Rank of the answer.
    rank: u64,
}

/// One message of a flat file.
enum Message {
    /// The first of a tree.
    Prompt(Prompt),
    /// An answer to another.
    Reply {
        parent: String,
        rank: u64,
        text: String,
    },
    /// A first message that was deleted, or is empty or not the user's.
    NoPrompt,
    /// A message of the user that follows an answer.
    Later,
    Deleted,
}

fn message(record: &mut Record) -> Result<Message, InputError> {
    const EXPECTED: &str =
        "a message (message_id, parent_id, text, role) or a tree (message_tree_id, prompt) of OpenAssistant";
    record.require(&["message_id", "text", "role"], EXPECTED)?;
    let id = record.text("message_id")?.unwrap_or_default();
    let parent = record.text("parent_id")?;
    let text = record.words("text")?.filter(|_| !is_deleted(&record.fields));
    let role = record.text("role")?.unwrap_or_default();
    if !["assistant", "prompter"].contains(&role.as_str()) {
        let error = record.error(format!("found the role {role:?}"));
        return Err(error.key("role").expected("prompter or assistant"));
    }
    Ok(match (parent, text, role == "assistant") {
        (None, Some(user), false) => {
            Message::Prompt(Prompt { id, number: record.number, user, answer: None, rank: u64::MAX })
        }
        (None, ..) => Message::NoPrompt,
        (Some(parent), Some(text), true) => Message::Reply { parent, rank: rank(&record.fields), text },
        (Some(_), Some(_), false) => Message::Later,
        (Some(_), None, _) => Message::Deleted,
    })
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
