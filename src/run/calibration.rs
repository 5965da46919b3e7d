//! Fits the prompts of a load point to the server: learns how the server counts tokens, and rejects prompts that cannot fit
//! before anything is measured.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::point::{Measure, PointError};
use crate::document::InputError;
use crate::load::{Target, probe};
use crate::metrics::prompt_facts::{PromptFacts, TemplateSource};
use crate::plan::{Endpoint, LoadPoint, TokenizerSpec};
use crate::prompts::{Content, Counter, Learned, Message, Prompts, Role};

/// Longest wait for one of the server's answers.
const LIMIT: Duration = Duration::from_secs(60);

/// Texts that tokenizers split differently: words, digits, punctuation, other scripts, a symbol beyond the 16-bit plane.
const TELLING: [&str; 2] = [
    "Tokenizers differ: 1234567 naïve façades, don't they?",
    "東京 means \"eastern capital\"; x += 3.14159 * y[i]; 🙂 Straße, Привет, and a rather long sentence of plain words at its end.",
];

/// Prompts fitted to the server, and their facts for the summary.
#[derive(Debug)]
pub(super) struct Calibrated {
    pub(super) prompts: Arc<Prompts>,
    pub(super) facts: PromptFacts,
}

impl Calibrated {
    /// Learns how the server counts, then prepares the prompts. Blocks.
    pub(super) fn make(measure: &Measure, stop: &CancellationToken) -> Result<Self, PointError> {
        let point = &measure.point;
        let counter = Counter::new(point, &measure.tokenizers)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let target = &measure.target;
        let answers = runtime.block_on(async {
            tokio::select! {
                biased;
                () = stop.cancelled() => Ok((None, None)),
                answers = async { Ok((learn(target, point, &counter).await?, context(target).await)) } => answers,
            }
        });
        let (learned, context): (Option<Learned>, Option<u32>) =
            answers.map_err(|error: InputError| error)?;
        let prompts =
            Prompts::prepare(point, measure.salt, learned.unwrap_or_default(), &measure.tokenizers)?;
        fits(&prompts, point, context)?;
        let known = counter.knows_template() || point.endpoint == Endpoint::Completions;
        let template = match (counter.is_exact(), learned) {
            (false, _) => None,
            (true, None) if known => Some(TemplateSource::Known),
            (true, None) => Some(TemplateSource::Unknown),
            (true, Some(Learned { each: 0, pair: 0 })) if known => Some(TemplateSource::Known),
            (true, Some(_)) => Some(TemplateSource::Measured),
        };
        let facts = PromptFacts {
            tokenizer: prompts.tokenizer().name().to_owned(),
            exact: counter.is_exact(),
            template,
            salt: prompts.salt(),
            notes: Vec::new(),
        };
        Ok(Self { prompts: Arc::new(prompts), facts })
    }
}

/// Tokens that the server counts beyond the client's own count; `None` if there is nothing to learn or the server reports no
/// count.
async fn learn(target: &Target, point: &LoadPoint, counter: &Counter) -> Result<Option<Learned>, InputError> {
    if !counter.is_exact() {
        return Ok(None);
    }
    let content = |text: &str| match (point.endpoint, point.prompts.token_ids) {
        (Endpoint::Completions, true) => Content::Tokens(counter.tokenizer().encode(text, false)),
        (endpoint, _) => Content::plain(endpoint, text),
    };
    let mut off = Vec::new();
    for text in TELLING {
        let content = content(text);
        let Ok(known) = counter.count(&content) else { return Ok(None) };
        let Some(counted) = probe::prompt_tokens(target, point, content, LIMIT).await else {
            return Ok(None);
        };
        off.push((i64::from(known), counted.cast_signed()));
        // One text with equal counts is proof enough.
        if i64::from(known) == counted.cast_signed() {
            break;
        }
    }
    let mut learned = Learned::default();
    if let [(known, counted), (known_2, counted_2)] = off[..] {
        if counted - known != counted_2 - known_2 {
            let problem = format!(
                "does not count as the server does: {known} and {known_2} tokens for two texts, the server says {counted} and \
                 {counted_2}"
            );
            return Err(InputError::new(counter.tokenizer().name(), problem)
                .expected("the tokenizer of the model that the server runs")
                .next("give its tokenizer.json, or count words with tokenizer = \"builtin\""));
        }
        learned.each = counted - known;
    }
    if point.prompts.conversation.is_some() {
        learned.pair = pair(target, point, counter, learned.each).await;
    }
    Ok(Some(learned))
}

/// Tokens that the server adds for a further pair of messages.
async fn pair(target: &Target, point: &LoadPoint, counter: &Counter, each: i64) -> i64 {
    let message = |role, text: &str| Message::new(role, text);
    let [first, second] = TELLING;
    let content = Content::Messages(vec![
        message(Role::User, first),
        message(Role::Assistant, "Yes."),
        message(Role::User, second),
    ]);
    let Ok(known) = counter.count(&content) else { return 0 };
    match probe::prompt_tokens(target, point, content, LIMIT).await {
        Some(counted) => counted.cast_signed() - i64::from(known) - each,
        None => 0,
    }
}

/// The shortest context of the servers' models, if the servers list it.
async fn context(target: &Target) -> Option<u32> {
    let mut shortest = None;
    for server in target.each().collect::<Vec<_>>() {
        let models = probe::models(&server, Duration::from_secs(10)).await.unwrap_or_default();
        let own = models.into_iter().filter(|model| model.id == target.model);
        shortest = own.filter_map(|model| model.max_model_len).chain(shortest).min();
    }
    shortest
}

/// Rejects prompts longer than the model's context, which would fail one by one.
fn fits(prompts: &Prompts, point: &LoadPoint, context: Option<u32>) -> Result<(), InputError> {
    let Some(context) = context else { return Ok(()) };
    let (isl, osl) = prompts.longest(point);
    if u64::from(isl) + u64::from(osl) <= u64::from(context) {
        return Ok(());
    }
    let problem =
        format!("found prompts of {isl} tokens and answers of {osl}, and the model's context is {context}");
    let about = if prompts.is_exact() { "" } else { " (counted in words; tokens are more)" };
    let advice = match &point.prompts.tokenizer {
        TokenizerSpec::Builtin if point.prompts.conversation.is_some() => "lower max_context, isl or osl",
        _ => "lower isl or osl, or start the server with a longer context",
    };
    Err(InputError::new(&point.id, format!("{problem}{about}"))
        .key("load.isl")
        .expected(format!("{context} tokens or less altogether (max_model_len of /v1/models)"))
        .next(advice))
}

pub(super) fn reset_cache(target: &Target, path: &str) -> Result<(), PointError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for server in target.each().collect::<Vec<_>>() {
        let answer = runtime.block_on(probe::poke(&server, path, LIMIT));
        let problem = match answer {
            Ok(page) if (200..300).contains(&page.status) => continue,
            Ok(page) => format!("the server answered HTTP {}", page.status),
            Err(error) => error.to_string(),
        };
        return Err(InputError::new(
            server.address(),
            format!("POST {path} did not empty the prefix cache: {problem}"),
        )
        .key("load.prompts.reset_cache")
        .next("vLLM has /reset_prefix_cache with VLLM_SERVER_DEV_MODE=1 only; SGLang has /flush_cache")
        .into());
    }
    Ok(())
}

#[cfg(test)]
#[path = "calibration_tests.rs"]
mod tests;
