//! The view of the servers on the load points.

use itertools::Itertools;

use super::markdown::{differ_in_load_alone, first_head};
use super::table::{Table, maybe};
use super::{PointResult, load_of};
use crate::metrics::Summary;
use crate::metrics::server::LayerView;

/// What the servers say beside what the client saw, a row per point; `None` if no server published anything that is known.
pub fn table(rows: &[PointResult]) -> Option<Table> {
    type Column = (&'static str, fn(&Summary, &LayerView) -> Option<f64>);
    const COLUMNS: [Column; 8] = [
        ("TTFT p50", |_, layer| layer.ttft_ms?.p50),
        ("client", |summary, layer| summary.ttft_ms.filter(|_| layer.ttft_ms.is_some()).map(|d| d.p50)),
        ("queue", |_, layer| Some(layer.queue_ms?.avg)),
        ("prefill", |_, layer| Some(layer.prefill_ms?.avg)),
        ("running", |_, layer| Some(layer.running?.avg)),
        ("waiting", |_, layer| Some(layer.waiting?.avg)),
        ("KV %", |_, layer| Some(100.0 * layer.kv_cache?.max)),
        ("preempted", |_, layer| layer.preemptions.filter(|count| *count > 0).map(|count| count as f64)),
    ];
    let plain = differ_in_load_alone(rows);
    let layers = |row: &PointResult| -> Vec<(&'static str, LayerView)> {
        let Some(servers) = row.summary.servers.clone() else { return Vec::new() };
        let both = servers.engine.is_some() && servers.frontend.is_some();
        let engine = servers.engine.map(|layer| (if both { " engine" } else { "" }, layer));
        let frontend = servers.frontend.map(|layer| (if both { " frontend" } else { "" }, layer));
        frontend.into_iter().chain(engine).collect()
    };
    let cells = |row: &PointResult| {
        let name = load_of(&row.summary)
            .filter(|_| plain)
            .map_or_else(|| row.point.clone(), |load| load.to_string());
        let of = |(label, layer): (&str, LayerView)| {
            let cells = COLUMNS.map(|(_, figure)| figure(&row.summary, &layer));
            (format!("{name}{label}"), cells)
        };
        layers(row).into_iter().map(of).collect::<Vec<_>>()
    };
    let all: Vec<(String, [Option<f64>; 8])> = rows.iter().flat_map(cells).collect();
    let is_known: Vec<bool> = (0..COLUMNS.len())
        .map(|at| all.iter().any(|(_, cells)| cells.get(at).is_some_and(Option::is_some)))
        .collect();
    if !is_known.contains(&true) {
        return None;
    }
    let mut table = Table::new([first_head(rows)]);
    let known = || is_known.iter().enumerate().filter(|(_, known)| **known).map(|(at, _)| at);
    table.head.extend(known().filter_map(|at| COLUMNS.get(at)).map(|(head, _)| (*head).to_owned()));
    for (name, cells) in all {
        let cells = known().map(|at| maybe(cells.get(at).copied().flatten()));
        table.push(std::iter::once(name).chain(cells).collect());
    }
    Some(table)
}

/// What the columns of the table are.
pub const ABOUT: &str = "From the servers' metrics pages, in the measured window: times in ms, requests on average, the KV cache at its \
                         fullest. `client` is the TTFT p50 that the client saw.";

/// How speculative decoding did, a line per point.
pub fn speculation(rows: &[PointResult]) -> Vec<String> {
    let of = |row: &PointResult| {
        let figures = row.summary.servers.clone()?.engine?.speculation?;
        let rates = figures.rate_by_position.iter().map(|rate| format!("{:.0} %", 100.0 * rate)).join(", ");
        let by_position = if rates.is_empty() { String::new() } else { format!("; by position {rates}") };
        Some(format!(
            "{}: {:.1} % of {} drafted tokens accepted, {:.2} tokens a step{by_position}",
            row.point,
            100.0 * figures.acceptance_rate,
            figures.draft_tokens,
            figures.acceptance_length
        ))
    };
    rows.iter().filter_map(of).collect()
}
