//! Reads the servers' own counters of their prefix caches.
//!
//! Counters only rise: [`CacheCount::since`] gives the difference over a load point.

use crate::metrics::record::CacheCount;
use crate::metrics::server::prometheus::{self, Sample};

/// A pair of counters.
struct Counters {
    /// Counts prompt tokens looked up.
    queried: &'static str,
    /// Counts tokens found; SGLang omits it until the first hit.
    hit: &'static str,
}

/// Counters of the engines, in tokens; the first pair on a page counts. Excludes vLLM's `external_prefix_cache_*`,
/// which counts blocks from another server, as the decode side of a disaggregated pair always gets them, and
/// `gpu_prefix_cache_*`, which counted blocks in some versions and tokens in others.
/// Sources: `vllm/v1/metrics/loggers.py`, `sglang/srt/metrics/collector.py`, `tests/fixtures/metrics`.
const ENGINES: [Counters; 3] = [
    Counters { queried: "vllm:prefix_cache_queries_total", hit: "vllm:prefix_cache_hits_total" },
    Counters { queried: "vllm:prefix_cache_queries", hit: "vllm:prefix_cache_hits" },
    Counters { queried: "sglang:prompt_tokens_total", hit: "sglang:cached_tokens_total" },
];

/// Sums of a frontend's histograms over its workers' answers (Dynamo 1.6). They count the same tokens as the engines
/// behind it, so they apply only if no engine has counters of its own.
const FRONTENDS: [Counters; 1] = [Counters {
    queried: "dynamo_frontend_input_sequence_tokens_sum",
    hit: "dynamo_frontend_cached_tokens_sum",
}];

/// Adds up the counters on these Prometheus pages over all servers and label sets; `None` if no page has any.
pub fn on_pages<Page: AsRef<str>>(pages: &[Page]) -> Option<CacheCount> {
    let pages: Vec<Vec<Sample>> = pages.iter().map(|page| prometheus::parse(page.as_ref())).collect();
    added_up(&pages, &ENGINES).or_else(|| added_up(&pages, &FRONTENDS))
}

fn added_up(pages: &[Vec<Sample>], known: &[Counters]) -> Option<CacheCount> {
    let counts = |page: &Vec<Sample>| {
        known.iter().find_map(|counters| {
            Some(CacheCount {
                queried: sum(page, counters.queried)?,
                hit: sum(page, counters.hit).unwrap_or(0),
            })
        })
    };
    pages.iter().filter_map(counts).reduce(|a, b| CacheCount {
        queried: a.queried.saturating_add(b.queried),
        hit: a.hit.saturating_add(b.hit),
    })
}

/// The sum of one name over all label sets; `None` if the page lacks it.
fn sum(page: &[Sample], name: &str) -> Option<u64> {
    let values = page.iter().filter(|sample| sample.name == name && sample.value.is_finite());
    // `as` saturates, and turns negative values into 0.
    values.map(|sample| sample.value).reduce(|a, b| a + b).map(|sum| sum as u64)
}

/// The current counters of the servers with these metrics pages. `None` if no page has counters or any page is
/// unavailable: a sum that misses a server would be wrong.
pub async fn count(urls: &[String]) -> Option<CacheCount> {
    let pages = super::pages::texts(urls).await?;
    on_pages(&pages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    /// A page captured from a real server, without histogram buckets and names unrelated to tokens or caches.
    fn captured(name: &str) -> String {
        let path = format!("{}/tests/fixtures/metrics/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    }

    fn counted(queried: u64, hit: u64) -> Option<CacheCount> {
        Some(CacheCount { queried, hit })
    }

    #[test]
    fn pages_of_real_servers() {
        assert_eq!(on_pages(&[captured("vllm")]), counted(20_681, 0));
        let (before, after) = (captured("dynamo-frontend"), captured("dynamo-frontend-later"));
        let (before, after) = (on_pages(&[before]).unwrap(), on_pages(&[after]).unwrap());
        assert_eq!((before.queried, before.hit), (46_231, 8_400));
        assert_eq!(Some(after.since(before)), counted(18_060, 8_064));
        assert_eq!(on_pages(&[captured("dynamo-mocker")]), None);
    }

    #[test]
    fn label_sets_and_servers_are_added_up() {
        let ranks = "vllm:prefix_cache_queries_total{engine=\"0\"} 100.0\n\
                     vllm:prefix_cache_queries_total{engine=\"1\"} 50.0\n\
                     vllm:prefix_cache_hits_total{engine=\"0\"} 16.0\n\
                     vllm:prefix_cache_hits_total{engine=\"1\"} 32.0\n\
                     vllm:external_prefix_cache_queries_total{engine=\"0\"} 900.0\n\
                     vllm:external_prefix_cache_hits_total{engine=\"0\"} 900.0\n";
        assert_eq!(on_pages(&[ranks]), counted(150, 48));
        let plain = "vllm:prefix_cache_queries 7\nvllm:prefix_cache_hits 2\n";
        assert_eq!(on_pages(&[ranks, plain, "up 1\n"]), counted(157, 50));
        let both = format!("{ranks}{plain}");
        assert_eq!(on_pages(&[both]), counted(150, 48), "one counter under two names");
    }

    #[test]
    fn an_engine_goes_before_the_frontend_that_repeats_it() {
        let engine = "vllm:prefix_cache_queries_total 100\nvllm:prefix_cache_hits_total 10\n".to_owned();
        assert_eq!(on_pages(&[captured("dynamo-frontend"), engine]), counted(100, 10));
    }

    #[test]
    fn sglang_has_no_counter_before_the_first_hit() {
        let fresh = "sglang:prompt_tokens_total{model_name=\"m\"} 8.0e+2\n";
        assert_eq!(on_pages(&[fresh]), counted(800, 0));
        let later = "sglang:cached_tokens_total{cache_source=\"device\"} 64\n\
                     sglang:cached_tokens_total{cache_source=\"host\"} 16\n";
        assert_eq!(on_pages(&[format!("{fresh}{later}")]), counted(800, 80));
    }

    #[test]
    fn pages_that_tell_nothing() {
        assert_eq!(on_pages::<&str>(&[]), None);
        assert_eq!(on_pages(&["", "<html>", "vllm:prefix_cache_hits_total 5\n"]), None);
        let odd = "vllm:prefix_cache_queries_total NaN\nvllm:prefix_cache_queries_total -3\n";
        assert_eq!(on_pages(&[odd]), counted(0, 0));
    }

    /// The address of a server that answers one connection with each of `answers`, then closes.
    fn served(answers: Vec<(u16, String)>) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/metrics", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let _request = stream.read(&mut [0; 4096]).unwrap();
                let head = format!(
                    "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
            }
        });
        url
    }

    #[tokio::test]
    async fn every_server_has_to_tell() {
        let page = || (200, captured("vllm"));
        assert_eq!(count(&[served(vec![page()]), served(vec![page()])]).await, counted(41_362, 0));
        assert_eq!(count(&[served(vec![page()]), served(vec![(404, String::new())])]).await, None);
        assert_eq!(count(&[served(vec![page()]), served(vec![])]).await, None, "nobody listens");
        assert_eq!(count(&["not a url".to_owned()]).await, None);
        assert_eq!(count(&[]).await, None);
    }
}
