//! One request as it happened: what was sent, every instant that matters, how it ended.
//!
//! Records are the product: `load` writes them, everything else (summary, exports, reports) is a fold over them.

mod health;

use crate::metrics::gpus::GpuView;
use crate::metrics::processes::ProcessView;
use crate::metrics::server::ServerView;
pub use health::MachineHealth;
use serde::{Deserialize, Serialize};

/// Part of a load point a request belongs to. Only [`Phase::Measure`] enters any figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Sent before the measured window to warm the server; kept in the records, left out of the figures.
    Warmup,
    /// The measured window.
    Measure,
    /// Sent in a stage at the end of a ramp that is driven and recorded, and left out of the figures.
    CoolDown,
}

impl Phase {
    /// The word used in files and in request ids.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warmup => "warmup",
            Self::Measure => "measure",
            Self::CoolDown => "cool_down",
        }
    }
}

/// `tokmark-<point>-<warmup|measure|cool_down>-<id>`: the `X-Request-Id` a request is sent with, so that a line of a server log
/// can be joined with its record. vLLM makes it part of the completion id, Dynamo echoes it as a header.
pub fn request_id(point_id: &str, phase: Phase, id: u64) -> String {
    format!("tokmark-{point_id}-{}-{id}", phase.as_str())
}

/// How a request ended. The text form (`ok`, `http_503`, `connect` …) is the contract of `summary.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// A complete answer with content.
    Ok,
    /// The server answered with this status instead of 200.
    Http(u16),
    /// No connection could be made.
    Connect,
    /// The total time limit passed.
    Timeout,
    /// No byte arrived for longer than the stall limit.
    Stalled,
    /// The connection ended before the answer did.
    Disconnected,
    /// Bytes that are not the protocol.
    Malformed,
    /// A complete answer without any content.
    Empty,
    /// An error reported inside a 200 answer.
    ServerError,
    /// Cut off by us: an interrupt, or the end of the window.
    Cancelled,
}

impl Outcome {
    /// Whether the server takes no request now: it is overloaded, or nobody listens.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Http(429 | 503) | Self::Connect)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Http(status) => write!(f, "http_{status}"),
            Self::Connect => f.write_str("connect"),
            Self::Timeout => f.write_str("timeout"),
            Self::Stalled => f.write_str("stalled"),
            Self::Disconnected => f.write_str("disconnected"),
            Self::Malformed => f.write_str("malformed"),
            Self::Empty => f.write_str("empty"),
            Self::ServerError => f.write_str("server_error"),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl std::str::FromStr for Outcome {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "ok" => Self::Ok,
            "connect" => Self::Connect,
            "timeout" => Self::Timeout,
            "stalled" => Self::Stalled,
            "disconnected" => Self::Disconnected,
            "malformed" => Self::Malformed,
            "empty" => Self::Empty,
            "server_error" => Self::ServerError,
            "cancelled" => Self::Cancelled,
            other => match other.strip_prefix("http_").and_then(|status| status.parse().ok()) {
                Some(status) => Self::Http(status),
                None => return Err(format!("unknown outcome {other:?}")),
            },
        })
    }
}

impl Serialize for Outcome {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Token counts as the server reported them in `usage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Prompt tokens, chat template included.
    pub prompt_tokens: u64,
    /// Generated tokens, reasoning included.
    pub completion_tokens: u64,
    /// Of those, reasoning tokens (`completion_tokens_details.reasoning_tokens`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<u64>,
    /// Prompt tokens served from the prefix cache (`prompt_tokens_details.cached_tokens`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
}

/// Where a token count comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CountSource {
    /// The server's `usage`.
    Usage,
    /// The client's tokenizer.
    Tokenizer,
    /// The built-in approximation (one token a word).
    Approximate,
}

/// The stage of a ramp that a request belongs to. With it the plan's stages can be laid over the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageMark {
    /// Number of the stage, from 0.
    pub index: u32,
    /// Its start, µs since instant 0.
    pub start_us: u64,
}

/// The place of a request in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnMark {
    /// Number of the conversation within its phase.
    pub conversation: u64,
    /// Number of the turn within it, from 0.
    pub turn: u32,
}

/// One request. All instants are µs on the monotonic clock of the load point, 0 = its start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// Number of the request within the load point, in order of sending; warm-up requests count on their own. In an open
    /// loop the number of its arrival: dropped arrivals leave gaps.
    pub id: u64,
    /// Warm-up, measured or cool-down.
    pub phase: Phase,
    /// The stage it was sent in (closed loop) or meant to be sent in (open loop); `None` without a ramp, and in a warm-up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<StageMark>,
    /// Its place in a conversation; `None` for a request that stands alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<TurnMark>,
    /// Place it held among the requests in flight: the slot that sent it in a closed loop, the lowest free number in an
    /// open one.
    pub worker: u32,
    /// Intended arrival; equal to `sent_us` in a closed loop.
    pub scheduled_us: u64,
    /// Just before the request was handed to the HTTP client.
    pub sent_us: u64,
    /// Response headers had arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers_us: Option<u64>,
    /// Arrival of each content chunk (non-empty text, reasoning text or tool-call delta), in order.
    /// Streaming off: the arrival of the whole answer, one entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunks_us: Vec<u64>,
    /// First chunk with content that is not reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_output_us: Option<u64>,
    /// End of the request: last byte, or the moment it failed.
    pub end_us: u64,
    /// Prompt tokens planned for this request.
    pub isl_planned: u64,
    /// Of those, at its start, tokens that earlier requests may have had as well, by plan: a chat template, a shared prefix,
    /// earlier turns. The most that a prefix cache should answer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub isl_shared: u64,
    /// Output tokens requested.
    pub osl_requested: u64,
    /// The server's own counts, when it sent them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Prompt tokens: `usage`, else the client's count.
    pub isl: u64,
    /// Where `isl` comes from.
    pub isl_source: CountSource,
    /// Generated tokens, reasoning included: `usage`, else the client's count of the text received.
    pub osl: u64,
    /// Where `osl` comes from.
    pub osl_source: CountSource,
    /// Tokens of the text received, counted by the client's tokenizer; on a sample, to be held against `usage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub osl_counted: Option<u64>,
    /// Bytes of the text received, reasoning and tool calls included; `None` in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_bytes: Option<u64>,
    /// Of those, bytes in the first content chunk; `None` in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_text_bytes: Option<u64>,
    /// The key of text in the answer that is no known content, such as `delta.thoughts`: its arrival is not in `chunks_us`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_content: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// HTTP status, once the head of the answer had arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What went wrong, in the server's or the client's words (shortened).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// `finish_reason` of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// Body bytes sent and received.
    pub bytes_sent: u64,
    /// Body bytes received.
    pub bytes_received: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl RequestRecord {
    /// Gaps between consecutive content chunks, µs; 0 where they are out of order.
    pub fn gaps_us(&self) -> impl Iterator<Item = u64> + '_ {
        self.chunks_us
            .iter()
            .zip(self.chunks_us.iter().skip(1))
            .map(|(before, after)| after.saturating_sub(*before))
    }
}

/// Milliseconds from `from` to `to`, both in µs; 0 when they are out of order.
pub fn ms(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e3
}

/// What the load engine measured of itself while it drove one load point.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClientHealth {
    /// CPU time of this process over the measured window, user + system, seconds.
    pub cpu_s: f64,
    /// Threads that drove load; `cpu_s / (wall_s × threads)` is their utilisation.
    pub threads: u32,
    /// Peak resident set size of the process, MiB.
    pub max_rss_mib: f64,
    /// How late a timer fired on each driving thread, µs, sampled every few milliseconds through the window.
    pub loop_lag_us: Vec<u32>,
    /// How long bytes had lain in the socket before they were stamped, µs: samples of the reads of all driving threads.
    /// Empty where the kernel does not say when bytes arrived.
    #[serde(default)]
    pub read_delay_us: Vec<u32>,
    /// The machine under it.
    #[serde(default)]
    pub machine: MachineHealth,
}

/// Why the load engine gave a load point up by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Aborted {
    /// No connection could be made, this many times in a row.
    #[error("{failures} connections failed in a row: {error}")]
    Unreachable {
        /// Failures in a row.
        failures: u64,
        /// The error of the last one.
        error: String,
    },
    /// Every request failed from the first one on.
    #[error("all of the first {failures} requests failed, the last with {outcome}: {error}")]
    AllFailed {
        /// Requests that had ended.
        failures: u64,
        /// How the last one ended.
        outcome: Outcome,
        /// The error of the last one.
        error: String,
    },
}

/// The measured arrivals of an open loop. Each was sent (and has a record), dropped, or never sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrivals {
    /// All of them.
    pub total: u64,
    /// Not sent because the most allowed requests were in flight, and the policy is to drop.
    pub dropped: u64,
    /// Not sent because the load point ended while they waited.
    pub unsent: u64,
    /// Intended instant of the first, µs since instant 0.
    pub first_us: u64,
    /// Intended instant of the last, µs since instant 0.
    pub last_us: u64,
}

impl Arrivals {
    /// Intended arrivals per second, as drawn. `None` for fewer than two, which span no time.
    pub fn rate_per_s(&self) -> Option<f64> {
        per_s(self.total, self.first_us, self.last_us)
    }
}

/// `count` instants from `first_us` to `last_us` as a rate: gaps per second.
pub(super) fn per_s(count: u64, first_us: u64, last_us: u64) -> Option<f64> {
    let span_s = ms(first_us, last_us) / 1e3;
    (count >= 2 && span_s > 0.0).then(|| (count - 1) as f64 / span_s)
}

/// One load point as it ran. Its records were handed on as requests ended; none is kept here.
#[derive(Debug, Clone, PartialEq)]
pub struct PointRun {
    /// Wall-clock time of instant 0 of the records.
    pub started_at: jiff::Timestamp,
    /// First measured request sent, µs since instant 0.
    pub window_start_us: u64,
    /// Last measured request ended, µs since instant 0.
    pub window_end_us: u64,
    /// The client itself.
    pub client: ClientHealth,
    /// The point was cut short by an interrupt.
    pub interrupted: bool,
    /// The engine gave up by itself; requests in flight at that moment are `cancelled`.
    pub aborted: Option<Aborted>,
    /// The scheduled arrivals; `None` in a closed loop, which has no schedule.
    pub arrivals: Option<Arrivals>,
    /// The servers' own counters of their prefix caches, their rise over the point, warm-up included; `None` when they tell
    /// none.
    pub prefix_cache: Option<CacheCount>,
    /// What the servers say of the measured window; `None` when they publish nothing that is known.
    pub servers: Option<ServerView>,
    /// What was sampled of the GPUs in the measured window; `None` without telemetry.
    pub gpus: Option<GpuView>,
    /// What the processes of the servers used in the measured window; empty for servers of others.
    pub processes: Vec<ProcessView>,
}

/// Prompt tokens looked up in prefix caches, and found there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheCount {
    /// Prompt tokens looked up.
    pub queried: u64,
    /// Of those, found.
    pub hit: u64,
}

impl CacheCount {
    /// The rise since `earlier`. A server that began anew in between counts from 0 again: its rise is then at most too small,
    /// and never more found than looked up.
    pub fn since(self, earlier: Self) -> Self {
        let queried = self.queried.saturating_sub(earlier.queried);
        Self { queried, hit: self.hit.saturating_sub(earlier.hit).min(queried) }
    }
}

impl PointRun {
    /// An instant of its records, µs since 1970.
    pub fn at_us(&self, us: u64) -> i64 {
        self.started_at.as_microsecond().saturating_add_unsigned(us)
    }

    /// Length of the measured window, first request sent → last request ended, seconds. 0 when it is empty.
    pub fn window_s(&self) -> f64 {
        ms(self.window_start_us, self.window_end_us) / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_names_point_phase_and_number() {
        assert_eq!(request_id("isl128_osl8_con4", Phase::Measure, 7), "tokmark-isl128_osl8_con4-measure-7");
        assert_eq!(request_id("p", Phase::Warmup, 0), "tokmark-p-warmup-0");
    }

    #[test]
    fn cache_counts_rise_and_never_fall() {
        let count = |queried, hit| CacheCount { queried, hit };
        assert_eq!(count(500, 120).since(count(200, 100)), count(300, 20));
        assert_eq!(count(50, 20).since(count(200, 100)), count(0, 0), "the server began anew");
        assert_eq!(count(250, 120).since(count(200, 20)), count(50, 50), "not more found than looked up");
    }
}
