//! Lists all recipes or those that pass the filters: one line each, on a terminal within its width.

use std::collections::BTreeSet;
use std::io::IsTerminal;

use serde_json::json;

use super::wrapped;
use crate::commands::printer::Printer;
use crate::recipe::find::{self, RecipeFile};
use crate::report::table::Table;

/// Conditions on a recipe, combined with AND.
#[derive(Debug, Clone, Default)]
pub(super) struct Filters {
    pub(super) gpu: Option<String>,
    pub(super) model: Option<String>,
    pub(super) engine: Option<String>,
    pub(super) source: Option<String>,
}

/// Most values named when none matched, because sources are many and long.
const MOST_VALUES: usize = 20;

/// The filterable properties of a recipe: the option's name, and the recipe's values.
type Facts = [(&'static str, fn(&RecipeFile) -> Vec<String>); 4];

const FACTS: Facts = [("--gpu", gpus), ("--model", models), ("--engine", engines), ("--source", sources)];

/// GPU types that a recipe is written for; empty for any.
fn gpus(file: &RecipeFile) -> Vec<String> {
    file.recipe.gpu.keys().cloned().collect()
}

/// Its models: the main one, and different ones for some GPU types.
fn models(file: &RecipeFile) -> Vec<String> {
    let on_gpus = file.recipe.gpu.values().map(|gpu| &gpu.model.name);
    each_once(std::iter::once(&file.recipe.model.name).chain(on_gpus))
}

/// Its launchers.
fn engines(file: &RecipeFile) -> Vec<String> {
    let on_gpus = file.recipe.gpu.values().map(|gpu| &gpu.deploy.launcher);
    each_once(std::iter::once(&file.recipe.deploy.launcher).chain(on_gpus))
}

fn sources(file: &RecipeFile) -> Vec<String> {
    file.recipe.source.iter().cloned().collect()
}

fn each_once<'a>(values: impl Iterator<Item = &'a Option<String>>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for value in values.flatten() {
        if !found.contains(value) {
            found.push(value.clone());
        }
    }
    found
}

impl Filters {
    fn asked(&self) -> [&Option<String>; 4] {
        [&self.gpu, &self.model, &self.engine, &self.source]
    }

    /// Whether one of the facts matches; always true without a condition.
    fn fits(&self, number: usize, file: &RecipeFile) -> bool {
        let (Some(Some(asked)), Some((name, of))) = (self.asked().get(number), FACTS.get(number)) else {
            return true;
        };
        let (asked, values) = (asked.to_lowercase(), of(file));
        if *name == "--gpu" {
            return values.is_empty() || values.iter().any(|gpu| gpu.to_lowercase() == asked);
        }
        values.iter().any(|value| value.to_lowercase().contains(&asked))
    }

    fn pass(&self, file: &RecipeFile) -> bool {
        (0..FACTS.len()).all(|number| self.fits(number, file))
    }

    /// Explains why no recipe matched, and which values exist.
    fn explain(&self, all: &[RecipeFile]) -> String {
        let asked = FACTS.iter().zip(self.asked());
        let asked = asked.filter_map(|((name, _), asked)| Some(format!("{name} {}", asked.as_ref()?)));
        let mut text = format!("no recipe matches {}", asked.collect::<Vec<_>>().join(" "));
        let mut alone = 0;
        for (number, ((name, of), asked)) in FACTS.iter().zip(self.asked()).enumerate() {
            let Some(asked) = asked else { continue };
            if all.iter().any(|file| self.fits(number, file)) {
                continue;
            }
            alone += 1;
            // The beginning of a source identifies its author.
            let short = |value: String| match *name {
                "--source" => value.split([',', ':']).next().unwrap_or_default().to_owned(),
                _ => value,
            };
            let known: BTreeSet<String> = all.iter().flat_map(of).map(short).collect();
            let more = known.len().saturating_sub(MOST_VALUES);
            let known: Vec<String> = known.into_iter().take(MOST_VALUES).collect();
            text.push_str(&format!("\n  {name} {asked}: none has it; there is {}", known.join(", ")));
            text.push_str(&if more > 0 { format!(" and {more} more") } else { String::new() });
        }
        if alone == 0 {
            text.push_str("\n  each of these matches some recipe, all of them together none");
        }
        text
    }
}

/// Shows the matching recipes.
pub(super) fn run(printer: Printer, filters: &Filters) -> anyhow::Result<()> {
    let (all, errors) = find::all();
    let recipes: Vec<&RecipeFile> = all.iter().filter(|file| filters.pass(file)).collect();
    if recipes.is_empty() && !printer.is_json() {
        printer.error(filters.explain(&all));
    } else {
        let as_json = || recipes.iter().map(|file| as_json(file)).collect::<Vec<_>>();
        printer.result(as_json, || match std::io::stdout().is_terminal() {
            true => narrow(&recipes, printer.width()),
            false => wide(&recipes),
        })?;
    }
    for error in &errors {
        printer.error(format!("warning: {error}"));
    }
    Ok(())
}

fn as_json(file: &RecipeFile) -> serde_json::Value {
    json!({
        "name": file.name(),
        "summary": file.recipe.summary,
        "aliases": file.recipe.aliases,
        "gpus": gpus(file),
        "launcher": file.recipe.deploy.launcher,
        "model": models(file).first(),
        "models": models(file),
        "engines": engines(file),
        "source": file.recipe.source,
        "published": file.recipe.published.len(),
        "file": file.document.file,
    })
}

/// `b200 gb200`, or `any`.
fn gpu_cell(file: &RecipeFile) -> String {
    let gpus = gpus(file);
    if gpus.is_empty() { "any".into() } else { gpus.join(" ") }
}

/// Number of published figures to reproduce.
fn published_cell(file: &RecipeFile) -> String {
    match file.recipe.published.len() {
        0 => "-".into(),
        some => some.to_string(),
    }
}

/// One line per recipe, however long: for pipes.
fn wide(recipes: &[&RecipeFile]) -> String {
    let mut table = Table::new(["NAME", "GPU", "MODEL", "ENGINE", "FIGURES", "SUMMARY"]);
    for file in recipes {
        table.push(vec![
            file.name().to_owned(),
            gpu_cell(file),
            models(file).join(" "),
            engines(file).join(" "),
            published_cell(file),
            file.recipe.summary.clone().unwrap_or_default(),
        ]);
    }
    table.text(&[0, 1, 2, 3, 5])
}

/// For a terminal of this width: the summary, wrapped, below each line. The model is mostly in the name, and always in `show`.
fn narrow(recipes: &[&RecipeFile], width: usize) -> String {
    let mut table = Table::new(["NAME", "GPU", "ENGINE"]);
    for file in recipes {
        table.push(vec![file.name().to_owned(), gpu_cell(file), engines(file).join(" ")]);
    }
    let table = table.text(&[0, 1, 2]);
    let mut lines = table.lines();
    let mut text = format!("{}\n", lines.next().unwrap_or_default());
    for (line, file) in lines.zip(recipes) {
        text.push_str(&format!("{line}\n"));
        let words = file.recipe.summary.as_deref().unwrap_or_default().split_whitespace();
        let words: Vec<String> = words.map(str::to_owned).collect();
        for part in wrapped(&words, width.saturating_sub(4)) {
            text.push_str(&format!("    {part}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Document;

    fn recipe(name: &str, model: &str, launcher: &str, more: &str) -> RecipeFile {
        let text = format!(
            "schema = 1\nname = \"{name}\"\nsummary = \"what it is for, which takes more than one line of a terminal to say: 8k in, 1k out\"\n\
             {more}\n[model]\nname = \"{model}\"\n[deploy]\nlauncher = \"{launcher}\"\n"
        );
        RecipeFile::parse(Document { file: format!("{name}.toml"), text }, None).unwrap()
    }

    fn recipes() -> Vec<RecipeFile> {
        let gpus = "gpu = { h100 = {}, gb200 = { model = { name = \"nv/Llama-FP4\" }, deploy = { launcher = \"dynamo-trtllm\" } } }";
        vec![
            recipe("any", "openai/gpt-oss-20b", "vllm", "source = \"InferenceX, point 1k/1k\""),
            recipe("deepseek-r1-dynamo-trtllm-disagg", "meta/Llama-3.3-70B", "trtllm-serve", gpus),
        ]
    }

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

    #[test]
    fn a_terminal_gets_the_summary_below_within_80_columns() {
        let all = recipes();
        let text = narrow(&all.iter().collect::<Vec<_>>(), 80);
        let expected = "\
NAME                              GPU         ENGINE
any                               any         vllm
    what it is for, which takes more than one line of a terminal to say: 8k in,
    1k out
deepseek-r1-dynamo-trtllm-disagg  gb200 h100  trtllm-serve dynamo-trtllm
    what it is for, which takes more than one line of a terminal to say: 8k in,
    1k out
";
        assert_eq!(text, expected);
    }
}
