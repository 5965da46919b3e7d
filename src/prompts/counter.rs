//! Counts the tokens of a prompt as a server does: the chat template around the messages, then the tokenizer.
//!
//! vLLM, SGLang and Dynamo render the template and tokenise the text without adding special tokens; a completion's text gets
//! what the tokenizer adds to every text, such as a BOS token. Where the template is unknown, [`Counter::learn`] takes the
//! tokens it adds from answers of the server.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::message::{Message, Role};
use super::template::Template;
use super::tokenizer::{Tokenizer, TokenizerCache, folder_of};
use crate::document::InputError;
use crate::plan::{Endpoint, LoadPoint};

/// The prompt of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// `messages` of the chat endpoint.
    Messages(Vec<Message>),
    /// `prompt` of the completions endpoint.
    Text(String),
    /// The same as token ids.
    Tokens(Vec<u32>),
}

impl Content {
    /// One user message, or the text itself.
    pub fn plain(endpoint: Endpoint, text: impl Into<String>) -> Self {
        let text: String = text.into();
        match endpoint {
            Endpoint::Chat => Self::Messages(vec![Message::new(Role::User, text)]),
            Endpoint::Completions => Self::Text(text),
        }
    }
}

/// Counts prompts as a server does.
#[derive(Debug)]
pub struct Counter {
    tokenizer: Arc<Tokenizer>,
    template: Option<Template>,
    learned: Learned,
}

/// Tokens that the server counts beyond those known here, as measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Learned {
    /// Tokens of each prompt.
    pub each: i64,
    /// Tokens for each pair of further messages of a conversation.
    pub pair: i64,
}

impl Counter {
    /// A counter for the prompts of `point`.
    ///
    /// # Errors
    /// A tokenizer or a chat template that cannot be used.
    pub fn new(point: &LoadPoint, tokenizers: &TokenizerCache) -> Result<Self, InputError> {
        let spec = &point.prompts.tokenizer;
        let tokenizer = tokenizers.tokenizer(spec)?;
        let template = match folder_of(spec) {
            Some(folder) if point.endpoint == Endpoint::Chat && tokenizer.is_exact() => {
                Template::in_folder(&folder)?
            }
            _ => None,
        };
        Ok(Self { tokenizer, template, learned: Learned::default() })
    }

    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// Whether it counts what a server counts, as far as is known without sending a request.
    pub fn is_exact(&self) -> bool {
        self.tokenizer.is_exact()
    }

    /// Whether the chat template is known.
    pub fn knows_template(&self) -> bool {
        self.template.is_some()
    }

    /// Adds what the server counts beyond it.
    pub(super) fn learn(&mut self, learned: Learned) {
        self.learned = learned;
    }

    /// Token ids as the server sees them, without the learned tokens: their place in the prompt is unknown.
    ///
    /// # Errors
    /// The template rejects the messages.
    pub(super) fn ids(&self, content: &Content) -> Result<Vec<u32>, String> {
        match content {
            Content::Tokens(ids) => Ok(ids.clone()),
            _ => Ok(self
                .each_text(content, &Map::new(), |text, special| self.tokenizer.encode(text, special))?
                .concat()),
        }
    }

    /// Calls `tokens` for each text that the server tokenises, with whether it adds special tokens.
    fn each_text<T>(
        &self,
        content: &Content,
        fields: &Map<String, Value>,
        tokens: impl Fn(&str, bool) -> T,
    ) -> Result<Vec<T>, String> {
        Ok(match (content, &self.template) {
            (Content::Tokens(_), _) => Vec::new(),
            (Content::Text(text), _) => vec![tokens(text, true)],
            (Content::Messages(messages), Some(template)) => {
                vec![tokens(&template.render(messages, fields)?, false)]
            }
            (Content::Messages(messages), None) => {
                let tools = fields.get("tools").map(|tools| tokens(&tools.to_string(), false));
                let calls = messages.iter().filter_map(Message::calls).map(|calls| tokens(&calls, false));
                messages
                    .iter()
                    .map(|message| tokens(&message.text(), false))
                    .chain(tools)
                    .chain(calls)
                    .collect()
            }
        })
    }

    /// Tokens as the server counts them.
    ///
    /// # Errors
    /// The template rejects the messages.
    pub fn count(&self, content: &Content) -> Result<u32, String> {
        self.count_with(content, &Map::new())
    }

    /// As [`Counter::count`], of a request with these other fields, of which `tools` are part of the prompt.
    pub(super) fn count_with(&self, content: &Content, fields: &Map<String, Value>) -> Result<u32, String> {
        let known: u64 = match content {
            Content::Tokens(ids) => ids.len() as u64,
            _ => {
                let counts =
                    self.each_text(content, fields, |text, special| self.tokenizer.count(text, special))?;
                counts.iter().sum()
            }
        };
        let pairs = match content {
            Content::Messages(messages) => {
                messages.iter().filter(|message| message.is_from(Role::Assistant)).count() as i64
            }
            Content::Text(_) | Content::Tokens(_) => 0,
        };
        let learned = self.learned.each + self.learned.pair * pairs;
        Ok(u32::try_from(known.saturating_add_signed(learned)).unwrap_or(u32::MAX))
    }
}
