//! `telemetry/server_metrics.jsonl`: the server's Prometheus page, one line a second.
//!
//! Omits histogram buckets and creation times: sums and counts give the same over a window, in a tenth of the bytes.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::prometheus::{self, Sample};
use super::{append, next};
use crate::load::probe;

/// Time limit for one scrape.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Writes one line before the load, one a second during it, and one after it, so that counters have both ends.
pub(super) async fn sample(file: std::fs::File, point: String, url: String, stop: CancellationToken) {
    let mut more = true;
    loop {
        let began = jiff::Timestamp::now();
        let line = match probe::get(&url, TIMEOUT).await {
            Ok(page) if page.status == 200 => {
                json!({"at": began, "point": point, "url": url, "metrics": figures(&prometheus::parse(&page.body))})
            }
            Ok(page) => {
                json!({"at": began, "point": point, "url": url, "error": format!("HTTP {}", page.status)})
            }
            Err(error) => json!({"at": began, "point": point, "url": url, "error": error.to_string()}),
        };
        append(&file, &line);
        if !more {
            return;
        }
        more = next(&stop).await;
    }
}

fn figures(samples: &[Sample]) -> Map<String, Value> {
    let kept = samples.iter().filter(|sample| {
        !sample.name.ends_with("_bucket")
            && !sample.name.ends_with("_created")
            && !sample.name.starts_with("python_")
    });
    kept.map(|sample| (sample.key(), json!(sample.value))).collect()
}
