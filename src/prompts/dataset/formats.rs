//! The formats in which each entry is a sample by itself. A format is one function from the fields of an entry to its sample,
//! `None` when the entry has no prompt.

use serde_json::{Map, Value};

use super::Sample;
use super::chat::{self, Speaker};
use super::records::{Record, describe};
use crate::document::InputError;

/// `databricks-dolly-15k.jsonl`: an instruction, what it is about, and the answer a person wrote
/// (<https://huggingface.co/datasets/databricks/databricks-dolly-15k>).
pub(super) fn dolly(record: &mut Record) -> Result<Option<Sample>, InputError> {
    const EXPECTED: &str =
        "the fields of databricks-dolly-15k.jsonl: instruction, context, response, category";
    record.require(&["instruction", "response"], EXPECTED)?;
    let [user, context, answer] = ["instruction", "context", "response"].map(|key| record.words(key));
    let (user, context, answer) = (user?, context?, answer?);
    let Some(mut user) = user else { return Ok(None) };
    if let Some(context) = context {
        user.push_str("\n\n");
        user.push_str(&context);
    }
    Ok(Some(Sample::plain(user, answer)))
}

/// ShareGPT: conversations with ChatGPT and others, as in `ShareGPT_V3_unfiltered_cleaned_split.json`: `{"id",
/// "conversations": [{"from", "value"}]}` (<https://huggingface.co/datasets/anon8231489123/ShareGPT_Vicuna_unfiltered>), and as
/// others rewrote it, with `role` and `content`, or the list under `conversation` or `messages`. The file is cut into pieces
/// for training, so that some begin with an answer.
pub(super) fn sharegpt(record: &mut Record) -> Result<Option<Sample>, InputError> {
    let lists = ["conversations", "conversation", "messages"];
    let list = lists.into_iter().find(|list| record.fields.contains_key(*list));
    let Some(list) = list else {
        return Err(record.missing("conversations", "the fields of ShareGPT: id, conversations"));
    };
    record.left_out = ["system", "tools"]
        .into_iter()
        .filter(|key| !is_blank(&record.fields, key))
        .map(str::to_owned)
        .collect();
    let messages = match record.take(list) {
        Value::Array(messages) => messages,
        Value::Null => return Ok(None),
        other => return Err(record.wrong_type(list, &other, "a list of messages")),
    };
    chat(record, list, messages, |message| {
        let speaker = match text(message, ["from", "role"])?.as_str() {
            "human" | "user" => Speaker::User,
            "system" | "developer" => Speaker::System,
            "tool" | "function" | "function_call" | "function_response" | "observation" => Speaker::Other,
            // `gpt`, or an assistant by its own name: `chatgpt`, `bing`, `bard`.
            _ => Speaker::Assistant,
        };
        Ok((speaker, text(message, ["value", "content"])?))
    })
}

/// Whether a field holds nothing.
fn is_blank(fields: &Map<String, Value>, key: &str) -> bool {
    match fields.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.trim().is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

/// The text under the first of `keys`; a message that calls a tool may have null.
fn text(message: &mut Value, keys: [&'static str; 2]) -> Result<String, Mistake> {
    let key = keys.into_iter().find(|key| message.get(key).is_some()).unwrap_or(keys[0]);
    let called = message.get("tool_calls").is_some_and(|calls| !calls.is_null());
    match message.get_mut(key).map(Value::take) {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Null) if called && key == "content" => Ok(String::new()),
        Some(Value::Array(parts))
            if parts.iter().all(|part| part.get("text").is_some_and(Value::is_string)) =>
        {
            Ok(parts.iter().filter_map(|part| part.get("text")?.as_str()).collect())
        }
        other => Err(Mistake {
            key,
            found: other.as_ref().map_or("nothing".into(), describe),
            expected: "messages of the form {\"from\": \"human\" or \"gpt\", \"value\": text}, or role and content",
        }),
    }
}

/// A mistake in a message.
struct Mistake {
    key: &'static str,
    found: String,
    expected: &'static str,
}

/// The sample of the messages in the field `list`, each read by `speaker_and_text`.
fn chat(
    record: &Record,
    list: &str,
    messages: Vec<Value>,
    speaker_and_text: impl Fn(&mut Value) -> Result<(Speaker, String), Mistake>,
) -> Result<Option<Sample>, InputError> {
    let read = (1..).zip(messages).map(|(number, mut message)| {
        speaker_and_text(&mut message).map_err(|Mistake { key, found, expected }| {
            let error = record.error(format!("found {found}"));
            error.key(format!("{list}[{number}].{key}")).expected(expected)
        })
    });
    Ok(chat::sample(read.collect::<Result<Vec<_>, _>>()?))
}
