//! The results of a sweep whose deployments ran as jobs of their own: the same files as of one experiment, in the directory of its
//! suite.

use crate::history::Suite;
use crate::report::{self, Measured, Pictures};

/// Writes the report of the whole sweep. Returns whether there was anything to write.
pub(super) fn write(suite: &Suite) -> std::io::Result<bool> {
    let entries = suite.entries();
    let measured: Vec<Measured> =
        entries.iter().filter_map(|entry| Measured::of(entry.experiment()).ok()).collect();
    let is_empty = measured.iter().all(|one| one.rows.is_empty());
    if !is_empty {
        report::write(suite.dir(), &measured, Pictures::All, false)?;
    }
    Ok(!is_empty)
}
