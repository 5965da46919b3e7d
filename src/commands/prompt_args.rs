//! Options of `bench` and `prompts` that say what is sent.

use std::path::Path;

use clap::Args;

use crate::document::{InputError, InputErrors};
use crate::plan::Endpoint;
use crate::planner::prompts::{self, Asked, Said};
use crate::recipe::prompts::{
    ConversationSection, DatasetKind, DatasetSection, PrefixSection, PromptSection, RangeSection, Style,
    TraceKind, TraceSection,
};
use crate::recipe::units::Span;

/// Lengths when nothing says so, tokens.
const LENGTH: u32 = 128;

/// What is sent.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Prompts")]
pub(super) struct PromptArgs {
    /// Prompt length, tokens [default: 128]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    isl: Option<u32>,
    /// Standard deviation of the prompt length
    #[arg(long, value_name = "S", default_value_t = 0)]
    isl_stddev: u32,
    /// Output length, tokens [default: 128, or that of the file]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    osl: Option<u32>,
    /// Standard deviation of the output length
    #[arg(long, value_name = "S", default_value_t = 0)]
    osl_stddev: u32,
    /// Draw lengths evenly: vllm:R from L(1-R) to L(1+R), sa-bench:R from LR to L
    #[arg(long, value_name = "KIND:R", value_parser = range)]
    length_range: Option<RangeSection>,
    /// Real prompts: dolly, sharegpt, openassistant or jsonl, and the file
    #[arg(long, value_name = "KIND:PATH", value_parser = dataset)]
    dataset: Option<(DatasetKind, String)>,
    /// Shortest real prompt that is used, tokens
    #[arg(long, value_name = "N", requires = "dataset")]
    min_prompt: Option<u32>,
    /// Longest real prompt that is used, tokens
    #[arg(long, value_name = "N", requires = "dataset")]
    max_prompt: Option<u32>,
    /// Lengths, arrivals and shared blocks of a trace: mooncake, burstgpt or azure, and the file
    #[arg(long, value_name = "KIND:PATH", group = "open", value_parser = trace, conflicts_with = "dataset")]
    trace: Option<(TraceKind, String)>,
    /// The trace's clock runs this many times as fast
    #[arg(long, value_name = "X", requires = "trace")]
    speedup: Option<f64>,
    /// Time of the trace that is left out at its start
    #[arg(long, value_name = "TIME", requires = "trace")]
    trace_start: Option<Span>,
    /// Longer prompts of the trace are cut to this many tokens
    #[arg(long, value_name = "N", requires = "trace")]
    max_isl: Option<u32>,
    /// Longer answers of the trace are cut to this many tokens
    #[arg(long, value_name = "N", requires = "trace")]
    max_osl: Option<u32>,
    /// How tokens are counted: builtin (a word a token), o200k_harmony, or a tokenizer.json or its folder [default: builtin]
    #[arg(long, value_name = "PATH|NAME")]
    tokenizer: Option<String>,
    /// Words of synthetic prompts [default: random]
    #[arg(long, value_name = "STYLE", value_parser = ["random", "natural"])]
    style: Option<String>,
    /// Send token numbers in place of text (completions only)
    #[arg(long)]
    token_ids: bool,
    /// Stirs the first words of each prompt, so that no run finds another's in a cache [default of bench: drawn]
    #[arg(long, value_name = "N")]
    salt: Option<u64>,
    /// Do not begin each prompt with words of its own
    #[arg(long)]
    not_unique: bool,
    /// Tokens of a system prompt that all requests share
    #[arg(long, value_name = "N")]
    system_tokens: Option<u32>,
    /// Prefixes in a pool
    #[arg(long, value_name = "N", requires = "prefix_tokens")]
    prefix_pool: Option<u32>,
    /// Tokens of each prefix of the pool
    #[arg(long, value_name = "N", requires = "prefix_pool")]
    prefix_tokens: Option<u32>,
    /// Share of the requests that begin with a prefix of the pool [default: 1]
    #[arg(long, value_name = "R", requires = "prefix_pool")]
    prefix_hit_ratio: Option<f64>,
    /// Conversations of this many turns; concurrency and requests then count conversations
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    turns: Option<u32>,
    /// Standard deviation of the turns
    #[arg(long, value_name = "S", requires = "turns")]
    turns_stddev: Option<u32>,
    /// Tokens of the user's messages after the first [default: isl]
    #[arg(long, value_name = "N", requires = "turns")]
    turn_isl: Option<u32>,
    /// Standard deviation of those
    #[arg(long, value_name = "S", requires = "turns")]
    turn_isl_stddev: Option<u32>,
    /// Mean time between an answer and the next message
    #[arg(long, value_name = "TIME", requires = "turns")]
    think_time: Option<Span>,
    /// Standard deviation of that time
    #[arg(long, value_name = "TIME", requires = "turns")]
    think_time_stddev: Option<Span>,
    /// Prompt and answer together never exceed this many tokens: older turns are left out
    #[arg(long, value_name = "N", requires = "turns")]
    max_context: Option<u32>,
    /// Path that is POSTed to before each load point, to empty the prefix cache
    #[arg(long, value_name = "PATH")]
    reset_cache: Option<String>,
}

fn dataset(text: &str) -> Result<(DatasetKind, String), String> {
    named(text, &DatasetKind::ALL, DatasetKind::as_str)
}

fn trace(text: &str) -> Result<(TraceKind, String), String> {
    named(text, &TraceKind::ALL, TraceKind::as_str)
}

/// `KIND:PATH`, the kind one of `all`.
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
    /// What stirs the first words, when it is given.
    pub(super) fn salt(&self) -> Option<u64> {
        self.salt
    }

    /// Whether anything but a salt is given.
    pub(super) fn is_given(&self) -> bool {
        let lengths = [self.isl, self.osl].iter().any(Option::is_some)
            || self.isl_stddev > 0
            || self.osl_stddev > 0
            || self.length_range.is_some();
        lengths || PromptSection { salt: None, ..self.section() } != PromptSection::default()
    }

    /// Whether arrivals come from a trace.
    pub(super) fn has_trace(&self) -> bool {
        self.trace.is_some()
    }

    fn section(&self) -> PromptSection {
        let dataset = self.dataset.as_ref().map(|(kind, path)| DatasetSection {
            kind: Some(*kind),
            path: Some(path.clone()),
            min_tokens: self.min_prompt,
            max_tokens: self.max_prompt,
            dedupe: None,
        });
        let trace = self.trace.as_ref().map(|(kind, path)| TraceSection {
            kind: Some(*kind),
            path: Some(path.clone()),
            speedup: self.speedup,
            start: self.trace_start,
            max_isl: self.max_isl,
            max_osl: self.max_osl,
        });
        let prefix = PrefixSection {
            system_tokens: self.system_tokens,
            pool: self.prefix_pool,
            pool_tokens: self.prefix_tokens,
            hit_ratio: self.prefix_hit_ratio,
        };
        let conversation = self.turns.map(|turns| ConversationSection {
            turns: Some(turns),
            turns_stddev: self.turns_stddev,
            turn_isl: self.turn_isl,
            turn_isl_stddev: self.turn_isl_stddev,
            think_time: self.think_time,
            think_time_stddev: self.think_time_stddev,
            max_context: self.max_context,
        });
        PromptSection {
            tokenizer: self.tokenizer.clone(),
            style: self
                .style
                .as_deref()
                .map(|style| if style == "natural" { Style::Natural } else { Style::Random }),
            token_ids: self.token_ids.then_some(true),
            unique: self.not_unique.then_some(false),
            salt: self.salt,
            reset_cache: self.reset_cache.clone(),
            dataset,
            trace,
            prefix: (prefix != PrefixSection::default()).then_some(prefix),
            conversation,
        }
    }

    /// What these options come to.
    pub(super) fn said(&self, endpoint: Endpoint) -> Result<Said, InputErrors> {
        let synthetic = self.dataset.is_none() && self.trace.is_none();
        let asked = Asked {
            isl: self.isl.or(synthetic.then_some(LENGTH)),
            isl_stddev: self.isl_stddev,
            osl: self.osl.or(synthetic.then_some(LENGTH)),
            osl_stddev: self.osl_stddev,
            range: self.length_range,
            mix: &[],
            prompts: self.section(),
            endpoint: Some(endpoint),
            folder: None::<&Path>,
            model_folder: None,
        };
        prompts::said(&asked, &|key, problem| InputError::new(flag(key), problem)).map_err(InputErrors)
    }
}

/// The option that sets a key of `[load]`.
fn flag(key: &str) -> String {
    let last = key.rsplit('.').next().unwrap_or(key).replace('_', "-");
    let name = match key {
        "prompts.dataset.min_tokens" => "min-prompt",
        "prompts.dataset.max_tokens" => "max-prompt",
        "prompts.trace.start" => "trace-start",
        "prompts.prefix" | "prompts.prefix.pool" => "prefix-pool",
        "prompts.prefix.hit_ratio" => "prefix-hit-ratio",
        "prompts.conversation" => "turns",
        key if key.starts_with("length_range") => "length-range",
        _ => &last,
    };
    format!("--{name}")
}
