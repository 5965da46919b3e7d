//! Checks how the load reaches the endpoint: its URLs, and `[deploy.connection]`.

use super::parsed::{Mistakes, Parsed};
use super::resolve::Resolved;
use super::secrets::WRITTEN;
use super::sections::Deploy;
use crate::document::InputError;
use crate::plan::server_url::{self, ServerUrl, UrlError};
use crate::plan::{Endpoint, LoadPoint, Proxy};
use crate::recipe::{Origin, secret};

const REFERENCE: &str = "a reference such as \"env:NAME\" or \"file:/path\"";

/// Checks both; a launcher that starts no server needs a URL, unless a knob of the recipe asks the user for
/// it.
pub(super) fn check(section: &Deploy, points: &[LoadPoint], mistakes: &mut Mistakes<'_>) {
    urls(section, points, mistakes);
    metrics_urls(section, mistakes);
    let connection = &section.connection;
    if let Some(file) = &connection.ca_file {
        if !file.starts_with('/') {
            mistakes.add("connection.ca_file", format!("found {file:?}"), "an absolute path");
        }
        if connection.insecure {
            let expected = "one of them: trust the authorities in a file, or any certificate";
            mistakes.add("connection.insecure", "found beside ca_file", expected);
        }
    }
    if connection.api_key.as_deref().is_some_and(|key| !secret::is_reference(key)) {
        mistakes.add("connection.api_key", WRITTEN, REFERENCE);
    }
    for (name, value) in &connection.headers {
        if secret::is_secret_header(name) && !secret::is_reference(value) {
            mistakes.add(&format!("connection.headers.{name}"), WRITTEN, REFERENCE);
        }
    }
    let Proxy::Url(proxy) = &connection.proxy else { return };
    match server_url::parse(proxy) {
        _ if secret::is_reference(proxy) => {}
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            mistakes.add("connection.proxy", WRITTEN, REFERENCE);
        }
        Ok(_) => {}
        Err(_) => {
            let expected = "off, environment, or a URL such as http://proxy:3128";
            mistakes.add("connection.proxy", format!("found {proxy:?}"), expected);
        }
    }
}

fn urls(section: &Deploy, points: &[LoadPoint], mistakes: &mut Mistakes<'_>) {
    let urls = section.url.as_ref().map(|urls| urls.0.as_slice()).unwrap_or_default();
    let recipe = &mistakes.parsed.resolved.recipe;
    let is_asked_for = recipe.knobs.values().any(|key| key == "deploy.url");
    if urls.is_empty() && mistakes.parsed.launcher().endpoint.url.is_some() && !is_asked_for {
        let missing = mistakes.at("url", "missing");
        let missing = missing.expected("the URL of the endpoint, e.g. http://127.0.0.1:8000");
        mistakes.found.push(missing.next("add it to the recipe, or give --set deploy.url=URL"));
    }
    let path = section.connection.path.as_deref();
    if let Some(path) = path.filter(|path| path.trim_matches('/').is_empty() || path.contains("://")) {
        let expected = "a path such as /v1beta/openai/chat/completions";
        return mistakes.add("connection.path", format!("found {path:?}"), expected);
    }
    let mut known = Vec::new();
    for text in urls {
        let server = match ServerUrl::new(text, path) {
            Ok(server) => server,
            Err(error) => {
                let error = explained(&error, mistakes.at("url", ""));
                mistakes.found.push(error);
                continue;
            }
        };
        if known.contains(&server) {
            mistakes.add("url", format!("found {text:?} twice"), "each URL once");
        }
        if let Some(other) =
            points.iter().find(|point| server.endpoint.is_some_and(|named| named != point.endpoint))
        {
            let key = if path.is_some() { "connection.path" } else { "url" };
            let problem =
                format!("names another endpoint than load.endpoint, which is {}", other.endpoint.as_str());
            let error = mistakes
                .at(key, problem)
                .next("leave out load.endpoint (--endpoint, --endpoint-type), or name the same endpoint");
            mistakes.found.push(error);
        }
        known.push(server);
    }
}

fn metrics_urls(section: &Deploy, mistakes: &mut Mistakes<'_>) {
    let urls = section.metrics_url.as_ref().map(|urls| urls.0.as_slice()).unwrap_or_default();
    if !urls.is_empty() && mistakes.parsed.launcher().endpoint.url.is_none() {
        let launcher = &mistakes.parsed.launcher().name;
        let error = mistakes.at(
            "metrics_url",
            format!("launcher {launcher:?} starts the servers and knows their metrics pages"),
        );
        mistakes
            .found
            .push(error.next("leave it out; it is for endpoints that run elsewhere (launcher \"attach\")"));
    }
    for url in urls {
        if let Err(error) = server_url::public(url) {
            let error = explained(&error, mistakes.at("metrics_url", ""));
            mistakes.found.push(error);
        }
    }
}

fn explained(error: &UrlError, mistake: InputError) -> InputError {
    match error {
        UrlError::Address { url, next, .. } => {
            let error = InputError { problem: format!("found {url:?}"), ..mistake };
            let error = error.expected("a URL such as http://host:8000");
            next.iter().fold(error, |error, next| error.next(next))
        }
        UrlError::Secret { .. } => InputError { problem: WRITTEN.into(), ..mistake }
            .expected("a URL without user name, password and key")
            .next("give deploy.connection.headers.Authorization = \"env:NAME\""),
    }
}

/// The endpoint that a URL or the path of the requests names, where the recipe chooses none.
pub(super) fn named_endpoint(parsed: &Parsed<'_>) -> Option<Endpoint> {
    let Resolved { recipe, origins, .. } = &parsed.resolved;
    let is_default = origins.get("load.endpoint").is_none_or(|origin| *origin == Origin::Default);
    if !is_default || recipe.sweep.load.contains_key("endpoint") {
        return None;
    }
    let url = recipe.deploy.url.as_ref().and_then(|urls| urls.0.first());
    let server =
        ServerUrl::new(url.map_or("http://localhost", |url| url), recipe.deploy.connection.path.as_deref());
    server.ok()?.endpoint
}
