//! Lists all recipes or those that pass the filters: one line each, within the width of the terminal.

use serde_json::json;

use super::filters::Filters;
use crate::commands::printer::Printer;
use crate::recipe::find::{self, RecipeFile};
use crate::report::table::{Table, lines};

/// Shows the matching recipes.
pub(super) fn run(printer: Printer, filters: &Filters, is_wide: bool) -> anyhow::Result<()> {
    let (all, errors) = find::all();
    let recipes: Vec<&RecipeFile> = all.iter().filter(|file| filters.pass(file)).collect();
    if recipes.is_empty() && !printer.is_json() {
        printer.error(filters.explain(&all));
    } else {
        let as_json = || recipes.iter().map(|file| as_json(file)).collect::<Vec<_>>();
        printer.result(as_json, || match is_wide {
            true => wide(&recipes),
            false => narrow(&recipes, printer.width()),
        })?;
    }
    for error in &errors {
        printer.warn(error);
    }
    Ok(())
}

/// GPU types that a recipe is written for; empty for any.
pub(super) fn gpus(file: &RecipeFile) -> Vec<String> {
    file.recipe.gpu.keys().cloned().collect()
}

/// Its models: the main one, and different ones for some GPU types.
pub(super) fn models(file: &RecipeFile) -> Vec<String> {
    let on_gpus = file.recipe.gpu.values().map(|gpu| &gpu.model.name);
    each_once(std::iter::once(&file.recipe.model.name).chain(on_gpus))
}

/// Its launchers.
pub(super) fn engines(file: &RecipeFile) -> Vec<String> {
    let on_gpus = file.recipe.gpu.values().map(|gpu| &gpu.deploy.launcher);
    each_once(std::iter::once(&file.recipe.deploy.launcher).chain(on_gpus))
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

/// One line per recipe, however long.
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
    let mut rows = table.lines();
    let mut text = format!("{}\n", rows.next().unwrap_or_default());
    for (line, file) in rows.zip(recipes) {
        text.push_str(&format!("{line}\n"));
        let words = file.recipe.summary.as_deref().unwrap_or_default().split_whitespace();
        for part in lines(words, width.saturating_sub(4)) {
            text.push_str(&format!("    {part}\n"));
        }
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::document::Document;

    fn recipe(name: &str, model: &str, launcher: &str, more: &str) -> RecipeFile {
        let text = format!(
            "schema = 1\nname = \"{name}\"\nsummary = \"what it is for, which takes more than one line of a terminal to say: 8k in, 1k out\"\n\
             {more}\n[model]\nname = \"{model}\"\n[deploy]\nlauncher = \"{launcher}\"\n"
        );
        RecipeFile::parse(Document { file: format!("{name}.toml"), text }, None).unwrap()
    }

    pub(in crate::commands::list) fn recipes() -> Vec<RecipeFile> {
        let gpus = "gpu = { h100 = {}, gb200 = { model = { name = \"nv/Llama-FP4\" }, deploy = { launcher = \"dynamo-trtllm\" } } }";
        vec![
            recipe("any", "openai/gpt-oss-20b", "vllm", "source = \"InferenceX, point 1k/1k\""),
            recipe("deepseek-r1-dynamo-trtllm-disagg", "meta/Llama-3.3-70B", "trtllm-serve", gpus),
        ]
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
