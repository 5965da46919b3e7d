//! Parses a chat or completion request, or gives vLLM's error. Unknown fields are ignored, as in vLLM. Pure.

use serde_json::Value;

use super::api_error::ApiError;
use super::engine::FinishReason;
use super::{SimConfig, count_words, stable_hash, unit_interval};

/// Salt that keeps the length draw apart from the other draws of the same seed.
const LENGTH_SALT: u64 = 0x1e57;
/// OpenAI's default of `/v1/completions`.
const DEFAULT_COMPLETION_TOKENS: u32 = 16;

// Errors of vLLM's schema check, type and message.
const MISSING: (&str, &str) = ("missing", "Field required");
const NO_OBJECT: (&str, &str) = ("model_attributes_type", "Input should be a valid dictionary");
const NO_JSON: (&str, &str) = ("json_invalid", "JSON decode error");
const NO_BOOL: (&str, &str) = ("bool_type", "Input should be a valid boolean");
const NO_INTEGER: (&str, &str) = ("int_parsing", "Input should be a valid integer");
const NO_STRING: (&str, &str) = ("string_type", "Input should be a valid string");
const NO_LIST: (&str, &str) = ("list_type", "Input should be a valid list");

/// Which of the two endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Chat,
    Completions,
}

/// A valid request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InferenceRequest {
    pub(super) endpoint: Endpoint,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) continuous_usage: bool,
    /// At least 1.
    pub(super) prompt_tokens: u32,
    /// Length of the answer, drawn or requested.
    pub(super) output_tokens: u32,
    pub(super) finish: FinishReason,
    /// Hash of prompt and seed, which selects the answer's text.
    pub(super) text_seed: u64,
}

impl InferenceRequest {
    /// Reads the body of a POST to `endpoint`.
    pub(super) fn parse(endpoint: Endpoint, body: &[u8], config: &SimConfig) -> Result<Self, ApiError> {
        let body = object(body)?;
        check_model(&body, &config.model)?;
        check_n(&body)?;
        let (prompt_tokens, prompt_hash) = match endpoint {
            Endpoint::Chat => chat_prompt(&body, config.seed)?,
            Endpoint::Completions => completion_prompt(&body, config.seed)?,
        };
        let stream = flag(&body, "stream")?;
        let (include_usage, continuous_usage) = usage_options(&body, stream)?;
        let max_tokens = max_tokens(endpoint, &body, prompt_tokens, config.max_model_len)?;
        let min_tokens = tokens_field(&body, "min_tokens", 0)?.unwrap_or(0);
        if min_tokens > max_tokens {
            let message = format!(
                "min_tokens must be less than or equal to max_tokens={max_tokens}, got {min_tokens}."
            );
            return Err(ApiError::bad_request(&message, Some("min_tokens")));
        }
        let natural = natural_length(prompt_hash, config.mean_output_tokens).max(min_tokens);
        let (output_tokens, finish) = if flag(&body, "ignore_eos")? || natural >= max_tokens {
            (max_tokens, FinishReason::Length)
        } else {
            (natural, FinishReason::Stop)
        };
        Ok(Self {
            endpoint,
            stream,
            include_usage,
            continuous_usage,
            prompt_tokens,
            output_tokens,
            finish,
            text_seed: prompt_hash,
        })
    }
}

/// The natural length of an answer: exponential, so that short answers are common and long ones occur.
fn natural_length(prompt_hash: u64, mean: u32) -> u32 {
    let draw = unit_interval(stable_hash(prompt_hash ^ LENGTH_SALT, &[]));
    (-(1.0 - draw).ln() * f64::from(mean)).ceil().max(1.0) as u32
}

fn object(body: &[u8]) -> Result<Value, ApiError> {
    if body.is_empty() {
        return Err(ApiError::validation(MISSING, ""));
    }
    match serde_json::from_slice::<Value>(body) {
        Ok(value) if value.is_object() => Ok(value),
        Ok(_) => Err(ApiError::validation(NO_OBJECT, "")),
        Err(error) => Err(ApiError::validation(NO_JSON, &error.column().to_string())),
    }
}

/// A present field that is not null.
fn field<'a>(body: &'a Value, name: &str) -> Option<&'a Value> {
    body.get(name).filter(|value| !value.is_null())
}

fn flag(body: &Value, name: &str) -> Result<bool, ApiError> {
    match field(body, name) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(_) => Err(ApiError::validation(NO_BOOL, name)),
    }
}

fn tokens_field(body: &Value, name: &str, least: i64) -> Result<Option<u32>, ApiError> {
    let Some(value) = field(body, name) else { return Ok(None) };
    let number = value.as_i64().ok_or_else(|| ApiError::validation(NO_INTEGER, name))?;
    if number < least {
        let message =
            format!("{name} must be at least {least}, got {number}. (parameter={name}, value={number})");
        return Err(ApiError::bad_request(&message, Some(name)));
    }
    Ok(Some(u32::try_from(number).unwrap_or(u32::MAX)))
}

fn check_model(body: &Value, served: &str) -> Result<(), ApiError> {
    match field(body, "model") {
        None => Ok(()),
        Some(Value::String(found)) if found == served => Ok(()),
        Some(Value::String(found)) => Err(ApiError::unknown_model(found, served)),
        Some(_) => Err(ApiError::validation(NO_STRING, "model")),
    }
}

/// `include_usage` and `continuous_usage_stats`; the second needs the first, as in vLLM.
fn usage_options(body: &Value, stream: bool) -> Result<(bool, bool), ApiError> {
    let Some(options) = field(body, "stream_options") else { return Ok((false, false)) };
    if !stream {
        let message = "Stream options can only be defined when `stream=True`. (parameter=stream_options)";
        return Err(ApiError::bad_request(message, Some("stream_options")));
    }
    let include_usage = flag(options, "include_usage")?;
    Ok((include_usage, flag(options, "continuous_usage_stats")? && include_usage))
}

fn check_n(body: &Value) -> Result<(), ApiError> {
    match tokens_field(body, "n", 1)? {
        None | Some(1) => Ok(()),
        Some(n) => {
            let message = format!("n must be 1, got {n}: the simulated engine gives one answer.");
            Err(ApiError::bad_request(&message, Some("n")))
        }
    }
}

/// Prompt tokens and hash of a chat: the words of all messages, no template.
fn chat_prompt(body: &Value, seed: u64) -> Result<(u32, u64), ApiError> {
    let messages = body.get("messages").ok_or_else(|| ApiError::validation(MISSING, "messages"))?;
    let messages = messages.as_array().ok_or_else(|| ApiError::validation(NO_LIST, "messages"))?;
    if messages.is_empty() {
        let message = "Cannot apply chat template to an empty conversation. Provide at least one message.";
        return Err(ApiError::bad_request(message, None));
    }
    let (mut tokens, mut hash) = (0, seed);
    let mut add = |text: &str| {
        tokens += count_words(text);
        hash = stable_hash(hash, text.as_bytes());
    };
    for (at, message) in messages.iter().enumerate() {
        if message.get("role").and_then(Value::as_str).is_none() {
            return Err(ApiError::validation(MISSING, &format!("messages.{at}.role")));
        }
        match message.get("content") {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => add(text),
            Some(Value::Array(parts)) => {
                parts.iter().filter_map(|part| part.get("text")?.as_str()).for_each(&mut add)
            }
            Some(_) => return Err(ApiError::validation(NO_STRING, &format!("messages.{at}.content"))),
        }
    }
    Ok((at_least_one(tokens), hash))
}

/// Prompt tokens and hash of a completion: a string, an array with one string, an array of token ids, or an array with
/// one array of token ids.
fn completion_prompt(body: &Value, seed: u64) -> Result<(u32, u64), ApiError> {
    let missing = || {
        let message = "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)";
        ApiError::bad_request(message, Some("prompt"))
    };
    let wrong = || ApiError::validation(NO_STRING, "prompt");
    let words = |text: &str| (at_least_one(count_words(text)), stable_hash(seed, text.as_bytes()));
    match field(body, "prompt") {
        None => Err(missing()),
        Some(Value::String(text)) if text.is_empty() => Err(missing()),
        Some(Value::String(text)) => Ok(words(text)),
        Some(Value::Array(items)) => match items.as_slice() {
            [] => Err(missing()),
            [Value::String(text)] => Ok(words(text)),
            [Value::Array(ids)] => token_ids(ids, seed).ok_or_else(wrong),
            [Value::Number(_), ..] => token_ids(items, seed).ok_or_else(wrong),
            [Value::String(_) | Value::Array(_), _, ..] => {
                let message = format!(
                    "prompt must be one prompt, got {}: the simulated engine gives one answer.",
                    items.len()
                );
                Err(ApiError::bad_request(&message, Some("prompt")))
            }
            _ => Err(wrong()),
        },
        Some(_) => Err(wrong()),
    }
}

fn token_ids(ids: &[Value], seed: u64) -> Option<(u32, u64)> {
    let mut hash = seed;
    for id in ids {
        hash = stable_hash(hash, &id.as_u64()?.to_le_bytes());
    }
    Some((at_least_one(ids.len() as u64), hash))
}

/// At least one token, because a real prompt has a start token.
fn at_least_one(tokens: u64) -> u32 {
    u32::try_from(tokens.max(1)).unwrap_or(u32::MAX)
}

/// The limit of the answer, from the request or the endpoint's default, within the context.
fn max_tokens(endpoint: Endpoint, body: &Value, prompt_tokens: u32, context: u32) -> Result<u32, ApiError> {
    let mut limit = tokens_field(body, "max_tokens", 1)?;
    if endpoint == Endpoint::Chat {
        limit = tokens_field(body, "max_completion_tokens", 1)?.or(limit);
    }
    if prompt_tokens >= context {
        let message = format!(
            "This model's maximum context length is {context} tokens. However, your prompt contains at least \
             {prompt_tokens} input tokens, which exceeds this limit even without any output tokens. Please reduce the \
             length of the input prompt. (parameter=input_tokens, value={prompt_tokens})"
        );
        return Err(ApiError::bad_request(&message, Some("input_tokens")));
    }
    let room = context - prompt_tokens;
    match (limit, endpoint) {
        (None, Endpoint::Chat) => Ok(room),
        (None, Endpoint::Completions) => Ok(DEFAULT_COMPLETION_TOKENS.min(room)),
        (Some(limit), _) if limit > context => {
            let message = format!(
                "max_tokens={limit} cannot be greater than max_model_len={context}. Please request fewer output \
                 tokens. (parameter=max_tokens, value={limit})"
            );
            Err(ApiError::bad_request(&message, Some("max_tokens")))
        }
        (Some(limit), _) if limit > room => {
            let message = format!(
                "This model's maximum context length is {context} tokens. However, you requested {limit} output tokens \
                 and your prompt contains at least {prompt_tokens} input tokens, for a total of at least {} tokens. \
                 Please reduce the length of the input prompt or the number of requested output tokens. \
                 (parameter=input_tokens, value={prompt_tokens})",
                u64::from(limit) + u64::from(prompt_tokens)
            );
            Err(ApiError::bad_request(&message, Some("input_tokens")))
        }
        (Some(limit), _) => Ok(limit),
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
