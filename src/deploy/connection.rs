//! Builds the target of the load: the endpoint's URLs plus the recipe's connection settings, with secrets read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::secrets;
use crate::document::{InputError, InputErrors, join};
use crate::load::{CaFile, Target, TargetError, Tls};
use crate::plan::{Connection, Plan, Proxy};

/// Builds the target for `urls` and `model`.
///
/// # Errors
/// A reference that cannot be read, a CA file without a certificate, a header that HTTP forbids.
pub fn target(urls: Vec<String>, model: &str, connection: &Connection) -> Result<Target, InputError> {
    let read = |key: &str, value: &String| {
        secrets::read(value)
            .map_err(|error| InputError { key: Some(format!("deploy.connection.{key}")), ..error })
    };
    let headers = connection.headers.iter().map(|(name, value)| {
        let value = read(&join("headers", name), value)?;
        Ok((name.clone(), value))
    });
    let target = Target {
        base_urls: urls,
        path: connection.path.clone(),
        model: model.to_owned(),
        api_key: connection.api_key.as_ref().map(|key| read("api_key", key)).transpose()?,
        headers: headers.collect::<Result<_, InputError>>()?,
        http: connection.http_version,
        tls: Tls { ca_file: connection.ca_file.as_ref().map(ca_file), insecure: connection.insecure },
        proxy: match &connection.proxy {
            Proxy::Url(url) => Proxy::from(read("proxy", url)?),
            known => known.clone(),
        },
    };
    target
        .check()
        .map_err(|error| InputError::new("the connection", error.to_string()).key(key_of(&error)))?;
    Ok(target)
}

fn ca_file(path: impl Into<PathBuf>) -> CaFile {
    let path = path.into();
    let content = std::fs::read(&path).map_err(|error| error.to_string());
    CaFile { path, content }
}

/// Checks the connections of a plan as far as this machine can. `secrets`: the load runs on this machine, so read the secrets
/// too.
pub fn check(plan: &Plan, secrets: bool) -> Result<(), InputErrors> {
    for deployment in &plan.deployments {
        let mut connection = deployment.connection.clone();
        if !secrets {
            connection =
                Connection { proxy: Proxy::Off, api_key: None, headers: BTreeMap::new(), ..connection };
        }
        if deployment.url.is_none() && plan.launcher().endpoint.url.is_some() {
            let error = InputError::new("the endpoint", "no URL is given").key("deploy.url");
            let error = error.expected("the URL of a running endpoint");
            return Err(plan.locate(error.next("set URL= or deploy.url (--set deploy.url=URL)")).into());
        }
        // The URL of an unstarted server is unknown; any address of the same kind will do.
        let first = deployment.url.clone().unwrap_or_else(|| "http://127.0.0.1".into());
        let urls: Vec<String> = std::iter::once(first).chain(deployment.more_urls.iter().cloned()).collect();
        target(urls, &plan.model.served_name, &connection).map_err(|error| plan.locate(error))?;
    }
    Ok(())
}

fn key_of(error: &TargetError) -> String {
    match error {
        TargetError::NoUrl | TargetError::Url(_) => "deploy.url".into(),
        TargetError::Header { name } => join("deploy.connection.headers", name),
        TargetError::Proxy { .. } => "deploy.connection.proxy".into(),
        TargetError::Ca { .. } | TargetError::NoRoots { .. } => "deploy.connection.ca_file".into(),
        TargetError::InsecureWithCa => "deploy.connection.insecure".into(),
        TargetError::Tls { .. } | TargetError::Client(_) => "deploy.connection".into(),
    }
}
