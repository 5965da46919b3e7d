//! Holds what the servers say of the measured window against the records.

use super::Reason;
use crate::metrics::fold::Fold;
use crate::metrics::record::{CountSource, Outcome, PointRun};
use crate::metrics::request_figures::RequestFigures;
use crate::metrics::server::{Imbalance, InFlight, LayerView, LoadMeasure, ServerView};

/// Tokens and requests that a server may count beyond those of the records: a start or end token that it keeps to itself.
const MORE: f64 = 0.01;
/// Share and ms by which a latency of a server may exceed the client's: both read their clocks a little late.
const LATE: f64 = 0.01;
const LATE_MS: f64 = 1.0;
/// Share of the decode time that the first chunk may be late by before TTFT and ITL are no longer those of the server.
const DECODE_SHORT: f64 = 0.10;
/// Share of the requests in flight, and their number, that client and servers may differ by beyond what sampling allows.
const IN_FLIGHT_OFF: f64 = 0.10;
const IN_FLIGHT_OFF_REQUESTS: f64 = 1.0;
/// Largest over mean from which an uneven load is named: the busiest of several then limits them all.
const UNEVEN: f64 = 1.25;
/// Standard deviations of a number of requests that are drawn at random.
const CHANCE_Z: f64 = 3.0;
/// Requests for each process from which one without any is no chance.
const IDLE_AMONG: f64 = 10.0;

pub(super) fn reasons(run: &PointRun, fold: &Fold) -> Vec<Reason> {
    let Some(view) = &run.servers else { return Vec::new() };
    let mut found: Vec<Reason> = view.layers().flat_map(|(_, layer)| restarted(layer)).collect();
    found.extend(view.nearest().and_then(|layer| tokens(layer, fold).or_else(|| requests(layer, fold))));
    found.extend(latencies(view, fold));
    found.extend(view.in_flight.as_ref().and_then(in_flight));
    let imbalances = view.layers().filter_map(|(name, layer)| Some((name, layer.imbalance.as_ref()?)));
    found.extend(imbalances.filter_map(|(layer, imbalance)| uneven(layer, imbalance)));
    found
}

fn restarted(layer: &LayerView) -> Option<Reason> {
    let names = layer.restarted.join(", ");
    let text = format!(
        "{names} began anew in the measured window: what was in flight there is lost, and so are its counters"
    );
    Reason::suspect_if(!layer.restarted.is_empty(), text)
}

/// The requests after the warm-up, up to whose end the pages are read. `None` unless all of them ended well: what was cut off was served
/// all the same.
fn all_good(fold: &Fold) -> Option<Vec<&RequestFigures>> {
    let good = |request: &&RequestFigures| request.outcome == Outcome::Ok;
    let (all, good) = (fold.after_warmup().count(), fold.after_warmup().filter(good).collect::<Vec<_>>());
    (good.len() == all).then_some(good)
}

/// Only when the servers' own `usage` is in the records.
fn tokens(layer: &LayerView, fold: &Fold) -> Option<Reason> {
    let (counted, good) = (layer.output_tokens?, all_good(fold)?);
    let is_counted = good.iter().all(|request| request.osl_source == CountSource::Usage);
    let received = good.iter().map(|request| u64::from(request.osl)).sum();
    is_counted.then(|| conserved("output tokens", counted, received)).flatten()
}

fn requests(layer: &LayerView, fold: &Fold) -> Option<Reason> {
    conserved("requests", layer.requests?, all_good(fold)?.len() as u64)
}

fn conserved(what: &str, counted: u64, received: u64) -> Option<Reason> {
    let numbers =
        format!("the servers counted {counted} {what} in the measured window, the answers have {received}");
    if counted < received {
        let why = "some were answered by other servers, or counted twice";
        return Some(Reason::suspect(format!("{numbers}: {why}")));
    }
    let others = counted as f64 > received as f64 * (1.0 + MORE);
    Reason::suspect_if(others, format!("{numbers}: the servers had other requests too"))
}

/// A client sees a token after the server has made it. Only when both have the same requests; the first that cannot be is named, for
/// the others follow from it.
fn latencies(view: &ServerView, fold: &Fold) -> Option<Reason> {
    let mean = |figure: fn(&RequestFigures) -> Option<f64>| fold.distribution(figure);
    let (ttft, whole) = (mean(RequestFigures::ttft_ms), mean(|request| Some(spent_ms(request))));
    let pairs = view.layers().flat_map(|(_, layer)| {
        [
            ("TTFT", layer.ttft_ms, ttft),
            ("E2E latency", layer.e2e_ms, whole),
            ("queue time", layer.queue_ms, ttft),
        ]
    });
    let impossible = pairs.filter_map(|(what, server, client)| {
        let (client, server) = (client?, server?);
        let is_off = server.count == client.count && server.avg > client.avg * (1.0 + LATE) + LATE_MS;
        let seen = if what == "queue time" { " until its first token" } else { "" };
        Reason::suspect_if(is_off, format!(
            "the mean {what} of the servers is {:.1} ms, and the client saw {:.1} ms{seen}: one of both clocks is wrong",
            server.avg, client.avg
        ))
    });
    let mut impossible = impossible;
    impossible.next().or_else(|| decode(view.nearest()?, fold))
}

/// Sent → ended: the last token may have no text of its own.
fn spent_ms(request: &RequestFigures) -> f64 {
    request.end_us.saturating_sub(request.sent_us) as f64 / 1e3
}

/// The first token reached the client late, so that the others followed it too soon. Users see the same, so it is no error: Dynamo 1.6
/// counts a first token that its client gets with the next.
fn decode(layer: &LayerView, fold: &Fold) -> Option<Reason> {
    let client = fold.distribution(RequestFigures::decode_ms)?;
    // Steps of answers that were cut are among those of the server.
    let by_steps = || {
        let itl = layer.itl_ms.filter(|_| all_good(fold).is_some())?;
        Some((client.count, itl.avg * itl.count as f64 / client.count as f64))
    };
    let (count, server) = layer.decode_ms.map(|decode| (decode.count, decode.avg)).or_else(by_steps)?;
    if count != client.count || layer.requests != Some(client.count) {
        return None;
    }
    (client.avg < server * (1.0 - DECODE_SHORT) - LATE_MS).then(|| {
        Reason::note(format!(
            "the servers took {server:.1} ms from first to last token on average, and at the client these were {:.1} ms apart: first tokens reached it late, so that TTFT is longer and ITL shorter than in the servers",
            client.avg
        ))
    })
}

/// More than the client's: others use the servers. Fewer: requests are somewhere else, which slows them and is no error.
fn in_flight(found: &InFlight) -> Option<Reason> {
    let InFlight { client, servers, sampling, requests_per_s, time_s, by_littles_law, .. } = found;
    let allowed = sampling.max(IN_FLIGHT_OFF_REQUESTS).max(IN_FLIGHT_OFF * client);
    let numbers = format!(
        "the servers had {servers:.1} requests on average when they were asked, and the client {client:.1} in flight (by Little's law {requests_per_s:.2} requests/s × {time_s:.3} s = {by_littles_law:.1})"
    );
    if servers - client > allowed {
        return Some(Reason::suspect(format!("{numbers}: others use the servers too")));
    }
    let elsewhere = format!(
        "{numbers}: the others were on their way, in a frontend, or with servers whose pages are not read"
    );
    (client - servers > allowed).then(|| Reason::note(elsewhere))
}

fn uneven(layer: &str, imbalance: &Imbalance) -> Option<Reason> {
    let Imbalance { of, by, total, largest_over_mean, largest, idle } = imbalance;
    let what = match by {
        LoadMeasure::Requests => "requests",
        LoadMeasure::Running => "running requests on average",
    };
    let who = if layer == "frontend" { "frontends" } else { "engines" };
    let mean = total / *of as f64;
    if !idle.is_empty() && *by == LoadMeasure::Requests && mean >= IDLE_AMONG {
        let names = idle.join(", ");
        return Some(Reason::suspect(format!(
            "{names} got none of the {total} requests: its GPUs are in the figures per GPU, and did nothing"
        )));
    }
    let by_chance = CHANCE_Z * mean.sqrt();
    let is_uneven = *largest_over_mean > UNEVEN && largest_over_mean * mean - mean > by_chance;
    is_uneven.then(|| {
        Reason::note(format!(
            "the load was uneven: {largest} had {largest_over_mean:.2} times the mean of {of} {who} ({what}, mean {mean:.1})"
        ))
    })
}

#[cfg(test)]
#[path = "servers_tests.rs"]
mod tests;
