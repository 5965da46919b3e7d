//! `tokmark export EXPERIMENT [POINT…] --as FORMAT` writes records in other tools' formats; also `--export` of the verbs that run
//! recipes.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::flags::HistoryFlags;
use super::printer::Printer;
use crate::document::{InputError, nearest};
use crate::export::{self, Exported, PointFolder};
use crate::history::{self, Named};
use crate::plan::ExportFormat;
use crate::plan::choices::Flag;

#[derive(Debug, Args)]
#[command(after_help = "\
The files are written beside the records. Records that are incomplete (a crash,
an interrupt, a point that still runs) give files that say so, and these never
replace a file.")]
pub struct ExportArgs {
    /// Job id, experiment name, `last`, or the directory of an experiment, of a `bench` or of one load point
    #[arg(value_name = "EXPERIMENT")]
    experiment: String,
    /// Load points, by the names of their folders [default: all]
    #[arg(value_name = "POINT")]
    points: Vec<String>,
    /// Format to write: aiperf, genai-perf, vllm or vllm-bench (repeatable)
    #[arg(
        long = "as",
        value_name = "FORMAT",
        required = true,
        value_delimiter = ',',
        hide_possible_values = true
    )]
    formats: Vec<ExportFormat>,
    /// Print what was written as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: HistoryFlags,
}

/// `--export` of the verbs that run recipes.
#[derive(Debug, Default, Args)]
pub struct ExportOption {
    /// Also write the results as genai-perf, vllm or vllm-bench (repeatable)
    #[arg(long = "export", value_name = "FORMAT", value_delimiter = ',', hide_possible_values = true)]
    formats: Vec<ExportFormat>,
}

impl ExportOption {
    /// The recipe key that the option sets; `None` without the option.
    pub(super) fn flag(&self) -> Option<Flag> {
        let value = toml::Value::try_from(&self.formats).ok().filter(|_| !self.formats.is_empty())?;
        Some(Flag { flag: "--export".into(), key: "load.exports".into(), value })
    }
}

/// Finds every point before writing the first file.
pub fn run(printer: Printer, args: &ExportArgs) -> anyhow::Result<()> {
    let printer = printer.with_json(args.json);
    let folders = chosen(export::find(&directory(args)?)?, &args.points)?;
    let mut exported = Vec::new();
    for folder in &folders {
        let result = folder.export(&args.formats)?;
        if let Some(reason) = &result.incomplete {
            printer.warn(format!("{}: incomplete: {reason}", folder.name));
        }
        for name in &result.kept {
            printer.warn(format!("kept {}, which was there already", folder.dir.join(name).display()));
        }
        exported.push((folder, result));
    }
    let files = exported.iter().flat_map(|(folder, result)| {
        result.written.iter().map(|name| format!("{}\n", shown(&folder.dir.join(name)).display()))
    });
    printer.result(|| exported.iter().map(as_json).collect::<Vec<_>>(), || files.collect())
}

fn as_json((folder, result): &(&PointFolder, Exported)) -> serde_json::Value {
    json!({
        "point": folder.name,
        "folder": folder.dir,
        "written": result.written,
        "kept": result.kept,
        "requests": result.requests,
        "incomplete": result.incomplete,
    })
}

/// The directory that the user named, or that of the named experiment.
fn directory(args: &ExportArgs) -> anyhow::Result<PathBuf> {
    let dir = Path::new(&args.experiment);
    if dir.is_dir() {
        return Ok(dir.to_owned());
    }
    match history::find(&args.flags.folder()?, &args.experiment)? {
        Named::Experiment(entry) => Ok(entry.dir),
        Named::Suite(suite) => Err(InputError::new(
            suite.dir().display().to_string(),
            "a suite, which has no records of its own",
        )
        .expected("one of its experiments")
        .into()),
    }
}

/// The folders of the load points that the user named; all without names.
fn chosen(folders: Vec<PointFolder>, names: &[String]) -> Result<Vec<PointFolder>, InputError> {
    if names.is_empty() {
        return Ok(folders);
    }
    let find = |name: &String| {
        folders.iter().find(|folder| folder.name == *name).cloned().ok_or_else(|| {
            let known = || folders.iter().map(|folder| folder.name.as_str());
            let error = InputError::new(name.as_str(), "no such load point in the experiment")
                .expected(format!("one of {}", known().collect::<Vec<_>>().join(", ")));
            match nearest(name, known()) {
                Some(nearest) => error.next(format!("did you mean {nearest}?")),
                None => error,
            }
        })
    };
    names.iter().map(find).collect()
}

/// The path relative to the working directory if it lies below it.
fn shown(path: &Path) -> PathBuf {
    let here = std::env::current_dir().and_then(|here| here.canonicalize()).ok();
    here.and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path).to_owned()
}
