//! Which model a running endpoint serves, asked before `bench` measures it. Waits for a server that still starts.

use std::time::{Duration, Instant};

use super::printer::Printer;
use crate::deploy::{DeployError, connection, no_api, ready};
use crate::document::InputError;
use crate::error::{self, ExitError};
use crate::load::{Target, probe};
use crate::plan::{Endpoint, Plan};

/// The only model that the servers list. If the user `named` one, they must list it, unless they list none.
pub(super) async fn listed_model(
    printer: Printer,
    plan: &Plan,
    named: Option<&str>,
) -> anyhow::Result<Option<String>> {
    let mut found: Option<String> = None;
    for deployment in &plan.deployments {
        let urls = deployment.url.iter().chain(&deployment.more_urls).cloned().collect();
        let target = connection::target(urls, named.unwrap_or_default(), &deployment.connection)?;
        let endpoint = deployment.points.first().map_or(Endpoint::Chat, |point| point.endpoint);
        let limit = Duration::from_secs_f64(deployment.startup_timeout_s);
        for server in target.each().collect::<Vec<_>>() {
            let Some(models) = models(printer, &server, named.is_some(), limit).await? else {
                has_endpoint(printer, &server, endpoint, limit).await?;
                continue;
            };
            let names: Vec<&str> = models.iter().map(|model| model.id.as_str()).collect();
            if let Some(named) = named {
                if !names.is_empty() && !names.contains(&named) {
                    let (url, model) = (server.shown("/v1/models"), named.to_owned());
                    let listed = names.into_iter().map(str::to_owned).collect();
                    return Err(DeployError::Unlisted { url, model, listed }.into());
                }
                continue;
            }
            let [model] = models.as_slice() else {
                let problem = "not given, and the server does not list exactly one model";
                return Err(InputError::new("--model", problem)
                    .expected(format!("one of {}", names.join(", ")))
                    .into());
            };
            if let Some(other) = found.as_ref().filter(|other| **other != model.id) {
                let problem = format!("not given, and the servers list {other:?} and {:?}", model.id);
                return Err(InputError::new("--model", problem).expected("servers of one model").into());
            }
            found = Some(model.id.clone());
        }
    }
    Ok(found)
}

/// Whether a server without a list of models knows the address of the requests. A gateway may learn it within `limit`.
async fn has_endpoint(
    printer: Printer,
    server: &Target,
    endpoint: Endpoint,
    limit: Duration,
) -> Result<(), InputError> {
    let mut waiting = Waiting::new(printer, limit);
    while let Some(tried) = ready::unknown_paths(server, endpoint).await {
        let is_no_api = tried.iter().all(no_api::Tried::is_unknown_path);
        let answers: Vec<String> = tried.iter().map(ToString::to_string).collect();
        let answers = answers.join("; ");
        if !waiting.goes_on(if is_no_api { no_api::PATIENCE } else { limit }, &answers).await {
            return Err(InputError::new("--url", answers)
                .expected("the address of an OpenAI-compatible API")
                .next(no_api::NEXT));
        }
    }
    Ok(())
}

/// A wait for a server, and what it says meanwhile.
struct Waiting {
    printer: Printer,
    limit: Duration,
    began: Instant,
    next_word: Duration,
}

impl Waiting {
    fn new(printer: Printer, limit: Duration) -> Self {
        Self { printer, limit, began: Instant::now(), next_word: Duration::from_secs(2) }
    }

    /// Waits a moment; `false` once the limit, or a lower one, has passed.
    async fn goes_on(&mut self, lower: Duration, problem: &str) -> bool {
        let (waited, limit) = (self.began.elapsed(), self.limit.min(lower));
        if waited >= limit {
            return false;
        }
        if waited >= self.next_word {
            self.next_word = waited + Duration::from_secs(10);
            let (waited, limit) = (waited.as_secs(), limit.as_secs());
            self.printer.note(format!("waiting since {waited} s, for {limit} s at most: {problem}"));
        }
        tokio::time::sleep(Duration::from_millis(200).min(limit - waited)).await;
        true
    }
}

/// The models that a server lists; `None` if it has no list and the user `named` one. Waits for a server that still starts.
async fn models(
    printer: Printer,
    server: &Target,
    named: bool,
    limit: Duration,
) -> anyhow::Result<Option<Vec<probe::Model>>> {
    let mut waiting = Waiting::new(printer, limit);
    loop {
        let error = match probe::models(server, Duration::from_secs(10)).await {
            Ok(models) if !models.is_empty() || waiting.began.elapsed() >= limit => return Ok(Some(models)),
            Ok(_) => probe::ProbeError::Answer("no model is listed yet".into()),
            Err(probe::ProbeError::Target(error)) => return Err(error.into()),
            Err(probe::ProbeError::Status { status: 404 | 405, .. }) if named => return Ok(None),
            Err(probe::ProbeError::Status { status, .. }) if named && !matches!(status, 429 | 502..=504) => {
                return Ok(Some(Vec::new()));
            }
            Err(probe::ProbeError::Answer(_)) if named => return Ok(Some(Vec::new())),
            Err(error) => error,
        };
        let is_unknown = matches!(error, probe::ProbeError::Status { status: 404 | 405, .. });
        let problem = format!("{}: {error}", server.address());
        if !waiting.goes_on(if is_unknown { no_api::PATIENCE } else { limit }, &problem).await {
            let models = server.url("/v1/models")?;
            let message = if is_unknown {
                format!(
                    "{models}: {error}\n  next: correct --url, or give --model if the server has no list of models"
                )
            } else {
                format!(
                    "{problem}\n  next: is the server up? A model list at {} is asked for first; --wait 60s waits \
                     for a server that still starts",
                    models.path()
                )
            };
            let code = if is_unknown { error::USAGE } else { error::SERVER };
            return Err(ExitError { code, message }.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::flags::Verbosity;
    use crate::load::testing::{Server, whole};

    #[tokio::test]
    async fn a_server_that_knows_no_address_of_ours_is_told_apart_from_one_without_a_list() {
        let printer = Printer::new(Verbosity { verbose: false, quiet: true });
        let nowhere =
            Server::play(|_| whole("404 Not Found", "application/json", r#"{"detail":"Not Found"}"#));
        let error = has_endpoint(printer, &nowhere.target(), Endpoint::Chat, Duration::ZERO)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("/v1/chat/completions answers 404: Not Found"), "{error}");
        assert!(error.contains("--endpoint /v1beta/openai/chat/completions"), "{error}");
        let busy = Server::play(|_| whole("503 Service Unavailable", "text/plain", "busy"));
        has_endpoint(printer, &busy.target(), Endpoint::Chat, Duration::ZERO).await.unwrap();
    }
}
