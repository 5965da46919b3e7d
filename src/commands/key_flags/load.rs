//! Flags of `bench` for the server, the requests to it, how they arrive, and when a load point ends.

use clap::ArgAction::Append;
use clap::{Arg, ArgMatches};
use toml::Value;

use super::prompts::{TRACE, prompts};
use super::value::{
    BY_REFERENCE, ENDPOINT, PATH, absolute, concurrency_stages, count, endpoint, goal, object, objective,
    one_of, rate, rate_stages, reference, sets, spacing, start, text, time, trimmed, whole,
};
use super::{Group, key_flags};
use crate::document::{InputError, join};
use crate::plan::choices::Flag;
use crate::recipe::secret::{is_reference, is_secret_header};

/// Everything that `bench` can set.
#[derive(Debug)]
pub(in crate::commands) struct Bench;

impl Group for Bench {
    fn args() -> Vec<Arg> {
        [server(), request(), arrivals(), ends(), prompts()].concat()
    }
}

const HEADERS: &str = "deploy.connection.headers";
const INSECURE: &str = "deploy.connection.insecure";

fn server() -> Vec<Arg> {
    let mut args = key_flags! { None::<&str>;
        /// Base URL of the server, e.g. http://127.0.0.1:8000; several, repeated or with commas between them, share the load
        "--url <URL>" => "deploy.url", trimmed, action(Append), value_delimiter(','), required(true),
            alias("base-url"), short_alias('u');
        /// Model name [default: the only one the server lists]
        "--model <NAME>" => "model.name", text(), alias("model-names"), short_alias('m');
        /// Wait up to this long for a server that still starts [default: one try]
        "--wait <TIME>" => "deploy.startup_timeout", time;
    };
    args.extend(key_flags! { "Connection";
        /// Bearer token, by reference: env:NAME or file:PATH
        "--api-key <REF>" => "deploy.connection.api_key", reference;
        /// Header for every request; a value env:NAME or file:PATH is read from there, a secret only so (repeatable)
        "--header <K:V>" => HEADERS, text(), action(Append);
        /// Speak HTTP/2: without TLS by prior knowledge, with TLS by ALPN
        "--http2" => "deploy.connection.http_version", sets("2");
        /// Trust the authorities in this PEM file instead of the system's
        "--ca-file <FILE>" => "deploy.connection.ca_file", absolute, conflicts_with(INSECURE);
        /// Accept any certificate; the summary says so
        "--insecure" => INSECURE, sets(true);
        /// Proxy for every request: a URL, env:NAME or file:PATH to one with a password, or `environment` (HTTPS_PROXY and its
        /// like) [default: none]
        "--proxy <PROXY>" => "deploy.connection.proxy", text();
    });
    args
}

fn request() -> Vec<Arg> {
    let tokens_fields = ["auto", "max_tokens", "max_completion_tokens"];
    let mut args = key_flags! { None::<&str>;
        /// What the endpoint is, where its path does not tell (AIPerf)
        "--endpoint-type <ENDPOINT>" => "endpoint_type", one_of(["chat", "completions"]), hide(true);
        /// Endpoint to send requests to: chat, completions, or the path of one that does not lie below /v1, e.g.
        /// /v1beta/openai/chat/completions [default: chat]
        "--endpoint <ENDPOINT>" => ENDPOINT, endpoint, alias("custom-endpoint");
        /// Ask for the whole answer at once
        "--no-stream" => "load.streaming", sets(false);
        /// Stream the answers, which is the default (AIPerf)
        "--streaming" => "streaming", sets(true), hide(true), conflicts_with("load.streaming");
        /// Let the server end answers early instead of asking for exactly OSL tokens
        "--respect-eos" => "load.ignore_eos", sets(false);
        /// Ask for exactly OSL tokens, which is the default (vLLM)
        "--ignore-eos" => "ignore_eos", sets(true), hide(true), conflicts_with("load.ignore_eos");
        /// Field that limits the output length; auto: max_tokens, or max_completion_tokens where a chat server refuses that
        /// [default: auto]
        "--max-tokens-field <FIELD>" => "load.max_tokens_field", one_of(tokens_fields);
        /// Ask for usage in every chunk of a stream
        "--continuous-usage-stats" => "load.continuous_usage_stats", sets(true), conflicts_with("load.streaming");
        /// JSON object merged into every request body
        "--extra-body <JSON>" => "load.extra_body", object;
    };
    args.extend(key_flags! { "Time limits";
        /// Limit of a whole request [default: 600s]
        "--request-timeout <TIME>" => "load.request_timeout", time, alias("request-timeout-seconds");
        /// Longest wait for a connection, name resolution and TLS included [default: 30s]
        "--connect-timeout <TIME>" => "load.connect_timeout", time;
        /// Longest wait from the send to the first content [default: none]
        "--first-token-timeout <TIME>" => "load.first_token_timeout", time;
        /// Longest silence within an answer [default: 120s]
        "--stall-timeout <TIME>" => "load.stall_timeout", time;
    });
    args
}

fn arrivals() -> Vec<Arg> {
    key_flags! { None::<&str>;
        /// Requests in flight: a number, or a list for one load point each [default: 1]
        "--concurrency <LIST>" => "load.concurrency", count(1), action(Append), value_delimiter(','),
            conflicts_with_all(["load.rate", "rate_stages", TRACE]);
        /// Arrivals per second (open loop) instead of a concurrency: a number, or a list for one load point each
        "--rate <LIST>" => "load.rate", rate, alias("request-rate"), group("open"), action(Append),
            value_delimiter(',');
        /// A ramp of the concurrency, in k6's notation: LENGTH:TARGET, each a straight line from the last target, e.g.
        /// 30s:10,2m:50,1m:50,30s:0. With :hold behind it a stage jumps to its target; :cool-down leaves the last ones out of the
        /// figures
        "--stages <STAGES>" => "stages", concurrency_stages, group("ramp"),
            conflicts_with_all(["load.concurrency", "open", "stop"]);
        /// A ramp of the rate, in the same notation
        "--rate-stages <STAGES>" => "rate_stages", rate_stages, groups(["open", "ramp"]), conflicts_with("stop");
        /// Concurrency or rate at the start of the ramp [default: 0]
        "--stages-from <N>" => "stages_from", start, requires("ramp");
        /// How arrivals are spaced: constant, poisson or gamma:SHAPE [default: poisson]
        "--arrival <KIND>" => "load.arrival", spacing, requires("open");
        /// Limit of the requests in flight in an open loop
        "--max-concurrency <N>" => "load.max_concurrency", count(1), requires("open");
        /// When the limit is reached: queue the arrival, or drop it [default: queue]
        "--when-full <POLICY>" => "load.when_full", one_of(["queue", "drop"]), requires("load.max_concurrency");
    }
}

fn ends() -> Vec<Arg> {
    key_flags! { None::<&str>;
        /// Stop after this many requests; in an open loop after this many arrivals
        "--requests <N>" => "load.requests", whole(1), aliases(["num-prompts", "request-count", "num-requests"]), group("stop");
        /// Stop after this many requests per unit of concurrency [default: 8]
        "--requests-per-concurrency <K>" => "load.requests_per_concurrency", count(1), group("stop"),
            conflicts_with_all(["load.rate", TRACE]);
        /// Send for this long [default with --rate: 60s]
        "--duration <TIME>" => "load.duration", time, alias("benchmark-duration"), group("stop");
        /// Requests in flight at the end: drain waits for them, cut cancels them [default: drain]
        "--at-end <POLICY>" => "load.at_end", one_of(["drain", "cut"]);
        /// Cancel what is still in flight after draining for this long [default: the time limit of each request]
        "--drain-timeout <TIME>" => "load.drain_timeout", time, alias("benchmark-grace-period");
        /// Requests before the measured window [default: 0]
        "--warmup <N>" => "load.warmup_requests", whole(0),
            aliases(["warmup-request-count", "num-warmup-requests", "num-warmups"]);
        /// Warm up for this long instead of a number of requests
        "--warmup-duration <TIME>" => "load.warmup_duration", time, conflicts_with("load.warmup_requests");
        /// Measure each load point this many times, in shuffled order [default: 1]
        "--repeats <N>" => "load.repeats", count(1);
        /// Repeat only until a 95 % confidence interval is narrow enough, --repeats times at most: "ci 2%" of the output throughput,
        /// "ci 5% of ttft_ms.p99" of another figure
        "--until <PRECISION>" => "load.until", text(), requires("load.repeats");
        /// Look for the largest concurrency (with --rate the largest rate) that keeps an objective, e.g. "ttft.p99 < 500ms",
        /// "errors < 1%", "goodput > 95%" (repeatable); or for the highest `throughput`
        "--search <GOAL>" => "search.goal", goal, action(Append), conflicts_with("ramp");
        /// Largest load to search [default: 1024]
        "--search-max <N>" => "search.max", start, requires("search.goal");
        /// Objectives for goodput, e.g. ttft:500ms,itl:20ms,e2e:10s
        "--slo <LIST>" => "load.slo", objective, action(Append), value_delimiter(',');
        /// Seed of prompts and lengths [default: 0]
        "--seed <N>" => "load.seed", whole(0), alias("random-seed");
    }
}

fn is_path(matches: &ArgMatches) -> bool {
    let endpoint = matches.get_one::<Value>(ENDPOINT).and_then(Value::as_str);
    endpoint.is_some_and(|endpoint| endpoint.starts_with('/'))
}

/// The key that a flag sets: its id, except for flags that share a key.
pub(super) fn key<'a>(id: &'a str, matches: &ArgMatches) -> &'a str {
    match id {
        "stages" | "rate_stages" => "load.stages",
        "streaming" => "load.streaming",
        "endpoint_type" => ENDPOINT,
        ENDPOINT if is_path(matches) => PATH,
        "ignore_eos" => "load.ignore_eos",
        "stages_from" if matches.contains_id("stages") => "load.start_concurrency",
        "stages_from" => "load.start_rate",
        other => other,
    }
}

/// The flags with each header apart. Headers are checked here, because clap would print a refused value.
pub(in crate::commands) fn with_headers(flags: Vec<Flag>) -> Result<Vec<Flag>, InputError> {
    let mut apart = Vec::new();
    for flag in flags {
        match flag.value {
            Value::Array(headers) if flag.key == HEADERS => {
                for text in headers.iter().filter_map(Value::as_str) {
                    apart.push(header(text)?);
                }
            }
            _ => apart.push(flag),
        }
    }
    Ok(apart)
}

fn header(text: &str) -> Result<Flag, InputError> {
    let (name, value) = text
        .split_once(':')
        .ok_or_else(|| InputError::new("--header", "no `:` in it").expected("NAME:VALUE"))?;
    let (name, value) = (name.trim(), value.trim());
    let flag = format!("--header {name}");
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        let problem = format!("{name:?} is no name of a header");
        return Err(InputError::new(flag, problem).expected("letters, digits, `-`, `_` and `.`"));
    }
    if is_secret_header(name) && !is_reference(value) {
        let next = "put the whole value into a variable, and its name behind env:";
        return Err(InputError::new(flag, BY_REFERENCE).next(next));
    }
    Ok(Flag { flag, key: join(HEADERS, name), value: value.into() })
}
