//! The filters of `list`: which recipes match, and what to say if none does.

use std::collections::BTreeSet;

use clap::Args;

use super::recipes::{engines, gpus, models};
use crate::recipe::find::RecipeFile;

/// Conditions on a recipe, combined with AND.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Filters {
    /// Only recipes for this GPU type or for any; with -w what they offer for it
    #[arg(long, value_name = "TYPE", conflicts_with = "launchers")]
    pub(super) gpu: Option<String>,
    /// Only recipes whose model name contains TEXT
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["launchers", "workload"])]
    model: Option<String>,
    /// Only recipes whose launcher name contains TEXT
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["launchers", "workload"])]
    engine: Option<String>,
    /// Only recipes whose source contains TEXT
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["launchers", "workload"])]
    source: Option<String>,
}

/// Most values named when none matched, because sources are many and long.
const MOST_VALUES: usize = 20;

/// What a recipe has.
type Values = fn(&RecipeFile) -> Vec<String>;

/// A condition that the user gave.
struct Condition<'a> {
    option: &'static str,
    wanted: &'a str,
    values: Values,
}

impl Condition<'_> {
    fn fits(&self, file: &RecipeFile) -> bool {
        let (wanted, values) = (self.wanted.to_lowercase(), (self.values)(file));
        if self.option == "--gpu" {
            return values.is_empty() || values.iter().any(|gpu| gpu.to_lowercase() == wanted);
        }
        values.iter().any(|value| value.to_lowercase().contains(&wanted))
    }

    /// The values that some recipe has. The beginning of a source identifies its author.
    fn known(&self, all: &[RecipeFile]) -> BTreeSet<String> {
        let values = all.iter().flat_map(self.values);
        if self.option != "--source" {
            return values.collect();
        }
        values.map(|value| value.split([',', ':']).next().unwrap_or_default().to_owned()).collect()
    }
}

impl Filters {
    fn conditions(&self) -> impl Iterator<Item = Condition<'_>> {
        let sources = |file: &RecipeFile| file.recipe.source.iter().cloned().collect();
        let all: [(_, _, Values); 4] = [
            ("--gpu", &self.gpu, gpus),
            ("--model", &self.model, models),
            ("--engine", &self.engine, engines),
            ("--source", &self.source, sources),
        ];
        all.into_iter().filter_map(|(option, wanted, values)| {
            Some(Condition { option, wanted: wanted.as_deref()?, values })
        })
    }

    pub(super) fn pass(&self, file: &RecipeFile) -> bool {
        self.conditions().all(|condition| condition.fits(file))
    }

    /// Explains why no recipe matched, and which values exist.
    pub(super) fn explain(&self, all: &[RecipeFile]) -> String {
        let given: String =
            self.conditions().map(|Condition { option, wanted, .. }| format!(" {option} {wanted}")).collect();
        let mut text = format!("no recipe matches{given}");
        let impossible = self.conditions().filter(|condition| !all.iter().any(|file| condition.fits(file)));
        let mut has_impossible = false;
        for condition in impossible {
            has_impossible = true;
            let known = condition.known(all);
            let named: Vec<&str> = known.iter().take(MOST_VALUES).map(String::as_str).collect();
            let Condition { option, wanted, .. } = condition;
            text.push_str(&format!("\n  {option} {wanted}: none has it; there is {}", named.join(", ")));
            if known.len() > named.len() {
                text.push_str(&format!(" and {} more", known.len() - named.len()));
            }
        }
        if !has_impossible {
            text.push_str("\n  each of these matches some recipe, all of them together none");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::list::recipes::tests::recipes;

    fn filters(gpu: &str, model: &str, engine: &str, source: &str) -> Filters {
        let of = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Filters { gpu: of(gpu), model: of(model), engine: of(engine), source: of(source) }
    }

    #[test]
    fn every_filter_must_match_in_any_case() {
        let all = recipes();
        let both = &["any", "deepseek-r1-dynamo-trtllm-disagg"][..];
        let table = [
            (filters("", "", "", ""), both),
            (filters("H100", "", "", ""), both),
            (filters("b200", "", "", ""), &both[..1]),
            (filters("", "LLAMA", "", ""), &both[1..]),
            (filters("", "fp4", "", ""), &both[1..]),
            (filters("", "", "dynamo", ""), &both[1..]),
            (filters("", "", "VLLM", ""), &both[..1]),
            (filters("", "", "", "inferencex"), &both[..1]),
            (filters("h100", "gpt-oss", "vllm", "1k/1k"), &both[..1]),
            (filters("h100", "llama", "vllm", ""), &[]),
        ];
        for (filters, expected) in table {
            let found: Vec<&str> =
                all.iter().filter(|file| filters.pass(file)).map(RecipeFile::name).collect();
            assert_eq!(found, expected, "{filters:?}");
        }
    }

    #[test]
    fn what_matches_nothing_is_named_with_what_there_is() {
        let all = recipes();
        assert_eq!(
            filters("h100", "qwen", "sglang", "").explain(&all),
            "no recipe matches --gpu h100 --model qwen --engine sglang\n  \
             --model qwen: none has it; there is meta/Llama-3.3-70B, nv/Llama-FP4, openai/gpt-oss-20b\n  \
             --engine sglang: none has it; there is dynamo-trtllm, trtllm-serve, vllm"
        );
        assert_eq!(
            filters("", "", "", "nobody").explain(&all),
            "no recipe matches --source nobody\n  --source nobody: none has it; there is InferenceX"
        );
        assert!(filters("", "llama", "vllm", "").explain(&all).ends_with("all of them together none"));
    }
}
