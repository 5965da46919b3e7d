//! Checks how the load reaches the endpoint: its URLs, and `[deploy.connection]`.

use super::parsed::Mistakes;
use super::secrets::WRITTEN;
use super::sections::Deploy;
use crate::plan::Proxy;
use crate::recipe::secret;

const REFERENCE: &str = "a reference such as \"env:NAME\" or \"file:/path\"";

/// Checks both; a launcher that starts no server needs a URL.
pub(super) fn check(section: &Deploy, mistakes: &mut Mistakes<'_>) {
    urls(section, mistakes);
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
    match http_url(proxy) {
        _ if secret::is_reference(proxy) => {}
        Some(url) if has_password(&url) => mistakes.add("connection.proxy", WRITTEN, REFERENCE),
        Some(_) => {}
        None => {
            let expected = "off, environment, or a URL such as http://proxy:3128";
            mistakes.add("connection.proxy", format!("found {proxy:?}"), expected);
        }
    }
}

fn urls(section: &Deploy, mistakes: &mut Mistakes<'_>) {
    let urls = section.url.as_ref().map(|urls| urls.0.as_slice()).unwrap_or_default();
    if urls.is_empty() && mistakes.parsed.launcher().endpoint.url.is_some() {
        let missing = mistakes.at("url", "missing");
        let missing = missing.expected("the URL of the endpoint, e.g. http://127.0.0.1:8000");
        mistakes.found.push(missing.next("add it to the recipe, or give --set deploy.url=URL"));
    }
    for (index, text) in urls.iter().enumerate() {
        match http_url(text) {
            None => mistakes.add("url", format!("found {text:?}"), "a URL such as http://host:8000"),
            Some(url) if has_password(&url) => {
                let secret = mistakes.at("url", WRITTEN).expected("a URL without user name and password");
                let next = "give deploy.connection.headers.Authorization = \"env:NAME\"";
                mistakes.found.push(secret.next(next));
            }
            Some(_) if urls[..index].contains(text) => {
                mistakes.add("url", format!("found {text:?} twice"), "each URL once");
            }
            Some(_) => {}
        }
    }
}

fn http_url(text: &str) -> Option<reqwest::Url> {
    let url = reqwest::Url::parse(text).ok()?;
    (["http", "https"].contains(&url.scheme()) && url.has_host()).then_some(url)
}

fn has_password(url: &reqwest::Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}
