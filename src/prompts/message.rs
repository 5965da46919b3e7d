//! Messages of a chat, as they are sent.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};

/// A message of a chat: the object in `messages` of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Message(pub(super) Map<String, Value>);

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions for the whole conversation.
    System,
    User,
    Assistant,
}

impl Role {
    /// The word in a request.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

impl Message {
    /// A message of `role`.
    pub fn new(role: Role, content: impl Into<Value>) -> Self {
        Self(Map::from_iter([("role".into(), role.as_str().into()), ("content".into(), content.into())]))
    }

    pub fn role(&self) -> &str {
        self.0.get("role").and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether `role` speaks; instructions of a developer are those of the system.
    pub fn is_from(&self, role: Role) -> bool {
        let own = self.role();
        own == role.as_str() || role == Role::System && own == "developer"
    }

    /// Its words: a string, or those of its parts of text.
    pub fn text(&self) -> Cow<'_, str> {
        match self.0.get("content") {
            Some(Value::String(text)) => text.into(),
            Some(Value::Array(parts)) => {
                parts.iter().filter_map(text_of).collect::<Vec<_>>().join("\n").into()
            }
            _ => "".into(),
        }
    }

    /// Its words for people, and what else it has: parts that are no text, calls of tools.
    pub fn shown(&self) -> Cow<'_, str> {
        let is_plain = self.0.len() == 2 && self.0.get("content").is_some_and(Value::is_string);
        if is_plain { self.text() } else { json!(self.0).to_string().into() }
    }

    /// The calls of tools, as JSON.
    pub(super) fn calls(&self) -> Option<String> {
        let calls = self.0.get("tool_calls").or(self.0.get("function_call"))?;
        let is_empty = calls.is_null() || calls.as_array().is_some_and(Vec::is_empty);
        (!is_empty).then(|| calls.to_string())
    }

    /// Puts `words` and a blank line in front of its own.
    pub(super) fn begin_with(&mut self, words: &str) {
        let content = self.0.entry("content").or_insert(Value::Null);
        match content {
            Value::String(text) => text.insert_str(0, &format!("{words}\n\n")),
            Value::Array(parts) => parts.insert(0, json!({"type": "text", "text": words})),
            other => *other = words.into(),
        }
    }

    /// The message as vLLM hands it to a template: arguments of calls as objects, and parts joined if the template wants text.
    pub(super) fn for_template(&self, parts: bool) -> Cow<'_, Self> {
        let joined = (!parts && self.0.get("content").is_some_and(Value::is_array)).then(|| self.text());
        let calls = self.0.get("tool_calls").and_then(Value::as_array);
        if joined.is_none() && calls.is_none() {
            return Cow::Borrowed(self);
        }
        let mut message = self.clone();
        if let Some(text) = joined {
            message.0.insert("content".into(), text.into());
        }
        for call in message.0.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
            let arguments = call.pointer_mut("/function/arguments");
            if let Some(slot) = arguments
                && let Some(Ok(parsed)) = slot.as_str().map(serde_json::from_str::<Value>)
            {
                *slot = parsed;
            }
        }
        Cow::Owned(message)
    }
}

fn text_of(part: &Value) -> Option<&str> {
    part.as_str().or_else(|| part.get("text")?.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(value: Value) -> Message {
        let Value::Object(fields) = value else { panic!() };
        Message(fields)
    }

    #[test]
    fn words_go_in_front_of_every_form_of_content() {
        for (content, expected) in [
            (json!("a"), json!("w\n\na")),
            (
                json!([{"type": "image_url", "image_url": {"url": "u"}}]),
                json!([{"type": "text", "text": "w"}, {"type": "image_url", "image_url": {"url": "u"}}]),
            ),
            (json!(null), json!("w")),
        ] {
            let mut message = message(json!({"role": "user", "content": content, "name": "n"}));
            message.begin_with("w");
            assert_eq!(json!(message), json!({"role": "user", "content": expected, "name": "n"}));
        }
    }

    #[test]
    fn a_template_gets_text_or_parts_and_arguments_as_objects() {
        let called = json!({"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            "tool_calls": [{"function": {"name": "f", "arguments": "{\"x\": 1}"}}]});
        let called = message(called);
        assert_eq!(called.text(), "a\nb");
        let joined = json!(*called.for_template(false));
        assert_eq!(
            (&joined["content"], &joined["tool_calls"][0]["function"]["arguments"]),
            (&json!("a\nb"), &json!({"x": 1}))
        );
        assert!(json!(*called.for_template(true))["content"].is_array());
        assert!(matches!(Message::new(Role::User, "a").for_template(false), Cow::Borrowed(_)));
    }
}
