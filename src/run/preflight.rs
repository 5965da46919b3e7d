//! Checks the weights before any server starts, on a node where the servers will read them.
//!
//! One node checks for all, because model folders are on shared file systems.

use std::time::Instant;

use super::Session;
use crate::deploy::DeployError;
use crate::document::{InputError, InputErrors};
use crate::experiment::Event;
use crate::weights::{self, ModelFolder};

/// Examines the weights of a session's plan.
///
/// # Errors
/// Incomplete weights, unless the plan tolerates them.
pub(super) async fn weights(session: &Session) -> Result<(), DeployError> {
    let Some(subject) = ModelFolder::of(&session.plan) else { return Ok(()) };
    if let Some(reason) = why_not(session, &subject) {
        let (folder, reason) = (subject.folder, reason.to_owned());
        session.events.emit(Event::WeightsSkipped { folder, reason });
        return Ok(());
    }
    let began = Instant::now();
    let (folder, tokenizers) = (subject.folder.clone(), session.tokenizers.clone());
    let examining = tokio::task::spawn_blocking(move || weights::examine(&subject, &tokenizers));
    let found = examining.await.map_err(|error| std::io::Error::other(error.to_string()))?;
    if !found.problems.is_empty() && !session.plan.forgives_weights() {
        return Err(DeployError::Weights(InputErrors(found.problems)));
    }
    let words = found.words();
    let forgiven = |error: &InputError| format!("forgiven: {}: {}", error.origin, error.problem);
    let remarks = found.problems.iter().map(forgiven).chain(found.remarks).collect();
    let seconds = began.elapsed().as_secs_f64();
    session.events.emit(Event::WeightsExamined { folder, found: words, seconds, remarks });
    Ok(())
}

/// Why a missing folder proves nothing.
fn why_not(session: &Session, subject: &ModelFolder) -> Option<&'static str> {
    let is_contained = session.place.job().is_some();
    if subject.exists() {
        None
    } else if is_contained && subject.may_be_inside {
        Some("it is under none of the mounts, so it may lie in the container image")
    } else if !session.place.is_on_first() {
        Some("it is not seen from this machine, which is none of the job's nodes")
    } else {
        None
    }
}
