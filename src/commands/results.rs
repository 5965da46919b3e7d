//! Shows the results that a verb made or waited for.

use std::path::Path;

use super::printer::Printer;
use super::verify;
use crate::analyze::search::{Found, Limit};
use crate::error::ExitError;
use crate::metrics::Rating;
use crate::plan::Plan;
use crate::report::{PointResult, closing, search, unmeasured};

/// Prints the closing table, the location of the results, and how to compare them with published figures.
pub(crate) fn show(
    printer: Printer,
    plan: Option<&Plan>,
    rows: &[PointResult],
    dir: &Path,
) -> std::io::Result<()> {
    if !rows.is_empty() {
        let unmeasured = plan.map(|plan| unmeasured::read(dir, plan, rows)).unwrap_or_default();
        printer.prose(&closing::table(rows, &unmeasured, printer.width()))?;
    }
    printer.prose(&found(plan, rows))?;
    printer.prose(&format!("results: {}\n", dir.display()))?;
    match plan.and_then(|plan| verify::advice(plan, rows, dir)) {
        Some(advice) => printer.prose(&format!("{advice}\n")),
        None => Ok(()),
    }
}

/// What the searches of a plan found, below an empty line; nothing without one.
pub(crate) fn found(plan: Option<&Plan>, rows: &[PointResult]) -> String {
    let lines = plan.map(|plan| search::lines(plan, rows)).unwrap_or_default();
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

/// Fails if any result is invalid. Of a search, whose loads beyond the limit may be, if no load keeps its objectives.
pub(crate) fn gate(plan: &Plan, rows: &[PointResult]) -> anyhow::Result<()> {
    if plan.search.is_some() {
        let nowhere = |progress: &search::Progress| {
            matches!(progress.found(), Some(Found { limit: Limit::Nowhere(_), .. }))
        };
        let fails = search::all(plan, rows).iter().any(nowhere);
        let is_objective = plan.search.as_ref().is_some_and(|search| !search.is_for_throughput());
        return match fails && is_objective {
            true => Err(ExitError::gate("no load keeps the objectives, see the search above".into()).into()),
            false => Ok(()),
        };
    }
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
