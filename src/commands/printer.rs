//! The one way to the terminal: results on stdout, notes on stderr. It knows `--json`, `-q`, `-v` and the width, and a reader
//! that closed the pipe (`| head`) fails nothing.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use serde::Serialize;

use crate::flags::Global;
use crate::report::table::Table;

/// Prints what a verb found.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Printer {
    json: bool,
    level: NoteLevel,
}

/// How much goes to stderr.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum NoteLevel {
    Quiet,
    #[default]
    Normal,
    Verbose,
}

/// Columns where stdout is no terminal.
const NO_TERMINAL: usize = 80;

impl Printer {
    /// As the options ask for; `json` is the verb's own `--json`.
    pub(crate) fn new(global: &Global, json: bool) -> Self {
        let level = match (global.quiet, global.verbose) {
            (true, _) => NoteLevel::Quiet,
            (_, true) => NoteLevel::Verbose,
            _ => NoteLevel::Normal,
        };
        Self { json, level }
    }

    /// Whether stdout gets JSON and nothing else.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// A result: `value` with `--json`, else `text`.
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

    /// A value with `--json`; nothing without.
    pub(crate) fn json(self, value: &impl Serialize) -> anyhow::Result<()> {
        if self.json {
            write(&format!("{}\n", serde_json::to_string_pretty(value)?))?;
        }
        Ok(())
    }

    /// Text on stdout as it is; nothing with `--json`.
    pub(crate) fn text(self, text: &str) -> std::io::Result<()> {
        if self.json { Ok(()) } else { write(text) }
    }

    /// A line on stdout; nothing with `--json`.
    pub(crate) fn line(self, line: impl Display) -> std::io::Result<()> {
        self.text(&format!("{line}\n"))
    }

    /// A table on stdout with `left` columns aligned left; nothing with `--json`.
    pub(crate) fn table(self, table: &Table, left: &[usize]) -> std::io::Result<()> {
        self.text(&table.text(left))
    }

    /// What to do next, on stdout; nothing with `--json` or `-q`.
    pub(crate) fn hint(self, line: impl Display) -> std::io::Result<()> {
        if self.level == NoteLevel::Quiet { Ok(()) } else { self.line(line) }
    }

    /// A line on stderr; nothing with `-q`.
    pub(crate) fn note(self, line: impl Display) {
        if self.level > NoteLevel::Quiet {
            self.error(line);
        }
    }

    /// A line on stderr with `-v`.
    pub(crate) fn detail(self, line: impl Display) {
        if self.level > NoteLevel::Normal {
            self.error(line);
        }
    }

    /// A line on stderr also with `-q`: something went wrong, and the command goes on.
    pub(crate) fn error(self, line: impl Display) {
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }

    /// Whether notes are shown.
    pub(crate) fn is_quiet(self) -> bool {
        self.level == NoteLevel::Quiet
    }

    /// Columns of the terminal.
    pub(crate) fn width(self) -> usize {
        let size = terminal_size::terminal_size_of(std::io::stdout());
        size.map_or(NO_TERMINAL, |(width, _)| usize::from(width.0))
    }
}

/// Writes to stdout. A reader that has gone is not an error.
fn write(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
