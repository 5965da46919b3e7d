//! `tokmark completions SHELL` and `tokmark man [DIR]`: what clap knows about the command line, for the shell and for `man`.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command, ValueEnum};
use clap_mangen::Man;

use super::printer::Printer;

#[derive(Debug, Args)]
#[command(after_help = "\
Install them, e.g.:
  tokmark completions bash > ~/.local/share/bash-completion/completions/tokmark
  tokmark completions zsh > \"${fpath[1]}/_tokmark\"
  tokmark completions fish > ~/.config/fish/completions/tokmark.fish")]
pub struct CompletionsArgs {
    /// Shell to write them for
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Folder to write one page per verb into [default: print tokmark(1)]
    dir: Option<PathBuf>,
}

/// Prints the completions of `line`.
pub fn run(printer: Printer, args: &CompletionsArgs, mut line: Command) -> anyhow::Result<()> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut line, "tokmark", &mut script);
    Ok(printer.text(&String::from_utf8_lossy(&script))?)
}

/// Prints the man page of `line`, or writes the pages of it and of its verbs.
pub fn man(printer: Printer, args: &ManArgs, line: Command) -> anyhow::Result<()> {
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        Man::new(line).render(&mut page)?;
        return Ok(printer.text(&String::from_utf8_lossy(&page))?);
    };
    fs_err::create_dir_all(dir)?;
    clap_mangen::generate_to(line, dir).with_context(|| format!("cannot write into {}", dir.display()))?;
    Ok(printer.hint(format!("read one with: man -l {}", dir.join("tokmark-run.1").display()))?)
}
