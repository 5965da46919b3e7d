//! ShareGPT: conversations with ChatGPT and others, as in `ShareGPT_V3_unfiltered_cleaned_split.json`.
//!
//! One array of `{"id", "conversations": [{"from", "value"}]}`
//! (<https://huggingface.co/datasets/anon8231489123/ShareGPT_Vicuna_unfiltered>); other publications have the same objects
//! one a line.

use serde_json::Value;

use super::Sample;
use super::chat::{self, Speaker};
use super::records::{Record, describe};
use crate::document::InputError;

/// The conversation; `None` when it is empty or does not begin with the user: the file is cut into pieces for training,
/// and some begin with an answer.
pub(super) fn sample(record: &mut Record) -> Result<Option<Sample>, InputError> {
    let messages = match record.fields.get_mut("conversations").map(Value::take) {
        Some(Value::Array(messages)) => messages,
        Some(Value::Null) => Vec::new(),
        Some(other) => return Err(record.wrong_type("conversations", &other, "a list of messages")),
        None => {
            return Err(record.missing("conversations", "the fields of ShareGPT: id, conversations"));
        }
    };
    let mut chat = Vec::with_capacity(messages.len());
    for (number, message) in (1..).zip(messages) {
        chat.push(spoken(message).map_err(|(key, found)| {
            record
                .error(format!("found {found}"))
                .key(format!("conversations[{number}].{key}"))
                .expected("messages of the form {\"from\": \"human\" or \"gpt\", \"value\": text}")
        })?);
    }
    Ok(chat::sample(chat))
}

/// Speaker and text of a message, or the wrong field and its content.
fn spoken(mut message: Value) -> Result<(Speaker, String), (&'static str, String)> {
    let mut text = |key: &'static str| match message.get_mut(key).map(Value::take) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err((key, describe(&other))),
        None => Err((key, "nothing".to_owned())),
    };
    Ok((speaker(&text("from")?), text("value")?))
}

/// The speaker of a name. Beside `gpt` the files name the assistants themselves: `chatgpt`, `bing`, `bard`.
fn speaker(name: &str) -> Speaker {
    match name {
        "human" | "user" => Speaker::User,
        "system" => Speaker::System,
        "tool" | "function" | "function_call" | "function_response" | "observation" => Speaker::Other,
        _ => Speaker::Assistant,
    }
}
