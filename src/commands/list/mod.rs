//! `tokmark list`: lists recipes, launchers, or what can be submitted as workloads.

mod recipes;

use std::collections::BTreeSet;
use std::path::Path;

use clap::Args;
use serde_json::json;

use self::recipes::Filters;
use super::planning;
use super::printer::Printer;
use crate::document::InputErrors;
use crate::flags::{Global, SiteFlag};
use crate::launcher::{self, Launcher};
use crate::plan::choices::Choices;
use crate::planner::scale::offered;
use crate::recipe::find::{self, RecipeFile};
use crate::report::table::Table;
use crate::site::SiteFile;
use crate::workload::catalogue;

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// List launchers instead of recipes
    #[arg(long, conflicts_with = "workload")]
    launchers: bool,
    /// List what `submit -w` takes: all workloads, or one, with sizes, precisions and scales
    #[arg(short, long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    workload: Option<String>,
    /// Only recipes for this GPU type or for any; with -w their offers on it
    #[arg(long, value_name = "TYPE", conflicts_with = "launchers")]
    gpu: Option<String>,
    /// Only recipes whose model name contains TEXT
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["launchers", "workload"])]
    model: Option<String>,
    /// Only recipes whose launcher name contains TEXT
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["launchers", "workload"])]
    engine: Option<String>,
    /// Only recipes whose source contains TEXT
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["launchers", "workload"])]
    source: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Shared with other verbs
    #[command(flatten)]
    pub flags: SiteFlag,
}

/// Runs the verb.
pub fn run(global: &Global, args: &ListArgs) -> anyhow::Result<()> {
    let printer = Printer::new(global, args.json);
    match &args.workload {
        Some(name) => workloads(printer, &Global { gpu: args.gpu.clone(), ..global.clone() }, name),
        None if args.launchers => launchers(printer),
        None => recipes::run(printer, &filters(args)),
    }
}

/// The filters for recipes; with `-w`, `--gpu` selects the type to run on instead.
fn filters(args: &ListArgs) -> Filters {
    Filters {
        gpu: args.gpu.clone(),
        model: args.model.clone(),
        engine: args.engine.clone(),
        source: args.source.clone(),
    }
}

/// What a recipe offers on one or more GPU types.
struct Offer {
    gpus: Vec<String>,
    size: Option<String>,
    dtype: Option<String>,
    scales: Vec<u32>,
}

fn workloads(printer: Printer, global: &Global, name: &str) -> anyhow::Result<()> {
    let site = SiteFile::load(global.site.as_deref())?;
    let (all, mut errors) = find::all();
    let (recipes, size) = match name {
        "" => (all, None),
        name => {
            let found = catalogue::find(name, &all, "--workload")?;
            (found.recipes, found.size)
        }
    };
    let mut list = Vec::new();
    let (mut rows, mut aliases) = (0, Vec::new());
    let mut table = Table::new(["WORKLOAD", "SIZE", "DTYPE", "SCALES", "GPU"]);
    for file in &recipes {
        let mut offers = offers(global, &site, file, &mut errors);
        offers.retain(|offer| {
            size.is_none()
                || offer.size.as_deref().map(str::to_lowercase) == size.as_deref().map(str::to_lowercase)
        });
        let words = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
        for (at, offer) in offers.iter().enumerate() {
            let scales: Vec<String> = offer.scales.iter().map(ToString::to_string).collect();
            table.push(vec![
                if at == 0 { file.name().to_owned() } else { String::new() },
                words(&offer.size),
                words(&offer.dtype),
                if scales.is_empty() { "-".into() } else { scales.join(",") },
                offer.gpus.join(" "),
            ]);
        }
        rows += offers.len();
        aliases.extend(file.recipe.aliases.iter().filter(|_| !offers.is_empty()).map(|alias| (rows, alias)));
        let by_gpu = |offer: &Offer| json!({"gpus": offer.gpus, "size": offer.size, "dtypes": offer.dtype.as_slice(), "scales": offer.scales});
        list.push(json!({
            "workload": file.name(),
            "aliases": file.recipe.aliases,
            "offers": offers.iter().map(by_gpu).collect::<Vec<_>>(),
            "knobs": file.recipe.knobs.keys().collect::<Vec<_>>(),
            "file": file.document.file,
        }));
    }
    printer.json(&list)?;
    // Aliases are longer than names and need no columns beside them.
    for (row, line) in table.text(&[0, 1, 2, 3, 4]).lines().enumerate() {
        printer.line(line)?;
        for (_, alias) in aliases.iter().filter(|(rows, _)| *rows == row) {
            printer.line(format!("  = {alias}"))?;
        }
    }
    for error in &errors {
        printer.error(format!("warning: {error}"));
    }
    Ok(())
}

/// The offers of a recipe for each GPU type it is written for, or for the unnamed types if it is for any. Types with equal offers
/// are merged. What cannot be planned (the site has no such nodes, no image) is listed as an error.
fn offers(
    global: &Global,
    site: &SiteFile,
    file: &RecipeFile,
    errors: &mut Vec<crate::document::InputError>,
) -> Vec<Offer> {
    let written_for: Vec<&String> = file.recipe.gpu.keys().collect();
    let gpus: Vec<Option<String>> = match (&global.gpu, written_for.is_empty()) {
        (Some(gpu), _) => vec![Some(gpu.clone())],
        (None, false) => written_for.into_iter().cloned().map(Some).collect(),
        (None, true) => vec![None],
    };
    let mut offers: Vec<Offer> = Vec::new();
    for gpu in gpus {
        let chosen = Choices { gpu: gpu.clone(), ..planning::choices(global) };
        let plan = match planning::plan_file(global, site, file, chosen) {
            Ok(plan) => plan,
            Err(InputErrors(problems)) => {
                errors.extend(problems);
                continue;
            }
        };
        let known = if plan.gpu.kind == "none" || gpu.is_none() { "any" } else { &plan.gpu.kind };
        let offer = Offer {
            gpus: vec![known.to_owned()],
            size: plan.model.size.clone(),
            dtype: plan.model.precision.clone(),
            scales: offered(&file.recipe, plan.scale()),
        };
        let same = |one: &&mut Offer| {
            (&one.size, &one.dtype, &one.scales) == (&offer.size, &offer.dtype, &offer.scales)
        };
        match offers.iter_mut().find(same) {
            Some(one) => one.gpus.extend(offer.gpus),
            None => offers.push(offer),
        }
    }
    offers
}

fn launchers(printer: Printer) -> anyhow::Result<()> {
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
            Err(error) => printer.error(format!("warning: {error}")),
        }
    }
    found.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    let as_json = |(launcher, file): &(Launcher, String)| json!({"name": launcher.name, "summary": launcher.summary, "settings": launcher.settings, "file": file});
    printer.json(&found.iter().map(as_json).collect::<Vec<_>>())?;
    let mut table = Table::new(["NAME", "SUMMARY"]);
    for (launcher, _) in &found {
        table.push(vec![launcher.name.clone(), launcher.summary.clone()]);
    }
    printer.table(&table, &[0, 1])?;
    let mut settings = Table::new(["LAUNCHER", "[deploy.settings]", "VALUES"]);
    for (launcher, _) in &found {
        for (at, (name, setting)) in launcher.settings.iter().enumerate() {
            for (part, values) in wrapped(&values(setting), 40).into_iter().enumerate() {
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

/// Wraps words into lines of at most `width` characters.
fn wrapped(words: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.clone()),
        }
    }
    lines
}
