//! Chat templates: turn messages into the text whose tokens a server counts.
//!
//! Rendered with minijinja as `transformers` renders with Jinja2: `trim_blocks`, `lstrip_blocks`, loop controls, Python's
//! string methods, `raise_exception`, `strftime_now`, `tojson`, and `{% generation %}`, which marks what to train on and prints
//! nothing. Looked for, as vLLM does it, in `chat_template.jinja`, then under `chat_template` of `tokenizer_config.json`.

use std::collections::BTreeMap;
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use regex::Regex;
use serde_json::{Map, Value as Json};

use super::message::Message;
use super::python_json::to_json;
use crate::document::InputError;

/// The special tokens that a template may name.
const SPECIAL: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A chat template.
#[derive(Debug)]
pub(super) struct Template {
    environment: Environment<'static>,
    /// Special tokens, by the names that templates use.
    tokens: BTreeMap<&'static str, String>,
    /// It takes contents apart into their parts.
    takes_parts: bool,
}

impl Template {
    /// The template in a model's folder; `None` when it has none.
    ///
    /// # Errors
    /// A file that cannot be read, or a template that does not parse.
    pub(super) fn in_folder(folder: &Path) -> Result<Option<Self>, InputError> {
        let (config_file, own_file) =
            (folder.join("tokenizer_config.json"), folder.join("chat_template.jinja"));
        let mut config = Json::Null;
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
            Some(Json::String(text)) => Some(text.clone()),
            // Several, by name.
            Some(Json::Array(named)) => named
                .iter()
                .find(|entry| entry.get("name").and_then(Json::as_str) == Some("default"))
                .and_then(|entry| Some(entry.get("template")?.as_str()?.to_owned())),
            _ => None,
        };
        inside.map(|text| Self::parse(&config_file.display().to_string(), text, &config)).transpose()
    }

    fn parse(file: &str, text: String, config: &Json) -> Result<Self, InputError> {
        // As vLLM looks for it: a loop over the content of a message.
        let loops =
            Regex::new(r#"for\s+\w+\s+in\s+\w+(?:\.content|\[['"]content['"]\])|for\s+\w+\s+in\s+content\b"#);
        let takes_parts = loops.is_ok_and(|loops| loops.is_match(&text));
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
        environment.add_template_owned("chat", without_generation(&text)).map_err(|error| {
            InputError::new(file, format!("the chat template cannot be used: {error}"))
                .expected("a Jinja template as in Hugging Face's repositories")
                .next("take another tokenizer, or leave out load.prompts.tokenizer to measure the template")
        })?;
        let tokens = SPECIAL.map(|key| (key, token(config, key))).into();
        Ok(Self { environment, tokens, takes_parts })
    }

    /// The text of `messages` with the other `fields` of their request, and the start of the answer behind them.
    ///
    /// # Errors
    /// The template rejects these messages, e.g. because it allows no system message.
    pub(super) fn render(&self, messages: &[Message], fields: &Map<String, Json>) -> Result<String, String> {
        let template = self.environment.get_template("chat").map_err(|error| error.to_string())?;
        let messages: Vec<_> =
            messages.iter().map(|message| message.for_template(self.takes_parts)).collect();
        let messages = Value::from(Serde(messages));
        let field = |key: &str| fields.get(key).map(|value| Value::from(Serde(value)));
        let (tools, documents) =
            (field("tools").unwrap_or(().into()), field("documents").unwrap_or(().into()));
        let mut given =
            fields.get("chat_template_kwargs").and_then(Json::as_object).cloned().unwrap_or_default();
        given.extend(self.tokens.iter().map(|(key, token)| ((*key).to_owned(), token.as_str().into())));
        let add_generation_prompt = field("add_generation_prompt").unwrap_or(true.into());
        template
            .render(context! {
                messages, add_generation_prompt, tools, documents,
                ..Value::from(Serde(&given))
            })
            .map_err(|error| error.to_string())
    }
}

/// The template with `{% generation %}` … `{% endgeneration %}` as blocks that minijinja knows and that print only what is in
/// them.
fn without_generation(text: &str) -> String {
    let replace =
        |text: &str, tag: &str, known: &str| match Regex::new(&format!(r"\{{%([-+]?)\s*{tag}\s*([-+]?)%\}}"))
        {
            Ok(tags) => tags.replace_all(text, format!("{{%$1 {known} $2%}}")).into_owned(),
            Err(_) => text.to_owned(),
        };
    replace(&replace(text, "generation", "if true"), "endgeneration", "endif")
}

fn read(file: &Path) -> Result<String, InputError> {
    fs_err::read_to_string(file).map_err(|error| {
        InputError::new(file.display().to_string(), format!("cannot be read: {error}"))
            .expected("a readable file in UTF-8")
    })
}

/// A special token: a string, or an object with its `content`.
fn token(config: &Json, key: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompts::Role;

    impl Template {
        fn text(&self, messages: &[Message]) -> Result<String, String> {
            self.render(messages, &Map::new())
        }
    }

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
            template(chatml).text(&user("hi")).unwrap(),
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
        );
        // What Llama 3.1's, Mistral's and Qwen's templates use.
        let pieces = "{{- bos_token }}{%- if tools is not none %}T{% endif %}{% set ns = namespace(n=0) %}\
                      {%- for m in messages %}{% set ns.n = ns.n + 1 %}{{ m['content'] | trim }}\
                      {%- if loop.last %}|{{ m.role.upper() }}{% endif %}{% endfor %}{{ ns.n }}{{ eos_token }}\
                      {{ messages | tojson }}";
        assert_eq!(
            template(pieces).text(&user(" a ")).unwrap(),
            "<s>a|USER1</s>[{\"role\": \"user\", \"content\": \" a \"}]"
        );
        let dated =
            template("{{ strftime_now('%Y') }}{% if messages[0].content.startswith('a') %}!{% endif %}");
        let year = dated.text(&user("a")).unwrap();
        assert!(year.len() == 5 && year.starts_with("20") && year.ends_with('!'), "{year}");
    }

    #[test]
    fn the_generation_tag_prints_what_is_in_it_and_nothing_else() {
        let each = "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}OPEN{{ m.content }}CLOSE{% else %}{{ m.content }}{% endif %}{% endfor %}";
        let messages = [user("q"), vec![Message::new(Role::Assistant, "a")], user("r")].concat();
        for (open, close) in [
            ("{% generation %}", "{% endgeneration %}"),
            ("{%- generation -%}\n ", " {%- endgeneration -%}"),
            ("{%generation%}", "{%endgeneration%}"),
        ] {
            let text = each.replace("OPEN", open).replace("CLOSE", close);
            assert_eq!(
                template(&text).text(&messages).unwrap(),
                "<|user|>q<|assistant|>a<|user|>r",
                "{text}"
            );
        }
    }

    /// Each with what Python's `jinja2` prints with the settings of `transformers`.
    #[test]
    fn what_templates_of_hugging_face_use_prints_as_in_python() {
        let rows = [
            (
                "{{ {'b': [1, {}], 'a': []} | tojson(indent=2) }}",
                "{\n  \"b\": [\n    1,\n    {}\n  ],\n  \"a\": []\n}",
            ),
            (
                "{{ {'b': 'é', 'a': 1.0} | tojson(ensure_ascii=True, sort_keys=True, separators=(',', ':')) }}",
                "{\"a\":1.0,\"b\":\"\\u00e9\"}",
            ),
            ("{{ {'b': '<é>'} | tojson(ensure_ascii=false) }}", "{\"b\": \"<é>\"}"),
            ("{% for i in range(3) %}{{ loop.previtem }}{{ loop.nextitem }};{% endfor %}", "1;02;1;"),
            (
                "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% elif i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
                "02",
            ),
            ("{{ 'a' in {'a': 1} }}{{ messages[::-1][0].content }}{{ messages[-1]['role'] }}", "Trueauser"),
            ("{{ 'x=%s' | format(1) }}", "x=1"),
            ("{{ 'a</think>b'.split('</think>')[-1].lstrip('\\n') }}", "b"),
            (
                "{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}{% for k, v in {'b': 2} | items %}{{ k }}{% endfor %}",
                "a1b",
            ),
            ("{{ messages[0].get('name', 'none') }}{{ messages[0].tool_calls is defined }}", "noneFalse"),
            (
                "{{ 'a' is string }}{{ {} is mapping }}{{ [] is sequence }}{{ none is none }}{{ [] is iterable }}",
                "TrueTrueTrueTrueTrue",
            ),
            (
                "{% if tools %}t{% endif %}{% if not date_string is defined %}{% set date_string = '26 Jul' %}{% endif %}{{ date_string }}",
                "26 Jul",
            ),
            ("{%- macro m(x, y='d') -%}{{ x ~ y }}{%- endmacro -%}{{ m('a') }}{{ m('a', y='b') }}", "adab"),
            (
                "{{ ['a', 'b'] | join(', ') }}{{ [3, 1] | sort | first }}{{ 'ab' | length }}{{ 'AB' | lower }}",
                "a, b12ab",
            ),
            (
                "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ messages | map(attribute='role') | join }}",
                "1user",
            ),
            ("{{ ('a' if messages else 'b') }}{{ true and 'x' }}{{ 7 // 2 }}{{ 7 % 2 }}", "ax31"),
            ("{{ messages[0]['content'][:1] }}{{ messages[0].content.strip().upper() }}", "aA"),
            (
                "{{ 'a\\nb' | replace('\\n', ' ') }}{{ 'abc'.find('c') }}{{ 'abc'.endswith(('c', 'd')) }}",
                "a b2True",
            ),
            (
                "{{ messages[0].nothing }}{% if messages[0].nothing %}x{% endif %}{{ none_such | default('d') }}",
                "d",
            ),
            ("{{ 3 | string + 'a' }}{{ '3' | int + 1 }}{{ [1] + [2] }}{{ 'a' * 2 }}", "3a4[1, 2]aa"),
            ("{{ eos_token }}{{ unk_token }}", "</s>"),
            ("{% set x = [] %}{% for m in messages %}{% set x = x + [m.role] %}{% endfor %}{{ x }}", "[]"),
            ("a\n  {% if true %}\nb\n  {% endif %}\n", "a\nb\n"),
        ];
        let rendered = |text: &str| template(text).text(&user("a")).unwrap_or_else(|error| error);
        let wrong: Vec<_> = rows.iter().filter(|(text, printed)| rendered(text) != *printed).collect();
        let found: Vec<String> = wrong.iter().map(|(text, _)| rendered(text)).collect();
        assert!(wrong.is_empty(), "{wrong:#?} gave {found:#?}");
    }

    #[test]
    fn tools_parts_and_keywords_of_a_request_reach_the_template() {
        let Json::Object(fields) = serde_json::json!({"tools": [{"type": "function"}], "chat_template_kwargs": {"enable_thinking": false}})
        else {
            panic!()
        };
        let parts = vec![Message::new(
            Role::User,
            serde_json::json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        )];
        let shown = "{{ tools | length }}{{ enable_thinking }}";
        let text = [shown, "{{ messages[0].content }}"].concat();
        assert_eq!(template(&text).render(&parts, &fields).unwrap(), "1Falsea\nb");
        let text = [
            shown,
            "{% for m in messages %}{% for part in m.content %}<{{ part.text }}>{% endfor %}{% endfor %}",
        ]
        .concat();
        assert_eq!(template(&text).render(&parts, &fields).unwrap(), "1False<a><b>");
    }

    #[test]
    fn what_a_template_refuses_is_told() {
        let strict = template("{{ raise_exception('no system message, please') }}");
        assert!(strict.text(&user("a")).unwrap_err().contains("no system message, please"));
        let error = Template::parse("f.jinja", "{% if".into(), &Json::Null).unwrap_err().to_string();
        assert!(error.starts_with("f.jinja: the chat template cannot be used"), "{error}");
    }

    #[test]
    fn a_folder_is_searched_as_servers_do_it() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Template::in_folder(folder.path()).unwrap().is_none());
        let config = r#"{"bos_token":{"content":"<b>"},"chat_template":[{"name":"tool_use","template":"x"},{"name":"default","template":"{{ bos_token }}"}]}"#;
        std::fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
        let found = |folder: &Path| Template::in_folder(folder).unwrap().unwrap().text(&user("a")).unwrap();
        assert_eq!(found(folder.path()), "<b>");
        std::fs::write(folder.path().join("chat_template.jinja"), "own {{ bos_token }}").unwrap();
        assert_eq!(found(folder.path()), "own <b>");
        std::fs::write(folder.path().join("tokenizer_config.json"), "{").unwrap();
        let error = Template::in_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("tokenizer_config.json: is not JSON"), "{error}");
    }
}
