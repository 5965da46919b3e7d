//! `tokmark schema`: prints JSON Schemas, for editors and for the drift check of `schemas/`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use schemars::Schema;

use super::printer::Printer;
use crate::analyze::references::References;
use crate::document::{InputError, nearest};
use crate::experiment::files;
use crate::launcher::Launcher;
use crate::metrics::Summary;
use crate::recipe::Recipe;
use crate::site::Site;

#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Which one: recipe, launcher, site, summary or references
    #[arg(required_unless_present = "output")]
    name: Option<String>,
    /// Write all of them to a folder
    #[arg(long, value_name = "DIR", conflicts_with = "name")]
    output: Option<PathBuf>,
}

const NAMES: [&str; 5] = ["recipe", "launcher", "site", "summary", "references"];

pub fn run(printer: Printer, args: &SchemaArgs) -> anyhow::Result<()> {
    if let Some(folder) = &args.output {
        fs_err::create_dir_all(folder)?;
        for name in NAMES {
            let path = folder.join(format!("{name}.schema.json"));
            files::replace(&path, text(name)?.as_bytes())
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        return Ok(());
    }
    Ok(printer.text(&text(args.name.as_deref().unwrap_or_default())?)?)
}

fn text(name: &str) -> anyhow::Result<String> {
    let schema: Schema = match name {
        "recipe" => schemars::schema_for!(Recipe),
        "launcher" => schemars::schema_for!(Launcher),
        "site" => schemars::schema_for!(Site),
        "summary" => schemars::schema_for!(Summary),
        "references" => schemars::schema_for!(References),
        other => {
            let error = InputError::new("schema", format!("no schema {other:?}"))
                .expected(format!("one of {}", NAMES.join(", ")));
            let near = nearest(other, NAMES.into_iter());
            return Err(near
                .map_or(error.clone(), |near| error.next(format!("did you mean `{near}`?")))
                .into());
        }
    };
    Ok(format!("{}\n", serde_json::to_string_pretty(&schema)?))
}
