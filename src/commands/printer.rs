//! The only way to the terminal: results go to stdout, notes to stderr. It handles `--json`, `-q`, `-v` and the width, and
//! ignores a closed pipe (`| head`).

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use serde::Serialize;

use super::flags::Verbosity;
use crate::report::table::wrapped;

/// Prints the results of a verb.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    json: bool,
    verbosity: Verbosity,
}

/// Columns if stdout is no terminal.
const NO_TERMINAL: usize = 80;

impl Printer {
    /// The printer that the options of all verbs ask for.
    pub fn new(verbosity: Verbosity) -> Self {
        Self { json: false, verbosity }
    }

    /// With the verb's own `--json`.
    pub(crate) fn with_json(self, json: bool) -> Self {
        Self { json, ..self }
    }

    /// Whether stdout gets only JSON.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints a result: `value` with `--json`, else `text`.
    pub(crate) fn result<T: Serialize>(
        self,
        value: impl FnOnce() -> T,
        text: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        if self.json {
            return self.json(&value());
        }
        Ok(self.text(&text())?)
    }

    /// Prints a value with `--json`; nothing without.
    pub(crate) fn json(self, value: &impl Serialize) -> anyhow::Result<()> {
        if self.json {
            write(&format!("{}\n", serde_json::to_string_pretty(value)?))?;
        }
        Ok(())
    }

    /// Prints values with `--json`: as a list, except for a single one of which only one could be.
    pub(crate) fn json_list(self, values: &[impl Serialize], is_list: bool) -> anyhow::Result<()> {
        match values {
            [only] if !is_list => self.json(only),
            _ => self.json(&values),
        }
    }

    /// Prints text on stdout unchanged; nothing with `--json`.
    pub(crate) fn text(self, text: &str) -> std::io::Result<()> {
        if self.json { Ok(()) } else { write(text) }
    }

    /// Prints a line on stdout; nothing with `--json`.
    pub(crate) fn line(self, line: impl Display) -> std::io::Result<()> {
        self.text(&format!("{line}\n"))
    }

    /// Prints text on stdout, its prose wrapped on a terminal; nothing with `--json`.
    pub(crate) fn prose(self, text: &str) -> std::io::Result<()> {
        match columns(std::io::stdout()) {
            Some(width) => self.text(&wrapped(text, width)),
            None => self.text(text),
        }
    }

    /// Prints the next step on stdout; nothing with `--json` or `-q`.
    pub(crate) fn hint(self, line: impl Display) -> std::io::Result<()> {
        if self.is_quiet() { Ok(()) } else { self.prose(&format!("{line}\n")) }
    }

    /// Prints a line on stderr; nothing with `-q`.
    pub(crate) fn note(self, line: impl Display) {
        if !self.is_quiet() {
            self.error(line);
        }
    }

    /// Prints a line on stderr with `-v`.
    pub(crate) fn detail(self, line: impl Display) {
        if self.is_verbose() {
            self.error(line);
        }
    }

    /// Prints a warning on stderr, even with `-q`.
    pub(crate) fn warn(self, warning: impl Display) {
        self.error(format!("warning: {warning}"));
    }

    /// Prints an error on stderr, even with `-q`; the command goes on.
    pub(crate) fn error(self, line: impl Display) {
        print_error(&line.to_string());
    }

    /// Whether details are shown.
    pub(crate) fn is_verbose(self) -> bool {
        self.verbosity.verbose
    }

    /// Whether notes are hidden.
    pub(crate) fn is_quiet(self) -> bool {
        self.verbosity.quiet
    }

    /// Columns of the terminal.
    pub(crate) fn width(self) -> usize {
        columns(std::io::stdout()).unwrap_or(NO_TERMINAL)
    }
}

/// Columns of a terminal; `None` for anything else.
fn columns(stream: impl std::os::fd::AsFd) -> Option<usize> {
    terminal_size::terminal_size_of(stream).map(|(width, _)| usize::from(width.0))
}

/// Prints a line on stderr, wrapped on a terminal. A closed stderr does not change how the command ends.
pub fn print_error(line: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = match columns(&stderr) {
        Some(width) => writeln!(stderr, "{}", wrapped(line, width)),
        None => writeln!(stderr, "{line}"),
    };
}

/// Writes to stdout. A closed pipe is not an error.
fn write(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
