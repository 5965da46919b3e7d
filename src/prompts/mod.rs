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
mod natural;
mod source;
mod template;
mod tokenizer;
pub mod trace;
mod vocabulary;
mod words;
mod writer;

pub use conversation::Dialogue;
pub use counter::{Content, Counter, Learned};
pub use source::{PromptPlan, Prompts};
pub use template::{Message, Role};
pub use tokenizer::{Tokenizer, TokenizerCache};
pub use writer::{drawn_salt, fnv1a};

#[cfg(test)]
mod tests;
