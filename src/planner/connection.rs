//! How the load reaches the endpoint: its URLs and the `[deploy.connection]` section, checked.

use super::parsed::Parsed;
use super::sections::{ConnectionKeys, Deploy};
use crate::document::InputError;
use crate::plan::{Connection, Proxy};
use crate::recipe::secret;

/// The section as it is used; mistakes go to `errors`.
pub(super) fn connection(
    section: &ConnectionKeys,
    parsed: &Parsed<'_>,
    errors: &mut Vec<InputError>,
) -> Connection {
    let at = |key: &str, problem: String| parsed.at(&format!("deploy.connection.{key}"), problem);
    if let Some(file) = &section.ca_file {
        if !file.starts_with('/') {
            errors.push(at("ca_file", format!("found {file:?}")).expected("an absolute path"));
        }
        if section.insecure {
            errors.push(
                at("insecure", "found beside ca_file".into())
                    .expected("one of them: trust the authorities in a file, or any certificate"),
            );
        }
    }
    let reference = "a reference such as \"env:NAME\" or \"file:/path\"";
    if let Some(key) = &section.api_key
        && !secret::is_reference(key)
    {
        errors.push(at("api_key", WRITTEN_OUT.into()).expected(reference));
    }
    for (name, value) in &section.headers {
        if secret::is_secret_header(name) && !secret::is_reference(value) {
            errors.push(at(&format!("headers.{name}"), WRITTEN_OUT.into()).expected(reference));
        }
    }
    if let Some(error) = wrong_proxy(&section.proxy, &at) {
        errors.push(error);
    }
    Connection {
        http_version: section.http_version,
        ca_file: section.ca_file.clone(),
        insecure: section.insecure,
        proxy: section.proxy.clone(),
        api_key: section.api_key.clone(),
        headers: section.headers.clone(),
    }
}

const WRITTEN_OUT: &str = "a secret written out; it would end up in scripts and results";

fn wrong_proxy(proxy: &Proxy, at: &dyn Fn(&str, String) -> InputError) -> Option<InputError> {
    let Proxy::Url(proxy) = proxy else { return None };
    if secret::is_reference(proxy) {
        return None;
    }
    match http_url(proxy) {
        Some(url) if has_password(&url) => Some(
            at("proxy", WRITTEN_OUT.into()).expected("a reference such as \"env:NAME\" or \"file:/path\""),
        ),
        Some(_) => None,
        None => Some(
            at("proxy", format!("found {proxy:?}"))
                .expected("off, environment, or a URL such as http://proxy:3128"),
        ),
    }
}

/// The URLs of an endpoint that already runs: needed by a launcher that starts none, each a base URL, none twice.
pub(super) fn urls(section: &Deploy, parsed: &Parsed<'_>, errors: &mut Vec<InputError>) -> Vec<String> {
    let Some(urls) = &section.url else {
        if parsed.launcher().endpoint.url.is_some() {
            errors.push(
                parsed
                    .at("deploy.url", "missing")
                    .expected("the URL of the endpoint, e.g. http://127.0.0.1:8000")
                    .next("add it to the recipe, or give --set deploy.url=URL"),
            );
        }
        return Vec::new();
    };
    for (index, text) in urls.0.iter().enumerate() {
        match http_url(text) {
            None => errors.push(
                parsed.at("deploy.url", format!("found {text:?}")).expected("a URL such as http://host:8000"),
            ),
            Some(url) if has_password(&url) => errors.push(
                parsed
                    .at("deploy.url", WRITTEN_OUT)
                    .expected("a URL without user name and password")
                    .next("give deploy.connection.headers.Authorization = \"env:NAME\""),
            ),
            Some(_) if urls.0[..index].contains(text) => {
                errors
                    .push(parsed.at("deploy.url", format!("found {text:?} twice")).expected("each URL once"));
            }
            Some(_) => {}
        }
    }
    urls.0.clone()
}

fn http_url(text: &str) -> Option<reqwest::Url> {
    let url = reqwest::Url::parse(text).ok()?;
    (["http", "https"].contains(&url.scheme()) && url.has_host()).then_some(url)
}

fn has_password(url: &reqwest::Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}
