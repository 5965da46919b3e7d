//! The view of the servers on a load point, for `summary.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::histogram::{Histogram, Latency};
use super::page::{Figures, Layer, Page};

/// What the metrics pages of all servers said around a measured window: one page a server, in the same order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Watched {
    /// Before the first measured request. Empty if a page was not to be had.
    pub before: Vec<Page>,
    /// After the last request has ended.
    pub after: Vec<Page>,
    /// Of each server, the pages read during the window.
    pub during: Vec<Vec<Page>>,
}

/// What the servers say of a load point.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ServerView {
    /// All engines together; `null` when a page of theirs was not to be had.
    pub engine: Option<LayerView>,
    /// All frontends before them together; `null` without one that publishes figures.
    pub frontend: Option<LayerView>,
}

/// The figures of one layer over the measured window. What its pages do not have is `null`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LayerView {
    /// Metrics pages it was read from.
    pub pages: usize,
    /// Time to first token.
    pub ttft_ms: Option<Latency>,
    /// Waiting inside the server before the first step.
    pub queue_ms: Option<Latency>,
    /// First step → first token.
    pub prefill_ms: Option<Latency>,
    /// First token → last token.
    pub decode_ms: Option<Latency>,
    /// Inter-token latency.
    pub itl_ms: Option<Latency>,
    /// Arrival → last token.
    pub e2e_ms: Option<Latency>,
    /// Requests in the batch.
    pub running: Option<Level>,
    /// Requests that wait for a place in it.
    pub waiting: Option<Level>,
    /// Share of the KV cache in use, of the fullest rank.
    pub kv_cache: Option<Level>,
    /// Requests that ended in the window.
    pub requests: Option<u64>,
    /// Prompt tokens of requests that ended.
    pub prompt_tokens: Option<u64>,
    /// Tokens generated.
    pub output_tokens: Option<u64>,
    /// Requests taken out of the batch for want of memory.
    pub preemptions: Option<u64>,
    /// Speculative decoding; `null` when nothing was drafted.
    pub speculation: Option<Speculation>,
    /// Highest and lowest number of generated tokens of a page, as a ratio; `null` for one page.
    pub imbalance: Option<f64>,
}

/// A gauge during the window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Level {
    /// Mean of the samples, one a second.
    pub avg: f64,
    /// Highest sample.
    pub max: f64,
}

/// Speculative decoding in the window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Speculation {
    /// Drafts that were verified.
    pub drafts: u64,
    /// Tokens in them.
    pub draft_tokens: u64,
    /// Of those, accepted.
    pub accepted_tokens: u64,
    /// `accepted_tokens / draft_tokens`
    pub acceptance_rate: f64,
    /// Mean tokens a step yields: 1 + accepted tokens per draft.
    pub acceptance_length: f64,
    /// Share of the drafts whose token at this position was accepted, from the first on; empty if not published.
    pub rate_by_position: Vec<f64>,
}

impl ServerView {
    /// The view on a window; `None` when no page has figures that this program knows.
    pub fn of(watched: &Watched) -> Option<Self> {
        let of = |layer| LayerView::of(layer, watched);
        let view = Self { engine: of(Layer::Engine), frontend: of(Layer::Frontend) };
        (view != Self::default()).then_some(view)
    }

    /// The layer nearest to the client.
    pub fn nearest(&self) -> Option<&LayerView> {
        self.frontend.as_ref().or(self.engine.as_ref())
    }
}

impl LayerView {
    fn of(layer: Layer, watched: &Watched) -> Option<Self> {
        let pages: Vec<(&Figures, &Figures)> = watched
            .before
            .iter()
            .zip(&watched.after)
            .filter_map(|(before, after)| Some((before.layers.get(&layer)?, after.layers.get(&layer)?)))
            .collect();
        // A series that appears with the first request is on the later page alone.
        let has_layer = |pages: &[Page]| pages.iter().filter(|page| page.layers.contains_key(&layer)).count();
        if pages.is_empty() || has_layer(&watched.after) != pages.len() {
            return None;
        }
        let latency = |role: &str| {
            let mut all = Histogram::default();
            for (before, after) in &pages {
                let nothing = Histogram::default();
                let after = after.histograms.get(role)?;
                all.add(&after.since(before.histograms.get(role).unwrap_or(&nothing))?);
            }
            all.latency()
        };
        let level = |role: &str| {
            // One number an instant, the sum over servers; a share is that of the fullest.
            let samples: Vec<Vec<f64>> = watched
                .during
                .iter()
                .map(|pages| {
                    pages
                        .iter()
                        .filter_map(|page| page.layers.get(&layer)?.gauges.get(role).copied())
                        .collect()
                })
                .filter(|samples: &Vec<f64>| !samples.is_empty())
                .collect();
            let shortest = samples.iter().map(Vec::len).min()?;
            let join = |at: usize| {
                let values = samples.iter().filter_map(|samples| samples.get(at).copied());
                if role == "kv_cache" { values.fold(0.0, f64::max) } else { values.sum() }
            };
            let joined: Vec<f64> = (0..shortest).map(join).collect();
            let max = joined.iter().copied().fold(0.0, f64::max);
            Some(Level { avg: joined.iter().sum::<f64>() / joined.len() as f64, max })
        };
        let each = |role: &str| -> Option<Vec<f64>> {
            let risen = |(before, after): &(&Figures, &Figures)| {
                let risen = after.counters.get(role)? - before.counters.get(role).copied().unwrap_or(0.0);
                (risen >= 0.0).then_some(risen)
            };
            pages.iter().map(risen).collect()
        };
        // `as` saturates.
        let counter = |role: &str| each(role).map(|each| each.iter().sum::<f64>().round() as u64);
        let generated = each("output_tokens").filter(|each| each.len() > 1);
        let imbalance = generated.and_then(|each| {
            let (least, most) = (
                each.iter().copied().fold(f64::INFINITY, f64::min),
                each.iter().copied().fold(0.0, f64::max),
            );
            (least > 0.0).then(|| most / least)
        });
        Some(Self {
            pages: pages.len(),
            ttft_ms: latency("ttft"),
            queue_ms: latency("queue"),
            prefill_ms: latency("prefill"),
            decode_ms: latency("decode"),
            itl_ms: latency("itl"),
            e2e_ms: latency("e2e"),
            running: level("running"),
            waiting: level("waiting"),
            kv_cache: level("kv_cache"),
            requests: counter("requests"),
            prompt_tokens: counter("prompt_tokens"),
            output_tokens: counter("output_tokens"),
            preemptions: counter("preemptions"),
            speculation: speculation(&pages, counter),
            imbalance,
        })
    }
}

fn speculation(pages: &[(&Figures, &Figures)], counter: impl Fn(&str) -> Option<u64>) -> Option<Speculation> {
    let (drafts, draft_tokens, accepted_tokens) = (
        counter("drafts").filter(|drafts| *drafts > 0)?,
        counter("draft_tokens")?,
        counter("accepted_tokens")?,
    );
    let mut at: BTreeMap<u32, f64> = BTreeMap::new();
    for (before, after) in pages {
        for (position, accepted) in &after.accepted_at {
            *at.entry(*position).or_default() +=
                accepted - before.accepted_at.get(position).copied().unwrap_or(0.0);
        }
    }
    let per_draft = |accepted: f64| accepted / drafts as f64;
    Some(Speculation {
        drafts,
        draft_tokens,
        accepted_tokens,
        acceptance_rate: if draft_tokens > 0 { accepted_tokens as f64 / draft_tokens as f64 } else { 0.0 },
        acceptance_length: 1.0 + per_draft(accepted_tokens as f64),
        rate_by_position: at.into_values().map(per_draft).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Page {
        Page::of(text)
    }

    fn captured(name: &str) -> Page {
        let path = format!("{}/tests/fixtures/metrics/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        page(&std::fs::read_to_string(path).unwrap())
    }

    #[test]
    fn roles_of_every_engine_are_known() {
        for name in ["vllm-after", "dynamo-worker"] {
            let page = captured(name);
            let engine = &page.layers[&Layer::Engine];
            for role in ["running", "waiting", "kv_cache"] {
                assert!(engine.gauges.contains_key(role), "{name}: {role}");
            }
            for role in ["ttft", "itl", "e2e"] {
                assert!(engine.histograms[role].buckets.len() > 10, "{name}: {role}");
            }
        }
        let frontend = captured("dynamo-frontend");
        assert_eq!(frontend.layers.keys().collect::<Vec<_>>(), [&Layer::Frontend]);
        for (text, role) in [
            ("vllm:gpu_cache_usage_perc{engine=\"0\"} 0.5\n", "kv_cache"),
            ("sglang:token_usage 0.5\n", "kv_cache"),
            ("trtllm_kv_cache_utilization 0.5\n", "kv_cache"),
            ("sglang:num_queue_reqs 0.5\n", "waiting"),
        ] {
            assert_eq!(page(text).layers[&Layer::Engine].gauges[role], 0.5, "{text}");
        }
        assert!(page("up 1\n<html>").layers.is_empty());
    }

    /// Pages of vLLM 0.32 on CPU before and after 407 requests.
    #[test]
    fn the_window_of_a_real_server() {
        let watched = Watched {
            before: vec![captured("vllm-before")],
            after: vec![captured("vllm-after")],
            during: Vec::new(),
        };
        let engine = ServerView::of(&watched).unwrap().engine.unwrap();
        assert_eq!(
            (engine.requests, engine.output_tokens, engine.preemptions),
            (Some(407), Some(48_203), Some(0))
        );
        let close = |latency: Option<Latency>, avg: f64| {
            let latency = latency.unwrap();
            assert!(latency.count == 407 && (latency.avg - avg).abs() < 0.1, "{latency:?}, expected {avg}");
            let [p50, p90, p99] = [latency.p50, latency.p90, latency.p99].map(Option::unwrap);
            assert!(p50 <= p90 && p90 <= p99 && latency.p50_from.unwrap() <= p50, "{latency:?}");
        };
        close(engine.ttft_ms, 1120.7);
        close(engine.queue_ms, 831.3);
        assert_eq!(engine.speculation, None);
    }

    /// Two ranks of one engine, before and after a window.
    fn window() -> Watched {
        let text = |at: f64| {
            let rank = |rank: usize, tokens: f64| {
                format!(
                    "vllm:generation_tokens_total{{engine=\"{rank}\"}} {}\nvllm:num_requests_running{{engine=\"{rank}\"}} {at}\n\
                     vllm:kv_cache_usage_perc{{engine=\"{rank}\"}} 0.{rank}5\n\
                     vllm:time_to_first_token_seconds_bucket{{engine=\"{rank}\",le=\"0.1\"}} {at}\n\
                     vllm:time_to_first_token_seconds_bucket{{engine=\"{rank}\",le=\"+Inf\"}} {at}\n\
                     vllm:time_to_first_token_seconds_sum{{engine=\"{rank}\"}} {}\n\
                     vllm:time_to_first_token_seconds_count{{engine=\"{rank}\"}} {at}\n",
                    at * tokens,
                    at * 0.08
                )
            };
            page(&(rank(0, 100.0) + &rank(1, 50.0)))
        };
        Watched { before: vec![text(1.0)], after: vec![text(11.0)], during: vec![vec![text(2.0), text(4.0)]] }
    }

    #[test]
    fn a_window_is_the_difference_of_its_pages() {
        let view = ServerView::of(&window()).unwrap();
        let engine = view.engine.unwrap();
        assert_eq!((engine.output_tokens, engine.pages, view.frontend), (Some(1500), 1, None));
        let ttft = engine.ttft_ms.unwrap();
        assert_eq!((ttft.count, ttft.p50, ttft.p50_from), (20, Some(50.0), Some(0.0)));
        assert!((ttft.avg - 80.0).abs() < 1e-9);
        assert_eq!(engine.running, Some(Level { avg: 6.0, max: 8.0 }), "both ranks");
        assert_eq!(engine.kv_cache, Some(Level { avg: 0.15, max: 0.15 }), "the fuller rank");
        assert_eq!((engine.queue_ms, engine.preemptions, engine.imbalance), (None, None, None));
    }

    #[test]
    fn servers_are_added_up_and_a_missing_page_leaves_nothing() {
        let one = window();
        let two = Watched {
            before: [one.before.clone(), one.before.clone()].concat(),
            after: [one.after.clone(), one.after.clone()].concat(),
            during: vec![one.during[0].clone(), one.during[0][..1].to_vec()],
        };
        let engine = ServerView::of(&two).unwrap().engine.unwrap();
        assert_eq!((engine.output_tokens, engine.imbalance), (Some(3000), Some(1.0)));
        assert_eq!(engine.running, Some(Level { avg: 8.0, max: 8.0 }), "instants that both have");
        let lost = Watched { before: Vec::new(), ..two };
        assert_eq!(ServerView::of(&lost), None);
    }

    #[test]
    fn a_restarted_server_has_no_counters_of_the_window() {
        let Watched { before, after, during } = window();
        let engine =
            ServerView::of(&Watched { before: after, after: before, during }).unwrap().engine.unwrap();
        assert_eq!((engine.output_tokens, engine.ttft_ms), (None, None));
    }

    #[test]
    fn speculation_has_length_and_rate_by_position() {
        let text = |drafts: f64| {
            format!(
                "vllm:spec_decode_num_drafts_total {drafts}\nvllm:spec_decode_num_draft_tokens_total {}\n\
                 vllm:spec_decode_num_accepted_tokens_total {}\n\
                 vllm:spec_decode_num_accepted_tokens_per_pos_total{{position=\"0\"}} {}\n\
                 vllm:spec_decode_num_accepted_tokens_per_pos_total{{position=\"1\"}} {}\n",
                drafts * 2.0,
                drafts * 1.25,
                drafts * 0.75,
                drafts * 0.5
            )
        };
        let watched =
            Watched { before: vec![page(&text(8.0))], after: vec![page(&text(24.0))], during: Vec::new() };
        let speculation = ServerView::of(&watched).unwrap().engine.unwrap().speculation.unwrap();
        assert_eq!((speculation.drafts, speculation.draft_tokens, speculation.accepted_tokens), (16, 32, 20));
        assert_eq!((speculation.acceptance_rate, speculation.acceptance_length), (0.625, 2.25));
        assert_eq!(speculation.rate_by_position, [0.75, 0.5]);
    }
}
