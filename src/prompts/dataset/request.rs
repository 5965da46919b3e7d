//! JSONL as people and other tools write it: prompts, bodies of requests, and conversations by turns.

use std::time::Duration;

use serde_json::{Map, Value};

use super::records::{Record, describe};
use super::{Message, Role, Sample, Turn};
use crate::document::InputError;

/// Names of a plain prompt.
const PROMPTS: [&str; 3] = ["prompt", "text", "text_input"];

/// Names of the output length, tokens.
const LENGTHS: [&str; 4] = ["output_tokens", "output_length", "max_tokens", "max_completion_tokens"];

/// Names of the answer.
const ANSWERS: [&str; 3] = ["completion", "answer", "response"];

/// What the load decides, whatever an entry says.
pub(in crate::prompts) const OF_THE_LOAD: [&str; 8] =
    ["model", "stream", "stream_options", "ignore_eos", "min_tokens", "n", "best_of", "use_beam_search"];

/// Fields of a request that are sent as they are: those of OpenAI's chat and completions
/// (<https://platform.openai.com/docs/api-reference/chat/create>) and the extensions of vLLM, SGLang and Dynamo.
const SENT: [&str; 62] = [
    "add_generation_prompt",
    "add_special_tokens",
    "allowed_token_ids",
    "bad_words",
    "bos_token",
    "cache_salt",
    "chat_template",
    "chat_template_kwargs",
    "continue_final_message",
    "continuous_usage_stats",
    "documents",
    "ebnf",
    "echo",
    "frequency_penalty",
    "function_call",
    "functions",
    "guided_choice",
    "guided_decoding_backend",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "include_reasoning",
    "include_stop_str_in_output",
    "json_schema",
    "length_penalty",
    "logit_bias",
    "logprobs",
    "lora_path",
    "min_p",
    "mm_processor_kwargs",
    "modalities",
    "nvext",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "priority",
    "prompt_cache_key",
    "prompt_logprobs",
    "reasoning",
    "reasoning_effort",
    "regex",
    "repetition_penalty",
    "response_format",
    "safety_identifier",
    "seed",
    "separate_reasoning",
    "service_tier",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "stop",
    "stop_token_ids",
    "store",
    "structured_outputs",
    "suffix",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_logprobs",
    "top_p",
    "user",
];

/// `{"prompt": text}` (also `text`, or `text_input` as AIPerf has it); the body of a chat request, `{"messages": [{"role",
/// "content"}], …}`, alone or under `body` as OpenAI's batches have it, or under `payload`; or AIPerf's `{"turns": [{"text"}]}`.
/// Of several names of one thing the first that is present counts.
pub(super) fn jsonl(record: &mut Record) -> Result<Option<Sample>, InputError> {
    let is_body =
        |fields: &Map<String, Value>| ["messages", "prompt"].iter().any(|key| fields.contains_key(*key));
    for key in ["body", "payload"] {
        if let Some(Value::Object(body)) =
            record.fields.get_mut(key).filter(|value| value.as_object().is_some_and(is_body))
        {
            record.fields = std::mem::take(body);
        }
    }
    let named = PROMPTS.into_iter().find(|key| record.fields.contains_key(*key));
    let sample = match named {
        Some(key) => record.words(key)?.map(|user| Sample::plain(user, None)),
        None if record.fields.contains_key("messages") => messages(record)?,
        None => turns(record)?,
    };
    let mut output_tokens = None;
    for key in LENGTHS {
        output_tokens = output_tokens.or(record.tokens(key, 1)?);
    }
    let mut answer = None;
    for key in ANSWERS {
        answer = answer.or(record.words(key)?);
    }
    let Some(mut sample) = sample else { return Ok(None) };
    if let (Some(last), Some(answer)) = (sample.turns.last_mut(), answer)
        && last.answer.is_empty()
    {
        last.answer.push(Message::new(Role::Assistant, answer));
    }
    let fields = fields(record);
    Ok(Some(Sample { output_tokens, fields, ..sample }))
}

/// The fields that are sent as they are. The others are noted as left out.
fn fields(record: &mut Record) -> Map<String, Value> {
    let mut sent = Map::new();
    for (key, value) in std::mem::take(&mut record.fields).into_iter().filter(|(_, value)| !value.is_null()) {
        match (key.as_str(), value) {
            ("extra" | "extra_body", Value::Object(extra)) => {
                let (of_the_load, own) =
                    extra.into_iter().partition::<Map<_, _>, _>(|(key, _)| is_of_the_load(key));
                record.left_out.extend(of_the_load.into_iter().map(|(key, _)| key));
                sent.extend(own);
            }
            (known, value) if SENT.contains(&known) => {
                sent.insert(key, value);
            }
            _ => record.left_out.push(key),
        }
    }
    sent
}

/// Whether the load decides a field of a request, whatever the entry says.
pub(in crate::prompts) fn is_of_the_load(key: &str) -> bool {
    OF_THE_LOAD.contains(&key) || LENGTHS.contains(&key) || ["messages", "prompt"].contains(&key)
}

/// Whether a field asks for an output length.
pub(in crate::prompts) fn is_length(key: &str) -> bool {
    LENGTHS.contains(&key)
}

/// The messages of a request, as they are.
fn messages(record: &mut Record) -> Result<Option<Sample>, InputError> {
    let messages = match record.take("messages") {
        Value::Array(messages) => messages,
        other => return Err(record.wrong_type("messages", &other, "a list of messages")),
    };
    let continues = |message: &Map<String, Value>| {
        let set = |fields: &Map<String, Value>, key: &str| fields.get(key).and_then(Value::as_bool);
        ["prefix", "partial"].iter().any(|key| set(message, key) == Some(true))
            || set(&record.fields, "continue_final_message") == Some(true)
            || set(&record.fields, "add_generation_prompt") == Some(false)
    };
    let mut turns: Vec<Turn> = Vec::new();
    let last = messages.len();
    for (number, message) in (1..).zip(messages) {
        let message = message_of(record, number, message)?;
        let is_answer = message.is_from(Role::Assistant) && !(number == last && continues(&message.0));
        if turns.last().is_none_or(|turn| !is_answer && !turn.answer.is_empty()) {
            turns.push(Turn::default());
        }
        let Some(turn) = turns.last_mut() else { continue };
        if is_answer { &mut turn.answer } else { &mut turn.said }.push(message);
    }
    let has_parts = |message: &Message| message.0.get("content").is_some_and(Value::is_array);
    let has_words = |message: &Message| !message.text().trim().is_empty() || has_parts(message);
    let sample = Sample { turns, whole: true, ..Sample::default() };
    Ok(Some(sample).filter(|sample| sample.messages().iter().any(has_words)))
}

/// Message `number` of a request, when it has a role and a content of a known form.
fn message_of(record: &Record, number: usize, message: Value) -> Result<Message, InputError> {
    const ROLES: &str = "one of system, developer, user, assistant, tool";
    let wrong = |key: &str, found: Option<&Value>, expected: &str| {
        wrong_in(record, &format!("messages[{number}].{key}"), found, expected)
    };
    let Value::Object(message) = message else { return Err(wrong("role", None, ROLES)) };
    let role = message.get("role");
    let is_known = |role| ["system", "developer", "user", "assistant", "tool", "function"].contains(&role);
    if !role.and_then(Value::as_str).is_some_and(is_known) {
        return Err(wrong("role", role, ROLES));
    }
    match message.get("content") {
        None | Some(Value::Null | Value::String(_)) => Ok(Message(message)),
        Some(Value::Array(parts)) if parts.iter().all(|part| part.is_object() || part.is_string()) => {
            Ok(Message(message))
        }
        other => Err(wrong("content", other, "a string, null, or a list of parts")),
    }
}

fn wrong_in(record: &Record, key: &str, found: Option<&Value>, expected: &str) -> InputError {
    record.error(format!("found {}", found.map_or("nothing".into(), describe))).key(key).expected(expected)
}

/// AIPerf's `turns`: each a text, or an object with `text`, `delay` (ms) and `output_length`
/// (<https://docs.nvidia.com/aiperf/tutorials/datasets-inputs/multi-turn-conversations>).
fn turns(record: &mut Record) -> Result<Option<Sample>, InputError> {
    const EXPECTED: &str =
        "`prompt`, `text` or `text_input` with a string, or `messages` or `turns` with a list";
    let listed = match record.take("turns") {
        Value::Array(turns) => turns,
        Value::Null => return Err(record.missing("prompt", EXPECTED)),
        other => return Err(record.wrong_type("turns", &other, "a list of turns")),
    };
    let turns = (1..).zip(listed).map(|(number, turn)| turn_of(record, number, turn));
    let turns = turns.collect::<Result<Vec<Turn>, _>>()?;
    Ok((!turns.is_empty()).then(|| Sample { turns, ..Sample::default() }))
}

/// Turn `number` of AIPerf's.
fn turn_of(record: &mut Record, number: usize, turn: Value) -> Result<Turn, InputError> {
    let mut fields = match turn {
        Value::Object(fields) => fields,
        text => Map::from_iter([("text".to_owned(), text)]),
    };
    let mut take = |key: &str| fields.shift_remove(key).filter(|value| !value.is_null());
    let wrong = |key: &str, found: Option<&Value>, expected: &str| {
        Err(wrong_in(record, &format!("turns[{number}].{key}"), found, expected))
    };
    let text = match take("text").or_else(|| take("content")) {
        Some(Value::String(text)) if !text.trim().is_empty() => text,
        other => return wrong("text", other.as_ref(), "the words of the user"),
    };
    if let Some(role) = take("role").filter(|role| role != "user") {
        return wrong("role", Some(&role), "user: answers are those of the server");
    }
    let given = take("delay");
    let milliseconds = given.as_ref().map(|delay| delay.as_f64().unwrap_or(-1.0));
    let Ok(delay) = milliseconds.map(|ms| Duration::try_from_secs_f64(ms / 1000.0)).transpose() else {
        return wrong("delay", given.as_ref(), "milliseconds, 0 or more");
    };
    let given = take("output_length").or_else(|| take("max_tokens"));
    let whole = |length: &Value| length.as_u64().and_then(|length| u32::try_from(length).ok());
    let output_tokens = given.as_ref().and_then(whole).filter(|length| *length > 0);
    if given.is_some() && output_tokens.is_none() {
        return wrong("output_length", given.as_ref(), "a whole number of tokens, 1 or more");
    }
    let left = fields.into_iter().filter(|(_, value)| !value.is_null());
    record.left_out.extend(left.map(|(key, _)| format!("turns.{key}")));
    Ok(Turn { delay, output_tokens, ..Turn::plain(text, None) })
}
