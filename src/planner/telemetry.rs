//! Checks `[telemetry]`.

use super::parsed::{Mistakes, Parsed};
use super::sections::TelemetryKeys;
use crate::document::InputErrors;
use crate::plan::{Telemetry, server_url};

/// Shorter intervals would measure the sampling itself: a GPU updates most of its figures every 20 to 100 ms.
const SHORTEST_S: f64 = 0.1;

/// Longer intervals leave too few samples in a load point.
const LONGEST_S: f64 = 60.0;

pub(super) fn telemetry(parsed: &Parsed<'_>) -> Result<Telemetry, InputErrors> {
    let (_, keys): (_, TelemetryKeys) = parsed.section("telemetry", "", &Vec::new())?;
    let mut mistakes = Mistakes::of(parsed, "telemetry");
    let interval_s = keys.interval.0;
    if !(SHORTEST_S..=LONGEST_S).contains(&interval_s) {
        let expected = format!("between {SHORTEST_S} s and {LONGEST_S} s");
        mistakes.add("interval", format!("found {interval_s} s"), expected);
    }
    if let Some(url) = keys.dcgm_url.as_ref().filter(|url| server_url::parse(url).is_err()) {
        let expected = "the URL of the page, e.g. http://127.0.0.1:9400/metrics";
        mistakes.add("dcgm_url", format!("found {url:?}"), expected);
    }
    InputErrors::check(mistakes.found)?;
    let of_exporter = Telemetry::default().dcgm_url;
    Ok(Telemetry { gpu: keys.gpu, interval_s, dcgm_url: keys.dcgm_url.unwrap_or(of_exporter) })
}
