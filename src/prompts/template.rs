//! Chat templates: turn messages into the text whose tokens a server counts.
//!
//! Rendered with minijinja as `transformers` renders with Jinja2: `trim_blocks`, `lstrip_blocks`, loop controls, Python's
//! string methods, `raise_exception`, `strftime_now` and `tojson`. Looked for, as vLLM does it, in `chat_template.jinja`,
//! then under `chat_template` of `tokenizer_config.json`.

use std::io::{self, Write};
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error, ErrorKind, Value, context};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use crate::document::InputError;

/// A message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    pub role: Role,
    pub content: String,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
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
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// A chat template.
#[derive(Debug)]
pub(super) struct Template {
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
}

impl Template {
    /// The template in a model's folder; `None` when it has none.
    ///
    /// # Errors
    /// A file that cannot be read, or a template that does not parse.
    pub(super) fn in_folder(folder: &Path) -> Result<Option<Self>, InputError> {
        let (config_file, own_file) =
            (folder.join("tokenizer_config.json"), folder.join("chat_template.jinja"));
        let mut config = serde_json::Value::Null;
        if config_file.is_file() {
            let name = config_file.display().to_string();
            let text = read(&config_file)?;
            config = serde_json::from_str(&text).map_err(|error| {
                InputError::new(&name, format!("is not JSON: {error}"))
                    .expected("the tokenizer's settings")
                    .next("fetch the model's folder again")
            })?;
        }
        if own_file.is_file() {
            return Self::parse(&own_file.display().to_string(), read(&own_file)?, &config).map(Some);
        }
        let inside = match config.get("chat_template") {
            Some(serde_json::Value::String(text)) => Some(text.clone()),
            // Several, by name.
            Some(serde_json::Value::Array(named)) => named
                .iter()
                .find(|entry| entry.get("name").and_then(serde_json::Value::as_str) == Some("default"))
                .and_then(|entry| Some(entry.get("template")?.as_str()?.to_owned())),
            _ => None,
        };
        inside.map(|text| Self::parse(&config_file.display().to_string(), text, &config)).transpose()
    }

    fn parse(file: &str, text: String, config: &serde_json::Value) -> Result<Self, InputError> {
        let mut environment = Environment::new();
        if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
            environment.set_syntax(syntax);
        }
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", to_json);
        environment.add_template_owned("chat", text).map_err(|error| {
            InputError::new(file, format!("the chat template cannot be used: {error}"))
                .expected("a Jinja template as in Hugging Face's repositories")
                .next("take another tokenizer, or leave out load.prompts.tokenizer to measure the template")
        })?;
        let (bos_token, eos_token) = (token(config, "bos_token"), token(config, "eos_token"));
        Ok(Self { environment, bos_token, eos_token })
    }

    /// The text of `messages`, with the start of the answer behind them.
    ///
    /// # Errors
    /// The template rejects these messages, e.g. because it allows no system message.
    pub(super) fn render(&self, messages: &[Message]) -> Result<String, String> {
        let template = self.environment.get_template("chat").map_err(|error| error.to_string())?;
        let messages = Value::from(Serde(messages));
        let Self { bos_token, eos_token, .. } = self;
        template
            .render(context! {
                messages, bos_token, eos_token, add_generation_prompt => true, tools => (), documents => ()
            })
            .map_err(|error| error.to_string())
    }
}

fn read(file: &Path) -> Result<String, InputError> {
    fs_err::read_to_string(file).map_err(|error| {
        InputError::new(file.display().to_string(), format!("cannot be read: {error}"))
            .expected("a readable file in UTF-8")
    })
}

/// A special token: a string, or an object with its `content`.
fn token(config: &serde_json::Value, key: &str) -> String {
    let value = config.get(key);
    let text = value.and_then(|value| value.as_str().or_else(|| value.get("content")?.as_str()));
    text.unwrap_or_default().to_owned()
}

/// The date in a template, in UTC.
fn strftime_now(format: &str) -> Result<String, Error> {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    jiff::fmt::strtime::format(format, &now)
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

/// `tojson` as `transformers` defines it: no HTML escapes, Python's separators, an optional indent.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let _ensure_ascii: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let mut out = Vec::new();
    match indent {
        Some(width) => {
            let indent = " ".repeat(width);
            let format = PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut out, format))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut out, PythonJson)),
    }
    .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// `json.dumps` with its default separators: `, ` and `: `.
struct PythonJson;

impl Formatter for PythonJson {
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        let config = serde_json::json!({"bos_token": "<s>", "eos_token": "</s>"});
        Template::parse("t", text.into(), &config).unwrap()
    }

    fn user(text: &str) -> Vec<Message> {
        vec![Message::new(Role::User, text)]
    }

    #[test]
    fn templates_render_as_in_python() {
        let chatml = "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                      {%- if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
        assert_eq!(
            template(chatml).render(&user("hi")).unwrap(),
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
        );
        // What Llama 3.1's, Mistral's and Qwen's templates use.
        let pieces = "{{- bos_token }}{%- if tools is not none %}T{% endif %}{% set ns = namespace(n=0) %}\
                      {%- for m in messages %}{% set ns.n = ns.n + 1 %}{{ m['content'] | trim }}\
                      {%- if loop.last %}|{{ m.role.upper() }}{% endif %}{% endfor %}{{ ns.n }}{{ eos_token }}\
                      {{ messages | tojson }}";
        assert_eq!(
            template(pieces).render(&user(" a ")).unwrap(),
            "<s>a|USER1</s>[{\"role\": \"user\", \"content\": \" a \"}]"
        );
        let dated =
            template("{{ strftime_now('%Y') }}{% if messages[0].content.startswith('a') %}!{% endif %}");
        let year = dated.render(&user("a")).unwrap();
        assert!(year.len() == 5 && year.starts_with("20") && year.ends_with('!'), "{year}");
    }

    #[test]
    fn what_a_template_refuses_is_told() {
        let strict = template("{{ raise_exception('no system message, please') }}");
        assert!(strict.render(&user("a")).unwrap_err().contains("no system message, please"));
        let error =
            Template::parse("f.jinja", "{% if".into(), &serde_json::Value::Null).unwrap_err().to_string();
        assert!(error.starts_with("f.jinja: the chat template cannot be used"), "{error}");
    }

    #[test]
    fn a_folder_is_searched_as_servers_do_it() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Template::in_folder(folder.path()).unwrap().is_none());
        let config = r#"{"bos_token":{"content":"<b>"},"chat_template":[{"name":"tool_use","template":"x"},{"name":"default","template":"{{ bos_token }}"}]}"#;
        std::fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
        let found = |folder: &Path| Template::in_folder(folder).unwrap().unwrap().render(&user("a")).unwrap();
        assert_eq!(found(folder.path()), "<b>");
        std::fs::write(folder.path().join("chat_template.jinja"), "own {{ bos_token }}").unwrap();
        assert_eq!(found(folder.path()), "own <b>");
        std::fs::write(folder.path().join("tokenizer_config.json"), "{").unwrap();
        let error = Template::in_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("tokenizer_config.json: is not JSON"), "{error}");
    }
}
