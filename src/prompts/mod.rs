//! Prompts: generated ones of exact length, real ones from files, conversations, recorded traces.
//!
//! The only room that knows tokenizers, chat templates and prompt files.
//!
//! ```text
//! tokenizer.json, chat_template.jinja → tokenizer, template → counter ─┐
//!                        plan::PromptSpec → vocabulary, writer ────────┼▶ source (Prompts) ─▶ load::request_queue
//!             Dolly, ShareGPT … → dataset    Mooncake … → trace ───────┘         └▶ conversation
//! ```

pub mod check;
mod conversation;
mod counter;
pub mod dataset;
mod lengths;
mod message;
mod natural;
mod python_json;
mod real;
mod source;
mod template;
mod tiktoken;
mod tokenizer;
pub mod trace;
mod vocabulary;
mod words;
mod writer;

pub use conversation::Dialogue;
pub use counter::{Content, Counter, Learned};
pub use message::{Message, Role};
pub use source::{PromptPlan, Prompts};
pub use tokenizer::{Tokenizer, TokenizerCache};
pub use writer::{drawn_salt, fnv1a};

#[cfg(test)]
mod real_tests;
#[cfg(test)]
mod tests;
