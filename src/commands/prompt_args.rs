//! Flags of `bench` and `prompts` for the content of requests.

use clap::Args;

use super::flag_layer::FlagLayer;
use crate::recipe::prompts::{DatasetKind, RangeSection, TraceKind};
use crate::recipe::units::Span;

/// Default length of synthetic prompts and of their answers, tokens.
const LENGTH: u32 = 128;

/// What is sent.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Prompts")]
pub(super) struct PromptArgs {
    /// Prompt length, tokens [default: 128]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    isl: Option<u32>,
    /// Standard deviation of the prompt length
    #[arg(long, value_name = "S")]
    isl_stddev: Option<u32>,
    /// Output length, tokens [default: 128; with a dataset the length of its answers]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    osl: Option<u32>,
    /// Standard deviation of the output length
    #[arg(long, value_name = "S")]
    osl_stddev: Option<u32>,
    /// Draw lengths evenly: vllm:R from L(1-R) to L(1+R), sa-bench:R from LR to L
    #[arg(long, value_name = "KIND:R", value_parser = range)]
    length_range: Option<RangeSection>,
    /// Send real prompts from a file: dolly, sharegpt, openassistant or jsonl
    #[arg(long, value_name = "KIND:PATH", value_parser = dataset)]
    dataset: Option<(DatasetKind, String)>,
    /// Skip shorter prompts of the dataset, tokens
    #[arg(long, value_name = "N", requires = "dataset")]
    min_prompt: Option<u32>,
    /// Skip longer prompts of the dataset, tokens
    #[arg(long, value_name = "N", requires = "dataset")]
    max_prompt: Option<u32>,
    /// Take lengths, arrivals and shared blocks from a trace: mooncake, burstgpt or azure
    #[arg(long, value_name = "KIND:PATH", group = "open", value_parser = trace, conflicts_with = "dataset")]
    trace: Option<(TraceKind, String)>,
    /// Run the clock of the trace X times as fast
    #[arg(long, value_name = "X", requires = "trace")]
    speedup: Option<f64>,
    /// Leave out this much time at the start of the trace
    #[arg(long, value_name = "TIME", requires = "trace")]
    trace_start: Option<Span>,
    /// Cut longer prompts of the trace to this many tokens
    #[arg(long, value_name = "N", requires = "trace")]
    max_isl: Option<u32>,
    /// Cut longer answers of the trace to this many tokens
    #[arg(long, value_name = "N", requires = "trace")]
    max_osl: Option<u32>,
    /// Count tokens with builtin (one per word), o200k_harmony, or a tokenizer.json or its folder [default: builtin]
    #[arg(long, value_name = "PATH|NAME")]
    tokenizer: Option<String>,
    /// Words of synthetic prompts [default: random]
    #[arg(long, value_name = "STYLE", value_parser = ["random", "natural"])]
    style: Option<String>,
    /// Send token ids instead of text (completions only)
    #[arg(long)]
    token_ids: bool,
    /// Number mixed into the first words of each prompt, so that no run repeats the prompts of another [default of bench: random]
    #[arg(long, value_name = "N", value_parser = natural())]
    salt: Option<u64>,
    /// Do not begin each prompt with words of its own
    #[arg(long)]
    not_unique: bool,
    /// Tokens of a system prompt that all requests share
    #[arg(long, value_name = "N")]
    system_tokens: Option<u32>,
    /// Number of prefixes that requests share
    #[arg(long, value_name = "N", requires = "prefix_tokens")]
    prefix_pool: Option<u32>,
    /// Tokens of each shared prefix
    #[arg(long, value_name = "N", requires = "prefix_pool")]
    prefix_tokens: Option<u32>,
    /// Share of the requests that begin with a shared prefix [default: 1]
    #[arg(long, value_name = "R", requires = "prefix_pool")]
    prefix_hit_ratio: Option<f64>,
    /// Hold conversations of this many turns; concurrency and requests then count conversations
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    turns: Option<u32>,
    /// Standard deviation of the turns
    #[arg(long, value_name = "S", requires = "turns")]
    turns_stddev: Option<u32>,
    /// Tokens of the user's messages after the first [default: isl]
    #[arg(long, value_name = "N", requires = "turns")]
    turn_isl: Option<u32>,
    /// Standard deviation of those tokens
    #[arg(long, value_name = "S", requires = "turns")]
    turn_isl_stddev: Option<u32>,
    /// Mean time between an answer and the next message
    #[arg(long, value_name = "TIME", requires = "turns")]
    think_time: Option<Span>,
    /// Standard deviation of that time
    #[arg(long, value_name = "TIME", requires = "turns")]
    think_time_stddev: Option<Span>,
    /// Leave out older turns so that prompt and answer together stay within this many tokens
    #[arg(long, value_name = "N", requires = "turns")]
    max_context: Option<u32>,
    /// Empty the prefix cache before each load point by a POST to this path
    #[arg(long, value_name = "PATH")]
    reset_cache: Option<String>,
}

/// Parses a number that fits TOML.
pub(super) fn natural() -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(..=i64::MAX as u64)
}

fn dataset(text: &str) -> Result<(DatasetKind, String), String> {
    named(text, &DatasetKind::ALL, DatasetKind::as_str)
}

fn trace(text: &str) -> Result<(TraceKind, String), String> {
    named(text, &TraceKind::ALL, TraceKind::as_str)
}

/// Parses `KIND:PATH`, where the kind is one of `all`.
fn named<T: Copy>(text: &str, all: &[T], name: fn(T) -> &'static str) -> Result<(T, String), String> {
    let names: Vec<&str> = all.iter().map(|kind| name(*kind)).collect();
    let expected = || format!("expected KIND:PATH, KIND one of {}", names.join(", "));
    let (word, path) = text.split_once(':').filter(|(_, path)| !path.is_empty()).ok_or_else(expected)?;
    let kind = all.iter().find(|kind| name(**kind) == word).ok_or_else(expected)?;
    Ok((*kind, path.to_owned()))
}

fn range(text: &str) -> Result<RangeSection, String> {
    let expected = "expected vllm:R or sa-bench:R, R a number";
    let (kind, ratio) = text.split_once(':').ok_or(expected)?;
    let ratio: f64 = ratio.parse().map_err(|_| expected)?;
    match kind {
        "vllm" => Ok(RangeSection { vllm: Some(ratio), sa_bench: None }),
        "sa-bench" => Ok(RangeSection { vllm: None, sa_bench: Some(ratio) }),
        _ => Err(expected.into()),
    }
}

impl PromptArgs {
    /// Applies the flags to a recipe.
    pub(super) fn lay(&self, layer: &mut FlagLayer) {
        layer.set("--isl", "load.isl", self.isl);
        layer.set("--isl-stddev", "load.isl_stddev", self.isl_stddev);
        layer.set("--osl", "load.osl", self.osl);
        layer.set("--osl-stddev", "load.osl_stddev", self.osl_stddev);
        layer.set("--length-range", "load.length_range", self.length_range);
        layer.set("--dataset", "load.prompts.dataset.kind", self.dataset.as_ref().map(|(kind, _)| kind));
        layer.set("--dataset", "load.prompts.dataset.path", self.dataset.as_ref().map(|(_, path)| path));
        layer.set("--min-prompt", "load.prompts.dataset.min_tokens", self.min_prompt);
        layer.set("--max-prompt", "load.prompts.dataset.max_tokens", self.max_prompt);
        layer.set("--trace", "load.prompts.trace.kind", self.trace.as_ref().map(|(kind, _)| kind));
        layer.set("--trace", "load.prompts.trace.path", self.trace.as_ref().map(|(_, path)| path));
        layer.set("--speedup", "load.prompts.trace.speedup", self.speedup);
        layer.set("--trace-start", "load.prompts.trace.start", self.trace_start);
        layer.set("--max-isl", "load.prompts.trace.max_isl", self.max_isl);
        layer.set("--max-osl", "load.prompts.trace.max_osl", self.max_osl);
        layer.set("--tokenizer", "load.prompts.tokenizer", self.tokenizer.as_ref());
        layer.set("--style", "load.prompts.style", self.style.as_ref());
        layer.switch("--token-ids", "load.prompts.token_ids", self.token_ids, true);
        layer.set("--salt", "load.prompts.salt", self.salt);
        layer.switch("--not-unique", "load.prompts.unique", self.not_unique, false);
        layer.set("--system-tokens", "load.prompts.prefix.system_tokens", self.system_tokens);
        layer.set("--prefix-pool", "load.prompts.prefix.pool", self.prefix_pool);
        layer.set("--prefix-tokens", "load.prompts.prefix.pool_tokens", self.prefix_tokens);
        layer.set("--prefix-hit-ratio", "load.prompts.prefix.hit_ratio", self.prefix_hit_ratio);
        layer.set("--turns", "load.prompts.conversation.turns", self.turns);
        layer.set("--turns-stddev", "load.prompts.conversation.turns_stddev", self.turns_stddev);
        layer.set("--turn-isl", "load.prompts.conversation.turn_isl", self.turn_isl);
        layer.set("--turn-isl-stddev", "load.prompts.conversation.turn_isl_stddev", self.turn_isl_stddev);
        layer.set("--think-time", "load.prompts.conversation.think_time", self.think_time);
        layer.set(
            "--think-time-stddev",
            "load.prompts.conversation.think_time_stddev",
            self.think_time_stddev,
        );
        layer.set("--max-context", "load.prompts.conversation.max_context", self.max_context);
        layer.set("--reset-cache", "load.prompts.reset_cache", self.reset_cache.as_ref());
    }

    /// Applies the flags to the recipe of `bench`, which sets no lengths because a prompt file may bring its own.
    pub(super) fn lay_with_lengths(&self, layer: &mut FlagLayer) {
        let length = (self.dataset.is_none() && self.trace.is_none()).then_some(LENGTH);
        Self { isl: self.isl.or(length), osl: self.osl.or(length), ..self.clone() }.lay(layer);
    }
}
