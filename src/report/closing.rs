//! The table printed at the end of a run.

use super::failures::Failures;
use super::table::wrapped;
use super::unmeasured::{self, Unmeasured};
use super::{PointResult, best, gpus, markdown, reasons, repeats, servers, speculation, zones};
use crate::metrics::added_error::AddedError;
use crate::metrics::verdict::client::ADDED_ERROR_SUSPECT_MS;

/// Sentences on capacity: those of a grid stand in `capacity-zones.md` alone.
const MOST_LINES: usize = 6;

/// Rows of the servers' table: that of a larger grid stands in `summary.md` alone.
const MOST_ROWS: usize = 20;

/// What failed, then a row per load point, those without figures last, within `width` columns; below it the stages of ramps, what the servers say, the
/// capacity, the client's own error and every verdict reason.
pub fn table(rows: &[PointResult], unmeasured: &[Unmeasured], width: usize) -> String {
    let mut text = String::new();
    if rows.iter().any(|row| row.summary.simulated) {
        text.push_str(&format!("{}\n\n", markdown::SIMULATED));
    }
    text.extend(speculation::banner(rows).map(|banner| format!("{banner}\n\n")));
    text.extend(Failures::of_rows(rows).map(|failures| failures.text()));
    let mut headline = markdown::headline(&repeats::means(rows), false);
    unmeasured::add_to(&mut headline, unmeasured);
    text.push_str(&headline.fitted(&[0, headline.head.len() - 1], width));
    text.push_str("latencies in ms\n");
    text.extend(repeats::about(rows).map(|about| format!("{about}\n")));
    text.extend(markdown::few(rows).map(|few| format!("{few}\n")));
    for (point, table) in markdown::stages(rows) {
        text.push_str(&format!("\n{point}\n{}{}\n", table.fitted(&[0, 1], width), markdown::STAGES));
    }
    match servers::table(rows) {
        Some(table) if table.rows.len() <= MOST_ROWS => {
            text.push_str(&format!("\nservers\n{}{}\n", table.fitted(&[0], width), servers::ABOUT));
        }
        Some(table) => {
            text.push_str(&format!("servers: their {} rows stand in summary.md\n", table.rows.len()))
        }
        None => {}
    }
    text.extend(servers::notes(rows).into_iter().map(|note| format!("servers: {note}\n")));
    text.extend(speculation::lines(rows).into_iter().map(|line| format!("speculation: {line}\n")));
    if let Some(table) = gpus::table(rows) {
        text.push_str(&format!("\nGPUs\n{}{}\n", table.fitted(&[0], width), gpus::ABOUT));
    }
    text.extend(gpus::notes(rows).into_iter().map(|note| format!("GPUs: {note}\n")));
    let capacity = zones::lines(rows);
    if (1..=MOST_LINES).contains(&capacity.len()) {
        text.push_str(&format!("\n{}\n\n", capacity.join("\n")));
    }
    let best = best::lines(rows);
    if !best.is_empty() {
        text.push_str(&format!("\n{}\n\n", wrapped(&best.join("\n"), width)));
    }
    // Less does not show in any latency.
    let shows = |added: &AddedError| added.p99 > ADDED_ERROR_SUSPECT_MS;
    text.extend(markdown::added_error(rows).filter(shows).map(|added| format!("{added}\n")));
    let named = rows.iter().flat_map(|row| row.reasons().map(|reason| (row.point.clone(), reason)));
    for reason in reasons::folded(named, rows.len()) {
        text.push_str(&format!("! {reason}\n"));
    }
    for line in repeats::notes(rows).into_iter().chain(unmeasured::lines(unmeasured)) {
        text.push_str(&format!("! {line}\n"));
    }
    for note in markdown::prompt_notes(rows) {
        text.push_str(&format!("prompts: {note}\n"));
    }
    text
}
