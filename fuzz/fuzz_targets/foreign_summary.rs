//! Summaries of other tools, JSON and CSV: a summary of finite figures or an error that names the file.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tokmark::internals::metrics::dialects::read::parse;

fuzz_target!(|input: &[u8]| {
    for file in ["profile_export_aiperf.csv", "profile_export_genai_perf.json", "x"] {
        match parse(Path::new(file), input) {
            Ok(summary) => {
                let figures = summary.metrics.values().flat_map(|metric| metric.stats.values());
                assert!(figures.into_iter().all(|figure| figure.is_finite()));
            }
            Err(error) => assert!(error.to_string().starts_with(file)),
        }
    }
});
