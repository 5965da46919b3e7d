//! Checks before any server starts: what the machine that plans can see, and the weights on a node where the servers will read
//! them. One node checks for all, because model folders are on shared file systems.

use std::path::Path;
use std::time::Instant;

use super::Session;
use crate::deploy::{DeployError, connection, secrets};
use crate::document::{InputError, InputErrors};
use crate::experiment::Event;
use crate::node::WeightsQuery;
use crate::plan::Plan;
use crate::prompts;
use crate::weights;

/// Checks what this machine can check before anything is created.
pub fn check(plan: &Plan) -> Result<(), InputErrors> {
    if !plan.forgives_weights() {
        // The run itself warns about possible problems.
        weights::check::folders([plan])?;
    }
    connection::check(plan, true)?;
    prompts::check::check(plan)?;
    for deployment in &plan.deployments {
        let pools = deployment.pools.iter().map(|pool| &pool.env);
        for env in std::iter::once(&deployment.env).chain(pools) {
            secrets::resolve(env).map_err(|error| located(plan, error))?;
        }
    }
    Ok(())
}

/// Adds the location to the error of an invalid reference.
fn located(plan: &Plan, mut error: InputError) -> InputError {
    let key = format!("deploy.env.{}", error.key.unwrap_or_default());
    match plan.origins.get(&key) {
        Some(origin) => error.origin = origin.to_string(),
        None => "the site file's [env]".clone_into(&mut error.origin),
    }
    error.key = Some(key);
    error
}

/// Examines the weights of a session's plan.
///
/// # Errors
/// Incomplete weights, unless the plan tolerates them.
pub(super) async fn weights(session: &Session) -> Result<(), DeployError> {
    let drafts = weights::drafts_of_plan(&session.plan);
    for subject in weights::of_plan(&session.plan).into_iter().chain(drafts) {
        examine(session, subject).await?;
    }
    Ok(())
}

async fn examine(session: &Session, subject: WeightsQuery) -> Result<(), DeployError> {
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
fn why_not(session: &Session, subject: &WeightsQuery) -> Option<&'static str> {
    let is_contained = session.place.job().is_some();
    if Path::new(&subject.folder).exists() {
        None
    } else if is_contained && weights::may_be_inside(&session.plan, subject) {
        Some("it is under none of the mounts, so it may lie in the container image")
    } else if !session.place.is_on_first() {
        Some("it is not seen from this machine, which is none of the job's nodes")
    } else {
        None
    }
}
