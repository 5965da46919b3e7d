//! The CSV of vllm-bench, a small asynchronous load generator (not vLLM's own `vllm bench serve`): one request per request.
//!
//! Its documentation names the file, `<scenario>-cc<concurrency>-pref<prompt tokens>-max<output tokens>-<time>.csv`, says
//! that there is a header and a request per request, and reads three columns: `ttft_ms`, `latency_ms` and `error`, which is
//! empty for a request that succeeded. Those are here under these names. The others (`request_id`, `start_s`,
//! `prompt_tokens`, `output_tokens`, `status`) and the form of the time are ours. So are the definitions, as its own are
//! not documented: those of our summary. Streaming off there is no TTFT and the cell is empty; a failed request has no
//! latency, so that quantiles over the column are those of answers.

use super::{Results, file_name_part, offered, time_stamp};
use crate::metrics::record::{Outcome, PointRun, RequestRecord};
use crate::metrics::request_figures::RequestFigures;
use crate::plan::LoadPoint;
use std::io::{self, Write};

/// `<scenario>-cc8-pref256-max128-<YYYYmmdd-HHMMSS>.csv`; the scenario is the endpoint, `chat` or `completions`. Without a
/// bound on the requests in flight the rate stands in the place of the concurrency: `rps12.5`.
pub fn file_name(point: &LoadPoint, run: &PointRun) -> String {
    let offered = offered(point);
    let load = match (offered.concurrency, offered.rate) {
        (Some(concurrency), _) => format!("cc{concurrency}"),
        (None, Some(rate)) => format!("rps{rate}"),
        (None, None) => "cc0".to_owned(),
    };
    let (scenario, isl, osl) = (file_name_part(point.endpoint.as_str()), point.isl.mean, point.osl.mean);
    format!("{scenario}-{load}-pref{isl}-max{osl}-{}.csv", time_stamp(run))
}

/// The columns, in order.
const COLUMNS: &str = "request_id,start_s,ttft_ms,latency_ms,prompt_tokens,output_tokens,status,error";

/// Writes a header and a line per measured request, in the order of sending. `error` is on one line whatever it was.
pub fn write<W: Write>(mut out: W, results: &Results<'_>) -> io::Result<()> {
    writeln!(out, "{COLUMNS}")?;
    let number = |value: Option<f64>| value.map(|value| format!("{value:.3}")).unwrap_or_default();
    for record in results.records {
        let request = RequestFigures::of(record);
        let start_s = request.sent_us.saturating_sub(results.run.window_start_us) as f64 / 1e6;
        let ttft = number(request.ttft_ms().filter(|_| results.point.streaming));
        let latency = number(request.e2e_ms().filter(|_| request.outcome == Outcome::Ok));
        let status = record.status.map(|status| status.to_string()).unwrap_or_default();
        let (id, isl, osl, error) = (request.id, request.isl, request.osl, error(record));
        writeln!(out, "{id},{start_s:.6},{ttft},{latency},{isl},{osl},{status},{error}")?;
    }
    Ok(())
}

/// Empty for a good request; else the outcome and the error, quoted.
fn error(record: &RequestRecord) -> String {
    if record.outcome == Outcome::Ok {
        return String::new();
    }
    let text = match &record.error {
        Some(error) => format!("{}: {error}", record.outcome),
        None => record.outcome.to_string(),
    };
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("\"{}\"", line.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::dialects::in_order_of_sending;
    use crate::metrics::fixtures::{Ran, failed, point, record, run, sound};
    use crate::metrics::record::Phase;

    fn csv(point: &LoadPoint, ran: &Ran) -> String {
        let mut out = Vec::new();
        let records = in_order_of_sending(&ran.records);
        let results = Results { point, run: &ran.run, records: &records };
        write(&mut out, &results).expect("write");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn the_name_is_the_documented_one() {
        let name = file_name(&point(), &run(sound()));
        assert_eq!(name, "chat-cc2-pref100-max10-19700101-000000.csv");
    }

    #[test]
    fn a_header_and_a_line_per_request_in_the_order_of_sending() {
        let mut bad = failed(1, 1_010_000, Outcome::Http(503));
        (bad.status, bad.error) = (Some(503), Some("no \"worker\",\nsorry".to_owned()));
        let warmup = RequestRecord { phase: Phase::Warmup, ..record(0, 0) };
        let expected = "\
request_id,start_s,ttft_ms,latency_ms,prompt_tokens,output_tokens,status,error
0,0.000000,50.000,140.000,100,10,200,
1,0.010000,,,100,0,503,\"http_503: no \"\"worker\"\", sorry\"
";
        assert_eq!(csv(&point(), &run(vec![warmup, bad, record(0, 1_000_000)])), expected);
        assert_eq!(csv(&point(), &run(sound())).lines().count(), 21);
    }

    #[test]
    fn streaming_off_has_no_ttft() {
        let unary = LoadPoint { streaming: false, ..point() };
        let text = csv(&unary, &run(vec![record(0, 0)]));
        assert!(text.ends_with("\n0,0.000000,,140.000,100,10,200,\n"), "{text}");
    }

    #[test]
    fn nothing_measured_leaves_the_header() {
        assert_eq!(csv(&point(), &run(vec![])), format!("{COLUMNS}\n"));
    }
}
