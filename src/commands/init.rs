//! `tokmark init`: writes a site file by querying the cluster.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::printer::Printer;
use super::{block_on, counted};
use crate::document::{Document, InputError};
use crate::executor::Slurm;
use crate::experiment::files;
use crate::site::SiteFile;
use crate::survey::choice::{Question, SiteChoices};
use crate::survey::write::site_file;
use crate::survey::{Survey, gpu_groups, survey};

#[derive(Debug, Args)]
pub struct InitArgs {
    /// File to write
    #[arg(short, long, value_name = "FILE", default_value = "site.toml")]
    output: PathBuf,
    /// Write to stdout instead of a file
    #[arg(long, conflicts_with_all = ["output", "force"])]
    print: bool,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
    /// Ask no questions, even on a terminal
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    choice: SiteChoices,
}

pub fn run(printer: Printer, args: &InitArgs) -> anyhow::Result<()> {
    let path = &args.output;
    if !args.print && !args.force && path.symlink_metadata().is_ok() {
        return Err(is_there(path).into());
    }
    let mut choice = args.choice.clone();
    let survey = block_on(async { Ok(survey(&Slurm::default()).await?) })?;
    let groups = gpu_groups(&survey.open_nodes(), &survey.archs);
    choice.check(&survey, &groups)?;
    let asks = !args.yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    for question in choice.questions(&survey, &groups) {
        match asks.then(|| ask(&question)).transpose()? {
            Some(answer) => choice.answer(&question, &answer),
            None => printer.error(format!(
                "note: {} Took {}; {} chooses another of {}",
                question.text,
                question.options[0],
                question.flag,
                question.options.join(", ")
            )),
        }
    }
    let text = site_file(&survey, &groups, &choice);
    // The file must parse, whatever names the cluster uses.
    let document = Document { file: path.display().to_string(), text: text.clone() };
    SiteFile::parse(document).context("init would write an invalid site file; please report this")?;
    for problem in &survey.unanswered {
        printer.warn(problem);
    }
    if args.print {
        return Ok(printer.text(&text)?);
    }
    write(path, &text, args.force)?;
    printer.hint(format!("wrote {}: {}", path.display(), summary(&survey, groups.len())))?;
    Ok(printer.hint(format!("next: read it, then run: tokmark doctor{}", site_option(path)))?)
}

/// Repeats the question until the answer is one of the options.
fn ask(question: &Question) -> std::io::Result<String> {
    let mut stderr = std::io::stderr().lock();
    for (number, option) in (1..).zip(&question.options) {
        writeln!(stderr, "  {number}  {option}")?;
    }
    loop {
        write!(stderr, "{} [{}] ", question.text, question.options[0])?;
        stderr.flush()?;
        let mut line = String::new();
        let ended = std::io::stdin().lock().read_line(&mut line)? == 0;
        let answer = line.trim();
        let by_number =
            answer.parse::<usize>().ok().and_then(|number| question.options.get(number.wrapping_sub(1)));
        let chosen = by_number.or_else(|| question.options.iter().find(|option| *option == answer));
        match chosen {
            Some(chosen) => return Ok(chosen.clone()),
            None if answer.is_empty() || ended => return Ok(question.options[0].clone()),
            None => writeln!(stderr, "one of the names or numbers above, please")?,
        }
    }
}

/// Writes the file. Without `--force`, keeps a file that appeared during the queries.
fn write(path: &Path, text: &str, force: bool) -> anyhow::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs_err::create_dir_all(folder)?;
    }
    let cannot = || format!("cannot write {}", path.display());
    if force {
        return files::replace(path, text.as_bytes()).with_context(cannot);
    }
    match files::create_once(path, text.as_bytes()).with_context(cannot)? {
        true => Ok(()),
        false => Err(is_there(path).into()),
    }
}

fn is_there(path: &Path) -> InputError {
    InputError::new(path.display().to_string(), "the file exists")
        .next("choose another file with -o FILE, replace it with --force, or use --print")
}

fn summary(survey: &Survey, types: usize) -> String {
    let cluster = survey.config.get("ClusterName").map_or("a cluster", String::as_str);
    let partitions = counted(survey.partitions().len(), "partition");
    format!("{cluster}, {}, {partitions}", counted(types, "GPU type"))
}

/// `--site FILE`, or nothing if tokmark finds the file by itself.
fn site_option(path: &Path) -> String {
    if path == Path::new("site.toml") {
        return String::new();
    }
    format!(" --site {}", crate::render::quote(&path.display().to_string()))
}
