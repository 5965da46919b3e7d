//! `report.html`: one self-contained file without scripts.

use serde_json::{Value, json};

use super::chart::Chart;
use super::failures::Failures;
use super::table::{Table, is_percentile};
use super::{Header, PointResult, markdown, repeats, servers, unmeasured, zones};
use crate::render::{self, RenderError};

const PAGE: &str = include_str!("../../templates/report.html.tera");

/// The whole page.
pub fn page(
    header: &Header,
    rows: &[PointResult],
    charts: &[(&'static str, Chart)],
) -> Result<String, RenderError> {
    let mut table = markdown::headline(&repeats::means(rows), true);
    unmeasured::add_to(&mut table, &header.unmeasured);
    let rows_json: Vec<_> =
        table.rows.iter().map(|cells| json!({"cells": cells, "verdict": cells.last()})).collect();
    let facts: Vec<_> = header.facts.iter().map(|(name, value)| json!([name, value])).collect();
    let stages: Vec<_> = markdown::stages(rows)
        .into_iter()
        .map(|(point, table)| json!({"point": point, "head": heads(&table), "rows": table.rows}))
        .collect();
    let failures = Failures::of_rows(rows);
    let value = json!({
        "title": header.name,
        "summary": header.summary,
        "simulated": rows.iter().any(|row| row.summary.simulated).then_some(markdown::SIMULATED),
        "failures": failures.map(|Failures { head, ways }| json!({"head": head, "ways": ways})),
        "facts": facts,
        "head": heads(&table),
        "rows": rows_json,
        "added": markdown::added_error(rows).map(|added| added.to_string()),
        "few": markdown::few(rows),
        "stages": stages,
        "about_stages": markdown::STAGES,
        "capacity": zones::lines(rows),
        "servers": servers::table(rows).map(|table| json!({"head": table.head, "rows": table.rows})),
        "about_servers": servers::ABOUT,
        "balance": servers::balance(rows).map(|table| json!({"head": table.head, "rows": table.rows})),
        "about_balance": servers::ABOUT_BALANCE,
        "server_notes": servers::notes(rows),
        "speculation": servers::speculation(rows),
        "unmeasured": unmeasured::lines(&header.unmeasured),
        "reasons": markdown::reasons(rows),
        "charts": charts.iter().map(|(_, chart)| chart.svg()).collect::<Vec<_>>(),
        "recipe": header.recipe,
    });
    render::html("report.html", PAGE, &value)
}

/// The heads of a table: those that share a figure, such as TTFT, below its name, which spans them.
fn heads(table: &Table) -> Value {
    let mut groups: Vec<(String, usize)> = Vec::new();
    let mut below = Vec::new();
    for head in &table.head {
        match (head.rsplit_once(' '), groups.last_mut()) {
            (Some((figure, _)), Some((last, span))) if figure == last => *span += 1,
            (Some((figure, _)), _) => groups.push((figure.to_owned(), 1)),
            (None, Some((last, span))) if is_percentile(head) && !last.is_empty() => *span += 1,
            _ => groups.push((String::new(), 1)),
        }
        below.push(head.rsplit_once(' ').map_or(head.as_str(), |(_, statistic)| statistic));
    }
    let groups: Vec<Value> =
        groups.iter().map(|(figure, span)| json!({"figure": figure, "span": span})).collect();
    json!({"groups": groups, "below": below})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_stand_below_the_figure_they_belong_to() {
        let table = Table::new(["conc", "tok/s", "TTFT p50", "p95", "E2E avg", "E2E p50", "p99", "verdict"]);
        let spans = heads(&table)["groups"].as_array().expect("groups").clone();
        let spans: Vec<(&str, u64)> = spans
            .iter()
            .map(|group| (group["figure"].as_str().expect("text"), group["span"].as_u64().expect("number")))
            .collect();
        assert_eq!(spans, [("", 1), ("", 1), ("TTFT", 2), ("E2E", 3), ("", 1)]);
        let expected = json!(["conc", "tok/s", "p50", "p95", "avg", "p50", "p99", "verdict"]);
        assert_eq!(heads(&table)["below"], expected);
    }
}
