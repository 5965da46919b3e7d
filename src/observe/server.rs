//! `telemetry/server_metrics.jsonl`: the Prometheus page of each server, one line an interval.
//!
//! Omits creation times and figures of the Python process. Buckets stand apart, and only those of histograms that have counted since
//! the line before, because they are most of a page.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Ticks, append};
use crate::load::probe::{PageReader, ProbeError};
use crate::metrics::server::Page;
use crate::metrics::server::prometheus::{self, Sample};
use crate::plan::MetricsPage;

/// Time limit for one scrape.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The pages of one server, each with the time it was read.
pub type Pages = Vec<(jiff::Timestamp, Page)>;

/// Writes one line before the load, one at each tick during it, and one after it, so that counters have both ends. Returns the pages.
pub(super) async fn sample(
    file: std::fs::File,
    point: String,
    page: MetricsPage,
    reader: Result<PageReader, ProbeError>,
    mut ticks: Ticks,
) -> Pages {
    let (mut more, mut pages, mut written) = (true, Pages::new(), BTreeMap::new());
    let (process, url) = (page.process, page.url);
    loop {
        let began = jiff::Timestamp::now();
        let answer = match &reader {
            Ok(reader) => reader.read(TIMEOUT).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let line = match answer {
            Ok(page) if page.status == 200 => {
                let samples = prometheus::parse(&page.body);
                // The server counted at some instant between question and answer.
                let took = jiff::Timestamp::now().duration_since(began);
                pages.push((began + took / 2, Page::of_samples(&samples)));
                let buckets = buckets(&samples, &mut written);
                json!({"at": began, "point": point, "process": process, "url": url, "metrics": figures(&samples), "buckets": buckets})
            }
            Ok(page) => failed(began, &point, &process, &url, format!("HTTP {}", page.status)),
            Err(error) => failed(began, &point, &process, &url, error),
        };
        append(&file, &line);
        if !more {
            return pages;
        }
        more = ticks.next().await;
    }
}

fn failed(at: jiff::Timestamp, point: &str, process: &str, url: &str, error: String) -> Value {
    json!({"at": at, "point": point, "process": process, "url": url, "error": error})
}

const BUCKET: &str = "_bucket";

fn is_kept(sample: &Sample) -> bool {
    !sample.name.ends_with("_created") && !sample.name.starts_with("python_")
}

fn figures(samples: &[Sample]) -> Map<String, Value> {
    let kept = samples.iter().filter(|sample| is_kept(sample) && !sample.name.ends_with(BUCKET));
    kept.map(|sample| (sample.key(), json!(sample.value))).collect()
}

/// Upper bounds and cumulative counts of each histogram that differs from the line before, which `written` holds.
fn buckets(samples: &[Sample], written: &mut BTreeMap<String, Vec<Value>>) -> Map<String, Value> {
    let mut histograms: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for sample in samples.iter().filter(|sample| is_kept(sample)) {
        let Some(name) = sample.name.strip_suffix(BUCKET) else { continue };
        let Some((_, bound)) = sample.labels.iter().find(|(name, _)| name == "le") else { continue };
        let labels = sample.labels.iter().filter(|(name, _)| name != "le").cloned().collect();
        let key = Sample { name: name.to_owned(), labels, value: 0.0 }.key();
        histograms.entry(key).or_default().push(json!([bound, sample.value]));
    }
    let changed: Map<String, Value> = histograms
        .iter()
        .filter(|(key, buckets)| written.get(*key) != Some(buckets))
        .map(|(key, buckets)| (key.clone(), json!(buckets)))
        .collect();
    *written = histograms;
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_written_when_they_have_counted() {
        let page = |first: u32| {
            prometheus::parse(&format!(
                "up 1\na_seconds_bucket{{le=\"0.1\",engine=\"0\"}} {first}\na_seconds_bucket{{le=\"+Inf\",engine=\"0\"}} 3\n\
                 a_seconds_sum 2\na_seconds_created 1700000000\npython_info 1\nb_bucket{{le=\"+Inf\"}} 0\n"
            ))
        };
        let mut written = BTreeMap::new();
        let first = buckets(&page(1), &mut written);
        assert_eq!(first["a_seconds{engine=\"0\"}"], json!([["0.1", 1.0], ["+Inf", 3.0]]));
        assert_eq!(first.len(), 2);
        assert_eq!(buckets(&page(1), &mut written), Map::new());
        assert_eq!(buckets(&page(2), &mut written).keys().collect::<Vec<_>>(), ["a_seconds{engine=\"0\"}"]);
        assert_eq!(figures(&page(1)).keys().collect::<Vec<_>>(), ["up", "a_seconds_sum"]);
    }
}
