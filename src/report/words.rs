//! The words of a report, explained for a reader who was not there.

use super::PointResult;
use super::parts::{Block, Part};

const WORDS: [(&str, &str); 14] = [
    ("TTFT", "time to first token: from sending a request to the first piece of its answer"),
    ("ITL", "inter-token latency: time between two tokens of an answer, (E2E − TTFT) / (output tokens − 1)"),
    ("E2E latency", "from sending a request to the last piece of its answer"),
    ("ISL, OSL", "input and output sequence length: tokens of the prompt and of the answer"),
    (
        "concurrency",
        "requests in flight at the same time; each user sends the next one when the last is answered",
    ),
    ("request rate", "requests that arrive per second, whether or not earlier ones are answered"),
    ("tok/s", "output tokens per second of all requests together, successful ones only"),
    ("goodput (good/s)", "requests per second that met every limit of the SLO"),
    ("SLO", "service level objective: the latencies that were asked for"),
    ("p50, p95, p99", "50, 95, 99 % of the requests were at most this slow"),
    ("KV cache", "memory of the server for the tokens of running requests; when it is full, requests wait"),
    (
        "safe, early degradation, saturated",
        "zones of load: no sign of overload; first signs; throughput no longer grows",
    ),
    ("suspect", "usable by a reader who knows the reasons, which stand under Verdicts"),
    ("invalid", "not to be used: a figure is not what its name says"),
];

/// The part; of a run without figures nothing.
pub fn part(rows: &[PointResult]) -> Part {
    let part = Part::new("Words");
    if rows.is_empty() {
        return part;
    }
    part.with(Block::Facts(WORDS.map(|(word, meaning)| (word.to_owned(), meaning.to_owned())).to_vec()))
}
