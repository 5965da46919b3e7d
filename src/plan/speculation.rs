//! Speculative decoding of a deployment.

use serde::{Deserialize, Serialize};

/// Speculative decoding of a deployment, whether the recipe has a section for it or engine options switch it on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Speculation {
    /// The engine's name of the method; `null` when the engine chooses it.
    pub method: Option<String>,
    /// Name or folder of the draft model; `null` without one.
    pub model: Option<String>,
    /// Tokens of a draft; `null` when the engine chooses.
    pub tokens: Option<u32>,
    /// Drafts are accepted at random, whatever the text.
    pub synthetic: bool,
    /// Tokens that a step then yields on average; `null` when unknown.
    pub synthetic_acceptance: Option<f64>,
}

impl Speculation {
    /// `eagle3, draft model m, 3 tokens a draft, synthetic acceptance of 2.5 tokens a step`
    pub fn words(&self) -> String {
        let method = self.method.clone().unwrap_or_else(|| "chosen by the engine".into());
        let model = self.model.iter().map(|model| format!("draft model {model}"));
        let tokens = self.tokens.iter().map(|tokens| match tokens {
            1 => "1 token a draft".to_owned(),
            tokens => format!("{tokens} tokens a draft"),
        });
        let parts = std::iter::once(method).chain(model).chain(tokens).chain(self.synthetic_words());
        parts.collect::<Vec<_>>().join(", ")
    }

    /// `synthetic acceptance of 2.5 tokens a step`; `None` for real drafts.
    pub fn synthetic_words(&self) -> Option<String> {
        let length = self.synthetic_acceptance.map(|tokens| format!(" of {tokens} tokens a step"));
        self.synthetic.then(|| format!("synthetic acceptance{}", length.unwrap_or_default()))
    }

    /// Whether the draft model is given by a folder, not by a name that the engine looks up.
    pub fn draft_folder(&self) -> Option<&str> {
        self.model.as_deref().filter(|model| super::is_path(model))
    }
}
