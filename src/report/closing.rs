//! The table printed at the end of a run.

use super::failures::Failures;
use super::{PointResult, markdown, servers};

/// What failed, then a row per load point; below it the stages of ramps, the client's own error and every verdict reason.
pub fn table(rows: &[PointResult]) -> String {
    let mut text = String::new();
    if rows.iter().any(|row| row.summary.simulated) {
        text.push_str(&format!("{}\n\n", markdown::SIMULATED));
    }
    text.extend(Failures::of_rows(rows).map(|failures| failures.text()));
    let headline = markdown::headline(rows, false);
    text.push_str(&headline.text(&[0, headline.head.len() - 1]));
    text.push_str("latencies in ms\n");
    text.extend(markdown::few(rows).map(|few| format!("{few}\n")));
    for (point, table) in markdown::stages(rows) {
        text.push_str(&format!("\n{point}\n{}{}\n", table.text(&[0, 1]), markdown::STAGES));
    }
    if let Some(table) = servers::table(rows) {
        text.push_str(&format!("\n{}{}\n", table.text(&[0]), servers::ABOUT));
    }
    text.extend(servers::speculation(rows).into_iter().map(|line| format!("speculation: {line}\n")));
    if let Some(added) = markdown::added_error(rows).filter(|_| rows.iter().any(has_figures)) {
        text.push_str(&format!("{added}\n"));
    }
    for reason in markdown::reasons(rows) {
        text.push_str(&format!("! {reason}\n"));
    }
    for note in markdown::prompt_notes(rows) {
        text.push_str(&format!("prompts: {note}\n"));
    }
    text
}

fn has_figures(row: &PointResult) -> bool {
    row.summary.requests.completed > 0
}
