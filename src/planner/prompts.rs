//! Prompts and lengths of a load point from the keys of `[load]`, with every mistake found on the way.

use super::parsed::{Mistakes, absolute};
use super::sections::{ConversationKeys, DatasetKeys, Load, PromptKeys, TraceKeys};
use crate::plan::prompts::{
    Conversation, Dataset, DatasetKind, Prefix, PromptKind, PromptSpec, TokenizerSpec, Trace, TraceKind,
};
use crate::plan::{Endpoint, Length, Spread, WeightedShape};
use crate::recipe::prompts::RangeSection;
use crate::recipe::units::OneOrMany;

/// The prompts of a load point and their lengths.
pub(super) struct ResolvedPrompts {
    /// Prompt length; 0 where a file decides.
    pub isl: Length,
    /// Output length; 0 where a file decides.
    pub osl: Length,
    /// Everything else.
    pub prompts: PromptSpec,
}

/// Prompts and lengths from their keys; only sound if no mistake was found. `model_folder` holds the weights.
pub(super) fn resolve_prompts(
    load: &Load,
    model_folder: Option<&str>,
    mistakes: &mut Mistakes<'_>,
) -> ResolvedPrompts {
    let keys = &load.prompts;
    let source = source(load, mistakes);
    let (isl, osl, mix) = lengths(load, &source, mistakes);
    let conversation = keys.conversation.as_ref().map(|keys| conversation(keys, load, isl, mistakes));
    let prefix = keys.prefix.unwrap_or_default();
    check_prefix(&prefix, mistakes);
    let is_chat = load.endpoint == Endpoint::Chat;
    let is_synthetic = matches!(source, PromptKind::Synthetic(_));
    let is_trace = matches!(source, PromptKind::Trace(_));
    let (chat, completions) = ("with the endpoint `chat`", "with the endpoint `completions`");
    let builtin = "with the built-in tokenizer, which has no token ids";
    let text_only = "endpoint = \"completions\": chat takes text only";
    let one_prefix = "a pool of one prefix: pool = 1, pool_tokens";
    let (file, synthetic) = ("beside a file of prompts", "synthetic prompts, or no shared prefix");
    let ids = keys.token_ids;
    let has_builtin = keys.tokenizer.as_deref() == Some("builtin");
    let clashes = [
        (ids && is_chat, "token_ids", chat, text_only),
        (ids && !is_synthetic && !is_trace, "token_ids", "beside a dataset", "synthetic prompts or a trace"),
        (ids && has_builtin, "token_ids", builtin, "a tokenizer.json"),
        (ids && prefix.system_tokens > 0, "prefix.system_tokens", "with token_ids", one_prefix),
        (conversation.is_some() && !is_chat, "conversation", completions, "endpoint = \"chat\""),
        (
            conversation.is_some() && is_trace,
            "conversation",
            "beside a trace",
            "synthetic prompts or a dataset",
        ),
        (!prefix.is_empty() && !is_synthetic, "prefix", file, synthetic),
        (keys.style.is_some() && !is_synthetic, "style", file, "synthetic prompts, or no style"),
    ];
    for (_, key, found, expected) in clashes.into_iter().filter(|(clashes, ..)| *clashes) {
        mistakes.add(&format!("prompts.{key}"), format!("found {found}"), expected);
    }
    if let Some(path) = keys.reset_cache.as_deref().filter(|path| !path.starts_with('/')) {
        mistakes.add("prompts.reset_cache", format!("found {path:?}"), "a path such as /reset_prefix_cache");
    }
    let prompts = PromptSpec {
        tokenizer: tokenizer(keys, model_folder, mistakes),
        source,
        mix,
        token_ids: keys.token_ids,
        unique: keys.unique,
        salt: keys.salt,
        prefix,
        conversation,
        reset_cache: keys.reset_cache.clone(),
    };
    ResolvedPrompts { isl, osl, prompts }
}

fn tokenizer(keys: &PromptKeys, model_folder: Option<&str>, mistakes: &Mistakes<'_>) -> TokenizerSpec {
    match (keys.tokenizer.as_deref(), model_folder) {
        (Some("builtin"), _) | (None, None) => TokenizerSpec::Builtin,
        (Some("o200k_harmony"), _) => TokenizerSpec::O200kHarmony,
        (Some(path), _) => TokenizerSpec::File { path: in_recipe(path, mistakes) },
        (None, Some(folder)) => TokenizerSpec::Model { folder: folder.to_owned() },
    }
}

/// A path that the recipe names.
fn in_recipe(path: &str, mistakes: &Mistakes<'_>) -> String {
    absolute(&mistakes.parsed.input.folder, path)
}

fn source(load: &Load, mistakes: &mut Mistakes<'_>) -> PromptKind {
    let keys = &load.prompts;
    if keys.dataset.is_some() && keys.trace.is_some() {
        let expected = "one of them: whose words, or whose lengths and arrivals";
        mistakes.add("prompts.trace", "found beside prompts.dataset", expected);
    }
    let of_dataset = keys.dataset.as_ref().and_then(|keys| dataset(keys, load, mistakes));
    let of_trace = keys.trace.as_ref().and_then(|keys| trace(keys, mistakes));
    match (of_dataset, of_trace) {
        (Some(dataset), _) => PromptKind::Dataset(dataset),
        (None, Some(trace)) => PromptKind::Trace(trace),
        (None, None) => PromptKind::Synthetic(keys.style.unwrap_or_default()),
    }
}

/// Format and file of a dataset or a trace; both are needed.
fn kind_and_path<K: Copy>(
    section: &str,
    (kind, path): (Option<K>, Option<&String>),
    kinds: &[&str],
    mistakes: &mut Mistakes<'_>,
) -> Option<(K, String)> {
    if kind.is_none() {
        let expected = format!("one of {}", kinds.join(", "));
        mistakes.add(&format!("prompts.{section}.kind"), "missing", expected);
    }
    if path.is_none() {
        mistakes.add(&format!("prompts.{section}.path"), "missing", "the file");
    }
    Some((kind?, in_recipe(path?, mistakes)))
}

fn dataset(keys: &DatasetKeys, load: &Load, mistakes: &mut Mistakes<'_>) -> Option<Dataset> {
    let kinds = DatasetKind::ALL.map(DatasetKind::as_str);
    let (kind, path) = kind_and_path("dataset", (keys.kind, keys.path.as_ref()), &kinds, mistakes)?;
    let &DatasetKeys { min_tokens, max_tokens, dedupe, .. } = keys;
    if let (Some(least), Some(most)) = (min_tokens, max_tokens)
        && least > most
    {
        let found = format!("found {least}, more than max_tokens = {most}");
        mistakes.add("prompts.dataset.min_tokens", found, format!("{most} or less"));
    }
    Some(Dataset { kind, path, min_tokens, max_tokens, dedupe, own_lengths: load.osl.is_none() })
}

fn trace(keys: &TraceKeys, mistakes: &mut Mistakes<'_>) -> Option<Trace> {
    let kinds = TraceKind::ALL.map(TraceKind::as_str);
    let (kind, path) = kind_and_path("trace", (keys.kind, keys.path.as_ref()), &kinds, mistakes)?;
    let &TraceKeys { speedup, start, block_size, max_isl, max_osl, .. } = keys;
    if !(speedup > 0.0 && speedup.is_finite()) {
        mistakes.add("prompts.trace.speedup", format!("found {speedup}"), "a number above 0");
    }
    for (key, most) in [("block_size", block_size), ("max_isl", max_isl), ("max_osl", max_osl)] {
        if most == Some(0) {
            mistakes.add(&format!("prompts.trace.{key}"), "found 0", "1 or more");
        }
    }
    if block_size.is_some() && kind != TraceKind::Mooncake {
        mistakes.add(
            "prompts.trace.block_size",
            "found beside a trace without blocks",
            "kind = \"mooncake\"",
        );
    }
    Some(Trace { kind, path, speedup, start_s: start.seconds(), block_size, max_isl, max_osl, share: None })
}

/// The value of a list that has one, as in every load point.
fn one(value: &Option<OneOrMany<u32>>) -> Option<u32> {
    value.as_ref().and_then(|many| many.0.first().copied())
}

fn lengths(
    load: &Load,
    source: &PromptKind,
    mistakes: &mut Mistakes<'_>,
) -> (Length, Length, Vec<WeightedShape>) {
    let (isl, osl, range) = (one(&load.isl), one(&load.osl), load.length_range);
    let no_length = Length::fixed(0);
    let nothing = (no_length, no_length, Vec::new());
    let given = |key: &'static str, set: bool| set.then_some(key);
    let isl_keys = [given("isl", isl.is_some()), given("isl_stddev", load.isl_stddev > 0)];
    let osl_keys = [given("osl", osl.is_some()), given("osl_stddev", load.osl_stddev > 0)];
    let (of_range, of_mix) = (given("length_range", range.is_some()), given("mix", !load.mix.is_empty()));
    let mut beside = |keys: &[Option<&str>], what: &str| {
        for key in keys.iter().flatten() {
            let found = format!("found beside {what}, which has lengths of its own");
            let error = mistakes.at(key, found).next(format!("remove {key}"));
            mistakes.found.push(error);
        }
    };
    match source {
        PromptKind::Trace(_) => {
            beside(&[&isl_keys[..], &osl_keys, &[of_range, of_mix]].concat(), "prompts.trace");
            return nothing;
        }
        PromptKind::Dataset(_) => {
            beside(&[&isl_keys[..], &[of_mix]].concat(), "prompts.dataset");
            let osl = osl.map_or(no_length, |osl| Length::normal(osl, load.osl_stddev));
            return (no_length, ranged(osl, range, mistakes), Vec::new());
        }
        // The file that decides is incomplete, which is an error above.
        PromptKind::Synthetic(_) if load.prompts.dataset.is_some() || load.prompts.trace.is_some() => {
            return nothing;
        }
        PromptKind::Synthetic(_) if !load.mix.is_empty() => {
            beside(&[&isl_keys[..], &osl_keys].concat(), "mix");
        }
        PromptKind::Synthetic(_) => {}
    }
    if load.mix.is_empty() {
        for (key, value) in [("isl", isl), ("osl", osl)] {
            if value.is_none() {
                mistakes.add(key, "missing", "a number of tokens, or a list of them");
            }
        }
        let (Some(isl), Some(osl)) = (isl, osl) else { return nothing };
        let isl = ranged(Length::normal(isl, load.isl_stddev), range, mistakes);
        let osl = ranged(Length::normal(osl, load.osl_stddev), range, mistakes);
        return (isl, osl, Vec::new());
    }
    let mut shapes = Vec::new();
    for (number, keys) in (1..).zip(&load.mix) {
        let weight = keys.weight;
        if !(weight > 0.0 && weight.is_finite()) || keys.isl == 0 || keys.osl == 0 {
            mistakes.add(&format!("mix[{number}]"), "found a 0", "isl, osl and weight above 0");
        }
        shapes.push(WeightedShape {
            isl: ranged(Length::normal(keys.isl, keys.isl_stddev), range, mistakes),
            osl: ranged(Length::normal(keys.osl, keys.osl_stddev), range, mistakes),
            weight,
        });
    }
    let weights: f64 = shapes.iter().map(|shape| shape.weight).sum();
    let mean = |length: fn(&WeightedShape) -> Length| {
        let sum: f64 = shapes.iter().map(|shape| shape.weight * f64::from(length(shape).mean)).sum();
        Length::fixed((sum / weights).round() as u32)
    };
    (mean(|shape| shape.isl), mean(|shape| shape.osl), shapes)
}

/// A length drawn from the range around it, if there is one. The ends are rounded as the tools do it: down and up around the
/// nominal length (`vllm bench`), down below it (sa-bench: `int(L × r)`).
fn ranged(length: Length, range: Option<RangeSection>, mistakes: &mut Mistakes<'_>) -> Length {
    let Some(range) = range else { return length };
    if length.spread != Spread::None {
        mistakes.add("length_range", "found beside a standard deviation", "one of them");
    }
    let nominal = f64::from(length.mean);
    let (low, high) = match (range.vllm, range.sa_bench) {
        (Some(r), None) if (0.0..1.0).contains(&r) => (nominal * (1.0 - r), nominal * (1.0 + r)),
        (None, Some(r)) if r > 0.0 && r <= 1.0 => (nominal * r, nominal),
        (vllm, sa_bench) => {
            let (key, found, expected) = match (vllm, sa_bench) {
                (Some(r), None) => (".vllm", r.to_string(), "a number from 0 to below 1"),
                (None, Some(r)) => (".sa_bench", r.to_string(), "a number above 0, at most 1"),
                (Some(_), Some(_)) => ("", "vllm and sa_bench".into(), "exactly one of vllm, sa_bench"),
                (None, None) => ("", "no key".into(), "exactly one of vllm, sa_bench"),
            };
            mistakes.add(&format!("length_range{key}"), format!("found {found}"), expected);
            return length;
        }
    };
    // A hair of rounding must not take a token off 0.8 × 1000.
    let (low, high) = ((low + 1e-9).floor() as u32, (high - 1e-9).ceil() as u32);
    Length { spread: Spread::Uniform { low: low.max(1), high: high.max(1) }, ..length }
}

fn conversation(
    keys: &ConversationKeys,
    load: &Load,
    isl: Length,
    mistakes: &mut Mistakes<'_>,
) -> Conversation {
    if keys.turns == 0 {
        mistakes.add("prompts.conversation.turns", "found 0", "1 or more");
    }
    if let (Some(most), Some(first)) = (keys.max_context, one(&load.isl).max(one(&load.osl)))
        && most < first
    {
        let found = format!("found {most}, less than isl or osl");
        let expected = "room for the first prompt and its answer";
        mistakes.add("prompts.conversation.max_context", found, expected);
    }
    Conversation {
        turns: keys.turns,
        turns_stddev: keys.turns_stddev,
        turn_isl: keys.turn_isl.map_or(isl, |mean| Length::normal(mean, keys.turn_isl_stddev)),
        think_s: keys.think_time.seconds(),
        think_stddev_s: keys.think_time_stddev.seconds(),
        max_context: keys.max_context,
    }
}

fn check_prefix(prefix: &Prefix, mistakes: &mut Mistakes<'_>) {
    if (prefix.pool == 0) != (prefix.pool_tokens == 0) {
        let found = "found without the other: pool and pool_tokens";
        mistakes.add("prompts.prefix.pool", found, "how many prefixes, and how many tokens each");
    }
    if !(0.0..=1.0).contains(&prefix.hit_ratio) {
        mistakes.add("prompts.prefix.hit_ratio", format!("found {}", prefix.hit_ratio), "0 to 1");
    }
}
