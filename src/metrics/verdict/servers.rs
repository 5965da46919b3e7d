//! Holds what the servers counted in the measured window against the records.

use super::Reason;
use crate::metrics::fold::Fold;
use crate::metrics::record::{CountSource, PointRun};
use crate::metrics::server::LayerView;

/// Tokens that a server may count beyond those of the records: a start or end token that it keeps to itself.
const MORE_TOKENS: f64 = 0.01;

pub(super) fn reasons(run: &PointRun, fold: &Fold) -> Vec<Reason> {
    let Some(view) = &run.servers else { return Vec::new() };
    let layer = view.nearest();
    layer.into_iter().flat_map(|layer| [tokens(layer, fold), ttft(layer, fold)]).flatten().collect()
}

/// Only when every request ended well, and the servers' own `usage` is in the records: what was cut off was generated all the same.
fn tokens(layer: &LayerView, fold: &Fold) -> Option<Reason> {
    let is_whole = fold.measured().count() == fold.good().count();
    let is_counted = fold.good().all(|request| request.osl_source == CountSource::Usage);
    let counted = layer.output_tokens.filter(|_| is_whole && is_counted)?;
    let received: u64 = fold.good().map(|request| u64::from(request.osl)).sum();
    let numbers = format!(
        "the servers counted {counted} output tokens in the measured window, the answers have {received}"
    );
    if counted < received {
        return Some(Reason::suspect(format!(
            "{numbers}: some were answered by other servers, or counted twice"
        )));
    }
    let others = counted as f64 > received as f64 * (1.0 + MORE_TOKENS);
    Reason::suspect_if(others, format!("{numbers}: the servers had other requests too"))
}

/// A client sees a token after the server has made it. Only when both have the same requests.
fn ttft(layer: &LayerView, fold: &Fold) -> Option<Reason> {
    let client = fold.distribution(crate::metrics::request_figures::RequestFigures::ttft_ms)?;
    let server = layer.ttft_ms.filter(|server| server.count == client.count)?;
    let least = server.p50_from.filter(|least| client.p50 < *least)?;
    Some(Reason::suspect(format!(
        "the median TTFT of {:.1} ms is below the {least:.1} ms that the servers say it took at least: one of both clocks is wrong",
        client.p50
    )))
}

#[cfg(test)]
mod tests {
    use crate::metrics::fixtures::{Ran, failed, run, sound};
    use crate::metrics::record::{CountSource, Outcome, RequestRecord};
    use crate::metrics::server::{Latency, LayerView, ServerView};

    /// The reasons for 20 answers of 10 tokens, counted by the server, when the engine says so.
    fn reasons(engine: LayerView, change: impl Fn(&mut Vec<RequestRecord>)) -> Vec<String> {
        let mut records = sound();
        records.iter_mut().for_each(|record| record.osl_source = CountSource::Usage);
        change(&mut records);
        let mut ran: Ran = run(records);
        ran.run.servers = Some(ServerView { engine: Some(engine), frontend: None });
        super::reasons(&ran, &ran.fold()).into_iter().map(|reason| reason.text).collect()
    }

    fn counted(output_tokens: u64) -> LayerView {
        LayerView { pages: 1, output_tokens: Some(output_tokens), ..LayerView::default() }
    }

    #[test]
    fn tokens_of_the_servers_are_those_of_the_answers() {
        let all: u64 = sound().iter().map(|record| record.osl).sum();
        assert_eq!(reasons(counted(all), |_| {}), Vec::<String>::new());
        assert_eq!(reasons(counted(all + all / 200), |_| {}), Vec::<String>::new());
        let more = reasons(counted(all * 2), |_| {});
        assert!(more[0].ends_with("the servers had other requests too"), "{more:?}");
        let less = reasons(counted(all - 1), |_| {});
        assert!(less[0].contains(&format!("counted {} output tokens", all - 1)), "{less:?}");
    }

    #[test]
    fn tokens_of_cut_answers_are_not_compared() {
        let with_failure =
            |records: &mut Vec<RequestRecord>| records.push(failed(99, 1_000, Outcome::Timeout));
        assert_eq!(reasons(counted(7), with_failure), Vec::<String>::new());
        let by_tokenizer = |records: &mut Vec<RequestRecord>| records[0].osl_source = CountSource::Tokenizer;
        assert_eq!(reasons(counted(7), by_tokenizer), Vec::<String>::new());
    }

    #[test]
    fn no_client_is_faster_than_its_server() {
        let client = 50.0; // of every record
        let server = |p50_from: f64, count: u64| {
            let latency = Latency {
                count,
                avg: 1.0,
                p50: None,
                p90: None,
                p95: None,
                p99: None,
                p50_from: Some(p50_from),
            };
            LayerView { ttft_ms: Some(latency), ..LayerView::default() }
        };
        assert_eq!(reasons(server(client - 1.0, 20), |_| {}), Vec::<String>::new());
        assert_eq!(reasons(server(client + 5.0, 20), |_| {}).len(), 1);
        assert_eq!(reasons(server(client + 5.0, 21), |_| {}), Vec::<String>::new(), "other requests");
    }
}
