//! Prompts and lengths of a load point from the keys of `[load]`, with every mistake found on the way.

use std::path::Path;

use crate::document::InputError;
use crate::plan::prompts::{Conversation, Dataset, Prefix, PromptKind, PromptSpec, TokenizerSpec, Trace};
use crate::plan::{Endpoint, Length, Spread, WeightedShape};
use crate::recipe::prompts::{
    ConversationSection, DatasetKind, DatasetSection, MixSection, PrefixSection, PromptSection, RangeSection,
    TraceKind, TraceSection,
};

/// Turns of a conversation when nothing says so.
const TURNS: u32 = 4;

/// The keys of `[load]` about prompts and lengths.
#[derive(Debug, Clone, Default)]
pub struct PromptKeys<'a> {
    /// `isl`
    pub isl: Option<u32>,
    /// `isl_stddev`
    pub isl_stddev: u32,
    /// `osl`
    pub osl: Option<u32>,
    /// `osl_stddev`
    pub osl_stddev: u32,
    /// `length_range`
    pub range: Option<RangeSection>,
    /// `mix`
    pub mix: &'a [MixSection],
    /// `prompts`
    pub prompts: PromptSection,
    /// `endpoint`
    pub endpoint: Option<Endpoint>,
    /// Where relative paths start; `None`: the working directory.
    pub folder: Option<&'a Path>,
    /// Folder of the weights, when there is one.
    pub model_folder: Option<String>,
}

/// The prompts of a load point and their lengths.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedPrompts {
    /// Prompt length; 0 where a file decides.
    pub isl: Length,
    /// Output length; 0 where a file decides.
    pub osl: Length,
    /// Everything else.
    pub prompts: PromptSpec,
}

/// Names the place of a key that is wrong.
pub type At<'a> = &'a dyn Fn(&str, String) -> InputError;

/// Prompts and lengths from their keys.
///
/// # Errors
/// Every mistake there is.
pub fn resolve_prompts(keys: &PromptKeys<'_>, at: At<'_>) -> Result<ResolvedPrompts, Vec<InputError>> {
    let mut errors = Vec::new();
    let section = &keys.prompts;
    let source = source(keys, at, &mut errors);
    let (isl, osl, mix) = lengths(keys, &source, at, &mut errors);
    let conversation =
        section.conversation.as_ref().map(|section| conversation(section, keys, isl, at, &mut errors));
    let prefix = section.prefix.as_ref().map(|section| prefix(section, at, &mut errors)).unwrap_or_default();
    let is_chat = keys.endpoint.unwrap_or(Endpoint::Chat) == Endpoint::Chat;
    let is_synthetic = matches!(source, PromptKind::Synthetic(_));
    let token_ids = section.token_ids.unwrap_or(false);
    let mut clash = |key: &str, found: &str, expected: &str| {
        errors.push(at(key, format!("found {found}")).expected(expected.to_owned()));
    };
    if token_ids && is_chat {
        clash(
            "prompts.token_ids",
            "with the endpoint `chat`",
            "endpoint = \"completions\": chat takes text only",
        );
    }
    if token_ids && matches!(source, PromptKind::Dataset(_)) {
        clash("prompts.token_ids", "beside a dataset", "synthetic prompts or a trace");
    }
    if token_ids && section.tokenizer.as_deref() == Some("builtin") {
        clash("prompts.token_ids", "with the built-in tokenizer, which has no token ids", "a tokenizer.json");
    }
    if token_ids && prefix.system_tokens > 0 {
        clash(
            "prompts.prefix.system_tokens",
            "with token_ids",
            "a pool of one prefix: pool = 1, pool_tokens",
        );
    }
    if conversation.is_some() && !is_chat {
        clash("prompts.conversation", "with the endpoint `completions`", "endpoint = \"chat\"");
    }
    if conversation.is_some() && matches!(source, PromptKind::Trace(_)) {
        clash("prompts.conversation", "beside a trace", "synthetic prompts or a dataset");
    }
    if !prefix.is_empty() && !is_synthetic {
        clash("prompts.prefix", "beside a file of prompts", "synthetic prompts, or no shared prefix");
    }
    if section.style.is_some() && !is_synthetic {
        clash("prompts.style", "beside a file of prompts", "synthetic prompts, or no style");
    }
    if let Some(path) = section.reset_cache.as_deref().filter(|path| !path.starts_with('/')) {
        clash("prompts.reset_cache", &format!("{path:?}"), "a path such as /reset_prefix_cache");
    }
    if !errors.is_empty() {
        // Prompt and output lengths may have the same mistake.
        errors.dedup();
        return Err(errors);
    }
    let prompts = PromptSpec {
        tokenizer: tokenizer(keys),
        source,
        mix,
        token_ids,
        unique: section.unique.unwrap_or(true),
        salt: section.salt,
        prefix,
        conversation,
        reset_cache: section.reset_cache.clone(),
    };
    Ok(ResolvedPrompts { isl, osl, prompts })
}

fn tokenizer(keys: &PromptKeys<'_>) -> TokenizerSpec {
    match (keys.prompts.tokenizer.as_deref(), &keys.model_folder) {
        (Some("builtin"), _) | (None, None) => TokenizerSpec::Builtin,
        (Some("o200k_harmony"), _) => TokenizerSpec::O200kHarmony,
        (Some(path), _) => TokenizerSpec::File { path: absolute(path, keys) },
        (None, Some(folder)) => TokenizerSpec::Model { folder: folder.clone() },
    }
}

/// A job runs in another folder than the one it was submitted from.
fn absolute(path: &str, keys: &PromptKeys<'_>) -> String {
    let joined = keys.folder.map_or_else(|| Path::new(path).to_owned(), |folder| folder.join(path));
    std::path::absolute(&joined).unwrap_or(joined).display().to_string()
}

fn source(keys: &PromptKeys<'_>, at: At<'_>, errors: &mut Vec<InputError>) -> PromptKind {
    if keys.prompts.dataset.is_some() && keys.prompts.trace.is_some() {
        errors.push(
            at("prompts.trace", "found beside prompts.dataset".into())
                .expected("one of them: whose words, or whose lengths and arrivals"),
        );
    }
    let of_dataset = keys.prompts.dataset.as_ref().and_then(|section| dataset(section, keys, at, errors));
    let of_trace = keys.prompts.trace.as_ref().and_then(|section| trace(section, keys, at, errors));
    match (of_dataset, of_trace) {
        (Some(dataset), _) => PromptKind::Dataset(dataset),
        (None, Some(trace)) => PromptKind::Trace(trace),
        (None, None) => PromptKind::Synthetic(keys.prompts.style.unwrap_or_default()),
    }
}

/// Format and file of `section`, a dataset or a trace; both are needed.
fn kind_and_path<K: Copy>(
    section: &str,
    (kind, path): (Option<K>, Option<&String>),
    kinds: &[&str],
    at: At<'_>,
    errors: &mut Vec<InputError>,
) -> Option<(K, String)> {
    let mut missing = |key: &str, expected: String| {
        errors.push(at(&format!("prompts.{section}.{key}"), "missing".into()).expected(expected));
    };
    if kind.is_none() {
        missing("kind", format!("one of {}", kinds.join(", ")));
    }
    if path.is_none() {
        missing("path", "the file".into());
    }
    Some((kind?, path?.clone()))
}

fn dataset(
    section: &DatasetSection,
    keys: &PromptKeys<'_>,
    at: At<'_>,
    errors: &mut Vec<InputError>,
) -> Option<Dataset> {
    let kinds = DatasetKind::ALL.map(DatasetKind::as_str);
    let (kind, path) = kind_and_path("dataset", (section.kind, section.path.as_ref()), &kinds, at, errors)?;
    if let (Some(least), Some(most)) = (section.min_tokens, section.max_tokens)
        && least > most
    {
        errors.push(
            at("prompts.dataset.min_tokens", format!("found {least}, more than max_tokens = {most}"))
                .expected(format!("{most} or less")),
        );
    }
    Some(Dataset {
        kind,
        path: absolute(&path, keys),
        min_tokens: section.min_tokens,
        max_tokens: section.max_tokens,
        dedupe: section.dedupe.unwrap_or(true),
        own_lengths: keys.osl.is_none(),
    })
}

fn trace(
    section: &TraceSection,
    keys: &PromptKeys<'_>,
    at: At<'_>,
    errors: &mut Vec<InputError>,
) -> Option<Trace> {
    let kinds = TraceKind::ALL.map(TraceKind::as_str);
    let (kind, path) = kind_and_path("trace", (section.kind, section.path.as_ref()), &kinds, at, errors)?;
    let speedup = section.speedup.unwrap_or(1.0);
    if !(speedup > 0.0 && speedup.is_finite()) {
        errors.push(at("prompts.trace.speedup", format!("found {speedup}")).expected("a number above 0"));
    }
    for (key, most) in [("max_isl", section.max_isl), ("max_osl", section.max_osl)] {
        if most == Some(0) {
            errors.push(at(&format!("prompts.trace.{key}"), "found 0".into()).expected("1 or more"));
        }
    }
    Some(Trace {
        kind,
        path: absolute(&path, keys),
        speedup,
        start_s: section.start.map_or(0.0, |span| span.seconds()),
        max_isl: section.max_isl,
        max_osl: section.max_osl,
        share: None,
    })
}

fn lengths(
    keys: &PromptKeys<'_>,
    source: &PromptKind,
    at: At<'_>,
    errors: &mut Vec<InputError>,
) -> (Length, Length, Vec<WeightedShape>) {
    let nothing = (Length::fixed(0), Length::fixed(0), Vec::new());
    let given = |key: &'static str, set: bool| set.then_some(key);
    let isl_keys = [given("isl", keys.isl.is_some()), given("isl_stddev", keys.isl_stddev > 0)];
    let osl_keys = [given("osl", keys.osl.is_some()), given("osl_stddev", keys.osl_stddev > 0)];
    let both = [given("length_range", keys.range.is_some()), given("mix", !keys.mix.is_empty())];
    let mut beside = |keys: &[Option<&str>], what: &str| {
        for key in keys.iter().flatten() {
            errors.push(
                at(key, format!("found beside {what}, which has lengths of its own"))
                    .next(format!("remove {key}")),
            );
        }
    };
    match source {
        PromptKind::Trace(_) => {
            beside(&[&isl_keys[..], &osl_keys, &both].concat(), "prompts.trace");
            return nothing;
        }
        PromptKind::Dataset(_) => {
            beside(&[&isl_keys[..], &both[1..]].concat(), "prompts.dataset");
            let osl = keys.osl.map_or(Length::fixed(0), |osl| Length::normal(osl, keys.osl_stddev));
            return (Length::fixed(0), ranged(osl, keys.range, at, errors), Vec::new());
        }
        // The file that decides is incomplete, which is an error above.
        PromptKind::Synthetic(_) if keys.prompts.dataset.is_some() || keys.prompts.trace.is_some() => {
            return nothing;
        }
        PromptKind::Synthetic(_) if !keys.mix.is_empty() => {
            beside(&[&isl_keys[..], &osl_keys].concat(), "mix");
        }
        PromptKind::Synthetic(_) => {}
    }
    let shape =
        |(isl, isl_stddev): (u32, u32), (osl, osl_stddev): (u32, u32), errors: &mut Vec<InputError>| {
            let isl = ranged(Length::normal(isl, isl_stddev), keys.range, at, errors);
            (isl, ranged(Length::normal(osl, osl_stddev), keys.range, at, errors))
        };
    if keys.mix.is_empty() {
        let (Some(isl), Some(osl)) = (keys.isl, keys.osl) else {
            for (key, value) in [("isl", keys.isl), ("osl", keys.osl)] {
                if value.is_none() {
                    errors.push(at(key, "missing".into()).expected("a number of tokens, or a list of them"));
                }
            }
            return nothing;
        };
        let (isl, osl) = shape((isl, keys.isl_stddev), (osl, keys.osl_stddev), errors);
        return (isl, osl, Vec::new());
    }
    let mut shapes = Vec::new();
    for (number, one) in keys.mix.iter().enumerate() {
        let weight = one.weight.unwrap_or(1.0);
        let (isl_stddev, osl_stddev) = (one.isl_stddev.unwrap_or(0), one.osl_stddev.unwrap_or(0));
        let (isl, osl) = shape((one.isl, isl_stddev), (one.osl, osl_stddev), errors);
        shapes.push(WeightedShape { isl, osl, weight });
        if !(weight > 0.0 && weight.is_finite()) || one.isl == 0 || one.osl == 0 {
            errors.push(
                at(&format!("mix[{}]", number + 1), "found a 0".into())
                    .expected("isl, osl and weight above 0"),
            );
        }
    }
    let weights: f64 = shapes.iter().map(|shape| shape.weight).sum();
    let mean = |length: fn(&WeightedShape) -> Length| {
        let sum: f64 = shapes.iter().map(|shape| shape.weight * f64::from(length(shape).mean)).sum();
        Length::fixed((sum / weights).round() as u32)
    };
    (mean(|shape| shape.isl), mean(|shape| shape.osl), shapes)
}

/// A length drawn from the range around it, when there is one. The ends are rounded as the tools do it: down and up around the
/// nominal length (`vllm bench`), down below it (sa-bench: `int(L × r)`).
fn ranged(length: Length, range: Option<RangeSection>, at: At<'_>, errors: &mut Vec<InputError>) -> Length {
    let Some(range) = range else { return length };
    if length.spread != Spread::None {
        errors.push(at("length_range", "found beside a standard deviation".into()).expected("one of them"));
    }
    let nominal = f64::from(length.mean);
    let (low, high) = match (range.vllm, range.sa_bench) {
        (Some(r), None) if (0.0..1.0).contains(&r) => (nominal * (1.0 - r), nominal * (1.0 + r)),
        (None, Some(r)) if r > 0.0 && r <= 1.0 => (nominal * r, nominal),
        (Some(r), None) => {
            errors.push(at("length_range.vllm", format!("found {r}")).expected("a number from 0 to below 1"));
            return length;
        }
        (None, Some(r)) => {
            errors.push(
                at("length_range.sa_bench", format!("found {r}")).expected("a number above 0, at most 1"),
            );
            return length;
        }
        (found, _) => {
            let found = if found.is_some() { "vllm and sa_bench" } else { "no key" };
            errors
                .push(at("length_range", format!("found {found}")).expected("exactly one of vllm, sa_bench"));
            return length;
        }
    };
    // A hair of rounding must not take a token off 0.8 × 1000.
    let (low, high) = ((low + 1e-9).floor() as u32, (high - 1e-9).ceil() as u32);
    Length { spread: Spread::Uniform { low: low.max(1), high: high.max(1) }, ..length }
}

fn conversation(
    section: &ConversationSection,
    keys: &PromptKeys<'_>,
    isl: Length,
    at: At<'_>,
    errors: &mut Vec<InputError>,
) -> Conversation {
    let turns = section.turns.unwrap_or(TURNS);
    if turns == 0 {
        errors.push(at("prompts.conversation.turns", "found 0".into()).expected("1 or more"));
    }
    let turn_isl = match section.turn_isl {
        Some(mean) => Length::normal(mean, section.turn_isl_stddev.unwrap_or(0)),
        None => isl,
    };
    if let (Some(most), Some(first)) = (section.max_context, keys.isl.max(keys.osl))
        && most < first
    {
        errors.push(
            at("prompts.conversation.max_context", format!("found {most}, less than isl or osl"))
                .expected("room for the first prompt and its answer"),
        );
    }
    Conversation {
        turns,
        turns_stddev: section.turns_stddev.unwrap_or(0),
        turn_isl,
        think_s: section.think_time.map_or(0.0, |span| span.seconds()),
        think_stddev_s: section.think_time_stddev.map_or(0.0, |span| span.seconds()),
        max_context: section.max_context,
    }
}

fn prefix(section: &PrefixSection, at: At<'_>, errors: &mut Vec<InputError>) -> Prefix {
    let prefix = Prefix {
        system_tokens: section.system_tokens.unwrap_or(0),
        pool: section.pool.unwrap_or(0),
        pool_tokens: section.pool_tokens.unwrap_or(0),
        hit_ratio: section.hit_ratio.unwrap_or(1.0),
    };
    if (prefix.pool == 0) != (prefix.pool_tokens == 0) {
        errors.push(
            at("prompts.prefix.pool", "found without the other: pool and pool_tokens".into())
                .expected("how many prefixes, and how many tokens each"),
        );
    }
    if !(0.0..=1.0).contains(&prefix.hit_ratio) {
        errors.push(at("prompts.prefix.hit_ratio", format!("found {}", prefix.hit_ratio)).expected("0 to 1"));
    }
    prefix
}
