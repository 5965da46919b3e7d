//! The formats in which each entry is a sample by itself. A format is one function from the fields of an entry to its sample,
//! `None` when the entry has no prompt.

use serde_json::Value;

use super::chat::{self, Speaker};
use super::records::{Record, describe};
use super::{Sample, Turn};
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
    Ok(Some(Sample { turns: vec![Turn { user, answer }], ..Sample::default() }))
}

/// ShareGPT: conversations with ChatGPT and others, as in `ShareGPT_V3_unfiltered_cleaned_split.json`: `{"id",
/// "conversations": [{"from", "value"}]}` (<https://huggingface.co/datasets/anon8231489123/ShareGPT_Vicuna_unfiltered>). The
/// file is cut into pieces for training, so that some begin with an answer.
pub(super) fn sharegpt(record: &mut Record) -> Result<Option<Sample>, InputError> {
    record.require(&["conversations"], "the fields of ShareGPT: id, conversations")?;
    let messages = match record.take("conversations") {
        Value::Array(messages) => messages,
        Value::Null => return Ok(None),
        other => return Err(record.wrong_type("conversations", &other, "a list of messages")),
    };
    chat(record, "conversations", messages, |message| {
        let mut text = |key: &'static str| match message.get_mut(key).map(Value::take) {
            Some(Value::String(text)) => Ok(text),
            other => Err(Mistake {
                key,
                found: other.as_ref().map_or("nothing".into(), describe),
                expected: "messages of the form {\"from\": \"human\" or \"gpt\", \"value\": text}",
            }),
        };
        let speaker = match text("from")?.as_str() {
            "human" | "user" => Speaker::User,
            "system" => Speaker::System,
            "tool" | "function" | "function_call" | "function_response" | "observation" => Speaker::Other,
            // `gpt`, or an assistant by its own name: `chatgpt`, `bing`, `bard`.
            _ => Speaker::Assistant,
        };
        Ok((speaker, text("value")?))
    })
}

/// JSONL as people and other tools write it: `{"prompt": text}` (also `text`, or `text_input` as AIPerf has it), or the body of
/// a chat request, `{"messages": [{"role", "content"}]}` (<https://platform.openai.com/docs/api-reference/chat/create>). Of
/// several names of one thing the first that is present counts.
pub(super) fn jsonl(record: &mut Record) -> Result<Option<Sample>, InputError> {
    let named = ["prompt", "text", "text_input"].into_iter().find(|key| record.fields.contains_key(*key));
    let sample = match named {
        Some(key) => record
            .words(key)?
            .map(|user| Sample { turns: vec![Turn { user, answer: None }], ..Sample::default() }),
        None => messages(record)?,
    };
    let mut output_tokens = None;
    for key in ["output_tokens", "output_length", "max_tokens", "max_completion_tokens"] {
        output_tokens = output_tokens.or(record.tokens(key, 1)?);
    }
    let mut answer = None;
    for key in ["completion", "answer", "response"] {
        answer = answer.or(record.words(key)?);
    }
    Ok(sample.map(|mut sample| {
        if let Some(last) = sample.turns.last_mut() {
            last.answer = last.answer.take().or(answer);
        }
        Sample { output_tokens, ..sample }
    }))
}

fn messages(record: &mut Record) -> Result<Option<Sample>, InputError> {
    if !record.fields.contains_key("messages") {
        let expected = "`prompt`, `text` or `text_input` with a string, or `messages` with a list";
        return Err(record.missing("prompt", expected));
    }
    let messages = match record.take("messages") {
        Value::Array(messages) => messages,
        other => return Err(record.wrong_type("messages", &other, "a list of messages")),
    };
    chat(record, "messages", messages, |message| {
        let role = message.get("role");
        let speaker = match role.and_then(Value::as_str) {
            Some("user") => Speaker::User,
            Some("assistant") => Speaker::Assistant,
            Some("system" | "developer") => Speaker::System,
            Some("tool" | "function") => Speaker::Other,
            _ => {
                return Err(Mistake {
                    key: "role",
                    found: role.map_or("nothing".into(), describe),
                    expected: "one of system, developer, user, assistant, tool",
                });
            }
        };
        let text = content(message.get("content").unwrap_or(&Value::Null)).map_err(|found| Mistake {
            key: "content",
            found,
            expected: "a string, or a list of {\"type\": \"text\", \"text\": string}",
        })?;
        Ok((speaker, text))
    })
}

/// The text of a message: a string, or parts of the type `text`. A tool call has null, which is no text. Fails with what was
/// found instead.
fn content(content: &Value) -> Result<String, String> {
    let parts = match content {
        Value::String(text) => return Ok(text.clone()),
        Value::Null => return Ok(String::new()),
        Value::Array(parts) => parts,
        other => return Err(describe(other)),
    };
    let mut whole = String::new();
    for part in parts {
        match (part.get("type").and_then(Value::as_str), part.get("text").and_then(Value::as_str)) {
            (Some("text"), Some(text)) => whole.push_str(text),
            (Some(kind), _) if kind != "text" => return Err(format!("a part of the type {kind:?}")),
            _ => return Err(describe(part)),
        }
    }
    Ok(whole)
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
