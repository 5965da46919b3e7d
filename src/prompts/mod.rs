//! What is sent: prompts of exact length, real ones from files, conversations, recorded traces.
//!
//! Arrow: `plan` (load point) → here → `load`. The only place that knows tokenizers, chat templates and prompt files.

pub mod dataset;
pub mod trace;
