//! The prompts of a load point, as text, as JSON, and in files.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::document::InputError;
use crate::experiment::files;
use crate::load::request_body;
use crate::metrics::dialects::aiperf;
use crate::metrics::record::Phase;
use crate::plan::{Endpoint, LoadPoint};
use crate::prompts::{Content, PromptPlan, Prompts};
use crate::report::lengths::Lengths;

/// A load point, its prompts and their number.
pub(super) struct Preview {
    pub(super) point: LoadPoint,
    pub(super) model: String,
    pub(super) prompts: Prompts,
    pub(super) phase: Phase,
    pub(super) count: u64,
}

impl Preview {
    fn each(&self) -> impl Iterator<Item = PromptPlan> + '_ {
        (0..self.count).map(|id| self.prompts.plan(self.phase, id))
    }

    fn first(&self, shown: u64) -> impl Iterator<Item = PromptPlan> + '_ {
        self.each().take(usize::try_from(shown).unwrap_or(usize::MAX))
    }

    fn body(&self, plan: &PromptPlan) -> Value {
        serde_json::from_slice(&request_body(&self.point, &self.model, plan)).unwrap_or_default()
    }

    /// A prompt with its lengths and its request body.
    fn line(&self, plan: &PromptPlan) -> Value {
        json!({"id": plan.id, "isl": plan.isl, "osl": plan.osl, "body": self.body(plan)})
    }

    pub(super) fn lengths(&self) -> Lengths {
        Lengths::of(self.each().map(|plan| (plan.isl, plan.osl)))
    }

    /// Caveats about the figures.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let prompts = &self.prompts;
        if !prompts.is_exact() {
            notes.push(
                "lengths are in words: no tokenizer was given (--tokenizer, load.prompts.tokenizer)".into(),
            );
        } else if self.point.endpoint == Endpoint::Chat && !prompts.counter().knows_template() {
            notes.push(
                "the chat template is not known: a run asks the server what it adds, and makes prompts that much shorter"
                    .into(),
            );
        }
        if let Some(chosen) = prompts.selection() {
            let stats = &chosen.stats;
            notes.push(format!(
                "{} prompts of {} entries ({} unusable, {} looked at: {} too short, {} too long; {} duplicates)",
                chosen.picked.len(),
                stats.entries,
                stats.skipped,
                stats.looked_at,
                stats.too_short,
                stats.too_long,
                stats.duplicates
            ));
        }
        notes.extend(prompts.notes());
        if prompts.is_conversation() {
            notes.push("these are the first turns; later ones contain the server's answers".into());
        }
        if self.point.prompts.salt.is_none() {
            notes.push(format!(
                "salt {}: bench and runs on servers they did not start draw another (--salt, load.prompts.salt)",
                prompts.salt()
            ));
        }
        notes
    }

    /// The first prompts in the form in which they are sent.
    pub(super) fn pages(&self, shown: u64) -> String {
        let mut text = String::new();
        for plan in self.first(shown) {
            let shared = if plan.shared > 0 { format!(", {} shared", plan.shared) } else { String::new() };
            let _ = writeln!(text, "--- {}: {} tokens{shared}, asks for {}", plan.id, plan.isl, plan.osl);
            let _ = writeln!(text, "{}", words(&plan.content));
            if !plan.fields.is_empty() {
                let _ = writeln!(text, "with {}", json!(plan.fields));
            }
        }
        text
    }

    /// Writes all prompts; the ending of the file chooses the format.
    pub(super) fn save(&self, path: &Path) -> anyhow::Result<()> {
        use std::io::Write;

        let kind = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if !["txt", "jsonl", "json"].contains(&kind) {
            return Err(InputError::new("--save", format!("{} has no ending that says how", path.display()))
                .expected(".txt, .jsonl or .json (AIPerf's inputs.json)")
                .into());
        }
        if path.exists() {
            return Err(InputError::new("--save", format!("{} exists", path.display()))
                .next("give another name; nothing is ever overwritten")
                .into());
        }
        files::create_once_with(path, |out| match kind {
            "json" => {
                let session_id = |plan: &PromptPlan| aiperf::session_id(self.phase, plan.id);
                aiperf::write_inputs(out, self.each().map(|plan| (session_id(&plan), self.body(&plan))))
            }
            "jsonl" => self.each().try_for_each(|plan| writeln!(out, "{}", self.line(&plan))),
            _ => self.each().try_for_each(|plan| writeln!(out, "{}\n", words(&plan.content))),
        })?;
        Ok(())
    }

    pub(super) fn as_json(&self, shown: u64) -> Value {
        let lengths = self.lengths();
        let [isl, osl] = lengths.figures();
        let as_json = |plan: PromptPlan| json!({"id": plan.id, "isl": plan.isl, "osl": plan.osl, "shared": plan.shared, "body": self.body(&plan)});
        json!({
            "point": self.point.id,
            "count": self.count,
            "tokenizer": self.prompts.tokenizer().name(),
            "exact": self.prompts.is_exact(),
            "salt": self.prompts.salt(),
            "isl": isl,
            "osl": osl,
            "histogram": lengths.histogram(),
            "prompts": self.first(shown).map(as_json).collect::<Vec<_>>(),
        })
    }
}

/// A prompt for people; a single message without its role.
fn words(content: &Content) -> String {
    match content {
        Content::Text(text) => text.clone(),
        Content::Tokens(ids) => ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "),
        Content::Messages(messages) => match messages.as_slice() {
            [one] => one.text().into_owned(),
            several => {
                let each = several.iter().map(|message| format!("[{}] {}", message.role(), message.shown()));
                each.collect::<Vec<_>>().join("\n")
            }
        },
    }
}
