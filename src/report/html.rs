//! `report.html`: one self-contained file without scripts.

use serde_json::json;

use super::chart::Chart;
use super::failures::Failures;
use super::{Header, PointResult, markdown, servers};
use crate::render::{self, RenderError};

const PAGE: &str = include_str!("../../templates/report.html.tera");

/// The whole page.
pub fn page(
    header: &Header,
    rows: &[PointResult],
    charts: &[(&'static str, Chart)],
) -> Result<String, RenderError> {
    let table = markdown::headline(rows, false);
    let verdict = |row: &PointResult| row.summary.verdict.result.to_string();
    let rows_json: Vec<_> = rows
        .iter()
        .zip(&table.rows)
        .map(|(row, cells)| json!({"cells": cells, "verdict": verdict(row)}))
        .collect();
    let facts: Vec<_> = header.facts.iter().map(|(name, value)| json!([name, value])).collect();
    let stages: Vec<_> = markdown::stages(rows)
        .into_iter()
        .map(|(point, table)| json!({"point": point, "head": table.head, "rows": table.rows}))
        .collect();
    let failures = Failures::of_rows(rows);
    let value = json!({
        "title": header.name,
        "summary": header.summary,
        "simulated": rows.iter().any(|row| row.summary.simulated).then_some(markdown::SIMULATED),
        "failures": failures.map(|Failures { head, ways }| json!({"head": head, "ways": ways})),
        "facts": facts,
        "head": table.head,
        "rows": rows_json,
        "added": markdown::added_error(rows),
        "few": markdown::few(rows),
        "stages": stages,
        "about_stages": markdown::STAGES,
        "servers": servers::table(rows).map(|table| json!({"head": table.head, "rows": table.rows})),
        "about_servers": servers::ABOUT,
        "speculation": servers::speculation(rows),
        "reasons": markdown::reasons(rows),
        "charts": charts.iter().map(|(_, chart)| chart.svg()).collect::<Vec<_>>(),
        "recipe": header.recipe,
    });
    render::html("report.html", PAGE, &value)
}
