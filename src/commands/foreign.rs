//! Options of `vllm bench serve` and AIPerf (genai-perf) that `bench` has in another form. Those that mean the same are hidden
//! aliases of its own flags.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};

const SLO: &str = "--slo, with units: --slo ttft:500ms,itl:20ms,e2e:10s";
const SPACING: &str = "--arrival constant|poisson|gamma:SHAPE";
const FILE: &str = "--dataset KIND:PATH for prompts, --trace KIND:PATH for a trace";
const RATE_RAMP: &str = "--rate-stages LENGTH:RATE,…";
const SAMPLING: &str = "--extra-body, e.g. --extra-body '{\"temperature\": 0}'";
const TURNS: &str = "--turns N; --requests then counts conversations";
const PERCENTILES: &str = "tokmark always reports every figure with its percentiles: leave it out";
const QUIET: &str = "tokmark has no such option; -q hides the progress";

/// What `bench` has in place of an option: its own spelling, or a sentence.
const OPTIONS: [(&str, &str); 45] = [
    ("--arrival-pattern", SPACING),
    ("--arrival-smoothness", SPACING),
    ("--backend", "--endpoint chat|completions"),
    ("--burstiness", SPACING),
    ("--concurrency-ramp-duration", "--stages LENGTH:CONCURRENCY,…"),
    ("--conversation-num", TURNS),
    ("--conversation-turn-mean", TURNS),
    ("--custom-dataset-type", FILE),
    ("--dataset-name", "--dataset KIND:PATH, or --isl and --osl for random prompts"),
    ("--dataset-path", FILE),
    ("--disable-tqdm", QUIET),
    ("--extra-inputs", "--extra-body JSON"),
    ("--fixed-schedule", FILE),
    ("--goodput", SLO),
    ("--host", "--url http://HOST:PORT"),
    ("--input-file", FILE),
    ("--measurement-interval", "--duration TIME, in seconds unless it has a unit"),
    ("--metric-percentiles", PERCENTILES),
    ("--num-conversations", TURNS),
    ("--num-dataset-entries", "tokmark makes a prompt of its own for each request: leave it out"),
    ("--num-sessions", TURNS),
    ("--percentile-metrics", PERCENTILES),
    ("--port", "--url http://HOST:PORT"),
    ("--public-dataset", FILE),
    ("--ramp-up-end-rps", RATE_RAMP),
    ("--ramp-up-start-rps", RATE_RAMP),
    ("--ramp-up-strategy", RATE_RAMP),
    ("--random-prefix-len", "--system-tokens N"),
    ("--random-range-ratio", "--length-range vllm:R"),
    ("--request-rate-mode", SPACING),
    ("--request-rate-ramp-duration", RATE_RAMP),
    ("--request-rate-series", RATE_RAMP),
    ("--result-dir", "--out DIR"),
    ("--result-filename", "--out DIR; --export vllm adds the file of vLLM"),
    ("--save-result", "tokmark keeps results in any case: leave it out; --out DIR says where"),
    ("--served-model-name", "--model NAME"),
    ("--service-kind", "tokmark speaks the OpenAI API only: leave it out"),
    ("--session-turns-mean", TURNS),
    ("--set", "bench has an option for each key (tokmark bench --help); --set is for recipes"),
    ("--sharegpt-output-len", "--osl N"),
    ("--temperature", SAMPLING),
    ("--top-p", SAMPLING),
    ("--trust-remote-code", "tokmark runs no code of a model: leave it out"),
    ("--ui", QUIET),
    ("--use-legacy-max-tokens", "--max-tokens-field max_tokens"),
];

const MAX_CONCURRENCY: &str = "--max-concurrency: in tokmark it limits the requests in flight at a --rate; without a rate, the number \
                               in flight (vLLM's --max-concurrency) is --concurrency N";

/// The error of the command line `args`, in the words of `bench` when it is about an option of another tool.
pub fn explained(error: Error, args: &[OsString], line: Command) -> Error {
    let has = |word: &str| {
        args.iter().filter_map(|arg| arg.to_str()).any(|arg| arg.split('=').next() == Some(word))
    };
    let is_bench = has("bench") || has("prompts");
    let message = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(option))) if is_bench => called(option),
        (ErrorKind::MissingRequiredArgument, _) if is_bench && has("--url") && has("--max-concurrency") => {
            Some(MAX_CONCURRENCY.to_owned())
        }
        _ => None,
    };
    message.map_or(error, |message| line.clone().error(ErrorKind::UnknownArgument, message))
}

fn called(option: &str) -> Option<String> {
    let (_, ours) = OPTIONS.iter().find(|(name, _)| *name == option)?;
    let calls = if ours.starts_with("--") { "tokmark calls this " } else { "" };
    Some(format!("{option}: {calls}{ours}"))
}
