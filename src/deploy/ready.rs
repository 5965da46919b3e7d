//! Readiness. A health path is not enough, because Dynamo's answers 200 without any worker: also count workers, require the model
//! in the list, and generate one token.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use regex::Regex;
use serde_json::Value;
use tokio::net::TcpStream;

use super::deadline::ProbeFailure;
use super::log;
use super::no_api::Tried;
use crate::launcher::{EndpointSpec, Ready};
use crate::load::probe::{self, Page};
use crate::load::{ProbeError, Target};
use crate::plan::Endpoint;
use crate::render::Address;

/// Limit of one connection attempt or health request.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Limit of the one-token request, because the first one may compile kernels.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(300);

/// A process whose readiness is probed.
#[derive(Debug)]
pub struct Probed<'a> {
    pub name: &'a str,
    /// Its address, or that of the role that reports about it.
    pub address: &'a Address,
    /// Its logs, each with its length at the start.
    pub logs: &'a [(PathBuf, u64)],
}

/// Whether a process is ready by its rule, whose templates are already rendered.
pub async fn check(ready: &Ready, probed: &Probed<'_>) -> Result<(), String> {
    let name = probed.name;
    let port_of = |port: &String| probed.address.ports.get(port).copied().unwrap_or_default();
    match ready {
        Ready::Started {} => Ok(()),
        Ready::Tcp { port } => {
            let address = (probed.address.host.as_str(), port_of(port));
            match tokio::time::timeout(PROBE_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => {
                    Err(format!("{name} does not accept connections on {}:{}: {error}", address.0, address.1))
                }
                Err(_) => Err(format!("{name} does not answer on {}:{}", address.0, address.1)),
            }
        }
        Ready::Log { pattern } => {
            let pattern = Regex::new(pattern).map_err(|error| error.to_string())?;
            let matched = probed.logs.iter().any(|(path, start)| log::contains(path, *start, &pattern));
            if matched { Ok(()) } else { Err(format!("{name} has not yet logged {pattern:?}")) }
        }
        Ready::Http { port, path, json, entries, at_least, equals, .. } => {
            let url = format!("http://{}:{}{path}", probed.address.host, port_of(port));
            let page = ok(&url, probe::get(&url, PROBE_TIMEOUT).await)
                .map_err(|problem| format!("{name}: {problem}"))?;
            let Some(at) = json else { return Ok(()) };
            satisfies(&page.body, at, entries, at_least.as_deref(), equals.as_deref())
                .map_err(|problem| format!("{name}: {url}: {problem}"))
        }
    }
}

/// Whether the JSON of a page satisfies the rule.
fn satisfies(
    body: &str,
    at: &str,
    entries: &BTreeMap<String, Vec<String>>,
    at_least: Option<&str>,
    equals: Option<&str>,
) -> Result<(), String> {
    let value: Value = serde_json::from_str(body).map_err(|error| format!("no JSON: {error}"))?;
    let found = at.split('.').try_fold(&value, |value, key| value.get(key)).unwrap_or(&Value::Null);
    if let Some(wanted) = at_least {
        let wanted: u64 =
            wanted.trim().parse().map_err(|_| format!("at_least is {wanted:?}, expected a number"))?;
        let count = match found {
            Value::Array(list) => list.iter().filter(|entry| counts(entry, entries)).count() as u64,
            Value::Object(map) => map.len() as u64,
            other => other.as_u64().unwrap_or(0),
        };
        if count < wanted {
            return Err(format!("{at} has {count} of {wanted}"));
        }
    }
    if let Some(wanted) = equals {
        let text = text_of(found);
        if text != wanted {
            return Err(format!("{at} is {text}, expected {wanted}"));
        }
    }
    Ok(())
}

/// Whether a list entry counts.
fn counts(entry: &Value, entries: &BTreeMap<String, Vec<String>>) -> bool {
    entries.iter().all(|(field, allowed)| {
        let found = entry.get(field).unwrap_or(&Value::Null);
        allowed.contains(&text_of(found))
    })
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn ok(url: &str, answer: Result<Page, ProbeError>) -> Result<Page, String> {
    match answer {
        Ok(answer) if answer.status == 200 => Ok(answer),
        Ok(answer) => Err(format!("{url} answers {}", answer.status)),
        Err(error) => Err(format!("{url}: {error}")),
    }
}

/// Whether every server of the endpoint is healthy, lists the model (if it lists any) and generates a token. Returns whether any
/// server declares itself simulated.
pub(super) async fn endpoint(
    target: &Target,
    spec: &EndpointSpec,
    endpoint: Endpoint,
) -> Result<bool, ProbeFailure> {
    let mut simulated = false;
    for server in target.each() {
        simulated |= ready(&server, spec, endpoint).await?;
    }
    Ok(simulated)
}

/// Whether a server of the endpoint declares itself simulated. A server that lists no models does not.
pub async fn is_simulated(target: &Target) -> bool {
    for server in target.each() {
        let models = probe::models(&server, PROBE_TIMEOUT).await.unwrap_or_default();
        if models.iter().any(|model| model.simulated) {
            return true;
        }
    }
    false
}

/// Longest recorded version, in characters, because a server may send anything.
const VERSION_LENGTH: usize = 80;

/// The version reported by the endpoint's first server, if the launcher has its path.
pub async fn version(target: &Target, spec: &EndpointSpec) -> Option<String> {
    let server = target.each().next()?;
    let page = probe::page(&server, spec.version.as_deref()?, PROBE_TIMEOUT).await.ok()?;
    let answer: Value = serde_json::from_str(&page.body).ok().filter(|_| page.status == 200)?;
    let version = answer.get("version")?.as_str()?;
    let printable: String = version.chars().filter(|c| !c.is_control()).take(VERSION_LENGTH).collect();
    (!printable.is_empty()).then_some(printable)
}

/// Whether each server of an endpoint that nobody waits for lists the model, if it lists any.
pub(super) async fn lists_model(target: &Target) -> Result<(), ProbeFailure> {
    for server in target.each() {
        let models = probe::models(&server, PROBE_TIMEOUT).await.unwrap_or_default();
        listed(&server, &models)?;
    }
    Ok(())
}

/// The model of a server in its list; `None` if the list is empty.
///
/// # Errors
/// The server lists other models only.
fn listed<'a>(server: &Target, models: &'a [probe::Model]) -> Result<Option<&'a probe::Model>, ProbeFailure> {
    let found = models.iter().find(|known| known.id == server.model);
    if found.is_some() || models.is_empty() {
        return Ok(found);
    }
    let listed = models.iter().map(|known| known.id.clone()).collect();
    Err(ProbeFailure::Unlisted { url: server.shown("/v1/models"), model: server.model.clone(), listed })
}

/// What was tried, if the requests are as unknown as the list of models.
fn no_api(
    listing: Tried,
    server: &Target,
    endpoint: Endpoint,
    answer: &Result<(), ProbeError>,
) -> Option<Vec<Tried>> {
    let Err(ProbeError::Status { status, message }) = answer else { return None };
    let request = format!("POST {}", server.shown(endpoint.path()));
    let tried = vec![listing, Tried { request, status: *status, message: message.clone() }];
    tried.iter().all(|tried| matches!(tried.status, 404 | 405)).then_some(tried)
}

/// What a server answered, if it knows neither the list of models nor the requests.
pub async fn unknown_paths(server: &Target, endpoint: Endpoint) -> Option<Vec<Tried>> {
    match probe::models(server, PROBE_TIMEOUT).await {
        Err(ProbeError::Status { status: status @ (404 | 405), message }) => {
            let listing = Tried { request: format!("GET {}", server.shown("/v1/models")), status, message };
            no_api(listing, server, endpoint, &probe::one_token(server, endpoint, TOKEN_TIMEOUT).await)
        }
        _ => None,
    }
}

async fn ready(server: &Target, spec: &EndpointSpec, endpoint: Endpoint) -> Result<bool, ProbeFailure> {
    let url = server.address();
    if let Some(path) = &spec.health {
        ok(&server.shown(path), probe::page(server, path, PROBE_TIMEOUT).await)?;
    }
    let answer = async || probe::one_token(server, endpoint, TOKEN_TIMEOUT).await;
    let not_yet = |error| ProbeFailure::from(format!("{url} generates no token yet: {error}"));
    let generates = async || answer().await.map_err(not_yet);
    if !spec.models {
        generates().await?;
        return Ok(false);
    }
    let models = match probe::models(server, PROBE_TIMEOUT).await {
        // It has no such list, as Azure's deployments.
        Err(ProbeError::Status { status: status @ (404 | 405), message }) => {
            let listing = Tried { request: format!("GET {}", server.shown("/v1/models")), status, message };
            let answer = answer().await;
            let unknown = no_api(listing, server, endpoint, &answer);
            let unknown = unknown.filter(|tried| tried.iter().all(Tried::is_unknown_path));
            return answer
                .map(|()| false)
                .map_err(|error| unknown.map_or_else(|| not_yet(error), ProbeFailure::NoApi));
        }
        models => models.map_err(|error| format!("{}: {error}", server.shown("/v1/models")))?,
    };
    let Some(found) = listed(server, &models)? else {
        return Err(format!("{} lists no model yet", server.shown("/v1/models")).into());
    };
    generates().await?;
    Ok(found.simulated)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dynamo 1.6's `/health`: a frontend's own endpoints, two decode workers and one prefill worker.
    const HEALTH: &str = r#"{"status":"healthy","instances":[
        {"component":"backend","endpoint":"generate","instance_id":1},
        {"component":"backend","endpoint":"generate","instance_id":2},
        {"component":"backend","endpoint":"clear_kv_blocks","instance_id":1},
        {"component":"prefill","endpoint":"generate","instance_id":3}],"stats":{"prefill_count":2}}"#;

    fn seen(
        at: &str,
        entries: &[(&str, &[&str])],
        at_least: Option<&str>,
        equals: Option<&str>,
    ) -> Result<(), String> {
        let entries = entries
            .iter()
            .map(|(field, values)| ((*field).to_owned(), values.iter().map(|v| (*v).to_owned()).collect()))
            .collect();
        satisfies(HEALTH, at, &entries, at_least, equals)
    }

    #[test]
    fn registered_workers_are_counted_by_component() {
        let decode: &[(&str, &[&str])] =
            &[("endpoint", &["generate"]), ("component", &["backend", "decode"])];
        assert_eq!(seen("instances", decode, Some("2"), None), Ok(()));
        assert_eq!(seen("instances", decode, Some("3"), None), Err("instances has 2 of 3".into()));
        assert_eq!(seen("instances", &[], Some("4"), None), Ok(()));
        assert_eq!(seen("nowhere", &[], Some("1"), None), Err("nowhere has 0 of 1".into()));
    }

    #[test]
    fn numbers_and_words() {
        assert_eq!(seen("stats.prefill_count", &[], Some("2"), None), Ok(()));
        assert_eq!(
            seen("stats.prefill_count", &[], Some("3"), None),
            Err("stats.prefill_count has 2 of 3".into())
        );
        assert_eq!(seen("status", &[], None, Some("healthy")), Ok(()));
        assert_eq!(seen("status", &[], None, Some("ok")), Err("status is healthy, expected ok".into()));
    }
}
