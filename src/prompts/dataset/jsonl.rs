//! Generic JSONL: a prompt or the messages of a chat, as people and other tools write them.
//!
//! A line is `{"prompt": text}` (also `text`, or `text_input` as AIPerf has it), or the body of a chat request, `{"messages":
//! [{"role", "content"}]}` (<https://platform.openai.com/docs/api-reference/chat/create>).

use serde_json::Value;

use super::chat::{self, Speaker};
use super::records::{Record, describe};
use super::{Sample, Turn};
use crate::document::InputError;

/// Names of the prompt; the first one present counts.
const PROMPT: [&str; 3] = ["prompt", "text", "text_input"];

/// Names of the output length, tokens; the first one present counts.
const OUTPUT_TOKENS: [&str; 4] = ["output_tokens", "output_length", "max_tokens", "max_completion_tokens"];

/// Names of the answer; the first one present counts.
const ANSWER: [&str; 3] = ["completion", "answer", "response"];

/// The sample of a line; `None` when the prompt is empty or the messages do not begin with the user's.
pub(super) fn sample(record: &mut Record) -> Result<Option<Sample>, InputError> {
    let mut sample = match PROMPT.into_iter().find(|key| record.fields.contains_key(*key)) {
        Some(key) => record
            .text(key)?
            .filter(|user| !user.trim().is_empty())
            .map(|user| Sample { turns: vec![Turn { user, answer: None }], ..Sample::default() }),
        None => chat::sample(messages(record)?),
    };
    let mut output_tokens = None;
    for key in OUTPUT_TOKENS {
        output_tokens = output_tokens.or(record.tokens(key, 1)?);
    }
    let mut answer = None;
    for key in ANSWER {
        answer = answer.or(record.text(key)?.filter(|answer| !answer.trim().is_empty()));
    }
    if let Some(sample) = &mut sample {
        sample.output_tokens = output_tokens;
        if let Some(last) = sample.turns.last_mut() {
            last.answer = last.answer.take().or(answer);
        }
    }
    Ok(sample)
}

/// The messages of a chat.
fn messages(record: &mut Record) -> Result<Vec<(Speaker, String)>, InputError> {
    let messages = match record.fields.get_mut("messages").map(Value::take) {
        Some(Value::Array(messages)) => messages,
        Some(other) => return Err(record.wrong_type("messages", &other, "a list of messages")),
        None => {
            let expected = "`prompt`, `text` or `text_input` with a string, or `messages` with a list";
            return Err(record.missing("prompt", expected));
        }
    };
    let mut chat = Vec::with_capacity(messages.len());
    for (number, message) in (1..).zip(messages) {
        chat.push(spoken(message).map_err(|wrong| {
            record
                .error(format!("found {}", wrong.found))
                .key(format!("messages[{number}].{}", wrong.key))
                .expected(wrong.expected)
        })?);
    }
    Ok(chat)
}

/// A mistake in a message.
struct Wrong {
    key: &'static str,
    found: String,
    expected: &'static str,
}

/// Speaker and text of a message.
fn spoken(mut message: Value) -> Result<(Speaker, String), Wrong> {
    const ROLES: &str = "one of system, developer, user, assistant, tool";
    let role = message.get("role");
    let speaker = match role.and_then(Value::as_str) {
        Some("user") => Speaker::User,
        Some("assistant") => Speaker::Assistant,
        Some("system" | "developer") => Speaker::System,
        Some("tool" | "function") => Speaker::Other,
        _ => {
            let found = role.map_or("nothing".into(), describe);
            return Err(Wrong { key: "role", found, expected: ROLES });
        }
    };
    Ok((speaker, content(message.get_mut("content").map_or(Value::Null, Value::take))?))
}

/// The text of a message: a string, or parts of the type `text`. A tool call has null, which is no text.
fn content(content: Value) -> Result<String, Wrong> {
    const EXPECTED: &str = "a string, or a list of {\"type\": \"text\", \"text\": string}";
    let wrong = |found| Wrong { key: "content", found, expected: EXPECTED };
    let parts = match content {
        Value::String(text) => return Ok(text),
        Value::Null => return Ok(String::new()),
        Value::Array(parts) => parts,
        other => return Err(wrong(describe(&other))),
    };
    let mut whole = String::new();
    for part in &parts {
        match (part.get("type").and_then(Value::as_str), part.get("text").and_then(Value::as_str)) {
            (Some("text"), Some(text)) => whole.push_str(text),
            (Some(kind), _) if kind != "text" => return Err(wrong(format!("a part of the type {kind:?}"))),
            _ => return Err(wrong(describe(part))),
        }
    }
    Ok(whole)
}
