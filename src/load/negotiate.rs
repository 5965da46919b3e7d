//! Finds out, before the load, which extensions a server refuses, so that no load point is lost to a field it could do without.
//!
//! A server that takes every extension sees one request of one token for each URL. During the load nothing is left out and
//! nothing is sent twice.

use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::body::{extensions, request_body};
use super::drive::LoadError;
use super::error_body;
use super::probe::{self, Page, ProbeError};
use super::target::{Target, TargetError};
use crate::plan::{Extension, Length, LoadPoint};
use crate::prompts::PromptPlan;

/// Longest wait for one of these answers; a server that takes longer is left to the load.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub extension: Extension,
    /// The answer of the server to it, in one line.
    pub message: String,
    pub server: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Acceptance {
    Accepted,
    /// It rejected the request itself, with this text.
    Refused(String),
    /// Any other answer: it proves nothing about the request.
    Other,
}

/// The extensions of `point` that must be left out for `target` to take its requests; a server that refuses them in any case
/// is left to the load. Blocks. Cancelling `stop` ends it early.
///
/// # Errors
/// [`LoadError`] when the target is unusable or the operating system refuses a poller.
pub fn refused_extensions(
    target: &Target,
    point: &LoadPoint,
    stop: &CancellationToken,
) -> Result<Vec<Refusal>, LoadError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let refusals = runtime.block_on(async {
        tokio::select! {
            biased;
            () = stop.cancelled() => Ok(Vec::new()),
            refusals = ask_all(target, point) => refusals,
        }
    });
    Ok(refusals?)
}

async fn ask_all(target: &Target, point: &LoadPoint) -> Result<Vec<Refusal>, TargetError> {
    let mut refused: Vec<Refusal> = Vec::new();
    let limit = Duration::try_from_secs_f64(point.request_timeout_s).unwrap_or(LIMIT).min(LIMIT);
    for server in target.each() {
        // All servers share one load, so what one refuses is sent to none.
        let one = Length::fixed(1);
        let mut shortest = LoadPoint { isl: one, osl: one, ..point.clone() };
        shortest.left_out.extend(refused.iter().map(|refusal| refusal.extension));
        let client = server.http_client(limit)?;
        let url = server.url(point.endpoint.path())?;
        let offered = extensions(&shortest);
        let found = settle(&offered, async |left_out: &[Extension]| {
            let mut trial = shortest.clone();
            trial.left_out.extend(left_out);
            let prompt = PromptPlan::one_word(trial.endpoint);
            let body = request_body(&trial, &server.model, &prompt);
            let answer = probe::post(&client, url.clone(), body, trial.streaming, limit).await;
            answer.as_ref().map_or_else(|_: &ProbeError| Acceptance::Other, read)
        });
        let server = server.address();
        let named = |(extension, message)| Refusal { extension, message, server: server.clone() };
        refused.extend(found.await.into_iter().map(named));
    }
    Ok(refused)
}

/// Gives up extensions of `offered`, those the server names first and else one more each time, until it takes the request; then
/// tries each of them again with the others left out, so that none is missed for nothing. Empty when nothing helps.
async fn settle(
    offered: &[Extension],
    mut ask: impl AsyncFnMut(&[Extension]) -> Acceptance,
) -> Vec<(Extension, String)> {
    let mut refused: Vec<(Extension, String)> = Vec::new();
    loop {
        let out: Vec<Extension> = refused.iter().map(|(extension, _)| *extension).collect();
        let words = match ask(&out).await {
            Acceptance::Accepted => break,
            Acceptance::Refused(words) => words,
            Acceptance::Other => return Vec::new(),
        };
        let left = || offered.iter().filter(|extension| !out.contains(extension));
        let mut next: Vec<Extension> =
            left().filter(|extension| names(&words, extension.key())).copied().collect();
        if next.is_empty() {
            next.extend(left().next());
        }
        if next.is_empty() {
            return Vec::new();
        }
        let message = error_body::message(words.as_bytes());
        refused.extend(next.into_iter().map(|extension| (extension, message.clone())));
    }
    let mut index = 0;
    while refused.len() > 1 && index < refused.len() {
        let others = refused.iter().enumerate().filter(|(at, _)| *at != index);
        let others: Vec<Extension> = others.map(|(_, (extension, _))| *extension).collect();
        match ask(&others).await {
            Acceptance::Accepted => drop(refused.remove(index)),
            Acceptance::Refused(_) | Acceptance::Other => index += 1,
        }
    }
    refused.sort_by_key(|(extension, _)| *extension);
    refused
}

/// A 400 or 422, as status or as the code of an error inside a 200.
fn read(page: &Page) -> Acceptance {
    match page.status {
        400 | 422 => Acceptance::Refused(page.body.clone()),
        200..=299 => {
            let inside = page.body.lines().find(|line| {
                let data = line.strip_prefix("data:").unwrap_or(line);
                let value: Option<Value> = serde_json::from_str(data).ok();
                let code = value.as_ref().and_then(|value| value.get("error")?.get("code")?.as_u64());
                matches!(code, Some(400 | 422))
            });
            inside.map_or(Acceptance::Accepted, |line| {
                Acceptance::Refused(line.strip_prefix("data:").unwrap_or(line).to_owned())
            })
        }
        _ => Acceptance::Other,
    }
}

/// Whether `text` holds `word` as a whole identifier.
fn names(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        !before.ends_with(part) && !after.starts_with(part)
    })
}

#[cfg(test)]
mod tests;
