//! `tokmark list`: recipes (or launchers) there are.

use clap::Args;
use serde_json::json;

use super::output;
use crate::cli::Global;
use crate::launcher;
use crate::recipe::find;
use crate::report::table::Table;

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// List launchers instead of recipes
    #[arg(long)]
    launchers: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(_global: &Global, args: &ListArgs) -> anyhow::Result<()> {
    if args.launchers { launchers(args) } else { recipes(args) }
}

fn recipes(args: &ListArgs) -> anyhow::Result<()> {
    let (recipes, errors) = find::all();
    if args.json {
        let list: Vec<_> = recipes
            .iter()
            .map(|file| {
                json!({
                    "name": file.name(),
                    "summary": file.recipe.summary,
                    "aliases": file.recipe.aliases,
                    "gpus": file.recipe.gpu.keys().collect::<Vec<_>>(),
                    "launcher": file.recipe.deploy.launcher,
                    "model": file.recipe.model.name,
                    "file": file.document.file,
                })
            })
            .collect();
        output::json(&list)?;
    } else {
        let mut table = Table::new(["NAME", "LAUNCHER", "GPU", "SUMMARY"]);
        for file in &recipes {
            let gpus: Vec<&str> = file.recipe.gpu.keys().map(String::as_str).collect();
            table.push(vec![
                file.name().to_owned(),
                file.recipe.deploy.launcher.clone().unwrap_or_default(),
                if gpus.is_empty() { "any".into() } else { gpus.join(" ") },
                file.recipe.summary.clone().unwrap_or_default(),
            ]);
        }
        output::text(&table.text(&[0, 1, 2, 3]))?;
    }
    for error in &errors {
        output::note(&format!("warning: {error}"));
    }
    Ok(())
}

fn launchers(args: &ListArgs) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for document in launcher::all(None) {
        match launcher::parse(&document) {
            Ok(launcher) => found.push((launcher, document.file)),
            Err(error) => output::note(&format!("warning: {error}")),
        }
    }
    found.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    if args.json {
        let list: Vec<_> = found
            .iter()
            .map(|(l, file)| json!({"name": l.name, "summary": l.summary, "file": file}))
            .collect();
        return output::json(&list);
    }
    let mut table = Table::new(["NAME", "SUMMARY"]);
    for (launcher, _) in found {
        table.push(vec![launcher.name, launcher.summary]);
    }
    Ok(output::text(&table.text(&[0, 1]))?)
}
