//! What the tests of the load engine share: a load point, and a server that plays scripts.

use crate::plan::{Arrival, Endpoint, Length, LoadPoint, Slo, Stop};

/// A small closed-loop point: chat, streamed, 8/4 tokens, as many requests as slots.
pub(crate) fn point(concurrency: u32) -> LoadPoint {
    LoadPoint {
        id: "p".into(),
        isl: Length { mean: 8, stddev: 0 },
        osl: Length { mean: 4, stddev: 0 },
        arrival: Arrival::Closed { concurrency },
        stop: Stop::Requests(u64::from(concurrency)),
        warmup_requests: 0,
        endpoint: Endpoint::Chat,
        streaming: true,
        ignore_eos: true,
        seed: 1,
        slo: Slo::default(),
        request_timeout_s: 30.0,
        stall_timeout_s: 30.0,
        extra_body: serde_json::Map::default(),
    }
}
