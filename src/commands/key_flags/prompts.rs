//! Flags of `bench` and `prompts` for the content of requests.

use clap::Arg;

use super::value::{
    ENDPOINT, count, endpoint, kind_and_path, number, one_of, range, sets, text, time, whole,
};
use super::{Group, KeyFlags, key_flags};
use crate::plan::choices::Flag;
use crate::recipe::prompts::{DatasetKind, TraceKind};

/// Default length of synthetic prompts and of their answers, tokens.
const LENGTH: i64 = 128;

const DATASET: &str = "load.prompts.dataset";
pub(super) const TRACE: &str = "load.prompts.trace";
const TURNS: &str = "load.prompts.conversation.turns";
const POOL: &str = "load.prompts.prefix.pool";
const POOL_TOKENS: &str = "load.prompts.prefix.pool_tokens";

/// Everything that `prompts` can set.
#[derive(Debug)]
pub(in crate::commands) struct Prompts;

impl Group for Prompts {
    fn args() -> Vec<Arg> {
        let mut args: Vec<Arg> = key_flags! { None::<&str>;
            /// Model name in the request bodies
            "--model <NAME>" => "model.name", text(), conflicts_with("recipe");
            /// Endpoint [default: chat]
            "--endpoint <ENDPOINT>" => ENDPOINT, endpoint, conflicts_with("recipe");
            /// Seed of prompts and lengths [default: 0]
            "--seed <N>" => "load.seed", whole(0), conflicts_with("recipe");
        };
        args.extend(prompts());
        args
    }
}

/// What is sent.
pub(super) fn prompts() -> Vec<Arg> {
    let dataset = |text: &str| kind_and_path(text, &DatasetKind::ALL.map(DatasetKind::as_str));
    let trace = |text: &str| kind_and_path(text, &TraceKind::ALL.map(TraceKind::as_str));
    key_flags! { "Prompts";
        /// Prompt length, tokens [default: 128]
        "--isl <N>" => "load.isl", count(1),
            aliases(["random-input-len", "input-len", "synthetic-input-tokens-mean", "prompt-input-tokens-mean"]);
        /// Standard deviation of the prompt length
        "--isl-stddev <S>" => "load.isl_stddev", count(0),
            aliases(["synthetic-input-tokens-stddev", "prompt-input-tokens-stddev"]);
        /// Output length, tokens [default: 128; with a dataset the length of its answers]
        "--osl <N>" => "load.osl", count(1),
            aliases(["random-output-len", "output-len", "output-tokens-mean", "prompt-output-tokens-mean"]);
        /// Standard deviation of the output length
        "--osl-stddev <S>" => "load.osl_stddev", count(0),
            aliases(["output-tokens-stddev", "prompt-output-tokens-stddev"]);
        /// Draw lengths evenly: vllm:R from L(1-R) to L(1+R), sa-bench:R from LR to L
        "--length-range <KIND:R>" => "load.length_range", range;
        /// Send real prompts from a file: dolly, sharegpt, openassistant or jsonl
        "--dataset <KIND:PATH>" => DATASET, dataset;
        /// Skip shorter prompts of the dataset, tokens
        "--min-prompt <N>" => "load.prompts.dataset.min_tokens", count(0), requires(DATASET);
        /// Skip longer prompts of the dataset, tokens
        "--max-prompt <N>" => "load.prompts.dataset.max_tokens", count(0), requires(DATASET);
        /// Take lengths, arrivals and shared blocks from a trace: mooncake, burstgpt or azure
        "--trace <KIND:PATH>" => TRACE, trace, group("open"), conflicts_with(DATASET);
        /// Run the clock of the trace X times as fast
        "--speedup <X>" => "load.prompts.trace.speedup", number, requires(TRACE);
        /// Leave out this much time at the start of the trace
        "--trace-start <TIME>" => "load.prompts.trace.start", time, requires(TRACE);
        /// Tokens of a block of hash_ids in the trace [default: the file's, 512, or the only size that fits every row]
        "--block-size <N>" => "load.prompts.trace.block_size", count(1), requires(TRACE);
        /// Cut longer prompts of the trace to this many tokens
        "--max-isl <N>" => "load.prompts.trace.max_isl", count(0), requires(TRACE);
        /// Cut longer answers of the trace to this many tokens
        "--max-osl <N>" => "load.prompts.trace.max_osl", count(0), requires(TRACE);
        /// Count tokens with builtin (one per word), o200k_harmony, or a tokenizer.json or tiktoken.model or its folder
        /// [default: builtin]
        "--tokenizer <PATH|NAME>" => "load.prompts.tokenizer", text();
        /// Words of synthetic prompts [default: random]
        "--style <STYLE>" => "load.prompts.style", one_of(["random", "natural"]);
        /// Send token ids instead of text (completions only)
        "--token-ids" => "load.prompts.token_ids", sets(true);
        /// Number mixed into the first words of each prompt, so that no run repeats the prompts of another [default of bench: random]
        "--salt <N>" => SALT, whole(0);
        /// Do not begin each prompt with words of its own
        "--not-unique" => "load.prompts.unique", sets(false);
        /// Tokens of a system prompt that all requests share
        "--system-tokens <N>" => "load.prompts.prefix.system_tokens", count(0), alias("shared-system-prompt-length");
        /// Number of prefixes that requests share
        "--prefix-pool <N>" => POOL, count(0), requires(POOL_TOKENS),
            aliases(["num-prefix-prompts", "prompt-prefix-pool-size"]);
        /// Tokens of each shared prefix
        "--prefix-tokens <N>" => POOL_TOKENS, count(0), requires(POOL),
            aliases(["prefix-prompt-length", "prompt-prefix-length"]);
        /// Share of the requests that begin with a shared prefix [default: 1]
        "--prefix-hit-ratio <R>" => "load.prompts.prefix.hit_ratio", number, requires(POOL);
        /// Hold conversations of this many turns; concurrency and requests then count conversations
        "--turns <N>" => TURNS, count(1);
        /// Standard deviation of the turns
        "--turns-stddev <S>" => "load.prompts.conversation.turns_stddev", count(0), requires(TURNS);
        /// Tokens of the user's messages after the first [default: isl]
        "--turn-isl <N>" => "load.prompts.conversation.turn_isl", count(0), requires(TURNS);
        /// Standard deviation of those tokens
        "--turn-isl-stddev <S>" => "load.prompts.conversation.turn_isl_stddev", count(0), requires(TURNS);
        /// Mean time between an answer and the next message
        "--think-time <TIME>" => "load.prompts.conversation.think_time", time, requires(TURNS);
        /// Standard deviation of that time
        "--think-time-stddev <TIME>" => "load.prompts.conversation.think_time_stddev", time, requires(TURNS);
        /// Leave out older turns so that prompt and answer together stay within this many tokens
        "--max-context <N>" => "load.prompts.conversation.max_context", count(0), requires(TURNS);
        /// Empty the prefix cache before each load point by a POST to this path
        "--reset-cache <PATH>" => "load.prompts.reset_cache", text();
    }
}

/// The one of these keys that a recipe's prompts may be shown with.
pub(in crate::commands) const SALT: &str = "load.prompts.salt";

impl<G> KeyFlags<G> {
    /// The flags with the default lengths, which the base recipe lacks because a prompt file may bring its own.
    pub(in crate::commands) fn with_lengths(&self) -> Vec<Flag> {
        let is_given = |key: &str| self.0.iter().any(|flag| flag.key == key);
        let mut flags = self.0.clone();
        for (flag, key) in [("--isl", "load.isl"), ("--osl", "load.osl")] {
            if ![key, DATASET, TRACE].into_iter().any(is_given) {
                flags.push(Flag { flag: flag.into(), key: key.into(), value: LENGTH.into() });
            }
        }
        flags
    }
}
