//! Real prompts, each file in the format its hub publishes.
//!
//! Arrow: `plan::Dataset` → here → `source`. Files are streamed: a file of many gigabytes takes the memory of the sample.

/// One entry of a file, before anything is counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// A system message, when the file has one.
    pub system: Option<String>,
    /// What the user says, turn by turn, and what was answered then. Never empty.
    pub turns: Vec<Turn>,
    /// Output length the file asks for, tokens.
    pub output_tokens: Option<u32>,
}

/// One turn of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turn {
    /// The user's words.
    pub user: String,
    /// The answer in the file.
    pub answer: Option<String>,
}
