//! Lists launchers and their settings.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use crate::commands::printer::Printer;
use crate::launcher::{self, Launcher};
use crate::report::table::{Table, lines};

pub(super) fn run(printer: Printer) -> anyhow::Result<()> {
    let mut found = Vec::new();
    let mut names = BTreeSet::new();
    // In the order in which a recipe in this folder finds them: the first of a name wins.
    for document in launcher::all(Some(Path::new(""))) {
        let name = Path::new(&document.file).file_stem().map(ToOwned::to_owned);
        if !names.insert(name) {
            continue;
        }
        match launcher::parse(&document) {
            Ok(launcher) => found.push((launcher, document.file)),
            Err(error) => printer.warn(error),
        }
    }
    found.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    let as_json = |(launcher, file): &(Launcher, String)| json!({"name": launcher.name, "summary": launcher.summary, "settings": launcher.settings, "file": file});
    printer.json(&found.iter().map(as_json).collect::<Vec<_>>())?;
    let mut table = Table::new(["NAME", "SUMMARY"]);
    for (launcher, _) in &found {
        table.push(vec![launcher.name.clone(), launcher.summary.clone()]);
    }
    printer.text(&table.within(&[0, 1], 1, printer.width(), &[]))?;
    let mut settings = Table::new(["LAUNCHER", "[deploy.settings]", "VALUES"]);
    for (launcher, _) in &found {
        for (at, (name, setting)) in launcher.settings.iter().enumerate() {
            let values = values(setting);
            for (part, values) in lines(values.iter().map(String::as_str), 40).into_iter().enumerate() {
                let of = if at + part == 0 { launcher.name.clone() } else { String::new() };
                let name = if part == 0 { name.clone() } else { String::new() };
                settings.push(vec![of, name, values]);
            }
        }
    }
    printer.text(&format!("\n{}* unless the recipe says otherwise\n", settings.text(&[0, 1, 2])))?;
    Ok(())
}

/// The values of a setting; the default comes first and is marked.
fn values(setting: &launcher::Setting) -> Vec<String> {
    let default = setting.default.as_str().map_or_else(|| setting.default.to_string(), str::to_owned);
    let known = match &setting.default {
        serde_json::Value::Bool(_) => vec!["false".to_owned(), "true".to_owned()],
        serde_json::Value::Number(_) => vec!["(a number)".to_owned()],
        _ => setting.values.clone(),
    };
    let others = known.into_iter().filter(|value| *value != default);
    std::iter::once(format!("{default}*")).chain(others).collect()
}
