//! Shows the results that a verb made or waited for.

use std::path::Path;

use super::printer::Printer;
use super::verify;
use crate::error::ExitError;
use crate::metrics::Rating;
use crate::plan::Plan;
use crate::report::{PointResult, closing, unmeasured};

/// Prints the closing table, the location of the results, and how to compare them with published figures.
pub(crate) fn show(
    printer: Printer,
    plan: Option<&Plan>,
    rows: &[PointResult],
    dir: &Path,
) -> std::io::Result<()> {
    if !rows.is_empty() {
        let unmeasured = plan.map(|plan| unmeasured::read(dir, plan, rows)).unwrap_or_default();
        printer.prose(&format!("{}\n", closing::table(rows, &unmeasured, printer.width())))?;
    }
    printer.prose(&format!("results: {}\n", dir.display()))?;
    match plan.and_then(|plan| verify::advice(plan, rows, dir)) {
        Some(advice) => printer.prose(&format!("{advice}\n")),
        None => Ok(()),
    }
}

/// Fails if any result is invalid.
pub(crate) fn gate(rows: &[PointResult]) -> anyhow::Result<()> {
    let invalid = rows.iter().filter(|row| row.summary.verdict.result == Rating::Invalid).count();
    if invalid > 0 {
        let which = match (invalid, rows.len()) {
            (_, 1) => "the load point is invalid".to_owned(),
            (1, all) => format!("1 of {all} load points is invalid"),
            (some, all) => format!("{some} of {all} load points are invalid"),
        };
        return Err(ExitError::gate(format!("{which}, see the reasons above")).into());
    }
    Ok(())
}
