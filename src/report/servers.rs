//! The view of the servers on the load points.

use itertools::Itertools;

use super::PointResult;
use super::columns::KeyColumns;
use super::parts::{Block, Part};
use super::table::{Table, maybe};
use crate::metrics::server::{Latency, LayerView};
use crate::metrics::{Distribution, Summary};

/// What a row is of: a load point, and a layer of its servers.
type Of<'a> = (&'a Summary, &'a LayerView);

type Column = (&'static str, fn(Of<'_>) -> Option<f64>);

/// What the servers say beside what the client saw, a row per point and layer; `None` if no server published anything that is known.
pub fn table(rows: &[PointResult]) -> Option<Table> {
    const COLUMNS: [Column; 10] = [
        ("TTFT", |(_, layer)| Some(layer.ttft_ms?.avg)),
        ("client +", |(s, layer)| beyond(s, s.ttft_ms?, layer.ttft_ms?)),
        ("E2E", |(_, layer)| Some(layer.e2e_ms?.avg)),
        ("client +", |(s, layer)| beyond(s, s.e2e_ms?, layer.e2e_ms?)),
        ("queue", |(_, layer)| Some(layer.queue_ms?.avg)),
        ("prefill", |(_, layer)| Some(layer.prefill_ms?.avg)),
        ("running", |(_, layer)| Some(layer.running?.avg)),
        ("waiting", |(_, layer)| Some(layer.waiting?.avg)),
        ("KV %", |(_, layer)| Some(100.0 * layer.kv_cache?.max)),
        ("preempted", |(_, layer)| layer.preemptions.filter(|count| *count > 0).map(|count| count as f64)),
    ];
    of_columns(rows, &COLUMNS)
}

/// By how much the client's mean is above the servers'; `None` when they are means over different numbers of requests, as when
/// requests were cut after their first token.
fn beyond(summary: &Summary, client: Distribution, server: Latency) -> Option<f64> {
    (summary.requests.completed == server.count).then_some(client.avg - server.avg)
}

/// How requests in flight agree, and how evenly the load was spread; `None` where neither is known.
pub fn balance(rows: &[PointResult]) -> Option<Table> {
    const COLUMNS: [Column; 4] = [
        ("in flight λ·W", |(summary, layer)| in_flight(summary, layer, |of| of.by_littles_law)),
        ("client", |(summary, layer)| in_flight(summary, layer, |of| of.client)),
        ("servers", |(summary, layer)| in_flight(summary, layer, |of| of.servers)),
        ("largest / mean", |(_, layer)| Some(layer.imbalance.as_ref()?.largest_over_mean)),
    ];
    of_columns(rows, &COLUMNS)
}

/// A figure of the layer that was compared with the client: the one nearest to it.
fn in_flight(
    summary: &Summary,
    layer: &LayerView,
    figure: fn(&crate::metrics::server::InFlight) -> f64,
) -> Option<f64> {
    let servers = summary.servers.as_ref()?;
    servers.in_flight.as_ref().map(figure).filter(|_| servers.nearest() == Some(layer))
}

/// A row per point and layer with the columns that are known of any.
fn of_columns(rows: &[PointResult], columns: &[Column]) -> Option<Table> {
    let keys = KeyColumns::of(rows);
    let of_point = |(row, name): (&PointResult, Vec<String>)| {
        let layers: Vec<(&str, &LayerView)> =
            row.summary.servers.iter().flat_map(|servers| servers.layers()).collect();
        let label = |layer: &str| {
            let mut name = name.clone();
            if let Some(last) = name.last_mut().filter(|_| layers.len() > 1) {
                last.push_str(&format!(" {layer}"));
            }
            name
        };
        let cells =
            |layer: &LayerView| columns.iter().map(|(_, figure)| figure((&row.summary, layer))).collect();
        layers.iter().map(|(layer, view)| (label(layer), cells(view))).collect::<Vec<_>>()
    };
    let all: Vec<(Vec<String>, Vec<Option<f64>>)> = rows.iter().zip(keys.cells).flat_map(of_point).collect();
    let is_known = |at: usize| all.iter().any(|(_, cells)| cells.get(at).is_some_and(Option::is_some));
    let known: Vec<usize> = (0..columns.len()).filter(|at| is_known(*at)).collect();
    if known.is_empty() {
        return None;
    }
    let mut table = Table::keyed(keys.heads);
    table.head.extend(known.iter().filter_map(|at| columns.get(*at)).map(|(head, _)| (*head).to_owned()));
    for (name, cells) in all.into_iter().filter(|(_, cells)| cells.iter().any(Option::is_some)) {
        let cells = known.iter().map(|at| maybe(cells.get(*at).copied().flatten()));
        table.push(name.into_iter().chain(cells).collect());
    }
    Some(table)
}

/// What the columns of the table are.
pub const ABOUT: &str = "From the servers' metrics pages, in the measured window: times in ms and requests on average, the KV cache at its \
                         fullest. `client +` is what the client saw beyond that: the network, the client, and what is between both.";

/// What the columns of the second table are.
pub const ABOUT_BALANCE: &str = "Requests in flight by Little's law from the records, at the client and in the servers when these were asked; \
                                 the busiest engine or rank over the mean of all.";

/// What the servers say, how evenly load was spread over them, and what their pages lack.
pub(super) fn part(rows: &[PointResult]) -> Part {
    let tables = [(table(rows), ABOUT), (balance(rows), ABOUT_BALANCE)];
    let shown = tables.into_iter().filter_map(|(table, about)| Some((table?, about)));
    let part = shown.fold(Part::new("Servers"), |part, (table, about)| {
        part.with(Block::Table(table)).with(Block::Text(about.to_owned()))
    });
    let notes = notes(rows);
    if notes.is_empty() { part } else { part.with(Block::List(notes)) }
}

/// Metrics pages that could not be read or understood, each once.
pub fn notes(rows: &[PointResult]) -> Vec<String> {
    let notes = rows.iter().flat_map(|row| row.summary.servers.iter().flat_map(|servers| &servers.notes));
    notes.unique().cloned().collect()
}
