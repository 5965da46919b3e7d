//! Checks that the prompts of a plan can be made, before a server is started for them.

use std::path::Path;

use super::counter::Learned;
use super::source::Prompts;
use super::tokenizer::{TokenizerCache, folder_of};
use crate::document::{InputError, InputErrors};
use crate::plan::{Deployment, LoadPoint, Plan};

/// Prepares the prompts of each load point once, and compares their lengths with the context in the model's `config.json` and, where
/// a file decides the lengths, with the engine option that limits them.
///
/// # Errors
/// Every mistake in files, tokenizers and lengths; one that several points share is reported once.
pub fn check(plan: &Plan) -> Result<(), InputErrors> {
    let points = plan.points().map(|(deployment, point)| (option(plan, deployment), point));
    let errors = problems(points, &TokenizerCache::default()).into_iter().map(|error| located(plan, error));
    InputErrors::check(errors.collect())
}

/// Adds the place of the value to an error about prompts that is about a value of the recipe, not about a file of its own.
pub fn located(plan: &Plan, error: InputError) -> InputError {
    // A line is one of the file that the error names.
    if error.key.is_none() || error.line.is_some() {
        return error;
    }
    let problem = format!("{} of {}", error.problem, error.origin);
    plan.locate(InputError { problem, ..error })
}

pub(super) fn problems<'a>(
    points: impl Iterator<Item = (Option<(String, u64)>, &'a LoadPoint)>,
    tokenizers: &TokenizerCache,
) -> Vec<InputError> {
    let mut seen = Vec::new();
    let mut errors = Vec::new();
    for (option, point) in points {
        let facts = (option.clone(), point.isl, point.osl, point.endpoint, &point.prompts, point.stop);
        if seen.contains(&facts) {
            continue;
        }
        seen.push(facts);
        let prepared = Prompts::prepare(point, 0, Learned::default(), tokenizers);
        let longest = prepared.map(|prompts| prompts.longest(point));
        errors.extend(
            longest.and_then(|longest| within(option, point, longest).and(fits(point, longest))).err(),
        );
    }
    errors
}

/// The engine option that limits prompt plus answer, by its key, and the least value of a deployment's pools that generate.
fn option(plan: &Plan, deployment: &Deployment) -> Option<(String, u64)> {
    let limit = deployment.pools.iter().filter_map(|pool| {
        let (name, tokens) = plan.launcher().context_limit(pool.name, &pool.engine)?;
        let own = format!("deploy.{}engine.{name}", pool.name.prefix());
        let key = if plan.origins.contains_key(&own) { own } else { format!("deploy.engine.{name}") };
        Some((key, tokens))
    });
    limit.min_by_key(|(_, tokens)| *tokens)
}

/// Planning has compared the lengths that the recipe gives.
fn within(
    option: Option<(String, u64)>,
    point: &LoadPoint,
    (isl, osl): (u32, u32),
) -> Result<(), InputError> {
    let needed = u64::from(isl) + u64::from(osl);
    let of_file = point.prompts.source.file().is_some() && point.prompts.conversation.is_none();
    let Some((key, limit)) = option.filter(|(_, limit)| of_file && *limit < needed) else { return Ok(()) };
    let problem =
        format!("found {limit}, and a prompt of {isl} tokens with an answer of {osl} is the longest request");
    let expected = format!("{needed} or more: prompt and answer together");
    Err(InputError::new(&point.id, problem).key(key).expected(expected))
}

fn fits(point: &LoadPoint, (isl, osl): (u32, u32)) -> Result<(), InputError> {
    let Some(folder) = folder_of(&point.prompts.tokenizer) else { return Ok(()) };
    let file = folder.join("config.json");
    let Some(context) = context(&file) else { return Ok(()) };
    if u64::from(isl) + u64::from(osl) <= context {
        return Ok(());
    }
    let problem =
        format!("found prompts of {isl} tokens and answers of {osl}, and the model's context is {context}");
    let expected =
        format!("{context} tokens or less altogether (max_position_embeddings of {})", file.display());
    Err(InputError::new(&point.id, problem).key("load.isl").expected(expected).next("lower isl or osl"))
}

/// `max_position_embeddings`, of a model of several parts that of its text part.
fn context(file: &Path) -> Option<u64> {
    let config: serde_json::Value = serde_json::from_slice(&fs_err::read(file).ok()?).ok()?;
    let part = config.get("text_config").unwrap_or(&config);
    part.get("max_position_embeddings")?.as_u64()
}
