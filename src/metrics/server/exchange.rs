//! The client's records held beside what the servers say of the same window.

use serde::{Deserialize, Serialize};

use super::layer::{LayerView, Pages};
use crate::metrics::fold::{self, Fold};
use crate::metrics::record::PointRun;
use crate::metrics::request_figures::RequestFigures;

/// Requests in flight by Little's law, L = λW, as the client had them, and as the servers say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct InFlight {
    /// λ: requests sent per second of the window, those of a cool-down included.
    pub requests_per_s: f64,
    /// W: time of these in the window, mean, seconds.
    pub time_s: f64,
    /// L = λW: requests in flight on average.
    pub by_littles_law: f64,
    /// Requests of the records that were in flight when the servers were asked, mean.
    pub client: f64,
    /// Requests that the servers had then, mean.
    pub servers: f64,
    /// By how much the two may differ because they were sampled: three standard errors of their difference.
    pub sampling: f64,
    /// How often the servers were asked in the window.
    pub samples: usize,
}

/// By how much the client saw longer latencies than the servers, mean, ms: the network, the client, and whatever is between both. `null`
/// when the servers did not count the same number of requests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Beyond {
    /// Time to first token.
    pub ttft_ms: Option<f64>,
    /// Sent → last content chunk, over arrival → last token.
    pub e2e_ms: Option<f64>,
}

/// Samples from which on an average says something.
const LEAST_SAMPLES: usize = 5;

/// Standard errors that chance explains.
const STANDARD_ERRORS: f64 = 3.0;

impl InFlight {
    pub(super) fn of(pages: &Pages<'_>, run: &PointRun, fold: &Fold) -> Option<Self> {
        let servers = pages.samples(super::page::Figures::in_flight, |a, b| a + b);
        let window_s = run.window_s();
        if servers.len() < LEAST_SAMPLES || window_s <= 0.0 {
            return None;
        }
        let in_flight = fold::InFlight::of(fold.after_warmup());
        let client: Vec<f64> = servers.iter().map(|(at, _)| in_flight.at(*at) as f64).collect();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let off: Vec<f64> =
            servers.iter().zip(&client).map(|((_, servers), client)| servers - client).collect();
        let around = mean(&off);
        let variance = off.iter().map(|off| (off - around).powi(2)).sum::<f64>() / (off.len() - 1) as f64;
        let window = run.window_start_us..=run.window_end_us;
        let is_in = |request: &&RequestFigures| window.contains(&request.sent_us);
        let requests = fold.after_warmup().filter(is_in).count() as f64;
        let spent_us = |request: &RequestFigures| {
            request.end_us.min(run.window_end_us).saturating_sub(request.sent_us.max(run.window_start_us))
        };
        let spent_s = fold.after_warmup().map(spent_us).sum::<u64>() as f64 / 1e6;
        Some(Self {
            requests_per_s: requests / window_s,
            time_s: if requests > 0.0 { spent_s / requests } else { 0.0 },
            by_littles_law: spent_s / window_s,
            client: mean(&client),
            servers: mean(&servers.iter().map(|(_, servers)| *servers).collect::<Vec<_>>()),
            sampling: STANDARD_ERRORS * (variance / off.len() as f64).sqrt(),
            samples: off.len(),
        })
    }
}

impl Beyond {
    pub(super) fn of(layer: &LayerView, fold: &Fold) -> Self {
        let beyond = |server: Option<super::Latency>, figure: fn(&RequestFigures) -> Option<f64>| {
            let client = fold.distribution(figure)?;
            let server = server.filter(|server| server.count == client.count)?;
            Some(client.avg - server.avg)
        };
        Self {
            ttft_ms: beyond(layer.ttft_ms, RequestFigures::ttft_ms),
            e2e_ms: beyond(layer.e2e_ms, RequestFigures::e2e_ms),
        }
    }
}
